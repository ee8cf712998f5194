"""kafka-python: all in Python, a protocol implementation of its own."""

import os
import sys
from pathlib import Path

import suite
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    KafkaError,
    ProducerFencedError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    TransactionalIdNotFoundError,
)
from suite import check, name

sys.path.append(str(Path(__file__).parent.parent))
from node import Node  # noqa: E402


def admin(address, later):
    own = KafkaAdminClient(bootstrap_servers=address)
    later.callback(own.close)
    return own


def topic(address, later, partitions=1, **configs):
    made = name("topic")
    wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin(address, later).create_topics({made: wanted})
    return made


def publish(address, values, to, partitions=1, **config):
    """Publishes to the partitions in turn; returns the offsets when all are acknowledged."""
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=5, **config)
    sent = [producer.send(to, value, partition=number % partitions) for number, value in enumerate(values)]
    producer.flush(suite.PATIENCE)
    metadata = [future.get(suite.PATIENCE) for future in sent]
    producer.close()
    return [(one.partition, one.offset) for one in metadata]


def read_of(consumer, count):
    """So many records."""
    read = []

    def enough():
        for records in consumer.poll(1000).values():
            read.extend(records)
        return len(read) >= count

    suite.until(f"{count} records", enough)
    return read


def consume(address, of, count, **config):
    consumer = KafkaConsumer(
        of,
        bootstrap_servers=address,
        group_id=name("reader"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **config,
    )
    read = read_of(consumer, count)
    consumer.close()
    return read


@check
def records_come_back_in_order(address, later):
    own = topic(address, later)
    values = [b"%d" % number for number in range(3_000)]
    offsets = publish(address, values, own)
    assert offsets == [(0, at) for at in range(3_000)], "offsets do not rise by one"
    assert [record.value for record in consume(address, own, 3_000)] == values
    producer = KafkaProducer(bootstrap_servers=address)
    producer.send(own, None, key=b"k", headers=[("h", b"1")], timestamp_ms=1234).get(suite.PATIENCE)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=address, group_id=name("one"))
    later.callback(consumer.close)
    place = TopicPartition(own, 0)
    consumer.assign([place])
    consumer.seek(place, 3_000)
    record = read_of(consumer, 1)[0]
    assert (record.key, record.value, record.timestamp) == (b"k", None, 1234)
    assert [tuple(header) for header in record.headers] == [("h", b"1")]
    assert consumer.offsets_for_times({place: 1235})[place].offset == 0
    assert (consumer.beginning_offsets([place]), consumer.end_offsets([place])) == ({place: 0}, {place: 3_001})


@check
def every_compression_comes_back(address, later):
    values = [b"%d " % number * 50 for number in range(300)]
    for codec in suite.CODECS:
        own = topic(address, later)
        publish(address, values, own, compression_type=None if codec == "none" else codec)
        assert [record.value for record in consume(address, own, 300)] == values, codec


@check
def an_idempotent_producer_writes_once_and_in_order(address, later):
    own = topic(address, later, 3)
    values = [b"%d" % number for number in range(900)]
    publish(address, values, own, 3, enable_idempotence=True, acks="all", batch_size=64)
    read = consume(address, own, 900)
    for partition in range(3):
        of_it = [record.value for record in read if record.partition == partition]
        assert of_it == values[partition::3], f"partition {partition} is out of order"


@check
def transactions_are_whole_or_nothing(address, later):
    own = topic(address, later, 2)
    config = {"bootstrap_servers": address, "transactional_id": name("transaction")}
    producer = KafkaProducer(**config)
    later.callback(producer.close, 0)
    producer.init_transactions()
    for word, end in [("a", "commit"), ("b", "abort"), ("c", "commit")]:
        producer.begin_transaction()
        for number in range(20):
            producer.send(own, f"{word}{number}".encode(), partition=number % 2)
        producer.flush(suite.PATIENCE)
        getattr(producer, f"{end}_transaction")()
    seen = [record.value for record in consume(address, own, 40, isolation_level="read_committed")]
    assert sorted(seen) == sorted(f"{word}{number}".encode() for word in "ac" for number in range(20))
    assert len(consume(address, own, 60, isolation_level="read_uncommitted")) == 60
    successor = KafkaProducer(**config)
    later.callback(successor.close, 0)
    successor.init_transactions()
    try:
        producer.begin_transaction()
        producer.send(own, b"late", partition=0).get(suite.PATIENCE)
        producer.commit_transaction()
        raise AssertionError("a producer whose id was taken over could commit")
    except KafkaError as error:
        causes = [type(error), type(getattr(error, "exception", None))]
        assert ProducerFencedError in causes or "Fenced" in str(error) or "Epoch" in str(error), repr(error)


