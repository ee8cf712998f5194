//! How many requests one caller has at one dependency, and who waits.
//!
//! A slow dependency must not take all the memory, connections and patience there are: beyond a
//! limit requests wait in a short queue, and beyond that they are refused at once, which costs
//! nothing and tells the caller the truth. The queue only smooths bursts: a long one would make
//! every answer late without making one more.
//!
//! The decision is pure ([`Load`]); [`Bulkhead`] keeps it in one atomic word. Entering and leaving
//! is one compare-and-swap each while nobody waits; only waiting takes a lock. Tokio's semaphore was
//! refused: it has no bound for its queue, takes a lock on each release, and cannot be made smaller
//! than what is out.
//!
//! First come, first served. Nothing is lost when a waiter goes: whoever leaves the queue gives its
//! place back, and a permit that was on its way to it goes to the next.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

/// The bounds of a bulkhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once; at least one is always allowed.
    pub in_flight: u32,
    /// Requests that wait.
    pub queue: u32,
}

/// Who is in and who waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that are in.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: u32,
}

/// What becomes of one that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is in.
    Enter,
    /// It waits.
    Wait,
    /// There is no place.
    Refuse,
}

/// What becomes of the place of one that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is free, or gone if the limit is smaller now.
    Free,
    /// The first that waits has it.
    HandOver,
}

/// Why a request was refused: 503, with `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many are in and wait as may.
    #[error("{} requests are under way and {} wait for it; more are not let in", .0.in_flight, .0.waiting)]
    Full(Load),
    /// It waited for its whole time.
    #[error("the request waited for {}ms and {} others are still under way", .waited.as_millis(), .load.in_flight)]
    Waited {
        /// How long.
        waited: Duration,
        /// What was in at the end.
        load: Load,
    },
}

impl Load {
    /// One arrives. Nobody overtakes those who wait.
    pub fn arrive(self, limits: Limits) -> (Self, Arrival) {
        if self.waiting == 0 && self.in_flight < limits.in_flight.max(1) {
            let in_flight = self.in_flight + 1;
            (Self { in_flight, ..self }, Arrival::Enter)
        } else if self.waiting < limits.queue {
            let waiting = self.waiting + 1;
            (Self { waiting, ..self }, Arrival::Wait)
        } else {
            (self, Arrival::Refuse)
        }
    }

    /// One that was in leaves.
    pub fn depart(self, limits: Limits) -> (Self, Departure) {
        if self.waiting > 0 && self.in_flight <= limits.in_flight.max(1) {
            let waiting = self.waiting - 1;
            (Self { waiting, ..self }, Departure::HandOver)
        } else {
            let in_flight = self.in_flight.saturating_sub(1);
            (Self { in_flight, ..self }, Departure::Free)
        }
    }

    /// One that waits goes.
    #[must_use]
    pub fn give_up(self) -> Self {
        Self {
            waiting: self.waiting.saturating_sub(1),
            ..self
        }
    }

    /// One that waits is let in because the limit was raised, if there is such a one.
    pub fn promote(self, limits: Limits) -> Option<Self> {
        let room = self.waiting > 0 && self.in_flight < limits.in_flight.max(1);
        room.then(|| Self {
            in_flight: self.in_flight + 1,
            waiting: self.waiting - 1,
        })
    }

    const fn pack(self) -> u64 {
        (self.in_flight as u64) << 32 | self.waiting as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            in_flight: (word >> 32) as u32,
            waiting: word as u32,
        }
    }
}

