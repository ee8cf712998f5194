//! A small HTTP/1.1 client that counts: constant load, every failure with its moment.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One request and what became of it.
pub(crate) struct Outcome {
    pub(crate) begun: Instant,
    pub(crate) ok: bool,
}

/// A kept connection.
struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// Sends one request; tells the status.
    fn ask(&mut self, method: &str, address: &str) -> std::io::Result<u16> {
        let request =
            format!("{method} / HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let field = line.trim_end().to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(status)
    }
}

/// Asks `per_second` times a second over one connection until `stop`.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]
pub(crate) fn load(
    address: &str,
    method: &str,
    per_second: u32,
    stop: &AtomicBool,
) -> Vec<Outcome> {
    let pause = Duration::from_secs(1) / per_second;
    let mut outcomes = Vec::new();
    let mut connection = Connection::open(address).ok();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        let begun = Instant::now();
        let asked = connection
            .as_mut()
            .map(|connection| connection.ask(method, address));
        let ok = matches!(asked, Some(Ok(200)));
        if !matches!(asked, Some(Ok(_))) {
            connection = Connection::open(address).ok();
        }
        outcomes.push(Outcome { begun, ok });
    }
    outcomes
}
