//! The answers that the proxy gives itself: `application/problem+json` (RFC 9457), in words that
//! help whoever sees them and with the trace id that finds the rest. Nothing internal: no address,
//! no error of the system.

use std::borrow::Cow;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp, TraceId};

use crate::local::{Known, Pattern};
use crate::meter::Meter;
use crate::span::{ErrorKind, Side};
use crate::trace::TraceContext;

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
    /// Lines of more fields.
    pub(crate) fields: &'a [u8],
    /// For 503: when to try again. Default a second.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) form: Form,
    /// The connection ends after this.
    pub(crate) close: bool,
}

/// An answer of the proxy that is no problem: what a route says, or what a protocol asks for.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lines of fields, but for those that frame the message.
    pub(crate) fields: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) service: Option<Rc<Known>>,
    pub(crate) trace: TraceContext,
    pub(crate) side: Side,
    /// The request was HEAD.
    pub(crate) to_head: bool,
    /// The connection ends after this.
    pub(crate) close: bool,
    /// What counts it; none if it got to no route.
    pub(crate) meter: Option<Rc<Meter>>,
    pub(crate) route: Option<Rc<Pattern>>,
}

impl Reply {
    /// Appends the answer, head and body.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let date = http_date(Timestamp::now());
        let title = title(self.status);
        // Writing to memory does not fail.
        let _ = write!(out, "HTTP/1.1 {} {title}\r\nDate: {date}\r\n", self.status);
        if !matches!(self.status, 204 | 304) {
            let _ = write!(out, "Content-Length: {}\r\n", self.body.len());
        }
        if self.side == Side::Edge {
            let _ = write!(out, "X-Trace-Id: {}\r\n", self.trace.trace);
        }
        out.extend_from_slice(&self.fields);
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !self.to_head && !matches!(self.status, 204 | 304) {
            out.extend_from_slice(&self.body);
        }
    }
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
        ErrorKind::Unauthorized => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::RateLimited => 429,
        ErrorKind::BadRequest => 400,
        ErrorKind::TooLarge => 413,
        ErrorKind::ClientTimeout => 408,
        ErrorKind::ClientGone => 499,
        ErrorKind::NoInstance
        | ErrorKind::Maintenance
        | ErrorKind::BreakerOpen
        | ErrorKind::Overloaded => 503,
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
        ErrorKind::Unauthorized => "it is not known who asks".to_owned(),
        ErrorKind::Forbidden => "this is not for you".to_owned(),
        ErrorKind::RateLimited => "there were too many requests".to_owned(),
        ErrorKind::BreakerOpen => {
            format!("{service} fails too often and is left alone for a while")
        }
        ErrorKind::Overloaded => format!("{service} has more requests than it can take"),
        ErrorKind::Maintenance => "closed for maintenance".to_owned(),
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
        out.extend_from_slice(self.fields);
        if self.status == 503 {
            let pause = self
                .retry_after
                .map_or(1.0, |pause| pause.as_secs_f64().ceil());
            let _ = write!(out, "Retry-After: {:.0}\r\n", pause.max(1.0));
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
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\
             grpc-status: {}\r\ngrpc-message: {} (trace {})\r\n\r\n",
            grpc_status(self.kind),
            grpc_message(self.detail),
            self.trace,
        );
    }

    fn body(&self) -> String {
        // Texts are written by this program or come from a manifest.
        let detail = escape(self.detail);
        let service = match self.service {
            Some(service) => format!(r#","service":"{service}""#),
            None => String::new(),
        };
        format!(
            r#"{{"type":"urn:atoll:problem:{}","title":"{}","status":{},"detail":"{}"{service},"trace_id":"{}"}}"#,
            self.kind.name(),
            title(self.status),
            self.status,
            detail,
            self.trace,
        )
    }
}

/// Text within the quotes of JSON.
fn escape(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// Percent-encodes what a message may not have as it is.
fn grpc_message(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(out)
}

/// The status code of gRPC for a failure: what a gRPC library itself makes of the HTTP status, and
/// closer where the proxy knows more.
const fn grpc_status(kind: ErrorKind) -> u8 {
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match kind {
        ErrorKind::NoRoute | ErrorKind::WrongMethod => UNIMPLEMENTED,
        ErrorKind::Unauthorized => UNAUTHENTICATED,
        ErrorKind::Forbidden => PERMISSION_DENIED,
        ErrorKind::BadRequest => INTERNAL,
        ErrorKind::TooLarge | ErrorKind::RateLimited => RESOURCE_EXHAUSTED,
        ErrorKind::ClientTimeout | ErrorKind::Timeout => DEADLINE_EXCEEDED,
        ErrorKind::ClientGone
        | ErrorKind::NoInstance
        | ErrorKind::Maintenance
        | ErrorKind::BreakerOpen
        | ErrorKind::Overloaded
        | ErrorKind::Connect
        | ErrorKind::BadAnswer
        | ErrorKind::AnswerCut => UNAVAILABLE,
    }
}

fn title(status: u16) -> &'static str {
    match status {
        413 => return "Content Too Large",
        499 => return "Client Closed Request",
        _ => {}
    }
    let known = http::StatusCode::from_u16(status).ok();
    known
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
pub(crate) fn http_date(moment: Timestamp) -> String {
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
            fields: b"",
            retry_after: None,
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
