"""weather: a service that is slow, on purpose. Every suite has one.

Its neighbours learn from it: who calls it needs a timeout and something to say without it (see
notices), and its own manifest keeps it from taking the machine down with it.
"""
import json
import os
import random
import re
import secrets
import signal
import socketserver
import sys
import threading
import time
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
SKIES = ["clear", "cloudy", "rain", "fog", "storm"]


def weather():
    """A model as good as any: the same all day, because the day is its seed."""
    time.sleep(int(os.environ.get("DELAY_MS", "1500")) / 1000)
    today = date.today().isoformat()
    chance = random.Random(today)
    return {"day": today, "sky": chance.choice(SKIES), "celsius": chance.randint(-5, 30)}


ROUTES = {"/healthz": lambda: {"status": "ok"}, "/weather": weather}


def log(level, message, **fields):
    """One line of JSON. The platform stamps time, service, instance and revision."""
    sys.stdout.write(json.dumps({"level": level, "message": message} | fields) + "\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75  # seconds an idle connection is kept, longer than the gateway keeps it
    wbufsize = -1  # head and body leave in one write ...
    disable_nagle_algorithm = True  # ... at once

    def do_GET(self):
        with self.server.busy():
            self.answer()

    def answer(self):
        started = time.monotonic()
        found = TRACEPARENT.fullmatch(self.headers.get("traceparent", ""))
        trace_id = found[1] if found else secrets.token_hex(16)
        path = self.path.partition("?")[0]
        found = ROUTES.get(path)
        problem = {"status": 404, "detail": "there is nothing here", "trace_id": trace_id}
        status, body = (200, found()) if found else (404, problem)
        text = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", f"application/{'json' if found else 'problem+json'}")
        self.send_header("Content-Length", str(len(text)))
        if self.server.stopping:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()
        if path != "/healthz":
            ms = round((time.monotonic() - started) * 1000)
            log("info", f"GET {path}", trace_id=trace_id, status=status, ms=ms)

    def log_message(self, *_):
        pass  # its plain lines: ours are written above


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # an idle connection must not hold up our leaving
    stopping, running = False, 0

    def server_bind(self):
        # HTTPServer would ask DNS for our own name here, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @contextmanager
    def busy(self):
        """Counts the requests that run."""
        with idle:
            self.running += 1
        try:
            yield
        finally:
            with idle:
                self.running -= 1
                idle.notify_all()

    def handle_error(self, request, client_address):
        log("warn", "connection lost", error=repr(sys.exc_info()[1]))


idle = threading.Condition()

if __name__ == "__main__":
    # Blocked before the first thread starts, and so in all of them; the main thread fetches them.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    address = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "0"))
    server = Server(address, Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    log("info", "listening", port=server.server_port)
    signal.sigwait(stop)
    # Accept nothing new, finish what runs, leave.
    server.stopping = True
    server.shutdown()
    server.server_close()
    with idle:
        idle.wait_for(lambda: server.running == 0)
    os._exit(0)  # at once: an ordinary exit would stumble over a thread that is just writing a log
