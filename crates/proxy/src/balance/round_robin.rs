//! In turn, each as often as its part says, and never in bursts: smooth weighted round robin as
//! nginx has it. Parts differ while an instance is new.

use std::cell::RefCell;

use super::Candidates;

/// Whose turn it is, of one worker.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// How much each is owed.
    owed: RefCell<Vec<i64>>,
}

impl RoundRobin {
    /// Takes the one that is owed the most of those that may be taken. Allocates only when their
    /// number has grown. `random` is used then: workers that begin at the same moment must not all
    /// begin with the same instance.
    pub(super) fn pick(&self, candidates: &impl Candidates, random: u64) -> Option<usize> {
        let count = candidates.count();
        let mut owed = self.owed.borrow_mut();
        if owed.len() != count {
            owed.clear();
            owed.resize(count, 0);
            let start = (u128::from(random) * count as u128) >> 64;
            if let Some(first) = owed.get_mut(start as usize) {
                *first = 1;
            }
        }
        let (mut total, mut best): (i64, Option<(usize, i64)>) = (0, None);
        for (at, own) in owed.iter_mut().enumerate() {
            if !candidates.is_usable(at) {
                continue;
            }
            let part = i64::from(candidates.part(at));
            *own = own.saturating_add(part);
            total += part;
            if best.is_none_or(|(_, most)| *own > most) {
                best = Some((at, *own));
            }
        }
        let (at, _) = best?;
        if let Some(own) = owed.get_mut(at) {
            *own -= total;
        }
        Some(at)
    }
}
