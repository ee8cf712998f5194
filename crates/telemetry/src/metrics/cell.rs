//! What is kept of a series for one slot of time. Cells add up: two slots make a longer one, and the
//! cells of two series make that of both. For counters and histograms the sums stay exact.

use super::exponential::{greatest, least};
use super::histogram::Histogram;
use super::point::Kind;

/// What is kept for one slot of time.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The values of a gauge in the slot.
    Gauge {
        /// How many.
        count: u64,
        /// All together.
        sum: f64,
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// What was added in the slot.
    Counter(f64),
    /// The values of the slot.
    Histogram(Histogram),
}

impl Cell {
    /// Of one value of a gauge.
    pub const fn gauge(value: f64) -> Self {
        Self::Gauge {
            count: 1,
            sum: value,
            min: value,
            max: value,
        }
    }

    /// Of what it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Gauge { .. } => Kind::Gauge,
            Self::Counter(_) => Kind::Counter,
            Self::Histogram(_) => Kind::Histogram,
        }
    }

    /// Adds another; false, and nothing happens, if it is of another kind.
    pub fn add(&mut self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Gauge {
                    count,
                    sum,
                    min,
                    max,
                },
                Self::Gauge {
                    count: more,
                    sum: other_sum,
                    min: other_min,
                    max: other_max,
                },
            ) => {
                *count = count.saturating_add(*more);
                *sum += other_sum;
                *min = least(Some(*min), Some(*other_min)).unwrap_or(*min);
                *max = greatest(Some(*max), Some(*other_max)).unwrap_or(*max);
                true
            }
            (Self::Counter(own), Self::Counter(more)) => {
                *own += more;
                true
            }
            (Self::Histogram(own), Self::Histogram(other)) => own.merge(other),
            _ => false,
        }
    }
}
