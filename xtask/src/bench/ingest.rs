//! Telemetry of a running node: lines through a pipe, OTLP over HTTP, and when a line is found.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::median;
use crate::app::App;
use crate::printer;
use crate::run::{atoll, children_seconds, output};

const ROUNDS: u64 = 3;
/// Rows of each kind in a round.
const ROWS: u64 = 1_000_000;
/// Rows in a request, as SDKs send them when they are behind.
const REQUEST_ROWS: u64 = 2000;
/// Connections that send.
const SENDERS: u64 = 2;
/// Lines whose way is measured, one after the other.
const MARKS: usize = 40;

/// What a round of one kind came to.
struct Round {
    per_second: f64,
    cpu_us: f64,
}

pub(super) fn run() -> anyhow::Result<()> {
    let atoll = atoll(true)?;
    let otlp = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let app = application(&otlp)?;
    let edge = app.up(&atoll)?.trim_start_matches("http://").to_owned();
    let bench = Bench {
        app: &app,
        atoll: &atoll,
        otlp,
    };
    let ways = (0..MARKS).map(|number| bench.mark(&edge, number));
    let mut ways = ways.collect::<anyhow::Result<Vec<f64>>>()?;
    ways.sort_by(f64::total_cmp);
    println!(
        "\n### Telemetry of a running node, medians of {ROUNDS}\n\n| what | goal | in a second | CPU of the node |\n|---|---|---|---|"
    );
    bench.table("log lines through a pipe", 500_000, |round| {
        bench.lines(&edge, round)
    })?;
    let (kept, dropped) = (bench.count("\"handled\"")?, bench.dropped()?);
    let logs: Vec<Vec<u8>> = (0..20).map(logs).collect();
    bench.table("log records by OTLP over HTTP", 500_000, |_| {
        bench.send("/v1/logs", &logs)
    })?;
    let spans: Vec<Vec<u8>> = (0..20).map(spans).collect();
    bench.table("spans by OTLP over HTTP", 300_000, |_| {
        bench.send("/v1/traces", &spans)
    })?;
    println!(
        "| the machine: the same lines by `zstd -3`, which does nothing else | | | {:.2} µs |",
        bench.packing()?
    );
    println!(
        "| lines through the pipe: printed / found / told as dropped | | {} / {kept} / {dropped} | |",
        ROUNDS * ROWS
    );
    println!(
        "| a line printed until `atoll logs` finds it, p50 / p95 of {MARKS} | ≤ 1 s | {:.2} / {:.2} s | |",
        ways[MARKS / 2],
        ways[MARKS * 95 / 100]
    );
    Ok(())
}

fn application(otlp: &str) -> anyhow::Result<App> {
    let app = App::new("bench-ingest")?;
    app.describe(&format!(
        "[events]\nlisten = \"127.0.0.1:0\"\n[telemetry]\notlp_grpc = \"off\"\notlp_http = \"{otlp}\"\n"
    ))?;
    let route = "[[route]]\npath = \"/**\"\ntimeout = \"5m\"\n";
    app.own_service("printer", "print", route)?;
    Ok(app)
}

struct Bench<'a> {
    app: &'a App,
    atoll: &'a Path,
    otlp: String,
}

