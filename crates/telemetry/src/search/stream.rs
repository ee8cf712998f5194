//! Log records in the order in which they came: what `atoll logs` prints, and what surrounds a record.

use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;

use super::pick::{Pick, fetch};
use super::scan::Scan;
use crate::LogRecord;
use crate::columns::log_record;
use crate::query::Filter;
use crate::schema::{self, Kind};
use crate::shelf::{Snapshot, Unit};

/// Records that are fetched at once.
const CHUNK_ROWS: usize = 8 << 10;

/// Calls `found` with each record that fits, oldest first, until it answers `false`; with `tail`, only with the
/// last so many.
pub(crate) fn stream(
    snapshot: &Snapshot,
    filter: &Filter,
    tail: Option<usize>,
    mut found: impl FnMut(LogRecord) -> bool,
) {
    let units = snapshot.units();
    let mut give = |rows: &[(u64, Pick)]| {
        rows.chunks(CHUNK_ROWS)
            .all(|rows| records(&units, rows).into_iter().all(&mut found))
    };
    match tail {
        None => {
            for unit in 0..units.len() {
                if !give(&rows(&units, unit, filter)) {
                    return;
                }
            }
        }
        Some(tail) => {
            give(&last(&units, filter, tail));
        }
    }
}

/// The last rows that fit.
fn last(units: &[Unit], filter: &Filter, tail: usize) -> Vec<(u64, Pick)> {
    let mut last = Vec::new();
    for unit in (0..units.len()).rev() {
        if last.len() >= tail {
            break;
        }
        let mut before = rows(units, unit, filter);
        before.append(&mut last);
        last = before;
    }
    let surplus = last.len().saturating_sub(tail);
    last.split_off(surplus)
}

/// The rows of a unit that fit, by number.
fn rows(units: &[Unit], unit: usize, filter: &Filter) -> Vec<(u64, Pick)> {
    let rows = Mutex::new(Vec::new());
    let scan = Scan {
        units: &units[unit..=unit],
        filter,
        wanted: &[schema::NUMBER],
        cutoff: &AtomicI64::new(i64::MIN),
    };
    scan.run(&|found| {
        let numbers = found.columns.get(schema::NUMBER);
        let numbers = numbers.as_primitive::<UInt64Type>().values();
        let part = found.part;
        let picks = found
            .mask
            .set_indices()
            .map(|row| (numbers[row], Pick { unit, part, row }));
        rows.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(picks);
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_unstable();
    rows
}

fn records(units: &[Unit], rows: &[(u64, Pick)]) -> Vec<LogRecord> {
    let mut records = Vec::with_capacity(rows.len());
    let picks = rows.iter().map(|(_, pick)| *pick).collect();
    fetch(units, picks, |row| records.push(log_record(row)));
    records.sort_by_key(|record| record.number);
    records
}

/// The record of this number and those of its instance around it, oldest first; nothing if it is not there.
pub(crate) fn context(
    snapshot: &Snapshot,
    number: u64,
    before: usize,
    after: usize,
) -> Vec<LogRecord> {
    let all = Filter::all(Kind::Logs);
    let mut middle = None;
    stream(
        snapshot,
        &all.clone().numbered(number, number),
        None,
        |record| {
            middle = Some(record);
            false
        },
    );
    let Some(middle) = middle else {
        return Vec::new();
    };
    let same = all
        .of_services(std::slice::from_ref(&middle.service))
        .of_instance(&middle.instance);
    let mut around = Vec::new();
    let earlier = same.clone().numbered(0, number.saturating_sub(1));
    stream(snapshot, &earlier, Some(before), |record| {
        around.push(record);
        true
    });
    around.push(middle);
    if after > 0 {
        let later = same.numbered(number.saturating_add(1), u64::MAX);
        let most = around.len() + after;
        stream(snapshot, &later, None, |record| {
            around.push(record);
            around.len() < most
        });
    }
    around
}
