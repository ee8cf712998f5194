//! When a key set is fetched again. Pure: time comes in, and what to do is asked for.
//!
//! Every five minutes, or as the source says (`max-age`, kept between one minute and one hour: less
//! would hammer it, more would delay the end of a key that was withdrawn). At once when a token
//! names a key that is not known, as issuers sign with new keys right after they publish them; but
//! not within ten seconds of the last fetch, whatever anyone sends, so that made-up names cost the
//! source nothing.
//!
//! **When the source is down**, the keys stay in use for a day since they were last confirmed. A
//! fault of the identity provider should not take everything else down, and a day is longer than
//! such faults last. But not for ever: whoever can keep us from the source could otherwise keep a
//! stolen, withdrawn key alive.

use std::time::{Duration, Instant};

/// The state of fetching one key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// When to fetch next, unless one is under way.
    next: Instant,
    /// When the last fetch began.
    began: Option<Instant>,
    under_way: bool,
    /// When the source last gave keys.
    confirmed: Option<Instant>,
    failures: u32,
}

/// Between two fetches, if the source says nothing.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// The shortest and longest that a source may ask for.
const MAX_AGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(60 * 60));
/// Between the beginnings of two fetches, if tokens ask for them.
const GAP: Duration = Duration::from_secs(10);
/// After the first failure; doubled with each.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Keys that were not confirmed for so long are dropped.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

impl Refresh {
    /// Nothing was fetched yet: the first is due at once.
    pub fn new(now: Instant) -> Self {
        Self {
            next: now,
            began: None,
            under_way: false,
            confirmed: None,
            failures: 0,
        }
    }

    /// When the next fetch should begin; none while one is under way.
    pub fn due(&self) -> Option<Instant> {
        (!self.under_way).then_some(self.next)
    }

    /// A fetch begins.
    pub fn begin(&mut self, now: Instant) {
        self.under_way = true;
        self.began = Some(now);
    }

    /// A token names a key that is not known. True if a fetch is due or under way: it is worth
    /// waiting for. False if there was one a moment ago.
    pub fn unknown(&mut self, now: Instant) -> bool {
        if self.under_way {
            return true;
        }
        let soon = |began: Instant| now.saturating_duration_since(began) < GAP;
        if self.began.is_some_and(soon) {
            // It may be due all the same, after a failure.
            return self.next <= now;
        }
        self.next = self.next.min(now);
        true
    }

    /// The source gave keys, good for so long.
    pub fn succeeded(&mut self, max_age: Option<Duration>, now: Instant) {
        let (least, most) = MAX_AGE;
        self.under_way = false;
        self.failures = 0;
        self.confirmed = Some(now);
        self.next = now + max_age.map_or(EVERY, |age| age.clamp(least, most));
    }

    /// The source gave none. True if the keys in use were not confirmed for too long: they must be
    /// dropped.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.under_way = false;
        let pause = BACK_OFF * 2u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.next = now + pause.min(EVERY);
        self.confirmed
            .is_some_and(|then| now.saturating_duration_since(then) >= KEEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fetched(max_age: Option<Duration>) -> (Refresh, Instant) {
        let now = atoll_base::clock::monotonic();
        let mut refresh = Refresh::new(now);
        assert_eq!(refresh.due(), Some(now), "the first is due at once");
        refresh.begin(now);
        assert_eq!(refresh.due(), None, "one at a time");
        refresh.succeeded(max_age, now);
        (refresh, now)
    }

    #[test]
    fn it_is_fetched_again_when_the_source_says_within_bounds() {
        for (given, expected) in [
            (None, 300),
            (Some(0), 60),
            (Some(600), 600),
            (Some(1 << 40), 3600),
        ] {
            let (refresh, now) = fetched(given.map(Duration::from_secs));
            assert_eq!(refresh.due(), Some(now + expected * SECOND), "{given:?}");
        }
    }

    #[test]
    fn unknown_names_cost_the_source_one_fetch_in_ten_seconds() {
        let (mut refresh, now) = fetched(None);
        let mut fetches = 0;
        for tenth in 0..600u32 {
            let now = now + SECOND / 10 * tenth;
            let waits = refresh.unknown(now);
            assert_eq!(waits, refresh.due().is_some_and(|due| due <= now));
            if waits {
                refresh.begin(now);
                assert!(refresh.unknown(now), "the one under way may bring it");
                refresh.succeeded(None, now);
                fetches += 1;
            }
        }
        assert_eq!(fetches, 5, "at 10, 20, 30, 40 and 50 s");
    }

    #[test]
    fn failures_are_spaced_out_and_keys_stay_for_a_day() {
        let (mut refresh, start) = fetched(None);
        let mut pauses = Vec::new();
        let (now, kept) = loop {
            let now = refresh.due().unwrap();
            refresh.begin(now);
            let drop = refresh.failed(now);
            pauses.push((refresh.due().unwrap() - now).as_secs());
            if drop {
                break (now, now - start);
            }
        };
        assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(kept >= KEEP && kept < KEEP + EVERY, "{kept:?}");
        refresh.begin(now);
        refresh.succeeded(None, now);
        assert!(!refresh.failed(now), "confirmed again");
    }

    #[test]
    fn while_the_source_is_down_unknown_names_do_not_hurry_it() {
        let now = atoll_base::clock::monotonic();
        let mut refresh = Refresh::new(now);
        refresh.begin(now);
        assert!(!refresh.failed(now), "there are none to drop");
        assert!(!refresh.unknown(now), "not at once");
        assert_eq!(refresh.due(), Some(now + SECOND));
        assert!(refresh.unknown(now + SECOND), "it is due anyway");
    }
}
