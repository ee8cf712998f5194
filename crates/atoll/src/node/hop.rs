//! A passage of a request through the proxy, as a span of the service that was called.
//!
//! Its attributes follow OpenTelemetry's conventions for HTTP. They are written by hand into one text: there is
//! one for each request, and a tree of values would cost more than the rest of the span.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>

use std::fmt::Write as _;

use atoll_base::{InstanceId, RevisionNumber, ServiceName};
use atoll_proxy::{ErrorKind, Side, SpanBatch, SpanRef};
use atoll_telemetry::{SpanKind, SpanRow, SpanStatus, Spans};

/// A record on its way, by OpenTelemetry's conventions for messaging.
/// <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>
struct Message<'a> {
    topic: &'a str,
    operation: &'static str,
    kind: SpanKind,
}

/// A batch of the proxy, as telemetry takes it: the worker that served the requests only hands it over.
#[derive(Debug)]
pub struct Hops {
    pub batch: SpanBatch,
    /// The platform's own name, whose a span is also if no service was called.
    pub own: ServiceName,
    /// The door for telemetry: what is sent there is not told of itself, as each batch of it would make another.
    pub otlp: ServiceName,
}

/// Texts of one span, used again for the next.
#[derive(Debug, Default)]
struct Texts {
    name: String,
    attributes: String,
}

impl Spans for Hops {
    fn count(&self) -> usize {
        self.batch.len()
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn each(&self, take: &mut dyn FnMut(SpanRow<'_>)) {
        let mut texts = Texts::default();
        let others = |span: &SpanRef<'_>| span.service.is_none_or(|own| *own != self.otlp);
        for span in self.batch.iter().filter(others) {
            take(row(&span, &self.own, &mut texts));
        }
    }
}

fn row<'a>(span: &SpanRef<'a>, own: &'a ServiceName, texts: &'a mut Texts) -> SpanRow<'a> {
    let message = message(span, own);
    let Texts { name, attributes } = texts;
    name.clear();
    match &message {
        Some(message) => name.extend([message.operation, " ", message.topic]),
        None => write_name(span, name),
    }
    attributes.clear();
    write_attributes(span, message.as_ref(), attributes);
    SpanRow {
        trace: span.trace,
        span: span.span,
        parent: span.parent,
        start: span.start,
        duration: span.duration,
        service: span.service.unwrap_or(own),
        instance: span.instance.map_or("", InstanceId::as_str),
        revision: span
            .instance
            .map_or(RevisionNumber(0), InstanceId::revision),
        name,
        kind: message.as_ref().map_or(SpanKind::Server, |own| own.kind),
        status: if span.is_failed() {
            SpanStatus::Error
        } else {
            SpanStatus::Unset
        },
        message: span.error.map_or("", ErrorKind::words),
        caller: Some(caller(span)),
        http_status: (span.status > 0).then_some(span.status),
        inferred: span.inferred,
        attributes,
        events: "",
        links: "",
    }
}

/// Who called: a service, or `edge` for a client outside.
pub fn caller<'a>(span: &SpanRef<'a>) -> &'a str {
    match span.side {
        Side::Edge => "edge",
        Side::Mesh => span.caller.map_or("unknown", ServiceName::as_str),
    }
}

/// `GET /orders/{id}`. Few names, whatever is asked for: so neither a path nor a method that a client made up.
fn write_name(span: &SpanRef<'_>, name: &mut String) {
    name.push_str(method(span.method).unwrap_or("HTTP"));
    if let Some(route) = span.route {
        name.extend([" ", route]);
    }
}

/// What a call has to do with a topic: a service publishes or reads at the platform's door, or the platform pushes.
fn message<'a>(span: &SpanRef<'a>, own: &ServiceName) -> Option<Message<'a>> {
    let (topic, operation, kind) = if span.caller == Some(own) {
        (span.topic?, "process", SpanKind::Consumer)
    } else if span.side == Side::Mesh && span.service == Some(own) {
        // Of one that was not done, the name is whatever somebody asked for.
        let topic = span.path.strip_prefix("/topics/");
        let was_done = (200..300).contains(&span.status);
        let topic = topic.filter(|topic| was_done && !topic.contains('/'))?;
        match span.method {
            "POST" => (topic, "send", SpanKind::Producer),
            "GET" => (topic, "receive", SpanKind::Consumer),
            _ => return None,
        }
    } else {
        return None;
    };
    Some(Message {
        topic,
        operation,
        kind,
    })
}

/// The method, if it is one that everybody knows.
fn method(text: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN.into_iter().find(|known| *known == text)
}

fn write_attributes(span: &SpanRef<'_>, message: Option<&Message<'_>>, json: &mut String) {
    json.push_str("{\"http.request.method\":\"");
    match method(span.method) {
        Some(method) => json.push_str(method),
        None => {
            json.push_str("_OTHER\",\"http.request.method_original\":\"");
            escape(span.method, json);
        }
    }
    json.push_str("\",\"url.path\":\"");
    escape(span.path, json);
    json.push('"');
    if let Some(route) = span.route {
        json.push_str(",\"http.route\":\"");
        escape(route, json);
        json.push('"');
    }
    if let Some(message) = message {
        json.push_str(",\"messaging.system\":\"atoll\",\"messaging.operation.name\":\"");
        json.push_str(message.operation);
        json.push_str("\",\"messaging.destination.name\":\"");
        escape(message.topic, json);
        json.push('"');
    }
    let numbers = [
        (",\"http.request.body.size\":", span.received),
        (",\"http.response.body.size\":", span.sent),
        (",\"http.response.status_code\":", span.status.into()),
        (",\"http.request.resend_count\":", span.retries.into()),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        json.push_str(name);
        json.push_str(itoa::Buffer::new().format(number));
    }
    if let Some(error) = span.error {
        // Names of errors are of letters and hyphens.
        json.extend([",\"error.type\":\"", error.name(), "\""]);
    }
    json.push('}');
}

