//! How fast the store takes and finds: `cargo run --release -p atoll-telemetry --example load -- 10`, for 10
//! million log lines and as many spans. Prints figures, a name and a number on each line; `cargo xtask bench
//! telemetry` makes a table of them. A second argument is a file for the first million of the lines as they
//! are, to be packed by others.

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use atoll_base::{ByteCount, RevisionNumber, ServiceName, SpanId, Timestamp, TraceId, clock};
use atoll_telemetry::{
    Filter, Handle, Kind, NewRecord, PageQuery, Service, Span, SpanKind, SpanStatus, Stream,
    TelemetryConfig, TraceOrder, TraceQuery,
};

const SERVICES: u64 = 8;
const CHUNK: u64 = 4096;

/// Numbers that look random.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn service(number: u64) -> ServiceName {
    ServiceName::new(&format!("service-{}", number % SERVICES)).unwrap()
}

fn record(number: u64, names: &[ServiceName], start: Timestamp) -> NewRecord {
    let random = mix(number);
    let place = usize::try_from(random % SERVICES).unwrap();
    let level = ["INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"][(random >> 8) as usize % 6];
    let message = format!(
        "{level} request {number} of customer {} handled: GET /orders/{}/items?page={} answered {} after {} us, cache {}, zone eu-west-{}",
        random >> 40,
        (random >> 20) & 0xfffff,
        random & 7,
        200 + (random >> 33) % 5,
        (random >> 10) & 0xffff,
        if random & 64 == 0 { "hit" } else { "miss" },
        (random >> 45) % 3,
    );
    NewRecord {
        // Ten million lines in three hours.
        time: start.after(Duration::from_micros(number * 1080)),
        service: names[place].clone(),
        instance: format!("{}-r1-{}", names[place], random % 3),
        revision: RevisionNumber(1),
        stream: Stream::Stdout,
        level: None,
        trace: random
            .is_multiple_of(8)
            .then(|| TraceId::new(u128::from(mix(number / 16)) << 64 | 1).unwrap()),
        span: None,
        attributes: String::new(),
        continued: false,
        message,
    }
}

fn span(number: u64, names: &[ServiceName], start: Timestamp) -> Span {
    let random = mix(number ^ 0xabcdef);
    let place = usize::try_from(random % SERVICES).unwrap();
    let path = format!("/orders/{}/items", (random >> 20) & 0xfffff);
    let status = 200 + u16::try_from((random >> 33) % 100 / 99).unwrap() * 300;
    Span {
        trace: TraceId::new(trace_of(number / 5)).unwrap(),
        span: SpanId::new(number + 1).unwrap(),
        parent: (!number.is_multiple_of(5)).then(|| SpanId::new(number).unwrap()),
        start: start.after(Duration::from_micros(number * 1080)),
        duration: Duration::from_micros(random & 0xffff),
        service: names[place].clone(),
        instance: format!("{}-r1-{}", names[place], random % 3),
        revision: RevisionNumber(1),
        name: format!("GET {path}"),
        kind: SpanKind::Server,
        status: if status >= 500 {
            SpanStatus::Error
        } else {
            SpanStatus::Unset
        },
        message: String::new(),
        caller: Some("edge".to_owned()),
        http_status: Some(status),
        inferred: false,
        attributes: format!(
            "{{\"http.request.method\":\"GET\",\"url.path\":\"{path}\",\"http.response.status_code\":{status}}}"
        ),
        events: String::new(),
        links: String::new(),
    }
}

fn trace_of(number: u64) -> u128 {
    (u128::from(mix(number)) << 64) | u128::from(mix(number + 1))
}

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

fn tell(name: &str, value: f64) {
    println!("{name} {value:.3}");
}

/// The most memory that this process has had, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

fn disk(dir: &std::path::Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        bytes += match entry.path() {
            path if path.is_dir() => disk(&path),
            path => path.metadata().unwrap().len(),
        };
    }
    bytes
}

/// Gives `total` rows as fast as they are taken without loss, and prints what that cost, less the making.
async fn ingest<T>(
    what: &str,
    handle: Handle,
    total: u64,
    make: impl Fn(u64) -> T,
    give: impl Fn(&Handle, Vec<T>) -> u64,
) {
    let (begun, used) = (clock::monotonic(), cpu());
    // Beside other threads it takes longer than alone, so it is measured there.
    let mut making = Duration::ZERO;
    for chunk in 0..total / CHUNK {
        let before = thread_cpu();
        let rows: Vec<T> = (chunk * CHUNK..(chunk + 1) * CHUNK).map(&make).collect();
        making += thread_cpu() - before;
        while handle.is_busy() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        give(&handle, rows);
    }
    handle.flush().await.unwrap();
    let took = begun.elapsed();
    // What is in no file yet belongs to the price.
    handle.close().await;
    let own = (cpu() - used).saturating_sub(making);
    let health = handle.health();
    tell(
        &format!("{what}_per_second"),
        total as f64 / took.as_secs_f64(),
    );
    tell(
        &format!("{what}_cpu_us"),
        own.as_secs_f64() * 1e6 / total as f64,
    );
    tell(
        &format!("{what}_dropped"),
        (health.dropped + health.dropped_spans) as f64,
    );
}

