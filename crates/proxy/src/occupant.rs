//! Which request an instance works on, where that can be known: when it has just one.
//!
//! A service that does not pass `traceparent` on tears its traces apart. The mesh sees its calls, and by the
//! kernel from which instance they come; if that instance has one request at this moment, the call is
//! part of it, as far as anybody outside can tell. With two, nobody can, and nothing is guessed.
//!
//! **Across threads.** Requests of one instance come by several workers, so what it has is one sum behind
//! one lock: how many, and all ids combined by exclusive or. Who enters and who leaves combine the same
//! ids, in any order; when the count is one, what is left is exactly the one that is there. The lock is
//! held for a few additions, twice for each request, and only for services that call others. It is asked only for
//! a call without `traceparent`.
//!
//! **Given up.** A request that the proxy gives up on (no answer in time, a client that has gone, an answer that
//! is cut) leaves, but the service may work on for it and make its calls then. The next request would be the
//! only one, and have them. So for [`UNSURE`] nobody is known there.
//!
//! Not all that is in flight enters: questions of the proxy's own do not, and streams and tunnels leave
//! once they have begun, as they last for hours. The endpoint counts them all the same
//! ([`crate::Endpoint::in_flight`]), so they are no hole: both must say one. Refused: a list of requests for each
//! instance, which costs an allocation or a search on the way of each.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::{SpanId, TraceId};

use crate::clock::{millis, uptime};
use crate::trace::TraceContext;

/// For so long, a service is taken to work on for a request that was given up. It is not known when it ends;
/// of what waits for others itself, this is the limit that most clients and servers come with.
const UNSURE: Duration = Duration::from_secs(60);

/// The requests that one instance works on.
#[derive(Debug, Default)]
pub(crate) struct Occupants(Mutex<Sum>);

/// A request, as those below it see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Occupant {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) flags: u8,
}

#[derive(Debug, Default)]
struct Sum {
    count: u32,
    trace: u128,
    span: u64,
    flags: u8,
    /// Before this time, in milliseconds, somebody may be there who has left.
    unsure_until: u64,
}

impl From<TraceContext> for Occupant {
    fn from(context: TraceContext) -> Self {
        Self {
            trace: context.trace,
            span: context.span,
            flags: context.flags,
        }
    }
}

impl Occupants {
    /// A request goes to the instance. After it was counted by the endpoint, and before it is sent.
    pub(crate) fn enter(&self, one: &Occupant) {
        self.lock().enter(one);
    }

    /// It is over. Before the endpoint counts it out.
    pub(crate) fn leave(&self, one: &Occupant) {
        self.lock().leave(one);
    }

    /// It was given up on, and may go on all the same. `one` is none if it has left before.
    pub(crate) fn give_up(&self, one: Option<&Occupant>) {
        self.lock().give_up(one, millis(uptime()));
    }

    /// The one request that the instance has, if it is one. `in_flight` is how many the endpoint counts;
    /// it is asked while none enters or leaves.
    pub(crate) fn only(&self, in_flight: impl FnOnce() -> u32) -> Option<Occupant> {
        let sum = self.lock();
        let only = sum.only(millis(uptime()))?;
        (in_flight() == 1).then_some(only)
    }

    fn lock(&self) -> MutexGuard<'_, Sum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sum {
    fn enter(&mut self, one: &Occupant) {
        self.count += 1;
        self.combine(one);
    }

    fn leave(&mut self, one: &Occupant) {
        self.count = self.count.saturating_sub(1);
        self.combine(one);
    }

    /// `now` is in milliseconds.
    fn give_up(&mut self, one: Option<&Occupant>, now: u64) {
        if let Some(one) = one {
            self.leave(one);
        }
        self.unsure_until = self.unsure_until.max(now.saturating_add(millis(UNSURE)));
    }

    fn only(&self, now: u64) -> Option<Occupant> {
        if self.count != 1 || now < self.unsure_until {
            return None;
        }
        Some(Occupant {
            trace: TraceId::new(self.trace)?,
            span: SpanId::new(self.span)?,
            flags: self.flags,
        })
    }

    fn combine(&mut self, one: &Occupant) {
        self.trace ^= one.trace.get();
        self.span ^= one.span.get();
        self.flags ^= one.flags;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    fn one(number: u64) -> Occupant {
        Occupant {
            trace: TraceId::new(u128::from(number) << 40).unwrap(),
            span: SpanId::new(number).unwrap(),
            flags: (number % 2) as u8,
        }
    }

    #[test]
    fn it_is_known_who_is_there_when_there_is_one_whoever_came_and_went() {
        let occupants = Occupants::default();
        assert_eq!(occupants.only(|| 0), None);
        occupants.enter(&one(1));
        assert_eq!(occupants.only(|| 1), Some(one(1)));
        assert_eq!(occupants.only(|| 2), None, "one that did not enter");
        for number in 2..5 {
            occupants.enter(&one(number));
            assert_eq!(occupants.only(|| u32::MAX), None);
        }
        for number in [1, 4, 2] {
            assert_eq!(occupants.only(|| 1), None);
            occupants.leave(&one(number));
        }
        assert_eq!(occupants.only(|| 1), Some(one(3)));
        occupants.leave(&one(3));
        assert_eq!(occupants.only(|| 1), None);
    }

    #[test]
    fn nobody_is_known_while_one_that_was_given_up_may_go_on() {
        let minute = millis(UNSURE);
        let mut sum = Sum::default();
        sum.enter(&one(1));
        sum.give_up(Some(&one(1)), 1000);
        sum.enter(&one(2));
        assert_eq!(sum.only(1000), None);
        assert_eq!(sum.only(1000 + minute - 1), None);
        assert_eq!(sum.only(1000 + minute), Some(one(2)));
        // Its time begins anew with each, also with one that had left.
        sum.give_up(None, 5000);
        sum.give_up(None, 2000);
        assert_eq!(sum.only(5000 + minute - 1), None);
        assert_eq!(sum.only(5000 + minute), Some(one(2)));
    }

    #[test]
    fn threads_never_see_anybody_who_is_not_there_alone() {
        const ROUNDS: u64 = 20_000;
        let (occupants, in_flight) = (Occupants::default(), AtomicU32::new(0));
        let known = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..=3u64)
                .map(|worker| {
                    let (occupants, in_flight) = (&occupants, &in_flight);
                    scope.spawn(move || {
                        let mut known = 0;
                        for round in 0..ROUNDS {
                            let own = one(round * 8 + worker);
                            in_flight.fetch_add(1, SeqCst);
                            occupants.enter(&own);
                            // A call of this request: it is there, so it is this one or nobody.
                            if let Some(found) = occupants.only(|| in_flight.load(SeqCst)) {
                                assert_eq!(found, own);
                                known += 1;
                            }
                            occupants.leave(&own);
                            in_flight.fetch_sub(1, SeqCst);
                        }
                        known
                    })
                })
                .collect();
            let known = workers.into_iter().map(|worker| worker.join().unwrap());
            known.sum::<u64>()
        });
        assert!(known > 0, "somebody was alone once");
    }
}