@check
def offsets_are_committed_with_the_records(address, later):
    source, target, group = topic(address, later), topic(address, later), name("group")
    publish(address, [b"1", b"2", b"3"], source)
    consumer = KafkaConsumer(
        source, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    later.callback(consumer.close)
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=name("transaction"))
    later.callback(producer.close)
    producer.init_transactions()
    place = TopicPartition(source, 0)
    for end, expected in [("abort", None), ("commit", 3)]:
        producer.begin_transaction()
        for record in read_of(consumer, 3):
            producer.send(target, record.value * 2)
        offsets = {place: OffsetAndMetadata(3, "", -1)}
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        getattr(producer, f"{end}_transaction")()
        committed = consumer.committed(place)
        assert committed == expected, f"after {end}, {committed} is committed"
        consumer.seek(place, 0)


@check
def members_die_with_eager_rebalancing(address, later):
    own = topic(address, later, 6)
    send = lambda values: publish(address, [value.encode() for value in values], own, 6)  # noqa: E731
    suite.members_die(address, name("group"), own, send, "range")


@check
def topics_are_made_changed_and_deleted(address, later):
    own, client = topic(address, later, 2, **{"retention.ms": "60000"}), admin(address, later)
    client.create_partitions({own: 5})
    described = client.describe_topics([own])[0]
    assert sorted(one["partition_index"] for one in described["partitions"]) == [0, 1, 2, 3, 4], described
    resource = lambda **configs: ConfigResource(ConfigResourceType.TOPIC, own, configs or None)  # noqa: E731
    assert "60000" in str(client.describe_configs([resource()])), "what it was made with"
    client.alter_configs([resource(**{"retention.ms": "120000"})])
    assert "120000" in str(client.describe_configs([resource()])), "what it was changed to"
    try:
        client.create_topics({own: {"num_partitions": 1, "replication_factor": 1}})
        raise AssertionError("a topic was made twice")
    except TopicAlreadyExistsError:
        pass
    client.delete_topics([own])
    assert own not in client.list_topics()
    cluster = client.describe_cluster()
    assert cluster["cluster_id"] == "atoll", cluster


@check
def a_compacted_topic_keeps_the_last_committed_record_of_each_key(address, later):
    own = topic(address, later, **{"cleanup.policy": "compact", "segment.ms": "1", "delete.retention.ms": "0"})
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=name("transaction"))
    later.callback(producer.close, 0)
    producer.init_transactions()
    for value, end in [(b"1", "commit"), (b"2", "commit"), (b"3", "abort")]:
        producer.begin_transaction()
        for key in range(5):
            producer.send(own, value, key=b"k%d" % key)
        producer.flush(suite.PATIENCE)
        getattr(producer, f"{end}_transaction")()
    place = TopicPartition(own, 0)

    def whole(isolation):
        consumer = KafkaConsumer(bootstrap_servers=address, isolation_level=isolation)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end, read = consumer.end_offsets([place])[place], []

        def at_the_end():
            for records in consumer.poll(1000).values():
                read.extend((record.key, record.value) for record in records)
            return consumer.position(place) >= end

        suite.until("the end", at_the_end)
        times = consumer.offsets_for_times({place: 1})
        consumer.close()
        return read, times[place].offset

    expected = [(b"k%d" % key, b"2") for key in range(5)]
    # Also a reader of everything does not find what was aborted. The mark of the first transaction, at 5, stays
    # longer than its records; then the first that there is is at 6.
    suite.until("the last records only", lambda: whole("read_uncommitted")[0] == expected)
    read, first = whole("read_committed")
    assert (read, first in (5, 6)) == (expected, True), (read, first)


