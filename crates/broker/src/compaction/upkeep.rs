//! When a partition is worth compacting, and when its last file is finished for that.
//!
//! A run that compacts reads everything, so it must be worth it: so much is new that a good part of all
//! may go. One that only takes tombstones whose time has come reads the files that have such, and not
//! again before long. What was compacted is known in memory only: after a start each partition is
//! looked through once, and what did not change is not written. A file in the state for that was
//! refused: it would be one more thing that could be wrong about records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_store::log::Segment;

use super::Found;
use super::horizon::Cleanings;

/// What is known of a partition's compaction.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// Finished files hold one record of each key up to here.
    clean: i64,
    /// Where tombstones wait for the horizon: the beginnings of the files, and the first in each.
    waiting: BTreeMap<i64, i64>,
    /// Where the first batch begins that cannot be read.
    unreadable: Option<i64>,
    /// After runs that failed: when it is tried again, and how long the next pause is.
    failed: Option<(Timestamp, Duration)>,
    /// When the last run was.
    ran: Option<Timestamp>,
    /// How long ago what was cleaned. None: it was not read from the state yet.
    pub cleanings: Option<Cleanings>,
    /// Marks before this offset are not needed by the snapshot of open transactions.
    pub snapshot: i64,
    /// The last file that was seen with something in it (-1: none was yet), and since when it has.
    growing: Option<(i64, Timestamp)>,
}

/// How a partition is, for [`Upkeep::due`].
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its files.
    pub files: &'a [Segment],
    /// How far records count: acknowledged, lasting, decided.
    pub until: i64,
    /// The offset after the last acknowledged record.
    pub durable: i64,
    /// Files with later times are left alone. Milliseconds since 1970.
    pub youngest: i64,
    /// Tombstones before this offset may go.
    pub horizon: i64,
    /// So much must be new.
    pub dirty_percent: u8,
    /// So long after another run tombstones are no reason for one.
    pub apart: Duration,
}

/// How far a run may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Where it begins to look for keys.
    pub from: i64,
    /// The offset after the last finished file.
    pub finished: i64,
    /// The offset after the last record that counts.
    pub until: i64,
    /// Where the finished files begin.
    pub files: Vec<i64>,
    /// Only these of them are to be gone through, for tombstones. None: all.
    pub chosen: Option<BTreeSet<i64>>,
}

