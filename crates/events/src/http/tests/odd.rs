//! A bus that misbehaves in the ways that real ones do.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::Notify;

use crate::bus::memory::Memory;
use crate::bus::{Bus, BusError, Chunk, Ends, Mark, Progress};
use crate::record::{NewRecord, Place};

/// A bus in memory that does not do all that it is asked to.
pub(super) struct Odd {
    pub(super) bus: Memory,
    /// Publishing ends in an error after so many records.
    pub(super) after: Option<usize>,
    /// Publishing waits for this.
    pub(super) go: Option<Arc<Notify>>,
    /// All offsets below this are marks: nothing is read there.
    pub(super) marks: i64,
}

impl Odd {
    pub(super) fn over(bus: &Memory) -> Self {
        Self {
            bus: bus.clone(),
            after: None,
            go: None,
            marks: 0,
        }
    }
}

impl Bus for Odd {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>, BusError>> {
        self.bus.topics()
    }

    fn check(&self, record: &NewRecord) -> Result<(), BusError> {
        self.bus.check(record)
    }

    fn publish(&self, mut records: Vec<NewRecord>) -> BoxFuture<'_, Result<Vec<Place>, BusError>> {
        async move {
            if let Some(go) = &self.go {
                go.notified().await;
            }
            let Some(after) = self.after else {
                return self.bus.publish(records).await;
            };
            records.truncate(after);
            self.bus.publish(records).await?;
            Err(BusError::Unavailable("the node is gone".to_owned()))
        }
        .boxed()
    }

    fn partitions(&self, topic: &str) -> BoxFuture<'_, Result<i32, BusError>> {
        self.bus.partitions(topic)
    }

    fn ensure(&self, topic: &str) -> BoxFuture<'_, Result<(), BusError>> {
        self.bus.ensure(topic)
    }

    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Chunk, BusError>> {
        if from < self.marks {
            let records = Vec::new();
            let next = from + 1;
            return ready(Ok(Chunk {
                records,
                next,
                trouble: None,
            }))
            .boxed();
        }
        self.bus.read(topic, partition, from, bytes_max)
    }

    fn wait(&self, topic: &str, partition: i32, from: i64) -> BoxFuture<'_, ()> {
        self.bus.wait(topic, partition, from)
    }

    fn ends(&self, topic: &str, partition: i32) -> BoxFuture<'_, Result<Ends, BusError>> {
        self.bus.ends(topic, partition)
    }

    fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> BoxFuture<'_, Result<Option<i64>, BusError>> {
        self.bus.offset_at(topic, partition, time)
    }

    fn progress(
        &self,
        group: &str,
    ) -> BoxFuture<'_, Result<BTreeMap<(Arc<str>, i32), Mark>, BusError>> {
        self.bus.progress(group)
    }

    fn settle(
        &self,
        group: &str,
        progress: Vec<Progress>,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'_, Result<(), BusError>> {
        self.bus.settle(group, progress, records)
    }
}