impl Bench<'_> {
    fn table(
        &self,
        what: &str,
        goal: u64,
        round: impl Fn(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let rounds = (0..ROUNDS).map(|number| self.timed(|| round(number)));
        let rounds = rounds.collect::<anyhow::Result<Vec<Round>>>()?;
        let of = |figure: fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        println!(
            "| {what} | ≥ {goal} | {:.0} | {:.2} µs |",
            of(|own| own.per_second),
            of(|own| own.cpu_us)
        );
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark reads the real clock"
    )]
    fn timed(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Round> {
        let (begun, used) = (Instant::now(), self.app.cpu()?);
        work()?;
        let took = begun.elapsed().as_secs_f64();
        // Files are made of the rows a moment later; that belongs to the price.
        std::thread::sleep(Duration::from_secs(3));
        let cpu = self.app.cpu()? - used;
        Ok(Round {
            per_second: ROWS as f64 / took,
            cpu_us: cpu * 1e6 / ROWS as f64,
        })
    }

    /// Has lines printed, and waits until the last is found.
    fn lines(&self, edge: &str, round: u64) -> anyhow::Result<()> {
        let from = round * ROWS;
        ask(edge, &format!("/print/{from}/{ROWS}"))?;
        // Each look is work of the node, too.
        let pause = Duration::from_millis(50);
        self.wait_for(&format!("request {} of", from + ROWS - 1), pause)
    }

    /// Processor time that packing a line takes, in microseconds: machines differ, and one that is shared from hour to
    /// hour.
    fn packing(&self) -> anyhow::Result<f64> {
        let file = self.app.dir().join("lines");
        printer::lines(0, ROWS, &mut BufWriter::new(std::fs::File::create(&file)?))?;
        let rounds = (0..ROUNDS).map(|_| {
            let used = children_seconds()?;
            output(Command::new("zstd").args(["-3", "-q", "-f"]).arg(&file))?;
            Ok((children_seconds()? - used) * 1e6 / ROWS as f64)
        });
        Ok(median(&rounds.collect::<anyhow::Result<Vec<f64>>>()?))
    }

    /// How long a line is on its way, in seconds.
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark reads the real clock"
    )]
    fn mark(&self, edge: &str, number: usize) -> anyhow::Result<f64> {
        let begun = Instant::now();
        ask(edge, &format!("/mark/{number}"))?;
        self.wait_for(&format!("mark {number} is"), Duration::ZERO)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark reads the real clock"
    )]
    fn wait_for(&self, text: &str, pause: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let condition = format!("\"{text}\"");
        loop {
            let since = format!("{}s", begun.elapsed().as_secs() + 2);
            let found = self.found(&["--since", &since, "-n", "1", &condition])?;
            if !found.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(
                begun.elapsed() < Duration::from_secs(60),
                "{text} is not found"
            );
            std::thread::sleep(pause);
        }
    }

    /// What `atoll logs` prints, which may be nothing.
    fn found(&self, args: &[&str]) -> anyhow::Result<String> {
        let found = self.logs(args).output()?;
        match found.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&found.stdout).into_owned()),
            // It has found none.
            Some(1) => Ok(String::new()),
            _ => anyhow::bail!("atoll logs: {}", String::from_utf8_lossy(&found.stderr)),
        }
    }

    fn logs(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.atoll);
        command.arg("-C").arg(self.app.dir()).arg("logs").args(args);
        command
    }

    /// How many lines hold this.
    fn count(&self, text: &str) -> anyhow::Result<u64> {
        let mut command = self.logs(&["--since", "1h", "printer", text]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut reader =
            BufReader::with_capacity(1 << 20, child.stdout.take().context("no output")?);
        let (mut lines, mut line) = (0, Vec::new());
        while reader.read_until(b'\n', &mut line)? > 0 {
            lines += 1;
            line.clear();
        }
        anyhow::ensure!(child.wait()?.success(), "atoll logs failed");
        Ok(lines)
    }

    /// How many lines were dropped, by what the node tells.
    fn dropped(&self) -> anyhow::Result<u64> {
        let told = self.found(&["--since", "1h", "atoll", "\"lines were dropped\""])?;
        let numbers = told.split_whitespace().zip(told.split_whitespace().skip(1));
        let counts = numbers.filter(|(_, next)| *next == "lines");
        Ok(counts
            .filter_map(|(count, _)| count.parse::<u64>().ok())
            .sum())
    }

    /// Sends all rows, each request until it is taken.
    fn send(&self, path: &str, bodies: &[Vec<u8>]) -> anyhow::Result<()> {
        let requests = ROWS / REQUEST_ROWS / SENDERS;
        let otlp = &self.otlp;
        std::thread::scope(|scope| {
            let senders = (0..SENDERS).map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    let mut sender = BufReader::new(TcpStream::connect(otlp)?);
                    for body in bodies.iter().cycle().take(usize::try_from(requests)?) {
                        while !post(&mut sender, otlp, path, body)? {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                    Ok(())
                })
            });
            let senders: Vec<_> = senders.collect();
            for sender in senders {
                sender
                    .join()
                    .map_err(|_| anyhow::anyhow!("a sender panicked"))??;
            }
            Ok(())
        })
    }
}

