//! The write-ahead log of one kind: one file for each generation of rows that are in memory.
//!
//! It is not synced. What it guards against is the end of the process: the system has what was written.
//! When the machine loses power, the last seconds of telemetry may be lost, and a torn end is cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use atoll_store::log::{Disk, DiskFile, read_whole};

use crate::Error;
use crate::frame;
use crate::schema::Kind;

/// The folder of write-ahead logs.
pub(crate) const FOLDER: &str = "wal";

/// The file that frames go to.
#[derive(Debug)]
pub(crate) struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    kind: Kind,
    /// The number of the generation that is being written.
    sequence: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    length: u64,
}

/// A file that an earlier process has left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Wal {
    /// Begins with generation `sequence`; the file is made when there is something to write.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, kind: Kind, sequence: u64) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            kind,
            sequence,
            open: None,
        }
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends a batch. If that fails, the file is as it was before, or is given up.
    pub(crate) fn append(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let path = path(&self.dir, self.kind, self.sequence);
        let mut open = match self.open.take() {
            Some(open) => open,
            None => create(self.disk.as_ref(), &path)?,
        };
        let frame = frame::encode(batch);
        match open.file.write_at(&frame, open.length) {
            Ok(()) => {
                open.length += frame.len() as u64;
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                // What arrived of the frame would hide what is written behind it. If it cannot be cut off,
                // the next frame is written over it, at the same place.
                let _ = open.file.set_len(open.length);
                self.open = Some(open);
                Err(Error::unusable(&path, error))
            }
        }
    }

    /// Begins the next generation.
    pub(crate) fn advance(&mut self) {
        self.open = None;
        self.sequence += 1;
    }
}

/// The name of a generation's file.
pub(crate) fn path(dir: &Path, kind: Kind, sequence: u64) -> PathBuf {
    dir.join(format!("{}-{sequence:012}.wal", kind.name()))
}

fn create(disk: &dyn Disk, path: &Path) -> Result<Open, Error> {
    let made = disk.open(path, true).and_then(|file| {
        file.set_len(0)?;
        file.write_at(&frame::header(), 0)?;
        Ok(file)
    });
    match made {
        Ok(file) => Ok(Open {
            file,
            length: frame::HEADER_LENGTH as u64,
        }),
        Err(error) => {
            // An empty file would stay; whether it can be removed changes nothing.
            let _ = disk.remove(path);
            Err(Error::unusable(path, error))
        }
    }
}

/// What earlier processes have left of a kind, the oldest first.
pub(crate) fn recover(disk: &dyn Disk, dir: &Path, kind: Kind) -> Result<Vec<Left>, Error> {
    let names = disk.list(dir).map_err(|e| Error::unusable(dir, e))?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|n| parse(kind, n)).collect();
    sequences.sort_unstable();
    let left = sequences.into_iter().map(|sequence| {
        let path = path(dir, kind, sequence);
        let bytes = read_whole(disk, &path).map_err(|e| Error::unusable(&path, e))?;
        let bytes = bytes.unwrap_or_default();
        let found = frame::decode(kind, &bytes);
        if let Some(reason) = found.torn {
            let cut = bytes.len() - found.sound;
            tracing::warn!(path = %path.display(), reason, "{cut} bytes of telemetry are cut off");
        }
        Ok(Left {
            sequence,
            path,
            batches: found.batches,
        })
    });
    left.collect()
}

fn parse(kind: Kind, name: &str) -> Option<u64> {
    let rest = name.strip_prefix(kind.name())?.strip_prefix('-')?;
    rest.strip_suffix(".wal")?.parse().ok()
}
