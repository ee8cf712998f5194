//! The fleet of one service: a pure machine that decides which instances start, get traffic, drain
//! and stop.
//!
//! One machine serves every occasion, because they are all the same question, "which revision, how
//! many": the first start, a deployment, a rollback, a restart (the same revision again) and
//! scaling. It holds no clock and does nothing itself: [`Fleet::apply`] takes what happened and the
//! time, and answers with what to do. Its promise, which the tests check over random histories:
//! from the first moment a service serves, instances that serve are only taken out after others
//! were put in.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use atoll_base::{InstanceId, RevisionNumber, ServiceName};

/// A new instance may fail this often before it is ready; then the rollout fails. One failure may
/// be bad luck (a port taken, a dependency that was late).
const FAILURES_MAX: u32 = 2;

/// What a rollout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// Its entry in the history.
    pub deployment: i64,
    /// The revision that is to serve.
    pub revision: RevisionNumber,
    /// With so many instances.
    pub count: u32,
    /// All must be ready within this time.
    pub timeout: Duration,
    /// The old ones stay for so long after traffic has moved.
    pub watch: Duration,
    /// The old ones are given so long for the requests they have.
    pub drain: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A revision is to serve. Ignored while a rollout runs; ask [`Fleet::rollout`] first.
    Begin(Goal),
    /// So many instances of the current revision are to run. Ignored while a rollout runs.
    Scale(Goal),
    /// The instance answers its health check.
    Ready(InstanceId),
    /// The instance is gone or ill. The supervisor restarts it by itself.
    Lost(InstanceId, String),
    /// Every request that the instance had is answered.
    Drained(InstanceId),
    /// Every process of the instance is gone.
    Stopped(InstanceId),
    /// Time has passed; see [`Fleet::next_deadline`].
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start an instance.
    Start(InstanceId),
    /// The revision takes over: record it as current; its routes hold from the next `Serve` on.
    Commit(RevisionNumber),
    /// Let these, and no others of the service, have requests.
    Serve(Vec<InstanceId>),
    /// Tell when the instance has no request left.
    AwaitDrain(InstanceId),
    /// Stop the instance.
    Stop(InstanceId),
    /// The rollout is over. What is left of the old instances drains in the background.
    Finish {
        /// Its entry in the history.
        deployment: i64,
        /// Why it failed, if it did.
        failure: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Started, not ready (again).
    Starting,
    /// Ready.
    Ready,
    /// Taken out; finishing its requests until the time.
    Draining { until: Instant },
    /// Told to stop.
    Stopping,
}

#[derive(Debug, Clone)]
struct Member {
    phase: Phase,
    /// Failures since it last was ready.
    failures: u32,
}

#[derive(Debug, Clone)]
struct Rollout {
    goal: Goal,
    stage: Stage,
    old: Vec<InstanceId>,
    new: Vec<InstanceId>,
    previous: Option<RevisionNumber>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The new ones start; the old ones serve.
    Starting { until: Instant },
    /// The new ones serve; the old ones stand by.
    Watching { until: Instant },
}

/// A change of scale that is not over: these are to become ready.
#[derive(Debug, Clone)]
struct Growth {
    deployment: i64,
    new: Vec<InstanceId>,
    until: Instant,
    timeout: Duration,
}

/// The instances of one service and what becomes of them.
#[derive(Debug)]
pub struct Fleet {
    service: ServiceName,
    current: Option<RevisionNumber>,
    members: BTreeMap<InstanceId, Member>,
    rollout: Option<Rollout>,
    growth: Option<Growth>,
    serving: Vec<InstanceId>,
    next_ordinal: u32,
}

impl Fleet {
    /// An empty fleet.
    pub fn new(service: ServiceName) -> Self {
        Self {
            service,
            current: None,
            members: BTreeMap::new(),
            rollout: None,
            growth: None,
            serving: Vec::new(),
            next_ordinal: 1,
        }
    }

    /// The deployment that is being rolled out, if one is.
    pub fn rollout(&self) -> Option<i64> {
        let growth = self.growth.as_ref().map(|growth| growth.deployment);
        self.rollout
            .as_ref()
            .map(|rollout| rollout.goal.deployment)
            .or(growth)
    }

    /// The revision that serves or is to serve when its instances are ready.
    pub fn current(&self) -> Option<RevisionNumber> {
        self.current
    }

    /// The instances that may have requests now.
    pub fn serving(&self) -> &[InstanceId] {
        &self.serving
    }

    /// The instances that are ready to serve again should all others fail: the old ones, while the
    /// new ones are watched.
    pub fn standby(&self) -> Vec<InstanceId> {
        match &self.rollout {
            Some(Rollout {
                stage: Stage::Watching { .. },
                old,
                ..
            }) => old.iter().filter(|id| self.is_ready(id)).cloned().collect(),
            Some(_) | None => Vec::new(),
        }
    }

