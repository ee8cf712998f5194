"""The real service on a free port. python3 -m unittest"""
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import unittest
from pathlib import Path

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Weather(unittest.TestCase):
    def start(self, delay_ms):
        env = os.environ | {"HOST": "127.0.0.1", "PORT": "0", "DELAY_MS": str(delay_ms)}
        process = subprocess.Popen([sys.executable, "main.py"], cwd=Path(__file__).parent, env=env,
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        port = json.loads(process.stdout.readline())["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.addCleanup(connection.close)
        return process, connection

    def get(self, connection, path):
        self.ask(connection, path)
        return self.answer(connection)

    def ask(self, connection, path):
        connection.request("GET", path, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})

    def answer(self, connection):
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def test_tells_the_weather_and_logs_the_trace(self):
        process, connection = self.start(delay_ms=0)
        status, weather = self.get(connection, "/weather")
        self.assertEqual((status, set(weather)), (200, {"day", "sky", "celsius"}))
        self.assertEqual(self.get(connection, "/weather"), (200, weather), "on the same connection")
        line = json.loads(process.stdout.readline())
        self.assertEqual((line["trace_id"], line["status"]), (TRACE, 200))
        self.assertEqual(self.get(connection, "/nothing")[0], 404)

    def test_is_healthy_while_it_is_slow_and_finishes_before_it_leaves(self):
        process, connection = self.start(delay_ms=600)
        self.ask(connection, "/weather")
        other = http.client.HTTPConnection("127.0.0.1", connection.port, timeout=10)
        self.addCleanup(other.close)
        self.assertEqual(self.get(other, "/healthz")[0], 200)
        answered, _, _ = select.select([connection.sock], [], [], 0)
        self.assertEqual(answered, [], "the health check waited for the weather")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.answer(connection)[0], 200)
        self.assertEqual(process.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
