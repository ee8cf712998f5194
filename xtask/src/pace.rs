//! Constant load: 2,000 requests a second over 64 connections, each with its moment.
//!
//! Requests begin by a schedule, whatever became of those before, and their time counts from the
//! moment they were due: who keeps a request waiting pays for those that wait behind it. A thread
//! for each connection, as timers of an event loop are too coarse.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const CONNECTIONS: u32 = 64;
const RATE: u32 = 2000;

/// Loads an address; prints the 50th and the 99th percentile in microseconds.
pub(crate) fn run(address: &str, seconds: &str) -> anyhow::Result<()> {
    let seconds: u32 = seconds.parse().context("seconds")?;
    // Sleeps end up to 50 µs late otherwise. Threads have what the first one had.
    std::fs::write("/proc/self/timerslack_ns", "1")?;
    let streams: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| open(address))
        .collect::<anyhow::Result<_>>()?;
    let start = now() + Duration::from_millis(50);
    let mut times = std::thread::scope(|scope| -> anyhow::Result<Vec<Duration>> {
        let threads: Vec<_> = streams
            .into_iter()
            .zip(0..)
            .map(|(stream, number)| {
                let first = start + Duration::from_secs(1) * number / RATE;
                scope.spawn(move || load(stream, first, seconds * RATE / CONNECTIONS))
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let Ok(times) = thread.join() else {
                bail!("a thread of the load panicked");
            };
            all.extend(times?);
        }
        Ok(all)
    })?;
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    println!("{:.1} {:.1}", percentile(50), percentile(99));
    Ok(())
}

fn open(address: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // The first request of a connection has costs of its own.
    ask(&mut stream)?;
    Ok(stream)
}

/// Makes `count` requests, at the pace that leaves each connection its share of the rate.
fn load(mut stream: TcpStream, first: Instant, count: u32) -> anyhow::Result<Vec<Duration>> {
    let pause = Duration::from_secs(1) * CONNECTIONS / RATE;
    let mut times = Vec::with_capacity(count as usize);
    for number in 0..count {
        let due = first + pause * number;
        std::thread::sleep(due.saturating_duration_since(now()));
        ask(&mut stream)?;
        times.push(now().saturating_duration_since(due));
    }
    Ok(times)
}

/// One request and its answer, which is small and ends with the brace of its JSON.
fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = [0; 4096];
    let mut length = 0;
    while length == 0 || answer[length - 1] != b'}' {
        let read = stream.read(&mut answer[length..])?;
        ensure!(read > 0, "the connection was closed");
        length += read;
    }
    let is_good = answer.starts_with(b"HTTP/1.1 200");
    ensure!(is_good, "{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]
fn now() -> Instant {
    Instant::now()
}
