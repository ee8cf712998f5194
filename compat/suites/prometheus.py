"""Prometheus scrapes the node through the console's port, in both formats; promtool and the library for Python read them.

This Prometheus always asks for OpenMetrics first. For the classic format a program stands between that asks for nothing.
"""

import http.client
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import suite
from admin import admin
from prometheus_client import parser as classic
from prometheus_client.openmetrics import parser as openmetrics
from suite import check, until

CONSOLE = urllib.parse.urlsplit(os.environ["CONSOLE"]).netloc
OPEN = {"Accept": "application/openmetrics-text;version=1.0.0"}
REQUESTS = "atoll_route_requests_total"


class Classic(BaseHTTPRequestHandler):
    """Passes a scrape on without saying what it can read."""

    def do_GET(self):
        console = http.client.HTTPConnection(CONSOLE, timeout=suite.PATIENCE)
        console.request("GET", self.path, headers={"Authorization": self.headers["Authorization"]})
        answer = console.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Prometheus:
    """One of its own, on a port that the system chooses."""

    def __init__(self, folder, jobs):
        # JSON is YAML.
        # A machine that stands still for a second or two is no fault of who is scraped.
        config = {"global": {"scrape_interval": "5s", "scrape_timeout": "5s"}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(json.dumps(config))
        subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], check=True, capture_output=True)
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += ["--web.listen-address=127.0.0.1:0", "--log.level=info"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r'"?Listening on"? address=(\S+)', line)
            if found:
                self.address = found[1]
                break
        else:
            raise AssertionError("prometheus has not begun to listen")
        # Whatever it says from now on is read, so that it never waits for us.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def ask(self, path, **query):
        # A look each tenth of a second; two processors are for those that are looked at.
        time.sleep(0.1)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def value(self, query):
        result = self.ask("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None

    def stop(self):
        self.process.terminate()
        self.process.wait()


def job(name, address, token):
    credentials = {"authorization": {"credentials": token}, "metrics_path": "/v1/metrics"}
    return {"job_name": name, "static_configs": [{"targets": [address]}], **credentials}


def knock(times):
    for _ in range(times):
        with urllib.request.urlopen(f"{os.environ['EDGE']}/pushed") as answer:
            assert answer.status == 200


def counted(text, name=REQUESTS):
    """The sum of a counter in what /v1/metrics answers."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{"))


@check
def promtool_has_nothing_to_say(_):
    knock(5)
    checked = subprocess.run(["promtool", "check", "metrics"], input=admin("/v1/metrics"), capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", ""), checked


@check
def the_library_reads_both_formats_and_finds_the_same(_):
    families = list(classic.text_string_to_metric_families(admin("/v1/metrics")))
    strict = list(openmetrics.text_string_to_metric_families(admin("/v1/metrics", OPEN)))
    assert {family.name: family.type for family in families} == {family.name: family.type for family in strict}
    assert all(family.documentation for family in strict)
    named = {family.name: family for family in strict}
    assert {"atoll_route_requests", "atoll_route_duration_seconds"} <= named.keys()
    used = named["atoll_instance_memory_bytes"].samples
    assert used and all(own.value > 0 and own.labels["instance"] for own in used), used
    assert any(own.value > 0 for own in named["atoll_instance_cpu_seconds"].samples), "nobody used the processor"
    exemplars = [own.exemplar for own in named["atoll_route_duration_seconds"].samples if own.exemplar]
    assert exemplars, "no bucket leads to a trace"
    trace = exemplars[-1].labels["trace_id"]
    found = until("the trace is kept", lambda: json.loads(admin(f"/v1/traces/{trace}"))["spans"])
    assert found[0]["trace"] == trace, found


@check
def prometheus_scrapes_and_counts_as_we_do(_, later):
    console, token = CONSOLE, os.environ["TOKEN"]
    between = ThreadingHTTPServer(("127.0.0.1", 0), Classic)
    later.callback(between.shutdown)
    threading.Thread(target=between.serve_forever, daemon=True).start()
    folder = Path(later.enter_context(tempfile.TemporaryDirectory()))
    jobs = [job("open", console, token), job("classic", f"127.0.0.1:{between.server_port}", token)]
    prometheus = Prometheus(folder, [*jobs, job("stranger", console, "atoll_console_none")])
    later.callback(prometheus.stop)

    for name in ("open", "classic"):
        until(f"{name} is up", lambda: prometheus.value(f'up{{job="{name}"}}') == 1)
        query = f'sum({REQUESTS}{{job="{name}"}})'
        for _ in range(3):
            knock(20)
            least = counted(admin("/v1/metrics"))
            seen = until(f"{name} has counted {least}", lambda: (prometheus.value(query) or 0) >= least and prometheus.value(query))
            assert seen <= counted(admin("/v1/metrics")), f"{name} counts {seen}"
        until(f"{name} has rates", lambda: (prometheus.value(f'sum(rate({REQUESTS}{{job="{name}"}}[1m]))') or 0) > 0)
        slow = f'histogram_quantile(0.95, sum by (le) (rate(atoll_route_duration_seconds_bucket{{job="{name}"}}[1m])))'
        until(f"{name} has quantiles", lambda: 0 < (prometheus.value(slow) or 0) <= 30)

    # A minute of scrapes, none of which failed.
    begun = time.monotonic()
    while (prometheus.value('count_over_time(up{job="open"}[2m])') or 0) < 13:
        assert time.monotonic() - begun < 120, "Prometheus does not scrape every five seconds"
        knock(1)
        time.sleep(1)
    for name in ("open", "classic"):
        assert prometheus.value(f'min_over_time(up{{job="{name}"}}[2m])') == 1, name

    targets = {own["labels"]["job"]: own for own in prometheus.ask("targets")["activeTargets"]}
    assert [targets[name]["lastError"] for name in ("open", "classic")] == ["", ""], targets
    assert "401" in targets["stranger"]["lastError"], targets["stranger"]
    kinds = {own["metric"]: own["type"] for own in prometheus.ask("targets/metadata", match_target='{job="classic"}')}
    assert kinds[REQUESTS] == "counter" and kinds["atoll_route_duration_seconds"] == "histogram", kinds


suite.main(None)
