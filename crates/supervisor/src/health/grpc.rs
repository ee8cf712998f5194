//! The gRPC check: `grpc.health.v1.Health/Check`, over HTTP/2 without TLS.
//!
//! The two messages have one field each and are written and read by hand; a gRPC library with its
//! generated code would outweigh the whole supervisor.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Failure;

/// The longest answer that is read.
const ANSWER_LENGTH_MAX: usize = 1024;

/// Asks for the health of `service`; an error tells what was answered instead of SERVING.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: &str,
) -> Result<(), Failure> {
    let (sender, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    tokio::select! {
        answer = exchange(sender, service) => answer,
        ended = connection => Err(match ended {
            Ok(()) => Failure::Its("gRPC: the connection was closed without an answer".to_owned()),
            Err(error) => failed(error),
        }),
    }
}

async fn exchange(sender: SendRequest<Bytes>, service: &str) -> Result<(), Failure> {
    let mut sender = sender.ready().await.map_err(failed)?;
    let request = Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "atoll-health")
        .body(())
        .map_err(|error| Failure::Its(error.to_string()))?;
    let (response, mut body) = sender.send_request(request, false).map_err(failed)?;
    body.send_data(question(service), true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        let status = response.status().as_u16();
        return Err(format!("gRPC: HTTP status {status}").into());
    }
    check_status(response.headers())?;
    let mut body = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(failed)?;
        // Without this the server may send no more than its first window.
        let _ = body.flow_control().release_capacity(data.len());
        answer.extend_from_slice(&data);
        if answer.len() > ANSWER_LENGTH_MAX {
            let what = "gRPC: the answer is too long for a health check";
            return Err(Failure::Its(what.to_owned()));
        }
    }
    if let Some(trailers) = body.trailers().await.map_err(failed)? {
        check_status(&trailers)?;
    }
    let status = match serving_status(&answer) {
        Some(1) => return Ok(()),
        Some(0) => "UNKNOWN",
        Some(2) => "NOT_SERVING",
        Some(3) => "SERVICE_UNKNOWN",
        _ => "the answer is no HealthCheckResponse",
    };
    Err(format!("gRPC health: {status}").into())
}

/// A HealthCheckRequest in its frame: field 1, the service.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0A);
        put_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The status in a framed HealthCheckResponse: field 1, an enum. Absent, it is 0.
fn serving_status(frame: &[u8]) -> Option<u8> {
    let (prefix, message) = frame.split_at_checked(5)?;
    match (prefix.first()?, message) {
        (0, []) => Some(0),
        (0, [0x08, status, ..]) => Some(*status),
        _ => None,
    }
}

fn check_status(fields: &HeaderMap) -> Result<(), String> {
    let status = fields.get("grpc-status").map(|value| value.as_bytes());
    match status {
        None | Some(b"0") => Ok(()),
        Some(status) => {
            let name = match status {
                b"5" => "NOT_FOUND: this server does not know the service",
                b"12" => "UNIMPLEMENTED: this server has no health service",
                b"14" => "UNAVAILABLE",
                _ => "see grpc.io/docs/guides/status-codes",
            };
            let status = String::from_utf8_lossy(status);
            Err(format!("gRPC status {status} ({name})"))
        }
    }
}

fn failed(error: h2::Error) -> Failure {
    let what = format!("gRPC: {error}");
    match error.get_io() {
        Some(error) => Failure::of(error, what),
        None => Failure::Its(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_those_of_the_protocol() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B").as_ref(), b"\0\0\0\0\x05\x0A\x03a.B");
        let long = question(&"x".repeat(300));
        assert_eq!(&long[5..8], [0x0A, 0xAC, 0x02]);
        assert_eq!(serving_status(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(serving_status(b"\0\0\0\0\0"), Some(0));
        assert_eq!(serving_status(b"\x01\0\0\0\x02\x08\x01"), None);
        assert_eq!(serving_status(b"nope"), None);
    }
}
