"""The real service on a free port. python3 -m unittest"""
import http.client
import json
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path


class Legacy(unittest.TestCase):
    def setUp(self):
        env = os.environ | {"HOST": "127.0.0.1", "PORT": "0"}
        self.process = subprocess.Popen([sys.executable, "main.py"], cwd=Path(__file__).parent,
                                        env=env, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.process.stdout.close)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        port = json.loads(self.process.stdout.readline())["port"]
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.addCleanup(self.connection.close)

    def get(self, path):
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        return response.status, response.headers, response.read().decode()

    def test_still_serves_its_old_pages(self):
        for path in ("/legacy", "/legacy/about", "/reports", "/reports/2003-12", "/healthz"):
            with self.subTest(path=path):
                self.assertEqual(self.get(path)[0], 200)
        self.assertIn("1204", self.get("/reports/2003-12")[2])

    def test_sends_visitors_to_what_replaced_it(self):
        status, headers, _ = self.get("/legacy/products/42")
        self.assertEqual((status, headers["Location"]), (301, "/catalog"))

    def test_does_not_echo_html(self):
        status, _, text = self.get("/reports/<script>")
        self.assertEqual(status, 404)
        self.assertNotIn("<script>", text)

    def test_leaves_when_asked_to_in_spite_of_an_idle_connection(self):
        self.get("/legacy")
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
