//! Histograms of both kinds, and how they are added.
//!
//! Explicit ones have bounds that somebody chose. Two with different bounds are added at the bounds
//! that both have, which is exact and does not depend on the order; choosing the finer bounds would
//! be guessing. A histogram is never turned into the other kind: what was sent stays true.

use std::sync::Arc;

use super::exponential::{Exponential, greatest, least};

/// Bounds of an explicit histogram.
pub(super) const BOUNDS_MAX: usize = 1024;

/// A histogram with chosen bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Explicit {
    /// Upper bounds, growing; each belongs to its bucket.
    pub bounds: Arc<[f64]>,
    /// One for each bound, and one for what is above all.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
    /// The least value, if it is known.
    pub min: Option<f64>,
    /// The greatest value, if it is known.
    pub max: Option<f64>,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Histogram {
    /// With chosen bounds.
    Explicit(Explicit),
    /// With bounds that grow by a factor.
    Exponential(Exponential),
}

impl Explicit {
    /// Whether its numbers mean something.
    pub fn is_sound(&self) -> bool {
        let bounds = &self.bounds;
        bounds.len() <= BOUNDS_MAX
            && self.counts.len() == bounds.len() + 1
            && bounds.iter().all(|bound| bound.is_finite())
            && bounds.windows(2).all(|pair| pair[0] < pair[1])
            && self.sum.is_finite()
    }

    fn total(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// With the bounds that `other` has too.
    fn at_bounds_of(&self, other: &[f64]) -> Self {
        if self.bounds.as_ref() == other {
            return self.clone();
        }
        let (mut bounds, mut counts, mut sum) = (Vec::new(), Vec::new(), 0_u64);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            sum = sum.saturating_add(*count);
            let is_shared = other.binary_search_by(|own| own.total_cmp(bound)).is_ok();
            if is_shared {
                bounds.push(*bound);
                counts.push(std::mem::take(&mut sum));
            }
        }
        let above = self.counts.last().copied().unwrap_or(0);
        counts.push(sum.saturating_add(above));
        Self {
            bounds: bounds.into(),
            counts,
            ..*self
        }
    }

    fn merge(&mut self, other: &Self) {
        let mut own = self.at_bounds_of(&other.bounds);
        let other = other.at_bounds_of(&own.bounds);
        for (at, count) in own.counts.iter_mut().zip(&other.counts) {
            *at = at.saturating_add(*count);
        }
        own.sum += other.sum;
        own.min = least(own.min, other.min);
        own.max = greatest(own.max, other.max);
        *self = own;
    }

    fn since(&self, earlier: &Self) -> Option<Self> {
        if self.bounds != earlier.bounds {
            return None;
        }
        let pairs = self.counts.iter().zip(&earlier.counts);
        let counts: Option<Vec<u64>> = pairs.map(|(now, then)| now.checked_sub(*then)).collect();
        Some(Self {
            bounds: Arc::clone(&self.bounds),
            counts: counts?,
            sum: self.sum - earlier.sum,
            min: None,
            max: None,
        })
    }

    /// Linear within the bucket, as Prometheus does it.
    fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let mut left = q.clamp(0.0, 1.0) * total as f64;
        let mut value = self.max.or(self.bounds.last().copied()).unwrap_or(0.0);
        for (at, count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            if left <= *count as f64 {
                let below = at.checked_sub(1).map(|at| self.bounds[at]);
                if let Some(above) = self.bounds.get(at).copied() {
                    let below = below.or(self.min).unwrap_or(above.min(0.0));
                    value = below + (above - below) * (left / *count as f64);
                }
                break;
            }
            left -= *count as f64;
        }
        let value = self.min.map_or(value, |min| value.max(min));
        Some(self.max.map_or(value, |max| value.min(max)))
    }
}

impl Histogram {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        match self {
            Self::Explicit(own) => own.total(),
            Self::Exponential(own) => own.count(),
        }
    }

    /// All values together.
    pub fn sum(&self) -> f64 {
        match self {
            Self::Explicit(own) => own.sum,
            Self::Exponential(own) => own.sum,
        }
    }

    /// Adds another; false, and nothing happens, if it is of the other kind.
    pub fn merge(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Explicit(own), Self::Explicit(other)) => own.merge(other),
            (Self::Exponential(own), Self::Exponential(other)) => own.merge(other),
            _ => return false,
        }
        true
    }

    /// What was added since `earlier`; none if it began anew in between.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        match (self, earlier) {
            (Self::Explicit(own), Self::Explicit(then)) => own.since(then).map(Self::Explicit),
            (Self::Exponential(own), Self::Exponential(then)) => {
                own.since(then).map(Self::Exponential)
            }
            _ => None,
        }
    }

    /// The value below which the part `q` (0 to 1) of all values lies; none if there are none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        match self {
            Self::Explicit(own) => own.quantile(q),
            Self::Exponential(own) => own.quantile(q),
        }
    }
}

#[cfg(test)]
mod tests;
