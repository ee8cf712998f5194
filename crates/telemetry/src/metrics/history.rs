//! Metrics on disk: a file for each day, and a journal of what has come since it was last appended to.
//!
//! Today's and yesterday's are appended to, twice a minute, with what has come since: cells of minutes
//! add up, so a minute may come in parts, and nothing is ever changed. What comes meanwhile goes to the day's
//! journal, each second: appended to the file that often, a minute would come in sixty parts. The name of a journal
//! says how long its day's file was when it was begun. Once the file is longer, it has what the journal has, and the
//! journal counts no more; so a kill between the two counts nothing twice. (What is appended at once is one frame, whole or
//! torn, up to 32 MiB of it.) A day that lies two days back
//! is rewritten by ten minutes; the new file takes the place of the old in one step. What was written
//! survives a kill; a frame that is torn or broken ends its file, with one warning, and what is before
//! it is kept. Where both files of a day exist, the rewriting was cut short: the finer one counts.
//!
//! Parquet was not taken: a minute of all series is a few kilobytes, and its footer is larger.

mod file;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read as _;
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

/// What the name of a journal ends with.
const JOURNAL: &str = "journal";

/// Days, today among them, that stay in minutes.
const MINUTE_DAYS: i64 = 2;

/// Cells that wait for their day's file. At that number the disk has been away for long.
const WAITING_MAX: usize = 1_000_000;

/// Cells of a day that are not in its file yet, by series and minute.
type Waiting = HashMap<(Key, i64), (Cell, Meaning)>;

/// The cells of one series, by the time at which they begin.
type Cells = BTreeMap<i64, Cell>;