    /// When [`Command::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let rollout = self.rollout.as_ref().map(|rollout| match rollout.stage {
            Stage::Starting { until } | Stage::Watching { until } => until,
        });
        let draining = self
            .members
            .values()
            .filter_map(|member| match member.phase {
                Phase::Draining { until } => Some(until),
                Phase::Starting | Phase::Ready | Phase::Stopping => None,
            });
        let growth = self.growth.as_ref().map(|growth| growth.until);
        draining.chain(rollout).chain(growth).min()
    }

    /// Takes what happened, tells what to do, in order.
    pub fn apply(&mut self, command: Command, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            Command::Begin(goal) => self.begin(goal, now, &mut actions),
            Command::Scale(goal) => self.scale(goal, now, &mut actions),
            Command::Ready(id) => self.on_ready(&id, now, &mut actions),
            Command::Lost(id, reason) => self.on_lost(&id, reason, now, &mut actions),
            Command::Drained(id) => self.on_drained(&id, &mut actions),
            Command::Stopped(id) => {
                self.members.remove(&id);
            }
            Command::Tick => self.on_tick(now, &mut actions),
        }
        self.serve(&mut actions);
        // What is over is over for whoever watches: the traffic has moved by then.
        actions.sort_by_key(|action| matches!(action, Action::Finish { .. }));
        actions
    }

    fn begin(&mut self, goal: Goal, now: Instant, actions: &mut Vec<Action>) {
        if self.rollout.is_some() || self.growth.is_some() {
            return;
        }
        let old = self.active();
        let new: Vec<_> = (0..goal.count)
            .map(|_| self.start(goal.revision, actions))
            .collect();
        let previous = self.current;
        if old.is_empty() {
            // Nothing serves yet: there is nothing to go back to, so the revision is current at
            // once and each instance serves as soon as it is ready.
            self.current = Some(goal.revision);
            actions.push(Action::Commit(goal.revision));
        }
        let stage = Stage::Starting {
            until: now + goal.timeout,
        };
        self.rollout = Some(Rollout {
            goal,
            stage,
            old,
            new,
            previous,
        });
    }

    fn scale(&mut self, goal: Goal, now: Instant, actions: &mut Vec<Action>) {
        let (None, None, Some(current)) = (&self.rollout, &self.growth, self.current) else {
            return;
        };
        let active = self.active();
        let count = goal.count as usize;
        let new = (active.len()..count)
            .map(|_| self.start(current, actions))
            .collect();
        let surplus: Vec<_> = active.into_iter().skip(count).collect();
        self.retire(&surplus, goal.drain, now, actions);
        let Goal {
            deployment,
            timeout,
            ..
        } = goal;
        self.growth = Some(Growth {
            deployment,
            new,
            until: now + timeout,
            timeout,
        });
        self.settle(now, actions);
    }

    /// The change of scale is over when all that were started are ready, or when time is up. They
    /// stay in either case: that many were asked for.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(growth) = &self.growth else { return };
        let late = self.late(&growth.new);
        let failure = match late.as_str() {
            "" => None,
            _ if now < growth.until => return,
            late => Some(format!("{late} not ready within {:?}", growth.timeout)),
        };
        let deployment = growth.deployment;
        self.growth = None;
        actions.push(Action::Finish {
            deployment,
            failure,
        });
    }

    fn on_ready(&mut self, id: &InstanceId, now: Instant, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.phase == Phase::Starting {
            *member = Member {
                phase: Phase::Ready,
                failures: 0,
            };
        }
        let all_ready = self.rollout.as_ref().is_some_and(|rollout| {
            matches!(rollout.stage, Stage::Starting { .. })
                && rollout.new.iter().all(|id| self.is_ready(id))
        });
        if all_ready {
            self.shift(now, actions);
        }
        self.settle(now, actions);
    }

    /// Starting → Watching: the new instances take over.
    fn shift(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if rollout.old.is_empty() {
            let deployment = rollout.goal.deployment;
            self.rollout = None;
            actions.push(Action::Finish {
                deployment,
                failure: None,
            });
            return;
        }
        rollout.stage = Stage::Watching {
            until: now + rollout.goal.watch,
        };
        self.current = Some(rollout.goal.revision);
        actions.push(Action::Commit(rollout.goal.revision));
    }

    fn on_lost(
        &mut self,
        id: &InstanceId,
        reason: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if !matches!(member.phase, Phase::Starting | Phase::Ready) {
            return;
        }
        member.phase = Phase::Starting;
        member.failures += 1;
        let failures = member.failures;
        let Some(rollout) = self
            .rollout
            .as_ref()
            .filter(|rollout| rollout.new.contains(id))
        else {
            return;
        };
        match rollout.stage {
            Stage::Starting { .. } if failures < FAILURES_MAX => {}
            Stage::Starting { .. } => self.fail(format!("{id} {reason}"), now, actions),
            Stage::Watching { .. } => {
                self.fail(
                    format!("{id} {reason}, after it had become ready"),
                    now,
                    actions,
                );
            }
        }
    }

    /// Any stage → over: the old instances serve, the new ones go. Where there are no old ones, the
    /// new ones stay and go on trying.
    fn fail(&mut self, failure: String, now: Instant, actions: &mut Vec<Action>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        if !rollout.old.is_empty() {
            let went_over = matches!(rollout.stage, Stage::Watching { .. });
            let back = rollout.previous.filter(|_| went_over);
            self.current = back.or(self.current);
            // The old ones serve again before anything is written to disk.
            self.retire(&rollout.new, rollout.goal.drain, now, actions);
            actions.extend(back.map(Action::Commit));
        }
        let deployment = rollout.goal.deployment;
        actions.push(Action::Finish {
            deployment,
            failure: Some(failure),
        });
    }

    fn on_drained(&mut self, id: &InstanceId, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if matches!(member.phase, Phase::Draining { .. }) {
            member.phase = Phase::Stopping;
            actions.push(Action::Stop(id.clone()));
        }
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self
            .rollout
            .as_ref()
            .map(|rollout| (rollout.stage, rollout.goal))
        {
            Some((Stage::Starting { until }, goal)) if now >= until => {
                let late = self.rollout.as_ref().map(|rollout| self.late(&rollout.new));
                let late = late.unwrap_or_default();
                let limit = goal.timeout;
                self.fail(format!("{late} not ready within {limit:?}"), now, actions);
            }
            Some((Stage::Watching { until }, _)) if now >= until => self.finish(now, actions),
            _ => {}
        }
        self.settle(now, actions);
        let overdue: Vec<InstanceId> = self
            .members
            .iter()
            .filter(|(_, member)| matches!(member.phase, Phase::Draining { until } if now >= until))
            .map(|(id, _)| id.clone())
            .collect();
        for id in overdue {
            self.on_drained(&id, actions);
        }
    }

    /// Watching → over: the new revision has held; the old instances go.
    fn finish(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.retire(&rollout.old, rollout.goal.drain, now, actions);
        actions.push(Action::Finish {
            deployment: rollout.goal.deployment,
            failure: None,
        });
    }

    fn start(&mut self, revision: RevisionNumber, actions: &mut Vec<Action>) -> InstanceId {
        let id = InstanceId::new(self.service.clone(), revision, self.next_ordinal);
        self.next_ordinal += 1;
        self.members.insert(
            id.clone(),
            Member {
                phase: Phase::Starting,
                failures: 0,
            },
        );
        actions.push(Action::Start(id.clone()));
        id
    }

    /// Takes instances out. Traffic moves away from all of them before anybody waits for its end.
    fn retire(
        &mut self,
        ids: &[InstanceId],
        drain: Duration,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let mut leaving = Vec::new();
        for id in ids {
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            if matches!(member.phase, Phase::Starting | Phase::Ready) {
                member.phase = Phase::Draining { until: now + drain };
                leaving.push(Action::AwaitDrain(id.clone()));
            }
        }
        self.serve(actions);
        actions.append(&mut leaving);
    }

    /// Says who serves, if that has changed.
    fn serve(&mut self, actions: &mut Vec<Action>) {
        let serving = self.should_serve();
        if serving != self.serving {
            self.serving.clone_from(&serving);
            actions.push(Action::Serve(serving));
        }
    }

    /// The ready instances, but of a rollout only one side: the old one until all the new ones are
    /// ready, then the new one.
    fn should_serve(&self) -> Vec<InstanceId> {
        let held_back: &[InstanceId] = match &self.rollout {
            Some(Rollout {
                stage: Stage::Starting { .. },
                old,
                new,
                ..
            }) if !old.is_empty() => new,
            Some(Rollout {
                stage: Stage::Watching { .. },
                old,
                ..
            }) => old,
            Some(_) | None => &[],
        };
        let ready = self
            .members
            .iter()
            .filter(|(_, member)| member.phase == Phase::Ready);
        ready
            .map(|(id, _)| id)
            .filter(|id| !held_back.contains(id))
            .cloned()
            .collect()
    }

    fn is_ready(&self, id: &InstanceId) -> bool {
        self.members
            .get(id)
            .is_some_and(|member| member.phase == Phase::Ready)
    }

    /// The instances that are neither leaving nor gone: those that serve first, then by age, so
    /// that what is cut off at the end is missed the least.
    fn active(&self) -> Vec<InstanceId> {
        let mut active: Vec<InstanceId> = self
            .members
            .iter()
            .filter(|(_, member)| matches!(member.phase, Phase::Starting | Phase::Ready))
            .map(|(id, _)| id.clone())
            .collect();
        active.sort_by_key(|id| (!self.is_ready(id), id.ordinal()));
        active
    }

    /// Those of `ids` that are not ready, by name.
    fn late(&self, ids: &[InstanceId]) -> String {
        let late = ids
            .iter()
            .filter(|id| !self.is_ready(id))
            .map(InstanceId::as_str);
        late.collect::<Vec<_>>().join(", ")
    }
}
