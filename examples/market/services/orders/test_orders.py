"""The rules by themselves, and the real service on a free port between fakes of its neighbours.

python3 -m unittest
"""
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from order import Line, Order, Refused

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PRICES = {"apples": 320, "cheese": 890}
DEADLINE = 10


class Rules(unittest.TestCase):
    def order(self, *lines):
        return Order("o", "u", list(lines) or [Line("apples", "Apples", 3, 320)])

    def test_the_total_is_the_sum_of_the_lines(self):
        order = self.order(Line("a", "A", 3, 320), Line("b", "B", 1, 890))
        self.assertEqual(order.total_cents, 1850)
        self.assertEqual(order.points, 18)

    def test_lines_make_sense(self):
        for quantity in (0, -1, 101, 1.5, True, "3", None):
            with self.subTest(quantity=quantity), self.assertRaises(Refused):
                Line("a", "A", quantity, 320)
        for price in (-1, 3.2, None):
            with self.subTest(price=price), self.assertRaises(Refused):
                Line("a", "A", 1, price)

    def test_orders_make_sense(self):
        for lines in ([], [Line("a", "A", 1, 5), Line("a", "A", 2, 5)], [Line("a", "A", 1, 0)]):
            with self.subTest(lines=lines), self.assertRaises(Refused):
                Order("o", "u", lines)

    def test_only_the_drawn_moves_exist(self):
        states = ["placed", "paid", "failed", "cancelled"]
        allowed = set()
        for before in states:
            for after in states:
                order = self.order()
                order.state = before
                try:
                    order.move(after)
                    allowed.add(f"{before} {after}")
                except Refused:
                    self.assertEqual(order.state, before)
        drawn = {"placed paid", "placed failed", "placed cancelled", "paid cancelled"}
        self.assertEqual(allowed, drawn)


class Neighbours:
    """accounts, catalog, payments and the broker in one server. Remembers what it was asked."""

    def __init__(self):
        self.asked, self.charge_answer = [], 201
        self.charging, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        fakes = self

        class Handler(BaseHTTPRequestHandler):
            def do_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(body or b"null")
                status, answer = fakes.answer(self.command, self.path, self.headers, body)
                fakes.asked.append((self.command, self.path, self.headers["traceparent"], body,
                                    self.headers["Idempotency-Key"]))
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_any

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a killed service hangs up: that is the test
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method, path, headers, body):
        if path == "/user":
            user = re.fullmatch("Bearer (ada|bob)", headers["Authorization"])
            return (200, {"id": user[1]}) if user else (401, {})
        if path.startswith("/catalog/"):
            id = path.split("/")[2]
            return (200, {"name": id, "price_cents": PRICES[id]}) if id in PRICES else (404, {})
        if path == "/charges":
            self.charging.set()
            self.go_on.wait(DEADLINE)
            return self.charge_answer, {}
        return 200, {}

    def calls(self, pattern):
        return [call for call in self.asked if re.fullmatch(pattern, f"{call[0]} {call[1]}")]


