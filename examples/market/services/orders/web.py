"""The HTTP side, both directions: a small server on the standard library, and calls to others.

What a service owes its platform is all here: HTTP/1.1 with keep-alive, log lines that carry the
trace, errors as problem+json (RFC 9457), and leaving politely on SIGTERM.
"""
import http.client
import json
import os
import re
import secrets
import signal
import socketserver
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
LONGEST_BODY = 64 * 1024
STOP = {signal.SIGTERM, signal.SIGINT}

# Blocked before the first thread starts, and so in all of them: the main thread fetches them with
# `sigwait`. A handler would only run once the main thread wakes up, and nothing promises that the
# signal is what wakes it.
signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def log(level, message, trace_id=None, **fields):
    """One line of JSON. The platform stamps time, service, instance and revision."""
    line = {"level": level, "message": message, "trace_id": trace_id} | fields
    text = json.dumps({key: value for key, value in line.items() if value is not None})
    sys.stdout.write(text + "\n")  # in one piece: other threads write here too
    sys.stdout.flush()


class Problem(Exception):
    """An answer that isn't what the caller hoped for."""

    def __init__(self, status, detail, **headers):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class Unreachable(Exception):
    """A dependency gave no answer."""


def call(dependency, method, path, traceparent, body=None, timeout=2.0, **headers):
    """Calls a declared dependency; gives (status, JSON). `payments` is found at PAYMENTS_URL.

    `traceparent` is handed on unchanged: that is all it takes to be one trace with the request
    that caused this call. Every call has a timeout: a caller without one inherits the worst day of
    whomever it calls.
    """
    url = urlsplit(os.environ[f"{dependency.upper()}_URL"])
    connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=timeout)
    headers = {name.replace("_", "-"): value for name, value in headers.items() if value}
    headers |= {"traceparent": traceparent, "Content-Type": "application/json"}
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, url.path.rstrip("/") + path, text, headers)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{dependency}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(text or b"null")
    except ValueError:
        return response.status, None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75  # seconds an idle connection is kept, longer than the gateway keeps it
    wbufsize = -1  # head and body leave in one write ...
    disable_nagle_algorithm = True  # ... at once

    def handle_any(self):
        with self.server.busy():
            self.answer()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def answer(self):
        started = time.monotonic()
        found = TRACEPARENT.fullmatch(self.headers.get("traceparent", ""))
        # Called without a trace, for example by hand: this is where one begins.
        new = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        self.traceparent = found[0] if found else new
        self.trace_id = self.traceparent[3:35]
        path = self.path.partition("?")[0]
        headers = {"Content-Type": "application/json"}
        try:
            status, body = self.server.route(self, self.command, path, self.read_json())
        except Exception as error:
            if not isinstance(error, Problem):
                log("error", "bug", self.trace_id, error=traceback.format_exc())
                error = Problem(500, "something went wrong here")
            status = error.status
            body = {"status": status, "detail": error.detail, "trace_id": self.trace_id}
            headers = {"Content-Type": "application/problem+json"} | error.headers
        self.send(status, headers, json.dumps(body).encode())
        if path != "/healthz":
            ms = round((time.monotonic() - started) * 1000)
            level = "error" if status >= 500 else "info"
            log(level, f"{self.command} {path}", self.trace_id, status=status, ms=ms)

    def read_json(self):
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit():
            self.close_connection = True  # what follows on this connection can't be told apart
            raise Problem(411, "a body needs a Content-Length")
        if int(length) > LONGEST_BODY:
            self.close_connection = True
            raise Problem(413, "the body is too long")
        try:
            return json.loads(self.rfile.read(int(length)) or b"null")
        except ValueError as error:
            raise Problem(400, f"the body is not JSON: {error}") from error

    def send(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass  # its plain lines: ours are written above


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # an idle connection must not hold up our leaving

    def __init__(self, route):
        self.route, self.stopping = route, False
        self.running, self.idle = 0, threading.Condition()
        host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "0"))
        super().__init__((host, port), Handler)

    def server_bind(self):
        # HTTPServer would ask DNS for our own name here, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @contextmanager
    def busy(self):
        """Counts the requests that run."""
        with self.idle:
            self.running += 1
        try:
            yield
        finally:
            with self.idle:
                self.running -= 1
                self.idle.notify_all()

    def handle_error(self, request, client_address):
        log("warn", "connection lost", error=repr(sys.exc_info()[1]))

    def run(self):
        """Serves until SIGTERM, then finishes what runs."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        log("info", "listening", port=self.server_port)
        signal.sigwait(STOP)
        self.stopping = True
        self.shutdown()
        self.server_close()
        with self.idle:
            self.idle.wait_for(lambda: self.running == 0)
        log("info", "stopped")
        # At once: an ordinary exit would stumble over a thread that is just writing to stdout.
        os._exit(0)
