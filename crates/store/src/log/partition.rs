//! One partition: where its records are, and which of them are on disk.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::batch::{BatchError, Header};
use super::disk::DiskFile;
use super::segment::{Index, Meta, Sealed};
use super::shared::LogShared;
use super::{Durability, Error, PartitionConfig};

/// A partition. A cheap handle.
#[derive(Debug, Clone)]
pub struct Partition(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: Box<str>,
    pub(super) dir: PathBuf,
    pub(super) config: Mutex<PartitionConfig>,
    pub(super) log: Arc<LogShared>,
    pub(super) state: Mutex<State>,
    /// The first offset that may be read.
    pub(super) start: AtomicI64,
    /// The offset after the last record that is acknowledged.
    pub(super) durable: AtomicI64,
    /// The offset after the last record that the disk was asked to keep. It may be beyond `durable`
    /// for moments.
    pub(super) synced: AtomicI64,
    /// Held by whoever deletes or replaces files.
    keeping: Mutex<()>,
    /// Held by who compacts, all the time.
    pub(super) compacting: Mutex<()>,
    watchers: Mutex<Vec<Weak<Notify>>>,
}

/// What changes. The lock is never held while the disk writes, but for a rename.
#[derive(Debug)]
pub(super) struct State {
    /// The offset that the next record gets.
    pub(super) next: i64,
    /// What waits for the committer.
    pub(super) queue: Vec<Queued>,
    /// The committer knows that something waits.
    pub(super) queued: bool,
    /// By base; the last one grows. Empty until the first record is written.
    pub(super) segments: Vec<Meta>,
    /// Of the last segment, all of it; none until somebody reads.
    pub(super) index: Option<Index>,
    /// Finished segments that were read lately.
    pub(super) open: VecDeque<(i64, Arc<Sealed>)>,
    /// The last segment, if it is open.
    pub(super) last: Option<Arc<dyn DiskFile>>,
    /// Where batches begin that are likely to be read next: offset, base of the segment, position.
    pub(super) hints: VecDeque<(i64, i64, u64)>,
    /// Changes whenever a finished segment goes or is replaced.
    pub(super) generation: u64,
    /// It was read or written since the committer looked last.
    pub(super) touched: bool,
    /// Who waits for the last segment to be finished.
    pub(super) seals: Vec<oneshot::Sender<Result<(), Error>>>,
    /// It was removed.
    pub(super) removed: bool,
    /// Nobody writes any more.
    closed: bool,
    /// What was acknowledged and is gone; reading it is an error.
    pub(super) lost: Vec<Range<i64>>,
}

/// Records that wait to be written.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) base: i64,
    pub(super) batches: Bytes,
    pub(super) durability: Durability,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// An append under way: a future of its acknowledgement.
#[derive(Debug)]
pub struct Pending {
    base: i64,
    next: i64,
    done: oneshot::Receiver<Result<(), Error>>,
}

impl Partition {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Appends batches: whole, sound ones (see [`Header::verify`]), one at least. Offsets are given in
    /// the order of the calls. Never waits; wait for what it returns.
    ///
    /// # Errors
    /// At once when too much waits for the disk already, when the partition was removed, when the log
    /// was closed, or after a failure of the disk.
    pub fn append(&self, batches: Bytes, durability: Durability) -> Result<Pending, Error> {
        let offsets = count(&batches).map_err(Error::Batch)?;
        self.0.log.admit(batches.len())?;
        let (done, waiting) = oneshot::channel();
        let (base, wake) = {
            let mut state = self.0.lock();
            if let Err(error) = self.0.accepts(&state) {
                self.0.log.released(batches.len());
                return Err(error);
            }
            let base = state.next;
            state.next += offsets;
            state.queue.push(Queued {
                base,
                batches,
                durability,
                done,
            });
            (base, !std::mem::replace(&mut state.queued, true))
        };
        if wake {
            self.0.log.queue(&self.0);
        }
        Ok(Pending {
            base,
            next: base + offsets,
            done: waiting,
        })
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.0.start.load(Ordering::Acquire)
    }

    /// The offset after the last acknowledged record: what lies before can be read.
    pub fn durable_offset(&self) -> i64 {
        self.0.durable.load(Ordering::Acquire)
    }

    /// The offset after the last acknowledged record that no crash takes back. With
    /// [`Durability::Memory`] it comes after [`Self::durable_offset`], by seconds.
    pub fn synced_offset(&self) -> i64 {
        self.0
            .synced
            .load(Ordering::Acquire)
            .min(self.durable_offset())
    }

    /// Whether something can still be written here.
    ///
    /// # Errors
    /// When the partition was removed, the log was closed or the disk has failed.
    pub fn health(&self) -> Result<(), Error> {
        self.0.log.health()?;
        self.0.accepts(&self.0.lock())
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.0.lock().next
    }

