"""The broker is killed again and again under load, and started on what is left of it.

An idempotent producer, a producer of transactions and a member of a group work all the time. At the end:

1. every record whose delivery was reported is there exactly once, and each partition's are in order;
2. what is there and was not reported is the end of what was sent when a kill came, never a second copy;
3. of a transaction, read_committed sees all records or none, and all of those whose commit was reported;
4. a group's committed offset never went back: not below what its own commit was told, after any start.
"""

import json
import os
import random
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from node import Node

ROUNDS = 12
PARTITIONS = 3
# Each round goes on until so many more records are acknowledged, then for a random while that is not waited for.
RECORDS_EACH_ROUND = 3000
PATIENCE = 60
SEED = int(os.environ.get("SEED", "7"))


def within(what, is_so):
    """Looks until it is so; every look itself waits for something."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"in vain waited for {what}"


class Load:
    """A thread that works until it is told to stop. What it does wrong is raised by `end`."""

    def __init__(self, address):
        self.address = address
        self.stopping = threading.Event()
        self.progress = threading.Condition()
        self.failure = None
        self.thread = threading.Thread(target=self.guarded, daemon=True)

    def guarded(self):
        try:
            self.work()
        except BaseException as failure:
            self.failure = failure

    def advance(self):
        with self.progress:
            self.progress.notify_all()

    def wait_for(self, what, is_so):
        def look():
            assert not self.failure, self.failure
            with self.progress:
                return is_so() or (self.progress.wait(1) and is_so())

        within(what, look)

    def end(self):
        self.stopping.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), f"{type(self).__name__} does not end"
        if self.failure:
            raise self.failure


class Records(Load):
    """Numbers 0, 1, 2, … into each partition, by one idempotent producer that lives through all kills."""

    topic = "crash.records"

    def __init__(self, address):
        super().__init__(address)
        self.sent = [0] * PARTITIONS
        self.acknowledged = [[] for _ in range(PARTITIONS)]

    def work(self):
        def delivered(error, message):
            assert not error, f"a record was given up: {error}"
            self.acknowledged[message.partition()].append((int(message.value()), message.offset()))
            self.advance()

        config = {"enable.idempotence": True, "linger.ms": 1, "batch.num.messages": 50, "reconnect.backoff.max.ms": 100}
        producer = Producer({"bootstrap.servers": self.address, "queue.buffering.max.messages": 2000, **config})
        while not self.stopping.is_set():
            for partition in range(PARTITIONS):
                try:
                    value = b"%d" % self.sent[partition]
                    producer.produce(self.topic, value, partition=partition, on_delivery=delivered)
                    self.sent[partition] += 1
                except BufferError:
                    producer.poll(0.05)
            producer.poll(0)
        assert producer.flush(PATIENCE) == 0, "not all was acknowledged after the last start"

    def count(self):
        return sum(map(len, self.acknowledged))


class Transactions(Load):
    """Transactions of four records, two in each of two partitions; every third is aborted."""

    topic = "crash.transactions"

    def __init__(self, address):
        super().__init__(address)
        self.committed, self.aborted, self.number = set(), set(), 0

    def work(self):
        producer = self.start()
        while not self.stopping.is_set():
            number, self.number = self.number, self.number + 1
            try:
                producer.begin_transaction()
                for part in range(4):
                    producer.produce(self.topic, json.dumps([number, part]), partition=part % 2)
                if number % 3 == 2:
                    producer.flush(PATIENCE)
                    # From here on it must not be seen, whatever comes.
                    self.aborted.add(number)
                    self.until_answered(producer, producer.abort_transaction)
                else:
                    self.until_answered(producer, producer.commit_transaction)
                    self.committed.add(number)
                    self.advance()
            except KafkaException as failure:
                # The producer cannot go on. Its successor ends what it had begun, as the protocol has it.
                if failure.args[0].txn_requires_abort():
                    self.aborted.add(number)
                producer = self.start()

    def until_answered(self, producer, end):
        """A commit whose answer is lost in a kill is asked for again: that is what `retriable` means."""
        while True:
            try:
                return end(1)
            except KafkaException as failure:
                if not failure.args[0].retriable():
                    raise

    def start(self):
        config = {"transactional.id": "crash", "transaction.timeout.ms": 20_000, "reconnect.backoff.max.ms": 100}
        producer = Producer({"bootstrap.servers": self.address, **config})
        self.until_answered(producer, producer.init_transactions)
        return producer


class Reader(Load):
    """A group of one that reads the records and commits as it goes; it remembers what was acknowledged to it."""

    group = "crash.group"

    def __init__(self, address):
        super().__init__(address)
        self.committed = [0] * PARTITIONS
        self.commits = 0

    def work(self):
        consumer = reader(self.address, self.group, **{"session.timeout.ms": 6000, "reconnect.backoff.max.ms": 100})
        consumer.subscribe([Records.topic])
        while not self.stopping.is_set():
            message = consumer.poll(0.2)
            if not message or message.error() or message.offset() % 100:
                continue
            try:
                done = consumer.commit(message, asynchronous=False)
            except KafkaException:
                continue
            for place in done:
                if not place.error:
                    self.committed[place.partition] = max(self.committed[place.partition], place.offset)
                    self.commits += 1
                    self.advance()
        consumer.close()


def reader(address, group, **more):
    config = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True, **more}
    return Consumer({"bootstrap.servers": address, "group.id": group, **config})


def read_all(address, topic, partitions, **more):
    """All records of each partition, as (offset, value)."""
    consumer = reader(address, "crash.check", **more)
    read = []
    for partition in range(partitions):
        place = TopicPartition(topic, partition, 0)
        end = consumer.get_watermark_offsets(place, PATIENCE)[1]
        consumer.assign([place])
        found = []

        def at_end():
            for message in consumer.consume(1000, 1):
                assert not message.error(), message.error()
                found.append((message.offset(), message.value()))
            return consumer.position([place])[0].offset >= end

        within(f"the end of {topic}-{partition}", at_end)
        read.append(found)
    consumer.close()
    return read


def check_records(records, read):
    for partition, found in enumerate(read):
        there = [int(value) for _, value in found]
        assert there == list(range(len(there))), f"partition {partition} has gaps, copies or is out of order"
        at = dict((int(value), offset) for offset, value in found)
        told = records.acknowledged[partition]
        lost = [value for value, _ in told if value not in at]
        assert not lost, f"acknowledged and lost: {lost[:10]} of {len(told)}"
        # After a start, librdkafka may report an offset as unknown (-1001) for what it sent twice.
        moved = [(value, offset) for value, offset in told if offset >= 0 and at[value] != offset]
        assert not moved, f"not where it was said to be: {moved[:10]}"


def check_transactions(transactions, read):
    seen = {}
    for found in read:
        for _, value in found:
            number, part = json.loads(value)
            seen.setdefault(number, []).append(part)
    halves = {number: parts for number, parts in seen.items() if sorted(parts) != [0, 1, 2, 3]}
    assert not halves, f"transactions that are not whole: {halves}"
    assert not transactions.committed - seen.keys(), f"committed and lost: {transactions.committed - seen.keys()}"
    shown = transactions.aborted & seen.keys()
    assert not shown, f"aborted and seen: {shown}"


def check_offsets(address, told):
    consumer = reader(address, Reader.group)
    places = [TopicPartition(Records.topic, partition) for partition in range(PARTITIONS)]
    kept = [place.offset for place in consumer.committed(places, PATIENCE)]
    consumer.close()
    back = [(have, had) for have, had in zip(kept, told) if had and have < had]
    assert not back, f"committed offsets went back: (is, was) {back}"


def main():
    chance = random.Random(SEED)
    node = Node(os.environ["ATOLL"])
    try:
        node.up()
        admin = AdminClient({"bootstrap.servers": node.address})
        made = admin.create_topics([NewTopic(Records.topic, PARTITIONS, 1), NewTopic(Transactions.topic, 2, 1)])
        [one.result(PATIENCE) for one in made.values()]
        loads = records, transactions, group = [kind(node.address) for kind in (Records, Transactions, Reader)]
        [load.thread.start() for load in loads]
        for _ in range(ROUNDS):
            goal, committed, commits = records.count() + RECORDS_EACH_ROUND, len(transactions.committed), group.commits
            records.wait_for("records", lambda: records.count() >= goal)
            transactions.wait_for("a transaction", lambda: len(transactions.committed) > committed)
            group.wait_for("a commit of the group", lambda: group.commits > commits)
            # So that the kill comes in all places: not to wait for anything.
            time.sleep(chance.random() * 0.05)
            node.kill()
            told = list(group.committed)
            node.up()
            check_offsets(node.address, told)
        for load in loads:
            load.end()
        check_records(records, read_all(node.address, Records.topic, PARTITIONS))
        committed = read_all(node.address, Transactions.topic, 2, **{"isolation.level": "read_committed"})
        check_transactions(transactions, committed)
        print(f"ok     {ROUNDS} kills: {records.count()} records, {len(transactions.committed)} transactions, "
              f"{group.commits} commits of a group")  # fmt: skip
    except BaseException:
        print(node.errors.read_text()[-3000:])
        print(f"SEED={SEED}; what is left: {node.folder}")
        raise
    finally:
        node.down()
    node.remove()


main()
