//! The pause before a retry.
//!
//! The first retry goes out almost at once: most failures that may be tried again are of one
//! instance, and there is another. Later ones wait for a random part of a bound that doubles ("full
//! jitter"): clients that failed together must not come back together.

use std::time::Duration;

use super::penalty::scale;

/// The bound of the first retry.
pub const FIRST: Duration = Duration::from_millis(5);

/// The bound of the second retry; it doubles from there.
pub const BASE: Duration = Duration::from_millis(25);

/// No pause is longer.
pub const CAP: Duration = Duration::from_millis(250);

/// How long to wait before retry number `retry` (1 is the first), for a `random` number.
pub fn pause(retry: u32, random: u64) -> Duration {
    let bound = match retry {
        0 | 1 => FIRST,
        // 2^4 times the base is beyond the cap already.
        _ => CAP.min(BASE * (1 << (retry - 2).min(4))),
    };
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(scale(nanos, random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_double_from_the_second_on() {
        let bounds: Vec<_> = (1..=8)
            .map(|retry| pause(retry, u64::MAX).as_micros().div_ceil(1000))
            .collect();
        assert_eq!(bounds, [5, 25, 50, 100, 200, 250, 250, 250]);
    }

    proptest! {
        #[test]
        fn pauses_are_spread_over_all_of_the_bound(retry: u32, random: u64) {
            let taken = pause(retry, random);
            prop_assert!(taken < CAP);
            prop_assert!(pause(retry, random / 2) <= taken);
            prop_assert_eq!(pause(retry, 0), Duration::ZERO);
        }
    }
}
