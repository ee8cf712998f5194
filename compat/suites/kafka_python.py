"""kafka-python: all in Python, a protocol implementation of its own."""

import suite
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError, ProducerFencedError, TopicAlreadyExistsError, TopicAuthorizationFailedError
from suite import check, name


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