    /// Wakes `waiter`, once, when records were acknowledged, and when none will be any more: see
    /// [`Self::health`]. Look again after calling this and before waiting.
    pub fn watch(&self, waiter: &Arc<Notify>) {
        let mut watchers = self.0.watchers();
        // Those that gave up since the last record go, now and then.
        if watchers.len() >= 64 && watchers.len().is_power_of_two() {
            watchers.retain(|own| own.strong_count() > 0);
        }
        watchers.push(Arc::downgrade(waiter));
    }

    /// How many wait to be woken, as far as that is known.
    #[cfg(test)]
    pub(super) fn watching(&self) -> usize {
        self.0.watchers().len()
    }

    /// The bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.0.lock().segments.iter().map(|meta| meta.bytes).sum()
    }

    /// Sets how it is kept from now on.
    pub fn configure(&self, config: PartitionConfig) {
        *self.0.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl Inner {
    pub(super) fn new(
        name: &str,
        dir: PathBuf,
        config: PartitionConfig,
        log: Arc<LogShared>,
        found: super::recover::Found,
    ) -> Self {
        Self {
            name: name.into(),
            dir,
            config: Mutex::new(config),
            log,
            start: AtomicI64::new(found.start),
            durable: AtomicI64::new(found.next),
            synced: AtomicI64::new(found.next),
            state: Mutex::new(State {
                next: found.next,
                queue: Vec::new(),
                queued: false,
                segments: found.segments,
                index: None,
                open: VecDeque::new(),
                last: None,
                hints: VecDeque::new(),
                generation: 0,
                touched: false,
                seals: Vec::new(),
                removed: false,
                closed: false,
                lost: found.lost,
            }),
            keeping: Mutex::default(),
            compacting: Mutex::default(),
            watchers: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn config(&self) -> PartitionConfig {
        self.config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Weak<Notify>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who watch.
    pub(super) fn wake(&self) {
        let watchers = std::mem::take(&mut *self.watchers());
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.notify_one();
        }
    }

    /// For those who delete or replace files: one at a time, and none after it was removed, when
    /// another partition may have the name.
    pub(super) fn keep(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.log.health()?;
        self.accepts(&self.lock())?;
        Ok(keeping)
    }

    /// Whether it was not removed.
    pub(super) fn exists(&self, state: &State) -> Result<(), Error> {
        if state.removed {
            return Err(Error::Removed(self.name.to_string()));
        }
        Ok(())
    }

    /// Whether something can be changed.
    pub(super) fn accepts(&self, state: &State) -> Result<(), Error> {
        self.exists(state)?;
        if state.closed {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Nobody will write what waits.
    pub(super) fn refuse(&self, queue: Vec<Queued>, error: &Error) {
        for own in queue {
            self.log.released(own.batches.len());
            // Who does not wait any more does not mind.
            let _ = own.done.send(Err(error.clone()));
        }
    }

    /// Refuses everything from here on, and all that waits.
    pub(super) fn end(&self) {
        let queue = {
            let mut state = self.lock();
            state.closed = true;
            // Who waits for these learns it from their end.
            state.seals.clear();
            std::mem::take(&mut state.queue)
        };
        self.refuse(queue, &Error::Closed);
        self.wake();
    }
}

impl State {
    /// Files go or are replaced: what was known of them is not true any more.
    pub(super) fn forget_files(&mut self) {
        self.generation += 1;
        self.open.clear();
        self.hints.clear();
    }

    /// Closes files that nobody has used for a while; tells whether some are open still.
    pub(super) fn close_idle(&mut self) -> bool {
        if std::mem::take(&mut self.touched) {
            return true;
        }
        self.open = VecDeque::new();
        self.hints = VecDeque::new();
        self.last = None;
        self.index = None;
        false
    }
}

/// How many offsets the batches take.
fn count(batches: &[u8]) -> Result<i64, BatchError> {
    let mut offsets = 0;
    let mut rest = batches;
    loop {
        let header = Header::parse(rest)?;
        offsets += i64::from(header.last_offset_delta) + 1;
        rest = rest.get(header.bytes..).ok_or(BatchError::Short)?;
        if rest.is_empty() {
            return Ok(offsets);
        }
    }
}

impl Pending {
    /// The offset of the first record.
    pub fn base_offset(&self) -> i64 {
        self.base
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// Waits until the records are on disk, as durably as was asked.
    ///
    /// # Errors
    /// When they may not be. Nobody reads them then while the log is open; a later start may find them
    /// on the disk nevertheless, as it may after any answer that got lost.
    pub async fn acknowledged(self) -> Result<(), Error> {
        self.done.await.unwrap_or(Err(Error::Closed))
    }
}
