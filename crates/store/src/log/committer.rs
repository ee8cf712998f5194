//! The thread that writes: it takes all that waits, writes it, has the disk keep it, and then
//! acknowledges it (group commit). What comes while the disk works is the next group, so that a
//! busy log needs few `fdatasync`s, and an idle one answers after one of them without any timer.
//!
//! It is the only one that writes to segments and to the checkpoint, and that gives a partition's
//! folder another name: so nothing of a removed partition is written into the next one of its name,
//! and no checkpoint speaks of the old one when the next is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use atoll_base::clock::monotonic;

use super::partition::{Inner, Queued};
use super::run::{Run, seal};
use super::shared::{LogShared, Work};
use super::{Durability, Error, checkpoint};

/// Files of different partitions are kept by the disk at once, by so many threads.
pub(super) const SYNC_THREADS: usize = 4;

/// How often it is written down how far each partition is known to be sound, and how long records
/// of [`Durability::Memory`] may wait for the disk. Files that nobody used for so long are closed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Writes until the log is closed.
pub(super) struct Committer {
    log: Arc<LogShared>,
    /// Partitions with records that the disk was not asked to keep.
    unsynced: Vec<Arc<Inner>>,
    /// Something has changed since the last checkpoint.
    dirty: bool,
    /// Some files are open.
    warm: bool,
    /// None while there is nothing to write down, to keep or to close.
    checkpoint_at: Option<Instant>,
    sync_threads: usize,
    buffer: Vec<u8>,
}

/// What was written of one partition.
struct Written {
    partition: Arc<Inner>,
    run: Run,
    must_sync: bool,
    done: Vec<Queued>,
}

impl Committer {
    pub(super) fn new(log: Arc<LogShared>, sync_threads: usize) -> Self {
        Self {
            log,
            unsynced: Vec::new(),
            // Cuts and what was found are written down soon.
            dirty: true,
            warm: false,
            checkpoint_at: Some(monotonic() + CHECKPOINT_EVERY),
            sync_threads,
            buffer: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Some(work) = self.log.wait(self.checkpoint_at) {
            self.step(work);
        }
        self.checkpoint();
    }

    /// Does what waits.
    pub(super) fn step(&mut self, work: Work) {
        self.warm |= work.warm;
        self.commit(work.partitions);
        for (partition, done) in work.removals {
            // Who does not wait any more does not mind.
            let _ = done.send(self.remove(&partition));
        }
        match self.checkpoint_at {
            Some(due) if monotonic() >= due => self.checkpoint(),
            None if self.has_to_come_back() => {
                self.checkpoint_at = Some(monotonic() + CHECKPOINT_EVERY)
            }
            _ => {}
        }
    }

    fn has_to_come_back(&self) -> bool {
        self.log.health().is_ok() && (self.dirty || self.warm || !self.unsynced.is_empty())
    }

    /// Writes what waits in these partitions, and acknowledges it.
    fn commit(&mut self, waiting: Vec<Arc<Inner>>) {
        let mut written = Vec::with_capacity(waiting.len());
        let mut seals = Vec::new();
        for partition in waiting {
            let (queue, removed) = {
                let mut state = partition.lock();
                state.queued = false;
                for done in std::mem::take(&mut state.seals) {
                    seals.push((Arc::clone(&partition), done));
                }
                (std::mem::take(&mut state.queue), partition.exists(&state))
            };
            if let Err(error) = removed {
                partition.refuse(queue, &error);
                continue;
            }
            match self.write(&partition, queue) {
                Ok(Some(own)) => written.push(own),
                Ok(None) => {}
                Err(error) => self.log.poison(&error),
            }
        }
        if let Err(error) = self.log.health().and_then(|()| self.sync(&written)) {
            self.log.poison(&error);
        }
        for own in written {
            self.acknowledge(own);
        }
        for (partition, done) in seals {
            let _ = done.send(self.seal(&partition));
        }
    }

    fn seal(&mut self, partition: &Arc<Inner>) -> Result<(), Error> {
        self.log.health()?;
        partition.exists(&partition.lock())?;
        self.dirty = true;
        let next = partition.durable.load(Ordering::Acquire);
        seal(partition, next).inspect_err(|error| self.log.poison(error))
    }

    /// Hands the records of one partition to the system.
    fn write(
        &mut self,
        partition: &Arc<Inner>,
        queue: Vec<Queued>,
    ) -> Result<Option<Written>, Error> {
        let Some(first) = queue.first() else {
            return Ok(None);
        };
        let buffer = &mut self.buffer;
        buffer.clear();
        let log = &self.log;
        let mut write = || {
            log.health()?;
            let mut run = Run::begin(partition, first.base)?;
            queue.iter().try_for_each(|own| run.take(own, buffer))?;
            run.flush(buffer)?;
            Ok(run)
        };
        match write() {
            Ok(run) => Ok(Some(Written {
                partition: Arc::clone(partition),
                run,
                must_sync: queue.iter().any(|own| own.durability == Durability::Synced),
                done: queue,
            })),
            Err(error) => {
                partition.refuse(queue, &error);
                Err(error)
            }
        }
    }

    fn sync(&self, written: &[Written]) -> Result<(), Error> {
        let files: Vec<_> = written.iter().filter(|own| own.must_sync).collect();
        let sync = |own: &&Written| {
            let synced = own.run.file.sync();
            synced.map_err(|source| Error::io(&own.partition.dir, source))
        };
        if let ([_], _) | (_, 1) = (&files[..], self.sync_threads) {
            return files.iter().try_for_each(sync);
        }
        let share = files.len().div_ceil(self.sync_threads).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = files
                .chunks(share)
                .map(|some| scope.spawn(move || some.iter().try_for_each(sync)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or(Err(Error::Closed)))
        })
    }