/// Sends one request; answers whether it was taken, and not asked to come again.
fn post(
    sender: &mut BufReader<TcpStream>,
    host: &str,
    path: &str,
    body: &[u8],
) -> anyhow::Result<bool> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    sender
        .get_mut()
        .write_all(&[head.as_bytes(), body].concat())?;
    let (mut status, mut line, mut length) = (String::new(), String::new(), 0);
    sender.read_line(&mut status)?;
    while sender.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        let (name, value) = line.trim_end().split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut answer = vec![0; length];
    sender.read_exact(&mut answer)?;
    match status.split(' ').nth(1) {
        // An answer that is not empty tells of rows that were refused.
        Some("200") if answer.is_empty() => Ok(true),
        Some("429" | "503") => Ok(false),
        _ => anyhow::bail!("{path}: {status}{}", String::from_utf8_lossy(&answer)),
    }
}

/// A request of log records.
fn logs(number: u64) -> Vec<u8> {
    let records = rows(number).map(|row| LogRecord {
        time_unix_nano: row.nanos,
        severity_text: "INFO".to_owned(),
        severity_number: 9,
        body: Some(text(format!(
            "request {} of customer {} handled: GET /orders/{}/items?page={} answered 200 after {} us, cache hit, zone eu-west-{}",
            row.random & 0xff_ffff, row.random >> 40, (row.random >> 20) & 0xfffff, row.random & 7, (row.random >> 10) & 0xffff, row.random % 3
        ))),
        trace_id: row.trace.to_vec(),
        span_id: row.trace[..8].to_vec(),
        ..LogRecord::default()
    });
    let scope = ScopeLogs {
        log_records: records.collect(),
        ..ScopeLogs::default()
    };
    let resource_logs = vec![ResourceLogs {
        resource: Some(resource()),
        scope_logs: vec![scope],
        ..ResourceLogs::default()
    }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// A request of spans.
fn spans(number: u64) -> Vec<u8> {
    let spans = rows(number).map(|row| Span {
        trace_id: row.trace.to_vec(),
        span_id: row.trace[..8].to_vec(),
        name: "GET /orders/{id}/items".to_owned(),
        kind: 2,
        start_time_unix_nano: row.nanos,
        end_time_unix_nano: row.nanos + (row.random & 0xfff_ffff),
        attributes: vec![
            attribute("http.request.method", "GET".to_owned()),
            attribute(
                "url.path",
                format!("/orders/{}/items", (row.random >> 20) & 0xfffff),
            ),
            attribute("http.response.status_code", "200".to_owned()),
        ],
        ..Span::default()
    });
    let scope = ScopeSpans {
        spans: spans.collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource()),
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

struct Row {
    random: u64,
    nanos: u64,
    trace: [u8; 16],
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]
fn rows(request: u64) -> impl Iterator<Item = Row> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs()) * 1_000_000_000;
    (request * REQUEST_ROWS..(request + 1) * REQUEST_ROWS).map(move |number| {
        let random = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let trace = (u128::from(random) << 64 | u128::from(!random)).to_be_bytes();
        Row {
            random,
            nanos: now + number,
            trace,
        }
    })
}

fn resource() -> Resource {
    Resource {
        attributes: vec![attribute("service.name", "sender".to_owned())],
        ..Resource::default()
    }
}

fn attribute(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    }
}

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text)),
    }
}

/// One request through the edge.
fn ask(edge: &str, path: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(edge)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 204"), "{path}: {answer}");
    Ok(())
}
