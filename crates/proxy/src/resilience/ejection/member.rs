//! One instance: where it stands and what is known of it.

use super::super::penalty::{Pauses, Penalty};
use super::super::why::Cause;
use super::super::window::Window;
use super::super::{Counts, Millis};

/// One instance.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) joined: Millis,
    pub(super) phase: Phase,
    /// Failures since the last success.
    pub(super) streak: Streak,
    /// Requests and failures.
    pub(super) window: Window,
    /// What was answered since latencies were last compared.
    pub(super) pace: Counts,
    /// Comparisons in a row in which it was slow.
    pub(super) slow_windows: u32,
    pub(super) penalty: Penalty,
    /// Why it is out, or should be.
    pub(super) cause: Option<Cause>,
    pub(super) trials_failed: u32,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    In,
    Out {
        until: Millis,
    },
    Probation {
        /// Trials that succeeded.
        good: u32,
        /// A trial is under way.
        lent: bool,
        since: Millis,
    },
}

/// Failures one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Streak {
    pub(super) failures: u32,
    pub(super) weight: u32,
}

impl Member {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            joined: now,
            phase: Phase::In,
            streak: Streak::default(),
            window: Window::default(),
            pace: Counts::default(),
            slow_windows: 0,
            penalty: Penalty::default(),
            cause: None,
            trials_failed: 0,
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.phase == Phase::In
    }

    /// Something was counted, or what was found before must be found again.
    pub(super) fn is_to_be_looked_at(&self) -> bool {
        let found = matches!(
            self.cause,
            Some(Cause::FailureRate { .. } | Cause::Slow { .. })
        );
        !self.pace.is_empty() || (self.is_in() && found)
    }

    /// Nothing that was counted before matters any more.
    pub(super) fn start_over(&mut self) {
        self.streak = Streak::default();
        self.window.clear();
        self.pace = Counts::default();
        self.slow_windows = 0;
        self.cause = None;
        self.trials_failed = 0;
    }

    pub(super) fn is_not_slow(&mut self) {
        self.slow_windows = 0;
        if self.is_in() && matches!(self.cause, Some(Cause::Slow { .. })) {
            self.cause = None;
        }
    }

    pub(super) fn restore(&mut self, now: Millis) {
        self.phase = Phase::In;
        self.penalty.restored(now);
        self.start_over();
    }

    /// Sends it out, for longer each time.
    pub(super) fn send_out(&mut self, pauses: Pauses, now: Millis, random: u64) -> Millis {
        let until = now.saturating_add(self.penalty.offend(pauses, now, random));
        self.phase = Phase::Out { until };
        until
    }
}
