"""kcat, as Debian packages it: librdkafka of 2022, on the command line."""

import json
import subprocess
import time

import suite
from confluent_kafka.admin import AdminClient, NewTopic
from suite import check, name


def kcat(address, *arguments, given=b"", more=()):
    """Runs it to its end; what it printed."""
    command = ["kcat", "-b", address, *more, *arguments]
    ran = subprocess.run(command, input=given, capture_output=True, timeout=suite.PATIENCE)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr.decode()}"
    return ran.stdout


def login():
    given = suite.account()
    settings = {
        "security.protocol": given["SECURITY_PROTOCOL"],
        "sasl.mechanisms": given["SASL_MECHANISM"],
        "sasl.username": given["SASL_USERNAME"],
        "sasl.password": given["SASL_PASSWORD"],
    }
    return [word for key, value in settings.items() for word in ("-X", f"{key}={value}")]


@check
def records_come_back_in_order(address):
    """The topic is made by asking for it."""
    own = name("topic")
    values = b"".join(b"%d\n" % number for number in range(10_000))
    kcat(address, "-P", "-t", own, given=values)
    assert kcat(address, "-C", "-t", own, "-e", "-q", "-o", "beginning") == values
    assert kcat(address, "-C", "-t", own, "-e", "-q", "-o", "9990") == values[-50:]
    assert kcat(address, "-C", "-t", own, "-e", "-q", "-o", "-3", "-c", "3") == values[-15:]


@check
def keys_and_headers_come_back(address):
    own = name("topic")
    kcat(address, "-P", "-t", own, "-K", ":", "-H", "h=1", given=b"k:v\n")
    told = json.loads(kcat(address, "-C", "-t", own, "-e", "-q", "-J"))
    assert (told["key"], told["payload"], told["headers"]) == ("k", "v", ["h", "1"]), told


@check
def every_compression_comes_back(address):
    values = b"".join(b"%d \n" % number for number in range(1_000))
    for codec in suite.CODECS:
        own = name("topic")
        kcat(address, "-P", "-t", own, "-z", codec, given=values)
        assert kcat(address, "-C", "-t", own, "-e", "-q") == values, codec


@check
def offsets_are_found_by_time(address):
    own = name("topic")
    kcat(address, "-P", "-t", own, given=b"1\n2\n")
    now = int(time.time() * 1000)
    told = kcat(address, "-Q", "-t", f"{own}:0:{now - 3_600_000}")
    assert told.strip() == f"{own} [0] offset 0".encode(), told
    told = kcat(address, "-Q", "-t", f"{own}:0:-1")
    assert told.strip() == f"{own} [0] offset 2".encode(), told


@check
def the_cluster_is_shown(address):
    own = name("topic")
    kcat(address, "-P", "-t", own, given=b"1\n")
    told = json.loads(kcat(address, "-L", "-J"))
    assert told["brokers"] == [{"id": 0, "name": address}], told["brokers"]
    assert own in [topic["topic"] for topic in told["topics"]]


@check
def a_group_goes_on_where_it_stopped(address):
    own, group = name("topic"), name("group")
    read = lambda: kcat(address, "-G", group, "-q", "-e", "-X", "auto.offset.reset=earliest", own)  # noqa: E731
    for values in (b"1\n2\n", b"3\n"):
        kcat(address, "-P", "-t", own, given=values)
        assert read() == values


@check
def members_die(address):
    own = name("topic")
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(own, 6, 1)])[own].result(suite.PATIENCE)

    def send(values):
        for partition in range(6):
            given = "".join(f"{value}\n" for value in values[partition::6]).encode()
            kcat(address, "-P", "-t", own, "-p", str(partition), given=given)

    suite.members_die(address, name("group"), own, send, copies_max=3)


@check
def a_service_may_do_what_it_declares(address):
    kcat(address, "-P", "-t", "compat.mine", given=b"kcat\n", more=login())
    assert b"kcat\n" in kcat(address, "-C", "-t", "compat.mine", "-e", "-q", more=login())
    command = ["kcat", "-b", address, *login(), "-P", "-t", "compat.hidden"]
    ran = subprocess.run(command, input=b"x\n", capture_output=True, timeout=suite.PATIENCE)
    assert b"authorization failed" in ran.stderr.lower(), ran.stderr


def member(address, group, of):
    """A kcat of the group, whose lines are told on; it dies with this process."""
    import ctypes
    import signal

    def die_together():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    times = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300"]
    commits = ["-X", "auto.commit.interval.ms=100", "-X", "auto.offset.reset=earliest"]
    command = ["kcat", "-b", address, *times, *commits, "-G", group, "-u", "-f", "%s\n", of]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_together
    )
    for line in process.stdout:
        if "rebalanced" in line:
            # % Group g rebalanced (memberid m): assigned: topic [0], topic [1]
            assigned = line.partition(": assigned: ")[2]
            partitions = [int(part.split("[")[1].split("]")[0]) for part in assigned.split(",") if "[" in part]
            suite.tell(partitions=partitions)
        elif not line.startswith("%"):
            suite.tell(record=line.strip())


suite.main(member)
