//! Counters for a monitoring system, in the text format of Prometheus 0.0.4.
//!
//! Names and units follow its conventions: `_total` for counters, seconds for times, and buckets
//! that count everything up to their bound.

use std::fmt::Write as _;
use std::sync::Arc;

use atoll_proxy::ErrorKind;
use atoll_proxy::cache::CacheStats;
use atoll_proxy::meter::{BOUNDS_MICROS, Counts, Metered, Series};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::node::Node;

/// What one family of series is called, and what it means.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const REQUESTS: Family = Family {
    name: "requests_total",
    kind: "counter",
    help: "Requests by the class of their status; none where the client left before it.",
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

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What went over each route and each dependency since the node started.
#[utoipa::path(
    get, path = "/v1/metrics",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let mut text = render(&node.series());
    cache(&node.cache(), &mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn render(series: &[Series]) -> String {
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
        for (family, write) in [
            (&REQUESTS, requests as fn(&str, &str, &Counts, &mut String)),
            (&ERRORS, errors),
            (&SECONDS, seconds),
        ] {
            let name = format!("{prefix}{}", family.name);
            // Writing to memory does not fail.
            let _ = writeln!(out, "# HELP {name} {}", family.help);
            let _ = writeln!(out, "# TYPE {name} {}", family.kind);
            for (labels, counts) in &mine {
                write(&name, labels, counts, &mut out);
            }
        }
    }
    out
}

/// How the cache of the edge does.
fn cache(stats: &CacheStats, out: &mut String) {
    for (name, kind, help, value) in [
        (
            "hits_total",
            "counter",
            "Requests that the cache has answered.",
            stats.hits,
        ),
        (
            "misses_total",
            "counter",
            "Requests of cached routes that went to a service.",
            stats.misses,
        ),
        (
            "kept_total",
            "counter",
            "Answers that were put into the cache.",
            stats.kept,
        ),
        ("entries", "gauge", "Pages in the cache.", stats.entries),
        (
            "bytes",
            "gauge",
            "Bytes of memory that the cache uses, about.",
            stats.bytes,
        ),
    ] {
        let _ = writeln!(out, "# HELP atoll_cache_{name} {help}");
        let _ = writeln!(out, "# TYPE atoll_cache_{name} {kind}");
        let _ = writeln!(out, "atoll_cache_{name} {value}");
    }
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

fn requests(name: &str, labels: &str, counts: &Counts, out: &mut String) {
    let classes = CLASSES.iter().zip(counts.by_class);
    for (class, count) in classes.filter(|(_, count)| *count > 0) {
        let _ = writeln!(out, r#"{name}{{{labels},class="{class}"}} {count}"#);
    }
}

fn errors(name: &str, labels: &str, counts: &Counts, out: &mut String) {
    let kinds = ErrorKind::ALL.iter().zip(counts.errors);
    for (kind, count) in kinds.filter(|(_, count)| *count > 0) {
        let reason = kind.name();
        let _ = writeln!(out, r#"{name}{{{labels},reason="{reason}"}} {count}"#);
    }
}

fn seconds(name: &str, labels: &str, counts: &Counts, out: &mut String) {
    let mut sum = 0;
    for (at, count) in counts.buckets.iter().enumerate() {
        sum += count;
        let bound = BOUNDS_MICROS.get(at).map(|micros| *micros as f64 / 1e6);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        let _ = writeln!(out, r#"{name}_bucket{{{labels},le="{bound}"}} {sum}"#);
    }
    let total = counts.micros as f64 / 1e6;
    let _ = writeln!(out, "{name}_sum{{{labels}}} {total}");
    let _ = writeln!(out, "{name}_count{{{labels}}} {sum}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::ServiceName;

    #[test]
    fn series_are_written_as_prometheus_reads_them() {
        let name = |text| ServiceName::new(text).unwrap();
        let mut counts = Counts::default();
        counts.by_class[2] = 3;
        counts.errors[ErrorKind::RateLimited as usize] = 1;
        counts.buckets[0] = 2;
        counts.buckets[15] = 1;
        counts.micros = 40_001_000;
        let text = render(&[
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
        ]);
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
    }
}
