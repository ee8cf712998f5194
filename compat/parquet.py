"""DuckDB and Polars read the files of telemetry as they are, while the node runs and after it.

What they count and join is what the API answers; the queries are those of docs/telemetry.md, letter by letter.
"""

import json
import logging
import os
import re
import urllib.request
from pathlib import Path

import duckdb
import polars
from admin import admin
from node import Node
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import StatusCode

DOCS = Path(__file__).parent.parent / "docs/telemetry.md"
LOGS = "'.atoll/telemetry/logs/*/*.parquet'"
SPANS = "'.atoll/telemetry/spans/*/*.parquet'"
TRACES = 200
KNOCKS = 30
# A name with everything that a text may have: it comes back as it was.
ODD = "naïve ☂ \"quoted\" \\ \n'); DROP TABLE"


class Documented(RandomIdGenerator):
    """Its first trace is the one that the documentation asks for."""

    def __init__(self, trace):
        self.trace = trace

    def generate_trace_id(self):
        trace, self.trace = self.trace, None
        return trace or super().generate_trace_id()


def documented():
    """The queries of the documentation, and the trace in them."""
    block = re.search(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    queries = [query for query in block.split(";") if query.strip()]
    return queries, re.search(r"from_hex\('([0-9a-f]{32})'\)", block)[1]


def send(node, service, trace):
    """Traces of two spans, the inner one failed in each tenth, with a log record in each span."""
    resource = Resource.create({"service.name": service})
    base = f"http://{node.otlp['otlp_http']}/v1"
    tracers = TracerProvider(resource=resource, id_generator=Documented(trace))
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/traces")))
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{base}/logs")))
    log = logging.getLogger(service)
    log.addHandler(LoggingHandler(logger_provider=loggers))
    log.propagate, log.level = False, logging.INFO
    tracer = tracers.get_tracer("compat")
    for number in range(TRACES):
        with tracer.start_as_current_span(f"outer of {service}", attributes={"n": number, "odd": ODD}):
            log.info("begun %d: %s", number, ODD)
            with tracer.start_as_current_span("inner") as inner:
                if number % 10 == 0:
                    inner.set_status(StatusCode.ERROR, "on purpose")
                    log.error("failed %d", number)
    for provider in (tracers, loggers):
        assert provider.force_flush(), provider
        provider.shutdown()
    for _ in range(KNOCKS):
        with urllib.request.urlopen(f"{node.edge}/pushed") as answer:
            answer.read()


def sql(query):
    return duckdb.sql(query).fetchall()


def same(what, theirs, ours):
    assert theirs == ours, f"{what}: the files have {theirs}, the API says {ours}"


def counted(query):
    """Records by service, as the API counts them."""
    return {own["value"]: own["count"] for own in json.loads(admin("/v1/logs/facets", q=query))["service"]}


def files_are_read(services):
    """Counts and texts of all that these have sent."""
    mine = f"service IN ({', '.join(map(repr, services))})"
    for level in ("info", "error"):
        theirs = dict(sql(f"SELECT service, count(*) FROM {LOGS} WHERE level = '{level}' AND {mine} GROUP BY service"))
        ours = counted(f"level:{level}")
        same(f"{level} records", theirs, {name: ours[name] for name in services})
    joined = f"""SELECT lower(hex(s.trace)), count(DISTINCT s.span), count(DISTINCT l.number)
        FROM {SPANS} s JOIN {LOGS} l ON l.trace = s.trace AND s.{mine} GROUP BY s.trace"""
    joined = {trace: (spans, records) for trace, spans, records in sql(joined)}
    same("traces with records", len(joined), TRACES * len(services))
    for trace in list(joined)[:: TRACES // 10]:
        own = json.loads(admin(f"/v1/traces/{trace}"))
        same(trace, joined[trace], (len(own["spans"]), len(own["logs"])))
        theirs = sql(f"SELECT epoch_us(start), duration_us, name, attributes FROM {SPANS} WHERE trace = from_hex('{trace}') ORDER BY start, name")
        for (_, duration, name, attributes), span in zip(theirs, sorted(own["spans"], key=lambda span: (span["start"], span["name"]))):
            same(trace, (duration, name, json.loads(attributes or "{}")), (span["duration_us"], span["name"], span["attributes"]))
    odd = sql(f"SELECT DISTINCT attributes->>'odd' FROM {SPANS} WHERE name LIKE 'outer of %'")
    assert odd == [(ODD,)], odd
    numbers = sql(f"SELECT count(*), count(DISTINCT number) FROM {LOGS}")[0]
    assert numbers[0] == numbers[1], f"{numbers}: a record is there twice"


def documented_queries_answer(queries, trace, services):
    errors, of_trace, routes = (sql(query) for query in queries)
    ours = counted("level:error")
    same("errors by service", {name: count for name, count, _ in errors}, {name: ours[name] for name in services})
    own = sorted(json.loads(admin(f"/v1/traces/{trace}"))["spans"], key=lambda span: span["start"])
    same("the documented trace", [(service, name) for _, service, name, _, _ in of_trace], [(span["service"], span["name"]) for span in own])
    assert any((service, route) == ("probe", "/**") and p99 > 0 for service, route, p99 in routes), routes


def polars_reads_them_too(services):
    for kind, wanted in (("logs", TRACES + TRACES // 10), ("spans", 2 * TRACES)):
        frame = polars.scan_parquet(f".atoll/telemetry/{kind}/*/*.parquet")
        counts = frame.filter(polars.col("service").is_in(services)).group_by("service").len().collect()
        assert dict(counts.iter_rows()) == {name: wanted for name in services}, counts


def main():
    queries, trace = documented()
    node = Node(os.environ["ATOLL"])
    try:
        node.up()
        os.environ.update(node.telemetry())
        os.chdir(node.folder)
        send(node, "first", int(trace, 16))
        node.down()
        # A node that stops makes files of what it has in memory. The next one has them open from the start.
        node.up()
        send(node, "second", None)
        files_are_read(["first"])
        documented_queries_answer(queries, trace, ["first"])
        polars_reads_them_too(["first"])
        print("ok: what is in files is read while the node runs")
        node.down()
        polars_reads_them_too(["first", "second"])
        node.up()
        files_are_read(["first", "second"])
        documented_queries_answer(queries, trace, ["first", "second"])
        print("ok: when it was stopped, all of it")
    finally:
        node.down()
        node.remove()


if __name__ == "__main__":
    main()
