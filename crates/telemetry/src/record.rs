//! One log record, in memory and on disk.
//!
//! On disk it is one line of JSON with short keys, so that a person can read a segment with `grep`
//! and `jq` when nothing else works any more.

use atoll_base::{RevisionNumber, ServiceName, Timestamp, TraceId};
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
}

impl Stream {
    /// The stream's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Platform => "platform",
        }
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
}

impl Level {
    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
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
    /// Whether this continues the line before it, which was longer than the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// The line, without its newline. Invalid UTF-8 was replaced by U+FFFD.
    #[serde(rename = "msg")]
    pub message: String,
}
