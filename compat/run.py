"""Runs all suites of clients beside each other against one `atoll up`, then those that have one of their own.

    ATOLL=…/atoll python run.py [SUITE…]
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from node import Node

HERE = Path(__file__).parent
SUITES = {
    "librdkafka": [sys.executable, HERE / "suites/librdkafka.py"],
    "kafka-python": [sys.executable, HERE / "suites/kafka_python.py"],
    "aiokafka": [sys.executable, HERE / "suites/aiokafka_client.py"],
    "kcat": [sys.executable, HERE / "suites/kcat.py"],
    "cloudevents": [sys.executable, HERE / "suites/cloudevents_sdk.py"],
    "opentelemetry": [sys.executable, HERE / "suites/opentelemetry_sdk.py"],
    "opentelemetry-node": ["node", HERE / "node/opentelemetry.mjs"],
    "prometheus": [sys.executable, HERE / "suites/prometheus.py"],
    "rdkafka": [os.environ.get("RDKAFKA", "")],
    "tls": [sys.executable, HERE / "tls.py"],
    "parquet": [sys.executable, HERE / "parquet.py"],
    "export": [sys.executable, HERE / "export.py"],
    "openapi": [sys.executable, HERE / "openapi.py"],
    "crash": [sys.executable, HERE / "crash.py"],
}
# They wait more than they work: most of the time is sessions of dead members that have to end.
TOGETHER = ["librdkafka", "kafka-python", "aiokafka", "kcat", "cloudevents", "opentelemetry", "opentelemetry-node", "prometheus", "rdkafka"]


def main():
    wanted = sys.argv[1:] or [name for name, command in SUITES.items() if command != [""]]
    begun = time.monotonic()
    failed = []
    together = [name for name in wanted if name in TOGETHER]
    if together:
        node = Node(os.environ["ATOLL"])
        try:
            node.up()
            environment = {**os.environ, **node.account(), **node.telemetry(), **node.console(), "EDGE": node.edge}
            running = {name: start(SUITES[name] + [node.address], environment) for name in together}
            failed += [name for name, process in running.items() if not ended_well(name, process)]
            if failed:
                print(node.errors.read_text())
        finally:
            node.down()
            node.remove()
    for name in ["tls", "parquet", "export", "openapi", "crash"]:
        if name in wanted and not ended_well(name, start(SUITES[name], os.environ)):
            failed.append(name)
    print(f"{len(wanted)} suites in {time.monotonic() - begun:.0f}s; failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


def start(command, environment):
    # The suites that share a node have what those with one of their own have.
    environment = {**environment, "PYTHONPATH": str(HERE)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended_well(name, process):
    """Waits for it; shows what it printed, all of it if it failed."""
    told, _ = process.communicate()
    lines = told.splitlines()
    if process.returncode == 0:
        lines = [line for line in lines if line.startswith("ok")]
    print(f"{name}:", *lines, sep="\n  ", flush=True)
    return process.returncode == 0


main()
