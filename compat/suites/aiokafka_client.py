"""aiokafka: kafka-python's younger sister, for asyncio."""

import asyncio
from contextlib import asynccontextmanager

import suite
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ProducerFenced, TopicAuthorizationFailedError
from suite import check, name


@asynccontextmanager
async def started(client):
    await client.start()
    try:
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def admin(address):
    return started(AIOKafkaAdminClient(bootstrap_servers=address))


def producer(address, **config):
    return started(AIOKafkaProducer(bootstrap_servers=address, **config))


def consumer(address, *topics, **config):
    config = {"group_id": name("reader"), "auto_offset_reset": "earliest", "enable_auto_commit": False, **config}
    return started(AIOKafkaConsumer(*topics, bootstrap_servers=address, **config))


async def topic(address, partitions=1, **configs):
    made = name("topic")
    async with admin(address) as client:
        await client.create_topics([NewTopic(made, partitions, 1, topic_configs=configs)])
    return made


async def publish(address, values, to, partitions=1, **config):
    """Publishes to the partitions in turn; returns the offsets when all are acknowledged."""
    async with producer(address, linger_ms=5, **config) as own:
        sent = [await own.send(to, value, partition=number % partitions) for number, value in enumerate(values)]
        done = await asyncio.gather(*sent)
    return [(one.partition, one.offset) for one in done]


async def read_of(own, count):
    return [await asyncio.wait_for(own.getone(), suite.PATIENCE) for _ in range(count)]


async def consume(address, of, count, **config):
    async with consumer(address, of, **config) as own:
        return await read_of(own, count)


def check_async(function):
    """A check that is a coroutine."""

    def run(address):
        asyncio.run(function(address))

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return check(run)


@check_async
async def records_come_back_in_order(address):
    own = await topic(address)
    values = [b"%d" % number for number in range(3_000)]
    assert await publish(address, values, own) == [(0, at) for at in range(3_000)], "offsets do not rise by one"
    assert [record.value for record in await consume(address, own, 3_000)] == values
    async with producer(address) as client:
        await client.send_and_wait(own, None, key=b"k", headers=[("h", b"1")], timestamp_ms=1234)
    place = TopicPartition(own, 0)
    async with consumer(address, own) as client:
        client.seek(place, 3_000)
        (record,) = await read_of(client, 1)
        assert (record.key, record.value, record.timestamp) == (b"k", None, 1234)
        assert record.headers == (("h", b"1"),), record.headers
        assert (await client.offsets_for_times({place: 1235}))[place].offset == 0
        assert await client.end_offsets([place]) == {place: 3_001}


@check_async
async def every_compression_comes_back(address):
    values = [b"%d " % number * 50 for number in range(300)]
    for codec in suite.CODECS:
        own = await topic(address)
        await publish(address, values, own, compression_type=None if codec == "none" else codec)
        assert [record.value for record in await consume(address, own, 300)] == values, codec


@check_async
async def an_idempotent_producer_writes_once_and_in_order(address):
    own = await topic(address, 3)
    values = [b"%d" % number for number in range(900)]
    await publish(address, values, own, 3, enable_idempotence=True, acks="all", max_batch_size=200)
    read = await consume(address, own, 900)
    for partition in range(3):
        of_it = [record.value for record in read if record.partition == partition]
        assert of_it == values[partition::3], f"partition {partition} is out of order"


@check_async
async def transactions_are_whole_or_nothing(address):
    own, transaction = await topic(address, 2), name("transaction")
    async with producer(address, transactional_id=transaction) as first:
        for word, end in [("a", "commit"), ("b", "abort"), ("c", "commit")]:
            await first.begin_transaction()
            sent = [await first.send(own, f"{word}{number}".encode(), partition=number % 2) for number in range(20)]
            await asyncio.gather(*sent)
            await getattr(first, f"{end}_transaction")()
        seen = [record.value for record in await consume(address, own, 40, isolation_level="read_committed")]
        assert sorted(seen) == sorted(f"{word}{number}".encode() for word in "ac" for number in range(20))
        assert len(await consume(address, own, 60, isolation_level="read_uncommitted")) == 60
        async with producer(address, transactional_id=transaction):
            try:
                async with first.transaction():
                    await first.send_and_wait(own, b"late", partition=0)
                raise AssertionError("a producer whose id was taken over could commit")
            except ProducerFenced:
                pass


