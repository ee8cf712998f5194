//! JetStream by hand: its protocol is lines of text, and its requests are messages.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use crate::VALUE;

/// Published and not acknowledged. More of them did not make it faster.
const WINDOW: usize = 16_384;
/// Published at once.
const CHUNK: usize = 256;
/// Asked for at once by pull; two such requests are under way.
const BATCH: usize = 10_000;

struct Nats {
    read: BufReader<TcpStream>,
    write: TcpStream,
    line: Vec<u8>,
}

impl Nats {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let write = TcpStream::connect(address)?;
        write.set_nodelay(true)?;
        let read = BufReader::with_capacity(256 << 10, write.try_clone()?);
        let mut own = Self {
            read,
            write,
            line: Vec::new(),
        };
        own.say("CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\nSUB in.* 1\r\n")?;
        Ok(own)
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.write.write_all(text.as_bytes())?)
    }

    /// The next message; its payload is in `payload`. False: a message with headers, which here is a
    /// status.
    fn next(&mut self, payload: &mut Vec<u8>) -> anyhow::Result<bool> {
        loop {
            self.line.clear();
            ensure!(
                self.read.read_until(b'\n', &mut self.line)? > 0,
                "the server left"
            );
            let is_plain = self.line.starts_with(b"MSG ");
            if is_plain || self.line.starts_with(b"HMSG ") {
                let line = self.line.trim_ascii_end();
                let size = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                let size: usize = std::str::from_utf8(size)?.parse()?;
                payload.resize(size + 2, 0);
                self.read.read_exact(payload)?;
                return Ok(is_plain);
            }
            if self.line.starts_with(b"PING") {
                self.say("PONG\r\n")?;
            } else if self.line.starts_with(b"-ERR") {
                bail!("{}", String::from_utf8_lossy(&self.line));
            }
        }
    }

    /// A request of its API, and the answer.
    fn ask(&mut self, subject: &str, body: &str) -> anyhow::Result<()> {
        let length = body.len();
        self.say(&format!(
            "PUB $JS.API.{subject} in.api {length}\r\n{body}\r\n"
        ))?;
        let mut answer = Vec::new();
        self.next(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(!answer.contains("\"error\""), "{subject}: {answer}");
        Ok(())
    }

    fn stream(&mut self, name: &str) -> anyhow::Result<()> {
        let body = format!(
            "{{\"name\":\"{name}\",\"subjects\":[\"{name}\"],\"storage\":\"file\",\"num_replicas\":1}}"
        );
        self.ask(&format!("STREAM.CREATE.{name}"), &body)
    }
}

/// Publishes asynchronously; every acknowledgement is waited for.
pub(crate) fn produce(address: &str, stream: &str, count: usize) -> anyhow::Result<f64> {
    let mut nats = Nats::connect(address)?;
    nats.stream(stream)?;
    let mut writer = nats.write.try_clone()?;
    let (acknowledged, more) = (Mutex::new(0), Condvar::new());
    let message = message(stream, "in.a");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> anyhow::Result<()> {
            let mut payload = Vec::new();
            for number in 1..=count {
                nats.next(&mut payload)?;
                ensure!(
                    !payload.starts_with(b"{\"error"),
                    "{}",
                    String::from_utf8_lossy(&payload)
                );
                if number % CHUNK == 0 || number == count {
                    *acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = number;
                    more.notify_one();
                }
            }
            Ok(())
        });
        let mut sent = 0;
        while sent < count {
            let some = CHUNK.min(count - sent);
            let mut done = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            while sent + some - *done > WINDOW {
                done = more.wait(done).unwrap_or_else(PoisonError::into_inner);
            }
            drop(done);
            writer.write_all(&message.repeat(some))?;
            sent += some;
        }
        reading
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))?
    })?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Reads all by pull, without acknowledging.
pub(crate) fn consume(address: &str, stream: &str, count: usize) -> anyhow::Result<f64> {
    let mut nats = Nats::connect(address)?;
    let body = format!(
        "{{\"stream_name\":\"{stream}\",\"config\":{{\"ack_policy\":\"none\",\"deliver_policy\":\"all\",\"durable_name\":\"c\"}}}}"
    );
    let _ = nats.ask(&format!("CONSUMER.DELETE.{stream}.c"), "");
    nats.ask(&format!("CONSUMER.DURABLE.CREATE.{stream}.c"), &body)?;
    let body = format!("{{\"batch\":{BATCH},\"expires\":30000000000}}");
    let length = body.len();
    let pull = format!("PUB $JS.API.CONSUMER.MSG.NEXT.{stream}.c in.p {length}\r\n{body}\r\n");
    let begun = Instant::now();
    nats.say(&pull)?;
    nats.say(&pull)?;
    let mut payload = Vec::new();
    let (mut read, mut asked) = (0, 2 * BATCH);
    while read < count {
        if nats.next(&mut payload)? {
            read += 1;
        }
        if read + BATCH >= asked {
            nats.say(&pull)?;
            asked += BATCH;
        }
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

pub(crate) fn one(address: &str, stream: &str, count: usize) -> anyhow::Result<f64> {
    let mut nats = Nats::connect(address)?;
    nats.stream(stream)?;
    let message = message(stream, "in.a");
    let mut times = Vec::with_capacity(count);
    let mut payload = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        nats.write.write_all(&message)?;
        nats.next(&mut payload).context("an acknowledgement")?;
        times.push(begun.elapsed());
    }
    Ok(crate::median(times))
}

fn message(subject: &str, reply: &str) -> Vec<u8> {
    let head = format!("PUB {subject} {reply} {}\r\n", VALUE.len());
    [head.as_bytes(), &VALUE, b"\r\n"].concat()
}
