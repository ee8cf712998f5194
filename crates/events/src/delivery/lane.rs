//! What of one partition is done.
//!
//! Records are done out of order. All before `base` is; between `base` and `next` it is said one by
//! one. After a restart only what was not done is read again: the mark says which that is.

use std::collections::BTreeSet;

use super::Standing;
use super::runs;

/// More records that are not done would take too much memory; until some are, nothing is read.
const OUTSTANDING_MAX: usize = 100_000;

/// A partition of a subscription.
#[derive(Debug)]
pub(super) struct Lane {
    /// The next offset to read.
    pub(super) next: i64,
    /// What was read and is not done.
    pub(super) outstanding: BTreeSet<i64>,
    /// Counts the times that reading began anew.
    pub(super) generation: u64,
    /// Something is done that was not asked for.
    pub(super) changed: bool,
    /// From a mark: what lies ahead of `next` and is done, first and end, in order.
    ahead: Vec<(i64, i64)>,
}

impl Lane {
    pub(super) fn new(offset: i64, metadata: &str) -> Self {
        let mut lane = Self {
            next: offset,
            outstanding: BTreeSet::new(),
            generation: 0,
            changed: false,
            ahead: runs::decode(offset, metadata),
        };
        lane.skip();
        lane
    }

    pub(super) fn wants(&self) -> Option<i64> {
        (self.outstanding.len() < OUTSTANDING_MAX).then_some(self.next)
    }

    /// A record is there; false if it is done already.
    pub(super) fn arrived(&mut self, offset: i64) -> bool {
        let done = self
            .ahead
            .iter()
            .any(|(first, end)| (*first..*end).contains(&offset));
        !done && self.outstanding.insert(offset)
    }

    /// All before `next` was looked at.
    pub(super) fn read_until(&mut self, next: i64) {
        if next > self.next {
            self.next = next;
            self.changed = true;
        }
        self.skip();
    }

    pub(super) fn done(&mut self, offset: i64) {
        self.changed |= self.outstanding.remove(&offset);
    }

    /// Reading begins anew at `offset`. What lies before it and is not done stays to be done.
    pub(super) fn rewind(&mut self, offset: i64) {
        let base = self.base();
        self.ahead = if offset > base {
            let done = runs::done(base, self.next, &self.outstanding);
            let done = done.chain(self.ahead.iter().copied());
            let before = done.filter(|(first, _)| *first < offset);
            before
                .map(|(first, end)| (first, end.min(offset)))
                .collect()
        } else {
            Vec::new()
        };
        self.reset(base.min(offset));
        self.skip();
    }

    /// All before `offset` is over, whatever was known.
    pub(super) fn restart(&mut self, offset: i64) {
        self.ahead.clear();
        self.reset(offset);
    }

    fn reset(&mut self, next: i64) {
        self.generation += 1;
        self.next = next;
        self.outstanding.clear();
        self.changed = true;
    }

    pub(super) fn progress(&mut self) -> Option<(i64, String)> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let base = self.base();
        Some((
            base,
            runs::encode(base, self.next, &self.outstanding, &self.ahead),
        ))
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            base: self.base(),
            next: self.next,
            outstanding: self.outstanding.len(),
        }
    }

    fn base(&self) -> i64 {
        self.outstanding.first().copied().unwrap_or(self.next)
    }

    /// What is done already is not read.
    fn skip(&mut self) {
        while let Some((first, end)) = self.ahead.first().copied().filter(|run| run.0 <= self.next)
        {
            debug_assert!(first <= end, "runs are in order");
            self.next = self.next.max(end);
            self.ahead.remove(0);
        }
    }
}
