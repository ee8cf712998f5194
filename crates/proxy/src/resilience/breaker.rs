//! Whether a dependency is called at all.
//!
//! ```text
//!         half of 20 calls or more failed            its time is over
//! Closed ─────────────────────────────────► Open{until} ─────────────► HalfOpen: one at a time
//!    ▲                                          ▲                          │    │
//!    │                                          └──────── one failed ──────┘    │
//!    └────────────────────── three in a row succeeded ──────────────────────────┘
//! ```
//! Ejection looks at instances against each other; this looks at the service as a whole, for one
//! caller. It protects both: the callee from calls it cannot answer, the caller from threads that
//! wait for nothing.
//!
//! What counts as failed is [`Failure::is_unavailability`], after retries: what the caller got. A
//! 500 is the service's answer, a 4xx and a 429 are the caller's doing. A rate over ten seconds and
//! not a row of failures: with a hundred calls a second five in a row are chance.
//!
//! [`Circuit`] is the pure machine, [`Breaker`] what the workers share: one load per call while it
//! is closed, and while it is open.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::Timestamp;

use super::penalty::{Pauses, Penalty};
use super::settings::BreakerSettings;
use super::why::{Cause, Why, millis};
use super::window::Window;
use super::{Counts, Failure, Millis};

/// Trials in a row that must succeed.
const TRIALS: u32 = 3;

/// What is told to come back while a trial is under way, in milliseconds.
const TRIAL_PAUSE: Millis = 1_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// What a worker counted.
    Counted(Counts),
    /// The trial was answered.
    TrialSucceeded,
    /// The trial failed.
    TrialFailed(Failure),
    /// The trial came to no end: its client left.
    TrialDropped,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// None passes until then.
    Open {
        /// When the first trial may be made.
        until: Millis,
    },
    /// One at a time passes, by [`Circuit::lend`].
    HalfOpen {
        /// One is under way.
        lent: bool,
    },
}

/// The breaker of one dependency.
#[derive(Debug)]
pub struct Circuit {
    settings: BreakerSettings,
    state: State,
    /// Calls and failures.
    window: Window,
    last: Option<Failure>,
    /// Trials in a row that succeeded.
    good: u32,
    penalty: Penalty,
    cause: Option<Cause>,
    trials_failed: u32,
}

impl Circuit {
    /// A closed one.
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed,
            window: Window::default(),
            last: None,
            good: 0,
            penalty: Penalty::default(),
            cause: None,
            trials_failed: 0,
        }
    }

    /// Takes new settings. Turned off, it closes.
    pub fn set(&mut self, settings: BreakerSettings, now: Millis) {
        self.settings = settings;
        if !settings.enabled {
            self.close(now);
        }
    }

    /// What it has come to.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes what happened, and tells what it has come to.
    pub fn apply(&mut self, command: Command, now: Millis, random: u64) -> State {
        match (command, self.state) {
            (Command::Counted(counts), State::Closed) => self.counted(&counts, now, random),
            // Open → Open: late news of calls that were made before. Trials are told one by one.
            (Command::Counted(_), State::Open { .. } | State::HalfOpen { .. }) => {}
            (Command::TrialSucceeded, State::HalfOpen { .. }) => {
                self.good += 1;
                if self.good >= TRIALS {
                    // HalfOpen → Closed.
                    self.close(now);
                } else {
                    self.state = State::HalfOpen { lent: false };
                }
            }
            (Command::TrialFailed(failure), State::HalfOpen { .. }) => {
                // HalfOpen → Open, for longer.
                self.last = Some(failure);
                self.trials_failed = self.trials_failed.saturating_add(1);
                self.open(now, random);
            }
            (Command::TrialDropped, State::HalfOpen { .. }) => {
                self.state = State::HalfOpen { lent: false };
            }
            // Turned off meanwhile.
            (
                Command::TrialSucceeded | Command::TrialFailed(_) | Command::TrialDropped,
                State::Closed | State::Open { .. },
            ) => {}
        }
        self.state
    }

    /// Whether this call may be the trial. It must be ended by one of the three commands.
    pub fn lend(&mut self, now: Millis) -> bool {
        match self.state {
            // Open → HalfOpen: its time is over, and here is a call.
            State::Open { until } if until <= now => self.good = 0,
            State::HalfOpen { lent: false } => {}
            State::Closed | State::Open { .. } | State::HalfOpen { lent: true } => return false,
        }
        self.state = State::HalfOpen { lent: true };
        true
    }

    /// Why it is not closed. `now` and `wall` are the same moment. It has a time until which it is open as
    /// long as calls are refused: when its time is over, the next call is a trial, and it has none.
    pub fn why(&self, now: Millis, wall: Timestamp) -> Option<Why> {
        let until = match self.state {
            State::Open { until } if until > now => Some(until),
            State::Closed | State::Open { .. } | State::HalfOpen { .. } => None,
        };
        let cause = self.cause?;
        Some(Why::new(cause, self.trials_failed, until, now, wall))
    }

    fn counted(&mut self, counts: &Counts, now: Millis, random: u64) {
        self.last = counts.last().or(self.last);
        self.window
            .add(counts.requests(), counts.unavailable(), now);
        let [calls, failures] = self.window.sums(now);
        let enough = calls >= u64::from(self.settings.calls);
        if self.settings.enabled && enough && self.settings.failures.is_reached(failures, calls) {
            // Closed → Open.
            self.cause = Some(Cause::Calls {
                failures,
                calls,
                last: self.last,
            });
            self.trials_failed = 0;
            self.open(now, random);
        }
    }

    fn open(&mut self, now: Millis, random: u64) {
        let pauses = Pauses {
            first: millis(self.settings.pause),
            most: millis(self.settings.pause_max),
        };
        let pause = self.penalty.offend(pauses, now, random);
        self.state = State::Open {
            until: now.saturating_add(pause),
        };
    }

    fn close(&mut self, now: Millis) {
        self.state = State::Closed;
        self.penalty.restored(now);
        self.window.clear();
        self.cause = None;
        self.last = None;
    }
}