impl Refusal {
    /// What to tell the client: a second. Nothing better is known, and less would be a retry into
    /// the same queue.
    pub const fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The bulkhead of one dependency, shared by all workers.
pub struct Bulkhead {
    /// [`Load`]. `waiting` is changed under the lock of `queue` alone, so it is its length whenever
    /// that lock is free.
    load: AtomicU64,
    /// [`Limits`].
    limits: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next_ticket: u64,
    waiters: VecDeque<(u64, oneshot::Sender<Permit>)>,
}

/// The request is in. Dropped, it is out. To be dropped with the last byte of the answer; but at the
/// head of an answer that has no end of its own (an upgrade, a stream of events), which would hold
/// its place for hours and do no work.
#[must_use = "a permit that is dropped lets the next one in"]
pub struct Permit(Option<Arc<Bulkhead>>);

/// What became of a request that wants in.
#[derive(Debug)]
pub enum Entry {
    /// It is in.
    Entered(Permit),
    /// It is in when this future completes. Bound the wait with [`super::config`]'s `wait` and the
    /// request's deadline: it has no time limit of its own.
    Queued(Waiting),
    /// It is refused.
    Refused(Refusal),
}

/// A place in the queue. Dropped, it is given up.
#[must_use = "a place that is dropped is given up"]
pub struct Waiting {
    bulkhead: Arc<Bulkhead>,
    ticket: u64,
    receiver: oneshot::Receiver<Permit>,
    done: bool,
}

impl Bulkhead {
    /// An empty one.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            load: AtomicU64::new(Load::default().pack()),
            limits: AtomicU64::new(pack_limits(limits)),
            queue: Mutex::default(),
        })
    }

    /// A request wants in. One compare-and-swap if there is room, and none if there is no place to
    /// wait.
    pub fn enter(self: &Arc<Self>) -> Entry {
        let limits = self.limits();
        let fast = self.update(|load| match load.arrive(limits) {
            (next, Arrival::Enter) => Ok((next, ())),
            (_, other) => Err((load, other)),
        });
        match fast {
            Ok(()) => Entry::Entered(Permit(Some(Arc::clone(self)))),
            Err((load, Arrival::Refuse)) => Entry::Refused(Refusal::Full(load)),
            Err(_) => self.queue_up(),
        }
    }

    /// Takes new limits. If there is more room, those who wait are let in; if there is less, those
    /// who are in may finish.
    pub fn set_limits(self: &Arc<Self>, limits: Limits) {
        let mut queue = self.lock();
        self.limits.store(pack_limits(limits), Ordering::Release);
        while self
            .update(|load| load.promote(limits).map(|next| (next, ())).ok_or(()))
            .is_ok()
        {
            if !self.send(&mut queue) {
                // Nobody took the place: it is free again.
                let _ = self.update(|load| Ok::<_, ()>(load.depart(limits)));
            }
        }
    }

    /// The bounds that hold.
    pub fn limits(&self) -> Limits {
        let load = Load::unpack(self.limits.load(Ordering::Acquire));
        Limits {
            in_flight: load.in_flight,
            queue: load.waiting,
        }
    }

    /// Who is in and who waits.
    pub fn load(&self) -> Load {
        Load::unpack(self.load.load(Ordering::Acquire))
    }

    /// Why a request that gave up waiting is refused.
    pub fn waited(&self, waited: Duration) -> Refusal {
        Refusal::Waited {
            waited,
            load: self.load(),
        }
    }

    fn queue_up(self: &Arc<Self>) -> Entry {
        let limits = self.limits();
        let mut queue = self.lock();
        // Again, now that nobody else changes who waits: somebody may have left meanwhile.
        let arrival = self.update(|load| match load.arrive(limits) {
            (_, Arrival::Refuse) => Err(load),
            (next, arrival) => Ok((next, arrival)),
        });
        match arrival {
            Err(load) => Entry::Refused(Refusal::Full(load)),
            Ok(Arrival::Enter | Arrival::Refuse) => Entry::Entered(Permit(Some(Arc::clone(self)))),
            Ok(Arrival::Wait) => {
                let (sender, receiver) = oneshot::channel();
                let ticket = queue.next_ticket;
                queue.next_ticket += 1;
                queue.waiters.push_back((ticket, sender));
                Entry::Queued(Waiting {
                    bulkhead: Arc::clone(self),
                    ticket,
                    receiver,
                    done: false,
                })
            }
        }
    }

    fn leave(self: &Arc<Self>) {
        let fast = self.update(|load| {
            if load.waiting == 0 {
                Ok((load.depart(self.limits()).0, ()))
            } else {
                Err(())
            }
        });
        if fast.is_ok() {
            return;
        }
        let mut queue = self.lock();
        loop {
            let limits = self.limits();
            let departure = self.update(|load| Ok::<_, ()>(load.depart(limits)));
            if departure == Ok(Departure::Free) || self.send(&mut queue) {
                return;
            }
        }
    }

    /// Gives a place that is already counted to the first that waits. False if nobody took it.
    fn send(self: &Arc<Self>, queue: &mut Queue) -> bool {
        let Some((_, sender)) = queue.waiters.pop_front() else {
            return false;
        };
        match sender.send(Permit(Some(Arc::clone(self)))) {
            Ok(()) => true,
            Err(mut refused) => {
                // Not to be dropped here, where the lock is held.
                refused.0 = None;
                false
            }
        }
    }

    fn give_up(&self, ticket: u64) {
        let mut queue = self.lock();
        let mut waiters = queue.waiters.iter();
        if let Some(at) = waiters.position(|(own, _)| *own == ticket) {
            queue.waiters.remove(at);
            let _ = self.update(|load| Ok::<_, ()>((load.give_up(), ())));
        }
    }

    /// Applies a pure step to the load, however often others get in between.
    fn update<T, E>(&self, step: impl Fn(Load) -> Result<(Load, T), E>) -> Result<T, E> {
        let mut word = self.load.load(Ordering::Acquire);
        loop {
            let (next, outcome) = step(Load::unpack(word))?;
            let swapped = self.load.compare_exchange_weak(
                word,
                next.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swapped {
                Ok(_) => return Ok(outcome),
                Err(current) => word = current,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn pack_limits(limits: Limits) -> u64 {
    Load {
        in_flight: limits.in_flight,
        waiting: limits.queue,
    }
    .pack()
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(bulkhead) = self.0.take() {
            bulkhead.leave();
        }
    }
}

impl Future for Waiting {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let received = std::task::ready!(Pin::new(&mut self.receiver).poll(cx));
        self.done = true;
        Poll::Ready(received.expect("the sender is in the queue until it has sent"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A permit that was sent already is in the receiver, and is dropped with it.
        if !self.done {
            self.bulkhead.give_up(self.ticket);
        }
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("load", &self.load())
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({})", self.ticket)
    }
}
