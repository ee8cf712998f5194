//! The event broker: topics, consumer groups and transactions, as Apache Kafka's clients know them.
//!
//! What decides is pure and lives in machines that know no clock, no disk and no socket: a consumer
//! group, the producers and the open transactions of a partition, the coordinator of one
//! transactional id. They are told what happened and when, and answer with actions for others to
//! perform. What reads bytes (`records`, `sealed`) is bounded: no input makes it take more memory
//! than its caller allowed.

pub mod access;
pub mod broker;
pub mod catalog;
pub mod compaction;
pub mod config;
pub mod fetch_session;
pub mod group;
pub mod groups;
pub mod inside;
pub mod journal;
pub mod open_txns;
pub mod partition;
mod passed;
pub mod producers;
pub mod records;
pub mod sasl;
pub mod ticket;
pub mod transactions;
pub mod txn;
pub mod wire;

mod api;
mod connection;
#[cfg(test)]
mod dice;
mod error;
mod sealed;
mod service;

pub use broker::{Broker, Values};
pub use error::Error;
pub use inside::Inside;
pub use passed::Passed;
pub use service::Door;

pub use sealed::SealError;
pub use ticket::Ticket;