@check_async
async def offsets_are_committed_with_the_records(address):
    source, target, group = await topic(address), await topic(address), name("group")
    await publish(address, [b"1", b"2", b"3"], source)
    place = TopicPartition(source, 0)
    async with (
        consumer(address, source, group_id=group) as own,
        producer(address, transactional_id=name("transaction")) as writer,
    ):
        for end, expected in [("abort", None), ("commit", 3)]:
            await writer.begin_transaction()
            for record in await read_of(own, 3):
                await writer.send(target, record.value * 2)
            await writer.send_offsets_to_transaction({place: 3}, group)
            await getattr(writer, f"{end}_transaction")()
            committed = await own.committed(place)
            assert committed == expected, f"after {end}, {committed} is committed"
            own.seek(place, 0)


@check
def members_die_with_eager_rebalancing(address):
    own = asyncio.run(topic(address, 6))

    def send(values):
        asyncio.run(publish(address, [value.encode() for value in values], own, 6))

    suite.members_die(address, name("group"), own, send)


@check_async
async def topics_are_made_changed_and_deleted(address):
    own = await topic(address, 2, **{"retention.ms": "60000"})
    resource = lambda configs=None: ConfigResource(ConfigResourceType.TOPIC, own, configs)  # noqa: E731
    async with admin(address) as client:
        await client.create_partitions({own: NewPartitions(5)})
        described = (await client.describe_topics([own]))[0]
        assert sorted(one["partition"] for one in described["partitions"]) == [0, 1, 2, 3, 4], described
        assert "60000" in str(await client.describe_configs([resource()])), "what it was made with"
        await client.alter_configs([resource({"retention.ms": "120000"})])
        assert "120000" in str(await client.describe_configs([resource()])), "what it was changed to"
        await client.delete_topics([own])
        assert own not in await client.list_topics()
        assert len((await client.describe_cluster())["brokers"]) == 1


@check_async
async def groups_and_offsets_are_listed(address):
    own, group = await topic(address), name("group")
    place = TopicPartition(own, 0)
    await publish(address, [b"x"] * 10, own)
    async with consumer(address, own, group_id=group) as reader, admin(address) as client:
        await read_of(reader, 1)
        await reader.commit({place: 4})
        assert group in [known[0] for known in await client.list_consumer_groups()]
        assert "Stable" in str(await client.describe_consumer_groups([group]))
        assert (await client.list_consumer_group_offsets(group))[place].offset == 4
        assert await client.delete_records({place: RecordsToDelete(before_offset=5)}) == {place: 5}
        assert await reader.beginning_offsets([place]) == {place: 5}


@check_async
async def a_service_may_do_what_it_declares(address):
    given = suite.account()
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]:
        login = {
            "security_protocol": given["SECURITY_PROTOCOL"],
            "sasl_mechanism": mechanism,
            "sasl_plain_username": given["SASL_USERNAME"],
            "sasl_plain_password": given["SASL_PASSWORD"],
        }
        await publish(address, [mechanism.encode()], "compat.mine", **login)
        assert await consume(address, "compat.mine", 1, **login)
        try:
            await publish(address, [b"x"], "compat.hidden", **login)
            raise AssertionError("a service published to a topic that it does not declare")
        except TopicAuthorizationFailedError:
            pass


def member(address, group, of):
    """Tells its partitions and what it reads, until it is killed."""
    asyncio.run(read_as_member(address, group, of))


async def read_as_member(address, group, of):
    class Told(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            suite.tell(partitions=[])

        def on_partitions_assigned(self, assigned):
            suite.tell(partitions=[place.partition for place in assigned])

    times = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
    async with consumer(address, group_id=group, **times) as own:
        own.subscribe([of], listener=Told())
        async for record in own:
            await own.commit({TopicPartition(of, record.partition): record.offset + 1})
            suite.tell(record=record.value.decode())


suite.main(member)
