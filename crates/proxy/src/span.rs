//! What the proxy tells about each request: one span, in batches that cost no allocation per
//! request.
//!
//! A worker appends a fixed-size record and a few bytes of text to a batch of its own and hands
//! the batch over a few times a second. Names of services and instances are kept once per batch.
//! Refused: a channel of owned span structs, which costs five allocations and as many atomic
//! operations per request, more than the forwarding itself.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::{InstanceId, ServiceName, SpanId, Timestamp, TraceId};
use serde::Serialize;

use crate::limits::SPAN_PATH_BYTES_MAX;

/// Takes finished spans.
pub trait SpanSink: Send + Sync + 'static {
    /// Takes a batch. Called by every worker thread a few times a second, between requests: it must
    /// not block. A sink that cannot keep up drops batches.
    fn spans(&self, batch: SpanBatch);

    /// Takes lines of the access log, each with its end. Only if there is to be one.
    fn access_lines(&self, lines: String) {
        drop(lines);
    }
}

/// On which side of the platform a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// From outside, through the gateway.
    Edge,
    /// From one service to another.
    Mesh,
}

/// Why a request did not get a service's complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No route matches the path.
    NoRoute,
    /// The path has routes, but not for this method.
    WrongMethod,
    /// Who asks is not known.
    Unauthorized,
    /// Who asks may not.
    Forbidden,
    /// Who asks has asked too often.
    RateLimited,
    /// The route is closed for maintenance.
    Maintenance,
    /// The service fails too often: it is not called for a while.
    BreakerOpen,
    /// The service has as many requests as it may.
    Overloaded,
    /// The request breaks the rules of HTTP.
    BadRequest,
    /// The head or the body of the request is larger than allowed.
    TooLarge,
    /// The client was too slow.
    ClientTimeout,
    /// The client went away before it had its answer.
    ClientGone,
    /// The service has no ready instance.
    NoInstance,
    /// No connection to an instance could be made.
    Connect,
    /// The service took too long.
    Timeout,
    /// The answer breaks the rules of HTTP, or the connection broke before it began.
    BadAnswer,
    /// The connection broke within the answer.
    AnswerCut,
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Who sent the request.
    Client,
    /// Who should have answered it.
    Service,
    /// What this platform was told to do with it.
    Proxy,
}

/// One request, as the sink sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRef<'a> {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its own id: what the service sees as the parent.
    pub span: SpanId,
    /// The span that caused it, if the request named one.
    pub parent: Option<SpanId>,
    /// When the head of the request was complete.
    pub start: Timestamp,
    /// From then until the last byte of the answer was handed to the system.
    pub duration: Duration,
    /// Edge or mesh.
    pub side: Side,
    /// The service that called; none at the edge.
    pub caller: Option<&'a ServiceName>,
    /// The service that was called; none if no route matched.
    pub service: Option<&'a ServiceName>,
    /// The instance that answered or was tried last.
    pub instance: Option<&'a InstanceId>,
    /// The method; empty if the head could not be read.
    pub method: &'a str,
    /// The path without the query, normalized, cut at 256 bytes; empty if it could not be read.
    pub path: &'a str,
    /// The pattern of the route that matched, as it was written: at the edge the edge's; in the mesh
    /// that of the callee's own routes. None if there is none.
    pub route: Option<&'a str>,
    /// The topic of which the request carries a record, by the word of who sent it (`Atoll-Topic`). Only
    /// in the mesh.
    pub topic: Option<&'a str>,
    /// Bytes of the request's body that came, with the framing of chunks.
    pub received: u64,
    /// Bytes of the answer's body that were handed to the system, with the framing of chunks.
    pub sent: u64,
    /// The status that the client was sent. 499 if it left before there was one.
    pub status: u16,
    /// What went wrong, if the client did not get a complete answer of the service.
    pub error: Option<ErrorKind>,
    /// Attempts after the first.
    pub retries: u8,
    /// Nobody said what caused it: it is the one request that the caller's instance had then.
    pub inferred: bool,
}

/// Finished spans of one worker, in the order they ended.
#[derive(Debug, Default)]
pub struct SpanBatch {
    records: Vec<Record>,
    text: String,
    services: Vec<ServiceName>,
    instances: Vec<InstanceId>,
    routes: Vec<Arc<str>>,
}

/// The index of a name within one batch. [`NO_NAME`] stands for none.
pub(crate) type NameIndex = u32;

