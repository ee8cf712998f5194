//! One log record, before it is stored and after.
//!
//! On disk it is a row of a table (see `schema`). As JSON, with short keys, it is what `atoll logs --json`
//! prints.

use atoll_base::{RevisionNumber, ServiceName, SpanId, Timestamp, TraceId};
use serde::{Deserialize, Serialize};

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The instance's standard output.
    Stdout,
    /// The instance's standard error.
    Stderr,
    /// Atoll itself, about the instance: started, ready, exited, request failed.
    Platform,
    /// Sent over OTLP.
    Otlp,
}

impl Stream {
    /// The stream's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Platform => "platform",
            Self::Otlp => "otlp",
        }
    }

    /// The stream of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Stdout, Self::Stderr, Self::Platform, Self::Otlp];
        all.into_iter().find(|stream| stream.as_str() == name)
    }
}

/// How grave a line is, where it says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Finest detail.
    Trace,
    /// For developers.
    Debug,
    /// Ordinary events.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// The program cannot go on.
    Fatal,
}

impl Level {
    /// Every level, the mildest first.
    pub const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// The level of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// A line, stamped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Grows by one with each record of this node; order and identity of a record.
    #[serde(rename = "n")]
    pub number: u64,
    /// When Atoll read the line.
    pub time: Timestamp,
    /// Who printed it.
    pub service: ServiceName,
    /// Which instance.
    pub instance: String,
    /// Of which revision.
    pub revision: RevisionNumber,
    /// On which stream.
    pub stream: Stream,
    /// The level that the line names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The trace that the line names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// The span within it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanId>,
    /// What else was told, as a JSON object; empty if there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
    /// Whether this continues the line before it, which was longer than the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// The line, without its newline. Invalid UTF-8 was replaced by U+FFFD.
    #[serde(rename = "msg")]
    pub message: String,
}

/// A line that was just read.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// When it was read.
    pub time: Timestamp,
    /// Who printed it.
    pub service: ServiceName,
    /// Which instance; empty where Atoll speaks of the whole service.
    pub instance: String,
    /// Of which revision.
    pub revision: RevisionNumber,
    /// On which stream.
    pub stream: Stream,
    /// Its level, if it is known better than the line tells.
    pub level: Option<Level>,
    /// Its trace, if it is known better than the line tells.
    pub trace: Option<TraceId>,
    /// The span within it, if that is known.
    pub span: Option<SpanId>,
    /// What else was told, as a JSON object; empty if there is nothing.
    pub attributes: String,
    /// Whether it continues the line before.
    pub continued: bool,
    /// The line.
    pub message: String,
}

/// A line, borrowed from wherever it is. Its fields are those of [`NewRecord`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields of NewRecord tell it")]
pub struct RecordRow<'a> {
    pub time: Timestamp,
    pub service: &'a ServiceName,
    pub instance: &'a str,
    pub revision: RevisionNumber,
    pub stream: Stream,
    pub level: Option<Level>,
    pub trace: Option<TraceId>,
    pub span: Option<SpanId>,
    pub attributes: &'a str,
    pub continued: bool,
    pub message: &'a str,
}

/// Lines that become rows only when they are written: whoever reads them keeps them in a form of its own, and
/// spends no time on this one.
pub trait Records: std::fmt::Debug + Send + 'static {
    /// How many there are.
    fn count(&self) -> usize;

    /// The bytes that their texts take in memory. What a row takes besides is reckoned by who asks.
    fn bytes(&self) -> usize;

    /// Gives each to `take`, in their order.
    fn each(&self, take: &mut dyn FnMut(RecordRow<'_>));
}

impl From<RecordRow<'_>> for NewRecord {
    fn from(row: RecordRow<'_>) -> Self {
        Self {
            time: row.time,
            service: row.service.clone(),
            instance: row.instance.to_owned(),
            revision: row.revision,
            stream: row.stream,
            level: row.level,
            trace: row.trace,
            span: row.span,
            attributes: row.attributes.to_owned(),
            continued: row.continued,
            message: row.message.to_owned(),
        }
    }
}

impl NewRecord {
    /// The same, borrowed.
    pub fn row(&self) -> RecordRow<'_> {
        RecordRow {
            time: self.time,
            service: &self.service,
            instance: &self.instance,
            revision: self.revision,
            stream: self.stream,
            level: self.level,
            trace: self.trace,
            span: self.span,
            attributes: &self.attributes,
            continued: self.continued,
            message: &self.message,
        }
    }

    /// A line of which nothing else is known.
    pub fn new(time: Timestamp, service: ServiceName, stream: Stream, message: String) -> Self {
        Self {
            time,
            service,
            instance: String::new(),
            revision: RevisionNumber(0),
            stream,
            level: None,
            trace: None,
            span: None,
            attributes: String::new(),
            continued: false,
            message,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A line of a service, of the year 2100. The tests' stores remove old lines, and put files of earlier hours together.
    pub(crate) fn line(service: &str, message: &str) -> NewRecord {
        NewRecord {
            time: Timestamp::from_micros(4_102_444_800_000_000),
            service: ServiceName::new(service).unwrap(),
            instance: format!("{service}-r1-1"),
            revision: RevisionNumber(1),
            stream: Stream::Stdout,
            level: None,
            trace: None,
            span: None,
            attributes: String::new(),
            continued: false,
            message: message.to_owned(),
        }
    }
}
