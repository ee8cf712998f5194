//! Log records as they come, after those that are there already.
//!
//! A follower is told of each batch that was written, and runs its filter over it. If it falls behind, it reads what
//! it missed from the store; numbers tell what it has had.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::search::stream;
use crate::service::Query;
use crate::shelf::{HotBatch, Snapshot};
use crate::{Error, Handle, LogRecord};

/// Records that are read from the store at once; the next ones when these were taken.
const BATCH_LENGTH: usize = 1024;

/// See [`Handle::follow`].
#[derive(Debug)]
pub struct Follow {
    handle: Handle,
    query: Query,
    live: broadcast::Receiver<Arc<HotBatch>>,
    backlog: VecDeque<LogRecord>,
    /// The store may have more than the backlog.
    more: bool,
}

impl Follow {
    pub(crate) async fn start(handle: Handle, query: Query) -> Result<Self, Error> {
        let live = handle.shared().live.subscribe();
        let mut follow = Self {
            handle,
            query,
            live,
            backlog: VecDeque::new(),
            more: false,
        };
        follow.read_store().await?;
        Ok(follow)
    }

    /// The next record; none once the store has stopped.
    pub async fn next(&mut self) -> Option<LogRecord> {
        loop {
            if let Some(record) = self.backlog.pop_front() {
                self.query.after = self.query.after.max(record.number);
                return Some(record);
            }
            if self.more {
                self.read_store().await.ok()?;
                continue;
            }
            match self.live.recv().await {
                Ok(batch) => self.take(batch),
                // Too far behind for the memory: the store has what was missed.
                Err(RecvError::Lagged(_)) => self.read_store().await.ok()?,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Takes what fits of a batch that was just written.
    fn take(&mut self, batch: Arc<HotBatch>) {
        let last = batch.extent.numbers.1;
        if last <= self.query.after {
            return;
        }
        let filter = self.query.filter.clone();
        let filter = filter.numbered(self.query.after + 1, u64::MAX);
        let snapshot = Snapshot {
            active: vec![batch],
            ..Snapshot::default()
        };
        stream(&snapshot, &filter, None, |record| {
            self.backlog.push_back(record);
            true
        });
        if self.backlog.is_empty() {
            self.query.after = last;
        }
    }

    /// Reads the next records from the store.
    async fn read_store(&mut self) -> Result<(), Error> {
        let (records, mut found) = tokio::sync::mpsc::channel(BATCH_LENGTH);
        let query = self.query.clone();
        // A tail is a batch of its own; what comes after it is read by number.
        let tail = self.query.tail.take();
        let room = tail.unwrap_or(BATCH_LENGTH).max(1);
        let mut taken = 0;
        let handle = self.handle.clone();
        let read = handle.records_up_to(query, move |record| {
            taken += 1;
            records.blocking_send(record).is_ok() && taken < room
        });
        let gather = async {
            while let Some(record) = found.recv().await {
                self.backlog.push_back(record);
            }
        };
        let (outcome, ()) = tokio::join!(read, gather);
        self.more = tail.is_none() && self.backlog.len() >= room;
        let last = outcome?;
        if tail.is_some() {
            // What the tail leaves out may be on its way as a batch.
            self.query.after = self.query.after.max(last);
        }
        Ok(())
    }
}
