"""orders: takes orders, has them paid, and keeps them.

The interesting part is what happens when others don't answer:
- accounts or catalog: nothing has happened yet, so the order is refused (503);
- payments: the order fails (402 declined, 502 trouble), and money that may have moved is returned;
- whoever wants to know of orders, as points does: not the customer's problem, and not ours. We
  publish what happened, and don't know who reads it.

A good answer of payments doesn't make an order `paid`: the event `payments.settled` does. An answer
is heard by one instance, if it still lives; the event comes, even if all of them have died.
"""
import hashlib
import json
import re
import secrets
import threading
from dataclasses import asdict

import store
from order import Line, Order, Refused
from web import Problem, Server, Unreachable, call, log

wake = threading.Event()  # set when there is a new debt


def route(request, method, path, body):
    if (method, path) == ("GET", "/healthz"):
        store.select("id = ''")  # we can read our database; the health of others is theirs
        return 200, {"status": "ok"}
    if (method, path) == ("POST", "/events/payment-settled"):  # no route leads here from outside
        return settled(request, body)
    match = re.fullmatch(r"/orders(?:/([0-9a-f]+)(/cancel)?)?", path)
    if not match:
        raise Problem(404, "there is nothing here")
    user = authenticate(request)
    match method, match[1], match[2]:
        case "POST", None, None:
            return place(request, user, body)
        case "GET", None, None:
            return 200, {"orders": [show(order) for order, _ in store.select("user = ?", user)]}
        case "GET", id, None if id:
            return 200, show(find(id, user))
        case "POST", id, "/cancel":
            return cancel(request, find(id, user))
    raise Problem(405, f"{method} makes no sense here")


def authenticate(request):
    """Asks accounts whose token this is."""
    token = request.headers.get("Authorization")
    if token:
        status, user = needed(request, "accounts", "/user", Authorization=token)
        if status == 200:
            return user["id"]
    raise Problem(401, "a valid token is needed: log in", WWW_Authenticate="Bearer")


def needed(request, dependency, path, **headers):
    """GETs what there is no order without."""
    try:
        status, body = call(dependency, "GET", path, request.traceparent, **headers)
    except Unreachable as error:
        log("error", f"no answer from {dependency}", request.trace_id, error=str(error))
        status = 503
    if status >= 500:
        raise Problem(503, f"{dependency} does not work at the moment", Retry_After="2")
    return status, body


def place(request, user, body):
    """POST /orders {"lines": [{"product", "quantity"}], "token"}; token stands for a card."""
    match body:
        case {"lines": [*lines], "token": str(card)}:
            pass
        case _:
            raise Problem(422, "needed: `lines` (of `product` and `quantity`) and `token`")
    key = request.headers.get("Idempotency-Key")
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    order = repeated(user, key, digest)
    if not order:
        try:
            lines = [price(request, line) for line in lines]
            order = Order(secrets.token_hex(8), user, lines)
        except Refused as error:
            raise Problem(422, str(error)) from error
        try:
            store.add(order, key, digest)
        except store.Conflict:  # the same request arrived twice at once
            order = repeated(user, key, digest)
    # An order that is still `placed` here was left by a crash, or is being paid this moment. To
    # charge it again is right in both cases, because payments charges an id once.
    if order.state == "placed":
        order = charge(request, order, card)
    if order.state == "failed":
        raise Problem(402 if order.failure == "declined" else 502, f"payment: {order.failure}")
    return 201, show(order)


def repeated(user, key, digest):
    """The order that an earlier request with this Idempotency-Key made."""
    for order, request in store.select("user = ? AND key = ?", user, key):
        if request != digest:
            raise Problem(422, "this Idempotency-Key came with another order before")
        return order


def price(request, line):
    """What the customer wants, at the price that the catalog says: never at one that they say."""
    match line:
        case {"product": str(id), "quantity": quantity} if re.fullmatch(r"[\w-]+", id, re.ASCII):
            status, product = needed(request, "catalog", f"/catalog/{id}")
            if status == 200:
                return Line(id, product["name"], quantity, product["price_cents"])
    raise Problem(422, f"there is no such product: {json.dumps(line)}")


