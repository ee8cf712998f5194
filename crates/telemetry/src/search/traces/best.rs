//! The traces with the best wanted span: each trace once, with the key of its best.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_buffer::ScalarBuffer;
use atoll_base::TraceId;

use super::{Match, TraceCursor, TraceOrder, TraceQuery, scan, trace_id};
use crate::schema::{self, span};
use crate::shelf::Unit;

#[derive(Default)]
pub(super) struct Best {
    places: BTreeSet<TraceCursor>,
    keys: HashMap<TraceId, i64>,
}

/// The column that traces are ordered by.
pub(super) fn column(order: TraceOrder) -> usize {
    match order {
        TraceOrder::Time => schema::TIME,
        TraceOrder::Duration => span::DURATION,
    }
}

/// The values of that column.
pub(super) fn keys(found: &Match, column: usize) -> ScalarBuffer<i64> {
    let values = found.columns.get(column);
    match column {
        schema::TIME => values
            .as_primitive::<TimestampMicrosecondType>()
            .values()
            .clone(),
        _ => values.as_primitive::<Int64Type>().values().clone(),
    }
}

impl Best {
    /// The best `limit` places after `before`, the best first.
    pub(super) fn find(
        units: &[Unit],
        query: &TraceQuery,
        before: Option<TraceCursor>,
        limit: usize,
    ) -> Vec<TraceCursor> {
        let best = Mutex::new(Self::default());
        let cutoff = AtomicI64::new(i64::MIN);
        let column = column(query.order);
        let wanted = [schema::TRACE, column];
        scan(units, &query.filter, &wanted, &cutoff, &|found| {
            let mut best = best.lock().unwrap_or_else(PoisonError::into_inner);
            best.take(&found, &keys(&found, column), before, limit);
            let worst = best.places.first().filter(|_| best.places.len() >= limit);
            if let (Some(worst), TraceOrder::Time) = (worst, query.order) {
                cutoff.store(worst.key, Ordering::Relaxed);
            }
        });
        let best = best.into_inner().unwrap_or_else(PoisonError::into_inner);
        best.places.into_iter().rev().collect()
    }

    fn take(&mut self, found: &Match, keys: &[i64], before: Option<TraceCursor>, limit: usize) {
        let ids = found.columns.get(schema::TRACE).as_fixed_size_binary();
        for row in found.mask.set_indices() {
            let worst = self.places.first().filter(|_| self.places.len() >= limit);
            if worst.is_some_and(|worst| keys[row] < worst.key) {
                continue;
            }
            let Some(trace) = trace_id(ids.value(row)) else {
                continue;
            };
            let key = keys[row];
            let place = TraceCursor { key, trace };
            if before.is_none_or(|before| place < before) {
                self.add(place, limit);
            }
        }
    }

    fn add(&mut self, place: TraceCursor, limit: usize) {
        let TraceCursor { key, trace } = place;
        if let Some(known) = self.keys.get(&trace).copied() {
            if known >= key {
                return;
            }
            self.places.remove(&TraceCursor { key: known, trace });
        }
        self.keys.insert(trace, key);
        self.places.insert(place);
        if self.places.len() > limit
            && let Some(worst) = self.places.pop_first()
        {
            self.keys.remove(&worst.trace);
        }
    }
}