async fn timed<T>(what: &str, times: usize, mut run: impl AsyncFnMut(usize) -> T) -> T {
    let mut spans = Vec::new();
    let mut last = None;
    let used = cpu();
    for round in 0..times {
        let begun: Instant = clock::monotonic();
        last = Some(run(round).await);
        spans.push(begun.elapsed());
    }
    spans.sort_unstable();
    let millis = |span: Duration| span.as_secs_f64() * 1e3;
    tell(&format!("{what}_p50_ms"), millis(spans[times / 2]));
    tell(
        &format!("{what}_p95_ms"),
        millis(spans[(times * 95 / 100).min(times - 1)]),
    );
    tell(
        &format!("{what}_cpu_ms"),
        millis(cpu() - used) / times as f64,
    );
    last.unwrap()
}

#[tokio::main]
async fn main() {
    let millions: f64 = std::env::args()
        .nth(1)
        .map_or(1.0, |text| text.parse().unwrap());
    let total = (millions * 1e6) as u64 / CHUNK * CHUNK;
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().to_owned();
    let config = TelemetryConfig {
        max_size: ByteCount::gib(20),
        ..TelemetryConfig::default()
    };
    let start = Timestamp::now().before(Duration::from_secs(4 * 3600));
    let names: Vec<ServiceName> = (0..SERVICES).map(service).collect();
    let open = || Service::start(&dir, config.clone()).unwrap();
    let lines = (0..total.min(1_000_000)).map(|i| record(i, &names, start).message + "\n");
    if let Some(file) = std::env::args().nth(2) {
        let mut file = std::io::BufWriter::new(std::fs::File::create(file).unwrap());
        lines.for_each(|line| file.write_all(line.as_bytes()).unwrap());
        file.flush().unwrap();
    }
    ingest(
        "logs",
        open(),
        total,
        |i| record(i, &names, start),
        |h, rows| h.logs(rows),
    )
    .await;
    ingest(
        "spans",
        open(),
        total,
        |i| span(i, &names, start),
        |h, rows| h.spans(rows),
    )
    .await;
    tell("peak_mib", peak());
    for kind in ["logs", "spans"] {
        let bytes = disk(&dir.join(kind));
        tell(
            &format!("{kind}_mb_per_million"),
            bytes as f64 / total as f64,
        );
    }
    let begun = clock::monotonic();
    let handle = open();
    tell("open_ms", begun.elapsed().as_secs_f64() * 1e3);
    searches(&handle, total, start).await;
    tell("peak_search_mib", peak());
}

async fn searches(handle: &Handle, total: u64, start: Timestamp) {
    let page = |text: &str| PageQuery {
        filter: Filter::parse(Kind::Logs, text).unwrap(),
        limit: 100,
        before: None,
    };
    let query = page("\"nobody said this\"");
    let found = timed("substring_none", 5, async |_| {
        handle.search(query.clone()).await.unwrap()
    })
    .await;
    assert_eq!(found.records.len(), 0);
    // Each of its words is in many lines, or may be a part of one: every line is looked at.
    let found = timed("substring_through", 5, async |_| {
        handle.search(page("\"zone eu-west-7\"")).await.unwrap()
    })
    .await;
    assert_eq!((found.scanned, found.records.len()), (total, 0));
    let rare = page(&format!("\"request {} of\"", total / 3));
    let found = timed("substring_one", 5, async |_| {
        handle.search(rare.clone()).await.unwrap()
    })
    .await;
    assert_eq!(found.records.len(), 1);
    timed("word", 10, async |_| {
        handle.search(page("orders")).await.unwrap()
    })
    .await;
    timed("substring_service_hour", 40, async |round| {
        let since = start.after(Duration::from_secs(round as u64 * 100));
        let until = since.after(Duration::from_secs(3600));
        let mut query = page(&format!("service:service-{} \"customer 77777\"", round % 8));
        query.filter = query.filter.since(since).until(until);
        handle.search(query).await.unwrap()
    })
    .await;
    timed("regex", 3, async |_| {
        handle
            .search(page("/answered 20[4-9] after 1234[0-5] us/"))
            .await
            .unwrap()
    })
    .await;
    timed("histogram", 5, async |_| {
        let between = (start, start.after(Duration::from_secs(4 * 3600)));
        handle
            .histogram(Filter::all(Kind::Logs), between, 60)
            .await
            .unwrap()
    })
    .await;
    timed("facets", 5, async |_| {
        handle.facets(Filter::all(Kind::Logs)).await.unwrap()
    })
    .await;
    traces(handle, total).await;
}

async fn traces(handle: &Handle, total: u64) {
    let view = timed("trace", 60, async |round| {
        let number = mix(round as u64) % (total / 5);
        handle
            .trace(TraceId::new(trace_of(number)).unwrap())
            .await
            .unwrap()
    })
    .await;
    assert_eq!(view.spans.len(), 5);
    for (order, name) in [
        (TraceOrder::Time, "traces_new"),
        (TraceOrder::Duration, "traces_slow"),
    ] {
        timed(name, 5, async |_| {
            let query = TraceQuery {
                filter: Filter::parse(Kind::Spans, "status:error").unwrap(),
                limit: 100,
                order,
                before: None,
            };
            handle.search_traces(query).await.unwrap()
        })
        .await;
    }
}
