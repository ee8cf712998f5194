//! Counts and latencies of each service, live, for the console and `atoll status`.
//!
//! Workers count into a delta of their own and add it to the shared windows a few times a second:
//! no shared word is written per request. Latencies go to a log-linear histogram, 16 steps per
//! doubling, so a percentile is within 3% of the truth; exact ones would need every value. Refused:
//! exponentially decaying averages, which nobody on call can interpret.

use std::time::Duration;

use atoll_base::ServiceName;
use serde::Serialize;

/// The state of one service, as seen by the proxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStats {
    /// The service.
    pub service: ServiceName,
    /// Requests since the node started.
    pub requests: u64,
    /// Of these: answered 5xx, or cut off by the service.
    pub errors: u64,
    /// Requests per second over the last 10 seconds.
    pub requests_per_second: f64,
    /// Errors per second over the last 10 seconds.
    pub errors_per_second: f64,
    /// Half of the requests of the last minute were answered within this; zero if there were none.
    pub p50: Duration,
    /// 99% of the requests of the last minute were answered within this; zero if there were none.
    pub p99: Duration,
    /// Requests that are on their way now.
    pub in_flight: u32,
}

/// What was counted of one service since the node started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTally {
    /// The service.
    pub service: ServiceName,
    /// Requests.
    pub requests: u64,
    /// Of these: answered 5xx, or cut off by the service.
    pub errors: u64,
    /// Of those without an error: took longer, to the last byte, than [`crate::Cluster::slow_after`] said then.
    pub slow: u64,
}

const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;
/// Microseconds up to 2^36 (19 hours); longer ones count as that.
const BUCKETS: usize = (36 - STEP_BITS as usize + 1) * STEPS;

/// A histogram of microseconds.
#[derive(Clone)]
struct Histogram(Box<[u32; BUCKETS]>);

/// What one worker counted for one service since it last told.
pub(crate) struct Delta {
    requests: u64,
    errors: u64,
    slow: u64,
    /// What takes longer is slow, in microseconds: counted at the very bound, as a histogram cannot.
    slow_after: u64,
    latencies: Histogram,
}

/// The sums over all workers of one service, and its windows of time.
pub(crate) struct Window {
    requests: u64,
    errors: u64,
    slow: u64,
    /// One second each.
    seconds: [Second; 12],
    /// Ten seconds each.
    latencies: [Slice; 7],
}

#[derive(Clone, Copy, Default)]
struct Second {
    at: u64,
    requests: u64,
    errors: u64,
}

struct Slice {
    at: u64,
    histogram: Histogram,
}

impl Histogram {
    fn new() -> Self {
        Self(Box::new([0; BUCKETS]))
    }

    fn bucket(micros: u64) -> usize {
        if micros < STEPS as u64 {
            return micros as usize;
        }
        let exponent = 63 - micros.leading_zeros();
        let step = (micros >> (exponent - STEP_BITS)) as usize & (STEPS - 1);
        let row = (exponent - STEP_BITS + 1) as usize;
        (row * STEPS + step).min(BUCKETS - 1)
    }

    /// The middle of a bucket.
    fn value(bucket: usize) -> u64 {
        let (row, step) = (bucket / STEPS, (bucket % STEPS) as u64);
        if row == 0 {
            return step;
        }
        let width = 1u64 << (row - 1);
        (STEPS as u64 + step) * width + width / 2
    }

    fn record(&mut self, micros: u64) {
        if let Some(count) = self.0.get_mut(Self::bucket(micros)) {
            *count = count.saturating_add(1);
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    fn percentile(&self, share: f64) -> Duration {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Duration::from_micros(Self::value(bucket));
            }
        }
        Duration::ZERO
    }
}

