//! The log: partitions of records in files, each record acknowledged when the disk has it.
//!
//! What holds, by number; the tests cite them.
//!
//! 1. An acknowledged record is read again after any crash, once, at its offset, byte for byte.
//! 2. Records are read only after they are acknowledged; what is not sound is never given out.
//! 3. Offsets rise by one from record to record in the order of the calls to [`Partition::append`];
//!    an offset is never given to two acknowledged records.
//! 4. After a failed write, `fsync` or rename, nothing is acknowledged any more ([`Log::health`]
//!    tells why), and everything that was can still be read. After a failed `fsync` nobody can know
//!    what the disk holds, so nobody carries on. Only a file that compaction writes beside the old
//!    one may fail: it is thrown away.
//! 5. What a crash may leave behind the last acknowledged record is cut off, and kept beside.
//! 6. A start looks only at what was written after the last checkpoint, a few seconds' worth.
//! 7. An idle partition has no open file, no thread, no timer, and takes some hundred bytes.
//!
//! ```text
//! append ──> queue of the partition ──> committer: write all, fdatasync, acknowledge ──> readers
//!            (bounded in bytes)         (one thread; the next group gathers meanwhile)
//! ```

pub mod batch;
mod checkpoint;
mod committer;
mod compact;
mod disk;
#[cfg(any(test, feature = "test-util"))]
pub mod hooked;
mod partition;
mod read;
mod recover;
mod retain;
mod run;
mod segment;
mod shared;
#[cfg(any(test, feature = "test-util"))]
pub mod sim;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use self::batch::{BatchError, Header};
pub use self::compact::{Rewrite, Segment};
pub use self::disk::{Disk, DiskFile, RealDisk, read_whole, replace};
pub use self::partition::{Partition, Pending};
pub use self::read::Read;

use self::committer::{Committer, SYNC_THREADS};
use self::shared::LogShared;

/// When records are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the disk has them.
    #[default]
    Synced,
    /// When the system has them: a crash of the machine may lose the last seconds.
    Memory,
}

/// How a partition is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Files are finished when they reach this size. Default 64 MiB.
    pub segment_bytes: u64,
}

/// Why the log cannot do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk failed; nothing is accepted any more.
    #[error("the log is read-only since the disk failed: {0}")]
    Poisoned(Arc<str>),
    /// Too much waits for the disk.
    #[error("{0} bytes wait for the disk already; try again")]
    Busy(usize),
    /// A file cannot be used.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// What is on the disk is not what was written.
    #[error("{} is damaged at byte {position}: {source}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        #[source]
        source: BatchError,
    },
    /// Acknowledged records are not on the disk any more.
    #[error("the records {from} to {until} of {} are gone from the disk", .path.display())]
    Lost {
        /// The partition's folder.
        path: PathBuf,
        /// The first of them.
        from: i64,
        /// The offset after the last.
        until: i64,
    },
    /// There is nothing at this offset.
    #[error("offset {from} is not between {start} and {end}")]
    OutOfRange {
        /// What was asked for.
        from: i64,
        /// The first offset.
        start: i64,
        /// The offset after the last record.
        end: i64,
    },
    /// What was to be appended is no batch.
    #[error("no record batch: {0}")]
    Batch(#[source] BatchError),
    /// No partition can have this name.
    #[error("'{0}' is no name for a partition")]
    Name(String),
    /// The partition was removed.
    #[error("the partition '{0}' was removed")]
    Removed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Something that a start found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The end of a file was never acknowledged, and was cut off.
    Cut {
        /// The file.
        path: PathBuf,
        /// How much.
        bytes: u64,
        /// Where it is kept.
        kept: PathBuf,
    },
    /// Acknowledged records are gone.
    Lost {
        /// The partition's folder.
        path: PathBuf,
        /// The first of them.
        from: i64,
        /// The offset after the last.
        until: i64,
    },
    /// A small file was not as it was written, and is not believed: that of the checkpoint (more is
    /// walked through), or of the first offset of a partition (deleted records may be back).
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The log: all partitions. A cheap handle.
#[derive(Debug, Clone)]
pub struct Log(Arc<Owner>);

/// Ends the thread when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<LogShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
        }
    }
}

impl Log {
    /// Opens the log in `dir`, which is there, and tells what it found.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Vec<Finding>), Error> {
        let (shared, findings) = LogShared::open(dir, disk)?;
        let committer = Committer::new(Arc::clone(&shared), SYNC_THREADS);
        let thread = std::thread::Builder::new()
            .name("atoll-log".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| Error::io(dir, source))?;
        let owner = Owner {
            shared,
            thread: Mutex::new(Some(thread)),
        };
        Ok((Self(Arc::new(owner)), findings))
    }

    /// The folder that it is in.
    pub fn dir(&self) -> &Path {
        &self.0.shared.dir
    }

    /// Opens a partition, or makes it. Names are letters, digits, `.`, `_` and `-`.
    ///
    /// # Errors
    /// When the name is none, the log was closed or the disk fails.
    pub fn partition(&self, name: &str, config: PartitionConfig) -> Result<Partition, Error> {
        self.0.shared.partition(name, config)
    }

    /// The names of all partitions.
    pub fn partitions(&self) -> Vec<String> {
        let all = self.0.shared.all();
        let mut names: Vec<_> = all.iter().map(|own| own.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Removes a partition and all its records; what waits to be written is refused. No error if there
    /// is none of this name. May block.
    ///
    /// # Errors
    /// When the log was closed or the disk fails.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.0.shared.remove(name)
    }

    /// Why nothing is accepted any more.
    ///
    /// # Errors
    /// When the disk has failed.
    pub fn health(&self) -> Result<(), Error> {
        self.0.shared.health()
    }

    /// Writes what waits and how far all is sound, and ends. Appends are refused from here on.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Owner {
    fn close(&self) {
        self.shared.close();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It has told what went wrong, if it did.
            let _ = thread.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Error {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}
