//! Searches from outside: pages, counts, surroundings, traces; hot and cold rows alike.

use std::path::Path;
use std::time::Duration;

use atoll_base::{HumanDuration, RevisionNumber, ServiceName, SpanId, Timestamp, TraceId};
use atoll_telemetry::{
    Filter, Handle, Kind, NewRecord, PageQuery, Service, Span, SpanKind, SpanStatus,
    TelemetryConfig, TraceOrder, TraceQuery, critical_path, own_times,
};

use crate::{files, line, start};

/// In the year 2100, so that the store neither removes it nor puts files together beside the test: it does that with
/// those of an hour that is over.
fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(4_102_444_800_000_000 + micros)
}

fn record(service: &str, message: &str, micros: i64) -> NewRecord {
    NewRecord {
        time: at(micros),
        ..line(service, message)
    }
}

/// A store with half of the rows in a file and half in memory.
async fn half(dir: &Path, first: Vec<NewRecord>, second: Vec<NewRecord>) -> Handle {
    let log = start(dir);
    log.logs(first);
    log.close().await;
    drop(log);
    let log = start(dir);
    log.logs(second);
    log
}

fn query(text: &str, limit: usize) -> PageQuery {
    PageQuery {
        filter: Filter::parse(Kind::Logs, text).unwrap(),
        limit,
        before: None,
    }
}

async fn pages(log: &Handle, mut query: PageQuery) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = log.search(query.clone()).await.unwrap();
        assert!(page.records.len() <= query.limit);
        all.extend(page.records.into_iter().map(|record| record.message));
        match page.next {
            Some(next) => query.before = Some(next.to_string().parse().unwrap()),
            None => return all,
        }
    }
}

#[tokio::test]
async fn pages_come_newest_first_and_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Many at the same moment: the number decides.
    let of = |range: std::ops::Range<i64>| -> Vec<NewRecord> {
        let service = |n: i64| if n % 2 == 0 { "orders" } else { "payments" };
        range
            .map(|n| record(service(n), &format!("line {n}"), n / 4))
            .collect()
    };
    let log = half(dir.path(), of(0..60), of(60..100)).await;
    let expected: Vec<String> = (0..100).rev().map(|n| format!("line {n}")).collect();
    for limit in [1, 7, 33, 100, 200] {
        assert_eq!(pages(&log, query("", limit)).await, expected, "{limit}");
    }
    let orders = pages(&log, query("service:orders LINE -\"line 4\"", 9)).await;
    assert_eq!(orders.len(), 50 - 6);
    assert_eq!(orders[0], "line 98");
    let between = PageQuery {
        filter: Filter::all(Kind::Logs).since(at(5)).until(at(6)),
        limit: 100,
        before: None,
    };
    assert_eq!(pages(&log, between).await.len(), 8);
}

#[tokio::test]
async fn pages_over_files_of_the_same_time_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let every_other = |from: i64| -> Vec<NewRecord> {
        let numbers = (from..100).step_by(2);
        numbers
            .map(|n| record("orders", &format!("line {n}"), n))
            .collect()
    };
    for from in [0, 1] {
        half(dir.path(), every_other(from), Vec::new())
            .await
            .close()
            .await;
    }
    let log = start(dir.path());
    let expected: Vec<String> = (0..100).rev().map(|n| format!("line {n}")).collect();
    for text in ["", "line", "service:orders", "service:orders line"] {
        assert_eq!(pages(&log, query(text, 3)).await, expected, "{text}");
    }
}

#[tokio::test]
async fn rows_that_cannot_hold_a_text_are_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let file = |from: i64| {
        (from..from + 50).map(|n| record("a", &format!("order {n} of id-Ab4f9{n:04}2f3577c"), n))
    };
    half(dir.path(), file(100).collect(), Vec::new())
        .await
        .close()
        .await;
    let log = half(dir.path(), file(1000).collect(), Vec::new()).await;
    for (text, rows, looked_at) in [
        ("nobody said this", 0, 0),
        ("order 147 of", 1, 50),
        ("ORDER 1007 OF", 1, 50),
        ("AB4F910072F3577", 1, 50),
        ("2f3577c", 100, 100),
        ("order", 100, 100),
    ] {
        let page = log
            .search(query(&format!("\"{text}\""), 200))
            .await
            .unwrap();
        assert_eq!(
            (page.records.len(), page.scanned),
            (rows, looked_at),
            "{text}"
        );
    }
    // Where a text may be missing, every row is looked at.
    for text in ["NOT \"nobody said this\"", "order OR \"nobody said this\""] {
        assert_eq!(
            log.search(query(text, 200)).await.unwrap().records.len(),
            100,
            "{text}"
        );
    }
}

