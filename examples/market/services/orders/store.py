"""Orders in SQLite, with what this service still owes to others, and what it has heard from them.

The outbox is the answer to "the order is paid, and then nobody can be told": what happened is
written in the same transaction as the order's state, so one can't exist without the other, and the
platform publishes it from here, once. Debts are the same for calls: somebody pays them later, as
often as it takes. Whoever is called must bear repetition; that is why every debt has a key.

The inbox is the same for what comes in. An event may come twice: its id is written in the same
transaction as what it causes, so it causes it once.

Several instances share the file. Nothing is remembered in between: every request reads it afresh,
and a change says which state it started from.
"""
import json
import os
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import asdict

from order import Line, Order

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, lines TEXT NOT NULL, state TEXT NOT NULL,
    failure TEXT NOT NULL, placed_at REAL NOT NULL,
    key TEXT, request TEXT,             -- Idempotency-Key, and the body that came with it
    UNIQUE (user, key)
);
CREATE TABLE IF NOT EXISTS debts (
    key TEXT PRIMARY KEY, dependency TEXT NOT NULL, path TEXT NOT NULL, body TEXT NOT NULL,
    traceparent TEXT NOT NULL,          -- so that even a late call belongs to its trace
    tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS outbox (      -- as docs/events-outbox.md has it; [outbox] in service.toml
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key TEXT, value BLOB, headers TEXT,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), published_at TEXT
);
CREATE INDEX IF NOT EXISTS outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
CREATE TABLE IF NOT EXISTS inbox (
    source TEXT NOT NULL, id TEXT NOT NULL,     -- only together they are unique, says CloudEvents
    received_at REAL NOT NULL,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;
"""


class Conflict(Exception):
    """Somebody else was quicker."""


class Unknown(Exception):
    """There is no such order."""


def connect():
    # sqlite:////absolute/path: the part behind the third slash
    path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def prepare():
    """Creates the tables. Instances that start at once on a new file may collide: try again."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with closing(connect()) as db:
                db.execute("PRAGMA journal_mode = WAL")
                return db.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def transaction():
    with closing(connect()) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def select(where, *values):
    with closing(connect()) as db:
        rows = db.execute(f"SELECT * FROM orders WHERE {where} ORDER BY placed_at", values)
        return [(read(row), row["request"]) for row in rows]


def read(row):
    lines = [Line(**line) for line in json.loads(row["lines"])]
    return Order(row["id"], row["user"], lines, row["state"], row["failure"])


def add(order, key, request):
    lines = json.dumps([asdict(line) for line in order.lines])
    row = (order.id, order.user, lines, order.state, order.failure, time.time(), key, request)
    try:
        with transaction() as db:
            db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    except sqlite3.IntegrityError as error:
        raise Conflict from error


def move(order, state, failure="", debts=(), news=()):
    """Changes the order's state and writes down what follows from it, together or not at all."""
    with transaction() as db:
        change(db, order, state, failure, debts, news)


def settle(event, id, news):
    """Makes the order `paid`, and tells the news that `news(order)` gives, because an event says so.

    Once for each event. An order that has failed or was cancelled meanwhile stays so: whoever did
    that has asked for the money back already.
    """
    with transaction() as db:
        row = db.execute("SELECT * FROM orders WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise Unknown
        order = read(row)
        sql = "INSERT OR IGNORE INTO inbox VALUES (?, ?, ?)"
        is_new = db.execute(sql, (*event, time.time())).rowcount == 1
        if is_new and order.state == "placed":
            change(db, order, "paid", news=news(order))
        return order


def change(db, order, state, failure="", debts=(), news=()):
    before = order.state
    order.move(state, failure)
    sql = "UPDATE orders SET state = ?, failure = ? WHERE id = ? AND state = ?"
    if db.execute(sql, (state, failure, order.id, before)).rowcount == 0:
        raise Conflict  # two requests about one order: the first one won
    for key, dependency, path, body, traceparent in debts:
        sql = "INSERT INTO debts (key, dependency, path, body, traceparent) VALUES (?, ?, ?, ?, ?)"
        db.execute(sql, (key, dependency, path, json.dumps(body), traceparent))
    for topic, key, body, traceparent in news:
        headers = {"content-type": "application/json", "traceparent": traceparent}
        sql = "INSERT INTO outbox (topic, key, value, headers) VALUES (?, ?, ?, ?)"
        db.execute(sql, (topic, key, json.dumps(body), json.dumps(headers)))


def debts():
    """Those that are due, the oldest first."""
    with closing(connect()) as db:
        sql = "SELECT * FROM debts WHERE due <= ? ORDER BY rowid"
        return db.execute(sql, (time.time(),)).fetchall()


def paid(key):
    with transaction() as db:
        db.execute("DELETE FROM debts WHERE key = ?", (key,))


def postpone(key, tries):
    with transaction() as db:  # 1, 2, 4, 8, then every 10 seconds
        wait = min(2**tries, 10)
        sql = "UPDATE debts SET tries = tries + 1, due = ? WHERE key = ?"
        db.execute(sql, (time.time() + wait, key))
