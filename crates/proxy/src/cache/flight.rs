//! One fetch for many requests: who comes while an answer is fetched waits for it.
//!
//! The danger is the opposite of what it cures: answers that cannot be kept would be fetched one after
//! the other, each request waiting for the one before. So those who wait are let go all at once as
//! soon as it is known that there will be nothing, and such a key is left alone for some seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::vary::Key;

/// The fetches that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    flying: HashMap<Goal, CancellationToken>,
    /// What cannot be kept, and until when that is believed, in seconds.
    loners: HashMap<Goal, u64>,
}

/// What is fetched, and whether for those who say who they are: what is made for them is mostly of no
/// use to others.
type Goal = (Key, bool);

/// What a request that found nothing does.
#[derive(Debug)]
pub(crate) enum Boarding {
    /// It fetches; others wait for it.
    Lead(Flight),
    /// Another one fetches: this is cancelled when that is over.
    Follow(CancellationToken),
    /// It goes for itself, and nothing is kept.
    Alone,
}

/// A fetch that others may wait for. They are let go when it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    goal: Goal,
    over: CancellationToken,
}

/// For so long it is believed that the answers of a key cannot be kept. Long enough that a busy key
/// is asked for freely, short enough that one odd answer does no harm.
const ALONE_SECONDS: u64 = 5;
/// More keys are not remembered as such.
const LONERS_MAX: usize = 10_000;

impl Flights {
    /// Lets a request begin a fetch, or wait for one. `now` in seconds.
    pub(crate) fn board(self: &Arc<Self>, key: &Key, authenticated: bool, now: u64) -> Boarding {
        let goal = (key.clone(), authenticated);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = state.loners.get(&goal) {
            if now < *until {
                return Boarding::Alone;
            }
            state.loners.remove(&goal);
        }
        if let Some(over) = state.flying.get(&goal) {
            return Boarding::Follow(over.clone());
        }
        let over = CancellationToken::new();
        state.flying.insert(goal.clone(), over.clone());
        Boarding::Lead(Flight {
            flights: Arc::clone(self),
            goal,
            over,
        })
    }

    /// What is being fetched of this key is out of date: those who come now fetch it anew.
    pub(crate) fn overtake(&self, key: &Key) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for authenticated in [false, true] {
            if let Some(over) = state.flying.remove(&(key.clone(), authenticated)) {
                over.cancel();
            }
        }
    }
}

impl Flight {
    /// Whether what it brings is still wanted: it was not overtaken by a change.
    pub(crate) fn is_current(&self) -> bool {
        !self.over.is_cancelled()
    }

    /// There will be nothing to keep: those who wait go for themselves, and so do the next.
    pub(crate) fn give_up(self, now: u64) {
        let mut state = self
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.loners.len() >= LONERS_MAX {
            state.loners.retain(|_, until| now < *until);
        }
        if state.loners.len() < LONERS_MAX {
            state.loners.insert(self.goal.clone(), now + ALONE_SECONDS);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One that was overtaken has no place any more; another may have taken it.
        if !self.over.is_cancelled() {
            state.flying.remove(&self.goal);
            self.over.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vary::Ignored;
    use super::*;

    fn key(path: &str) -> Key {
        Key::new(b"a", path, "", &Ignored::default())
    }

    fn lead(flights: &Arc<Flights>, now: u64) -> Flight {
        match flights.board(&key("/"), false, now) {
            Boarding::Lead(flight) => flight,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_fetches_and_the_others_wait_until_it_is_over() {
        let flights = Arc::new(Flights::default());
        let flight = lead(&flights, 0);
        let Boarding::Follow(over) = flights.board(&key("/"), false, 0) else {
            panic!("it flies already");
        };
        assert!(matches!(
            flights.board(&key("/b"), false, 0),
            Boarding::Lead(_)
        ));
        assert!(!over.is_cancelled());
        drop(flight);
        assert!(over.is_cancelled());
        lead(&flights, 0);
    }

    #[test]
    fn what_cannot_be_kept_makes_nobody_wait() {
        let flights = Arc::new(Flights::default());
        let flight = lead(&flights, 10);
        let Boarding::Follow(over) = flights.board(&key("/"), false, 10) else {
            panic!("it flies already");
        };
        flight.give_up(10);
        assert!(over.is_cancelled());
        for _ in 0..3 {
            assert!(matches!(
                flights.board(&key("/"), false, 14),
                Boarding::Alone
            ));
        }
        lead(&flights, 15);
    }

    #[test]
    fn a_fetch_that_was_overtaken_leaves_the_next_one_alone() {
        let flights = Arc::new(Flights::default());
        let old = lead(&flights, 0);
        flights.overtake(&key("/"));
        assert!(!old.is_current());
        let new = lead(&flights, 0);
        drop(old);
        assert!(new.is_current());
        assert!(matches!(
            flights.board(&key("/"), false, 0),
            Boarding::Follow(_)
        ));
        assert!(matches!(
            flights.board(&key("/"), true, 0),
            Boarding::Lead(_)
        ));
    }
}
