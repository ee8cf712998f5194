//! Metrics on disk: a file for each day.
//!
//! Today's and yesterday's are appended to, once a minute, with what has come since: cells of minutes
//! add up, so a minute may come in parts, and nothing is ever changed. A day that lies two days back
//! is rewritten by ten minutes; the new file takes the place of the old in one step. What was written
//! survives a kill; a frame that is torn or broken ends its file, with one warning, and what is before
//! it is kept. Where both files of a day exist, the rewriting was cut short: the finer one counts.
//!
//! Parquet was not taken: a minute of all series is a few kilobytes, and its footer is larger.

mod file;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_base::Timestamp;

use super::cell::Cell;
use super::query::COARSE;
use super::ring::Resolution;
use super::set::{Key, MINUTES, Meaning, Pending};
use crate::Error;
use file::{Appender, Reader};

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Days, today among them, that stay in minutes.
const MINUTE_DAYS: i64 = 2;

/// The cells of one series, by the time at which they begin.
type Cells = BTreeMap<i64, Cell>;

/// The folder.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    /// The files that are appended to, by their day.
    open: BTreeMap<i64, Appender>,
}

/// How fine the cells of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grain {
    Minutes,
    Coarse,
}

impl Grain {
    const fn ending(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Coarse => "coarse",
        }
    }

    const fn resolution(self) -> Resolution {
        match self {
            Self::Minutes => MINUTES,
            Self::Coarse => COARSE,
        }
    }
}

