//! What a start finds: files, and rows of an earlier process that are in no file yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_store::log::{Disk, read_whole, replace};

use crate::cold::{ColdFile, Name};
use crate::sample::{self, Rules};
use crate::schema::Kind;
use crate::shelf::{HotBatch, Sealed, Snapshot};
use crate::{Error, TelemetryConfig, wal};

/// What is kept of one kind.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) snapshot: Snapshot,
    /// The generation that begins now.
    pub(crate) sequence: u64,
    /// The number of the next row.
    pub(crate) next: u64,
}

/// Makes the folders that are missing.
pub(crate) fn make_folders(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let kinds = Kind::ALL.map(Kind::name);
    for name in [wal::FOLDER].iter().chain(&kinds) {
        let folder = dir.join(name);
        disk.create_dir(&folder)
            .map_err(|error| Error::unusable(&folder, error))?;
    }
    disk.sync_dir(dir)
        .map_err(|error| Error::unusable(dir, error))
}

/// What was kept of ordinary traces at which times, and is from `now` on. What cannot be read or written makes
/// counts that are reckoned from spans less true, and is no reason not to start.
pub(crate) fn sampling(
    disk: &dyn Disk,
    dir: &Path,
    config: &TelemetryConfig,
    now: Timestamp,
) -> Rules {
    let path = dir.join(sample::FILE);
    let told = |error: &dyn std::fmt::Display| {
        tracing::warn!(path = %path.display(), %error, "how spans were sampled before is not known, or will not be");
    };
    let mut rules = match read_whole(disk, &path) {
        Ok(text) => text.map_or_else(Rules::default, |text| {
            let rules = serde_json::from_slice(&text);
            rules.inspect_err(|error| told(error)).unwrap_or_default()
        }),
        Err(error) => {
            told(&error);
            Rules::default()
        }
    };
    let rule = (config.sample, config.sample_slow);
    if rules.hold(rule, now, now.before(config.max_age.0)) {
        let text = serde_json::to_vec(&rules).unwrap_or_default();
        if let Err(error) = replace(disk, &path, &text) {
            told(&error);
        }
    }
    rules
}

/// Looks through what is kept of `kind`, and removes what a crash has left over.
pub(crate) fn find(disk: &Arc<dyn Disk>, dir: &Path, kind: Kind) -> Result<Found, Error> {
    let names = names(disk.as_ref(), &dir.join(kind.name()))?;
    // Of those that cannot be read too: they may be tomorrow, and their generations stay theirs.
    let taken = names.iter().map(|(name, _)| name.last).max();
    let mut sequence = taken.map_or(1, |taken| taken + 1);
    let mut snapshot = Snapshot {
        cold: files(disk, kind, names),
        ..Snapshot::default()
    };
    let stored = snapshot.cold.iter().map(|file| file.name().last).max();
    for left in wal::recover(disk.as_ref(), &dir.join(wal::FOLDER), kind)? {
        sequence = sequence.max(left.sequence + 1);
        let in_a_file = stored.is_some_and(|stored| left.sequence <= stored);
        if in_a_file || left.batches.is_empty() {
            disk.remove(&left.path)
                .map_err(|error| Error::unusable(&left.path, error))?;
            continue;
        }
        let batches = left
            .batches
            .into_iter()
            .map(|batch| Arc::new(HotBatch::new(kind, batch)));
        snapshot.sealed.push(Arc::new(Sealed {
            sequence: left.sequence,
            batches: batches.collect(),
        }));
    }
    let units = snapshot.units();
    let last = units.iter().map(|unit| unit.extent().numbers.1).max();
    Ok(Found {
        next: last.unwrap_or(0) + 1,
        sequence,
        snapshot,
    })
}

/// The folders of days in `dir`.
pub(crate) fn days(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = disk.list(dir).map_err(|e| Error::unusable(dir, e))?;
    let is_day =
        |name: &String| name.len() == 10 && name.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    names.retain(is_day);
    names.sort_unstable();
    Ok(names)
}

/// The files in `dir`. What was not finished is removed.
fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<(Name, PathBuf)>, Error> {
    let mut names = Vec::new();
    for day in days(disk, dir)? {
        let folder = dir.join(day);
        let found = disk
            .list(&folder)
            .map_err(|e| Error::unusable(&folder, e))?;
        for name in found {
            let path = folder.join(&name);
            match Name::parse(&name) {
                Some(parsed) => names.push((parsed, path)),
                None if name.ends_with(".tmp") => {
                    disk.remove(&path).map_err(|e| Error::unusable(&path, e))?;
                }
                None => {}
            }
        }
    }
    Ok(names)
}

/// Those that can be read and are no parts of others, by generation.
fn files(disk: &Arc<dyn Disk>, kind: Kind, names: Vec<(Name, PathBuf)>) -> Vec<Arc<ColdFile>> {
    let mut files = Vec::new();
    for (name, path) in names {
        match ColdFile::open(disk, kind, name, path) {
            Ok(file) => files.push(Arc::new(file)),
            Err(error) => tracing::warn!(%error, "a file of telemetry is skipped"),
        }
    }
    // A part goes only when the whole that has it can be read.
    let wholes: Vec<Name> = files.iter().map(|file| *file.name()).collect();
    files.retain(|file| {
        let part = wholes.iter().any(|whole| file.name().is_part_of(whole));
        if part {
            file.discard();
        }
        !part
    });
    files.sort_by_key(|file| file.name().first);
    files
}
