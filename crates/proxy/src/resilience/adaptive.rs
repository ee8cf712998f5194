//! How many requests a service takes before its answers get slower: a limit that is found by
//! measuring.
//!
//! This is Vegas, of TCP and of Netflix's concurrency-limits (`VegasLimit`, with the thresholds of
//! that class): from the latency now and the latency without a queue, `limit * (1 - base / now)` is
//! what stands in the service's queue. Little: the limit grows. Much: it shrinks. Gradient2 of the
//! same library was refused: its base follows the latency under load, so a steady overload ends at
//! the highest limit there is.
//!
//! Three things differ, because here the unit is a window of half a second and not one request.
//! Latencies are the typical ones ([`Counts::typical`]), as a service answers from a cache and from
//! a database through the same port, and the least of all latencies is nobody's normal. The limit
//! shrinks in proportion to the queue, not by one. And the base is measured again by halving the
//! limit for two windows now and then (as BBR and Envoy do); Netflix takes any latency for the new
//! base at random moments, which drifts upwards if the moments are busy.

use std::time::Duration;

use super::{Counts, Millis};

/// The length of a window in milliseconds, at least.
const WINDOW: Millis = 500;

/// Answers in a window, at least.
const ANSWERS_MIN: u32 = 10;

/// Windows between two measurements of the base …
const DIP_EVERY: u32 = 60;

/// … while it is not known: at first, and as long as each measurement finds a much lower one.
const DIP_SOON: u32 = 4;

/// The limit is never less: below it one cannot tell a queue from chance.
pub const LIMIT_MIN: u32 = 4;

/// The limit of a service of which nothing is known.
pub const LIMIT_START: u32 = 32;

/// A concurrency limit that follows the service.
#[derive(Debug, Clone)]
pub struct Vegas {
    limit: f64,
    most: u32,
    /// The latency without a queue, in microseconds.
    base: Option<f64>,
    phase: Phase,
    counts: Counts,
    /// The most that were in flight in this window.
    busiest: u32,
    window_began: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The limit is followed; so many windows until the base is measured.
    Follow { left: u32 },
    /// Half of the limit: what is too much leaves the queue.
    Drain,
    /// Half of the limit: what is measured is the base.
    Measure,
}

impl Vegas {
    /// Starts with [`LIMIT_START`]; never gives more than `most`.
    pub fn new(most: u32, now: Millis) -> Self {
        Self {
            limit: f64::from(LIMIT_START.min(most.max(LIMIT_MIN))),
            most: most.max(LIMIT_MIN),
            base: None,
            phase: Phase::Follow { left: DIP_SOON },
            counts: Counts::default(),
            busiest: 0,
            window_began: now,
        }
    }

    /// The limit that holds.
    pub fn limit(&self) -> u32 {
        let limit = match self.phase {
            Phase::Follow { .. } => self.limit,
            Phase::Drain | Phase::Measure => self.limit / 2.0,
        };
        (limit as u32).clamp(LIMIT_MIN, self.most)
    }

    /// Takes a new upper bound.
    pub fn set_most(&mut self, most: u32) {
        self.most = most.max(LIMIT_MIN);
        self.limit = self.limit.min(f64::from(self.most));
    }

    /// Takes what was counted since it was last told, and how many were in flight just now. Returns
    /// the limit that holds.
    pub fn counted(&mut self, counts: &Counts, in_flight: u32, now: Millis) -> u32 {
        self.counts.add(counts);
        self.busiest = self.busiest.max(in_flight);
        let long_enough = self.window_began.saturating_add(WINDOW) <= now;
        if long_enough && self.counts.answers() >= ANSWERS_MIN {
            let counts = self.counts.take();
            if let Some(typical) = counts.typical() {
                self.window(typical, &counts);
            }
            self.busiest = in_flight;
            self.window_began = now;
        } else if long_enough && self.counts.unavailable() >= ANSWERS_MIN {
            // Nothing is answered any more.
            self.counts = Counts::default();
            self.window_began = now;
            self.shrink(self.limit / 2.0);
        }
        self.limit()
    }

    fn window(&mut self, typical: Duration, counts: &Counts) {
        let latency = (typical.as_micros() as f64).max(1.0);
        match self.phase {
            // Follow → Drain.
            Phase::Follow { left: 0 } => self.phase = Phase::Drain,
            Phase::Follow { left } => {
                self.phase = Phase::Follow { left: left - 1 };
                self.follow(latency, counts);
            }
            // Drain → Measure.
            Phase::Drain => self.phase = Phase::Measure,
            // Measure → Follow.
            Phase::Measure => {
                let fell = self.base.is_some_and(|base| latency < base * 0.8);
                self.base = Some(latency);
                let left = if fell { DIP_SOON } else { DIP_EVERY };
                self.phase = Phase::Follow { left };
            }
        }
    }

    fn follow(&mut self, latency: f64, counts: &Counts) {
        let base = match self.base {
            // Half way: the least of many windows is chance, not the base.
            Some(base) if latency < base => f64::midpoint(base, latency),
            Some(base) => base,
            None => latency,
        };
        self.base = Some(base);
        // The scale of everything: 1 for a limit of 10, 2 for 100, 3 for 1000.
        let scale = self.limit.log10().max(1.0);
        let queue = (self.limit * (1.0 - base / latency)).max(0.0);
        let dropped = u64::from(counts.unavailable()) * 20 > u64::from(counts.requests());
        if dropped {
            self.shrink(scale.max(self.limit / 10.0));
        } else if queue > 6.0 * scale {
            self.shrink(scale.max((queue - 6.0 * scale) / 2.0));
        } else if f64::from(self.busiest) * 2.0 < self.limit {
            // The limit limits nobody: nothing is learnt about it.
        } else if queue <= scale {
            self.grow(6.0 * scale);
        } else if queue < 3.0 * scale {
            self.grow(scale);
        }
    }

