//! The life of one instance as a pure machine: what to do when it starts, answers, stops
//! answering, ends, or is asked to leave.
//!
//! **Back-off.** 200 ms, doubled at each failure up to 30 s, ±20 % so that twenty instances that
//! lost the same database do not come back in step. An instance that was ready for 60 s begins
//! again at 200 ms. **Crash loop.** Five failures within two minutes: a failure is an attempt that
//! was never ready or was so for less than 10 s. It ends when the instance was ready for 10 s. It is
//! only a name for the operator; the instance is still retried, because what it lacks may come back
//! at night.
//!
//! **Refused.** Giving up after N attempts (someone would have to wake up to press a button), and
//! killing an unhealthy instance without asking it to leave first (it may have requests in hand).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause before a restart.
const DELAY_MIN: Duration = Duration::from_millis(200);
/// The longest pause before a restart.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// How far a pause is moved at random, as a part of it.
const JITTER: f64 = 0.2;
/// Ready for so long, an instance has proven itself.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// Ready for less than this, it might as well not have been.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// SIGKILL takes milliseconds. A process that is there so long after it waits inside of the kernel.
const SURVIVES_AFTER: Duration = Duration::from_secs(10);
/// So many failures within [`CRASH_LOOP_WINDOW`] are a crash loop.
const CRASH_LOOP_FAILURES: usize = 5;
/// See [`CRASH_LOOP_FAILURES`].
const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(120);

/// The machine.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    limits: Limits,
    phase: Phase,
    /// Restarts since it was last proven.
    attempt: u32,
    /// When the last attempts failed, oldest first.
    failures: VecDeque<Instant>,
    crash_loop: bool,
    stop_asked: bool,
}

/// The numbers that steer it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// See `Health::start_timeout`.
    pub(crate) start_timeout: Duration,
    /// See `InstanceSpec::stop_timeout`.
    pub(crate) stop_timeout: Duration,
    /// See `Health::failures`.
    pub(crate) failures: u32,
    /// See `InstanceSpec::restart`.
    pub(crate) restart: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing yet.
    New,
    /// A process was ordered.
    Spawning,
    /// It runs and does not answer yet.
    Starting { since: Instant },
    /// It answers; `failed` checks in a row did not succeed.
    Ready { since: Instant, failed: u32 },
    /// It was asked to leave.
    Leaving {
        /// Since when it had been ready.
        ready_since: Option<Instant>,
        asked: Instant,
        kill: Kill,
    },
    /// It waits for its next start.
    Pausing { until: Instant },
    /// Nothing will come any more.
    Over,
}

/// How far it has come with a process that was asked to leave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kill {
    /// It has time to leave by itself.
    NotYet,
    /// SIGKILL was sent, and nothing survives that, unless the kernel itself does not let go.
    Sent { at: Instant },
    /// It was told that it is there still.
    Survived,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Input {
    /// Begin.
    Start,
    /// The ordered process runs.
    Spawned,
    /// There is no process.
    SpawnFailed,
    /// A check succeeded.
    Healthy,
    /// A check did not succeed.
    Unhealthy,
    /// All processes are gone; whether the main one ended in order.
    Gone {
        /// By itself with exit code 0, or as asked.
        orderly: bool,
    },
    /// The deadline of [`Lifecycle::deadline`] may have come.
    Tick,
    /// The instance is not wanted any more.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// Start a process.
    Spawn,
    /// Ask it to leave.
    Terminate,
    /// Kill it and all that belongs to it.
    Kill,
    /// Tell that its process is there still, so long after SIGKILL.
    TellSurvived {
        /// Time since SIGKILL.
        after: Duration,
    },
    /// Tell that it is ready.
    TellReady {
        /// Time since its start.
        after: Duration,
    },
    /// Tell that it must not be used any more, because checks fail.
    TellUnhealthy,
    /// Tell that it must not be used any more, because it was asked to leave.
    TellStopping {
        /// Whether it was ready until now.
        was_ready: bool,
    },
    /// Find out why it does not answer, and tell.
    TellNeverReady,
    /// Tell that it will be started after a pause.
    TellPause {
        /// The pause.
        delay: Duration,
        /// The number of the attempt to come.
        attempt: u32,
        /// Whether it is in a crash loop.
        crash_loop: bool,
    },
    /// Tell that it is over, and end.
    Finish {
        /// Whether it is over because it failed.
        failed: bool,
    },
}