/// Text within the quotes of JSON.
fn escape(text: &str, json: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        json.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::{SpanId, Timestamp, TraceId};
    use atoll_telemetry::Span;
    use serde_json::json;
    use std::sync::LazyLock;

    static NAMES: LazyLock<[ServiceName; 2]> =
        LazyLock::new(|| ["atoll", "orders"].map(|name| ServiceName::new(name).unwrap()));

    fn told(change: impl FnOnce(&mut SpanRef<'static>)) -> Span {
        let [atoll, orders] = &*NAMES;
        let mut span = SpanRef {
            trace: TraceId::new(1).unwrap(),
            span: SpanId::new(2).unwrap(),
            parent: None,
            start: Timestamp::from_micros(3),
            duration: std::time::Duration::from_micros(4),
            side: Side::Edge,
            caller: None,
            service: Some(orders),
            instance: None,
            method: "GET",
            path: "/a",
            route: None,
            topic: None,
            received: 0,
            sent: 0,
            status: 200,
            error: None,
            retries: 0,
            inferred: false,
        };
        change(&mut span);
        row(&span, atoll, &mut Texts::default()).into()
    }

    fn attributes(span: &Span) -> serde_json::Value {
        serde_json::from_str(&span.attributes).unwrap()
    }

    #[test]
    fn attributes_are_json_whatever_was_asked_for() {
        let told = told(|span| {
            span.path = "/a\"b\\c\u{1}ä";
            span.status = 504;
            span.error = Some(ErrorKind::Timeout);
            span.retries = 1;
            span.sent = 70;
        });
        assert_eq!(
            attributes(&told),
            json!({
                "http.request.method": "GET",
                "url.path": "/a\"b\\c\u{1}ä",
                "http.response.body.size": 70,
                "http.response.status_code": 504,
                "error.type": "timeout",
                "http.request.resend_count": 1,
            })
        );
        assert_eq!(
            (told.status, told.caller.as_deref()),
            (SpanStatus::Error, Some("edge"))
        );
    }

    #[test]
    fn an_answer_that_was_cut_off_is_an_error() {
        let cut = told(|span| span.error = Some(ErrorKind::AnswerCut));
        assert_eq!(
            (cut.status, cut.http_status),
            (SpanStatus::Error, Some(200))
        );
        let left = told(|span| {
            (span.status, span.error) = (499, Some(ErrorKind::ClientGone));
        });
        assert_eq!(left.status, SpanStatus::Unset);
    }

    #[test]
    fn records_on_their_way_are_messages() {
        let [atoll, orders] = &*NAMES;
        let at_the_door = |method: &'static str, path: &'static str, status| {
            told(|span| {
                (span.side, span.caller, span.service) = (Side::Mesh, Some(orders), Some(atoll));
                (span.method, span.path, span.status) = (method, path, status);
            })
        };
        let sent = at_the_door("POST", "/topics/placed", 201);
        assert_eq!(
            (sent.name.as_str(), sent.kind),
            ("send placed", SpanKind::Producer)
        );
        assert_eq!(attributes(&sent)["messaging.destination.name"], "placed");
        let read = at_the_door("GET", "/topics/placed", 200);
        assert_eq!(
            (read.name.as_str(), read.kind),
            ("receive placed", SpanKind::Consumer)
        );
        for (method, path, status) in [
            ("POST", "/topics/made-up", 404),
            ("POST", "/topics/made-up", 503),
            ("POST", "/jobs/mails", 202),
            ("POST", "/topics/a/b", 200),
        ] {
            assert_eq!(
                at_the_door(method, path, status).kind,
                SpanKind::Server,
                "{path}"
            );
        }
        let pushed = |caller: &'static ServiceName| {
            told(|span| {
                (span.side, span.caller) = (Side::Mesh, Some(caller));
                (span.path, span.topic) = ("/take", Some("placed"));
            })
        };
        let own = pushed(atoll);
        assert_eq!(
            (own.name.as_str(), own.kind),
            ("process placed", SpanKind::Consumer)
        );
        assert_eq!(pushed(orders).kind, SpanKind::Server, "anybody can say so");
    }

    #[test]
    fn names_are_few_whatever_was_asked_for() {
        let named = told(|span| span.route = Some("/orders/{id}"));
        assert_eq!(named.name, "GET /orders/{id}");
        assert_eq!(attributes(&named)["http.route"], "/orders/{id}");
        let odd = told(|span| span.method = "BR\"EW");
        assert_eq!(odd.name, "HTTP");
        assert_eq!(attributes(&odd)["http.request.method"], "_OTHER");
        assert_eq!(attributes(&odd)["http.request.method_original"], "BR\"EW");
        assert_eq!(told(|_| {}).name, "GET");
    }
}