    fn acknowledge(&mut self, own: Written) {
        let Written {
            partition,
            run,
            must_sync,
            done,
        } = own;
        if let Err(error) = self.log.health() {
            partition.refuse(done, &error);
            return;
        }
        (self.dirty, self.warm) = (true, true);
        {
            let mut state = partition.lock();
            if let Some(last) = state.segments.last_mut() {
                *last = run.meta;
            }
            if let Some(index) = &mut state.index {
                index.extend(run.index);
            }
            state.last = Some(run.file);
            // Who has read all so far goes on here.
            state.hint(run.first.0, run.meta.base, run.first.1);
            state.touched = true;
        }
        partition.durable.store(run.next, Ordering::Release);
        if must_sync {
            partition.synced.fetch_max(run.next, Ordering::AcqRel);
        }
        let known = self
            .unsynced
            .iter()
            .any(|known| Arc::ptr_eq(known, &partition));
        if !must_sync && !known {
            self.unsynced.push(Arc::clone(&partition));
        }
        for queued in done {
            self.log.released(queued.batches.len());
            let _ = queued.done.send(Ok(()));
        }
        partition.wake();
    }

    /// Takes a partition away that is on no list any more.
    fn remove(&mut self, partition: &Arc<Inner>) -> Result<(), Error> {
        self.unsynced.retain(|own| !Arc::ptr_eq(own, partition));
        self.checkpoint();
        self.log.health()?;
        let queue = {
            let mut state = partition.lock();
            state.removed = true;
            state.forget_files();
            std::mem::take(&mut state.queue)
        };
        partition.refuse(queue, &Error::Removed(partition.name.to_string()));
        partition.wake();
        let (disk, dir) = (&self.log.disk, &self.log.dir);
        let gone = self.log.removed_dir(&partition.name);
        disk.remove_dir(&gone)
            .and_then(|()| disk.rename(&partition.dir, &gone))
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|source| self.log.failed(&partition.dir, source))
    }

    /// Has the disk keep what it was not asked to keep, writes down how far everything is sound, and
    /// closes files that nobody uses.
    pub(super) fn checkpoint(&mut self) {
        self.checkpoint_at = None;
        if self.log.health().is_err() {
            return;
        }
        for partition in std::mem::take(&mut self.unsynced) {
            let file = partition.lock().last.clone();
            let next = partition.durable.load(Ordering::Acquire);
            if let Some(Err(source)) = file.map(|file| file.sync()) {
                self.log.failed(&partition.dir, source);
                return;
            }
            partition.synced.fetch_max(next, Ordering::AcqRel);
        }
        if let Err(error) = checkpoint::write(&self.log) {
            self.log.poison(&error);
            return;
        }
        self.dirty = false;
        let open = self
            .log
            .all()
            .iter()
            .filter(|own| own.lock().close_idle())
            .count();
        self.warm = open > 0;
        if self.has_to_come_back() {
            self.checkpoint_at = Some(monotonic() + CHECKPOINT_EVERY);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = std::io::Error::other("the thread that writes has panicked");
            self.log.failed(&self.log.dir, source);
        }
        self.log.end();
    }
}
