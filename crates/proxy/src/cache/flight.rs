//! One fetch for many requests: who comes while an answer is fetched waits for it.
//!
//! The danger is the opposite of what it cures: answers that cannot be kept would be fetched one after
//! the other, each request waiting for the one before. So those who wait are let go all at once as
//! soon as it is known that there will be nothing, and such a key is left alone for some seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::vary::Key;

/// The fetches that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    flying: HashMap<Goal, Flying>,
    /// What cannot be kept, and until when that is believed, in seconds.
    loners: HashMap<Goal, u64>,
    /// How many there were.
    count: u64,
}

/// What is fetched. What is made for those who say who they are, or have cookies, is mostly of no use
/// to others, and what others get says nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Goal {
    pub(crate) key: Key,
    pub(crate) route: u64,
    pub(crate) authenticated: bool,
    pub(crate) with_cookies: bool,
}

#[derive(Debug)]
struct Flying {
    number: u64,
    over: CancellationToken,
    /// When its answer began to come, in seconds.
    answered: Option<u64>,
}

/// What a request that found nothing does.
#[derive(Debug)]
pub(crate) enum Boarding {
    /// It fetches; others wait for it.
    Lead(Flight),
    /// Another one fetches: this is cancelled when that is over.
    Follow(CancellationToken),
    /// It goes for itself. If its answer can be kept after all, it is.
    Alone(Flight),
}

/// A fetch that others may wait for. They are let go when it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    goal: Goal,
    /// None: nobody waits for it.
    number: Option<u64>,
    over: CancellationToken,
}

/// For so long it is believed that the answers of a key cannot be kept. Long enough that a busy key
/// is asked for freely, short enough that one odd answer does no harm.
const ALONE_SECONDS: u64 = 5;
/// More keys are not remembered as such.
const LONERS_MAX: usize = 10_000;
/// An answer that has begun comes at the pace of the client that asked for it. After so long nobody
/// waits for that client any more: it may be slow on purpose.
const PASSING_SECONDS: u64 = 2;

impl Flights {
    /// Lets a request begin a fetch, or wait for one. `now` in seconds.
    pub(crate) fn board(self: &Arc<Self>, goal: Goal, now: u64) -> Boarding {
        let mut state = self.lock();
        let over = CancellationToken::new();
        if let Some(until) = state.loners.get(&goal) {
            if now < *until {
                return Boarding::Alone(Flight {
                    flights: Arc::clone(self),
                    goal,
                    number: None,
                    over,
                });
            }
            state.loners.remove(&goal);
        }
        if let Some(other) = state.flying.get(&goal) {
            let is_slow = other
                .answered
                .is_some_and(|since| now > since + PASSING_SECONDS);
            if !is_slow {
                return Boarding::Follow(other.over.clone());
            }
            other.over.cancel();
        }
        state.count += 1;
        let number = state.count;
        let flying = Flying {
            number,
            over: over.clone(),
            answered: None,
        };
        state.flying.insert(goal.clone(), flying);
        Boarding::Lead(Flight {
            flights: Arc::clone(self),
            goal,
            number: Some(number),
            over,
        })
    }

    /// What is being fetched of this place is out of date: those who come now fetch it anew.
    pub(crate) fn overtake(&self, key: &Key) {
        self.lock().flying.retain(|goal, flying| {
            let other = goal.key.place() != key.place();
            if !other {
                flying.over.cancel();
            }
            other
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Whether what it brings is still wanted: it was not overtaken by a change.
    pub(crate) fn is_current(&self) -> bool {
        !self.over.is_cancelled()
    }

    /// The answer begins to come, and may be kept.
    pub(crate) fn answered(&self, now: u64) {
        let mut state = self.flights.lock();
        let own = state.flying.get_mut(&self.goal);
        if let Some(own) = own.filter(|own| Some(own.number) == self.number) {
            own.answered = Some(now);
        }
    }

    /// There will be nothing to keep: those who wait go for themselves, and so do the next.
    pub(crate) fn give_up(self, now: u64) {
        let mut state = self.flights.lock();
        if state.loners.len() >= LONERS_MAX {
            state.loners.retain(|_, until| now < *until);
        }
        if state.loners.len() < LONERS_MAX {
            state.loners.insert(self.goal.clone(), now + ALONE_SECONDS);
        }
    }

    /// Something was kept.
    pub(crate) fn landed(self) {
        if self.number.is_none() {
            self.flights.lock().loners.remove(&self.goal);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.flights.lock();
        // One that was overtaken has no place any more; another may have taken it.
        let own = state.flying.get(&self.goal).map(|own| own.number);
        if own.is_some() && own == self.number {
            state.flying.remove(&self.goal);
        }
        self.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::super::vary::Ignored;
    use super::*;

    fn key(path: &str) -> Key {
        Key::new(false, b"a", path, "", &Ignored::default())
    }

    fn goal(path: &str, authenticated: bool) -> Goal {
        Goal {
            key: key(path),
            route: 1,
            authenticated,
            with_cookies: false,
        }
    }

    fn lead(flights: &Arc<Flights>, now: u64) -> Flight {
        match flights.board(goal("/", false), now) {
            Boarding::Lead(flight) => flight,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_fetches_and_the_others_wait_until_it_is_over() {
        let flights = Arc::new(Flights::default());
        let flight = lead(&flights, 0);
        let Boarding::Follow(over) = flights.board(goal("/", false), 0) else {
            panic!("it flies already");
        };
        assert!(matches!(
            flights.board(goal("/b", false), 0),
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
        let Boarding::Follow(over) = flights.board(goal("/", false), 10) else {
            panic!("it flies already");
        };
        flight.give_up(10);
        assert!(over.is_cancelled());
        for _ in 0..3 {
            assert!(matches!(
                flights.board(goal("/", false), 14),
                Boarding::Alone(_)
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
            flights.board(goal("/", false), 0),
            Boarding::Follow(_)
        ));
        assert!(matches!(
            flights.board(goal("/", true), 0),
            Boarding::Lead(_)
        ));
    }

    #[test]
    fn what_one_kind_of_request_cannot_keep_another_can() {
        let flights = Arc::new(Flights::default());
        let with_cookies = Goal {
            with_cookies: true,
            ..goal("/", false)
        };
        let Boarding::Lead(flight) = flights.board(with_cookies.clone(), 0) else {
            panic!("nobody else flies");
        };
        flight.give_up(0);
        assert!(matches!(flights.board(with_cookies, 1), Boarding::Alone(_)));
        lead(&flights, 1);
    }

    #[test]
    fn one_that_is_alone_and_brings_something_ends_it() {
        let flights = Arc::new(Flights::default());
        lead(&flights, 0).give_up(0);
        let Boarding::Alone(flight) = flights.board(goal("/", false), 1) else {
            panic!("it cannot be kept");
        };
        assert!(flight.is_current());
        flight.landed();
        lead(&flights, 1);
    }

    #[test]
    fn nobody_waits_long_for_an_answer_that_a_client_reads_slowly() {
        let flights = Arc::new(Flights::default());
        let slow = lead(&flights, 0);
        assert!(matches!(
            flights.board(goal("/", false), 9),
            Boarding::Follow(_)
        ));
        slow.answered(9);
        let Boarding::Follow(over) = flights.board(goal("/", false), 11) else {
            panic!("it may come yet");
        };
        let next = lead(&flights, 12);
        assert!(over.is_cancelled() && !slow.is_current());
        drop(slow);
        assert!(next.is_current());
        assert!(matches!(
            flights.board(goal("/", false), 12),
            Boarding::Follow(_)
        ));
    }
}