pub(crate) const NO_NAME: NameIndex = NameIndex::MAX;

/// What [`SpanBatch::push`] takes: a [`SpanRef`] with indexes for names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSpan<'a> {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) start: Timestamp,
    pub(crate) duration: Duration,
    pub(crate) side: Side,
    pub(crate) caller: NameIndex,
    pub(crate) service: NameIndex,
    pub(crate) instance: NameIndex,
    pub(crate) route: NameIndex,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) status: u16,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) retries: u8,
    pub(crate) inferred: bool,
}

#[derive(Debug)]
struct Record {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
    start: Timestamp,
    duration: Duration,
    text_at: usize,
    caller: NameIndex,
    service: NameIndex,
    instance: NameIndex,
    route: NameIndex,
    received: u64,
    sent: u64,
    path_length: u16,
    status: u16,
    method_length: u8,
    topic_length: u8,
    error: Option<ErrorKind>,
    side: Side,
    retries: u8,
    inferred: bool,
}

impl ErrorKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::NoRoute,
        Self::WrongMethod,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::Maintenance,
        Self::BreakerOpen,
        Self::Overloaded,
        Self::BadRequest,
        Self::TooLarge,
        Self::ClientTimeout,
        Self::ClientGone,
        Self::NoInstance,
        Self::Connect,
        Self::Timeout,
        Self::BadAnswer,
        Self::AnswerCut,
    ];

    /// Its name for programs, as in the `type` of a problem: `rate-limited`. Stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::WrongMethod => "wrong-method",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate-limited",
            Self::BreakerOpen => "breaker-open",
            Self::Overloaded => "overloaded",
            Self::Maintenance => "maintenance",
            Self::BadRequest => "bad-request",
            Self::TooLarge => "too-large",
            Self::ClientTimeout => "client-timeout",
            Self::ClientGone => "client-gone",
            Self::NoInstance => "no-instance",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::BadAnswer => "bad-answer",
            Self::AnswerCut => "answer-cut",
        }
    }

    /// In two or three words, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoRoute => "no route",
            Self::WrongMethod => "wrong method",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate limited",
            Self::BreakerOpen => "breaker open",
            Self::Overloaded => "overloaded",
            Self::Maintenance => "closed for maintenance",
            Self::BadRequest => "bad request",
            Self::TooLarge => "too large",
            Self::ClientTimeout => "client too slow",
            Self::ClientGone => "client gone",
            Self::NoInstance => "no ready instance",
            Self::Connect => "no connection",
            Self::Timeout => "timeout",
            Self::BadAnswer => "bad answer",
            Self::AnswerCut => "answer cut off",
        }
    }

    /// Whose fault it is.
    pub const fn blame(self) -> Blame {
        match self {
            Self::NoRoute
            | Self::WrongMethod
            | Self::Unauthorized
            | Self::Forbidden
            | Self::RateLimited
            | Self::BadRequest
            | Self::TooLarge
            | Self::ClientTimeout
            | Self::ClientGone => Blame::Client,
            Self::NoInstance | Self::Maintenance | Self::BreakerOpen | Self::Overloaded => {
                Blame::Proxy
            }
            Self::Connect | Self::Timeout | Self::BadAnswer | Self::AnswerCut => Blame::Service,
        }
    }
}

impl SpanRef<'_> {
    /// Whether the service or the platform got it wrong: an answer of 500 and above, or one that was cut off.
    /// A client's mistake is no failure, nor that it left.
    pub fn is_failed(&self) -> bool {
        is_failed(self.status, self.error)
    }
}

/// The same, of a request that has no span yet.
pub(crate) fn is_failed(status: u16, error: Option<ErrorKind>) -> bool {
    status >= 500 || error == Some(ErrorKind::AnswerCut)
}

