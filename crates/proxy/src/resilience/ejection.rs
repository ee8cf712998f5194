//! Which instances of one service are left out, since when, until when, and why.
//!
//! ```text
//!            in a row · rate · slow                     its time is over
//!      In ────────────────────────────► Out{until} ───────────────────────► Probation
//!      ▲                                    ▲                                │   │
//!      │                                    └──────── one trial failed ──────┘   │
//!      └──────────────────── three trials in a row succeeded ────────────────────┘
//! ```
//! A pure machine: [`Ejection::apply`] takes what happened and answers what to do. The rules must
//! hold for two instances as for three hundred, so none of them is a statistic over many hosts (the
//! usual success-rate rule needs five hosts and never fires for a small team): an instance is
//! compared with itself (failures in a row) or with what the others did in the same seconds.
//!
//! What it never does: leave out the last one, or more than a share of them (half, by default). If
//! everything fails, the fault is elsewhere, and the breaker is there for it.
//!
//! **What it is told.** Failures, and the first success after one, at once; everything else as sums
//! on ticks. So the healthy path says nothing and takes no lock; see [`super::standing`].
//!
//! **Return.** A trial is a real request, one at a time. Requests that can be repeated go first: if
//! the trial fails, another instance answers and nobody notices.

mod compare;
mod member;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_base::{InstanceId, Timestamp};
use serde::Serialize;

use self::member::{Member, Phase, Streak};
use super::penalty::Pauses;
use super::settings::EjectionSettings;
use super::why::{Cause, Why, millis};
use super::{Counts, Failure, Millis};

/// What a failed connection counts towards failures in a row; other failures count one. Nothing of
/// the request was seen, so it says the most about the instance and the least about the request.
const CONNECT_WEIGHT: u32 = 2;

/// Trials in a row that must succeed.
const TRIALS: u32 = 3;

/// A trial that cannot be repeated elsewhere waits so long for one that can, in milliseconds.
const PATIENCE: Millis = 5_000;

/// How often failure rates are looked at, in milliseconds.
const RATE_EVERY: Millis = 1_000;

/// How often latencies are compared, in milliseconds.
const PACE_EVERY: Millis = 5_000;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The instance gets requests from now on. A known one starts over: it is a new process.
    Joined(InstanceId),
    /// The instance gets none any more.
    Left(InstanceId),
    /// An attempt failed. Not for trials.
    Failed(InstanceId, Failure),
    /// An attempt succeeded after [`Action::Watch`]. Not for trials.
    Succeeded(InstanceId),
    /// What a worker counted for the instance.
    Counted(InstanceId, Counts),
    /// The trial was answered, after so long.
    TrialSucceeded(InstanceId, Duration),
    /// The trial failed.
    TrialFailed(InstanceId, Failure),
    /// The trial came to no end: its client left.
    TrialDropped(InstanceId),
    /// Time has passed; see [`Ejection::next_deadline`].
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell of the next success: failures are being counted.
    Watch(InstanceId),
    /// Give it no requests.
    Eject {
        /// Which one.
        instance: InstanceId,
        /// Until then at least.
        until: Millis,
    },
    /// Give it single requests, by [`Ejection::lend`].
    Probe(InstanceId),
    /// Give it requests as any other. Successes need not be told.
    Restore(InstanceId),
}

/// Where an instance stands, for the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The instance.
    pub instance: InstanceId,
    /// Where it stands.
    pub state: State,
    /// Why it is out; or why it would be, if enough others were in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It gets requests.
    In,
    /// It gets requests, though it deserves none: too many others are out.
    Kept,
    /// It gets none.
    Out,
    /// It gets one at a time.
    Probation,
}

/// The instances of one service and where they stand.
#[derive(Debug)]
pub struct Ejection {
    settings: EjectionSettings,
    members: BTreeMap<InstanceId, Member>,
    next_rate: Millis,
    next_pace: Millis,
}

impl Ejection {
    /// No instances.
    pub fn new(settings: EjectionSettings) -> Self {
        Self {
            settings,
            members: BTreeMap::new(),
            next_rate: 0,
            next_pace: 0,
        }
    }

    /// Takes new settings. Who is out stays out.
    pub fn set(&mut self, settings: EjectionSettings) {
        self.settings = settings;
    }

