//! The same key to the same instance, for as long as the instances are the same.
//!
//! Rendezvous hashing: each instance has a score for each key, and the highest wins. When one
//! leaves, only its keys move. It looks at all instances, some 4 ns each, and needs no table; Maglev
//! (one look, but a table of 65537 entries for each service and worker, rebuilt on each change) and
//! rings (uneven without hundreds of points) were refused.
//!
//! Loads are bounded: an instance that has a quarter more than the mean is passed over, so a popular
//! key, or somebody who made keys that collide, cannot sink one. Below [`ALWAYS`] requests in flight
//! it is never passed over, as with few requests every one is "a quarter more".

use super::Candidates;

/// So many requests in flight are no reason to go elsewhere.
const ALWAYS: u64 = 16;

/// Takes the instance of the key, or the next one for the key that is not overloaded.
pub(super) fn pick(candidates: &impl Candidates, key: u64) -> Option<usize> {
    let usable = || (0..candidates.count()).filter(|at| candidates.is_usable(*at));
    let (count, load) = usable().fold((0u64, 0u64), |(count, load), at| {
        (count + 1, load + u64::from(candidates.in_flight(at)))
    });
    // A quarter more than the mean, with the request that is to be placed.
    let most = ((load + 1) * 5).div_ceil(count.max(1) * 4).max(ALWAYS);
    usable()
        .filter(|at| u64::from(candidates.in_flight(*at)) < most)
        .max_by_key(|at| score(key, candidates.identity(*at)))
}

/// The key for something that requests have in common. The same on every thread, machine and
/// version, so that affinity survives a restart.
pub fn hash_key(bytes: &[u8]) -> u64 {
    // FNV-1a, whose weak high bits `mix` makes up for.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

fn score(key: u64, identity: u64) -> u64 {
    mix(key ^ identity.rotate_left(32))
}

/// Every bit of the result depends on every bit of the input (the finalizer of splitmix64).
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