#[tokio::test]
async fn records_are_counted_over_time_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = vec![
        record("orders", "ERROR a", 0),
        record("orders", "WARN b", 10),
    ];
    let second = vec![
        record("payments", "INFO c", 10),
        record("payments", "d", 20),
    ];
    let log = half(dir.path(), first, second).await;
    let all = Filter::all(Kind::Logs);
    let counts = log
        .histogram(all.clone(), (at(0), at(20)), 2)
        .await
        .unwrap();
    let buckets: Vec<_> = counts
        .buckets
        .iter()
        .map(|b| (b.total, b.warn, b.error))
        .collect();
    assert_eq!((counts.step_us, buckets), (11, vec![(3, 1, 1), (1, 0, 0)]));
    let facets = log.facets(all).await.unwrap();
    let pairs = |facets: &[atoll_telemetry::Facet]| -> Vec<(String, u64)> {
        facets.iter().map(|f| (f.value.clone(), f.count)).collect()
    };
    assert_eq!(
        pairs(&facets.service),
        [("orders".into(), 2), ("payments".into(), 2)]
    );
    assert_eq!(
        pairs(&facets.level),
        [("error".into(), 1), ("info".into(), 1), ("warn".into(), 1)]
    );
    assert_eq!(facets.instance.len(), 2);
}

#[tokio::test]
async fn what_surrounds_a_record_is_of_its_instance() {
    let dir = tempfile::tempdir().unwrap();
    let first = (0..6)
        .map(|n| record("orders", &format!("o{n}"), n))
        .collect();
    let mut second: Vec<NewRecord> = vec![record("payments", "p", 6)];
    second.extend((7..10).map(|n| record("orders", &format!("o{n}"), n)));
    let log = half(dir.path(), first, second).await;
    let page = log.search(query("o5", 1)).await.unwrap();
    let around = log.context(page.records[0].number, 2, 2).await.unwrap();
    let around: Vec<&str> = around
        .iter()
        .map(|record| record.message.as_str())
        .collect();
    assert_eq!(around, ["o3", "o4", "o5", "o7", "o8"]);
    assert!(log.context(1_000_000, 2, 2).await.unwrap().is_empty());
}

fn trace(number: u128) -> TraceId {
    TraceId::new(number).unwrap()
}

/// A passage of a request, longer the higher its id.
fn hop(of: u128, id: u64, caller: &str, service: &str, name: &str) -> Span {
    Span {
        service: ServiceName::new(service).unwrap(),
        instance: if name == "GET" { "" } else { "x-r1-1" }.to_owned(),
        name: name.to_owned(),
        caller: Some(caller.to_owned()),
        status: if id == 1 {
            SpanStatus::Error
        } else {
            SpanStatus::Ok
        },
        attributes: r#"{"url.path":"/x","http.request.body.size":2,"http.response.body.size":5}"#
            .to_owned(),
        ..span(of, id, 0, 0, 100 * id)
    }
}

/// Passages in a file and in memory.
async fn hops(dir: &Path) -> Handle {
    let store = start(dir);
    store.spans([
        hop(1, 1, "edge", "orders", "GET /orders/{id}"),
        hop(1, 2, "orders", "bank", "POST /pay"),
        hop(1, 3, "orders", "bank", "GET"),
    ]);
    store.close().await;
    drop(store);
    let store = start(dir);
    let own = Span {
        caller: None,
        ..hop(1, 4, "", "orders", "GET /orders/{id}")
    };
    store.spans([
        own,
        hop(2, 5, "edge", "orders", "GET /orders/{id}"),
        hop(1, 6, "orders", "bank", "POST /pay"),
        hop(1, 7, "cart", "orders", "GET /orders/{id}"),
    ]);
    store
}

