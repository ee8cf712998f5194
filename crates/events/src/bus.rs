//! What everything here stands on: topics that can be written and read, and progress that is kept.
//!
//! The embedded broker is one, a real Kafka another. The trait is as narrow as both allow: nothing
//! joins a group, as one node does all deliveries of an application.

#[cfg(any(test, feature = "test-util"))]
pub mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::record::{NewRecord, Place, Record};

/// Topics, and how far they were read.
pub trait Bus: Send + Sync + 'static {
    /// The names of all topics, sorted.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>, BusError>>;

    /// How many partitions the topic has.
    fn partitions(&self, topic: &str) -> BoxFuture<'_, Result<i32, BusError>>;

    /// Makes the topic with one partition, unless there is one of the name.
    fn ensure(&self, topic: &str) -> BoxFuture<'_, Result<(), BusError>>;

    /// Whether the record would be taken: its size, and what its topic says of its value.
    ///
    /// # Errors
    /// [`BusError::Refused`] with the reason, or there is no such topic.
    fn check(&self, record: &NewRecord) -> Result<(), BusError>;

    /// Publishes records: all are acknowledged when this returns, in the order given where they share
    /// a partition. On an error, some of them may be there.
    fn publish(&self, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Vec<Place>, BusError>>;

    /// Reads committed records from an offset on, about `bytes_max` bytes of them; at least one if
    /// there is one. An empty chunk at the end. An offset that was deleted: [`BusError::Gone`].
    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Chunk, BusError>>;

    /// Completes when something at this offset or after it may be read. It may complete too early.
    fn wait(&self, topic: &str, partition: i32, from: i64) -> BoxFuture<'_, ()>;

    /// Where the partition begins and ends.
    fn ends(&self, topic: &str, partition: i32) -> BoxFuture<'_, Result<Ends, BusError>>;

    /// The first offset whose record has this time (milliseconds) or a later one; none if all are
    /// earlier.
    fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> BoxFuture<'_, Result<Option<i64>, BusError>>;

    /// How far a group has read, by topic and partition.
    fn progress(&self, group: &str) -> BoxFuture<'_, Result<Marks, BusError>>;

    /// Keeps how far a group has read, and publishes records: both or neither. On disk when this
    /// returns.
    fn settle(
        &self,
        group: &str,
        progress: Vec<Progress>,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'_, Result<(), BusError>>;
}

/// How far a group has read, by topic and partition.
pub type Marks = BTreeMap<(Arc<str>, i32), Mark>;

/// A part of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Its records, in order. Offsets may be left out: marks, and what was never committed.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: i64,
    /// Records that are there and cannot be read; for a person.
    pub trouble: Option<String>,
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// The first offset.
    pub start: i64,
    /// The offset after the last record that may be read.
    pub end: i64,
}

/// How far one partition was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// All before it is done.
    pub offset: i64,
    /// What its group wants to know again: at most 4096 bytes are sure to be kept.
    pub metadata: String,
}

/// A mark, and of which partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The topic.
    pub topic: Arc<str>,
    /// Which of its partitions.
    pub partition: i32,
    /// How far.
    pub mark: Mark,
}

/// Why a bus does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody has made the topic.
    #[error("there is no topic '{0}'")]
    NoTopic(String),
    /// The topic has fewer partitions.
    #[error("the topic '{topic}' has no partition {partition}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// Which was asked for.
        partition: i32,
    },
    /// The offset was deleted, or never was.
    #[error("there is no record {offset}: the records from {start} to {end} are there")]
    Gone {
        /// Which was asked for.
        offset: i64,
        /// The first that is there.
        start: i64,
        /// The offset after the last.
        end: i64,
    },
    /// The records are not taken; the same again will not be either.
    #[error("{0}")]
    Refused(String),
    /// It cannot be done now.
    #[error("{0}")]
    Unavailable(String),
}