def charge(request, order, card):
    body = {"order": order.id, "amount_cents": order.total_cents, "token": card}
    try:
        # Payments gives up after 2 s and can say why; we wait a little longer to hear it.
        status, _ = call("payments", "POST", "/charges", request.traceparent, body, timeout=3,
                         Idempotency_Key=order.id)
    except Unreachable as error:
        log("error", "no answer from payments", request.trace_id, order=order.id, error=str(error))
        status = 0
    if status in (200, 201):
        # The money is there, and the event that says so is on its way, or was quicker than we are.
        return find(order.id, order.user)
    try:
        if status == 402:
            store.move(order, "failed", "declined")
        elif status == 409:
            raise store.Conflict
        else:
            log("error", "payment failed", request.trace_id, order=order.id, payments=status)
            # We don't know whether money has moved, so we ask for it back: that is always safe.
            store.move(order, "failed", "the bank did not confirm it", debts=[refund(request, order)])
        wake.set()
        return order
    except store.Conflict:  # another request got on with this order: how far is it?
        order = find(order.id, order.user)
    if order.state == "placed":
        raise Problem(409, "this order is being worked on", Retry_After="1")
    return order


def settled(request, body):
    """The event `payments.settled`: {"order", ...}. However often it comes, it counts once."""
    event = request.headers.get("ce-source"), request.headers.get("ce-id")
    match body:
        case {"order": str(id)} if all(event):
            pass
        case _:
            raise Problem(422, "needed: a CloudEvent with an `order`")
    try:
        order = store.settle(event, id, lambda order: [placed(request, order)])
    except store.Unknown as error:  # a second try would find no other answer
        raise Problem(422, f"there is no order {id}") from error
    return 200, {"order": order.id, "state": order.state}


def cancel(request, order):
    news = [publish(request, "orders.cancelled", order)] if order.state == "paid" else []
    if order.state != "cancelled":  # cancelling twice is cancelling
        try:
            store.move(order, "cancelled", debts=[refund(request, order)], news=news)
        except (Refused, store.Conflict) as error:
            raise Problem(409, str(error) or "this order is being worked on") from error
        wake.set()
    return 200, show(order)


def placed(request, order):
    """Tells the world of an order, once it is paid: before that it may come to nothing."""
    return publish(request, "orders.placed", order)


def publish(request, topic, order):
    """A row for the outbox. Its key is the customer: what happens to one of them stays in order."""
    body = {"order": order.id, "customer": order.user, "total_cents": order.total_cents,
            "points": order.points}
    return topic, order.user, body, request.traceparent


def refund(request, order):
    return f"{order.id}:refund", "payments", f"/charges/{order.id}/refund", {}, request.traceparent


def pay_debts():
    """Works through the debts for ever. Two instances may both pay a debt: it has a key."""
    while True:
        wake.wait(0.5)
        wake.clear()
        try:
            for debt in store.debts():
                pay(debt)
        except Exception as error:  # this thread must outlive a bad day of the database
            log("error", "the debts wait", error=repr(error))


def pay(debt):
    trace_id = debt["traceparent"][3:35]
    try:
        status, _ = call(debt["dependency"], "POST", debt["path"], debt["traceparent"],
                         json.loads(debt["body"]), timeout=3, Idempotency_Key=debt["key"])
    except Unreachable as error:
        status = str(error)
    if status in (200, 201):
        store.paid(debt["key"])
        log("info", f"told {debt['dependency']}", trace_id, key=debt["key"])
    else:
        store.postpone(debt["key"], debt["tries"])
        log("warn", f"{debt['dependency']} must be told later", trace_id, key=debt["key"],
            answer=status)


def find(id, user):
    for order, _ in store.select("id = ? AND user = ?", id, user):
        return order
    raise Problem(404, "you have no such order")  # the same for orders of others


def show(order):
    lines = [asdict(line) | {"total_cents": line.total_cents} for line in order.lines]
    return {"id": order.id, "state": order.state, "failure": order.failure or None,
            "lines": lines, "total_cents": order.total_cents, "points": order.points}


if __name__ == "__main__":
    store.prepare()
    threading.Thread(target=pay_debts, daemon=True).start()
    Server(route).run()
