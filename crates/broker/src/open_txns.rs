//! The transactions of one partition: which are open, how far a reader of committed records may
//! read, and which records it must leave out.
//!
//! The broker stores records of a transaction as they come. A reader in `read_committed` is given
//! records up to the *last stable offset*, the first record of the oldest transaction whose end is
//! not known, together with a list of aborted transactions; it drops their records itself, at the
//! markers in the log. So nothing is ever rewritten.
//!
//! ```text
//!   offsets   0   1   2   3   4   5   6   7
//!             a0  b0  a1  A!  c0  b1  C✓  b2      A! aborts a, C✓ commits c
//!                 └ last stable offset: b is open      aborted: (a, first 0, marker 3)
//! ```
//!
//! A marker counts once it is durable: before that a crash could take it back.

mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::txn::Outcome;

/// An aborted transaction that a reader must know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Aborted {
    /// Whose records are to be dropped,
    pub producer_id: i64,
    /// from this offset on up to the producer's next abort marker.
    pub first_offset: i64,
}

/// The transactions of one partition.
#[derive(Debug, Default)]
pub struct OpenTxns {
    /// By producer: the offset of the first record of its open transaction.
    open: HashMap<i64, i64>,
    /// The same by offset.
    firsts: BTreeSet<(i64, i64)>,
    /// Ended, the marker not durable yet: first offset and producer, to the marker's offset.
    unsettled: BTreeMap<(i64, i64), i64>,
    /// In the order of their markers.
    aborted: VecDeque<Entry>,
    /// Where the durable log ends.
    durable_end: i64,
    /// Where the log begins.
    start: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    producer_id: i64,
    first: i64,
    marker: i64,
    /// No transaction that ends after this one begins before here.
    stable: i64,
}

impl OpenTxns {
    /// A partition without transactions, whose durable log ends at this offset.
    pub fn new(durable_end: i64) -> Self {
        Self {
            durable_end,
            ..Self::default()
        }
    }

    /// A batch of a transaction was appended. The first of a producer opens its transaction.
    pub fn begin(&mut self, producer_id: i64, base_offset: i64) {
        if let std::collections::hash_map::Entry::Vacant(open) = self.open.entry(producer_id) {
            open.insert(base_offset);
            self.firsts.insert((base_offset, producer_id));
        }
    }

    /// A marker was appended. One for a producer without an open transaction means nothing: the
    /// coordinator repeats markers after a crash.
    pub fn end(&mut self, producer_id: i64, outcome: Outcome, marker_offset: i64) {
        let Some(first) = self.open.remove(&producer_id) else {
            return;
        };
        self.firsts.remove(&(first, producer_id));
        self.unsettled.insert((first, producer_id), marker_offset);
        if outcome == Outcome::Abort {
            let oldest = self.firsts.first().map(|(first, _)| *first);
            self.aborted.push_back(Entry {
                producer_id,
                first,
                marker: marker_offset,
                stable: oldest.unwrap_or(marker_offset + 1),
            });
        }
    }

    /// The log is durable up to here, exclusive.
    pub fn durable(&mut self, end: i64) {
        self.durable_end = self.durable_end.max(end);
        let end = self.durable_end;
        self.unsettled.retain(|_, marker| *marker >= end);
    }

    /// The log begins here now: what was before was deleted.
    pub fn delete_before(&mut self, start: i64) {
        self.start = self.start.max(start);
        let start = self.start;
        while self
            .aborted
            .front()
            .is_some_and(|entry| entry.marker < start)
        {
            self.aborted.pop_front();
        }
    }

    /// Of the aborted transactions with these marks no record is left: readers need not know them.
    pub fn forget(&mut self, markers: &HashSet<i64>) {
        self.aborted
            .retain(|entry| !markers.contains(&entry.marker));
    }

    /// Readers of committed records may read up to here, exclusive.
    pub fn last_stable(&self) -> i64 {
        let open = self.firsts.first().map(|(first, _)| *first);
        let unsettled = self.unsettled.keys().next().map(|(first, _)| *first);
        let undecided = open.into_iter().chain(unsettled).min();
        let stable = undecided.unwrap_or(i64::MAX).min(self.durable_end);
        stable.max(self.start)
    }

    /// The aborted transactions that have or may have records in `from..to`.
    pub fn aborted(&self, from: i64, to: i64) -> Vec<Aborted> {
        let first = self.aborted.partition_point(|entry| entry.marker < from);
        let mut found = Vec::new();
        for entry in self.aborted.range(first..) {
            if entry.first < to {
                found.push(Aborted {
                    producer_id: entry.producer_id,
                    first_offset: entry.first,
                });
            }
            if entry.stable >= to {
                break;
            }
        }
        found
    }

    /// All aborted transactions: the producer, the first offset, and that of the marker.
    pub fn aborted_spans(&self) -> impl Iterator<Item = (i64, i64, i64)> + '_ {
        let spans = self.aborted.iter();
        spans.map(|entry| (entry.producer_id, entry.first, entry.marker))
    }

    /// Whether the producer has an open transaction here.
    pub fn is_open(&self, producer_id: i64) -> bool {
        self.open.contains_key(&producer_id)
    }

    /// The producers with open transactions and where these begin, oldest first.
    pub fn open(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.firsts
            .iter()
            .map(|(first, producer)| (*producer, *first))
    }
}
