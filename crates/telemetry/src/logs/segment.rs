//! The folder of segments: naming, listing, the first line.
//!
//! A segment is `<first record number, 20 digits>.jsonl`. Its first line names the format, so that
//! a later Atoll knows what it reads. Records follow, one per line, numbers growing. A segment is
//! appended to by the process that made it and by no other: each start begins a new one, so a torn
//! last line after a crash stays where it is and is skipped, and nothing needs repair.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// The first line of every segment.
pub(crate) const FORMAT_LINE: &str = "{\"atoll_logs\":1}\n";

/// A segment on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// The number of its first record.
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
}

impl Segment {
    pub(crate) fn new(dir: &Path, first: u64) -> Self {
        Self {
            first,
            path: dir.join(format!("{first:020}.jsonl")),
        }
    }

    fn from_path(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
        let first = (name.len() == 20).then(|| name.parse().ok())??;
        Some(Self { first, path })
    }
}

/// All segments in `dir`, oldest first. Other files are left alone.
pub(crate) fn list(dir: &Path) -> Result<Vec<Segment>, Error> {
    let entries = fs::read_dir(dir).map_err(|e| Error::unusable(dir, e))?;
    let mut segments: Vec<Segment> = entries
        .flatten()
        .filter_map(|entry| Segment::from_path(entry.path()))
        .collect();
    segments.sort();
    Ok(segments)
}
