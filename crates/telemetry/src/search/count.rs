//! How many rows fit: over time, and by name.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use atoll_base::Timestamp;
use serde::Serialize;

use super::scan::{Match, Scan};
use crate::Level;
use crate::columns::names_of;
use crate::query::{Columns, Filter};
use crate::schema::{self, log};
use crate::shelf::Snapshot;

/// The most buckets of a histogram.
const BUCKETS_MAX: usize = 1000;

/// The most values of a facet: those with the most rows.
const VALUES_MAX: usize = 100;

/// Records over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// The length of a bucket, in microseconds.
    pub step_us: u64,
    /// The buckets, the oldest first, without gaps.
    pub buckets: Vec<Bucket>,
}

/// Records of one span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Where it begins.
    pub time: Timestamp,
    /// All that fit.
    pub total: u64,
    /// Warnings among them.
    pub warn: u64,
    /// Errors and worse.
    pub error: u64,
}

/// How often values occur, the most frequent first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facets {
    /// By service.
    pub service: Vec<Facet>,
    /// By level; lines without one are not counted.
    pub level: Vec<Facet>,
    /// By instance.
    pub instance: Vec<Facet>,
}

/// A value and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facet {
    /// The value.
    pub value: String,
    /// Rows that have it.
    pub count: u64,
}

/// Counts the records of `filter` from `since` to `until` in so many buckets.
pub(crate) fn histogram(
    snapshot: &Snapshot,
    filter: Filter,
    (since, until): (Timestamp, Timestamp),
    buckets: usize,
) -> Histogram {
    let buckets = buckets.clamp(1, BUCKETS_MAX);
    let span = until.as_micros().saturating_sub(since.as_micros()).max(1);
    // Rounded up, so that the last moment is in the last bucket.
    let step = span / i64::try_from(buckets).unwrap_or(1) + 1;
    let filter = filter.since(since).until(until);
    let counts = Mutex::new(vec![[0u64; 3]; buckets]);
    scan(snapshot, &filter, &[schema::TIME, log::LEVEL], &|found| {
        let times = found.columns.get(schema::TIME);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let grave = gravity(&found.columns);
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        for row in found.mask.set_indices() {
            let bucket = usize::try_from((times[row] - since.as_micros()) / step);
            if let Some(count) = bucket.ok().and_then(|bucket| counts.get_mut(bucket)) {
                count[0] += 1;
                if let Some(grave) = grave(row) {
                    count[grave] += 1;
                }
            }
        }
    });
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let bucket = |(at, [total, warn, error]): (i64, [u64; 3])| Bucket {
        time: Timestamp::from_micros(since.as_micros() + at * step),
        total,
        warn,
        error,
    };
    Histogram {
        step_us: u64::try_from(step).unwrap_or(1),
        buckets: (0..).zip(counts).map(bucket).collect(),
    }
}

/// Answers of a row, whether it is a warning (1) or worse (2).
fn gravity(columns: &Columns) -> impl Fn(usize) -> Option<usize> {
    let levels = columns.get(log::LEVEL).as_dictionary::<Int32Type>();
    let grave: Vec<Option<usize>> = names_of(levels)
        .iter()
        .map(|name| match name.and_then(Level::named)? {
            Level::Warn => Some(1),
            Level::Error | Level::Fatal => Some(2),
            _ => None,
        })
        .collect();
    let levels = levels.clone();
    move |row| *grave.get(levels.key(row)?)?
}

/// Counts names among the records of `filter`.
pub(crate) fn facets(snapshot: &Snapshot, filter: &Filter) -> Facets {
    const COLUMNS: [usize; 3] = [schema::SERVICE, log::LEVEL, schema::INSTANCE];
    let counts = Mutex::new([const { BTreeMap::new() }; 3]);
    scan(snapshot, filter, &COLUMNS, &|found| {
        for (place, column) in COLUMNS.into_iter().enumerate() {
            let found = count_names(&found, column);
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, count) in found {
                *counts[place].entry(name).or_insert(0) += count;
            }
        }
    });
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let [service, level, instance] = counts.map(most);
    Facets {
        service,
        level,
        instance,
    }
}

fn count_names(found: &Match, column: usize) -> Vec<(String, u64)> {
    let names = found.columns.get(column).as_dictionary::<Int32Type>();
    let mut counts = vec![0u64; names_of(names).len()];
    for row in found.mask.set_indices() {
        if let Some(count) = names.key(row).and_then(|key| counts.get_mut(key)) {
            *count += 1;
        }
    }
    let named = names_of(names).iter().zip(counts);
    let named = named.filter(|(_, count)| *count > 0);
    named
        .map(|(name, count)| (name.unwrap_or_default().to_owned(), count))
        .collect()
}

fn most(counts: BTreeMap<String, u64>) -> Vec<Facet> {
    let mut facets: Vec<Facet> = counts
        .into_iter()
        .filter(|(value, _)| !value.is_empty())
        .map(|(value, count)| Facet { value, count })
        .collect();
    facets.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    facets.truncate(VALUES_MAX);
    facets
}

pub(super) fn scan(
    snapshot: &Snapshot,
    filter: &Filter,
    wanted: &[usize],
    visit: &(dyn Fn(Match) + Sync),
) {
    let units = snapshot.units();
    let scan = Scan {
        units: &units,
        filter,
        wanted,
        cutoff: &AtomicI64::new(i64::MIN),
    };
    scan.run(visit);
}