/// A run that failed is tried again after this time, then after twice as long, and so on, up to a day.
const AGAIN: Duration = Duration::from_secs(10 * 60);
const AGAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Upkeep {
    /// How far a run would go, if one is worth it now.
    pub fn due(&self, facts: &Facts<'_>, now: Timestamp) -> Option<Bounds> {
        if self.failed.is_some_and(|(next, _)| now < next) {
            return None;
        }
        let files = facts.files;
        let ends = files.iter().skip(1).map(|next| next.base);
        let finished: Vec<(&Segment, i64)> = files
            .iter()
            .zip(ends)
            .take_while(|(_, end)| *end <= facts.durable)
            .collect();
        let finished_end = finished.last()?.1;
        let young = files
            .iter()
            .find(|file| file.max_timestamp > facts.youngest);
        let until = young.map_or(facts.until, |file| facts.until.min(file.base));
        let edge = until.min(finished_end);
        let bytes = |fits: &dyn Fn(&Segment, i64) -> bool| -> u128 {
            let some = finished.iter().filter(|(file, end)| fits(file, *end));
            some.map(|(file, _)| u128::from(file.bytes)).sum()
        };
        let all = bytes(&|file, _| file.base < edge);
        let new = bytes(&|file, end| file.base < edge && end > self.clean);
        let worth = edge > self.clean && new * 100 >= all * u128::from(facts.dirty_percent);
        let bases = finished.iter().map(|(file, _)| file.base);
        let bounds = Bounds {
            from: self.clean,
            finished: finished_end,
            until: until.max(self.clean),
            files: bases.collect(),
            chosen: None,
        };
        if worth {
            return Some(bounds);
        }
        let chosen = self.ripe_files(&bounds.files, facts, now)?;
        Some(Bounds {
            until: self.clean,
            chosen: Some(chosen),
            ..bounds
        })
    }

    /// The files with tombstones that may go, if there are such and they are looked for now.
    fn ripe_files(
        &self,
        files: &[i64],
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<BTreeSet<i64>> {
        if self.ran.is_some_and(|ran| now.since(ran) < facts.apart) {
            return None;
        }
        let horizon = self.blocked(facts.horizon);
        let ripe = |file: &&i64| self.waiting.get(file).is_some_and(|first| *first < horizon);
        let chosen: BTreeSet<i64> = files.iter().filter(ripe).copied().collect();
        (!chosen.is_empty()).then_some(chosen)
    }

    /// The horizon, unless something that cannot be read lies before it.
    pub fn blocked(&self, horizon: i64) -> i64 {
        horizon.min(self.unreadable.unwrap_or(i64::MAX))
    }

    /// A run has come to its end.
    pub fn done(&mut self, bounds: &Bounds, found: &Found, now: Timestamp) {
        match &bounds.chosen {
            None => {
                self.clean = self.clean.max(found.end.min(bounds.finished));
                self.waiting.clear();
                self.unreadable = found.unreadable.map(|(first, _)| first);
            }
            Some(chosen) => self.waiting.retain(|file, _| !chosen.contains(file)),
        }
        self.waiting.extend(&found.waiting);
        self.ran = Some(now);
        self.failed = None;
    }

    /// A run has failed. Tells whether that is news: none has failed since the last that did not.
    pub fn failed(&mut self, now: Timestamp) -> bool {
        let pause = self.failed.map_or(AGAIN, |(_, pause)| pause);
        let news = self.failed.is_none();
        self.failed = Some((now.after(pause), (pause * 2).min(AGAIN_MAX)));
        news
    }

    /// Whether the last file, which has something in it, is to be finished: `age` after that was first
    /// seen. `begun`: the time of its first record, asked for only if nobody has looked before.
    pub fn is_ripe(
        &mut self,
        last: Option<i64>,
        begun: impl FnOnce() -> Timestamp,
        age: std::time::Duration,
        now: Timestamp,
    ) -> bool {
        let Some(base) = last else {
            self.growing = Some((-1, now));
            return false;
        };
        let since = match self.growing {
            Some((known, since)) if known == base => since,
            // It was begun since the last look.
            Some(_) => now,
            // A time to come is a mistake of the client's.
            None => begun().min(now),
        };
        self.growing = Some((base, since));
        now.since(since) >= age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn file(base: i64, bytes: u64, max_timestamp: i64) -> Segment {
        Segment {
            base,
            bytes,
            max_timestamp,
        }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn facts(files: &[Segment], until: i64) -> Facts<'_> {
        Facts {
            files,
            until,
            durable: until,
            youngest: i64::MAX,
            horizon: i64::MIN,
            dirty_percent: 50,
            apart: Duration::from_secs(3600),
        }
    }

    fn found(end: i64) -> Found {
        Found {
            end,
            ..Found::default()
        }
    }

    #[test]
    fn a_run_waits_until_half_is_new() {
        let mut own = Upkeep::default();
        let due = |own: &Upkeep, files: &[Segment], until| own.due(&facts(files, until), at(0));
        // What grows is not compacted.
        assert_eq!(due(&own, &[file(0, 100, 0)], 7), None);
        let files = [file(0, 100, 0), file(10, 50, 0)];
        let bounds = due(&own, &files, 12).unwrap();
        assert_eq!((bounds.from, bounds.finished, bounds.until), (0, 10, 12));
        assert_eq!((&bounds.files[..], &bounds.chosen), (&[0][..], &None));
        own.done(&bounds, &found(12), at(0));
        // The second time there is nothing new, also when the last file grows.
        assert_eq!(due(&own, &files, 12), None);
        assert_eq!(due(&own, &files, 20), None);
        let small = [file(0, 100, 0), file(10, 90, 0), file(20, 16, 0)];
        assert_eq!(due(&own, &small, 20), None);
        let large = [file(0, 100, 0), file(10, 100, 0), file(20, 16, 0)];
        let bounds = due(&own, &large, 20).unwrap();
        // Records of the file that was growing the last time are looked at again.
        assert_eq!((bounds.from, bounds.finished), (10, 20));
    }

    #[test]
    fn a_run_that_failed_is_tried_again_later_and_told_once() {
        let mut own = Upkeep::default();
        let files = [file(0, 100, 0), file(10, 50, 0)];
        let due = |own: &Upkeep, now| own.due(&facts(&files, 12), at(now));
        assert!(own.failed(at(0)));
        assert_eq!(due(&own, HOUR / 6 - 1), None);
        let bounds = due(&own, HOUR / 6).unwrap();
        assert!(!own.failed(at(HOUR / 6)));
        assert_eq!(due(&own, HOUR / 2 - 1), None);
        assert!(due(&own, HOUR / 2).is_some());
        for _ in 0..20 {
            assert!(!own.failed(at(0)));
        }
        assert!(due(&own, 24 * HOUR).is_some());
        own.done(&bounds, &found(10), at(HOUR));
        assert!(own.failed(at(HOUR)), "it went well between");
    }

    #[test]
    fn an_open_transaction_and_young_records_hold_it_up() {
        let mut own = Upkeep::default();
        let files = [file(0, 100, 0), file(10, 100, HOUR), file(20, 16, 0)];
        let due = |own: &Upkeep, stable, youngest| {
            let facts = Facts {
                durable: 20,
                youngest,
                ..facts(&files, stable)
            };
            own.due(&facts, at(0))
        };
        assert_eq!(due(&own, 0, i64::MAX), None);
        assert_eq!(due(&own, 20, HOUR - 1).unwrap().until, 10);
        assert_eq!(due(&own, 20, HOUR).unwrap().until, 20);
        let bounds = due(&own, 15, i64::MAX).unwrap();
        assert_eq!(bounds.until, 15);
        own.done(&bounds, &found(15), at(0));
        assert_eq!(due(&own, 15, i64::MAX), None);
        assert_eq!(due(&own, 16, i64::MAX).unwrap().from, 15);
        // What is written and not acknowledged is not there yet.
        let early = Facts {
            durable: 15,
            dirty_percent: 0,
            ..facts(&files, 20)
        };
        assert_eq!(
            own.due(&early, at(0)),
            None,
            "only the first file is finished for sure, and that is clean"
        );
    }

    #[test]
    fn tombstones_are_taken_now_and_then_from_the_files_that_have_them() {
        let mut own = Upkeep::default();
        let files: Vec<_> = (0..5).map(|at| file(at * 10, 100, 0)).collect();
        let due = |own: &Upkeep, horizon, now| {
            let facts = Facts {
                horizon,
                ..facts(&files, 40)
            };
            own.due(&facts, at(now))
        };
        let bounds = due(&own, i64::MIN, 0).unwrap();
        let all = Found {
            waiting: BTreeMap::from([(0, 3), (10, 15), (30, 31)]),
            ..found(40)
        };
        own.done(&bounds, &all, at(0));
        assert_eq!(due(&own, 3, HOUR), None, "none is before it");
        assert_eq!(due(&own, 40, HOUR - 1), None, "not so soon");
        let some = due(&own, 16, HOUR).unwrap();
        assert_eq!((some.from, some.until), (40, 40), "no keys are looked for");
        assert_eq!(some.chosen, Some(BTreeSet::from([0, 10])));
        let left = Found {
            waiting: BTreeMap::from([(10, 18)]),
            ..found(40)
        };
        own.done(&some, &left, at(HOUR));
        assert_eq!(due(&own, 40, HOUR + HOUR / 2), None);
        let some = due(&own, 40, 2 * HOUR).unwrap();
        assert_eq!(some.chosen, Some(BTreeSet::from([10, 30])));
        own.done(&some, &found(40), at(2 * HOUR));
        assert_eq!(due(&own, 40, 9 * HOUR), None);
        // Files that were deleted are no reason.
        own.done(&bounds, &all, at(0));
        let facts = Facts {
            horizon: 20,
            ..facts(&files[2..], 40)
        };
        assert_eq!(own.due(&facts, at(HOUR)), None);
        // Nor are tombstones behind what cannot be read.
        let blocked = Found {
            unreadable: Some((5, 1)),
            ..all
        };
        own.done(&bounds, &blocked, at(0));
        let some = due(&own, 40, HOUR).unwrap();
        assert_eq!(some.chosen, Some(BTreeSet::from([0])));
    }

    #[test]
    fn the_last_file_is_finished_at_its_age() {
        let never = || -> Timestamp { panic!("it was looked at before") };
        let age = std::time::Duration::from_millis(HOUR.unsigned_abs());
        let mut own = Upkeep::default();
        // Found at a start: as old as its first record.
        assert!(!own.is_ripe(Some(0), || at(1), age, at(HOUR)));
        assert!(own.is_ripe(Some(0), never, age, at(HOUR + 1)));
        // The next one is empty, then grows.
        assert!(!own.is_ripe(None, never, age, at(HOUR + 2)));
        assert!(!own.is_ripe(Some(9), never, age, at(5 * HOUR)));
        assert!(!own.is_ripe(Some(9), never, age, at(6 * HOUR - 1)));
        assert!(own.is_ripe(Some(9), never, age, at(6 * HOUR)));
        // A time to come does not put it off.
        let mut other = Upkeep::default();
        assert!(!other.is_ripe(Some(0), || at(i64::MAX / 1000), age, at(0)));
        assert!(other.is_ripe(Some(0), never, age, at(HOUR)));
    }
}