/// The folder.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    /// The files that are appended to, by their day.
    open: BTreeMap<i64, Appender>,
    /// The journals, by their day.
    journals: BTreeMap<i64, (PathBuf, Appender)>,
    waiting: BTreeMap<i64, Waiting>,
    lost: u64,
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
            journals: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lost: 0,
        })
    }

    /// Takes what has come since the last time into the journal. It waits for [`flush`](Self::flush).
    ///
    /// # Errors
    /// When the disk refuses; then it waits in memory alone.
    pub fn note(&mut self, fresh: Vec<(Pending, Meaning)>) -> Result<(), Error> {
        let mut days: BTreeMap<i64, Vec<(Pending, Meaning)>> = BTreeMap::new();
        for item in fresh {
            let day = day_of(MINUTES.begin(item.0.minute));
            days.entry(day).or_default().push(item);
        }
        let mut noted = Ok(());
        for (day, items) in days {
            noted = noted.and(self.journal(day, &items));
            for item in items {
                self.wait(day, item);
            }
        }
        noted
    }

    /// Appends what waits to the files of its days.
    ///
    /// # Errors
    /// When the disk refuses; it waits on then, and what was written of it is cut off.
    pub fn flush(&mut self) -> Result<(), Error> {
        while let Some((day, cells)) = self.waiting.pop_first() {
            let items = cells.into_iter().map(|((key, minute), (cell, meaning))| {
                let pending = Pending { key, minute, cell };
                (pending, meaning)
            });
            let items: Vec<_> = items.collect();
            if let Err(error) = self.append(day, &items) {
                for item in items {
                    self.wait(day, item);
                }
                return Err(error);
            }
            if let Some((path, _)) = self.journals.remove(&day) {
                // One that stays does not count any more.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Cells that never came to the disk, since the start.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    fn append(&mut self, day: i64, items: &[(Pending, Meaning)]) -> Result<(), Error> {
        let (path, mut appender) = self.take_file(day)?;
        let begin = appender.end();
        let written = appender.append(items).and_then(|()| appender.sync());
        if let Err(error) = written {
            appender.cut(begin);
            return Err(Error::unusable(&path, error));
        }
        self.open.insert(day, appender);
        Ok(())
    }

    fn journal(&mut self, day: i64, items: &[(Pending, Meaning)]) -> Result<(), Error> {
        let (path, mut journal) = match self.journals.remove(&day) {
            Some(known) => known,
            None => {
                let (_, file) = self.take_file(day)?;
                let path = self
                    .dir
                    .join(format!("{}.{}.{JOURNAL}", date(day), file.end()));
                self.open.insert(day, file);
                let journal = Appender::open(&path);
                let journal = journal.map_err(|error| Error::unusable(&path, error))?;
                (path, journal)
            }
        };
        let begin = journal.end();
        if let Err(error) = journal.append(items) {
            journal.cut(begin);
            return Err(Error::unusable(&path, error));
        }
        self.journals.insert(day, (path, journal));
        Ok(())
    }

    fn take_file(&mut self, day: i64) -> Result<(PathBuf, Appender), Error> {
        let path = self.path(day, Grain::Minutes);
        let appender = match self.open.remove(&day) {
            Some(appender) => appender,
            None => Appender::open(&path).map_err(|error| Error::unusable(&path, error))?,
        };
        Ok((path, appender))
    }

    fn wait(&mut self, day: i64, (pending, meaning): (Pending, Meaning)) {
        let count: usize = self.waiting.values().map(HashMap::len).sum();
        let waiting = self.waiting.entry(day).or_default();
        match waiting.entry((pending.key, pending.minute)) {
            Entry::Occupied(mut known) => {
                known.get_mut().0.add(&pending.cell);
            }
            Entry::Vacant(_) if count >= WAITING_MAX => self.lost += 1,
            Entry::Vacant(free) => {
                free.insert((pending.cell, meaning));
            }
        }
    }

    /// What the journals of an earlier run have, where it counts. The others are removed.
    fn recover(&mut self) -> BTreeMap<Key, (Meaning, Cells)> {
        let mut all = BTreeMap::new();
        for (path, day, length) in self.left() {
            match self.reopen(&path, day, length) {
                Ok(Some(journal)) => {
                    gather(&path, Grain::Minutes, |_| true, &mut all);
                    self.journals.insert(day, (path, journal));
                }
                Ok(None) => {
                    let _ = fs::remove_file(&path);
                }
                Err(error) => tracing::warn!(%error, "the last metrics cannot be read"),
            }
        }
        for (key, (meaning, cells)) in &all {
            for (micros, cell) in cells {
                let pending = Pending {
                    key: key.clone(),
                    minute: MINUTES.slot(*micros),
                    cell: cell.clone(),
                };
                self.wait(day_of(*micros), (pending, meaning.clone()));
            }
        }
        all
    }

    /// The journal, if its day's file is as it was when the journal was begun.
    fn reopen(&mut self, path: &Path, day: i64, length: u64) -> Result<Option<Appender>, Error> {
        if !self.path(day, Grain::Minutes).exists() {
            return Ok(None);
        }
        let (_, file) = self.take_file(day)?;
        let is_same = file.end() == length;
        self.open.insert(day, file);
        let journal = is_same.then(|| Appender::open(path)).transpose();
        journal.map_err(|error| Error::unusable(path, error))
    }

    /// The journals that are there: their days, and how long the files of these were.
    fn left(&self) -> Vec<(PathBuf, i64, u64)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let parts = name
                .to_str()
                .map(|name| name.splitn(3, '.').collect::<Vec<_>>());
            let Some([date, length, JOURNAL]) = parts.as_deref() else {
                continue;
            };
            if let Some((day, length)) = day_named(date).zip(length.parse().ok()) {
                found.push((entry.path(), day, length));
            }
        }
        found
    }

    /// All that is kept in minutes, of each series in the order of time. To be called once, before anything is noted.
    pub fn restore<F: FnMut(&Pending, &Meaning)>(&mut self, mut found: F) {
        let mut all = self.recover();
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

    /// The files that have something between the two times, as they are now. What is written or removed later
    /// does not change what they read, so nothing waits for it.
    pub fn parts(&self, since: i64, until: i64) -> Vec<Part> {
        let asked = day_of(since)..=day_of(until);
        let files = self.files().into_iter();
        let asked = files.filter(|(day, _)| asked.contains(day));
        asked
            .filter_map(|(day, grain)| Part::open(self.path(day, grain), grain))
            .collect()
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
            } else if grain == Grain::Minutes
                && day <= today - MINUTE_DAYS
                && !self.waiting.contains_key(&day)
            {
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
        File::open(&self.dir)?.sync_all()?;
        fs::remove_file(&fine)
    }

    fn path(&self, day: i64, grain: Grain) -> PathBuf {
        self.dir.join(format!("{}.{}", date(day), grain.ending()))
    }

    /// The files that count, oldest first.
    fn files(&self) -> Vec<(i64, Grain)> {
        let mut found: BTreeMap<i64, Grain> = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some((date, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Some(day) = day_named(date) else {
                continue;
            };
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

/// As `2026-01-31`.
fn date(day: i64) -> String {
    let moment = Timestamp::from_micros(day * DAY_MICROS).to_string();
    moment.split('T').next().unwrap_or("0").to_owned()
}

fn day_named(date: &str) -> Option<i64> {
    let moment: Timestamp = format!("{date}T00:00:00Z").parse().ok()?;
    Some(day_of(moment.as_micros()))
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
    if let Some(part) = Part::open(path.to_owned(), grain) {
        part.gather(wants, out);
    }
}

/// A file as it was when it was opened.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    grain: Grain,
    file: File,
    length: u64,
}

impl Part {
    /// None, with a warning, if it cannot be read.
    fn open(path: PathBuf, grain: Grain) -> Option<Self> {
        let opened = File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        match opened {
            Ok((file, length)) => Some(Self {
                path,
                grain,
                file,
                length,
            }),
            Err(error) => {
                unreadable(&path, &error);
                None
            }
        }
    }

    /// Calls `found` with the cells of the series that are wanted, between the two times.
    pub fn read<W, F>(self, since: i64, until: i64, wants: W, mut found: F)
    where
        W: Fn(&Key) -> bool,
        F: FnMut(&Key, i64, &Cell),
    {
        let mut all = BTreeMap::new();
        self.gather(wants, &mut all);
        for (key, (_, cells)) in &all {
            for (micros, cell) in cells.range(since..until) {
                found(key, *micros, cell);
            }
        }
    }

    fn gather<W>(self, wants: W, out: &mut BTreeMap<Key, (Meaning, Cells)>)
    where
        W: Fn(&Key) -> bool,
    {
        let Self {
            path,
            grain,
            file,
            length,
        } = self;
        let mut bytes = Vec::new();
        if let Err(error) = file.take(length).read_to_end(&mut bytes) {
            return unreadable(&path, &error);
        }
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
}

fn unreadable(path: &Path, error: &std::io::Error) {
    tracing::warn!(%error, path = %path.display(), "metrics cannot be read");
}

#[cfg(test)]
mod tests;