impl History {
    /// Opens the folder, which is made where it is missing.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(|error| Error::unusable(&dir, error))?;
        Ok(Self {
            dir,
            open: BTreeMap::new(),
        })
    }

    /// Appends what has come.
    ///
    /// # Errors
    /// When the disk refuses; then some of it may be written, and be there twice when it is written
    /// again: rather a figure that is too large for a minute than none.
    pub fn append(&mut self, pending: &[(Pending, Meaning)]) -> Result<(), Error> {
        let mut days: BTreeMap<i64, Vec<&(Pending, Meaning)>> = BTreeMap::new();
        for item in pending {
            let day = day_of(MINUTES.begin(item.0.minute));
            days.entry(day).or_default().push(item);
        }
        for (day, items) in days {
            let path = self.path(day, Grain::Minutes);
            let unusable = |error| Error::unusable(&path, error);
            let mut appender = match self.open.remove(&day) {
                Some(appender) => appender,
                None => Appender::open(&path).map_err(unusable)?,
            };
            // After a failure it is opened anew, and what is torn is cut.
            appender.append(&items).map_err(unusable)?;
            self.open.insert(day, appender);
        }
        Ok(())
    }

    /// All that is kept in minutes, of each series in the order of time.
    pub fn restore<F: FnMut(&Pending, &Meaning)>(&self, mut found: F) {
        let mut all: BTreeMap<Key, (Meaning, Cells)> = BTreeMap::new();
        for (day, grain) in self.files() {
            if grain == Grain::Minutes {
                gather(&self.path(day, grain), grain, |_| true, &mut all);
            }
        }
        for (key, (meaning, cells)) in all {
            for (micros, cell) in cells {
                let pending = Pending {
                    key: key.clone(),
                    minute: MINUTES.slot(micros),
                    cell,
                };
                found(&pending, &meaning);
            }
        }
    }

    /// Calls `found` with the cells of the series that are wanted, as they are on disk.
    pub fn read<W, F>(&self, since: i64, until: i64, wants: W, mut found: F)
    where
        W: Fn(&Key) -> bool,
        F: FnMut(&Key, i64, &Cell),
    {
        for (day, grain) in self.files() {
            if day < day_of(since) || day > day_of(until) {
                continue;
            }
            let mut all = BTreeMap::new();
            gather(&self.path(day, grain), grain, &wants, &mut all);
            for (key, (_, cells)) in &all {
                for (micros, cell) in cells.range(since..until) {
                    found(key, *micros, cell);
                }
            }
        }
    }

    /// Rewrites days that are past, and removes those that are too old.
    ///
    /// # Errors
    /// When the disk refuses; nothing is lost then.
    pub fn tidy(&mut self, now: Timestamp, max_age: Duration) -> Result<(), Error> {
        let today = day_of(now.as_micros());
        let oldest = day_of(now.before(max_age).as_micros());
        self.open.retain(|day, _| *day > today - MINUTE_DAYS);
        for (day, grain) in self.files() {
            let path = self.path(day, grain);
            let done = if day < oldest {
                fs::remove_file(&path)
            } else if grain == Grain::Minutes && day <= today - MINUTE_DAYS {
                self.coarsen(day)
            } else {
                Ok(())
            };
            done.map_err(|error| Error::unusable(&path, error))?;
        }
        Ok(())
    }

    fn coarsen(&self, day: i64) -> std::io::Result<()> {
        let (fine, coarse) = (
            self.path(day, Grain::Minutes),
            self.path(day, Grain::Coarse),
        );
        let mut all: BTreeMap<Key, (Meaning, Cells)> = BTreeMap::new();
        gather(&fine, Grain::Minutes, |_| true, &mut all);
        for (_, cells) in all.values_mut() {
            let mut slots = Cells::new();
            for (micros, cell) in std::mem::take(cells) {
                let begin = COARSE.begin(COARSE.slot(micros));
                add(&mut slots, begin, cell);
            }
            *cells = slots;
        }
        let temporary = coarse.with_extension("tmp");
        file::write_whole(&temporary, &all, COARSE)?;
        fs::rename(&temporary, &coarse)?;
        fs::File::open(&self.dir)?.sync_all()?;
        fs::remove_file(&fine)
    }

    fn path(&self, day: i64, grain: Grain) -> PathBuf {
        let date = Timestamp::from_micros(day * DAY_MICROS).to_string();
        let date = date.split('T').next().unwrap_or("0").to_owned();
        self.dir.join(format!("{date}.{}", grain.ending()))
    }

    /// The files that count, oldest first.
    fn files(&self) -> Vec<(i64, Grain)> {
        let mut found: BTreeMap<i64, Grain> = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some((date, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Ok(moment) = format!("{date}T00:00:00Z").parse::<Timestamp>() else {
                continue;
            };
            let day = day_of(moment.as_micros());
            match ending {
                "minutes" => {
                    found.insert(day, Grain::Minutes);
                }
                "coarse" => {
                    found.entry(day).or_insert(Grain::Coarse);
                }
                _ => {}
            }
        }
        found.into_iter().collect()
    }
}

const fn day_of(micros: i64) -> i64 {
    micros.div_euclid(DAY_MICROS)
}

fn add(cells: &mut Cells, micros: i64, cell: Cell) {
    match cells.entry(micros) {
        std::collections::btree_map::Entry::Occupied(mut known) => {
            known.get_mut().add(&cell);
        }
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert(cell);
        }
    }
}

/// Adds what a file has of the series that are wanted. A file that cannot be read has nothing.
fn gather<W>(path: &Path, grain: Grain, wants: W, out: &mut BTreeMap<Key, (Meaning, Cells)>)
where
    W: Fn(&Key) -> bool,
{
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "metrics cannot be read");
            return;
        }
    };
    let mut reader = Reader::new(&bytes);
    reader.each(wants, |key, meaning, slot, cell| {
        let micros = grain.resolution().begin(slot);
        if !out.contains_key(key) {
            out.insert(key.clone(), (meaning.clone(), Cells::new()));
        }
        if let Some((_, cells)) = out.get_mut(key) {
            add(cells, micros, cell);
        }
    });
    if reader.is_torn() {
        tracing::warn!(path = %path.display(), "the end of a file of metrics is torn, and is left out");
    }
}

#[cfg(test)]
mod tests;