/// The breaker of one dependency, as the workers share it.
pub struct Breaker {
    circuit: Mutex<Circuit>,
    /// [`CLOSED`], [`TRIAL`], [`BUSY`], or the time until which it is open, above a tag.
    word: AtomicU64,
    /// When it last closed.
    since: AtomicU64,
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const TRIAL: u64 = 2;
const BUSY: u64 = 3;
const TAG_BITS: u32 = 2;

/// Whether a call may be made.
#[derive(Debug)]
pub enum Admission {
    /// As any other.
    Pass,
    /// As a trial: tell how it went.
    Trial(Trial),
    /// Not now: answer 503, with a `Retry-After` of this, which is a second at least.
    Refuse(Duration),
}

/// A real call decides whether the breaker closes. If it is dropped without an outcome, the next
/// call decides.
#[derive(Debug)]
#[must_use = "a trial that is dropped at once decides nothing"]
pub struct Trial {
    breaker: Arc<Breaker>,
    ended: bool,
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: BreakerSettings) -> Arc<Self> {
        Arc::new(Self {
            circuit: Mutex::new(Circuit::new(settings)),
            word: AtomicU64::new(CLOSED),
            since: AtomicU64::new(0),
        })
    }

    /// Whether a call may be made. One load while it is closed; no lock while it is open.
    pub fn admit(self: &Arc<Self>, now: Millis) -> Admission {
        let word = self.word.load(Ordering::Acquire);
        if word == CLOSED {
            return Admission::Pass;
        }
        let pause = match word & ((1 << TAG_BITS) - 1) {
            OPEN => (word >> TAG_BITS).saturating_sub(now),
            TRIAL => 0,
            _ => TRIAL_PAUSE,
        };
        if pause > 0 {
            return refuse(pause);
        }
        let mut circuit = self.lock();
        if circuit.lend(now) {
            self.publish(circuit.state(), now);
            return Admission::Trial(Trial {
                breaker: Arc::clone(self),
                ended: false,
            });
        }
        match circuit.state() {
            // Somebody else was faster.
            State::Closed => Admission::Pass,
            State::Open { until } => refuse(until.saturating_sub(now)),
            State::HalfOpen { .. } => refuse(TRIAL_PAUSE),
        }
    }

    /// Takes what a worker counted, not trials, since it last told. A call that began before
    /// [`Breaker::since`] is not to be counted: its end says how things were.
    pub fn counted(&self, counts: Counts, now: Millis, random: u64) {
        if !counts.is_empty() {
            self.apply(Command::Counted(counts), now, random);
        }
    }

    /// When it last closed; zero if it never was open.
    pub fn since(&self) -> Millis {
        self.since.load(Ordering::Relaxed)
    }

    /// Takes new settings. Turned off, it closes.
    pub fn set(&self, settings: BreakerSettings, now: Millis) {
        let mut circuit = self.lock();
        circuit.set(settings, now);
        self.publish(circuit.state(), now);
    }

    /// Why it is not closed; none if it is. `now` and `wall` are the same moment.
    pub fn why(&self, now: Millis, wall: Timestamp) -> Option<Why> {
        self.lock().why(now, wall)
    }

    fn apply(&self, command: Command, now: Millis, random: u64) {
        let mut circuit = self.lock();
        let state = circuit.apply(command, now, random);
        self.publish(state, now);
    }

    /// Under the lock, so that the word follows the machine.
    fn publish(&self, state: State, now: Millis) {
        let word = match state {
            State::Closed => CLOSED,
            State::Open { until } => OPEN | until << TAG_BITS,
            State::HalfOpen { lent: false } => TRIAL,
            State::HalfOpen { lent: true } => BUSY,
        };
        let before = self.word.swap(word, Ordering::AcqRel);
        if word == CLOSED && before != CLOSED {
            self.since.store(now, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(pause: Millis) -> Admission {
    Admission::Refuse(Duration::from_millis(pause.max(TRIAL_PAUSE)))
}

impl Trial {
    /// It was answered, with whatever does not count as a failure here.
    pub fn succeeded(mut self, now: Millis, random: u64) {
        self.end(Command::TrialSucceeded, now, random);
    }

    /// It failed. A failure that does not count (500) is a success here.
    pub fn failed(mut self, failure: Failure, now: Millis, random: u64) {
        let command = if failure.is_unavailability() {
            Command::TrialFailed(failure)
        } else {
            Command::TrialSucceeded
        };
        self.end(command, now, random);
    }

    fn end(&mut self, command: Command, now: Millis, random: u64) {
        self.ended = true;
        self.breaker.apply(command, now, random);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.ended {
            // The machine does not look at the time for this.
            self.end(Command::TrialDropped, 0, 0);
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("word", &self.word)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}
