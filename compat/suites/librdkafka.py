"""confluent-kafka: librdkafka, which is under most clients that are not Java."""

import suite
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from suite import check, name


def done(futures):
    """The answers to what was asked of an AdminClient."""
    return {key: future.result(suite.PATIENCE) for key, future in futures.items()}


def topic(address, partitions=1, **config):
    made = name("topic")
    admin = AdminClient({"bootstrap.servers": address})
    done(admin.create_topics([NewTopic(made, partitions, 1, config=config)]))
    return made


def publish(address, values, to, partitions=1, **config):
    """Publishes to the partitions in turn; returns the offsets when all are acknowledged."""
    offsets, errors = [], []

    def delivered(error, message):
        errors.append(error) if error else offsets.append((message.partition(), message.offset()))

    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, **config})
    for number, value in enumerate(values):
        producer.produce(to, value, partition=number % partitions, on_delivery=delivered)
    assert producer.flush(suite.PATIENCE) == 0, "not all was acknowledged"
    assert not errors, f"not delivered: {errors}"
    return offsets


def consume(address, of, count, **config):
    """So many records from the beginning, as (partition, offset, key, value)."""
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": name("reader"), "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "check.crcs": True, **config}
    )  # fmt: skip
    consumer.subscribe([of])
    read = []

    def enough():
        message = consumer.poll(1)
        if message:
            assert not message.error(), message.error()
            read.append((message.partition(), message.offset(), message.key(), message.value()))
        return len(read) >= count

    suite.until(f"{count} records of {of}", enough)
    consumer.close()
    return read


@check
def records_come_back_in_order(address):
    """Key, value, headers, time and null values; ten thousand of them."""
    own = topic(address)
    values = [b"%d" % number for number in range(10_000)]
    offsets = publish(address, values, own)
    assert offsets == [(0, at) for at in range(10_000)], "offsets do not rise by one"
    assert [value for *_, value in consume(address, own, 10_000)] == values
    producer = Producer({"bootstrap.servers": address})
    producer.produce(own, None, key=b"k", headers=[("h", b"1"), ("none", None)], timestamp=1234)
    producer.flush(suite.PATIENCE)
    consumer = Consumer({"bootstrap.servers": address, "group.id": name("one")})
    consumer.assign([TopicPartition(own, 0, 10_000)])
    message = consumer.poll(suite.PATIENCE)
    assert (message.key(), message.value(), message.timestamp()[1]) == (b"k", None, 1234)
    assert message.headers() == [("h", b"1"), ("none", None)]
    assert [at.offset for at in consumer.offsets_for_times([TopicPartition(own, 0, 1235)], timeout=10)] == [0]
    assert consumer.get_watermark_offsets(TopicPartition(own, 0), timeout=10) == (0, 10_001)
    consumer.close()


@check
def every_compression_comes_back(address):
    values = [b"%d " % number * 50 for number in range(500)]
    for codec in suite.CODECS:
        own = topic(address)
        publish(address, values, own, **{"compression.type": codec})
        assert [value for *_, value in consume(address, own, 500)] == values, codec


@check
def an_idempotent_producer_writes_once_and_in_order(address):
    own = topic(address, 3)
    values = [b"%d" % number for number in range(3_000)]
    config = {"enable.idempotence": True, "acks": "all", "queue.buffering.max.ms": 0, "batch.num.messages": 7}
    publish(address, values, own, 3, **config)
    read = consume(address, own, 3_000)
    for partition in range(3):
        of_it = [value for at, _, _, value in read if at == partition]
        assert of_it == values[partition::3], f"partition {partition} is out of order"


@check
def transactions_are_whole_or_nothing(address):
    """Commit, abort, fencing, and what read_committed sees of an open one."""
    own = topic(address, 2)
    config = {"bootstrap.servers": address, "transactional.id": name("transaction")}
    producer = Producer(config)
    producer.init_transactions(suite.PATIENCE)
    for word, end in [("a", "commit"), ("b", "abort"), ("c", "commit")]:
        producer.begin_transaction()
        for number in range(20):
            producer.produce(own, f"{word}{number}", partition=number % 2)
        producer.flush(suite.PATIENCE)
        getattr(producer, f"{end}_transaction")(suite.PATIENCE)
    producer.begin_transaction()
    producer.produce(own, "open", partition=0)
    producer.flush(suite.PATIENCE)
    seen = [value for *_, value in consume(address, own, 40, **{"isolation.level": "read_committed"})]
    assert sorted(seen) == sorted(f"{word}{number}".encode() for word in "ac" for number in range(20))
    all_of_it = consume(address, own, 61, **{"isolation.level": "read_uncommitted"})
    assert len(all_of_it) == 61, "read_uncommitted sees the aborted and the open one"
    successor = Producer(config)
    successor.init_transactions(suite.PATIENCE)
    try:
        producer.commit_transaction(suite.PATIENCE)
        raise AssertionError("a producer whose id was taken over could commit")
    except KafkaException as error:
        assert error.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH), error


