"""The SDK of OpenTelemetry for Python, over both transports, plain and compressed: what it sends is kept, all of it."""

import json
import logging
import os

import grpc
import suite
from admin import admin
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from suite import check, until

SPANS = 100
WAYS = ["grpc-none", "grpc-gzip", "http-none", "http-gzip"]


def exporters(way):
    transport, compression = way.split("-")
    if transport == "grpc":
        kind = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        common = {"endpoint": os.environ["OTLP_GRPC"], "insecure": True, "compression": kind}
        kinds = grpc_traces.OTLPSpanExporter, grpc_metrics.OTLPMetricExporter, grpc_logs.OTLPLogExporter
        return [one(**common) for one in kinds]
    kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    kinds = {
        "traces": http_traces.OTLPSpanExporter,
        "metrics": http_metrics.OTLPMetricExporter,
        "logs": http_logs.OTLPLogExporter,
    }
    base = f"http://{os.environ['OTLP_HTTP']}/v1"
    return [one(endpoint=f"{base}/{path}", compression=kind) for path, one in kinds.items()]


def send(way):
    """Spans with a log record in each, a counter, a histogram; returns the id of the last trace."""
    traces, metrics, logs = exporters(way)
    resource = Resource.create({"service.name": way, "service.version": "r9", "service.instance.id": "one"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(traces))
    views = [View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())]
    reader = PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)
    meters = MeterProvider(resource=resource, metric_readers=[reader], views=views)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    log = logging.getLogger(way)
    log.addHandler(LoggingHandler(logger_provider=loggers))
    log.propagate = False
    meter = meters.get_meter("compat")
    counter = meter.create_counter("compat.count", unit="{thing}")
    histograms = [meter.create_histogram(name, unit="s") for name in ("explicit", "exponential")]
    for number in range(SPANS):
        with tracers.get_tracer("compat").start_as_current_span("work", attributes={"n": number, "list": [1, 2]}) as span:
            span.add_event("done", {"deep": True})
            log.warning("step %d of %s", number, way)
            counter.add(2)
            for histogram in histograms:
                histogram.record(number / SPANS)
    for provider in (tracers, meters, loggers):
        assert provider.force_flush(), f"{way}: {provider}"
        provider.shutdown()
    return f"{span.get_span_context().trace_id:032x}"


SENT = {}


def summed(name, way, stat="value"):
    answer = json.loads(admin("/v1/metrics/series", name=name, match=f"service:{way}", stat=stat))
    values = [value for one in answer["series"] for _, value in one["points"] if value is not None]
    return values


@check
def everything_is_taken(_):
    for way in WAYS:
        SENT[way] = send(way)


@check
def spans_and_records_stand_together_in_their_trace(_):
    for way, trace in SENT.items():
        until(f"the trace of {way}", lambda: f"of {way}" in admin("/v1/logs", trace=trace))
        record = json.loads(admin("/v1/logs", trace=trace).splitlines()[0])
        assert (record["service"], record["level"], record["instance"]) == (way, "warn", "one"), record
        assert '"work"' in admin(f"/v1/traces/{trace}"), way


@check
def no_record_is_missing(_):
    for way in WAYS:
        until(f"the records of {way}", lambda: len(admin("/v1/logs", services=way).splitlines()) == SPANS)


@check
def metrics_add_up(_):
    for way in WAYS:
        assert sum(summed("compat.count", way)) == 2 * SPANS, summed("compat.count", way)
        for name in ("explicit", "exponential"):
            assert all(abs(p95 - 0.95) < 0.06 for p95 in summed(name, way, "p95")), (name, summed(name, way, "p95"))


suite.main(None)
