"""The SDK of CloudEvents for Python (`cloudevents`), at both ends: what it sends is taken, what is pushed it reads."""

import http.client
import json
import os

import suite
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from suite import check, until

STRUCTURED = {"content-type": "application/cloudevents+json"}


def ask(method, path, headers=None, body=None):
    """Through the edge, to the service whose EVENTS_URL it is."""
    connection = http.client.HTTPConnection(os.environ["EDGE"].removeprefix("http://"), timeout=suite.PATIENCE)
    connection.request(method, path, body, dict(headers or {}))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status in (200, 201), f"{method} {path}: {answer.status} {text.decode()}"
    return json.loads(text)


def event(number):
    attributes = {"id": f"sdk-{number}", "source": "/compat/sdk", "subject": "ü 100%", "type": "compat.tried"}
    more = {"partitionkey": "k", "datacontenttype": "application/json"}
    return CloudEvent({**attributes, **more}, {"number": number, "text": "ü €"})


def same(read, sent):
    theirs, own = read.get_attributes(), sent.get_attributes()
    for name in ("id", "source", "type", "subject", "time", "partitionkey", "datacontenttype"):
        assert theirs[name] == own[name], f"{name}: {theirs[name]!r}, sent {own[name]!r}"
    assert read.get_data() == sent.get_data(), f"{read.get_data()!r}, sent {sent.get_data()!r}"


SENT = [event(number) for number in range(4)]


@check
def what_the_sdk_sends_is_taken(_):
    """Binary and structured mode."""
    for number, sent in enumerate(SENT):
        message = (to_binary_event if number % 2 else to_structured_event)(sent)
        ask("POST", "/events/topics/compat.events", message.headers, message.body)


@check
def the_sdk_reads_what_is_read_over_http(_):
    read = ask("GET", "/events/topics/compat.events?from=earliest")["events"]
    assert len(read) == len(SENT), read
    for one, sent in zip(read, SENT):
        same(from_http_event(HTTPMessage(STRUCTURED, json.dumps(one).encode())), sent)


@check
def the_sdk_reads_what_is_pushed(_):
    """In the order of their key."""

    def pushed():
        all_of_them = ask("GET", "/pushed")
        return all_of_them if len(all_of_them) >= len(SENT) else None

    for one, sent in zip(until("all pushes", pushed), SENT):
        read = from_http_event(HTTPMessage(one["headers"], one["body"].encode()))
        same(read, sent)
        assert read.get_attributes()["topic"] == "compat.events", read.get_attributes()


suite.main(None)
