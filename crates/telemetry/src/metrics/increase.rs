//! From values that count since the beginning to what was added since the point before.
//!
//! A program that starts anew counts from nothing: its start is another, or its value is less. Then
//! all of its value was added. Of the very first point, all was added only if the series began a
//! moment ago: one that has counted for a week did not do so in ten seconds.
//! <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#resets-and-gaps>

use std::time::Duration;

use atoll_base::Timestamp;

use super::cell::Cell;
use super::histogram::Histogram;
use super::point::Value;

/// A series that began this long before its first point began just now.
const JUST_NOW: Duration = Duration::from_secs(300);

/// The last cumulative point of a series.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) start: Option<Timestamp>,
    pub(super) time: Timestamp,
    pub(super) total: Total,
}

/// What had been counted by then.
#[derive(Debug, Clone)]
pub(super) enum Total {
    Number(f64),
    Histogram(Histogram),
}

impl Total {
    /// What the value has counted, if it counts since the beginning.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Sum(sum, super::Temporality::Cumulative) => Some(Self::Number(*sum)),
            Value::Histogram(own, super::Temporality::Cumulative) => {
                Some(Self::Histogram(own.clone()))
            }
            _ => None,
        }
    }

    fn into_cell(self) -> Cell {
        match self {
            Self::Number(value) => Cell::Counter(value),
            Self::Histogram(own) => Cell::Histogram(own),
        }
    }

    fn since(&self, before: &Self) -> Option<Cell> {
        match (self, before) {
            (Self::Number(now), Self::Number(then)) => {
                (now >= then).then(|| Cell::Counter(now - then))
            }
            (Self::Histogram(now), Self::Histogram(then)) => now.since(then).map(Cell::Histogram),
            _ => None,
        }
    }
}

/// What was added between the two; none if that cannot be known, or the point is not newer.
pub(super) fn increase(last: Option<&Last>, now: &Last) -> Option<Cell> {
    let Some(last) = last else {
        let start = now.start?;
        let is_new = now.time.since(start) <= JUST_NOW;
        return is_new.then(|| now.total.clone().into_cell());
    };
    if now.time <= last.time {
        return None;
    }
    let is_same = now.start == last.start;
    let added = is_same.then(|| now.total.since(&last.total)).flatten();
    Some(added.unwrap_or_else(|| now.total.clone().into_cell()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: i64, time: i64, value: f64) -> Last {
        Last {
            start: Some(Timestamp::from_micros(start * 1_000_000)),
            time: Timestamp::from_micros(time * 1_000_000),
            total: Total::Number(value),
        }
    }

    #[test]
    fn what_was_added_is_told_over_new_starts_and_falls() {
        for (last, now, added) in [
            (None, at(0, 60, 7.0), Some(7.0)),
            (None, at(0, 7 * 24 * 3600, 7.0), None),
            (Some(at(0, 60, 7.0)), at(0, 120, 10.0), Some(3.0)),
            (Some(at(0, 60, 7.0)), at(0, 120, 7.0), Some(0.0)),
            (Some(at(0, 60, 7.0)), at(0, 120, 2.0), Some(2.0)),
            (Some(at(0, 60, 7.0)), at(100, 120, 10.0), Some(10.0)),
            (Some(at(0, 60, 7.0)), at(0, 60, 7.0), None),
        ] {
            assert_eq!(
                increase(last.as_ref(), &now),
                added.map(Cell::Counter),
                "{last:?} {now:?}"
            );
        }
    }
}
