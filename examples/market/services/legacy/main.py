"""legacy: the monolith that used to be the whole shop. It is being strangled, one path at a time.

The pattern: the gateway sends what has been rewritten to the new services and everything else
here, where it worked all along. Nobody switches over on a Sunday night. What moved away answers
with a redirect for a while, because bookmarks live long; what is still here has a line in ROUTES,
and when the last one goes, so does this folder.
"""
import html
import json
import os
import re
import secrets
import signal
import socketserver
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
MONTHS = {"2003-10": (412, 39), "2003-11": (467, 41), "2003-12": (1204, 77)}  # sales, returns


def page(title, body):
    menu = '<a href="/legacy">Home</a> | <a href="/legacy/about">About</a> | <a href="/reports">Reports</a>'
    text = f"<!DOCTYPE html><title>{title}</title><p>{menu}<h1>{title}</h1>{body}"
    return 200, {"Content-Type": "text/html; charset=utf-8"}, text


def home(_):
    return page("Ye Olde Market", "<p>Best viewed with 800 x 600 pixels.")


def about(_):
    return page("About us", "<p>We sell apples since 1998, and on the Internet since 2003.")


def reports(_):
    items = "".join(f'<li><a href="/reports/{month}">{month}</a>' for month in MONTHS)
    return page("Reports", f"<ul>{items}</ul>")


def report(month):
    if month not in MONTHS:
        return missing(month)
    sales, returns = MONTHS[month]
    return page(f"Report {month}", f"<table border=1><tr><td>Sales<td>{sales}<tr><td>Returns<td>{returns}</table>")


def missing(what):
    status, headers, text = page("Not found", f"<p>There is no {html.escape(what or 'such page')}.")
    return 404, headers, text


def moved(to):
    """Strangled: a new service does this now."""
    return lambda _: (301, {"Location": to, "Content-Type": "text/plain"}, f"moved to {to}\n")


ROUTES = [
    (r"/healthz", lambda _: (200, {"Content-Type": "text/plain"}, "ok\n")),
    (r"/legacy/?", home),
    (r"/legacy/about", about),
    (r"/legacy/products(?:/.*)?", moved("/catalog")),
    (r"/legacy/weather", moved("/weather")),
    (r"/reports/?", reports),
    (r"/reports/([^/]+)", report),
]


def route(path):
    for pattern, handler in ROUTES:
        if match := re.fullmatch(pattern, path):
            return handler(match[1] if match.re.groups else None)
    return missing(None)


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
        status, headers, text = route(path)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        if self.server.stopping:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())
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
