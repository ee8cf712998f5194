//! A service that prints as fast as it is read.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};

const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

/// Serves: `POST /print/FROM/COUNT` prints so many lines, of 136 bytes about, with numbers from `FROM` on, and answers
/// when all of them are in the pipe; `POST /mark/TEXT` prints one.
pub(crate) fn serve() -> anyhow::Result<()> {
    let address = format!("{}:{}", std::env::var("HOST")?, std::env::var("PORT")?);
    for stream in TcpListener::bind(address)?.incoming() {
        let stream = stream?;
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let target = head.split(' ').nth(1).unwrap_or_default();
    let parts: Vec<&str> = target.trim_matches('/').split('/').collect();
    match parts[..] {
        ["print", from, count] => {
            let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
            lines(from.parse()?, count.parse()?, &mut out)?;
        }
        ["mark", text] => println!("mark {text} is here"),
        _ => {}
    }
    Ok(stream.write_all(DONE)?)
}

/// Writes `count` lines to `out`, with numbers from `from` on.
pub(crate) fn lines(from: u64, count: u64, out: &mut impl Write) -> std::io::Result<()> {
    for number in from..from + count {
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(
            out,
            "INFO request {number} of customer {} handled: GET /orders/{}/items?page={} answered 200 after {} us, cache hit, zone eu-west-{}",
            random >> 40,
            (random >> 20) & 0xfffff,
            random & 7,
            (random >> 10) & 0xffff,
            random % 3,
        )?;
    }
    out.flush()
}