class Service(unittest.TestCase):
    def setUp(self):
        self.neighbours = Neighbours()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.database = f"sqlite:///{folder.name}/db.sqlite3"
        self.process, self.port, self.logs = self.start()

    def tearDown(self):
        self.neighbours.server.shutdown()
        self.neighbours.server.server_close()

    def start(self):
        names = ["ACCOUNTS", "CATALOG", "PAYMENTS"]
        env = os.environ | {f"{name}_URL": self.neighbours.url for name in names}
        env |= {"HOST": "127.0.0.1", "PORT": "0", "DATABASE_URL": self.database}
        process = subprocess.Popen([sys.executable, "main.py"], cwd=Path(__file__).parent, env=env,
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        logs = [json.loads(process.stdout.readline())]
        read = lambda: logs.extend(map(json.loads, process.stdout))
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.addCleanup(reader.join)
        self.addCleanup(process.kill)
        return process, logs[0]["port"], logs

    def call(self, method, path, body=None, user="ada", port=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=DEADLINE)
        headers |= {"Authorization": f"Bearer {user}", "traceparent": TRACEPARENT}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.status, json.loads(response.read())
        connection.close()
        return answer

    def order(self, user="ada", quantity=2, **headers):
        body = {"lines": [{"product": "apples", "quantity": quantity},
                          {"product": "cheese", "quantity": 1}], "token": "tok_visa"}
        return self.call("POST", "/orders", body, user, **headers)

    def settle(self, order, event="e1", **options):
        """Payments' event, as the platform posts it."""
        return self.call("POST", "/events/payment-settled", {"order": order["id"]},
                         ce_id=event, ce_source="/payments", **options)

    def outbox(self, topic):
        """What the platform will publish: the values, and the headers."""
        with closing(sqlite3.connect(self.database.removeprefix("sqlite:///"))) as db:
            sql = "SELECT value, headers FROM outbox WHERE topic = ? AND key = 'ada' ORDER BY id"
            return [(json.loads(value), json.loads(headers)) for value, headers in db.execute(sql, (topic,))]

    def until(self, condition, what):
        deadline = time.monotonic() + DEADLINE
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.01)

    def test_an_order_is_paid_when_payments_says_so_and_then_it_is_told(self):
        status, order = self.order()
        self.assertEqual((status, order["state"], order["total_cents"]), (201, "placed", 1530))
        charge = {"order": order["id"], "amount_cents": 1530, "token": "tok_visa"}
        self.assertEqual(self.neighbours.calls("POST /charges")[0][3], charge)
        self.assertEqual(self.outbox("orders.placed"), [], "it is not paid yet")

        self.assertEqual(self.settle(order), (200, {"order": order["id"], "state": "paid"}))
        event = {"order": order["id"], "customer": "ada", "total_cents": 1530, "points": 15}
        headers = {"content-type": "application/json", "traceparent": TRACEPARENT}
        self.assertEqual(self.outbox("orders.placed"), [(event, headers)])
        traces = {call[2] for call in self.neighbours.asked}
        self.assertEqual(traces, {TRACEPARENT}, "every call belongs to the trace")

        order["state"] = "paid"
        self.assertEqual(self.call("GET", f"/orders/{order['id']}")[1], order)
        self.assertEqual(self.call("GET", "/orders")[1], {"orders": [order]})
        self.assertEqual(self.call("GET", f"/orders/{order['id']}", user="bob")[0], 404)
        self.assertEqual(self.call("GET", "/orders", user="bob")[1], {"orders": []})
        self.assertEqual(self.call("GET", "/orders", user="nobody")[0], 401)

    def test_an_event_counts_once(self):
        _, order = self.order()
        answers = []
        deliver = lambda port: answers.append(self.settle(order, port=port))
        ports = [self.port, self.start()[1]] * 4
        deliveries = [threading.Thread(target=deliver, args=(port,)) for port in ports]
        for thread in deliveries:
            thread.start()
        for thread in deliveries:
            thread.join()
        self.assertEqual(answers, [(200, {"order": order["id"], "state": "paid"})] * 8)
        self.call("POST", f"/orders/{order['id']}/cancel")
        self.assertEqual(self.settle(order)[1]["state"], "cancelled")
        self.assertEqual(len(self.outbox("orders.placed")), 1)
        self.assertEqual(len(self.outbox("orders.cancelled")), 1)
        with closing(sqlite3.connect(self.database.removeprefix("sqlite:///"))) as db:
            events = db.execute("SELECT source, id FROM inbox").fetchall()
        self.assertEqual(events, [("/payments", "e1")])

    def test_refuses_events_that_it_cannot_read(self):
        for body, event in (({"order": "none"}, "e"), ({"order": 7}, "e"), ({}, "e"), (None, "e"),
                            ({"order": "none"}, "")):
            with self.subTest(body=body, event=event):
                answer = self.call("POST", "/events/payment-settled", body, ce_id=event,
                                   ce_source="/payments")
                self.assertEqual(answer[0], 422)

    def test_refuses_what_makes_no_sense(self):
        line = {"product": "apples", "quantity": 1}
        for body in (None, [], {"lines": [], "token": "t"}, {"lines": [line]},
                     {"lines": [line, line], "token": "t"},
                     {"lines": [line | {"quantity": 0}], "token": "t"},
                     {"lines": [line | {"product": "gold"}], "token": "t"},
                     {"lines": [line | {"product": "../user"}], "token": "t"}):
            with self.subTest(body=body):
                self.assertEqual(self.call("POST", "/orders", body)[0], 422)
        self.assertEqual(self.neighbours.calls("POST /charges"), [])

    def test_an_idempotency_key_orders_once(self):
        first = self.order(Idempotency_Key="k")
        self.assertEqual(self.order(Idempotency_Key="k"), first)
        self.settle(first[1])
        paid = self.order(Idempotency_Key="k")
        self.assertEqual(paid, (201, first[1] | {"state": "paid"}))
        keys = {call[4] for call in self.neighbours.calls("POST /charges")}
        self.assertEqual(keys, {first[1]["id"]}, "payments charges a key once")
        self.assertEqual(self.order(Idempotency_Key="k", quantity=9)[0], 422)
        self.assertNotEqual(self.order(Idempotency_Key="k", user="bob")[1]["id"], first[1]["id"])

    def test_an_order_left_by_a_crash_is_finished_by_repeating_it(self):
        self.neighbours.go_on.clear()
        place = lambda: self.assertRaises(http.client.HTTPException, self.order, Idempotency_Key="k")
        lost = threading.Thread(target=place)
        lost.start()
        self.assertTrue(self.neighbours.charging.wait(DEADLINE))
        self.process.kill()
        lost.join()
        self.neighbours.go_on.set()
        _, port, _ = self.start()
        orders = self.call("GET", "/orders", port=port)[1]["orders"]
        self.assertEqual([order["state"] for order in orders], ["placed"])
        status, order = self.order(Idempotency_Key="k", port=port)
        self.assertEqual((status, order["id"]), (201, orders[0]["id"]))

    def test_an_order_left_by_a_crash_is_finished_by_the_event(self):
        self.neighbours.go_on.clear()
        place = lambda: self.assertRaises(http.client.HTTPException, self.order)
        lost = threading.Thread(target=place)
        lost.start()
        self.assertTrue(self.neighbours.charging.wait(DEADLINE))
        self.process.kill()
        lost.join()
        self.neighbours.go_on.set()
        _, port, _ = self.start()
        order = self.call("GET", "/orders", port=port)[1]["orders"][0]
        self.assertEqual(self.settle(order, port=port)[1]["state"], "paid")

    def test_a_declined_card_fails_the_order(self):
        self.neighbours.charge_answer = 402
        status, problem = self.order(Idempotency_Key="k")
        self.assertEqual((status, problem["detail"]), (402, "payment: declined"))
        self.neighbours.charge_answer = 201
        self.assertEqual(self.order(Idempotency_Key="k")[0], 402, "failed is final")
        self.assertEqual(self.call("GET", "/orders")[1]["orders"][0]["state"], "failed")

    def test_broken_payments_fail_the_order_and_the_money_is_asked_back(self):
        self.neighbours.charge_answer = 502
        status, problem = self.order()
        self.assertEqual((status, problem["trace_id"]), (502, TRACE))
        self.assertEqual(self.call("GET", "/orders")[1]["orders"][0]["state"], "failed")
        self.until(lambda: self.neighbours.calls("POST /charges/.*/refund"), "no refund")
        errors = [line for line in self.logs if line["message"] == "payment failed"]
        self.assertEqual([(e["level"], e["trace_id"]) for e in errors], [("error", TRACE)])

    def test_cancelling_returns_the_money_and_is_told(self):
        _, order = self.order()
        self.settle(order)
        status, cancelled = self.call("POST", f"/orders/{order['id']}/cancel")
        self.assertEqual((status, cancelled["state"]), (200, "cancelled"))
        self.assertEqual(self.call("POST", f"/orders/{order['id']}/cancel")[0], 200)
        self.until(lambda: self.neighbours.calls("POST /charges/.*/refund"), "no refund")
        self.assertEqual(self.outbox("orders.placed"), self.outbox("orders.cancelled"),
                         "so that what was given can be taken back")

    def test_an_order_cancelled_while_it_is_being_paid_stays_cancelled(self):
        self.neighbours.go_on.clear()
        answers = []
        paying = threading.Thread(target=lambda: answers.append(self.order()))
        paying.start()
        self.assertTrue(self.neighbours.charging.wait(DEADLINE))
        id = self.call("GET", "/orders")[1]["orders"][0]["id"]
        self.assertEqual(self.call("POST", f"/orders/{id}/cancel")[1]["state"], "cancelled")
        self.neighbours.go_on.set()
        paying.join()
        self.assertEqual(answers[0][1]["state"], "cancelled")
        self.until(lambda: self.neighbours.calls(f"POST /charges/{id}/refund"), "no refund")
        self.assertEqual(self.settle({"id": id})[1]["state"], "cancelled", "money came too late")
        self.assertEqual(self.outbox("orders.placed") + self.outbox("orders.cancelled"), [])

    def test_instances_share_the_orders(self):
        _, order = self.order()
        others = [self.start() for _ in range(2)]
        for _, port, _ in others:
            self.assertEqual(self.call("GET", f"/orders/{order['id']}", port=port)[1], order)

    def test_finishes_what_runs_before_it_leaves(self):
        self.neighbours.go_on.clear()
        answers = []
        paying = threading.Thread(target=lambda: answers.append(self.order()))
        paying.start()
        self.assertTrue(self.neighbours.charging.wait(DEADLINE))
        self.process.send_signal(signal.SIGTERM)
        self.until(self.refuses, "it still accepts connections")
        self.neighbours.go_on.set()
        paying.join()
        self.assertEqual(answers[0][0], 201)
        self.assertEqual(self.process.wait(DEADLINE), 0)

    def refuses(self):
        try:
            return self.call("GET", "/healthz")[0] != 200
        except OSError:
            return True


if __name__ == "__main__":
    unittest.main()
