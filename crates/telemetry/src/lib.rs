//! What happened: every line that a service printed, and the recent hops of every request.
//!
//! The life of a log line: the supervisor reads it from an instance's pipe; [`Handle::log`] stamps
//! it (its level and its trace are read from the line itself, see [`extract`]) and puts it into a
//! bounded queue; one thread appends it to a segment file and tells followers; [`Handle::search`]
//! reads segments, oldest first. A line is on disk and searchable within [`FLUSH_INTERVAL`].
//!
//! Logs never hold a service up: when the disk is slower than the services are loud, lines are
//! dropped, counted, and the count is itself a record. When the disk is full, the same.
//!
//! Hops (one per request and proxy passage) are kept in memory, the newest ones, bounded. They make
//! `atoll logs --trace` tell where a request went. Spans on disk come with the telemetry store.

mod config;
mod error;
pub mod extract;
mod hops;
mod logs;
mod record;
mod service;

pub use config::LogsConfig;
pub use error::Error;
pub use hops::{Hop, HopOutcome};
pub use logs::query::Query;
pub use record::{Level, LogRecord, Stream};
pub use service::{FLUSH_INTERVAL, Follow, Handle, Health, NewRecord, Service};
