"""Run with: python3 -m unittest"""

import json
import threading
import unittest
import urllib.request

from main import make_server


class ServiceTest(unittest.TestCase):
    def setUp(self):
        self.server = make_server("127.0.0.1", 0)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.server_port}{path}") as answer:
            return json.load(answer)

    def test_says_hello(self):
        self.assertEqual(self.get("/SERVICE_NAME")["hello"], "from SERVICE_NAME")

    def test_is_healthy(self):
        self.assertEqual(self.get("/healthz"), {"status": "ok"})


if __name__ == "__main__":
    unittest.main()
