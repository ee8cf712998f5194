"""A service that tells what it was given: the clients come with its account."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

with open(os.path.join(os.environ["DATA_DIR"], "environment.json"), "w") as file:
    json.dump({name: value for name, value in os.environ.items() if name.startswith("KAFKA_")}, file)
HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), BaseHTTPRequestHandler).serve_forever()
