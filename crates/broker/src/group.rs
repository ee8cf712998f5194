//! One consumer group: who is in it, who leads, and which generation of the assignment holds.
//!
//! The rules are those of Kafka's classic group protocol, down to the odd ones, because the clients
//! were written against them: members join, the broker picks a leader and a protocol, the leader
//! computes the assignment and the broker hands it out. The broker understands nothing of what the
//! members tell each other; cooperative rebalancing therefore needs nothing here but generations
//! that are right.
//!
//! ```text
//!          first join              all are here, or time is up          the leader's assignment
//! Empty ──────────────> Preparing ────────────────────────> Completing ─────────────────> Stable
//!   ^                   Rebalance <──────────────────────── Rebalance                       │
//!   └── nobody is left ── │  ^ somebody comes, goes or changes      (the same) <────────────┘
//! ```
//!
//! Members are not kept over a restart: they come back by themselves within a heartbeat, and a
//! remembered member that died meanwhile would hold its partitions until its session ends. What is
//! kept is in [`Snapshot`]. The newer protocol of KIP-848 was refused: clients ask for it only when
//! told to.

mod command;
mod join;
mod leave;
mod member;
mod outcome;
mod rebalance;
mod snapshot;
mod sync;
mod view;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use command::{Client, Command, Join, Leave, Leaver, Sync};
pub use outcome::{Action, GroupError, JoinRefused, Joined, JoinedMember, Synced};
pub use snapshot::Snapshot;
pub use view::{MemberView, View};

use member::Member;

/// What a group may be asked for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most members. Default 1,000: more than any sensible number of partitions of a topic on
    /// one machine, and every rebalance costs work in proportion.
    pub members_max: usize,
    /// The shortest session that a member may ask for. Default 6 s, as in Kafka.
    pub session_timeout_min: Duration,
    /// The longest session that a member may ask for. Default 30 min, as in Kafka.
    pub session_timeout_max: Duration,
    /// How long an empty group waits for more members after the first. Default 100 ms: members that
    /// start together then share one rebalance, and nobody notices the wait. Kafka's 3 s are for
    /// machines that take long to start.
    pub initial_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members_max: 1_000,
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_delay: Duration::from_millis(100),
        }
    }
}

/// Where a group is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// No members.
    Empty,
    /// The members are asked to join again.
    PreparingRebalance,
    /// All have joined; the leader computes the assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Deleted. Whoever still holds it should find the group anew.
    Dead,
}

/// What the group as a whole waits for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For nothing.
    Idle,
    /// For more members, after the first of an empty group.
    Initial {
        at: Instant,
        latest: Instant,
        newcomers: bool,
    },
    /// For the members to join again.
    Joins { until: Instant },
    /// For the members to fetch their assignment.
    Syncs { until: Instant },
}

/// A consumer group. See the module for its life.
#[derive(Debug)]
pub struct Group {
    limits: Limits,
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    /// By member id.
    members: BTreeMap<String, Member>,
    /// From the instance id of a static member to its member id.
    instances: BTreeMap<String, String>,
    /// Ids that were handed out to members that have not joined with them yet, and how long they
    /// are waited for.
    pending: BTreeMap<String, Instant>,
    phase: Phase,
}

impl Group {
    /// An empty group that never had a member.
    pub fn new(limits: Limits) -> Self {
        Self::restore(limits, Snapshot::default())
    }

    /// The group as it is after a restart: empty, its generation where it was.
    pub fn restore(limits: Limits, snapshot: Snapshot) -> Self {
        Self {
            limits,
            state: State::Empty,
            generation: snapshot.generation,
            protocol_type: snapshot.protocol_type,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            phase: Phase::Idle,
        }
    }

    /// Takes one command. The actions are to be performed in order.
    pub fn apply(&mut self, command: Command, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            Command::Join(join) => self.on_join(join, now, &mut actions),
            Command::Sync(sync) => self.on_sync(sync, now, &mut actions),
            Command::Leave(leave) => self.on_leave(leave, now, &mut actions),
            Command::Gone(ticket) => self.on_gone(ticket, now, &mut actions),
            Command::Tick => self.on_tick(now, &mut actions),
        }
        actions
    }

    /// When the group wants its next [`Command::Tick`]. None: it waits for nothing.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Idle => None,
            Phase::Initial { at, .. } => Some(at),
            Phase::Joins { until } | Phase::Syncs { until } => Some(until),
        };
        let sessions = self.members.values().filter_map(Member::session_end);
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(phase).min()
    }

    /// A member says that it lives. An error tells it what to do: rejoin, or begin anew.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), GroupError> {
        self.refuse_if_dead()?;
        self.check_generation(member_id, instance_id, generation)?;
        self.member_mut(member_id)?.extend_session(now);
        if self.state == State::PreparingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether offsets may be committed in this name. A `generation` below zero with an empty member
    /// id is a consumer that uses the group for its offsets only, which is allowed as long as the
    /// group has no members. In a transaction (KIP-447) a member may commit in any state of its
    /// own generation, and a producer that names no member is trusted: its epoch protects.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
        now: Instant,
    ) -> Result<(), GroupError> {
        self.refuse_if_dead()?;
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return if transactional || self.state == State::Empty {
                Ok(())
            } else {
                Err(GroupError::UnknownMemberId(String::new()))
            };
        }
        self.check_generation(member_id, instance_id, generation)?;
        if !transactional && self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        self.member_mut(member_id)?.extend_session(now);
        Ok(())
    }

    /// Deletes the group, which must have no members.
    pub fn delete(&mut self) -> Result<(), GroupError> {
        match self.state {
            State::Empty => {
                self.state = State::Dead;
                self.pending.clear();
                Ok(())
            }
            State::Dead => Err(GroupError::GroupIdNotFound),
            _ => Err(GroupError::NonEmptyGroup(self.members.len())),
        }
    }

    /// Where the group is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// The generation of the last assignment; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    fn refuse_if_dead(&self) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(())
    }

    /// Whether this is a member, under the instance id that it claims.
    fn identify(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMemberId(member_id.to_owned());
        if let Some(instance_id) = instance_id {
            let owner = self.instances.get(instance_id).ok_or_else(unknown)?;
            if owner != member_id {
                return Err(GroupError::FencedInstanceId(instance_id.to_owned()));
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(unknown())
        }
    }

    /// Whether this is a member of the present generation.
    fn check_generation(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        given: i32,
    ) -> Result<(), GroupError> {
        self.identify(member_id, instance_id)?;
        if given != self.generation {
            let current = self.generation;
            return Err(GroupError::IllegalGeneration { given, current });
        }
        Ok(())
    }

    fn member_mut(&mut self, member_id: &str) -> Result<&mut Member, GroupError> {
        self.members
            .get_mut(member_id)
            .ok_or_else(|| GroupError::UnknownMemberId(member_id.to_owned()))
    }
}