    /// Takes what happened. `random` is any number; it spreads the returns.
    pub fn apply(&mut self, command: Command, now: Millis, random: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            Command::Joined(instance) => self.join(instance, now, &mut actions),
            Command::Left(instance) => {
                self.members.remove(&instance);
                self.relieve(now, &mut actions);
            }
            Command::Failed(instance, failure) => {
                self.failed(&instance, failure, now, random, &mut actions);
            }
            Command::Succeeded(instance) => {
                // In → In: the row of failures is broken.
                if let Some(member) = self.members.get_mut(&instance)
                    && member.is_in()
                {
                    member.streak = Streak::default();
                    member.cause = None;
                    actions.push(Action::Restore(instance));
                }
            }
            Command::Counted(instance, counts) => self.counted(&instance, &counts, now),
            Command::TrialSucceeded(instance, latency) => {
                self.trial_succeeded(&instance, latency, now, random, &mut actions);
            }
            Command::TrialFailed(instance, _) => {
                self.trial_failed(&instance, now, random, &mut actions);
            }
            Command::TrialDropped(instance) => {
                // Probation → Probation: the next request may try.
                if let Some(member) = self.members.get_mut(&instance)
                    && let Phase::Probation { lent, .. } = &mut member.phase
                {
                    *lent = false;
                    actions.push(Action::Probe(instance));
                }
            }
            Command::Tick => self.tick(now, random, &mut actions),
        }
        actions
    }

    /// When the next [`Command::Tick`] is due; none if nothing will happen by itself.
    pub fn next_deadline(&self) -> Option<Millis> {
        let outs = self
            .members
            .values()
            .filter_map(|member| match member.phase {
                Phase::Out { until } => Some(until),
                Phase::In | Phase::Probation { .. } => None,
            });
        let counted = self.members.values().any(Member::is_to_be_looked_at);
        let looks = counted.then_some(self.next_rate.min(self.next_pace));
        outs.chain(looks).min()
    }

    /// Whether an instance waits for a trial.
    pub fn has_offer(&self) -> bool {
        let mut members = self.members.values();
        members.any(|member| matches!(member.phase, Phase::Probation { lent: false, .. }))
    }

    /// The instance that this request is to try, if there is one that `fits`. `repeatable` says
    /// that the request can be sent elsewhere if the trial fails; others wait a while for such. The
    /// trial must be ended by one of the three commands.
    pub fn lend(
        &mut self,
        repeatable: bool,
        now: Millis,
        fits: impl Fn(&InstanceId) -> bool,
    ) -> Option<InstanceId> {
        let mut longest: Option<(Millis, &InstanceId)> = None;
        for (instance, member) in &self.members {
            if let Phase::Probation {
                lent: false, since, ..
            } = member.phase
                && (repeatable || since.saturating_add(PATIENCE) <= now)
                && longest.is_none_or(|(other, _)| since < other)
                && fits(instance)
            {
                longest = Some((since, instance));
            }
        }
        let instance = longest?.1.clone();
        let member = self.members.get_mut(&instance)?;
        if let Phase::Probation { lent, .. } = &mut member.phase {
            *lent = true;
        }
        Some(instance)
    }

    /// Where every instance stands. `now` and `wall` are the same moment.
    pub fn explain(&self, now: Millis, wall: Timestamp) -> Vec<Verdict> {
        let verdict = |(instance, member): (&InstanceId, &Member)| {
            let (state, until) = match member.phase {
                Phase::In if member.cause.is_some() => (State::Kept, None),
                Phase::In => (State::In, None),
                Phase::Out { until } => (State::Out, Some(until)),
                Phase::Probation { .. } => (State::Probation, None),
            };
            let why = member
                .cause
                .map(|cause| Why::new(cause, member.trials_failed, until, now, wall));
            Verdict {
                instance: instance.clone(),
                state,
                why,
            }
        };
        self.members.iter().map(verdict).collect()
    }

    fn join(&mut self, instance: InstanceId, now: Millis, actions: &mut Vec<Action>) {
        let member = self
            .members
            .entry(instance.clone())
            .or_insert_with(|| Member::new(now));
        // The record of offences is kept: a process that is restarted every minute is no better.
        member.joined = now;
        member.restore(now);
        actions.push(Action::Restore(instance));
    }

    fn failed(
        &mut self,
        instance: &InstanceId,
        failure: Failure,
        now: Millis,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(member) = self.members.get_mut(instance) else {
            return;
        };
        // Out → Out: late news of requests that were sent before.
        // An error of its program is no sign that an instance is broken; the rate shows whether
        // the others have it too.
        if !member.is_in() || !failure.is_unavailability() {
            return;
        }
        if member.streak.failures == 0 {
            actions.push(Action::Watch(instance.clone()));
        }
        let weight = if failure.is_connect() {
            CONNECT_WEIGHT
        } else {
            1
        };
        member.streak.failures = member.streak.failures.saturating_add(1);
        member.streak.weight = member.streak.weight.saturating_add(weight);
        if member.streak.weight >= self.settings.in_a_row {
            let cause = Cause::InARow {
                failures: member.streak.failures,
                last: failure,
            };
            self.eject(instance, cause, now, random, actions);
        }
    }

    /// In → Out, if that leaves enough others; else it is kept, and the reason is remembered.
    fn eject(
        &mut self,
        instance: &InstanceId,
        cause: Cause,
        now: Millis,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let room = self.settings.enabled && self.out() < self.out_max();
        let pauses = self.pauses();
        let Some(member) = self.members.get_mut(instance) else {
            return;
        };
        member.cause = Some(cause);
        if room {
            member.trials_failed = 0;
            let until = member.send_out(pauses, now, random);
            actions.push(Action::Eject {
                instance: instance.clone(),
                until,
            });
        }
    }

    fn counted(&mut self, instance: &InstanceId, counts: &Counts, now: Millis) {
        let Some(member) = self.members.get_mut(instance) else {
            return;
        };
        // Out → Out: late news. Trials are told one by one.
        if !member.is_in() || counts.is_empty() {
            return;
        }
        member.window.add(counts.requests(), counts.failures(), now);
        member.pace.add(counts);
    }

    fn trial_succeeded(
        &mut self,
        instance: &InstanceId,
        latency: Duration,
        now: Millis,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let times_slower = u64::from(self.settings.times_slower);
        let Some(member) = self.members.get_mut(instance) else {
            return;
        };
        let Phase::Probation { good, lent, since } = &mut member.phase else {
            return;
        };
        // Out for being slow, and answered as slowly as then.
        if let Some(Cause::Slow { others_ms, .. }) = member.cause
            && millis(latency) >= others_ms.saturating_mul(times_slower).max(1)
            && latency > self.settings.fast_enough
        {
            return self.trial_failed(instance, now, random, actions);
        }
        *good += 1;
        if *good < TRIALS {
            // Probation → Probation: one more.
            *lent = false;
            *since = now;
            actions.push(Action::Probe(instance.clone()));
        } else {
            // Probation → In: back.
            member.restore(now);
            actions.push(Action::Restore(instance.clone()));
        }
    }

    /// Probation → Out: not yet.
    fn trial_failed(
        &mut self,
        instance: &InstanceId,
        now: Millis,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let pauses = self.pauses();
        let Some(member) = self.members.get_mut(instance) else {
            return;
        };
        if !matches!(member.phase, Phase::Probation { .. }) {
            return;
        }
        member.trials_failed = member.trials_failed.saturating_add(1);
        let until = member.send_out(pauses, now, random);
        actions.push(Action::Eject {
            instance: instance.clone(),
            until,
        });
    }

    fn tick(&mut self, now: Millis, random: u64, actions: &mut Vec<Action>) {
        for (instance, member) in &mut self.members {
            // Out → Probation: its time is over.
            if let Phase::Out { until } = member.phase
                && until <= now
            {
                member.phase = Phase::Probation {
                    good: 0,
                    lent: false,
                    since: now,
                };
                actions.push(Action::Probe(instance.clone()));
            }
        }
        if now >= self.next_rate {
            self.next_rate = now.saturating_add(RATE_EVERY);
            self.compare_rates(now, random, actions);
        }
        if now >= self.next_pace {
            self.next_pace = now.saturating_add(PACE_EVERY);
            self.compare_paces(now, random, actions);
        }
    }

    /// Takes back those who are out beyond the share, as others have left: first those who are
    /// closest to coming back by themselves.
    fn relieve(&mut self, now: Millis, actions: &mut Vec<Action>) {
        while self.out() > self.out_max() {
            let closest = self
                .members
                .iter_mut()
                .filter_map(|(instance, member)| match member.phase {
                    Phase::In => None,
                    Phase::Out { until } => Some(((1, until), instance, member)),
                    Phase::Probation { good, .. } => {
                        Some(((0, u64::from(TRIALS - good)), instance, member))
                    }
                })
                .min_by_key(|(rank, ..)| *rank);
            let Some((_, instance, member)) = closest else {
                return;
            };
            member.restore(now);
            actions.push(Action::Restore(instance.clone()));
        }
    }

    /// Those who are out or on probation.
    fn out(&self) -> usize {
        let members = self.members.values();
        members.filter(|member| !member.is_in()).count()
    }

    /// How many may be.
    fn out_max(&self) -> usize {
        let count = self.members.len();
        let share = self.settings.share.of(count as u64) as usize;
        // Of two, one may go; the last one never.
        share.max(1).min(count.saturating_sub(1))
    }

    fn pauses(&self) -> Pauses {
        Pauses {
            first: millis(self.settings.pause),
            most: millis(self.settings.pause_max),
        }
    }
}