impl SpanBatch {
    /// The number of spans.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>() + self.text.capacity()
    }

    /// The spans, in the order they ended.
    pub fn iter(&self) -> impl Iterator<Item = SpanRef<'_>> {
        self.records.iter().map(|record| self.resolve(record))
    }

    /// A batch with room for as much as `like` holds.
    pub(crate) fn with_room_of(like: &Self) -> Self {
        Self {
            records: Vec::with_capacity(like.records.len()),
            text: String::with_capacity(like.text.len()),
            services: Vec::with_capacity(like.services.len()),
            instances: Vec::with_capacity(like.instances.len()),
            routes: Vec::with_capacity(like.routes.len()),
        }
    }

    pub(crate) fn add_service(&mut self, name: &ServiceName) -> NameIndex {
        self.services.push(name.clone());
        index_of_last(self.services.len())
    }

    pub(crate) fn add_instance(&mut self, id: &InstanceId) -> NameIndex {
        self.instances.push(id.clone());
        index_of_last(self.instances.len())
    }

    pub(crate) fn add_route(&mut self, pattern: &Arc<str>) -> NameIndex {
        self.routes.push(Arc::clone(pattern));
        index_of_last(self.routes.len())
    }

    pub(crate) fn push(&mut self, new: &NewSpan<'_>) {
        let method = cut(new.method, usize::from(u8::MAX));
        let path = cut(new.path, SPAN_PATH_BYTES_MAX);
        let text_at = self.text.len();
        self.text.push_str(method);
        self.text.push_str(path);
        let topic = cut(new.topic, usize::from(u8::MAX));
        self.text.push_str(topic);
        self.records.push(Record {
            trace: new.trace,
            span: new.span,
            parent: new.parent,
            start: new.start,
            duration: new.duration,
            text_at,
            caller: new.caller,
            service: new.service,
            instance: new.instance,
            route: new.route,
            received: new.received,
            sent: new.sent,
            path_length: path.len() as u16,
            status: new.status,
            method_length: method.len() as u8,
            topic_length: topic.len() as u8,
            error: new.error,
            side: new.side,
            retries: new.retries,
            inferred: new.inferred,
        });
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> SpanRef<'a> {
        let method_end = record.text_at + usize::from(record.method_length);
        let path_end = method_end + usize::from(record.path_length);
        let topic_end = path_end + usize::from(record.topic_length);
        let topic = self.text.get(path_end..topic_end);
        SpanRef {
            trace: record.trace,
            span: record.span,
            parent: record.parent,
            start: record.start,
            duration: record.duration,
            side: record.side,
            caller: self.services.get(record.caller as usize),
            service: self.services.get(record.service as usize),
            instance: self.instances.get(record.instance as usize),
            method: self.text.get(record.text_at..method_end).unwrap_or(""),
            path: self.text.get(method_end..path_end).unwrap_or(""),
            route: self.routes.get(record.route as usize).map(|route| &**route),
            topic: topic.filter(|topic| !topic.is_empty()),
            received: record.received,
            sent: record.sent,
            status: record.status,
            error: record.error,
            retries: record.retries,
            inferred: record.inferred,
        }
    }
}

/// The longest beginning of `text` that has at most `length` bytes.
pub(crate) fn cut(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn index_of_last(length: usize) -> NameIndex {
    NameIndex::try_from(length - 1).unwrap_or(NO_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_comes_out_as_it_went_in() {
        let mut batch = SpanBatch::default();
        let orders = ServiceName::new("orders").unwrap();
        let service = batch.add_service(&orders);
        let route = batch.add_route(&"/{id}".into());
        let path = format!("/{}", "x".repeat(400));
        for (method, path, route) in [("GET", "/a", NO_NAME), ("DELETE", path.as_str(), route)] {
            batch.push(&NewSpan {
                trace: TraceId::new(7).unwrap(),
                span: SpanId::new(8).unwrap(),
                parent: None,
                start: Timestamp::from_micros(1),
                duration: Duration::from_micros(2),
                side: Side::Edge,
                caller: NO_NAME,
                service,
                instance: NO_NAME,
                route,
                received: 3,
                sent: 4,
                method,
                path,
                topic: if route == NO_NAME { "" } else { "placed" },
                status: 200,
                error: None,
                retries: 0,
                inferred: false,
            });
        }
        let spans: Vec<_> = batch.iter().collect();
        assert_eq!((spans[0].method, spans[0].path), ("GET", "/a"));
        assert_eq!(spans[1].method, "DELETE");
        assert_eq!(spans[1].path, &path[..SPAN_PATH_BYTES_MAX]);
        assert_eq!(spans[1].service, Some(&orders));
        assert_eq!(spans[1].caller, None);
        assert_eq!((spans[0].route, spans[1].route), (None, Some("/{id}")));
        assert_eq!((spans[0].topic, spans[1].topic), (None, Some("placed")));
        assert_eq!((spans[0].received, spans[0].sent), (3, 4));
    }
}
