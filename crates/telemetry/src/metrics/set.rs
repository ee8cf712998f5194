//! All series, in memory: pure, in the time that it is told.
//!
//! The number of series is bounded. A label that never has the same value twice would take all
//! memory in an hour; what comes beyond the bound is refused, counted, and told with the name that
//! brought it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use atoll_base::Timestamp;

use super::cell::Cell;
use super::config::MetricsConfig;
use super::increase::{Last, Total, increase};
use super::point::{Exemplar, Kind, Labels, MetricPoint, Value};
use super::ring::{Resolution, Ring};

/// Ten seconds for an hour, and for the time that a question of an hour takes to come. Points may come
/// two minutes late.
pub(super) const FINE: Resolution = Resolution {
    seconds: 10,
    slots: 366,
    open: 12,
};

/// A minute for a day.
pub(super) const MINUTES: Resolution = Resolution {
    seconds: 60,
    slots: 24 * 60,
    open: 3,
};

/// Exemplars that are kept of a series, the newest.
const EXEMPLARS_MAX: usize = 16;

/// What a series is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The metric.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: Arc<Labels>,
}

/// What a metric is, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Its unit.
    pub unit: Arc<str>,
    /// What it means.
    pub help: Arc<str>,
}

/// What has come for one minute of a series since the last time it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Of which series.
    pub key: Key,
    /// The minute, since 1970.
    pub minute: i64,
    /// What was added.
    pub cell: Cell,
}

/// Why a point was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are too many series.
    TooMany,
    /// It is older than what is still open.
    Late,
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) fine: Ring,
    pub(super) minutes: Ring,
    pub(super) exemplars: VecDeque<Exemplar>,
    last: Option<Last>,
    /// The time of the newest point, and how long after the one before it came.
    newest: Timestamp,
    pub(super) interval_micros: i64,
}

/// All series.
#[derive(Debug)]
pub struct Set {
    config: MetricsConfig,
    series: HashMap<Key, Series>,
    meanings: BTreeMap<(Arc<str>, Kind), Meaning>,
    pending: HashMap<(Key, i64), Cell>,
    refused: u64,
    /// Up to here only minutes are known: they came from the disk.
    restored_until: i64,
    /// A name that brought more series than there may be, not yet told.
    overflowing: Option<Arc<str>>,
}

impl Series {
    fn new(kind: Kind) -> Self {
        Self {
            fine: Ring::new(FINE, kind),
            minutes: Ring::new(MINUTES, kind),
            exemplars: VecDeque::new(),
            last: None,
            newest: Timestamp::from_micros(0),
            interval_micros: 0,
        }
    }

    fn came(&mut self, point: &MetricPoint) {
        let gap = point.time.as_micros() - self.newest.as_micros();
        if gap > 0 {
            if self.newest.as_micros() > 0 {
                self.interval_micros = gap;
            }
            self.newest = point.time;
        }
        for exemplar in &point.exemplars {
            if self.exemplars.len() == EXEMPLARS_MAX {
                self.exemplars.pop_front();
            }
            self.exemplars.push_back(*exemplar);
        }
    }

    /// What the point adds; none if nothing is known to be added.
    fn cell(&mut self, point: MetricPoint) -> Option<Cell> {
        let Some(total) = Total::of(&point.value) else {
            return match point.value {
                Value::Gauge(value) => Some(Cell::gauge(value)),
                Value::Sum(value, _) => Some(Cell::Counter(value)),
                Value::Histogram(own, _) => Some(Cell::Histogram(own)),
            };
        };
        let now = Last {
            start: point.start,
            time: point.time,
            total,
        };
        let added = increase(self.last.as_ref(), &now);
        if self.last.as_ref().is_none_or(|last| last.time < now.time) {
            self.last = Some(now);
        }
        added
    }
}

impl Set {
    /// None yet.
    pub fn new(config: MetricsConfig) -> Self {
        Self {
            config,
            series: HashMap::new(),
            meanings: BTreeMap::new(),
            pending: HashMap::new(),
            refused: 0,
            restored_until: i64::MIN,
            overflowing: None,
        }
    }

