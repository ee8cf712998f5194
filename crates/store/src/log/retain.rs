//! What goes away: old records by age and size, and records before an offset.
//!
//! The new start is on disk before a file goes: removals reach the disk in any order, and a start
//! without one of the files between would otherwise offer the older ones again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::disk::replace;
use super::partition::Inner;
use super::recover::{START, remove_segment, start_text};
use super::{Error, Partition};

impl Partition {
    /// Deletes finished segments whose records are all older than `max_age` at `now` (milliseconds
    /// since 1970), and the oldest while there are more than `max_bytes`. Tells how many. May block.
    ///
    /// # Errors
    /// When the partition was removed or the disk fails.
    pub fn retain(
        &self,
        now: i64,
        max_age: Option<Duration>,
        max_bytes: Option<u64>,
    ) -> Result<usize, Error> {
        let _keeping = self.0.keep()?;
        let oldest = max_age
            .map(|age| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let start = {
            let state = self.0.lock();
            let mut total: u64 = state.segments.iter().map(|meta| meta.bytes).sum();
            let finished = state.segments.len().saturating_sub(1);
            let over = state.segments.iter().take(finished).take_while(|meta| {
                let old = oldest.is_some_and(|oldest| meta.max_timestamp < oldest);
                let many = max_bytes.is_some_and(|most| total > most);
                total -= meta.bytes;
                old || many
            });
            let count = over.count();
            state
                .segments
                .get(count)
                .filter(|_| count > 0)
                .map(|meta| meta.base)
        };
        // A group that is being written may have finished segments that are not acknowledged yet.
        match start.map(|start| start.min(self.durable_offset())) {
            Some(start) => self.0.begin_at(start),
            None => Ok(0),
        }
    }

    /// Deletes what lies before `offset`, at most up to the end. Holds when this returns. May block.
    ///
    /// # Errors
    /// When the partition was removed or the disk fails.
    pub fn advance_start(&self, offset: i64) -> Result<(), Error> {
        let _keeping = self.0.keep()?;
        self.0.begin_at(offset.min(self.durable_offset()))?;
        Ok(())
    }

    /// Finishes the last segment, if there is something in it: what is finished can be deleted and
    /// compacted.
    ///
    /// # Errors
    /// When the partition was removed, the log was closed or the disk fails.
    pub async fn seal(&self) -> Result<(), Error> {
        self.0.ask_seal()?.await.unwrap_or(Err(Error::Closed))
    }
}

impl Inner {
    /// Asks the committer to finish the last segment.
    pub(super) fn ask_seal(
        self: &std::sync::Arc<Self>,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let (done, sealed) = oneshot::channel();
        let wake = {
            let mut state = self.lock();
            self.accepts(&state)?;
            state.seals.push(done);
            !std::mem::replace(&mut state.queued, true)
        };
        if wake {
            self.log.queue(self);
        }
        Ok(sealed)
    }

    /// Lets the partition begin at `offset`. Tells how many segments went.
    fn begin_at(&self, offset: i64) -> Result<usize, Error> {
        if offset > self.start.load(Ordering::Acquire) {
            let path = self.dir.join(START);
            replace(&*self.log.disk, &path, start_text(offset).as_bytes())
                .map_err(|source| self.log.failed(&path, source))?;
            self.start.fetch_max(offset, Ordering::AcqRel);
        }
        let gone: Vec<i64> = {
            let mut state = self.lock();
            let before = state.segments.partition_point(|meta| meta.base <= offset);
            let count = before.saturating_sub(1);
            if count > 0 {
                state.forget_files();
            }
            state
                .segments
                .drain(..count)
                .map(|meta| meta.base)
                .collect()
        };
        for base in &gone {
            remove_segment(&*self.log.disk, &self.dir, *base)
                .inspect_err(|error| self.log.poison(error))?;
        }
        self.wake();
        Ok(gone.len())
    }
}
