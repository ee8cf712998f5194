//! The answers that the proxy gives itself: `application/problem+json` (RFC 9457), in words that
//! help whoever sees them and with the trace id that finds the rest. Nothing internal: no address,
//! no error of the system.

use std::io::Write as _;

use atoll_base::{ServiceName, Timestamp, TraceId};

use crate::span::{ErrorKind, Side};

/// An answer of the proxy.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) status: u16,
    pub(crate) kind: ErrorKind,
    pub(crate) detail: &'a str,
    pub(crate) service: Option<&'a ServiceName>,
    pub(crate) trace: TraceId,
    pub(crate) side: Side,
    pub(crate) allow: Option<&'a str>,
    pub(crate) form: Form,
    /// The connection ends after this.
    pub(crate) close: bool,
}

/// How an answer of the proxy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a problem.
    Problem,
    /// The same without its body: the request was HEAD.
    HeadOnly,
    /// As gRPC clients understand it: the status in a field, 200 as that of HTTP.
    Grpc,
}

impl Form {
    pub(crate) const fn of(to_head: bool, grpc: bool) -> Self {
        match (to_head, grpc) {
            (_, true) => Self::Grpc,
            (true, false) => Self::HeadOnly,
            (false, false) => Self::Problem,
        }
    }
}

/// The status of a failure that no earlier refusal gave one.
pub(crate) const fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::NoRoute => 404,
        ErrorKind::WrongMethod => 405,
        ErrorKind::BadRequest => 400,
        ErrorKind::TooLarge => 413,
        ErrorKind::ClientTimeout => 408,
        ErrorKind::ClientGone => 499,
        ErrorKind::NoInstance => 503,
        ErrorKind::Timeout => 504,
        ErrorKind::Connect | ErrorKind::BadAnswer | ErrorKind::AnswerCut => 502,
    }
}

/// What happened, in plain words.
pub(crate) fn detail(kind: ErrorKind, service: Option<&ServiceName>) -> String {
    let service = service.map_or("the service", ServiceName::as_str);
    match kind {
        ErrorKind::NoRoute => "no route leads to this path".to_owned(),
        ErrorKind::WrongMethod => "this path does not take this method".to_owned(),
        ErrorKind::BadRequest => "the body of the request is malformed".to_owned(),
        ErrorKind::TooLarge => "the body of the request is too large".to_owned(),
        ErrorKind::ClientTimeout => "the request did not arrive in time".to_owned(),
        ErrorKind::ClientGone => "the client went away".to_owned(),
        ErrorKind::NoInstance => format!("{service} has no ready instance"),
        ErrorKind::Connect => format!("{service} cannot be reached"),
        ErrorKind::Timeout => format!("{service} did not answer in time"),
        ErrorKind::BadAnswer => format!("{service} gave no valid answer"),
        ErrorKind::AnswerCut => format!("{service} broke off its answer"),
    }
}

impl Problem<'_> {
    /// Appends the answer, head and body.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if self.form == Form::Grpc {
            return self.write_grpc(out);
        }
        let body = self.body();
        let title = title(self.status);
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 {} {title}\r\nContent-Type: application/problem+json\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\nDate: {}\r\n",
            self.status,
            body.len(),
            http_date(Timestamp::now()),
        );
        if self.side == Side::Edge {
            let _ = write!(out, "X-Trace-Id: {}\r\n", self.trace);
        }
        if let Some(allow) = self.allow {
            let _ = write!(out, "Allow: {allow}\r\n");
        }
        if self.status == 503 {
            out.extend_from_slice(b"Retry-After: 1\r\n");
        }
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if self.form == Form::Problem {
            out.extend_from_slice(body.as_bytes());
        }
    }

    /// An answer without messages: status and reason are fields ("Trailers-Only" in the protocol
    /// text of gRPC over HTTP/2). It names the trace, as there is no body to do so.
    fn write_grpc(&self, out: &mut Vec<u8>) {
        // Every text here is printable ASCII without `%`: none needs the message's escapes.
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\
             grpc-status: {}\r\ngrpc-message: {} (trace {})\r\n\r\n",
            grpc_status(self.kind),
            self.detail,
            self.trace,
        );
    }

    fn body(&self) -> String {
        // Every text here is written by this program or is a service's name: none needs escaping.
        let service = match self.service {
            Some(service) => format!(r#","service":"{service}""#),
            None => String::new(),
        };
        format!(
            r#"{{"type":"urn:atoll:problem:{}","title":"{}","status":{},"detail":"{}"{service},"trace_id":"{}"}}"#,
            slug(self.kind),
            title(self.status),
            self.status,
            self.detail,
            self.trace,
        )
    }
}

/// The name of a kind in the `type` of a problem: stable, for programs.
const fn slug(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NoRoute => "no-route",
        ErrorKind::WrongMethod => "wrong-method",
        ErrorKind::BadRequest => "bad-request",
        ErrorKind::TooLarge => "too-large",
        ErrorKind::ClientTimeout => "client-timeout",
        ErrorKind::ClientGone => "client-gone",
        ErrorKind::NoInstance => "no-instance",
        ErrorKind::Connect => "connect",
        ErrorKind::Timeout => "timeout",
        ErrorKind::BadAnswer => "bad-answer",
        ErrorKind::AnswerCut => "answer-cut",
    }
}

/// The status code of gRPC for a failure: what a gRPC library itself makes of the HTTP status, and
/// closer where the proxy knows more.
const fn grpc_status(kind: ErrorKind) -> u8 {
    const DEADLINE_EXCEEDED: u8 = 4;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    match kind {
        ErrorKind::NoRoute | ErrorKind::WrongMethod => UNIMPLEMENTED,
        ErrorKind::BadRequest => INTERNAL,
        ErrorKind::TooLarge => RESOURCE_EXHAUSTED,
        ErrorKind::ClientTimeout | ErrorKind::Timeout => DEADLINE_EXCEEDED,
        ErrorKind::ClientGone
        | ErrorKind::NoInstance
        | ErrorKind::Connect
        | ErrorKind::BadAnswer
        | ErrorKind::AnswerCut => UNAVAILABLE,
    }
}

const fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(moment: Timestamp) -> String {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    jiff::Timestamp::from_microsecond(moment.as_micros())
        .ok()
        .and_then(|moment| printer.timestamp_to_rfc9110_string(&moment).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_valid_json_that_names_service_and_trace() {
        let service = ServiceName::new("orders").unwrap();
        let mut out = Vec::new();
        let problem = Problem {
            status: 503,
            kind: ErrorKind::NoInstance,
            detail: &detail(ErrorKind::NoInstance, Some(&service)),
            service: Some(&service),
            trace: TraceId::new(0xabc).unwrap(),
            side: Side::Edge,
            allow: None,
            form: Form::Problem,
            close: true,
        };
        problem.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["type"], "urn:atoll:problem:no-instance");
        assert_eq!(json["detail"], "orders has no ready instance");
        assert_eq!(json["service"], "orders");
        assert_eq!(json["trace_id"], "00000000000000000000000000000abc");
    }

    #[test]
    fn dates_are_written_as_http_wants_them() {
        let date = http_date(Timestamp::from_micros(784_111_777_000_000));
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