impl Lifecycle {
    /// A machine at the very beginning.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::New,
            attempt: 0,
            failures: VecDeque::new(),
            crash_loop: false,
            stop_asked: false,
        }
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Starting { since } => Some(since + self.limits.start_timeout),
            Phase::Leaving { asked, kill, .. } => match kill {
                Kill::NotYet => Some(asked + self.limits.stop_timeout),
                Kill::Sent { at } => Some(at + SURVIVES_AFTER),
                Kill::Survived => None,
            },
            Phase::Pausing { until } => Some(until),
            _ => None,
        }
    }

    /// Whether the process, if it ends now, does so because it was asked to, and if so whether it
    /// had to be killed.
    pub(crate) fn asked_to_leave(&self) -> Option<bool> {
        match self.phase {
            Phase::Leaving { kill, .. } => Some(kill != Kill::NotYet),
            _ => None,
        }
    }

    /// Whether checks are of use now.
    pub(crate) fn wants_checks(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Ready { .. })
    }

    /// Takes one input. `random` is from 0 to 1 and spreads the pauses.
    pub(crate) fn apply(&mut self, input: Input, now: Instant, random: f64) -> Vec<Action> {
        match (self.phase, input) {
            // New -> Spawning
            (Phase::New, Input::Start) => self.spawn(),
            // Spawning -> Starting, or out again at once
            (Phase::Spawning, Input::Spawned) => {
                self.phase = Phase::Starting { since: now };
                if self.stop_asked {
                    return self.leave(None, now, Action::TellStopping { was_ready: false });
                }
                Vec::new()
            }
            // Spawning -> Pausing | Over
            (Phase::Spawning, Input::SpawnFailed) => self.ended(None, false, now, random),
            // Starting -> Ready
            (Phase::Starting { since }, Input::Healthy) => {
                let after = now.saturating_duration_since(since);
                let failed = 0;
                self.phase = Phase::Ready { since: now, failed };
                vec![Action::TellReady { after }]
            }
            // Starting -> Leaving: it took too long
            (Phase::Starting { since }, Input::Tick) => {
                if now < since + self.limits.start_timeout {
                    return Vec::new();
                }
                self.leave(None, now, Action::TellNeverReady)
            }
            (Phase::Ready { since, .. }, Input::Healthy) => {
                self.phase = Phase::Ready { since, failed: 0 };
                Vec::new()
            }
            // Ready -> Leaving: it stopped answering
            (Phase::Ready { since, failed }, Input::Unhealthy) => {
                let failed = failed + 1;
                self.phase = Phase::Ready { since, failed };
                if failed < self.limits.failures {
                    return Vec::new();
                }
                self.leave(Some(since), now, Action::TellUnhealthy)
            }
            // Leaving, and not leaving
            (Phase::Leaving { .. }, Input::Tick) => self.press(now),
            // a process ended, by itself or as asked -> Pausing | Over
            (Phase::Ready { since, .. }, Input::Gone { orderly }) => {
                self.ended(Some(since), orderly, now, random)
            }
            (Phase::Leaving { ready_since, .. }, Input::Gone { orderly }) => {
                self.ended(ready_since, orderly, now, random)
            }
            (Phase::Starting { .. }, Input::Gone { orderly }) => {
                self.ended(None, orderly, now, random)
            }
            // Pausing -> Spawning
            (Phase::Pausing { until }, Input::Tick) if now >= until => self.spawn(),
            (_, Input::Stop) => self.stop(now),
            _ => Vec::new(),
        }
    }

    fn spawn(&mut self) -> Vec<Action> {
        self.phase = Phase::Spawning;
        vec![Action::Spawn]
    }

    fn leave(&mut self, ready_since: Option<Instant>, now: Instant, tell: Action) -> Vec<Action> {
        self.phase = Phase::Leaving {
            ready_since,
            asked: now,
            kill: Kill::NotYet,
        };
        vec![tell, Action::Terminate]
    }

    /// Leaving → killed → told that not even that helps. There is no way on from there: a new process
    /// beside one that cannot be ended would share its data with it.
    fn press(&mut self, now: Instant) -> Vec<Action> {
        let Phase::Leaving { asked, kill, .. } = &mut self.phase else {
            return Vec::new();
        };
        match *kill {
            Kill::NotYet if now >= *asked + self.limits.stop_timeout => {
                *kill = Kill::Sent { at: now };
                vec![Action::Kill]
            }
            Kill::Sent { at } if now >= at + SURVIVES_AFTER => {
                *kill = Kill::Survived;
                let after = now.saturating_duration_since(at);
                vec![Action::TellSurvived { after }]
            }
            Kill::NotYet | Kill::Sent { .. } | Kill::Survived => Vec::new(),
        }
    }

    fn stop(&mut self, now: Instant) -> Vec<Action> {
        self.stop_asked = true;
        let was_ready = matches!(self.phase, Phase::Ready { .. });
        match self.phase {
            Phase::New | Phase::Pausing { .. } => self.finish(false),
            Phase::Starting { .. } => self.leave(None, now, Action::TellStopping { was_ready }),
            Phase::Ready { since, .. } => {
                self.leave(Some(since), now, Action::TellStopping { was_ready })
            }
            Phase::Leaving { .. } => vec![Action::TellStopping { was_ready }],
            Phase::Spawning | Phase::Over => Vec::new(),
        }
    }

    fn finish(&mut self, failed: bool) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish { failed }]
    }

    fn ended(
        &mut self,
        ready_since: Option<Instant>,
        orderly: bool,
        now: Instant,
        random: f64,
    ) -> Vec<Action> {
        if self.stop_asked {
            return self.finish(false);
        }
        if !self.limits.restart {
            return self.finish(!orderly);
        }
        let ready_for = ready_since.map(|since| now.saturating_duration_since(since));
        if ready_for.is_some_and(|span| span >= PROVEN_AFTER) {
            self.attempt = 0;
            self.failures.clear();
        }
        if ready_for.is_some_and(|span| span >= SETTLED_AFTER) {
            self.crash_loop = false;
        } else {
            self.count_failure(now);
        }
        self.attempt = self.attempt.saturating_add(1);
        let delay = delay(self.attempt, random);
        self.phase = Phase::Pausing { until: now + delay };
        vec![Action::TellPause {
            delay,
            attempt: self.attempt,
            crash_loop: self.crash_loop,
        }]
    }

    fn count_failure(&mut self, now: Instant) {
        self.failures.push_back(now);
        if self.failures.len() > CRASH_LOOP_FAILURES {
            self.failures.pop_front();
        }
        let first = self.failures.front();
        let soon = first.is_some_and(|at| now.saturating_duration_since(*at) <= CRASH_LOOP_WINDOW);
        if soon && self.failures.len() == CRASH_LOOP_FAILURES {
            self.crash_loop = true;
        }
    }
}

fn delay(attempt: u32, random: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let grown = DELAY_MIN.saturating_mul(1 << doublings).min(DELAY_MAX);
    grown.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
