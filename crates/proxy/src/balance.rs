//! Which of several instances gets a request.
//!
//! By default the better of two random ones, by latency times load ([`PeakEwma`]). Two choices are
//! nearly as good as knowing the best of all, without every worker running to the same one at the
//! same moment. In turn ([`BalanceKind::RoundRobin`]) and by key ([`BalanceKind::Hash`]) are there
//! for those who need them. None allocates when it picks, and none locks: each worker has its own.
//!
//! Whether an instance may be taken at all is not decided here: [`Candidates`] says it.

mod config;
mod ewma;
mod hash;
mod round_robin;
mod slow_start;
#[cfg(test)]
mod tests;

pub use self::config::{BalanceConfig, BalanceKind, HashBy};
pub use self::ewma::{PeakEwma, fair_default};
pub use self::hash::hash_key;
use self::round_robin::RoundRobin;
use self::slow_start::FULL;
pub use self::slow_start::SlowStart;

/// The instances that a request may go to, by index.
pub trait Candidates {
    /// How many there are.
    fn count(&self) -> usize;

    /// Whether the request may go there: ready, not ejected, not tried before.
    fn is_usable(&self, at: usize) -> bool;

    /// Requests it has now, of all workers.
    fn in_flight(&self, at: usize) -> u32;

    /// What one more would cost there: [`PeakEwma::cost`].
    fn cost(&self, at: usize) -> f32;

    /// The part of its requests it is to have: [`SlowStart::part`].
    fn part(&self, at: usize) -> u32;

    /// Who it is, by [`hash_key`] of its name: the same whenever it is asked.
    fn identity(&self, at: usize) -> u64;
}

/// A way to pick, with the state that one worker keeps for one service.
#[derive(Debug)]
pub struct Balancer {
    kind: BalanceKind,
    robin: RoundRobin,
}

impl Balancer {
    /// A balancer of this kind.
    pub fn new(kind: BalanceKind) -> Self {
        Self {
            kind,
            robin: RoundRobin::default(),
        }
    }

    /// The kind it is of. With [`BalanceKind::Hash`] the caller is to find a key.
    pub fn kind(&self) -> BalanceKind {
        self.kind
    }

    /// Picks one that may be taken; none if there is none. `key` is what the request has in common
    /// with others, for [`BalanceKind::Hash`]: without one it is picked as by
    /// [`BalanceKind::Ewma`]. `random` gives evenly distributed numbers.
    pub fn pick(
        &self,
        candidates: &impl Candidates,
        key: Option<u64>,
        random: &impl Fn() -> u64,
    ) -> Option<usize> {
        match (self.kind, key) {
            (BalanceKind::RoundRobin, _) => self.robin.pick(candidates, random()),
            (BalanceKind::Hash, Some(key)) => hash::pick(candidates, key),
            (BalanceKind::Ewma, _) | (BalanceKind::Hash, None) => better_of_two(candidates, random),
        }
    }
}

/// The better of two random ones. A new one is passed over as often as its part says; its cost alone
/// would keep it out until its time is over, and then let everything in.
fn better_of_two(candidates: &impl Candidates, random: &impl Fn() -> u64) -> Option<usize> {
    let below = |bound: usize| ((u128::from(random()) * bound as u128) >> 64) as usize;
    let cost = |at| candidates.is_usable(at).then(|| candidates.cost(at));
    let cost_by_part = |at| {
        let part = candidates.part(at);
        let passed = part < FULL && below(FULL as usize) >= part as usize;
        if passed { None } else { cost(at) }
    };
    let count = candidates.count();
    pick(count, cost_by_part, below).or_else(|| pick(count, cost, below))
}

/// Picks one of `count` candidates. `load` tells how busy one is, or none if it may not be taken;
/// `below(n)` is a random number less than `n`.
pub(crate) fn pick<L: PartialOrd>(
    count: usize,
    load: impl Fn(usize) -> Option<L>,
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
