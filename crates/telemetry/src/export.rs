//! What is sent on: traces, logs and metrics to another place that speaks OTLP.
//!
//! The life of an item: [`Exporter`] gathers it in memory for a second at most; a thread makes a
//! batch of it ([`encode`]) and puts that on disk (`spool`); a task sends the oldest batch, and
//! removes it when it was taken. So a place that is away for an hour, or a node that is killed, loses
//! nothing that the disk has room for. What does not fit is dropped from the oldest on, counted and
//! told. A batch may arrive twice, if the node dies between the answer and the removal.
//!
//! How it is sent is the [`Transport`]'s; what an answer means is one function, [`verdict`].

pub mod encode;
mod gather;
pub mod grpc;
mod spool;
mod verdict;

pub use gather::{ExportStats, Exporter, Service, Transport};
pub use spool::{Batch, Spool};
pub use verdict::{Outcome, Verdict, rejected, verdict};
