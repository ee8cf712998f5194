//! How often calls were made, how many failed, and how long they took.
//!
//! Durations are counted in buckets that grow by an eighth, so a percentile is right to within 13 %
//! whatever its size, and a group of calls costs two kilobytes however many there were.

use arrow_array::DictionaryArray;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};

use super::group::{Gathered, Take};
use crate::columns::names_of;
use crate::query::Columns;
use crate::schema::span;
use crate::span::SpanStatus;

/// Steps within each doubling.
const STEPS: u32 = 6;
/// Longer than 2^40 µs (13 days) is one bucket.
const BUCKETS: usize = 40 * STEPS as usize;

/// Columns that calls are counted from.
pub(super) const COLUMNS: [usize; 2] = [span::DURATION, span::STATUS];

/// Calls that have something in common: what is counted apart adds up.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    count: f64,
    errors: f64,
    buckets: Box<[f64; BUCKETS]>,
}

/// Takes the calls of a piece.
pub(super) fn take(columns: &Columns) -> Take<'_, Calls> {
    let statuses = columns.get(span::STATUS).as_dictionary::<Int32Type>();
    let durations = columns.get(span::DURATION);
    let durations = durations.as_primitive::<Int64Type>().values();
    let is_error = failures(statuses);
    Box::new(move |row, weight, calls| {
        let failed = statuses.key(row).is_some_and(|key| is_error[key]);
        calls.take(durations[row], failed, weight);
    })
}

/// Which of the statuses of a piece, by their numbers, are that of an error.
pub(super) fn failures(statuses: &DictionaryArray<Int32Type>) -> Vec<bool> {
    let names = names_of(statuses).iter();
    names
        .map(|name| name == Some(SpanStatus::Error.as_str()))
        .collect()
}

impl Gathered for Calls {
    fn add(&mut self, other: &Self) {
        Self::add(self, other);
    }
}

impl Calls {
    /// So many of which nothing else is known.
    pub fn counted(count: u64) -> Self {
        Self {
            count: count as f64,
            ..Self::default()
        }
    }

    /// All of these together.
    pub fn sum<'a>(each: impl IntoIterator<Item = &'a Self>) -> Self {
        each.into_iter().fold(Self::default(), |mut all, own| {
            all.add(own);
            all
        })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.round() as u64
    }

    /// Those of them that ended with an error.
    pub fn errors(&self) -> u64 {
        self.errors.round() as u64
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        for (own, other) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *own += other;
        }
    }

    fn take(&mut self, micros: i64, failed: bool, weight: f64) {
        self.count += weight;
        if failed {
            self.errors += weight;
        }
        self.buckets[bucket(micros)] += weight;
    }

    /// So many hundredths of them took no longer than this, in microseconds; right to within 13 %. 0 where it is not
    /// known of any how long it took.
    pub fn percentile(&self, hundredths: u64) -> u64 {
        let all: f64 = self.buckets.iter().sum();
        if all == 0.0 {
            return 0;
        }
        let wanted = (all * hundredths as f64 / 100.0).ceil();
        let mut seen = 0.0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        upper_end(place.unwrap_or_default())
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            count: 0.0,
            errors: 0.0,
            buckets: Box::new([0.0; BUCKETS]),
        }
    }
}

/// The bucket of a duration: the exponent of two, in sixths.
fn bucket(micros: i64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a bucket is coarser than what is lost, and the logarithm of 1 and more is positive"
    )]
    let bucket = ((micros.max(1) as f64).log2() * f64::from(STEPS)).ceil() as usize;
    bucket.min(BUCKETS - 1)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there are 240 buckets, and the last ends at 2^40"
)]
fn upper_end(bucket: usize) -> u64 {
    (bucket as f64 / f64::from(STEPS)).exp2().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_an_eighth_whatever_their_size() {
        for scale in [1, 100, 1_000_000] {
            let mut calls = Calls::default();
            for micros in 1..=1000 {
                calls.take(micros * scale, micros > 990, 1.0);
            }
            assert_eq!((calls.count(), calls.errors()), (1000, 10));
            for (hundredths, exact) in [(50, 500), (95, 950), (99, 990)] {
                let (told, exact) = (calls.percentile(hundredths), exact * scale as u64);
                assert!(
                    told >= exact && told * 100 <= exact * 113,
                    "{told} of {exact}"
                );
            }
        }
    }

    #[test]
    fn what_is_counted_apart_adds_up() {
        let (mut one, mut other, mut both) = <(Calls, Calls, Calls)>::default();
        for micros in 0..500 {
            let half = if micros % 3 == 0 {
                &mut one
            } else {
                &mut other
            };
            half.take(micros, micros % 5 == 0, 1.0);
            both.take(micros, micros % 5 == 0, 1.0);
        }
        assert_eq!(Calls::sum([&one, &other]), both);
        // Of what is only counted, nobody knows how long it took.
        assert_eq!(Calls::counted(3).percentile(99), 0);
    }
}
