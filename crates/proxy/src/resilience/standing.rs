//! What the workers share about the instances of a service: a word for each, which the success path
//! reads, and behind a mutex the machine that writes it.
//!
//! ```text
//!  worker, per attempt                                    rare
//!  pick:     Ejector::has_offer  one load            ──►  Ejector::probe      a trial, with the lock
//!            Standing::admits    one load
//!  success:  Standing::succeeded one load            ──►  the first after a failure
//!  failure:                                               Standing::failed
//!  tick:     Ejector::tick       one load            ──►  something is due
//!  flush:    Ejector::counted    one lock for all instances of the service, if there was traffic
//! ```
//! The words are written under the mutex alone, so they never disagree with the machine for longer
//! than it is held. A request that is given to an instance which was ejected in the same microsecond
//! is no harm.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::{InstanceId, Timestamp};

use super::ejection::{Action, Command, Ejection, Verdict};
use super::settings::EjectionSettings;
use super::{Counts, Failure, Millis};

/// Below this a word says that the instance gets requests.
const OUT: u64 = 2;
const HEALTHY: u64 = 0;
const WATCHED: u64 = 1;
const PROBATION: u64 = 3;
const TAG_BITS: u32 = 2;

/// Where one instance stands. One per endpoint, shared by all workers.
pub struct Standing {
    instance: InstanceId,
    ejector: Arc<Ejector>,
    /// A tag, and for [`OUT`] the time above it.
    word: AtomicU64,
    /// Since when it has been in.
    since: AtomicU64,
}

/// The instances of one service: decides which of them are left out. Shared by all workers.
pub struct Ejector {
    inner: Mutex<Inner>,
    /// An instance waits for a trial.
    offer: AtomicBool,
    /// When the next tick is due.
    due: AtomicU64,
}

struct Inner {
    machine: Ejection,
    standings: HashMap<InstanceId, Arc<Standing>>,
}

/// A real request decides whether the instance is back. If it is dropped without an outcome, the
/// next request decides.
#[derive(Debug)]
#[must_use = "a trial that is dropped at once decides nothing"]
pub struct Trial {
    standing: Arc<Standing>,
    ended: bool,
}

impl Standing {
    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Whether it gets requests as any other. If not, it gets trials only: [`Ejector::probe`].
    pub fn admits(&self) -> bool {
        self.word.load(Ordering::Acquire) < OUT
    }

    /// When its time out is over; none if it is not out.
    pub fn out_until(&self) -> Option<Millis> {
        let word = self.word.load(Ordering::Acquire);
        let is_out = word & ((1 << TAG_BITS) - 1) == OUT;
        is_out.then_some(word >> TAG_BITS)
    }

    /// Since when it has been in: joined, or back. For [`super::SlowStart`]; and attempts that began
    /// before need not be counted, as they say how it was.
    pub fn since(&self) -> Millis {
        self.since.load(Ordering::Relaxed)
    }

    /// An attempt was answered. One load, unless failures were counted just before.
    pub fn succeeded(&self, now: Millis) {
        if self.word.load(Ordering::Acquire) == WATCHED {
            let command = Command::Succeeded(self.instance.clone());
            self.ejector.apply(command, now, 0);
        }
    }

    /// An attempt failed. Takes the lock.
    pub fn failed(&self, failure: Failure, now: Millis, random: u64) {
        let command = Command::Failed(self.instance.clone(), failure);
        self.ejector.apply(command, now, random);
    }

    fn set(&self, word: u64) {
        self.word.store(word, Ordering::Release);
    }
}

