"""librdkafka over TLS, as a service of an application whose broker has a certificate.

The sizes of answers matter: what a TLS library keeps to itself when the way is full has to come all the same.
"""

import os
import time

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from node import Node

RECORDS = 20_000
# So that the ends of answers fall anywhere within what the way takes.
SIZES = [137, 1_009, 4_099]
PATIENCE = 60


def main():
    node = Node(os.environ["ATOLL"], tls=True)
    try:
        node.up()
        check(node)
    finally:
        node.down()
        node.remove()


def check(node):
    account = node.account()
    assert account["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL", account
    login = {
        "bootstrap.servers": account["KAFKA_BOOTSTRAP_SERVERS"],
        "security.protocol": account["KAFKA_SECURITY_PROTOCOL"],
        "sasl.mechanism": account["KAFKA_SASL_MECHANISM"],
        "sasl.username": account["KAFKA_SASL_USERNAME"],
        "sasl.password": account["KAFKA_SASL_PASSWORD"],
        "ssl.ca.location": account["KAFKA_SSL_CA_LOCATION"],
    }
    values = [bytes([number % 251]) * SIZES[number % len(SIZES)] for number in range(RECORDS)]
    producer = Producer({**login, "enable.idempotence": True, "queue.buffering.max.messages": RECORDS})
    for value in values:
        producer.produce("compat.mine", value, partition=0)
    assert producer.flush(PATIENCE) == 0, "not all was acknowledged"
    print("ok: publishes with an account of its own")

    # A narrow way, so that it is full now and then.
    narrow = {"socket.receive.buffer.bytes": 16_384, "fetch.message.max.bytes": 333_333, "check.crcs": True}
    consumer = Consumer({**login, **narrow, "group.id": "tls", "auto.offset.reset": "earliest"})
    consumer.subscribe(["compat.mine"])
    read, end = [], time.monotonic() + PATIENCE
    while len(read) < RECORDS:
        assert time.monotonic() < end, f"{len(read)} of {RECORDS} came"
        for message in consumer.consume(500, 1.0):
            assert message.error() is None, message.error()
            read.append(message.value())
    consumer.close()
    assert read == values, "other values came"
    print("ok: reads all of it through a narrow way, in order")

    for wrong in [{"security.protocol": "SASL_PLAINTEXT"}, {"ssl.ca.location": "/etc/ssl/certs/ca-certificates.crt"}]:
        admin = AdminClient({**login, **wrong, "log_level": 0})
        try:
            admin.list_topics(timeout=3)
        except KafkaException:
            continue
        raise AssertionError(f"it was let in with {wrong}")
    print("ok: nobody speaks in the clear, or believes another issuer")


main()
