//! Questions about series: which there are, and how one went over time.
//!
//! The resolution follows from how far back the question reaches: ten seconds for the last hour, a
//! minute for the last day, ten minutes beyond. A step is never shorter than the points of a series
//! are apart, or every second step would be empty and the rate wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use atoll_base::Timestamp;
use serde::Serialize;

use super::cell::Cell;
use super::point::{Exemplar, Kind, Labels};
use super::ring::Resolution;
use super::set::{FINE, Key, MINUTES, Set};

/// Ten minutes; on disk only.
pub(super) const COARSE: Resolution = Resolution {
    seconds: 600,
    slots: 30 * 24 * 6,
    open: 1,
};

/// Points of one series in an answer.
const POINTS_MAX: i64 = 2000;

/// Series in an answer.
const SERIES_MAX: usize = 500;

/// A total is made of so many steps at most: each end is at most so much too long.
const TOTAL_STEPS: i64 = 360;

/// A series whose points are further apart than this has gaps; the step does not grow for it.
const INTERVAL_MAX_SECONDS: i64 = 300;

/// What a point of an answer says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stat {
    /// Of counters and histograms: how many a second. Of gauges: the value.
    Rate,
    /// Of gauges: the average. Of counters: what was added. Of histograms: the average.
    Value,
    /// Of histograms: the value below which this part (0 to 1) lies. Of others: as [`Stat::Value`].
    Quantile(f64),
}

/// A label and the value that it must have.
pub type Matcher = (String, String);

/// A question.
#[derive(Debug, Clone)]
pub struct Query {
    /// The metric.
    pub name: String,
    /// Labels that a series must have.
    pub matchers: Vec<Matcher>,
    /// From when.
    pub since: Timestamp,
    /// Until when, exclusive.
    pub until: Timestamp,
    /// The distance of points that is wanted.
    pub step: Duration,
    /// What a point says.
    pub stat: Stat,
}

/// A metric that there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricName {
    /// Its name.
    pub name: Arc<str>,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its unit.
    pub unit: Arc<str>,
    /// What it means.
    pub help: Arc<str>,
    /// The keys of its labels.
    pub labels: Vec<String>,
    /// How many series it has.
    pub series: usize,
}

/// How one series went.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesView {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// When a step begins, and what it says; none where nothing came.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// Values with their traces.
    pub exemplars: Vec<Exemplar>,
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) resolution: Resolution,
    /// The first step, the end and the length, in microseconds.
    pub(super) since: i64,
    pub(super) until: i64,
    pub(super) step: i64,
}

impl Plan {
    fn steps(&self) -> usize {
        usize::try_from((self.until - self.since).div_euclid(self.step)).unwrap_or(0)
    }

    fn place(&self, micros: i64) -> Option<usize> {
        usize::try_from((micros - self.since).div_euclid(self.step)).ok()
    }
}

impl Query {
    /// What a metric amounts to over a time, in all its series.
    pub(super) fn total(name: &str, since: Timestamp, until: Timestamp) -> Self {
        let step = (until.as_micros() - since.as_micros()).max(0) / TOTAL_STEPS;
        Self {
            name: name.to_owned(),
            matchers: Vec::new(),
            since,
            until,
            step: Duration::from_micros(step.unsigned_abs()),
            stat: Stat::Value,
        }
    }

    pub(super) fn wants(&self, key: &Key) -> bool {
        let mut matchers = self.matchers.iter();
        key.name.as_ref() == self.name
            && matchers.all(|(label, value)| key.labels.get(label) == Some(value))
    }

    /// How to answer at a time. `interval_micros`: how far apart the points of the series are;
    /// `restored_until`: up to when only minutes are known.
    pub(super) fn plan(&self, now: Timestamp, interval_micros: i64, restored_until: i64) -> Plan {
        let since = self.since.as_micros().min(now.as_micros());
        let until = self.until.as_micros().min(now.as_micros()).max(since);
        let age = now.as_micros() - since;
        let reaches = |own: Resolution| age <= own.seconds * own.slots * 1_000_000;
        let resolution = if reaches(FINE) && since > restored_until {
            FINE
        } else if reaches(MINUTES) {
            MINUTES
        } else {
            COARSE
        };
        let unit = resolution.seconds * 1_000_000;
        let wanted = i64::try_from(self.step.as_micros()).unwrap_or(i64::MAX);
        let interval = interval_micros.min(INTERVAL_MAX_SECONDS * 1_000_000);
        let least = wanted
            .max(interval)
            .max((until - since) / POINTS_MAX)
            .max(unit);
        // Whole slots, a little less than one more being the clock of the sender.
        let step = (least.saturating_add(unit * 9 / 10) / unit).max(1) * unit;
        Plan {
            resolution,
            since: since.div_euclid(step) * step,
            until: (until.saturating_add(step - 1)).div_euclid(step) * step,
            step,
        }
    }
}

/// The cells of an answer, by series, as they are gathered.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    series: BTreeMap<Key, Vec<Option<Cell>>>,
    left_out: BTreeSet<Key>,
}

impl Gathered {
    /// Adds a cell of a series.
    pub(super) fn add(&mut self, plan: &Plan, key: &Key, micros: i64, cell: &Cell) {
        let (Some(at), steps) = (plan.place(micros), plan.steps()) else {
            return;
        };
        if !self.series.contains_key(key) {
            if self.series.len() >= SERIES_MAX {
                self.left_out.insert(key.clone());
                return;
            }
            self.series.insert(key.clone(), vec![None; steps]);
        }
        let place = self.series.get_mut(key).and_then(|cells| cells.get_mut(at));
        match place {
            Some(Some(known)) => {
                known.add(cell);
            }
            Some(empty) => *empty = Some(cell.clone()),
            None => {}
        }
    }

