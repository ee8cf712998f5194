//! How loaded an instance is, as one worker sees it: its latency, which jumps up at once and comes
//! down slowly, times what it has to do.
//!
//! Peak-EWMA as Finagle and Linkerd have it: cautious about an instance that was just slow, without
//! a probe or a timer, and with time alone the caution fades, so that a shunned instance is asked
//! again. Two things are added. Failing fast must not look like being fast: the share of failures
//! is averaged in the same way and makes an instance dearer, up to 21 times. And a new instance
//! starts from what the others are like, not from zero, at which every worker would rush to it.

use std::cell::Cell;

/// The time in which an old latency loses two thirds of its weight, in microseconds.
const DECAY: f32 = 10_000_000.0;

/// What failing at every request costs on top.
const FAILURE_COST: f32 = 20.0;

/// The latency that is assumed when nothing is known of any instance, in microseconds. Any number
/// would do.
const UNKNOWN: f32 = 10_000.0;

/// No latency is taken for less, in microseconds: it would hide what is in flight.
const LEAST: f32 = 10.0;

/// The latency of one instance, as one worker sees it. Not shared: no two workers write it.
#[derive(Debug)]
pub struct PeakEwma(Cell<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    /// Microseconds.
    latency: f32,
    /// The share of attempts that fail.
    failing: f32,
    /// Of the last observation, in microseconds.
    at: u64,
}

impl PeakEwma {
    /// Starts with a latency in microseconds, which [`fair_default`] gives.
    pub fn new(latency: f32, now_us: u64) -> Self {
        Self(Cell::new(State {
            latency: latency.max(LEAST),
            failing: 0.0,
            at: now_us,
        }))
    }

    /// An attempt was answered after `latency_us` microseconds.
    pub fn answered(&self, latency_us: u64, now_us: u64) {
        let (mut state, kept) = self.faded(now_us);
        let latency = latency_us as f32;
        let known = self.0.get().latency;
        state.latency = if latency > known {
            latency
        } else {
            known * kept + latency * (1.0 - kept)
        };
        self.set(state);
    }

    /// An attempt failed, or was answered with 5xx or 429, after so many microseconds. That it was
    /// slow counts; that it was fast does not.
    pub fn failed(&self, latency_us: u64, now_us: u64) {
        let (mut state, kept) = self.faded(now_us);
        state.latency = self.0.get().latency.max(latency_us as f32);
        state.failing += 1.0 - kept;
        self.set(state);
    }

    /// What a request more would cost while `in_flight` are there: to be compared with others of
    /// the same worker, no unit of anything.
    pub fn cost(&self, in_flight: u32, now_us: u64) -> f32 {
        let (state, _) = self.faded(now_us);
        state.latency.max(LEAST) * (1.0 + FAILURE_COST * state.failing) * (in_flight as f32 + 1.0)
    }

    /// The latency that is assumed now, in microseconds.
    pub fn latency(&self, now_us: u64) -> f32 {
        self.faded(now_us).0.latency.max(LEAST)
    }

    /// The state after the time since the last observation, and what share of the old is left.
    fn faded(&self, now_us: u64) -> (State, f32) {
        let state = self.0.get();
        let passed = now_us.saturating_sub(state.at);
        if passed == 0 {
            return (state, 1.0);
        }
        let kept = (-(passed as f32) / DECAY).exp();
        let faded = State {
            latency: state.latency * kept,
            failing: state.failing * kept,
            at: now_us,
        };
        (faded, kept)
    }

    fn set(&self, mut state: State) {
        state.latency = state.latency.max(LEAST);
        state.failing = state.failing.clamp(0.0, 1.0);
        self.0.set(state);
    }
}

/// The latency that a new instance starts with: the geometric mean of what is known of the others,
/// so that one slow instance does not make the new one unattractive.
pub fn fair_default(others: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = others.fold((0.0, 0.0), |(sum, count): (f32, f32), latency| {
        (sum + latency.max(LEAST).ln(), count + 1.0)
    });
    if count == 0.0 {
        UNKNOWN
    } else {
        (sum / count).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn it_jumps_up_and_comes_down_slowly() {
        let ewma = PeakEwma::new(1_000.0, 0);
        ewma.answered(50_000, SECOND);
        assert_eq!(ewma.latency(SECOND), 50_000.0);
        for step in 1..=10 {
            ewma.answered(1_000, SECOND * (1 + step));
        }
        let after_ten_seconds = ewma.latency(11 * SECOND);
        assert!(
            (18_000.0..21_000.0).contains(&after_ten_seconds),
            "{after_ten_seconds}"
        );
        for step in 11..=60 {
            ewma.answered(1_000, SECOND * (1 + step));
        }
        assert!(ewma.latency(61 * SECOND) < 1_200.0);
    }

    #[test]
    fn caution_fades_without_requests() {
        let ewma = PeakEwma::new(1_000.0, 0);
        ewma.answered(2_000_000, 0);
        assert!(ewma.cost(0, 0) > 1_000_000.0);
        assert!(ewma.cost(0, 70 * SECOND) < 2_000.0);
    }

    #[test]
    fn load_and_failures_make_it_dearer() {
        let ewma = PeakEwma::new(1_000.0, 0);
        assert_eq!(ewma.cost(3, 0), 4_000.0);
        for tenth in 1..=50 {
            ewma.failed(100, tenth * SECOND / 10);
        }
        let cost = ewma.cost(0, 5 * SECOND);
        assert!(cost > 5_000.0, "failing fast is no virtue: {cost}");
        ewma.failed(9_000_000, 5 * SECOND);
        assert!(
            ewma.latency(5 * SECOND) >= 9_000_000.0,
            "failing late is slow"
        );
    }

    #[test]
    fn a_new_one_starts_from_what_the_others_are_like() {
        assert_eq!(fair_default(std::iter::empty()), UNKNOWN);
        let fair = fair_default([1_000.0, 1_000.0, 100_000.0].into_iter());
        assert!((4_000.0..5_000.0).contains(&fair), "{fair}");
    }

    proptest! {
        #[test]
        fn costs_are_positive_finite_and_grow_with_load(
            observed in proptest::collection::vec((any::<u64>(), any::<bool>(), 0u64..1 << 40), 0..40),
            in_flight in 0u32..100_000,
        ) {
            let ewma = PeakEwma::new(0.0, 0);
            let mut now = 0;
            for (latency, failed, pause) in observed {
                now += pause;
                if failed {
                    ewma.failed(latency, now);
                } else {
                    ewma.answered(latency, now);
                }
                let cost = ewma.cost(in_flight, now);
                prop_assert!(cost.is_finite() && cost > 0.0, "{cost}");
                prop_assert!(ewma.cost(in_flight + 1000, now) > cost);
            }
        }
    }
}
