//! A service that is pushed records and knows how long each was on its way.
//!
//! The value of a record is the moment of its publication, in nanoseconds since 1970. Publishing is
//! done from here too, at `EVENTS_URL`, so that one clock measures both ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Records of one request when a backlog is made.
const BATCH: usize = 1000;
/// Connections that publish at a rate.
const PUBLISHERS: u64 = 4;

/// When records came, and how long they were on their way, in nanoseconds.
#[derive(Default)]
struct Seen {
    arrivals: Vec<(u64, u64)>,
}

/// Serves: `POST /take` is a record; `GET /seen` tells count, span and percentiles and forgets;
/// `POST /publish/COUNT` publishes a backlog; `POST /pace/RATE/SECONDS` publishes at a rate.
pub(crate) fn serve() -> anyhow::Result<()> {
    let address = format!("{}:{}", std::env::var("HOST")?, std::env::var("PORT")?);
    let seen = Arc::new(Mutex::new(Seen::default()));
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, seen) = (stream?, Arc::clone(&seen));
        std::thread::spawn(move || answer(stream, &seen));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(16 << 10, stream.try_clone()?);
    let mut head = String::new();
    loop {
        head.clear();
        let mut length = 0;
        loop {
            let start = head.len();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            let line = head[start..].trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let parts: Vec<&str> = target.trim_matches('/').split('/').collect();
        match parts[..] {
            ["take"] => {
                stream.write_all(TAKEN)?;
                let now = nanos();
                let sent: u64 = std::str::from_utf8(&body)?.trim().parse().unwrap_or(now);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.arrivals.push((now, now.saturating_sub(sent)));
            }
            ["seen"] => tell(
                &mut stream,
                &std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner)),
            )?,
            ["count"] => {
                let count = seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .arrivals
                    .len();
                let text = count.to_string();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                )?;
            }
            ["publish", count] => {
                backlog(count.parse()?)?;
                stream.write_all(TAKEN)?;
            }
            ["pace", rate, seconds] => {
                pace(rate.parse()?, seconds.parse()?)?;
                stream.write_all(TAKEN)?;
            }
            _ => stream.write_all(TAKEN)?,
        }
    }
}

fn tell(stream: &mut TcpStream, seen: &Seen) -> anyhow::Result<()> {
    let mut ways: Vec<u64> = seen.arrivals.iter().map(|(_, way)| *way).collect();
    ways.sort_unstable();
    let at = |part: f64| {
        let index = (ways.len() as f64 * part) as usize;
        ways.get(index.min(ways.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    let times = || seen.arrivals.iter().map(|(at, _)| *at);
    let span = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    let text = serde_json::json!({
        "count": ways.len(), "span": span, "p50": at(0.5), "p99": at(0.99), "max": at(1.0),
    })
    .to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}

/// A connection to `EVENTS_URL`.
struct Publisher {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Publisher {
    fn open() -> anyhow::Result<Self> {
        let url = std::env::var("EVENTS_URL").context("no topics")?;
        let host = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
            host,
        })
    }

    fn publish(&mut self, kind: &str, body: &str) -> anyhow::Result<()> {
        let (host, length) = (&self.host, body.len());
        let request = format!(
            "POST /topics/bench HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        while self.reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
            if status.is_empty() {
                status = line.clone();
            }
            let (name, value) = line.trim_end().split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        anyhow::ensure!(status.contains(" 201 "), "{status}{answer}");
        Ok(())
    }
}

fn backlog(count: usize) -> anyhow::Result<()> {
    let mut publisher = Publisher::open()?;
    let mut left = count;
    while left > 0 {
        let now = left.min(BATCH);
        let lines = vec![nanos().to_string(); now].join("\n");
        publisher.publish("application/x-ndjson", &lines)?;
        left -= now;
    }
    Ok(())
}

fn pace(rate: u64, seconds: u64) -> anyhow::Result<()> {
    let threads = (0..PUBLISHERS).map(|own| {
        std::thread::spawn(move || -> anyhow::Result<()> {
            let mut publisher = Publisher::open()?;
            let step = Duration::from_secs(PUBLISHERS).as_nanos() as u64 / rate;
            let begin = nanos() + own * step / PUBLISHERS;
            for number in 0..rate * seconds / PUBLISHERS {
                let due = begin + number * step;
                std::thread::sleep(Duration::from_nanos(due.saturating_sub(nanos())));
                // From the moment at which it was due: a publisher that is held up does not hide it.
                publisher.publish("text/plain", &due.min(nanos()).to_string())?;
            }
            Ok(())
        })
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a publisher panicked"))??;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]
fn nanos() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