impl Ejector {
    /// Without instances.
    pub fn new(settings: EjectionSettings) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                machine: Ejection::new(settings),
                standings: HashMap::new(),
            }),
            offer: AtomicBool::new(false),
            due: AtomicU64::new(Millis::MAX),
        })
    }

    /// The instance gets requests from now on. Joined again, it starts over.
    pub fn join(self: &Arc<Self>, instance: &InstanceId, now: Millis) -> Arc<Standing> {
        let mut inner = self.lock();
        let standing = inner.standings.entry(instance.clone()).or_insert_with(|| {
            Arc::new(Standing {
                instance: instance.clone(),
                ejector: Arc::clone(self),
                word: AtomicU64::new(HEALTHY),
                since: AtomicU64::new(now),
            })
        });
        let standing = Arc::clone(standing);
        self.perform(&mut inner, Command::Joined(instance.clone()), now, 0);
        standing
    }

    /// The instance gets none any more. Must be called for each that joined: they keep each other
    /// alive.
    pub fn leave(&self, instance: &InstanceId, now: Millis) {
        let mut inner = self.lock();
        inner.standings.remove(instance);
        self.perform(&mut inner, Command::Left(instance.clone()), now, 0);
    }

    /// Takes new settings. Who is out stays out.
    pub fn set(&self, settings: EjectionSettings) {
        self.lock().machine.set(settings);
    }

    /// Whether an instance waits for a trial: one load. Ask before each pick.
    pub fn has_offer(&self) -> bool {
        self.offer.load(Ordering::Relaxed)
    }

    /// Makes this request the trial of an instance that waits for one and `fits` (is known to the
    /// worker, was not tried by this request; asked under the lock). `repeatable`: the request can
    /// be sent elsewhere if the trial fails; others are taken only after five seconds without such.
    pub fn probe(
        &self,
        repeatable: bool,
        now: Millis,
        fits: impl Fn(&InstanceId) -> bool,
    ) -> Option<Trial> {
        if !self.has_offer() {
            return None;
        }
        let mut inner = self.lock();
        let instance = inner.machine.lend(repeatable, now, fits)?;
        self.offer
            .store(inner.machine.has_offer(), Ordering::Relaxed);
        let standing = inner.standings.get(&instance).map(Arc::clone)?;
        Some(Trial {
            standing,
            ended: false,
        })
    }

    /// Takes what a worker counted since it last told. One lock, whatever the number.
    pub fn counted<'a>(
        &self,
        counts: impl IntoIterator<Item = (&'a InstanceId, Counts)>,
        now: Millis,
    ) {
        let mut inner = self.lock();
        for (instance, counts) in counts {
            let command = Command::Counted(instance.clone(), counts);
            self.perform(&mut inner, command, now, 0);
        }
    }

    /// Time has passed. One load if nothing is due; call it as often as you like.
    pub fn tick(&self, now: Millis, random: u64) {
        if self.due.load(Ordering::Relaxed) <= now {
            self.apply(Command::Tick, now, random);
        }
    }

    /// Where every instance stands. `now` and `wall` are the same moment.
    pub fn explain(&self, now: Millis, wall: Timestamp) -> Vec<Verdict> {
        self.lock().machine.explain(now, wall)
    }

    fn apply(&self, command: Command, now: Millis, random: u64) {
        self.perform(&mut self.lock(), command, now, random);
    }

    fn perform(&self, inner: &mut Inner, command: Command, now: Millis, random: u64) {
        for action in inner.machine.apply(command, now, random) {
            let (instance, word) = match &action {
                Action::Watch(instance) => (instance, WATCHED),
                Action::Eject { instance, until } => (instance, OUT | until << TAG_BITS),
                Action::Probe(instance) => (instance, PROBATION),
                Action::Restore(instance) => (instance, HEALTHY),
            };
            let Some(standing) = inner.standings.get(instance) else {
                continue;
            };
            // Back after a time out; not merely a row of failures that was broken.
            if word == HEALTHY && !standing.admits() {
                standing.since.store(now, Ordering::Relaxed);
            }
            standing.set(word);
        }
        self.offer
            .store(inner.machine.has_offer(), Ordering::Relaxed);
        let due = inner.machine.next_deadline().unwrap_or(Millis::MAX);
        self.due.store(due, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    /// The instance that is on trial.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// It was answered, `latency` after the request was sent.
    pub fn succeeded(mut self, latency: Duration, now: Millis, random: u64) {
        let command = Command::TrialSucceeded(self.standing.instance.clone(), latency);
        self.end(command, now, random);
    }

    /// It failed.
    pub fn failed(mut self, failure: Failure, now: Millis, random: u64) {
        let command = Command::TrialFailed(self.standing.instance.clone(), failure);
        self.end(command, now, random);
    }

    fn end(&mut self, command: Command, now: Millis, random: u64) {
        self.ended = true;
        self.standing.ejector.apply(command, now, random);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.ended {
            let command = Command::TrialDropped(self.standing.instance.clone());
            // The machine does not look at the time for this.
            self.end(command, 0, 0);
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing")
            .field("instance", &self.instance)
            .field("admits", &self.admits())
            .field("out_until", &self.out_until())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Ejector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ejector")
            .field("offer", &self.offer)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
