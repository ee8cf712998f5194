//! What is remembered of clients: a table of fixed size.
//!
//! Clients are kept by a hash with a secret of this process, in sets of eight. When a set is full, the
//! one that has used up least is forgotten: it loses nothing, or less than the others would. A million
//! clients cost what the table costs.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

use super::{Decision, Limit};

/// What is remembered, of all clients of one limit. Shared by workers; a request locks one set.
#[derive(Debug)]
pub(crate) struct Table {
    secret: RandomState,
    sets: Box<[Mutex<Set>]>,
}

type Set = [Slot; WAYS];

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    client: u64,
    /// Zero: free.
    known: u64,
}

const WAYS: usize = 8;
/// With eight ways, 131,072 clients and 2.2 MB.
const SETS: usize = 1 << 14;

impl Table {
    pub(crate) fn new() -> Self {
        Self::with_sets(SETS)
    }

    /// For a limit that knows one client.
    pub(crate) fn single() -> Self {
        Self::with_sets(1)
    }

    fn with_sets(count: usize) -> Self {
        Self {
            secret: RandomState::new(),
            sets: (0..count).map(|_| Mutex::default()).collect(),
        }
    }

    /// Decides on a request of `client` at `now`, in nanoseconds of one clock.
    pub(crate) fn take(&self, limit: &Limit, client: impl Hash, now: u64) -> Decision {
        let client = self.secret.hash_one(client);
        let at = client as usize % self.sets.len();
        let mut set = self.sets[at].lock().unwrap_or_else(PoisonError::into_inner);
        let place = match set
            .iter()
            .position(|slot| slot.known > 0 && slot.client == client)
        {
            Some(place) => place,
            None => {
                let free = set.iter().enumerate().min_by_key(|(_, slot)| slot.known);
                let place = free.map_or(0, |(place, _)| place);
                set[place] = Slot { client, known: 0 };
                place
            }
        };
        let slot = &mut set[place];
        let decision = limit.decide(slot.known, now);
        slot.known = decision.next;
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::RateLimitConfig;

    fn limit() -> Limit {
        Limit::new(&RateLimitConfig {
            requests: 5.try_into().unwrap(),
            per: "1s".parse().unwrap(),
            burst: None,
            by: "client".to_owned(),
        })
    }

    #[test]
    fn clients_are_told_apart() {
        let (table, limit) = (Table::new(), limit());
        for client in 0..1000 {
            let allowed = (0..20).filter(|_| table.take(&limit, client, 1).allowed);
            assert_eq!(allowed.count(), 5, "client {client}");
        }
    }

    #[test]
    fn a_flood_of_new_clients_forgets_the_idle_first() {
        let (table, limit) = (Table::new(), limit());
        let now = 10_000_000_000;
        // One that has used up all it may.
        while table.take(&limit, "busy", now).allowed {}
        for client in 0..2_000_000u32 {
            table.take(&limit, client, now);
        }
        assert!(
            !table.take(&limit, "busy", now).allowed,
            "it is still known"
        );
    }

    #[test]
    fn workers_share_one_limit() {
        let (table, limit) = (Table::new(), limit());
        let allowed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000)
                            .filter(|_| table.take(&limit, 7, 1).allowed)
                            .count()
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(allowed, 5);
    }
}
