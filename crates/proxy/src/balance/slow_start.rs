//! What part of its requests a new instance gets: caches are cold, code is not compiled yet, pools
//! are empty. From a tenth it rises steadily to the whole.

use crate::resilience::Millis;

/// The part of an instance that is not new, of [`SlowStart::part`].
pub(super) const FULL: u32 = 256;

/// The least part: with nothing at all it would never get warm.
const LEAST: u32 = FULL / 10;

/// The time that an instance takes to get its full part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart(Millis);

impl SlowStart {
    /// Over so many milliseconds; zero for not at all.
    pub const fn new(over: Millis) -> Self {
        Self(over)
    }

    /// The part of an instance that is ready, or back, since `since`: from 25 to 256.
    pub fn part(self, since: Millis, now: Millis) -> u32 {
        let age = now.saturating_sub(since);
        if age >= self.0 {
            return FULL;
        }
        let part = u128::from(age) * u128::from(FULL) / u128::from(self.0);
        u32::try_from(part).unwrap_or(FULL).clamp(LEAST, FULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_from_a_tenth_to_the_whole() {
        let start = SlowStart::new(30_000);
        let parts = [0, 1_000, 3_000, 15_000, 29_999, 30_000, 90_000]
            .map(|age| start.part(5_000, 5_000 + age));
        assert_eq!(parts, [25, 25, 25, 128, 255, 256, 256]);
        assert_eq!(SlowStart::new(0).part(5, 5), FULL);
        assert_eq!(
            start.part(9, 5),
            LEAST,
            "the clock of another thread is behind"
        );
    }
}