    fn grow(&mut self, by: f64) {
        self.limit = (self.limit + by).min(f64::from(self.most));
    }

    fn shrink(&mut self, by: f64) {
        self.limit = (self.limit - by).max(f64::from(LIMIT_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};

    /// A service that works on `capacity` requests at once; others wait in its queue. Its client
    /// always has as many under way as the limit allows.
    struct Simulation {
        vegas: Vegas,
        capacity: usize,
        /// Of one request, in microseconds.
        work: f64,
        /// Work differs between requests, as it does: exponentially distributed.
        random: Option<u64>,
        now: u64,
        /// Ends and begins of what is worked on.
        working: BinaryHeap<Reverse<(u64, u64)>>,
        queue: VecDeque<u64>,
        counts: Counts,
        told: u64,
    }

    impl Simulation {
        fn new(capacity: usize, work_millis: u64, random: Option<u64>) -> Self {
            Self {
                vegas: Vegas::new(1024, 0),
                capacity,
                work: work_millis as f64 * 1000.0,
                random,
                now: 0,
                working: BinaryHeap::new(),
                queue: VecDeque::new(),
                counts: Counts::default(),
                told: 0,
            }
        }

        fn work(&mut self) -> u64 {
            let Some(random) = &mut self.random else {
                return self.work as u64;
            };
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let uniform = ((*random >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
            (self.work * -uniform.ln()) as u64 + 1
        }

        fn run(&mut self, seconds: u64) -> u32 {
            let end = self.now + seconds * 1_000_000;
            while self.now < end {
                while self.in_flight() < self.vegas.limit() as usize {
                    self.queue.push_back(self.now);
                }
                while self.working.len() < self.capacity
                    && let Some(began) = self.queue.pop_front()
                {
                    let ends = self.now + self.work();
                    self.working.push(Reverse((ends, began)));
                }
                let Some(Reverse((ends, began))) = self.working.pop() else {
                    break;
                };
                self.now = ends;
                self.counts.answered(Duration::from_micros(ends - began));
                if self.now - self.told >= 100_000 {
                    self.told = self.now;
                    let counts = self.counts.take();
                    let in_flight = self.in_flight() as u32;
                    self.vegas.counted(&counts, in_flight, self.now / 1000);
                }
            }
            self.settled()
        }

        /// The limit outside of measurements.
        fn settled(&self) -> u32 {
            self.vegas.limit as u32
        }

        fn in_flight(&self) -> usize {
            self.working.len() + self.queue.len()
        }
    }

    #[test]
    fn it_finds_the_capacity() {
        for capacity in [10, 50, 200, 500] {
            let mut service = Simulation::new(capacity, 50, None);
            for _ in 0..10 {
                let limit = service.run(30) as usize;
                let near = capacity..=capacity + capacity / 5 + 10;
                assert!(near.contains(&limit), "{limit} for {capacity}");
            }
        }
    }

    #[test]
    fn it_finds_it_though_no_two_requests_are_alike() {
        for capacity in [10, 50, 200] {
            let mut service = Simulation::new(capacity, 50, Some(capacity as u64));
            service.run(60);
            for _ in 0..20 {
                let limit = service.run(10) as usize;
                let near = capacity * 3 / 4..=capacity * 5 / 4 + 10;
                assert!(near.contains(&limit), "{limit} for {capacity}");
            }
        }
    }

    #[test]
    fn it_shrinks_with_the_service_and_grows_again() {
        let mut service = Simulation::new(200, 50, None);
        assert!(service.run(60) >= 200);
        service.capacity = 40;
        let limit = service.run(20);
        assert!((40..80).contains(&limit), "{limit}");
        service.capacity = 200;
        let limit = service.run(60);
        assert!(limit >= 200, "{limit}");
    }

    #[test]
    fn slower_answers_shrink_it_until_the_base_is_known_again() {
        let mut service = Simulation::new(100, 20, None);
        assert!(service.run(25) >= 100);
        service.work *= 5.0;
        let limit = service.run(8);
        assert!(limit < 60, "{limit}");
        let limit = service.run(90);
        assert!((100..140).contains(&limit), "it only is slower: {limit}");
    }

    #[test]
    fn drops_shrink_it_and_idleness_does_not_move_it() {
        let mut vegas = Vegas::new(1024, 0);
        let mut counts = Counts::default();
        (0..100).for_each(|_| counts.answered(Duration::from_millis(5)));
        for window in 1..=20 {
            vegas.counted(&counts, 1, window * 500);
        }
        assert_eq!(vegas.limit(), LIMIT_START, "one in flight tells nothing");
        (0..20).for_each(|_| counts.failed(crate::resilience::Failure::Timeout));
        for window in 21..=40 {
            vegas.counted(&counts, 30, window * 500);
        }
        assert!(vegas.limit() < 12, "{}", vegas.limit());
        let mut vegas = Vegas::new(1024, 0);
        let mut nothing = Counts::default();
        (0..100).for_each(|_| nothing.failed(crate::resilience::Failure::Refused));
        let limits = [1, 2, 3, 4].map(|window| vegas.counted(&nothing, 30, window * 500));
        assert_eq!(
            limits,
            [16, 8, LIMIT_MIN, LIMIT_MIN],
            "nothing is answered any more"
        );
    }
}
