//! The horizon: how far a partition was cleaned so long ago that its tombstones may go.
//!
//! Who has read a value must meet the tombstone that deletes it. A run takes the value, so only who
//! began to read before that run can have it; when such a reader had `delete_retention` from then on to
//! come to the end, the tombstone may go (KIP-534). For that it is enough to know when each stretch of
//! the log was cleaned first: it is a few pairs of an offset and a time, kept in the state. If they are
//! lost, tombstones stay longer. That of the record's own time was refused: clients set it, and an old
//! tombstone would go together with its value.

use std::time::Duration;

use atoll_base::Timestamp;

/// Pairs that are closer than this part of the time that tombstones stay are put together: they may
/// stay so much longer.
const PARTS: u32 = 4;

/// When a partition was cleaned, and how far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cleanings(Vec<Cleaning>);

/// At this time all older records of the keys before this offset were gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleaning {
    /// The offset.
    pub until: i64,
    /// The time.
    pub at: Timestamp,
}

/// How far apart runs are that have nothing to do but to take tombstones.
pub fn apart(retention: Duration) -> Duration {
    retention / PARTS
}

impl Cleanings {
    /// As they were kept, for a log that ends at `end`: what is of a longer one does not hold.
    pub fn restore(mut kept: Vec<Cleaning>, end: i64) -> Self {
        kept.retain(|own| own.until <= end);
        kept.sort_unstable_by_key(|own| own.until);
        Self(kept)
    }

    /// What is to be kept, by offset.
    pub fn list(&self) -> &[Cleaning] {
        &self.0
    }

    /// Everything before `until` is clean at `at`. Tells whether that is news.
    pub fn note(&mut self, until: i64, at: Timestamp, retention: Duration) -> bool {
        if self.0.last().is_some_and(|last| last.until >= until) {
            return false;
        }
        // Times rise with offsets, also when the clock goes back.
        let at = self.0.last().map_or(at, |last| last.at.max(at));
        if let [.., before, _] = &self.0[..]
            && at.since(before.at) < apart(retention)
        {
            self.0.pop();
        }
        self.0.push(Cleaning { until, at });
        // Of those that are old enough the last one says it all.
        let old = at.before(retention);
        let count = self.0.iter().take_while(|own| own.at <= old).count();
        self.0.drain(..count.saturating_sub(1));
        true
    }

    /// Tombstones before this offset may go at `now`.
    pub fn horizon(&self, now: Timestamp, retention: Duration) -> i64 {
        let old = now.before(retention);
        let cleaned = self.0.iter().rev().find(|own| own.at <= old);
        cleaned.map_or(i64::MIN, |own| own.until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    proptest! {
        #[test]
        fn nothing_is_old_too_early_or_much_too_late(
            steps in proptest::collection::vec((0..40_i64, 0..3_i64), 1..60),
            retention in 0..100_u64,
        ) {
            let span = Duration::from_secs(retention);
            let (mut own, mut all) = (Cleanings::default(), Vec::new());
            let (mut now, mut until) = (0, 0);
            for (later, more) in steps {
                now += later;
                until += more;
                own.note(until, at(now), span);
                all.push((until, now));
                prop_assert!(own.list().len() <= 12, "{own:?}");
                let horizon = own.horizon(at(now), span);
                let old_at = |limit: i64| {
                    let old = all.iter().rev().find(|(_, time)| *time <= limit);
                    old.map_or(i64::MIN, |(until, _)| *until)
                };
                let limit = now - i64::try_from(retention).unwrap();
                prop_assert!(horizon <= old_at(limit));
                let slack = i64::try_from(retention.div_ceil(4)).unwrap();
                prop_assert!(horizon >= old_at(limit - slack));
                let kept = own.list().to_vec();
                prop_assert_eq!(&Cleanings::restore(kept, until), &own);
            }
        }
    }

    #[test]
    fn a_log_that_was_cut_is_not_clean_where_it_grows_again() {
        let second = Duration::from_secs(1);
        let mut own = Cleanings::default();
        assert!(own.note(5, at(10), second) && own.note(9, at(20), second));
        assert!(!own.note(9, at(30), second));
        assert_eq!(own.horizon(at(20), second), 5);
        assert_eq!(own.horizon(at(21), second), 9);
        let cut = Cleanings::restore(own.list().to_vec(), 8);
        assert_eq!(cut.horizon(at(21), second), 5);
        // The clock went back: nothing is older than what was cleaned before it.
        own.note(12, at(3), second);
        assert_eq!(own.horizon(at(20), second), 5);
        assert_eq!(own.horizon(at(21), second), 12);
    }
}
