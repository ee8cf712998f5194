//! A page of log records, the newest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use atoll_base::Timestamp;

use super::pick::{Pick, fetch};
use super::scan::{Match, Scan};
use crate::LogRecord;
use crate::columns::log_record;
use crate::query::Filter;
use crate::schema;
use crate::shelf::Snapshot;

/// Which page.
#[derive(Debug, Clone)]
pub struct PageQuery {
    /// What is wanted, times included.
    pub filter: Filter,
    /// How many records at most.
    pub limit: usize,
    /// Only what comes after this place, which an earlier page has told.
    pub before: Option<Cursor>,
}

/// A place in the order of time. As text: `<microseconds since 1970>-<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    time: i64,
    number: u64,
}

/// Records, the newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records.
    pub records: Vec<LogRecord>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
    /// How many rows were looked at.
    pub scanned: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.time, self.number)
    }
}

impl std::str::FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.rsplit_once('-').and_then(|(time, number)| {
            Some(Self {
                time: time.parse().ok()?,
                number: number.parse().ok()?,
            })
        });
        parsed.ok_or("a cursor is what an earlier page has told as `next`")
    }
}

/// The best rows so far.
struct Best {
    limit: usize,
    heap: Mutex<BinaryHeap<Reverse<(Cursor, Pick)>>>,
    cutoff: AtomicI64,
}

impl Best {
    fn take(&self, found: &Match, before: Option<Cursor>) {
        let times = found.columns.get(schema::TIME);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let numbers = found.columns.get(schema::NUMBER);
        let numbers = numbers.as_primitive::<UInt64Type>().values();
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        for row in found.mask.set_indices() {
            let place = Cursor {
                time: times[row],
                number: numbers[row],
            };
            let worst = heap.peek().filter(|_| heap.len() >= self.limit);
            if before.is_some_and(|before| place >= before)
                || worst.is_some_and(|Reverse((worst, _))| place <= *worst)
            {
                continue;
            }
            let (unit, part) = (found.unit, found.part);
            heap.push(Reverse((place, Pick { unit, part, row })));
            if heap.len() > self.limit {
                heap.pop();
            }
        }
        if let Some(Reverse((worst, _))) = heap.peek().filter(|_| heap.len() >= self.limit) {
            self.cutoff.store(worst.time, Ordering::Relaxed);
        }
    }
}

/// The newest rows that are wanted.
pub(crate) fn page(snapshot: &Snapshot, query: PageQuery) -> Page {
    let limit = query.limit.max(1);
    let mut filter = query.filter;
    if let Some(before) = query.before {
        filter = filter.until(Timestamp::from_micros(before.time));
    }
    let mut units = snapshot.units();
    units.sort_by_key(|unit| Reverse(unit.extent().times.1));
    let best = Best {
        // One more, to know whether there is another page.
        limit: limit + 1,
        heap: Mutex::default(),
        cutoff: AtomicI64::new(i64::MIN),
    };
    let scan = Scan {
        units: &units,
        filter: &filter,
        wanted: &[schema::NUMBER, schema::TIME],
        cutoff: &best.cutoff,
    };
    let scanned = scan.run(&|found| best.take(&found, query.before));
    let heap = best
        .heap
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let mut places = heap.into_sorted_vec();
    let more = places.len() > limit;
    places.truncate(limit);
    let next = places
        .last()
        .filter(|_| more)
        .map(|Reverse((place, _))| *place);
    let picks = places.into_iter().map(|Reverse((_, pick))| pick).collect();
    let mut records = Vec::new();
    fetch(&units, picks, |row| records.push(log_record(row)));
    records.sort_by_key(|record| Reverse((record.time, record.number)));
    Page {
        records,
        next,
        scanned,
    }
}