#[tokio::test]
async fn batches_that_were_put_together_in_memory_count_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path());
    // Each is a batch of its own; some become one.
    for round in 0..8 {
        let failed = hop(1, 1, "edge", "orders", "GET");
        let well = hop(1, 2 + round, "edge", "orders", "GET /a");
        store.spans(if round % 2 == 0 {
            [failed, well]
        } else {
            [well, failed]
        });
        store.flush().await.unwrap();
    }
    let edges = store.edges(Filter::all(Kind::Spans)).await.unwrap();
    assert_eq!((edges[0].calls.count(), edges[0].calls.errors()), (16, 8));
    let uses = store.uses(Filter::all(Kind::Spans)).await.unwrap();
    let busy: Vec<_> = uses
        .iter()
        .map(|own| (own.route.as_str(), own.requests, own.busy_us))
        .collect();
    assert_eq!(
        busy,
        [
            ("GET", 8, 0),
            ("GET /a", 8, (2..10).map(|id| 100 * id).sum())
        ]
    );
    let found = Filter::parse(Kind::Spans, "service:orders \"GET /a\" url.path:/x").unwrap();
    assert_eq!(store.routes(found).await.unwrap()[0].calls.count(), 8);
}

#[tokio::test]
async fn what_looks_like_a_letter_is_none_in_memory_and_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let line = "\u{212a}elvin12 of \u{212a}elvin12";
    let log = half(
        dir.path(),
        vec![record("a", line, 1)],
        vec![record("a", line, 2)],
    )
    .await;
    for (text, rows) in [
        ("kelvin12", 0),
        ("of", 2),
        ("elvin12 of", 2),
        ("\u{212a}elvin12", 2),
    ] {
        let page = log.search(query(&format!("\"{text}\""), 10)).await.unwrap();
        assert_eq!(page.records.len(), rows, "{text}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_also_across_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = hops(dir.path()).await;
    let routes = store.routes(Filter::all(Kind::Spans)).await.unwrap();
    let told: Vec<_> = routes
        .iter()
        .map(|own| {
            (
                own.service.as_str(),
                own.route.as_str(),
                own.calls.count(),
                own.calls.errors(),
            )
        })
        .collect();
    let expected = [
        ("bank", "GET", 1, 0),
        ("bank", "POST /pay", 2, 0),
        ("orders", "GET /orders/{id}", 3, 1),
    ];
    assert_eq!(told, expected, "what a service sends itself is not counted");
    assert!(
        (500..570).contains(&routes[2].calls.percentile(50)),
        "{routes:?}"
    );
}

#[tokio::test]
async fn work_is_counted_by_caller_also_across_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = hops(dir.path()).await;
    let all = || Filter::all(Kind::Spans);
    let uses = store.uses(all()).await.unwrap();
    let told: Vec<_> = uses
        .iter()
        .map(|own| {
            let (caller, route) = (own.caller.as_str(), own.route.as_str());
            (caller, route, own.requests, own.busy_us, own.bytes)
        })
        .collect();
    let expected = [
        ("cart", "GET /orders/{id}", 1, 700, 7),
        ("edge", "GET /orders/{id}", 2, 600, 14),
        ("orders", "GET", 1, 0, 7),
        ("orders", "POST /pay", 2, 800, 14),
    ];
    assert_eq!(told, expected);
    // Three calls in a trace in which it had two requests.
    assert!(store.chatty(all(), 2).await.unwrap().is_empty());
    let chatty = store.chatty(all(), 1).await.unwrap();
    assert_eq!(chatty[0].calls_per_request, 1.5);
    assert_eq!(
        (chatty[0].caller.as_str(), chatty[0].trace),
        ("orders", trace(1))
    );
}

/// A span: of which trace, its own id, its parent (0: none), start and duration.
fn span(of: u128, id: u64, parent: u64, start: i64, micros: u64) -> Span {
    Span {
        trace: trace(of),
        span: SpanId::new(id).unwrap(),
        parent: SpanId::new(parent),
        start: at(start),
        duration: Duration::from_micros(micros),
        service: ServiceName::new(if id.is_multiple_of(2) {
            "orders"
        } else {
            "payments"
        })
        .unwrap(),
        instance: String::new(),
        revision: RevisionNumber(0),
        name: format!("span {id}"),
        kind: SpanKind::Server,
        status: SpanStatus::Unset,
        message: String::new(),
        caller: None,
        http_status: Some(200),
        inferred: false,
        attributes: r#"{"url.path":"/x"}"#.to_owned(),
        events: String::new(),
        links: String::new(),
    }
}

