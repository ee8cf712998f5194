//! From one generation to the next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::member::{Member, Waiting};
use super::{Action, Group, GroupError, Joined, JoinedMember, Phase, State};

impl Group {
    /// Somebody came, went or said something new: starts a rebalance, or looks whether the running
    /// one is complete.
    pub(super) fn rebalance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Dead | State::PreparingRebalance => {}
            State::Empty if self.limits.initial_delay.is_zero() => self.prepare(now, actions),
            State::Empty => {
                let at = now + self.limits.initial_delay;
                let latest = now + self.rebalance_timeout();
                self.phase = Phase::Initial {
                    at: at.min(latest),
                    latest,
                    newcomers: false,
                };
                self.state = State::PreparingRebalance;
            }
            State::CompletingRebalance | State::Stable => self.prepare(now, actions),
        }
        self.complete_if_all_here(now, actions);
    }

    /// Ends the wait for joins when nobody is left to wait for: no member and no id that was just
    /// handed out. A group that gathers its first members waits on, one without members never.
    pub(super) fn complete_if_all_here(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        let gathering = matches!(self.phase, Phase::Initial { .. });
        let all_here = self.pending.is_empty() && self.members.values().all(Member::joins);
        if self.members.is_empty() || (all_here && !gathering) {
            self.complete_joins(now, actions);
        }
    }

    /// To PreparingRebalance: everybody is to join, again.
    fn prepare(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for member in self.members.values_mut() {
            member.owes_sync = false;
            if let Waiting::Sync(ticket) = member.waiting {
                member.waiting = Waiting::Nothing;
                member.extend_session(now);
                let again = Err(GroupError::RebalanceInProgress);
                actions.push(Action::Synced(ticket, again));
            }
        }
        self.state = State::PreparingRebalance;
        let until = now + self.rebalance_timeout();
        self.phase = Phase::Joins { until };
    }

    /// The slowest member decides how long the others wait.
    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// A gathering group waits once more if somebody came meanwhile.
    pub(super) fn end_initial(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Initial {
                at,
                latest,
                newcomers,
            } if *newcomers && now < *latest => {
                *newcomers = false;
                *at = (now + self.limits.initial_delay).min(*latest);
            }
            _ => self.complete_joins(now, actions),
        }
    }

    /// PreparingRebalance -> CompletingRebalance, or Empty. Who has not joined is out, but for
    /// static members: they may be restarting, and stay until their session ends.
    pub(super) fn complete_joins(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.remove_where(actions, |member| {
            !member.joins() && member.instance_id.is_none()
        });
        if self.members.is_empty() {
            self.become_empty(actions);
            return;
        }
        if !self.elect() {
            let until = now + self.rebalance_timeout();
            self.phase = Phase::Joins { until };
            return;
        }
        self.generation = self.next_generation();
        self.protocol = self.vote();
        self.state = State::CompletingRebalance;
        let until = now + self.rebalance_timeout();
        self.phase = Phase::Syncs { until };
        actions.push(Action::Keep(self.snapshot()));
        self.announce(now, actions);
    }

    /// PreparingRebalance -> Empty.
    fn become_empty(&mut self, actions: &mut Vec<Action>) {
        self.generation = self.next_generation();
        self.protocol = None;
        self.leader = None;
        self.state = State::Empty;
        self.phase = Phase::Idle;
        actions.push(Action::Keep(self.snapshot()));
        actions.push(Action::BecameEmpty);
    }

    fn next_generation(&self) -> i32 {
        self.generation.checked_add(1).unwrap_or(1)
    }

    /// The leader stays if it has joined, else the first that has leads. False if nobody has.
    fn elect(&mut self) -> bool {
        let joins = |id: &String| self.members.get(id).is_some_and(Member::joins);
        if self.leader.as_ref().is_some_and(joins) {
            return true;
        }
        let mut members = self.members.iter();
        let first = members.find(|(_, member)| member.joins());
        match first.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Tells all who have joined the new generation.
    fn announce(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let joining = self.members.iter().filter(|(_, member)| member.joins());
        let ids: Vec<String> = joining.map(|(id, _)| id.clone()).collect();
        let answers: Vec<Joined> = ids.iter().map(|id| self.joined(id)).collect();
        for (id, joined) in ids.iter().zip(answers) {
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            if let Waiting::Join(ticket) = member.waiting {
                member.waiting = Waiting::Nothing;
                member.knows_id = true;
                member.owes_sync = true;
                member.extend_session(now);
                actions.push(Action::Joined(ticket, Ok(joined)));
            }
        }
    }

    /// What a member is told of the present generation.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let everybody = || {
            let members = self.members.iter();
            let told = members.map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(&protocol),
            });
            told.collect()
        };
        Joined {
            member_id: id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: if leader == id {
                everybody()
            } else {
                Vec::new()
            },
            leader,
            protocol,
            skip_assignment: false,
        }
    }

    /// The protocol that all know and most like best. A draw is decided by the order of the leader,
    /// or of the first member: always the same way.
    pub(super) fn vote(&self) -> Option<String> {
        let members = || self.members.values();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let order = leader.or_else(|| members().next())?;
        let common = |name: &str| members().all(|member| member.speaks(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in members() {
            let names = member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(best) = names.into_iter().find(|name| common(name)) {
                *votes.entry(best).or_default() += 1;
            }
        }
        let places = order.protocols.iter().enumerate();
        let winner = places.max_by_key(|(place, (name, _))| {
            let count = votes.get(name.as_str()).copied().unwrap_or(0);
            (count, std::cmp::Reverse(*place))
        });
        winner.map(|(_, (name, _))| name.clone())
    }
}