@check
def offsets_are_committed_with_the_records(address):
    """Consume, transform, produce: what was read is marked in the same transaction."""
    source, target, group = topic(address), topic(address), name("group")
    publish(address, [b"1", b"2", b"3"], source)
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([source])
    producer = Producer({"bootstrap.servers": address, "transactional.id": name("transaction")})
    producer.init_transactions(suite.PATIENCE)
    places = [TopicPartition(source, 0)]
    for end, expected in [("abort", -1001), ("commit", 3)]:
        producer.begin_transaction()
        read = suite.until("the source", lambda: consumer.consume(3, 1) or consumer.seek(TopicPartition(source, 0, 0)))
        for message in read:
            producer.produce(target, message.value() * 2)
        producer.send_offsets_to_transaction(
            [TopicPartition(source, 0, 3)], consumer.consumer_group_metadata(), suite.PATIENCE
        )
        getattr(producer, f"{end}_transaction")(suite.PATIENCE)
        committed = consumer.committed(places, suite.PATIENCE)[0].offset
        assert committed == expected, f"after {end}, {committed} is committed"
        if end == "abort":
            consumer.seek(TopicPartition(source, 0, 0))
    consumer.close()


@check
def members_die_with_eager_rebalancing(address):
    own = topic(address, 6)
    send = lambda values: publish(address, values, own, 6)  # noqa: E731
    suite.members_die(address, name("group"), own, send, "range")


@check
def members_die_with_cooperative_rebalancing(address):
    own = topic(address, 6)
    send = lambda values: publish(address, values, own, 6)  # noqa: E731
    suite.members_die(address, name("group"), own, send, "cooperative-sticky")


@check
def a_static_member_comes_back_without_a_rebalance(address):
    own, group = topic(address, 2), name("group")
    admin = AdminClient({"bootstrap.servers": address})
    with suite.Members(address, group, own, "range", "one") as first:
        first.start(1)
        first.settle(2)
        before = done(admin.describe_consumer_groups([group]))[group].members[0]
        first.kill()
        first.start(1)
        first.settle(2)
        after = done(admin.describe_consumer_groups([group]))[group].members
    assert [member.group_instance_id for member in after] == ["one"], after
    assert after[0].member_id != before.member_id, "the old member was answered in place of the new one"


@check
def topics_are_made_changed_and_deleted(address):
    admin = AdminClient({"bootstrap.servers": address})
    own = topic(address, 2, **{"retention.ms": "60000"})
    done(admin.create_partitions([NewPartitions(own, 5)]))
    described = admin.list_topics(own, timeout=10).topics[own]
    assert sorted(described.partitions) == [0, 1, 2, 3, 4]
    resource = ConfigResource(ResourceType.TOPIC, own)
    assert done(admin.describe_configs([resource]))[resource]["retention.ms"].value == "60000"
    entry = ConfigEntry("retention.ms", "120000", incremental_operation=AlterConfigOpType.SET)
    done(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, own, incremental_configs=[entry])]))
    assert done(admin.describe_configs([resource]))[resource]["retention.ms"].value == "120000"
    refused = admin.create_topics([NewTopic(own, 1, 1)])[own].exception(suite.PATIENCE)
    assert refused.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, refused
    done(admin.delete_topics([own]))
    assert own not in admin.list_topics(timeout=10).topics
    cluster = admin.describe_cluster().result(suite.PATIENCE)
    assert (cluster.cluster_id, [node.id for node in cluster.nodes]) == ("atoll", [0])


def whole(address, of):
    """All records of partition 0 from the beginning to the end, as (key, value)."""
    config = {"bootstrap.servers": address, "group.id": name("reader"), "enable.partition.eof": True, "check.crcs": True}
    consumer = Consumer(config)
    consumer.assign([TopicPartition(of, 0, 0)])
    read, ended = [], []

    def at_the_end():
        message = consumer.poll(1)
        if message and message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended.append(message)
        elif message:
            read.append((message.key(), message.value()))
        return ended

    suite.until(f"the end of {of}", at_the_end)
    consumer.close()
    return read


