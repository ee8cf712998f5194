//! What a person asks of the logs.

use atoll_base::{ServiceName, Timestamp, TraceId};
use regex::Regex;

use crate::record::LogRecord;

/// Which records are wanted. An empty query wants all.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of these services; of all if empty.
    pub services: Vec<ServiceName>,
    /// Of this instance.
    pub instance: Option<String>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Not newer than this.
    pub until: Option<Timestamp>,
    /// Whose message matches.
    pub grep: Option<Regex>,
    /// Of this trace.
    pub trace: Option<TraceId>,
    /// Only records with a higher number.
    pub after: u64,
    /// Only the last so many of those that match.
    pub tail: Option<usize>,
}

impl Query {
    /// Whether `record` is wanted; `tail` aside.
    pub fn wants(&self, record: &LogRecord) -> bool {
        record.number > self.after
            && (self.services.is_empty() || self.services.contains(&record.service))
            && self
                .instance
                .as_ref()
                .is_none_or(|instance| *instance == record.instance)
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time <= until)
            && self.trace.is_none_or(|trace| record.trace == Some(trace))
            && self
                .grep
                .as_ref()
                .is_none_or(|grep| grep.is_match(&record.message))
    }
}
