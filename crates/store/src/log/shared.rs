//! What the handles of a log and its committer share: the partitions by name, what waits, and
//! whether the disk has failed.
//!
//! Names are given and taken under one lock (`naming`), so that a partition is never made where one
//! of its name is on its way out; looking one up needs only the list. A partition knows the log, and
//! the log its partitions: the circle is cut when the log ends.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use atoll_base::clock::monotonic;

use super::disk::Disk;
use super::partition::{Inner, Partition};
use super::{Error, Finding, PartitionConfig, checkpoint, recover};

#[derive(Debug)]
pub(super) struct LogShared {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    partitions: Mutex<HashMap<String, Arc<Inner>>>,
    /// Held while a partition is made or removed.
    naming: Mutex<()>,
    work: Mutex<Work>,
    woken: Condvar,
    pub(super) waiting_bytes: AtomicUsize,
    poison: OnceLock<Arc<str>>,
}

/// How what was asked of the committer went.
pub(super) type Done = Result<(), Error>;

/// What waits for the committer.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// With records to write, or to be finished.
    pub(super) partitions: Vec<Arc<Inner>>,
    /// Who asked hears when the folder has another name.
    pub(super) removals: Vec<(Arc<Inner>, SyncSender<Done>)>,
    /// A reader has opened a file.
    pub(super) warm: bool,
    closing: bool,
}

/// So many bytes may wait for the disk: some tenths of a second of a good one.
const WAITING_BYTES_MAX: usize = 128 << 20;

impl LogShared {
    pub(super) fn open(
        dir: &Path,
        disk: Arc<dyn Disk>,
    ) -> Result<(Arc<Self>, Vec<Finding>), Error> {
        let shared = Arc::new(Self {
            dir: dir.to_owned(),
            disk,
            partitions: Mutex::default(),
            naming: Mutex::default(),
            work: Mutex::default(),
            woken: Condvar::new(),
            waiting_bytes: AtomicUsize::new(0),
            poison: OnceLock::new(),
        });
        let mut findings = Vec::new();
        // Of a cycle nothing would be left behind: see `end`.
        shared
            .recover(&mut findings)
            .inspect_err(|_| shared.end())?;
        Ok((shared, findings))
    }

    pub(super) fn recover(self: &Arc<Self>, findings: &mut Vec<Finding>) -> Result<(), Error> {
        let failed = |source| Error::io(&self.dir, source);
        let marks = checkpoint::read(self, findings)?;
        let mut names = self.disk.list(&self.dir).map_err(failed)?;
        for name in names.extract_if(.., |name| name.ends_with(DELETED)) {
            let dir = self.dir.join(&name);
            let removed = self.disk.remove_dir(&dir);
            removed.map_err(|source| Error::io(&dir, source))?;
        }
        names.retain(|name| is_name(name));
        let there: HashSet<_> = names.iter().cloned().collect();
        for name in marks
            .keys()
            .filter(|name| is_name(name) && !there.contains(*name))
        {
            // Its folder is gone; what was in it is lost, and told by what follows.
            self.disk.create_dir(&self.dir.join(name)).map_err(failed)?;
            names.push(name.clone());
        }
        // A folder may be there whose name the disk does not have yet.
        self.disk.sync_dir(&self.dir).map_err(failed)?;
        for name in names {
            let dir = self.dir.join(&name);
            let found = recover::partition(&*self.disk, &dir, marks.get(&name), findings)?;
            let config = PartitionConfig::default();
            let own = Inner::new(&name, dir, config, Arc::clone(self), found);
            self.lock().insert(name, Arc::new(own));
        }
        Ok(())
    }

    pub(super) fn partition(
        self: &Arc<Self>,
        name: &str,
        config: PartitionConfig,
    ) -> Result<Partition, Error> {
        if !is_name(name) {
            return Err(Error::Name(name.to_owned()));
        }
        if let Some(known) = self.known(name) {
            known.configure(config);
            return Ok(known);
        }
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        self.health()?;
        if self.work().closing {
            return Err(Error::Closed);
        }
        let dir = self.dir.join(name);
        let made = self
            .disk
            .create_dir(&dir)
            .and_then(|()| self.disk.sync_dir(&self.dir));
        made.map_err(|source| self.failed(&dir, source))?;
        let found = recover::Found::default();
        let own = Arc::new(Inner::new(name, dir, config, Arc::clone(self), found));
        let mut partitions = self.lock();
        if self.work().closing {
            return Err(Error::Closed);
        }
        partitions.insert(name.to_owned(), Arc::clone(&own));
        Ok(Partition(own))
    }

