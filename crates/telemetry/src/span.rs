//! One span: a piece of work in a trace, as OpenTelemetry has it.
//!
//! The proxy makes one for each passage of a request; services that have an SDK send more. What is
//! searched often has a field of its own; everything else stands in `attributes` as it came, as one
//! JSON object, because a span that is never looked at should not cost the work of taking it apart.
//! <https://opentelemetry.io/docs/specs/otel/trace/api/#span>

use std::time::Duration;

use atoll_base::{RevisionNumber, ServiceName, SpanId, Timestamp, TraceId};
use serde::{Deserialize, Serialize};

/// What part a span plays in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Work within a service.
    #[default]
    Internal,
    /// A request is answered.
    Server,
    /// A request is made.
    Client,
    /// A record is published.
    Producer,
    /// A record is taken.
    Consumer,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanStatus {
    /// Nothing was said.
    #[default]
    Unset,
    /// Well, says whoever made it.
    Ok,
    /// With an error.
    Error,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its own id.
    pub span: SpanId,
    /// The span that caused it.
    pub parent: Option<SpanId>,
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Who did the work; for a hop of the proxy, who was called (`atoll` if nobody was).
    pub service: ServiceName,
    /// Which instance; empty if that is not known.
    pub instance: String,
    /// Of which revision; 0 if that is not known.
    pub revision: RevisionNumber,
    /// What was done, for a person: `GET /orders/{id}`.
    pub name: String,
    /// Its part in a call.
    pub kind: SpanKind,
    /// How it ended.
    pub status: SpanStatus,
    /// What went wrong, in words; empty if nothing did.
    pub message: String,
    /// Who called: a service, or `edge` for a client outside. Only of hops of the proxy.
    pub caller: Option<String>,
    /// The HTTP status of the answer, if there was one.
    pub http_status: Option<u16>,
    /// Its place in the trace was found out by the moment, not told by the service.
    pub inferred: bool,
    /// Attributes, as a JSON object; empty if there are none.
    pub attributes: String,
    /// Events within it, as a JSON array of `{"time","name","attributes"}`; empty if there are none.
    pub events: String,
    /// Spans of other traces that it refers to, as a JSON array of `{"trace","span","attributes"}`; empty
    /// if there are none.
    pub links: String,
}

/// A span, borrowed from wherever it is. Its fields are those of [`Span`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields of Span tell it")]
pub struct SpanRow<'a> {
    pub trace: TraceId,
    pub span: SpanId,
    pub parent: Option<SpanId>,
    pub start: Timestamp,
    pub duration: Duration,
    pub service: &'a ServiceName,
    pub instance: &'a str,
    pub revision: RevisionNumber,
    pub name: &'a str,
    pub kind: SpanKind,
    pub status: SpanStatus,
    pub message: &'a str,
    pub caller: Option<&'a str>,
    pub http_status: Option<u16>,
    pub inferred: bool,
    pub attributes: &'a str,
    pub events: &'a str,
    pub links: &'a str,
}

/// Spans that become rows only when they are written: whoever makes them keeps them in a form of its own, and
/// spends no time on this one.
pub trait Spans: std::fmt::Debug + Send + 'static {
    /// How many there are, at most.
    fn count(&self) -> usize;

    /// The bytes that they take in memory, about.
    fn bytes(&self) -> usize;

    /// Gives each to `take`.
    fn each(&self, take: &mut dyn FnMut(SpanRow<'_>));
}

impl Spans for Vec<Span> {
    fn count(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        let texts = |span: &Span| {
            let told = span.name.len() + span.message.len() + span.attributes.len();
            told + span.events.len() + span.links.len()
        };
        self.len() * size_of::<Span>() + self.iter().map(texts).sum::<usize>()
    }

    fn each(&self, take: &mut dyn FnMut(SpanRow<'_>)) {
        self.iter().for_each(|span| take(span.row()));
    }
}

impl Span {
    /// The same, borrowed.
    pub fn row(&self) -> SpanRow<'_> {
        SpanRow {
            trace: self.trace,
            span: self.span,
            parent: self.parent,
            start: self.start,
            duration: self.duration,
            service: &self.service,
            instance: &self.instance,
            revision: self.revision,
            name: &self.name,
            kind: self.kind,
            status: self.status,
            message: &self.message,
            caller: self.caller.as_deref(),
            http_status: self.http_status,
            inferred: self.inferred,
            attributes: &self.attributes,
            events: &self.events,
            links: &self.links,
        }
    }
}

impl From<SpanRow<'_>> for Span {
    fn from(row: SpanRow<'_>) -> Self {
        Self {
            trace: row.trace,
            span: row.span,
            parent: row.parent,
            start: row.start,
            duration: row.duration,
            service: row.service.clone(),
            instance: row.instance.to_owned(),
            revision: row.revision,
            name: row.name.to_owned(),
            kind: row.kind,
            status: row.status,
            message: row.message.to_owned(),
            caller: row.caller.map(str::to_owned),
            http_status: row.http_status,
            inferred: row.inferred,
            attributes: row.attributes.to_owned(),
            events: row.events.to_owned(),
            links: row.links.to_owned(),
        }
    }
}

impl SpanKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Internal,
            Self::Server,
            Self::Client,
            Self::Producer,
            Self::Consumer,
        ];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl SpanStatus {
    /// The status's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }

    /// The status of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Unset, Self::Ok, Self::Error];
        all.into_iter().find(|status| status.as_str() == name)
    }
}
