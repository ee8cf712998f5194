"""A small HTTP service, with the standard library alone."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    # Keep-alive: the gateway reuses its connections.
    protocol_version = "HTTP/1.1"
    timeout = 75

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, {"status": "ok"})
        self.answer(200, {"hello": "from SERVICE_NAME", "revision": os.environ.get("ATOLL_REVISION")})
        # A line of JSON with the trace that the request belongs to: `atoll logs --trace ID` finds it.
        print(json.dumps({"message": f"GET {self.path}", "traceparent": self.headers.get("traceparent")}), flush=True)

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def make_server(host, port):
    return ThreadingHTTPServer((host, port), Handler)


def main():
    server = make_server(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
    # SIGTERM means: finish and leave. shutdown() must not run on the serving thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