#[tokio::test]
async fn records_are_counted_by_the_platform_and_not_again_by_sdks() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path());
    let record = |id, name: &str, kind, caller: Option<&str>| Span {
        name: name.to_owned(),
        kind,
        caller: caller.map(str::to_owned),
        ..span(1, id, 0, 0, 10)
    };
    store.spans([
        record(1, "send placed", SpanKind::Producer, Some("payments")),
        record(2, "process placed", SpanKind::Consumer, Some("atoll")),
        // What the two say of it themselves.
        record(3, "send placed", SpanKind::Producer, None),
        record(4, "process placed", SpanKind::Consumer, None),
    ]);
    store.flush().await.unwrap();
    let edges = store.topic_edges(Filter::all(Kind::Spans)).await.unwrap();
    let told = edges.iter().map(|own| {
        let edge = &own.edge;
        format!("{} {} {}", edge.from, edge.to, edge.calls.count())
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told, ["payments placed 1", "placed orders 1"]);
}

#[tokio::test]
async fn a_trace_is_found_whole_wherever_its_rows_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path());
    store.spans([span(7, 2, 1, 5, 10), span(8, 9, 0, 0, 1)]);
    store.close().await;
    drop(store);
    let store = start(dir.path());
    let mut root = span(7, 1, 0, 0, 100);
    root.status = SpanStatus::Error;
    store.spans([root.clone()]);
    store.log(NewRecord {
        trace: Some(trace(7)),
        ..record("orders", "in the trace", 6)
    });
    let found = store.trace(trace(7)).await.unwrap();
    assert_eq!(found.spans, [root, span(7, 2, 1, 5, 10)]);
    assert_eq!(found.logs[0].message, "in the trace");
    assert!(store.trace(trace(9)).await.unwrap().spans.is_empty());
    let query = TraceQuery {
        filter: Filter::parse(Kind::Spans, "service:orders url.path:/x").unwrap(),
        limit: 10,
        order: TraceOrder::Time,
        before: None,
    };
    let page = store.search_traces(query).await.unwrap();
    let summary = &page.traces[0];
    assert_eq!(page.traces.len(), 1);
    assert_eq!(
        (summary.trace, summary.spans, summary.errors),
        (trace(7), 2, 1)
    );
    assert_eq!(
        (summary.root_name.as_str(), summary.start),
        ("span 1", at(0))
    );
    assert_eq!(summary.duration, Duration::from_micros(100));
    assert_eq!(summary.services, ["orders", "payments"]);
}

#[tokio::test]
async fn of_ordinary_traces_a_share_is_kept_and_of_bad_ones_all() {
    let dir = tempfile::tempdir().unwrap();
    let config = TelemetryConfig {
        sample: "0%".parse().unwrap(),
        sample_slow: HumanDuration::millis(5),
        ..TelemetryConfig::default()
    };
    let log = Service::start(dir.path(), config).unwrap();
    let failed = Span {
        status: SpanStatus::Error,
        ..span(2, 22, 21, 0, 10)
    };
    log.spans([span(1, 11, 0, 0, 100), span(2, 21, 0, 0, 100), failed]);
    log.spans([span(3, 31, 0, 0, 5_000), span(1, 12, 11, 0, 10)]);
    for (number, spans) in [(1, 0), (2, 2), (3, 1)] {
        let kept = log.trace(trace(number)).await.unwrap().spans.len();
        assert_eq!(kept, spans, "of trace {number}");
    }
}

#[tokio::test]
async fn what_was_left_out_is_counted_by_what_was_kept() {
    // By the last 56 bits: of these two, one is among any share, the other among none.
    let (chosen, other) = (1, u128::from(u64::MAX));
    let dir = tempfile::tempdir().unwrap();
    let open = |sample: &str| {
        let config = TelemetryConfig {
            sample: sample.parse().unwrap(),
            sample_slow: HumanDuration::millis(5),
            ..TelemetryConfig::default()
        };
        Service::start(dir.path(), config).unwrap()
    };
    let call = |of, id, micros| Span {
        start: Timestamp::now(),
        duration: Duration::from_micros(micros),
        ..hop(of, id, "edge", "orders", "GET /orders/{id}")
    };
    let told = async |store: &Handle| {
        let all = || Filter::all(Kind::Spans);
        let edges = store.edges(all()).await.unwrap();
        let routes = store.routes(all()).await.unwrap();
        let uses = store.uses(all()).await.unwrap();
        assert_eq!((edges.len(), routes.len(), uses.len()), (1, 1, 1));
        assert_eq!(edges[0].calls, routes[0].calls);
        assert_eq!(uses[0].requests, edges[0].calls.count());
        assert_eq!(uses[0].bytes, 7 * uses[0].requests);
        (edges[0].calls.count(), edges[0].calls.errors())
    };
    let store = open("25%");
    // An ordinary one that is kept, for four; one that is kept for the error of its trace; that error; a slow one.
    store.spans([call(chosen, 2, 10)]);
    store.spans([call(other, 3, 10), call(other, 1, 10)]);
    store.spans([call(other - 1, 4, 5_000)]);
    store.flush().await.unwrap();
    assert_eq!(told(&store).await, (4 + 1 + 1, 1));
    store.close().await;
    drop(store);
    let store = open("10%");
    store.spans([call(chosen, 5, 10)]);
    store.flush().await.unwrap();
    assert_eq!(told(&store).await, (6 + 10, 1), "in files and in memory");
    drop(store);
    let store = open("100%");
    store.spans([call(chosen, 6, 10), call(other, 7, 10)]);
    store.flush().await.unwrap();
    assert_eq!(told(&store).await, (16 + 2, 1));
    drop(store);
    // Nothing else can be known of it then.
    std::fs::write(dir.path().join("sampling.json"), "[{").unwrap();
    assert_eq!(told(&open("100%")).await, (7, 1));
}

