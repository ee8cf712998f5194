"""The admin API, on its Unix socket: what the node itself says of what a client has sent or read."""

import http.client
import os
import socket
import urllib.parse

PATIENCE = 60


class Admin(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["ADMIN"])


def admin(path, headers=None, **query):
    connection = Admin("atoll", timeout=PATIENCE)
    connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}", headers=headers or {})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text
