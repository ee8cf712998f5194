//! What a worker counted for one endpoint or one dependency since it last told.
//!
//! The typical latency is the geometric mean: latencies spread over powers of ten, and one answer
//! of 30 s among twenty of 5 ms must not make an instance look slow. For the shape that latencies
//! have (log-normal) it is the median, which would take a histogram for each endpoint; this takes a
//! sum of logarithms, whose parts the processor counts in a few cycles.

use std::time::Duration;

use super::Failure;

/// Steps per doubling in [`Counts`]' sum of logarithms.
const STEP_BITS: u32 = 10;

/// Requests, failures and the typical latency of a short time. Adding to it costs a few
/// nanoseconds and no allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    requests: u32,
    failures: u32,
    unavailable: u32,
    log_sum: u64,
    last: Option<Failure>,
}

impl Counts {
    /// Counts an attempt that was answered, after `latency` until the head of the answer.
    pub fn answered(&mut self, latency: Duration) {
        self.requests = self.requests.saturating_add(1);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.log_sum = self.log_sum.saturating_add(log(micros));
    }

    /// Counts an attempt that failed. Its latency is not counted: failing fast is no virtue.
    pub fn failed(&mut self, failure: Failure) {
        self.requests = self.requests.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        if failure.is_unavailability() {
            self.unavailable = self.unavailable.saturating_add(1);
        }
        self.last = Some(failure);
    }

    /// Adds what another worker, or the next moment, counted.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.unavailable = self.unavailable.saturating_add(other.unavailable);
        self.log_sum = self.log_sum.saturating_add(other.log_sum);
        self.last = other.last.or(self.last);
    }

    /// Gives what was counted and starts over.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Whether nothing was counted.
    pub const fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Attempts, failed ones included.
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// Attempts that failed in any way, 5xx included.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Of the failures, those where the service could not be used.
    pub const fn unavailable(&self) -> u32 {
        self.unavailable
    }

    /// Attempts that were answered.
    pub const fn answers(&self) -> u32 {
        self.requests.saturating_sub(self.failures)
    }

    /// The last failure, if there was one.
    pub const fn last(&self) -> Option<Failure> {
        self.last
    }

    /// The typical latency of what was answered, to within a thousandth. None if nothing was.
    pub fn typical(&self) -> Option<Duration> {
        let mean = self.log_sum.checked_div(u64::from(self.answers()))?;
        Some(Duration::from_micros(exp(mean)))
    }
}

/// The binary logarithm in steps of 2^-10, straight between powers of two.
const fn log(micros: u64) -> u64 {
    let micros = if micros == 0 { 1 } else { micros };
    let exponent = 63 - micros.leading_zeros();
    // The bits after the first one, moved to just below the exponent.
    let below = (micros << (63 - exponent)) << 1;
    ((exponent as u64) << STEP_BITS) | (below >> (64 - STEP_BITS))
}

/// The inverse of [`log`].
const fn exp(log: u64) -> u64 {
    let exponent = log >> STEP_BITS;
    let below = log & ((1 << STEP_BITS) - 1);
    if exponent >= 63 {
        return u64::MAX;
    }
    let mantissa = ((1u64 << STEP_BITS) | below) as u128;
    ((mantissa << exponent) >> STEP_BITS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typical(millis: &[u64]) -> u64 {
        let mut counts = Counts::default();
        for each in millis {
            counts.answered(Duration::from_millis(*each));
        }
        counts.typical().unwrap().as_millis() as u64
    }

    #[test]
    fn one_slow_answer_does_not_make_an_instance_slow() {
        let mut mostly_fast = vec![5; 20];
        mostly_fast.push(30_000);
        assert!(typical(&mostly_fast) < 9, "{}", typical(&mostly_fast));
        assert!(typical(&[50; 20]) >= 49);
    }

    #[test]
    fn failures_count_but_have_no_latency() {
        let mut counts = Counts::default();
        counts.answered(Duration::from_millis(100));
        counts.failed(Failure::Refused);
        counts.failed(Failure::Status(500));
        assert_eq!((counts.requests(), counts.failures()), (3, 2));
        assert_eq!((counts.unavailable(), counts.answers()), (1, 1));
        assert_eq!(counts.last(), Some(Failure::Status(500)));
        let typical = counts.typical().unwrap().as_micros();
        assert!((99_800..=100_000).contains(&typical), "{typical}");
        assert_eq!(Counts::default().typical(), None);
    }

    proptest! {
        #[test]
        fn a_latency_survives_to_a_thousandth(micros in 1u64..1 << 40) {
            let back = exp(log(micros));
            prop_assert!(back <= micros);
            prop_assert!(micros - back <= micros / 1000 + 1, "{micros} {back}");
        }

        #[test]
        fn batches_add_up(one in 0u64..1 << 40, other in 0u64..1 << 40) {
            let mut apart = [Counts::default(); 2];
            apart[0].answered(Duration::from_micros(one));
            apart[1].answered(Duration::from_micros(other));
            apart[1].failed(Failure::Cut);
            let mut whole = apart[0].take();
            whole.add(&apart[1]);
            prop_assert!(apart[0].is_empty());
            prop_assert_eq!((whole.requests(), whole.answers()), (3, 2));
            let typical = whole.typical().unwrap().as_micros() as u64;
            prop_assert!(typical <= one.max(other).max(1));
            prop_assert!(typical + typical / 500 + 1 >= one.min(other));
        }
    }
}
