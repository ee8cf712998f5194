//! Counters for a monitoring system, in the text format of Prometheus 0.0.4, and in OpenMetrics 1.0
//! for those who ask for it.
//!
//! Names and units follow its conventions: `_total` for counters, seconds for times, and buckets
//! that count everything up to their bound.

use std::fmt::Write as _;
use std::sync::Arc;

use atoll_base::InstanceId;
use atoll_proxy::ErrorKind;
use atoll_proxy::cache::CacheStats;
use atoll_proxy::meter::{BOUNDS_MICROS, CLASSES, Counts, Metered, Series};
use atoll_supervisor::{Io, Usage};
use atoll_telemetry::export::Exporter;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse;

use crate::node::{Node, metric};

/// What one family of series is called, and what it means.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const REQUESTS: Family = Family {
    name: "requests_total",
    kind: "counter",
    help: "Requests by the class of their status; a client that left counts as 4xx.",
};
const ERRORS: Family = Family {
    name: "errors_total",
    kind: "counter",
    help: "Requests that did not get a service's complete answer, by the reason.",
};
const SECONDS: Family = Family {
    name: "duration_seconds",
    kind: "histogram",
    help: "Seconds from the head of the request to the last byte of the answer.",
};

/// A series of a family: its name, labels and counts.
type Row<'a> = (&'a str, &'a str, &'a Counts);

const CLASSIC: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What went over each route and each dependency since the node started, and what instances use.
#[utoipa::path(
    get, path = "/v1/metrics",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub async fn metrics(State(node): State<Arc<Node>>, headers: HeaderMap) -> impl IntoResponse {
    let is_open = wants_open(&headers);
    let mut text = render(&node.series(), is_open);
    instances(&node.usage(), &mut text);
    cache(&node.cache(), &mut text);
    sent(&node, &mut text);
    if is_open {
        return ([(CONTENT_TYPE, OPEN)], open(&text));
    }
    ([(CONTENT_TYPE, CLASSIC)], text)
}

/// Prometheus names the formats that it reads, the best first; who knows this one prefers it.
fn wants_open(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.contains("application/openmetrics-text")
    })
}

/// The same as OpenMetrics: a counter is described without `_total`, and the end is marked.
fn open(classic: &str) -> String {
    let mut out = String::with_capacity(classic.len() + 8);
    for line in classic.lines() {
        let described = line.strip_prefix("# ").and_then(|own| {
            let (kind, rest) = own.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((kind, name.strip_suffix("_total")?, rest))
        });
        let _ = match described {
            Some((kind, name, rest)) => writeln!(out, "# {kind} {name} {rest}"),
            None => writeln!(out, "{line}"),
        };
    }
    out.push_str("# EOF\n");
    out
}

/// `exemplars`: with a request for each bucket, which the classic format does not know.
fn render(series: &[Series], exemplars: bool) -> String {
    let mut out = String::new();
    for (prefix, is_mine) in [
        ("atoll_route_", is_route as fn(&Metered) -> bool),
        ("atoll_call_", |of| !is_route(of)),
    ] {
        let mine: Vec<(String, &Counts)> = series
            .iter()
            .filter(|series| is_mine(&series.of))
            .map(|series| (labels(&series.of), &series.counts))
            .collect();
        let mut write = |family: &Family, row: &dyn Fn(&Row<'_>, &mut String)| {
            let name = format!("{prefix}{}", family.name);
            // Writing to memory does not fail.
            let _ = writeln!(out, "# HELP {name} {}", family.help);
            let _ = writeln!(out, "# TYPE {name} {}", family.kind);
            for (labels, counts) in &mine {
                row(&(&name, labels, counts), &mut out);
            }
        };
        write(&REQUESTS, &requests);
        write(&ERRORS, &errors);
        write(&SECONDS, &|row, out| seconds(row, exemplars, out));
    }
    out
}

/// A series of an instance: its name, kind and meaning, and how it is read, for each `direction` if there are such.
type OfInstance = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Usage) -> Vec<(Option<&'static str>, f64)>,
);

#[rustfmt::skip] // A row of the table is a line.
const OF_INSTANCES: [OfInstance; 5] = [
    (metric::CPU, "counter", "Seconds of processor time.", |own| vec![(None, own.cpu_ns as f64 / 1e9)]),
    (metric::MEMORY, "gauge", "Bytes of memory, without file cache that can be dropped.", |own| vec![(None, own.memory as f64)]),
    (metric::THROTTLED, "counter", "Seconds for which a limit of processor time held threads back.", |own| {
        own.throttled.iter().map(|own| (None, own.waited_ns as f64 / 1e9)).collect()
    }),
    (metric::OOM_KILLS, "counter", "Processes that the kernel killed for want of memory.", |own| vec![(None, own.oom_kills as f64)]),
    (metric::IO, "counter", "Bytes from and to disks.", |own| {
        let both = |own: &Io| [(Some("read"), own.read as f64), (Some("write"), own.written as f64)];
        own.io.iter().flat_map(both).collect()
    }),
];