    /// Series that there was no room for.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// The answer.
    pub(super) fn finish(self, plan: &Plan, stat: Stat) -> Vec<(Key, SeriesView)> {
        let seconds = plan.step as f64 / 1e6;
        let series = self.series.into_iter().map(|(key, cells)| {
            let times = (0..).map(|at| Timestamp::from_micros(plan.since + at * plan.step));
            let values = cells.iter().map(|cell| said(cell.as_ref()?, stat, seconds));
            let view = SeriesView {
                labels: Arc::clone(&key.labels),
                points: times.zip(values).collect(),
                exemplars: Vec::new(),
            };
            (key, view)
        });
        series.collect()
    }
}

/// What series amount to, as it is gathered.
#[derive(Debug, Default)]
pub(super) struct Totals {
    series: BTreeMap<Key, Total>,
}

/// One series: what is added up of counters, and of gauges their average and when there were any.
#[derive(Debug, Default)]
struct Total {
    added: f64,
    values: u64,
    steps: Vec<bool>,
}

impl Totals {
    /// Adds a cell of a series.
    pub(super) fn add(&mut self, plan: &Plan, key: &Key, micros: i64, cell: &Cell) {
        let Some(at) = plan.place(micros).filter(|at| *at < plan.steps()) else {
            return;
        };
        if !self.series.contains_key(key) {
            self.series.insert(key.clone(), Total::default());
        }
        let Some(total) = self.series.get_mut(key) else {
            return;
        };
        match cell {
            Cell::Counter(added) => total.added += added,
            Cell::Histogram(own) => total.added += own.sum(),
            Cell::Gauge { count, sum, .. } => {
                total.added += sum;
                total.values += count;
                total.steps.resize(plan.steps(), false);
                total.steps[at] = true;
            }
        }
    }

    /// Of each series its labels and its total.
    pub(super) fn finish(self, plan: &Plan) -> Vec<(Arc<Labels>, f64)> {
        let series = self.series.into_iter().map(|(key, total)| {
            let value = match total.values {
                0 => total.added,
                values => {
                    let steps = total.steps.iter().filter(|is_there| **is_there).count();
                    total.added / values as f64 * steps as f64 * plan.step as f64 / 1e6
                }
            };
            (key.labels, value)
        });
        series.collect()
    }
}

fn said(cell: &Cell, stat: Stat, seconds: f64) -> Option<f64> {
    match (cell, stat) {
        (Cell::Gauge { count, sum, .. }, _) => (*count > 0).then(|| sum / *count as f64),
        (Cell::Counter(added), Stat::Rate) => Some(added / seconds),
        (Cell::Counter(added), _) => Some(*added),
        (Cell::Histogram(own), Stat::Rate) => Some(own.count() as f64 / seconds),
        (Cell::Histogram(own), Stat::Value) => {
            (own.count() > 0).then(|| own.sum() / own.count() as f64)
        }
        (Cell::Histogram(own), Stat::Quantile(q)) => own.quantile(q),
    }
}

/// Keys of labels, and how many series have them.
type Found<'a> = (BTreeSet<&'a str>, usize);

impl Set {
    /// The metrics that there are, by name.
    pub fn names(&self) -> Vec<MetricName> {
        let mut found: BTreeMap<(&Arc<str>, Kind), Found<'_>> = BTreeMap::new();
        for (key, _) in self.iter() {
            let (labels, count) = found.entry((&key.name, key.kind)).or_default();
            labels.extend(key.labels.iter().map(|(label, _)| label));
            *count += 1;
        }
        let meanings = self.meanings().filter_map(|((name, kind), meaning)| {
            let (labels, series) = found.get(&(name, *kind))?;
            Some(MetricName {
                name: Arc::clone(name),
                kind: kind.as_str(),
                unit: Arc::clone(&meaning.unit),
                help: Arc::clone(&meaning.help),
                labels: labels.iter().map(|&label| label.to_owned()).collect(),
                series: *series,
            })
        });
        meanings.collect()
    }

    /// How to answer a question at a time.
    pub(super) fn plan(&self, query: &Query, now: Timestamp) -> Plan {
        let series = self.iter().filter(|(key, _)| query.wants(key));
        let interval = series.map(|(_, series)| series.interval_micros).max();
        query.plan(now, interval.unwrap_or(0), self.restored_until())
    }

    /// What the memory has for an answer.
    pub(super) fn gather(&self, query: &Query, plan: &Plan, mut out: impl FnMut(&Key, i64, &Cell)) {
        for (key, series) in self.iter().filter(|(key, _)| query.wants(key)) {
            let ring = if plan.resolution == FINE {
                &series.fine
            } else {
                &series.minutes
            };
            ring.read(plan.since, plan.until, |micros, cell| {
                out(key, micros, cell);
            });
        }
    }

    /// The exemplars of the answered series.
    pub(super) fn exemplars(&self, plan: &Plan, views: &mut [(Key, SeriesView)]) {
        for (key, view) in views {
            let exemplars = self
                .get(key)
                .into_iter()
                .flat_map(|series| &series.exemplars);
            let within = |own: &&Exemplar| (plan.since..plan.until).contains(&own.time.as_micros());
            view.exemplars = exemplars.filter(within).copied().collect();
        }
    }
}
