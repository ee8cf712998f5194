"""What a suite is: checks in the order of the file, each with its own topics and groups.

The first argument is the broker's address; the account of a service comes in the environment, as a service has it.
`member ADDRESS …` makes the same file a member of a group in a process of its own, so that it can be killed.
"""

import inspect
import json
import os
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# How long something may take before it counts as never. Only a broken broker takes so long.
PATIENCE = 60

checks = []
_names = {}


def check(function):
    """Marks a check; its docstring's first line says what holds."""
    checks.append(function)
    return function


def name(kind):
    """A name that nobody else has used."""
    _names[kind] = _names.get(kind, 0) + 1
    return f"{os.path.basename(sys.argv[0]).removesuffix('.py')}.{kind}.{_names[kind]}"


def until(what, look):
    """Looks until there is something true. `look` itself waits for the broker: nothing here sleeps."""
    end = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"in vain waited for {what}"


def account():
    """How a service connects, from its environment; Kafka's names."""
    return {key.removeprefix("KAFKA_"): value for key, value in os.environ.items() if key.startswith("KAFKA_")}


class Members:
    """Members of a group, each in a process of its own that tells what it is given, line by line."""

    def __init__(self, address, group, topic, *more):
        self.command = [sys.executable, sys.argv[0], "member", address, group, topic, *more]
        self.running = []
        self.lines = {}

    def start(self, count):
        for _ in range(count):
            member = subprocess.Popen(self.command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
            os.set_blocking(member.stdout.fileno(), False)
            self.running.append(member)
            self.lines[member] = [b"", None, []]

    def look(self, member):
        """Takes what it has told: [rest of a line, partitions, records]."""
        told = self.lines[member]
        told[0] += member.stdout.read() or b""
        *lines, told[0] = told[0].split(b"\n")
        for line in map(json.loads, lines):
            if "partitions" in line:
                told[1] = sorted(line["partitions"])
            else:
                told[2].append(line["record"])
        assert member.poll() is None, "a member of the group ended by itself"
        return told

    def shares(self):
        return [self.look(member)[1] for member in self.running]

    def settle(self, partitions):
        """Waits until each has something, together all, and nobody what another has."""
        readable = [member.stdout for member in self.running]

        def settled():
            import select

            shares = self.shares()
            if all(shares) and sorted(sum(shares, [])) == list(range(partitions)):
                return shares
            select.select(readable, [], [], 1)
            return None

        return until(f"{len(self.running)} members that share {partitions} partitions", settled)

    def records(self):
        """What all have read, the dead too."""
        return [record for told in self.lines.values() for record in told[2]]

    def read(self, wanted):
        """Waits until all of these were read by somebody."""
        import select

        def all_read():
            for member in self.running:
                self.look(member)
            if wanted <= set(self.records()):
                return True
            select.select([member.stdout for member in self.running], [], [], 1)
            return False

        until("all records at the members", all_read)

    def kill(self):
        """The oldest dies without a word: SIGKILL."""
        victim = self.running.pop(0)
        self.look(victim)
        victim.kill()
        victim.wait()
        return victim

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.running:
            member.kill()
            member.wait()


def tell(**what):
    """A member's line to the suite."""
    print(json.dumps(what), flush=True)


def members_die(address, group, topic, publish, *more, partitions=6, copies_max=2):
    """The check that all clients share: three members, one dies, another dies, one has it all and misses nothing.

    `publish(values)` publishes to all partitions in turn and returns when all is acknowledged. Members commit before
    they tell; where they cannot, each of the three may read a record that those before had not committed.
    """
    with Members(address, group, topic, *more) as members:
        members.start(3)
        shares = members.settle(partitions)
        assert sorted(map(len, shares)) == [2, 2, 2], f"three members of six partitions have {shares}"
        wanted = set()
        for left in (3, 2, 1):
            if left < 3:
                members.kill()
                assert len(members.settle(partitions)) == left
            values = [f"{left}-{number}" for number in range(30)]
            publish(values)
            wanted |= set(values)
            members.read(wanted)
        again = [record for record in members.records() if members.records().count(record) > copies_max]
        assert not again, f"read more than {copies_max} times: {again}"


def main(member):
    """Runs the checks, or is a member."""
    if sys.argv[1] == "member":
        member(*sys.argv[2:])
        return
    failed = False
    for run in checks:
        begun = time.monotonic()
        try:
            with ExitStack() as later:
                given = [sys.argv[1], later][: len(inspect.signature(run).parameters)]
                run(*given)
            verdict = "ok"
        except Exception:
            traceback.print_exc()
            verdict, failed = "FAILED", True
        print(f"{verdict:6} {run.__name__} {time.monotonic() - begun:.1f}s", flush=True)
    sys.exit(failed)
