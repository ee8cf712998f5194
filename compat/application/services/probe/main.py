"""A service that tells what it was given: the clients come with its account.

`/events/…` leads to its EVENTS_URL; what is pushed to it can be had at `/pushed`, oldest first.
"""

import http.client
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

pushed = []


class Probe(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200)
        if self.path == "/pushed":
            return self.answer(200, json.dumps(pushed).encode())
        self.pass_on(b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/pushed":
            pushed.append({"headers": dict(self.headers), "body": body.decode()})
            return self.answer(204)
        self.pass_on(body)

    def pass_on(self, body):
        connection = http.client.HTTPConnection(os.environ["EVENTS_URL"].removeprefix("http://"))
        kept = {key: value for key, value in self.headers.items() if key.lower().startswith(("ce-", "content-type"))}
        connection.request(self.command, self.path.removeprefix("/events"), body or None, kept)
        answer = connection.getresponse()
        self.answer(answer.status, answer.read())
        connection.close()

    def answer(self, status, body=b""):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


with open(os.path.join(os.environ["DATA_DIR"], "environment.json"), "w") as file:
    json.dump({name: value for name, value in os.environ.items() if name.startswith("KAFKA_")}, file)
ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Probe).serve_forever()