#[tokio::test]
async fn traces_come_page_by_page_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path());
    // Spans of a trace lie far apart, between those of others.
    for round in 0..3 {
        let spans = (1..=10u128).map(|of| {
            let id = (of as u64) * 10 + round + 1;
            span(
                of,
                id,
                0,
                (round as i64) * 100 + of as i64,
                of as u64 + 50 * (round % 2),
            )
        });
        store.spans(spans.collect::<Vec<_>>());
        store.flush().await.unwrap();
    }
    for (order, limit) in [
        (TraceOrder::Time, 3),
        (TraceOrder::Duration, 3),
        (TraceOrder::Time, 1),
    ] {
        let mut query = TraceQuery {
            filter: Filter::all(Kind::Spans),
            limit,
            order,
            before: None,
        };
        let mut seen = Vec::new();
        loop {
            let page = store.search_traces(query.clone()).await.unwrap();
            seen.extend(page.traces.iter().map(|one| one.trace.get()));
            match page.next {
                Some(next) => query.before = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        let expected: Vec<u128> = (1..=10).rev().collect();
        assert_eq!(seen, expected, "{order:?} {limit}");
    }
}

#[test]
fn what_was_waited_for_is_the_critical_path() {
    let ids = |spans: &[Span]| -> Vec<u64> {
        critical_path(spans).into_iter().map(SpanId::get).collect()
    };
    let spans = [
        span(1, 1, 0, 0, 100),
        span(1, 2, 1, 10, 20),
        // Beside the next one, and over before it.
        span(1, 3, 1, 40, 10),
        span(1, 4, 1, 40, 50),
        span(1, 5, 4, 50, 10),
    ];
    assert_eq!(ids(&spans), [1, 2, 4, 5]);
    assert!(ids(&[]).is_empty());
    let own = own_times(&spans).into_iter();
    let own: Vec<(u64, u128)> = own
        .map(|(span, own)| (span.span.get(), own.as_micros()))
        .collect();
    assert_eq!(own, [(1, 30), (2, 20), (4, 40), (5, 10)]);
    // Spans that name each other.
    assert!(ids(&[span(1, 1, 2, 0, 1), span(1, 2, 1, 0, 1)]).len() <= 2);
}

#[tokio::test]
async fn a_damaged_file_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    for message in ["one", "two"] {
        let log = start(dir.path());
        log.log(record("orders", message, 0));
        log.close().await;
    }
    let files = files(&dir.path().join("logs"));
    let first = files
        .iter()
        .find(|name| name.ends_with("-1-1.parquet"))
        .unwrap();
    let second = files
        .iter()
        .find(|name| name.ends_with("-2-2.parquet"))
        .unwrap();
    let sound = std::fs::read(first).unwrap();
    // The footer.
    std::fs::write(first, &sound[..sound.len() - 10]).unwrap();
    let log = start(dir.path());
    assert_eq!(pages(&log, query("", 10)).await, ["two"]);
    drop(log);
    // The data: the footer can be read.
    std::fs::write(first, &sound).unwrap();
    let mut bytes = std::fs::read(second).unwrap();
    bytes[4..200].fill(0xff);
    std::fs::write(second, bytes).unwrap();
    let log = start(dir.path());
    assert_eq!(pages(&log, query("", 10)).await, ["one"]);
}
