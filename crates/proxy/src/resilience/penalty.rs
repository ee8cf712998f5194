//! How long something stays out: twice as long each time, and less again the longer it is good.
//!
//! A reset to the shortest pause after one success was refused: what fails every minute would be
//! tried every five seconds for ever. So was never forgetting: last month's failures are no reason.

use super::Millis;

/// The pauses that a [`Penalty`] hands out, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pauses {
    /// The first one.
    pub(super) first: Millis,
    /// The longest one.
    pub(super) most: Millis,
}

/// The record of one offender.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Penalty {
    /// Offences that are not forgiven.
    level: u32,
    /// Since when it has been good, or when it was last forgiven. None while it is out.
    good_since: Option<Millis>,
}

impl Penalty {
    /// Takes down an offence and tells how long the pause is: up to a fifth less than planned, by
    /// `random`, so that those who went out together do not come back together.
    pub(super) fn offend(&mut self, pauses: Pauses, now: Millis, random: u64) -> Millis {
        self.forgive(pauses, now);
        // No level beyond the longest pause: it would only delay forgiveness.
        if self.level == 0 || pauses.at(self.level) < pauses.most {
            self.level += 1;
        }
        self.good_since = None;
        let pause = pauses.at(self.level);
        pause - scale(pause / 5, random)
    }

    /// It is good from now on.
    pub(super) fn restored(&mut self, now: Millis) {
        self.good_since = Some(now);
    }

    /// Forgives one offence for each time that it was good for as long as it was out.
    fn forgive(&mut self, pauses: Pauses, now: Millis) {
        while let Some(since) = self.good_since.filter(|_| self.level > 0) {
            let next = since.saturating_add(pauses.at(self.level));
            if next > now {
                break;
            }
            self.good_since = Some(next);
            self.level -= 1;
        }
    }
}

impl Pauses {
    /// The pause after so many offences, one at least.
    fn at(self, level: u32) -> Millis {
        let doubled = 1u64.checked_shl(level.saturating_sub(1));
        let pause = doubled.and_then(|factor| self.first.checked_mul(factor));
        pause.unwrap_or(self.most).min(self.most)
    }
}

/// `random` as a share of `whole`: from 0 to just below it.
pub(super) fn scale(whole: u64, random: u64) -> u64 {
    ((u128::from(whole) * u128::from(random)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAUSES: Pauses = Pauses {
        first: 5_000,
        most: 300_000,
    };

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut penalty = Penalty::default();
        let pauses: Vec<_> = (0..9)
            .map(|_| penalty.offend(PAUSES, 0, 0) / 1000)
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn the_time_that_it_is_out_is_no_time_that_it_is_good() {
        let mut penalty = Penalty::default();
        let mut now = 0;
        for expected in [5_000, 10_000, 20_000] {
            let pause = penalty.offend(PAUSES, now, 0);
            assert_eq!(pause, expected);
            now += 10 * pause;
        }
    }

    #[test]
    fn it_is_forgiven_step_by_step() {
        let mut penalty = Penalty::default();
        for _ in 0..3 {
            penalty.offend(PAUSES, 0, 0);
        }
        penalty.restored(100_000);
        // 20 s for the third, 10 s for the second.
        let early = penalty.clone().offend(PAUSES, 119_999, 0);
        assert_eq!(early, 40_000);
        let later = penalty.clone().offend(PAUSES, 120_000, 0);
        assert_eq!(later, 20_000);
        let latest = penalty.clone().offend(PAUSES, 135_000, 0);
        assert_eq!(latest, 5_000);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_longest_nor_much_shorter_than_the_first(
            offences in proptest::collection::vec((0u64..600_000, any::<u64>()), 1..50),
        ) {
            let mut penalty = Penalty::default();
            let mut now = 0;
            for (good, random) in offences {
                penalty.restored(now);
                now += good;
                let pause = penalty.offend(PAUSES, now, random);
                prop_assert!((4_000..=300_000).contains(&pause), "{pause}");
                now += pause;
            }
        }
    }
}
