//! One point of one series, as it came.

use std::sync::Arc;

use atoll_base::{SpanId, Timestamp, TraceId};

use super::histogram::Histogram;

/// What a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// Something that is counted; kept as what was added.
    Counter,
    /// Values in buckets; kept as what was added.
    Histogram,
}

/// Whether a value counts from the beginning, or from the point before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporality {
    /// Since the point before.
    Delta,
    /// Since the series began.
    Cumulative,
}

/// Labels of a series: sorted, each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Vec<(String, String)>);

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A value now.
    Gauge(f64),
    /// A sum.
    Sum(f64, Temporality),
    /// Values in buckets.
    Histogram(Histogram, Temporality),
}

/// One measured value, with the trace in which it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// When.
    pub time: Timestamp,
    /// The value.
    pub value: f64,
    /// The trace.
    pub trace: TraceId,
    /// The span in it.
    pub span: Option<SpanId>,
}

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPoint {
    /// The metric, as OpenTelemetry names it: `http.server.request.duration`.
    pub name: Arc<str>,
    /// Its unit, by UCUM: `s`, `By`, `{request}`; empty if it has none.
    pub unit: Arc<str>,
    /// What it means, for a person; may be empty.
    pub help: Arc<str>,
    /// What tells its series from others of the name; `service` and `instance` among them.
    pub labels: Labels,
    /// Since when a cumulative value counts, if that was told.
    pub start: Option<Timestamp>,
    /// When it was so.
    pub time: Timestamp,
    /// The value.
    pub value: Value,
    /// Some of the values that it is made of.
    pub exemplars: Vec<Exemplar>,
}

impl Kind {
    /// The kind's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Value {
    /// What it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Gauge(_) => Kind::Gauge,
            Self::Sum(..) => Kind::Counter,
            Self::Histogram(..) => Kind::Histogram,
        }
    }
}

impl Labels {
    /// The label's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(own, _)| own.as_str().cmp(key));
        at.ok().map(|at| self.0[at].1.as_str())
    }

    /// All, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of a key that comes twice, the last value counts.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let sorted: std::collections::BTreeMap<String, String> = pairs
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Self(sorted.into_iter().collect())
    }
}