@check
def groups_and_offsets_are_listed_moved_and_deleted(address, later):
    client, own, group = admin(address, later), topic(address, later), name("group")
    publish(address, [b"x"] * 10, own)
    place = TopicPartition(own, 0)
    consumer = KafkaConsumer(own, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest")
    read_of(consumer, 1)
    consumer.commit({place: OffsetAndMetadata(4, "", -1)})
    assert group in str(client.list_groups())
    assert "Stable" in str(client.describe_groups([group]))
    consumer.close(autocommit=False)
    assert "Empty" in str(client.describe_groups([group]))
    listed = lambda: client.list_group_offsets(group)[group][place].offset  # noqa: E731
    assert listed() == 4
    client.alter_group_offsets(group, {place: OffsetAndMetadata(7, "", -1)})
    assert listed() == 7
    client.delete_records({place: 5})
    assert client.list_partition_offsets({place: OffsetSpec.EARLIEST})[place].offset == 5
    assert client.list_partition_offsets({place: OffsetSpec.LATEST})[place].offset == 10
    client.delete_group_offsets(group, [place])
    assert place not in client.list_group_offsets(group)[group]
    client.delete_groups([group])
    assert group not in str(client.list_groups())


def reader_of(address, later, places):
    """A consumer that reads these partitions from their beginning."""
    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", fetch_max_wait_ms=100)
    later.callback(consumer.close)
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    return consumer


def session_of(consumer):
    """The number of the session of Fetch that the consumer has at the one node, and its epoch."""
    known = consumer._fetcher._session_handlers.values()
    at = [(own.next_metadata.session_id, own.next_metadata.epoch) for own in known]
    return at[0] if at else (0, 0)


def read_values(consumer, values):
    """Reads these, in any order, and nothing else."""
    read = [record.value for record in read_of(consumer, len(values))]
    assert sorted(read) == sorted(values), f"{read} instead of {values}"


@check
def one_session_of_fetch_goes_through_all_that_a_consumer_does(address, later):
    own, second = topic(address, later, 40), topic(address, later, 3)
    places = [TopicPartition(own, partition) for partition in range(40)]
    consumer = reader_of(address, later, places)
    producer = KafkaProducer(bootstrap_servers=address)
    later.callback(producer.close)

    def send(to, *partitions):
        values = [os.urandom(8) for _ in partitions]
        sent = [producer.send(to, value, partition=at) for value, at in zip(values, partitions)]
        [future.get(suite.PATIENCE) for future in sent]
        return values

    # The answer to the first request makes the session; from the second on it is used.
    suite.until("a session", lambda: consumer.poll(200) or session_of(consumer)[1] > 1)
    session, begun = session_of(consumer)
    assert session != 0
    # Many partitions, of which few have records.
    for _ in range(5):
        read_values(consumer, send(own, 3, 17, 39))
    again = send(own, 5)
    read_values(consumer, again)
    consumer.pause(places[3])
    held = send(own, 3, 3)
    read_values(consumer, send(own, 4, 5))
    consumer.resume(places[3])
    read_values(consumer, held)
    consumer.seek(places[5], 0)
    at_five = read_of(consumer, 2)
    assert [(record.partition, record.offset) for record in at_five] == [(5, 0), (5, 1)]
    assert at_five[0].value == again[0]
    # A topic more, and most of the other less.
    kept = [places[3], places[4]]
    more = [TopicPartition(second, partition) for partition in range(3)]
    at = {place: consumer.position(place) for place in kept}
    consumer.assign(kept + more)
    consumer.seek_to_beginning(*more)
    for place, offset in at.items():
        consumer.seek(place, offset)
    send(own, 5)
    read_values(consumer, send(own, 3) + send(second, 0, 2))
    assert consumer.poll(300) == {}
    assert session_of(consumer)[0] == session, "the session was lost on the way"
    assert session_of(consumer)[1] > begun + 10, session_of(consumer)


@check
def a_session_of_fetch_that_is_lost_is_made_anew(_address, later):
    node = Node(os.environ["ATOLL"])
    later.callback(node.remove)
    later.callback(node.down)
    node.up()
    own = topic(node.address, later, 2)
    places = [TopicPartition(own, partition) for partition in range(2)]
    consumer = reader_of(node.address, later, places)
    publish(node.address, [b"1", b"2"], own, 2)
    read_values(consumer, [b"1", b"2"])
    suite.until("a session", lambda: consumer.poll(200) or session_of(consumer)[1] > 1)
    before = session_of(consumer)[0]
    node.kill()
    node.up()
    publish(node.address, [b"3", b"4"], own, 2)
    read_values(consumer, [b"3", b"4"])
    suite.until("a session", lambda: consumer.poll(200) or session_of(consumer)[1] > 1)
    assert session_of(consumer)[0] not in (0, before)
    publish(node.address, [b"5"], own)
    read_values(consumer, [b"5"])


@check
def transactions_producers_and_sizes_are_described(address, later):
    client, own, named = admin(address, later), topic(address, later), name("transaction")
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=named)
    later.callback(producer.close, 0)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(own, b"x" * 1000, partition=0).get(suite.PATIENCE)
    described = client.describe_transactions([named])[named]
    assert (described.state.value, described.topic_partitions) == ("Ongoing", {TopicPartition(own, 0)}), described
    listed = lambda **filters: [one.transactional_id for one in client.list_transactions(**filters)[0]]  # noqa: E731
    assert named in listed() and named in listed(state_filters=["Ongoing"])
    assert named in listed(producer_id_filters=[described.producer_id])
    assert named not in listed(state_filters=["Empty"]) and named not in listed(duration_filter_ms=600_000)
    assert listed(transactional_id_pattern=named.replace(".", "[.]")) == [named]
    writes = lambda: client.describe_producers([TopicPartition(own, 0)])[TopicPartition(own, 0)].active_producers[0]  # noqa: E731
    assert writes().producer_id == described.producer_id
    assert (writes().last_sequence, writes().current_transaction_start_offset) == (0, 0), writes()
    producer.commit_transaction()
    assert client.describe_transactions([named])[named].state.value == "CompleteCommit"
    assert writes().current_transaction_start_offset == -1
    try:
        client.describe_transactions([name("transaction")])
        raise AssertionError("a transactional id that nobody used was described")
    except TransactionalIdNotFoundError:
        pass
    (folder,) = client.describe_log_dirs()[0]["log_dirs"]
    sizes = {one["name"]: one["partitions"][0]["partition_size"] for one in folder["topics"]}
    assert 1000 < sizes[own] < 2000, sizes
    assert folder["total_bytes"] >= folder["usable_bytes"] > 0, folder


