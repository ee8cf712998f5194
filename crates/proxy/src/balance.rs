//! Which of several endpoints gets a request: the less loaded of two random ones.
//!
//! Nearly as good as knowing the least loaded of all, without every worker running to the same one
//! at the same moment; round robin was refused, as it keeps feeding a slow instance.

/// Picks one of `count` candidates. `load` tells how busy one is, or none if it may not be taken;
/// `below(n)` is a random number less than `n`.
pub(crate) fn pick(
    count: usize,
    load: impl Fn(usize) -> Option<u32>,
    below: impl Fn(usize) -> usize,
) -> Option<usize> {
    match count {
        0 => return None,
        1 => return load(0).map(|_| 0),
        _ => {}
    }
    let one = below(count);
    let other = (one + 1 + below(count - 1)) % count;
    match (load(one), load(other)) {
        (Some(load_one), Some(load_other)) => Some(if load_other < load_one { other } else { one }),
        (Some(_), None) => Some(one),
        (None, Some(_)) => Some(other),
        // Rare: look at all, from a random start.
        (None, None) => (0..count)
            .map(|step| (one + step) % count)
            .find(|candidate| load(*candidate).is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_two_the_less_loaded_is_taken() {
        for start in 0..2 {
            let load = |at: usize| Some([5, 3][at]);
            assert_eq!(pick(2, load, |n| start % n), Some(1));
        }
    }

    proptest! {
        #[test]
        fn whatever_may_be_taken_is_found(
            loads in proptest::collection::vec(proptest::option::of(0u32..9), 0..8),
            seed: usize,
        ) {
            let picked = pick(loads.len(), |at| loads[at], |n| seed % n);
            match picked {
                Some(at) => prop_assert!(loads[at].is_some()),
                None => prop_assert!(loads.iter().all(Option::is_none)),
            }
        }
    }
}
