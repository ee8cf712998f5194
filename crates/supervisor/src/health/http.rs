//! The HTTP check: one GET, of whose answer only the status counts.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Failure, excerpt};

/// The longest head of an answer that is read.
const HEAD_LENGTH_MAX: usize = 16 * 1024;
/// The most header fields in one.
const FIELDS_MAX: usize = 100;

/// Asks for `path`; an error tells what was answered instead of a status from 200 to 299.
pub(super) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    addr: SocketAddr,
    path: &str,
) -> Result<(), Failure> {
    let request = request(path, addr);
    let failed =
        |error: std::io::Error| Failure::of(&error, format!("GET {path} broke off: {error}"));
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::with_capacity(1024);
    loop {
        let length = stream.read_buf(&mut head).await.map_err(failed)?;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head) {
            Ok(httparse::Status::Complete(end)) => match response.code {
                // An interim answer (RFC 9110, 15.2): the final one follows.
                Some(100..=199) => {
                    head.drain(..end);
                }
                Some(200..=299) => return Ok(()),
                code => {
                    let code = code.unwrap_or_default();
                    return Err(format!("GET {path} answered {code}").into());
                }
            },
            Ok(httparse::Status::Partial) if length == 0 && head.is_empty() => {
                let what = format!("GET {path}: the connection was closed without an answer");
                return Err(what.into());
            }
            Ok(httparse::Status::Partial) if length > 0 && head.len() < HEAD_LENGTH_MAX => {}
            _ => {
                let start = excerpt(&head);
                return Err(format!("GET {path} answered no HTTP, but \"{start}\"").into());
            }
        }
    }
}

fn request(path: &str, addr: SocketAddr) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: atoll-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
}
