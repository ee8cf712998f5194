//! A service that takes bodies and forgets them, so that an upload's cost is the proxy's.
//!
//! A thread for each connection reads by Content-Length or by chunks and answers 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n";

/// Listens on `$HOST:$PORT`.
pub(crate) fn serve() -> anyhow::Result<()> {
    let address = format!("{}:{}", std::env::var("HOST")?, std::env::var("PORT")?);
    for stream in TcpListener::bind(address)?.incoming() {
        let stream = stream?;
        // A connection that fails is seen by the load, as a request that failed.
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

/// Answers requests until the connection ends.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    while let Some(length) = head(&mut reader)? {
        match length {
            Length::Bytes(count) => skip(&mut reader, count)?,
            Length::Chunks => chunks(&mut reader)?,
        }
        reader.get_mut().write_all(ANSWER)?;
    }
    Ok(())
}

/// How long a body is.
enum Length {
    Bytes(u64),
    Chunks,
}

/// Reads a head; nothing at the end of the connection.
fn head(reader: &mut impl BufRead) -> std::io::Result<Option<Length>> {
    let mut length = Length::Bytes(0);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let field = line.trim_end().to_ascii_lowercase();
        if field.is_empty() {
            return Ok(Some(length));
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = Length::Bytes(value.trim().parse().map_err(invalid)?);
        } else if field.starts_with("transfer-encoding:") {
            length = Length::Chunks;
        }
    }
}

/// Reads chunks and trailers to the empty line.
fn chunks(reader: &mut impl BufRead) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(invalid)?;
        if size == 0 {
            break;
        }
        skip(reader, size + 2)?;
    }
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    Ok(())
}

fn skip(reader: &mut impl Read, count: u64) -> std::io::Result<()> {
    let read = std::io::copy(&mut reader.take(count), &mut std::io::sink())?;
    if read < count {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn invalid(error: std::num::ParseIntError) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}
