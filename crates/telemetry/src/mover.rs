//! The thread that makes files of what leaves the memory, puts small ones together, and removes old ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use atoll_base::{Timestamp, clock};
use atoll_store::log::Disk;

use crate::cold::{ColdFile, write};
use crate::keep::{Kept, surplus, together};
use crate::service::Shared;
use crate::shelf::{Sealed, Shelf};
use crate::wal;
use crate::{Error, TelemetryConfig};

/// How often files are looked through.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// A disk that refuses is tried again this often.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the troubles of this thread are told as.
const NAME: &str = "files";

/// The thread's own.
pub(crate) struct Mover {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) config: TelemetryConfig,
    /// Something was sealed. Closed when nothing more will be.
    pub(crate) sealed: Receiver<()>,
}

impl Mover {
    /// Works until nothing more will come; then all that could be written is in files.
    pub(crate) fn run(self) {
        let mut tidy_at: Option<Instant> = None;
        loop {
            // Before anything is stored, so that what a start puts together is what earlier lives left, however
            // late this thread comes to run.
            let now = clock::monotonic();
            if tidy_at.is_none_or(|at| now >= at) {
                self.tidy(Timestamp::now());
                tidy_at = Some(now + TIDY_INTERVAL);
            }
            let stored = self.store_all();
            let wait = if stored {
                TIDY_INTERVAL
            } else {
                RETRY_INTERVAL
            };
            if let Err(RecvTimeoutError::Disconnected) = self.sealed.recv_timeout(wait) {
                self.store_all();
                return;
            }
        }
    }

    fn shelves(&self) -> [&Shelf; 2] {
        [&self.shared.logs, &self.shared.spans]
    }

    /// Makes files of all that is sealed; answers whether that went well.
    fn store_all(&self) -> bool {
        let mut troubles = Vec::new();
        for shelf in self.shelves() {
            // In their order: a start takes it that what came before a file is in one too.
            for sealed in &shelf.snapshot().sealed {
                self.remove_surplus(Timestamp::now());
                if let Err(error) = self.store(shelf, sealed) {
                    troubles.push(error.to_string());
                    break;
                }
            }
        }
        let trouble = troubles.pop();
        let well = trouble.is_none();
        if self.shared.trouble.set(NAME, trouble.clone())
            && let Some(trouble) = trouble
        {
            tracing::error!(trouble, "telemetry cannot leave the memory");
        }
        well
    }

    fn store(&self, shelf: &Shelf, sealed: &Sealed) -> Result<(), Error> {
        let kind = shelf.kind();
        let dir = self.dir.join(kind.name());
        let batches: Vec<RecordBatch> = sealed.batches.iter().map(|b| b.batch.clone()).collect();
        let generation = sealed.sequence;
        let file = write(&self.disk, &dir, kind, (generation, generation), batches)?;
        shelf.stored(generation, file);
        let wal = self.dir.join(wal::FOLDER);
        let path = wal::path(&wal, kind, generation);
        if let Err(error) = self.disk.remove(&path) {
            // The next start does it.
            tracing::warn!(path = %path.display(), %error, "a write-ahead log cannot be removed");
        }
        Ok(())
    }

    /// Removes what is too old or too much, and puts small files together.
    pub(crate) fn tidy(&self, now: Timestamp) {
        self.remove_surplus(now);
        for shelf in self.shelves() {
            let cold = &shelf.snapshot().cold;
            let kept: Vec<Kept> = kept(shelf, cold).collect();
            for places in together(&kept, now) {
                let files: Vec<Arc<ColdFile>> = places
                    .iter()
                    .map(|place| Arc::clone(&cold[*place]))
                    .collect();
                if let Err(error) = self.put_together(shelf, &files) {
                    tracing::warn!(%error, "files of telemetry cannot be put together");
                }
            }
            remove_empty_days(self.disk.as_ref(), &self.dir.join(shelf.kind().name()), now);
        }
    }

    fn put_together(&self, shelf: &Shelf, files: &[Arc<ColdFile>]) -> Result<(), Error> {
        let kind = shelf.kind();
        let (Some(first), Some(last)) = (files.first(), files.last()) else {
            return Ok(());
        };
        let all = kind.all_columns();
        let mut batches = Vec::new();
        for file in files {
            for group in 0..file.groups().len() {
                match file.read(group, &all, None) {
                    Ok(batch) => batches.push(batch),
                    // The others are put together without it, the next time.
                    Err(error @ Error::Damaged { .. }) => {
                        if file.found_broken() {
                            tracing::warn!(%error, "a file of telemetry is skipped");
                        }
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let dir = self.dir.join(kind.name());
        let generations = (first.name().first, last.name().last);
        let file = write(&self.disk, &dir, kind, generations, batches)?;
        shelf.replace(files, Some(file));
        Ok(())
    }

    /// Removes what is too old or too much.
    fn remove_surplus(&self, now: Timestamp) {
        let snapshots = self.shelves().map(|shelf| (shelf, shelf.snapshot()));
        let files = snapshots
            .iter()
            .flat_map(|(shelf, snapshot)| kept(shelf, &snapshot.cold));
        let files: Vec<Kept> = files.collect();
        let gone = surplus(&files, self.wal_bytes(), &self.config, now);
        for (shelf, snapshot) in &snapshots {
            let own = gone.iter().filter(|file| file.kind == shelf.kind());
            let own: Vec<Arc<ColdFile>> = own
                .filter_map(|file| snapshot.cold.get(file.place).cloned())
                .collect();
            if !own.is_empty() {
                shelf.replace(&own, None);
            }
        }
    }

    /// What the write-ahead logs take.
    fn wal_bytes(&self) -> u64 {
        let dir = self.dir.join(wal::FOLDER);
        let names = self.disk.list(&dir).unwrap_or_default();
        let lengths = names.iter().filter_map(|name| {
            let file = self.disk.open(&dir.join(name), false).ok()?;
            file.length().ok()
        });
        lengths.sum()
    }
}

fn kept<'a>(shelf: &Shelf, files: &'a [Arc<ColdFile>]) -> impl Iterator<Item = Kept> + use<'a> {
    let kind = shelf.kind();
    files.iter().enumerate().map(move |(place, file)| Kept {
        kind,
        place,
        times: file.extent().times,
        bytes: file.bytes(),
        memory_bytes: file.memory_bytes(),
        broken: file.is_broken(),
    })
}

/// Removes the folders of days of which nothing is kept.
fn remove_empty_days(disk: &dyn Disk, dir: &Path, now: Timestamp) {
    let today = now.to_string();
    for day in crate::open::days(disk, dir).unwrap_or_default() {
        let folder = dir.join(&day);
        let empty = disk.list(&folder).is_ok_and(|names| names.is_empty());
        if empty && !today.starts_with(&day) {
            // If it cannot be removed now, it is empty tomorrow too.
            let _ = disk.remove_dir(&folder);
        }
    }
}