impl Delta {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            errors: 0,
            slow: 0,
            slow_after: u64::MAX,
            latencies: Histogram::new(),
        }
    }

    /// From now on this is slow; none: nothing is.
    pub(crate) fn slow_after(&mut self, bound: Option<Duration>) {
        let micros = bound.and_then(|own| u64::try_from(own.as_micros()).ok());
        self.slow_after = micros.unwrap_or(u64::MAX);
    }

    pub(crate) fn record(&mut self, duration: Duration, failed: bool) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.requests += 1;
        self.errors += u64::from(failed);
        self.slow += u64::from(!failed && micros > self.slow_after);
        self.latencies.record(micros);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    fn clear(&mut self) {
        self.requests = 0;
        self.errors = 0;
        self.slow = 0;
        self.latencies.clear();
    }
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            errors: 0,
            slow: 0,
            seconds: [Second::default(); 12],
            latencies: std::array::from_fn(|_| Slice {
                at: 0,
                histogram: Histogram::new(),
            }),
        }
    }

    /// Takes over what `delta` counted, and empties it. `now` is the time since some fixed moment.
    pub(crate) fn add(&mut self, delta: &mut Delta, now: Duration) {
        self.requests += delta.requests;
        self.errors += delta.errors;
        self.slow += delta.slow;
        let at = now.as_secs();
        let second = &mut self.seconds[at as usize % 12];
        if second.at != at {
            *second = Second {
                at,
                ..Second::default()
            };
        }
        second.requests += delta.requests;
        second.errors += delta.errors;
        let at = at / 10;
        let slice = &mut self.latencies[at as usize % 7];
        if slice.at != at {
            slice.at = at;
            slice.histogram.clear();
        }
        slice.histogram.add(&delta.latencies);
        delta.clear();
    }

    /// What was counted since the start.
    pub(crate) fn tally(&self, service: &ServiceName) -> ServiceTally {
        ServiceTally {
            service: service.clone(),
            requests: self.requests,
            errors: self.errors,
            slow: self.slow,
        }
    }

    /// The state of `service` at `now`.
    pub(crate) fn stats(
        &self,
        service: &ServiceName,
        in_flight: u32,
        now: Duration,
    ) -> ServiceStats {
        let at = now.as_secs();
        let (mut requests, mut errors) = (0, 0);
        // The ten full seconds before this one: the current second has only begun.
        for second in &self.seconds {
            if second.at < at && second.at + 10 >= at {
                requests += second.requests;
                errors += second.errors;
            }
        }
        let mut histogram = Histogram::new();
        for slice in &self.latencies {
            if slice.at + 6 >= at / 10 {
                histogram.add(&slice.histogram);
            }
        }
        // Within the first ten seconds, the average is over what has passed.
        let span = at.clamp(1, 10) as f64;
        ServiceStats {
            service: service.clone(),
            requests: self.requests,
            errors: self.errors,
            requests_per_second: requests as f64 / span,
            errors_per_second: errors as f64 / span,
            p50: histogram.percentile(0.50),
            p99: histogram.percentile(0.99),
            in_flight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_and_percentiles_follow_the_windows() {
        let name = ServiceName::new("orders").unwrap();
        let mut window = Window::new();
        let mut delta = Delta::new();
        for second in 0..20u64 {
            for i in 0..100 {
                delta.record(Duration::from_micros(1000), i == 0);
            }
            window.add(&mut delta, Duration::from_secs(100 + second));
        }
        let stats = window.stats(&name, 3, Duration::from_secs(120));
        assert_eq!(stats.requests, 2000);
        assert_eq!(stats.errors, 20);
        assert_eq!(stats.requests_per_second, 100.0);
        assert_eq!(stats.errors_per_second, 1.0);
        assert_eq!(stats.in_flight, 3);
        let later = window.stats(&name, 0, Duration::from_secs(300));
        assert_eq!(later.requests, 2000);
        assert_eq!(later.requests_per_second, 0.0);
        assert_eq!(later.p99, Duration::ZERO);
    }

    #[test]
    fn slow_is_what_takes_longer_than_the_bound_and_did_not_fail() {
        let name = ServiceName::new("orders").unwrap();
        let (mut window, mut delta) = (Window::new(), Delta::new());
        let millis = Duration::from_millis;
        delta.record(millis(9000), false);
        delta.slow_after(Some(millis(300)));
        delta.record(millis(300), false);
        delta.record(Duration::from_micros(300_001), false);
        delta.record(millis(400), true);
        window.add(&mut delta, Duration::from_secs(1));
        delta.record(millis(301), false);
        window.add(&mut delta, Duration::from_secs(2));
        let tally = window.tally(&name);
        assert_eq!((tally.requests, tally.errors, tally.slow), (5, 1, 2));
    }

    proptest! {
        #[test]
        fn a_bucket_stands_for_its_values_within_three_percent(micros in 0u64..1 << 36) {
            let middle = Histogram::value(Histogram::bucket(micros));
            prop_assert!(middle.abs_diff(micros) as f64 <= micros as f64 / 31.0);
        }

        #[test]
        fn any_duration_has_a_bucket(micros: u64) {
            prop_assert!(Histogram::bucket(micros) < BUCKETS);
        }
    }
}