    /// Takes a point.
    ///
    /// # Errors
    /// When it is refused.
    pub fn take(&mut self, mut point: MetricPoint, now: Timestamp) -> Result<(), Refused> {
        // A clock that runs ahead would close the slots that others still fill.
        point.time = point.time.min(now);
        let oldest = now.before(std::time::Duration::from_secs(3600));
        if point.time < oldest {
            self.refused += 1;
            return Err(Refused::Late);
        }
        let key = Key {
            name: Arc::clone(&point.name),
            kind: point.value.kind(),
            labels: Arc::new(point.labels.clone()),
        };
        if !self.series.contains_key(&key) && !self.begin(&key, &point) {
            self.refused += 1;
            return Err(Refused::TooMany);
        }
        let Some(series) = self.series.get_mut(&key) else {
            return Err(Refused::TooMany);
        };
        series.came(&point);
        let micros = point.time.as_micros();
        let Some(cell) = series.cell(point) else {
            return Ok(());
        };
        let fits = series.fine.add(micros, &cell);
        let fits = series.minutes.add(micros, &cell) || fits;
        if !fits {
            self.refused += 1;
            return Err(Refused::Late);
        }
        self.wait(key, MINUTES.slot(micros), cell);
        Ok(())
    }

    /// Makes room for a new series; false if there is none.
    fn begin(&mut self, key: &Key, point: &MetricPoint) -> bool {
        if self.series.len() >= self.config.max_series {
            self.overflowing = Some(Arc::clone(&key.name));
            return false;
        }
        let meaning = Meaning {
            unit: Arc::clone(&point.unit),
            help: Arc::clone(&point.help),
        };
        self.know(key, meaning);
        true
    }

    fn know(&mut self, key: &Key, meaning: Meaning) {
        self.meanings
            .insert((Arc::clone(&key.name), key.kind), meaning);
        self.series.insert(key.clone(), Series::new(key.kind));
    }

    fn wait(&mut self, key: Key, minute: i64, cell: Cell) {
        match self.pending.entry((key, minute)) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                known.get_mut().add(&cell);
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(cell);
            }
        }
    }

    /// What was on disk. Of one series it must come in the order of time.
    pub fn restore(&mut self, pending: &Pending, meaning: &Meaning) {
        let key = &pending.key;
        if !self.series.contains_key(key) {
            if self.series.len() >= self.config.max_series {
                self.refused += 1;
                return;
            }
            self.know(key, meaning.clone());
        }
        if let Some(series) = self.series.get_mut(key) {
            let micros = MINUTES.begin(pending.minute);
            series.minutes.add(micros, &pending.cell);
            self.restored_until = self.restored_until.max(micros);
        }
    }

    /// What has come since the last time, with what it is; in no order.
    pub fn drain(&mut self) -> Vec<(Pending, Meaning)> {
        let pending = std::mem::take(&mut self.pending);
        let meanings = &self.meanings;
        let drained = pending.into_iter().map(|((key, minute), cell)| {
            let meaning = meanings.get(&(Arc::clone(&key.name), key.kind));
            let meaning = meaning.cloned().unwrap_or_default();
            (Pending { key, minute, cell }, meaning)
        });
        drained.collect()
    }

    /// Forgets series of which nothing has come for a day.
    pub fn retire(&mut self, now: Timestamp) {
        let micros = now.as_micros();
        self.series
            .retain(|_, series| !series.minutes.is_past(micros));
        let series = &self.series;
        let mut names: Vec<(&Arc<str>, Kind)> =
            series.keys().map(|key| (&key.name, key.kind)).collect();
        names.sort_unstable();
        self.meanings
            .retain(|(name, kind), _| names.binary_search(&(name, *kind)).is_ok());
    }

    /// A name that brought more series than there may be, once.
    pub fn take_overflowing(&mut self) -> Option<Arc<str>> {
        self.overflowing.take()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Points that were refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Bytes that packed cells use.
    pub fn packed_bytes(&self) -> usize {
        let series = self.series.values();
        series
            .map(|own| own.fine.packed_bytes() + own.minutes.packed_bytes())
            .sum()
    }

    pub(super) const fn restored_until(&self) -> i64 {
        self.restored_until
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Series)> {
        self.series.iter()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Series> {
        self.series.get(key)
    }

    pub(super) fn meanings(&self) -> impl Iterator<Item = (&(Arc<str>, Kind), &Meaning)> {
        self.meanings.iter()
    }
}

#[cfg(test)]
mod tests;
