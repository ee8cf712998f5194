//! What happened: every line that a service printed, and every span of every request.
//!
//! The life of a row: [`Handle::log`] and [`Handle::spans`] put it into a bounded queue; one thread stamps lines
//! (level and trace are read from the line itself, see [`extract`]), makes columns of a batch, appends that to a
//! write-ahead log and shows it to searches, within [`FLUSH_INTERVAL`]. When there is enough of it, or it is
//! old enough, a second thread sorts it and makes a Parquet file of it, which any other tool can read.
//!
//! What is kept can be sent on, to any place that takes OTLP: see [`export`] and [`Handle::send_on`].
//!
//! When the disk is slower than the services are loud, who prints waits for it ([`Handle::room`]); when it takes
//! nothing for three seconds, nobody does. Rows that find no room are dropped, counted, and the count is itself a record.

mod cold;
mod columns;
mod config;
mod error;
pub mod errors;
pub mod export;
pub mod extract;
mod follow;
mod frame;
mod keep;
pub mod metrics;
mod mover;
pub mod objective;
mod open;
pub mod otlp;
mod query;
mod queue;
mod record;
mod sample;
mod schema;
mod search;
mod service;
mod shelf;
mod span;
pub mod spike;
mod wal;
mod words;
mod writer;

pub use config::{ExportProtocol, Hops, TelemetryConfig};
pub use error::Error;
pub use errors::{ErrorGroup, Fault};
pub use follow::Follow;
pub use query::{Filter, QUERY_BYTES_MAX, QueryError};
pub use queue::FLUSH_INTERVAL;
pub use record::{Level, LogRecord, NewRecord, RecordRow, Records, Stream};
pub use schema::Kind;
pub use search::{
    Bucket, Calls, Chatty, Cursor, Edge, Facet, Facets, Histogram, Page, PageQuery, RouteCalls,
    TopicEdge, TraceCursor, TraceOrder, TracePage, TraceQuery, TraceSummary, TraceView, Use,
    critical_path, own_times,
};
pub use service::{Handle, Health, Query, Service};
pub use span::{Span, SpanKind, SpanRow, SpanStatus, Spans};
