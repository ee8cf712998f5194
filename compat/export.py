"""A server of gRPC takes what a node sends on, over TLS: also after it was away, and after it had no room."""

import os
import queue
import re
import time
import urllib.request
from concurrent import futures

import grpc
from admin import admin
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from node import Node, free_port
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PATIENCE = 60
SECRET = "Bearer of the collector"
REJECTED = 1


class Collector:
    """Refuses the first requests, then takes all; what came is in `came`: an attempt, and whether it was taken."""

    def __init__(self):
        self.came = queue.Queue()
        self.attempts = 0
        self.logs = 0

    def Export(self, request, context):
        said = dict(context.invocation_metadata())
        assert said["authorization"] == SECRET, said
        self.attempts += 1
        self.came.put((request, self.attempts > 2))
        if self.attempts == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if self.attempts == 2:
            # Without a time, this would be a refusal for good.
            info = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))
            status = status_pb2.Status(code=8, message="no room")
            status.details.add().Pack(info)
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return self.answer(request)

    def answer(self, request):
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            return trace_service_pb2.ExportTraceServiceResponse()
        if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest):
            return metrics_service_pb2.ExportMetricsServiceResponse()
        self.logs += 1
        partial = logs_service_pb2.ExportLogsPartialSuccess(rejected_log_records=REJECTED, error_message="one too old")
        return logs_service_pb2.ExportLogsServiceResponse(partial_success=partial)


def serve(collector, folder, address):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(collector, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector, server)
    pair = (folder / "certs/dev-key.pem").read_bytes(), (folder / "certs/dev.pem").read_bytes()
    assert server.add_secure_port(address, grpc.ssl_server_credentials([pair])), f"{address} is taken"
    server.start()
    return server


def main():
    address = f"127.0.0.1:{free_port()}"
    keys = [
        f'export = "https://{address}"',
        'export_protocol = "grpc"',
        'export_headers = "collector.headers"',
        'export_ca = "ca.pem"',
    ]
    node = Node(os.environ["ATOLL"], tls=True, telemetry="\n".join(keys) + "\n")
    (node.folder / "collector.headers").write_text(f"authorization: {SECRET}\n")
    collector = Collector()
    server = serve(collector, node.folder, address)
    try:
        node.up()
        os.environ["ADMIN"] = str(node.folder / ".atoll/run/admin.sock")
        check(node, collector)
    finally:
        node.down()
        server.stop(0)
        node.remove()


def check(node, collector):
    first, second, third = (collector.came.get(timeout=PATIENCE) for _ in range(3))
    assert [taken for _, taken in (first, second, third)] == [False, False, True]
    assert first[0] == second[0] == third[0], "something else came after a refusal"
    print("ok: what was not taken comes again, as it was")

    urllib.request.urlopen(f"{node.edge}/pushed").close()
    missing = {"spans", "log_records", "metrics"}
    request, end = third[0], time.monotonic() + PATIENCE
    while True:
        text = str(request)
        missing = {kind for kind in missing if f"{kind} {{" not in text}
        if not missing:
            break
        assert time.monotonic() < end, f"no {missing} came"
        request, _ = collector.came.get(timeout=PATIENCE)
    print("ok: spans, log records and metrics come")

    while not refused():
        assert time.monotonic() < end, f"of {collector.logs} batches of logs nothing counts as refused"
        collector.came.get(timeout=PATIENCE)
    counted = refused()
    assert counted <= collector.logs * REJECTED, (counted, collector.logs)
    print("ok: what it did not take of a batch is counted")


def refused():
    return int(re.search(r"^atoll_export_refused_total (\d+)$", admin("/v1/metrics"), re.MULTILINE)[1])


main()