@check
def a_compacted_topic_keeps_the_last_record_of_each_key(address):
    """With gaps, and the empty head of a producer's last batch at the end; a deleted key is gone."""
    policy = {"cleanup.policy": "compact", "segment.ms": "1", "delete.retention.ms": "0"}
    own = topic(address, **policy, **{"min.cleanable.dirty.ratio": "0.01"})
    resource = ConfigResource(ResourceType.TOPIC, own)
    admin = AdminClient({"bootstrap.servers": address})
    described = done(admin.describe_configs([resource]))[resource]
    assert {key: described[key].value for key in policy} == policy
    errors = []
    refusing = Producer({"bootstrap.servers": address})
    refusing.produce(own, b"x", on_delivery=lambda error, _: errors.append(error and error.code()))
    refusing.flush(suite.PATIENCE)
    assert errors == [KafkaError.INVALID_RECORD], errors
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "compression.type": "lz4"})
    for round in range(3):
        for key in range(10):
            producer.produce(own, b"%d" % round, key=b"k%d" % key)
        producer.flush(suite.PATIENCE)
    producer.produce(own, None, key=b"k0")
    assert producer.flush(suite.PATIENCE) == 0
    expected = [(b"k%d" % key, b"2") for key in range(1, 10)]
    suite.until("the last records only", lambda: whole(address, own) == expected)
    # The producer goes on where it was, and so do readers.
    producer.produce(own, b"3", key=b"k0")
    assert producer.flush(suite.PATIENCE) == 0
    assert whole(address, own)[-1] == (b"k0", b"3")


@check
def groups_and_offsets_are_listed_moved_and_deleted(address):
    admin = AdminClient({"bootstrap.servers": address})
    own, group = topic(address), name("group")
    publish(address, [b"x"] * 10, own)
    config = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, **config})
    consumer.subscribe([own])
    suite.until("a record", lambda: consumer.poll(1))
    consumer.commit(offsets=[TopicPartition(own, 0, 4)], asynchronous=False)
    known = {one.group_id: one.state.name for one in admin.list_consumer_groups().result(suite.PATIENCE).valid}
    assert known[group] == "STABLE", known
    consumer.close()
    assert done(admin.describe_consumer_groups([group]))[group].state.name == "EMPTY"
    listed = lambda: done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]  # noqa: E731
    assert [at.offset for at in listed().topic_partitions] == [4]
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(own, 0, 7)])
    done(admin.alter_consumer_group_offsets([moved]))
    assert [at.offset for at in listed().topic_partitions] == [7]
    place = TopicPartition(own, 0)
    assert done(admin.list_offsets({place: OffsetSpec.latest()}))[place].offset == 10
    done(admin.delete_records([TopicPartition(own, 0, 5)]))
    assert done(admin.list_offsets({place: OffsetSpec.earliest()}))[place].offset == 5
    done(admin.delete_records([TopicPartition(own, 0, OFFSET_END)]))
    assert done(admin.list_offsets({place: OffsetSpec.earliest()}))[place].offset == 10
    done(admin.delete_consumer_groups([group]))
    known = [one.group_id for one in admin.list_consumer_groups().result(suite.PATIENCE).valid]
    assert group not in known


@check
def a_service_may_do_what_it_declares(address):
    """SCRAM and PLAIN with the account of a service; the wrong password; a topic of others."""
    given = suite.account()
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]:
        login = {
            "security.protocol": given["SECURITY_PROTOCOL"],
            "sasl.mechanism": mechanism,
            "sasl.username": given["SASL_USERNAME"],
            "sasl.password": given["SASL_PASSWORD"],
        }
        publish(address, [mechanism], "compat.mine", **login)
        read = [value for *_, value in consume(address, "compat.mine", 1, **login)]
        assert b"SCRAM-SHA-256" in read, read
        errors = []
        other = Producer({"bootstrap.servers": address, **login})
        other.produce("compat.hidden", b"x", on_delivery=lambda error, _: errors.append(error and error.code()))
        other.flush(suite.PATIENCE)
        assert errors == [KafkaError.TOPIC_AUTHORIZATION_FAILED], errors
        wrong = {**login, "sasl.password": "guess"}
        failures = []
        consumer = Consumer(
            {"bootstrap.servers": address, "group.id": "x", "error_cb": lambda error: failures.append(error.code()), **wrong}
        )
        refused = lambda: consumer.poll(0.1) or KafkaError._AUTHENTICATION in failures  # noqa: E731
        suite.until("the refusal of a wrong password", refused)
        consumer.close()


def member(address, group, of, strategy, instance=None):
    """Tells its partitions and what it reads, until it is killed."""
    config = {
        "bootstrap.servers": address,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
        "partition.assignment.strategy": strategy,
    }
    if instance:
        config["group.instance.id"] = instance
    consumer = Consumer(config)
    have = set()

    def assigned(_, places):
        have.update(place.partition for place in places)
        suite.tell(partitions=list(have))

    def revoked(_, places):
        have.difference_update(place.partition for place in places)
        suite.tell(partitions=list(have))

    consumer.subscribe([of], on_assign=assigned, on_revoke=revoked)
    while True:
        message = consumer.poll(1)
        if message and not message.error():
            consumer.commit(message, asynchronous=False)
            suite.tell(record=message.value().decode())


suite.main(member)