    pub(super) fn known(&self, name: &str) -> Option<Partition> {
        self.lock()
            .get(name)
            .map(|known| Partition(Arc::clone(known)))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        self.health()?;
        let Some(own) = self.known(name) else {
            let closing = self.work().closing;
            return if closing { Err(Error::Closed) } else { Ok(()) };
        };
        let _keeping = own.0.keep()?;
        let renamed = self.ask_remove(&own.0).recv();
        if let Err(error) = renamed.unwrap_or(Err(Error::Closed)) {
            if !self.work().closing {
                // It can still be read.
                self.lock().insert(name.to_owned(), Arc::clone(&own.0));
            }
            own.0.wake();
            return Err(error);
        }
        let gone = self.removed_dir(name);
        self.disk
            .remove_dir(&gone)
            .map_err(|source| self.failed(&gone, source))
    }

    /// Asks the committer to take a partition away.
    pub(super) fn ask_remove(&self, own: &Arc<Inner>) -> Receiver<Done> {
        let (done, renamed) = sync_channel(1);
        self.lock().remove(&*own.name);
        let mut work = self.work();
        if !work.closing {
            work.removals.push((Arc::clone(own), done));
            self.woken.notify_one();
        }
        renamed
    }

    /// Where a partition is while it is being removed. A leftover of another one may be there.
    pub(super) fn removed_dir(&self, name: &str) -> PathBuf {
        let most = 255 - DELETED.len();
        let name = name.get(..most).unwrap_or(name);
        self.dir.join(format!("{name}{DELETED}"))
    }

    pub(super) fn health(&self) -> Result<(), Error> {
        match self.poison.get() {
            Some(reason) => Err(Error::Poisoned(Arc::clone(reason))),
            None => Ok(()),
        }
    }

    /// Nothing is accepted from here on. The first reason is kept.
    pub(super) fn poison(&self, error: &Error) {
        if self.poison.set(error.to_string().into()).is_ok() {
            tracing::error!(%error, "the log accepts nothing any more; free or replace the disk, then start again");
            // Who waits for records would wait for ever.
            self.all().iter().for_each(|own| own.wake());
        }
    }

    /// The disk failed in a way that leaves open what it holds.
    pub(super) fn failed(&self, path: &Path, source: std::io::Error) -> Error {
        let error = Error::io(path, source);
        self.poison(&error);
        error
    }

    /// Takes `bytes` more into account, if there is room and the log accepts something.
    pub(super) fn admit(&self, bytes: usize) -> Result<(), Error> {
        self.health()?;
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One batch always fits: else the largest could never be written.
        if before > 0 && before + bytes > WAITING_BYTES_MAX {
            self.released(bytes);
            return Err(Error::Busy(before));
        }
        Ok(())
    }

    pub(super) fn released(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Tells the committer that something waits; refuses it if there is none any more.
    pub(super) fn queue(&self, partition: &Arc<Inner>) {
        let mut work = self.work();
        if work.closing {
            drop(work);
            partition.end();
        } else {
            work.partitions.push(Arc::clone(partition));
            self.woken.notify_one();
        }
    }

    /// Tells the committer that there is a file to be closed some time.
    pub(super) fn warm(&self) {
        let mut work = self.work();
        if !std::mem::replace(&mut work.warm, true) {
            self.woken.notify_one();
        }
    }

    /// Waits for work, at most until `due`; none when the log was closed and all is done.
    pub(super) fn wait(&self, due: Option<Instant>) -> Option<Work> {
        let mut work = self.work();
        loop {
            if let Some(work) = work.take() {
                return Some(work);
            }
            if work.closing {
                return None;
            }
            work = match due {
                None => self
                    .woken
                    .wait(work)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let Some(left) = due.checked_duration_since(monotonic()) else {
                        return Some(Work::default());
                    };
                    let woken = self.woken.wait_timeout(work, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The committer is to end when all that waits is done.
    pub(super) fn close(&self) {
        self.work().closing = true;
        self.woken.notify_one();
    }

    /// Nobody writes any more: refuses what waits, and lets go of the partitions, which hold on to
    /// this in their turn.
    pub(super) fn end(&self) {
        let work = {
            let mut work = self.work();
            work.closing = true;
            work.take().unwrap_or_default()
        };
        let all = std::mem::take(&mut *self.lock());
        for own in all.values().chain(&work.partitions) {
            own.end();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Inner>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Inner>>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// All that waits, if something does.
    pub(super) fn take(&mut self) -> Option<Self> {
        let some = self.warm || !self.partitions.is_empty() || !self.removals.is_empty();
        some.then(|| Self {
            partitions: std::mem::take(&mut self.partitions),
            removals: std::mem::take(&mut self.removals),
            warm: std::mem::take(&mut self.warm),
            closing: self.closing,
        })
    }
}

/// The end of the name of a folder that is being removed.
const DELETED: &str = "~deleted";

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=255).contains(&name.len())
        && name.bytes().all(allowed)
        && ![".", "..", "checkpoint", "checkpoint.new"].contains(&name)
}