@check
def a_service_may_do_what_it_declares(address, later):
    given = suite.account()
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]:
        login = {
            "security_protocol": given["SECURITY_PROTOCOL"],
            "sasl_mechanism": mechanism,
            "sasl_plain_username": given["SASL_USERNAME"],
            "sasl_plain_password": given["SASL_PASSWORD"],
        }
        publish(address, [mechanism.encode()], "compat.mine", **login)
        assert consume(address, "compat.mine", 1, **login)
        try:
            publish(address, [b"x"], "compat.hidden", **login)
            raise AssertionError("a service published to a topic that it does not declare")
        except TopicAuthorizationFailedError:
            pass


def member(address, group, of, _strategy):
    """Tells its partitions and what it reads, until it is killed."""
    consumer = KafkaConsumer(
        bootstrap_servers=address,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=300,
        partition_assignment_strategy=[RangePartitionAssignor],
    )

    class Told(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            suite.tell(partitions=[])

        def on_partitions_assigned(self, assigned):
            suite.tell(partitions=[place.partition for place in consumer.assignment()])

    consumer.subscribe([of], listener=Told())
    while True:
        for place, records in consumer.poll(1000).items():
            consumer.commit({place: OffsetAndMetadata(records[-1].offset + 1, "", -1)})
            for record in records:
                suite.tell(record=record.value.decode())


suite.main(member)