/// What instances use, as the kernel counts it.
fn instances(used: &[(InstanceId, Usage)], out: &mut String) {
    for (name, kind, help, read) in OF_INSTANCES {
        let _ = writeln!(out, "# HELP {name} {help}");
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for (id, usage) in used {
            let labels = format!(r#"service="{}",instance="{id}""#, id.service());
            for (direction, value) in read(usage) {
                let more = direction.map(|own| format!(r#",direction="{own}""#));
                let _ = writeln!(
                    out,
                    "{name}{{{labels}{}}} {value}",
                    more.unwrap_or_default()
                );
            }
        }
    }
}

/// A series without labels: its name, kind, meaning and value.
type Single = (&'static str, &'static str, &'static str, u64);

fn rows(rows: impl IntoIterator<Item = Single>, out: &mut String) {
    for (name, kind, help, value) in rows {
        let _ = writeln!(out, "# HELP atoll_{name} {help}");
        let _ = writeln!(out, "# TYPE atoll_{name} {kind}");
        let _ = writeln!(out, "atoll_{name} {value}");
    }
}

/// How the cache of the edge does.
#[rustfmt::skip] // A row of the table is a line.
fn cache(stats: &CacheStats, out: &mut String) {
    rows([
        ("cache_hits_total", "counter", "Requests that the cache has answered.", stats.hits),
        ("cache_misses_total", "counter", "Requests of cached routes that went to a service.", stats.misses),
        ("cache_kept_total", "counter", "Answers that were put into the cache.", stats.kept),
        ("cache_entries", "gauge", "Pages in the cache.", stats.entries),
        ("cache_bytes", "gauge", "Bytes of memory that the cache uses, about.", stats.bytes),
    ], out);
}

/// How the store does, what came by OTLP, how the metrics among it are kept, and what was sent on.
#[rustfmt::skip] // A row of the table is a line.
fn sent(node: &Node, out: &mut String) {
    let (otlp, metrics) = (node.otlp().counts(), node.metrics().stats());
    let kept = node.telemetry().health();
    rows([
        ("telemetry_dropped_records_total", "counter", "Log records that could not be kept.", kept.dropped),
        ("telemetry_dropped_spans_total", "counter", "Spans that could not be kept.", kept.dropped_spans),
        ("telemetry_left_out_spans_total", "counter", "Spans of ordinary traces that were left out, as sampling wants.", kept.left_out_spans),
        ("otlp_taken_total", "counter", "Spans, log records and metric points that were taken.", otlp.taken),
        ("otlp_refused_total", "counter", "Those that were refused for what they are.", otlp.refused),
        ("otlp_busy_total", "counter", "Requests that were asked to come again.", otlp.busy),
        ("metrics_series", "gauge", "Series that are kept.", metrics.series as u64),
        ("metrics_packed_bytes", "gauge", "Bytes of memory that packed series use.", metrics.packed_bytes as u64),
        ("metrics_refused_total", "counter", "Points that were late, or of too many series.", metrics.refused),
        ("metrics_lost_total", "counter", "Values that never came to the disk.", metrics.lost),
    ], out);
    let Some(export) = node.export().map(Exporter::stats) else { return };
    rows([
        ("export_sent_total", "counter", "Items that were sent on.", export.sent),
        ("export_refused_total", "counter", "Items that were refused where they were sent.", export.refused),
        ("export_dropped_total", "counter", "Items that were dropped for want of room.", export.dropped),
        ("export_waiting", "gauge", "Items that wait on disk to be sent.", export.waiting),
    ], out);
}

const fn is_route(of: &Metered) -> bool {
    matches!(of, Metered::Route { .. })
}

fn labels(of: &Metered) -> String {
    match of {
        Metered::Route {
            service,
            host,
            path,
            methods,
        } => {
            let host = escaped(host.as_deref().unwrap_or_default());
            let (path, methods) = (escaped(path), methods.join(","));
            format!(r#"service="{service}",host="{host}",path="{path}",methods="{methods}""#)
        }
        Metered::Call { caller, callee } => format!(r#"caller="{caller}",callee="{callee}""#),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn requests((name, labels, counts): &Row<'_>, out: &mut String) {
    let classes = CLASSES.iter().zip(counts.by_class);
    for (class, count) in classes.filter(|(_, count)| *count > 0) {
        let _ = writeln!(out, r#"{name}{{{labels},class="{class}"}} {count}"#);
    }
}

fn errors((name, labels, counts): &Row<'_>, out: &mut String) {
    let kinds = ErrorKind::ALL.iter().zip(counts.errors);
    for (kind, count) in kinds.filter(|(_, count)| *count > 0) {
        let reason = kind.name();
        let _ = writeln!(out, r#"{name}{{{labels},reason="{reason}"}} {count}"#);
    }
}

/// Buckets, their sum and their count; with an exemplar for each bucket that has one, if they are wanted.
fn seconds((name, labels, counts): &Row<'_>, exemplars: bool, out: &mut String) {
    let mut sum = 0;
    for (at, (count, exemplar)) in counts.buckets.iter().zip(&counts.exemplars).enumerate() {
        sum += count;
        let bound = BOUNDS_MICROS.get(at).map(|micros| *micros as f64 / 1e6);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        let _ = write!(out, r#"{name}_bucket{{{labels},le="{bound}"}} {sum}"#);
        if let Some(own) = exemplar.as_ref().filter(|_| exemplars) {
            let (took, time) = (own.micros as f64 / 1e6, own.time.as_micros() as f64 / 1e6);
            let _ = write!(out, r##" # {{trace_id="{}"}} {took} {time:.6}"##, own.trace);
        }
        out.push('\n');
    }
    let total = counts.micros as f64 / 1e6;
    let _ = writeln!(out, "{name}_sum{{{labels}}} {total}");
    let _ = writeln!(out, "{name}_count{{{labels}}} {sum}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::ServiceName;
    use atoll_proxy::meter::Exemplar;

    #[test]
    fn series_are_written_as_prometheus_reads_them() {
        let name = |text| ServiceName::new(text).unwrap();
        let mut counts = Counts::default();
        counts.by_class[2] = 3;
        counts.errors[ErrorKind::RateLimited as usize] = 1;
        counts.buckets[0] = 2;
        counts.buckets[15] = 1;
        counts.micros = 40_001_000;
        counts.exemplars[0] = Some(Exemplar {
            trace: atoll_base::TraceId::new(0xa).unwrap(),
            time: atoll_base::Timestamp::from_micros(1_795_400_000_250_000),
            micros: 400,
        });
        let series = [
            Series {
                of: Metered::Route {
                    service: name("orders"),
                    host: Some("a\"b".to_owned()),
                    path: "/orders/{id}".to_owned(),
                    methods: vec!["GET".to_owned(), "PUT".to_owned()],
                },
                counts: counts.clone(),
            },
            Series {
                of: Metered::Call {
                    caller: name("orders"),
                    callee: name("bank"),
                },
                counts,
            },
        ];
        let text = render(&series, false);
        let route = r#"service="orders",host="a\"b",path="/orders/{id}",methods="GET,PUT""#;
        for line in [
            &format!("atoll_route_requests_total{{{route},class=\"2xx\"}} 3"),
            &format!("atoll_route_errors_total{{{route},reason=\"rate-limited\"}} 1"),
            &format!("atoll_route_duration_seconds_bucket{{{route},le=\"0.0005\"}} 2"),
            &format!("atoll_route_duration_seconds_bucket{{{route},le=\"30\"}} 2"),
            &format!("atoll_route_duration_seconds_bucket{{{route},le=\"+Inf\"}} 3"),
            &format!("atoll_route_duration_seconds_sum{{{route}}} 40.001"),
            &format!("atoll_route_duration_seconds_count{{{route}}} 3"),
            r#"atoll_call_requests_total{caller="orders",callee="bank",class="2xx"} 3"#,
            "# TYPE atoll_call_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(!text.contains("5xx"), "what did not happen is left out");
        assert!(!text.contains(" # "), "no exemplars in the classic format");
        let wanted = format!(
            "atoll_route_duration_seconds_bucket{{{route},le=\"0.0005\"}} 2 \
             # {{trace_id=\"0000000000000000000000000000000a\"}} 0.0004 1795400000.250000"
        );
        let open = render(&series, true);
        assert!(open.lines().any(|own| own == wanted), "{wanted}\n{open}");
    }

    #[test]
    fn instances_are_told_with_what_the_kernel_counts_of_them() {
        let id = InstanceId::new(
            ServiceName::new("orders").unwrap(),
            atoll_base::RevisionNumber(2),
            1,
        );
        let usage = Usage {
            cpu_ns: 1_500_000_000,
            memory: 4096,
            io: Some(Io {
                read: 7,
                written: 9,
            }),
            ..Usage::default()
        };
        let mut text = String::new();
        instances(&[(id.clone(), usage)], &mut text);
        let own = format!(r#"service="orders",instance="{id}""#);
        for line in [
            "# TYPE atoll_instance_cpu_seconds_total counter",
            &format!("atoll_instance_cpu_seconds_total{{{own}}} 1.5"),
            &format!("atoll_instance_memory_bytes{{{own}}} 4096"),
            &format!("atoll_instance_oom_kills_total{{{own}}} 0"),
            &format!(r#"atoll_instance_io_bytes_total{{{own},direction="write"}} 9"#),
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        let throttled = format!("{}{{", metric::THROTTLED);
        assert!(!text.contains(&throttled), "it is not counted here");
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let mut headers = HeaderMap::new();
        assert!(!wants_open(&headers));
        let asked =
            "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
        headers.insert(ACCEPT, asked.parse().unwrap());
        assert!(wants_open(&headers));
        let classic =
            "# HELP a_total All of it.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n";
        let wanted =
            "# HELP a All of it.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n# EOF\n";
        assert_eq!(open(classic), wanted);
    }
}
