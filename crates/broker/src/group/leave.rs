//! Members that go: by themselves, by a broken connection, by silence.

use std::time::Instant;

use crate::Ticket;

use super::member::{Member, Waiting};
use super::{Action, Group, GroupError, JoinRefused, Leave, Leaver, Phase};

impl Group {
    pub(super) fn on_leave(&mut self, leave: Leave, now: Instant, actions: &mut Vec<Action>) {
        if let Err(error) = self.refuse_if_dead() {
            actions.push(Action::Left(leave.ticket, Err(error)));
            return;
        }
        let before = self.members.len();
        let leavers = leave.members.iter();
        let outcomes: Vec<_> = leavers.map(|leaver| self.let_go(leaver, actions)).collect();
        let fewer = self.members.len() < before;
        actions.push(Action::Left(leave.ticket, Ok(outcomes)));
        if fewer {
            self.rebalance(now, actions);
        } else {
            self.complete_if_all_here(now, actions);
        }
    }

    fn let_go(&mut self, leaver: &Leaver, actions: &mut Vec<Action>) -> Result<(), GroupError> {
        let id = match (&leaver.instance_id, leaver.member_id.as_str()) {
            // An operator removes a static member by its instance id alone.
            (Some(instance), "") => {
                let owner = self.instances.get(instance).cloned();
                owner.ok_or_else(|| GroupError::UnknownMemberId(String::new()))?
            }
            (None, id) if self.pending.remove(id).is_some() => return Ok(()),
            (instance, id) => {
                self.identify(id, instance.as_deref())?;
                id.to_owned()
            }
        };
        self.remove(&id, actions);
        Ok(())
    }

    /// Removes a member. What follows for the others is the caller's to start.
    pub(super) fn remove(&mut self, id: &str, actions: &mut Vec<Action>) {
        self.dismiss(id, GroupError::UnknownMemberId(id.to_owned()), actions);
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = member.instance_id {
            self.instances.remove(&instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
    }

    /// Answers with this error whatever the member waits for.
    pub(super) fn dismiss(&mut self, id: &str, error: GroupError, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match std::mem::replace(&mut member.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Join(ticket) => {
                let member_id = id.to_owned();
                actions.push(Action::Joined(
                    ticket,
                    Err(JoinRefused { error, member_id }),
                ));
            }
            Waiting::Sync(ticket) => actions.push(Action::Synced(ticket, Err(error))),
        }
    }

    /// The connection of a waiting member is closed. Its session runs again; one that never learned
    /// its id cannot come back under it and goes at once.
    pub(super) fn on_gone(&mut self, ticket: Ticket, now: Instant, actions: &mut Vec<Action>) {
        let waits = |member: &Member| {
            member.waiting == Waiting::Join(ticket) || member.waiting == Waiting::Sync(ticket)
        };
        let found = self.members.iter_mut().find(|(_, member)| waits(member));
        let Some((id, member)) = found else {
            return;
        };
        member.owes_sync |= member.waiting == Waiting::Sync(ticket);
        member.waiting = Waiting::Nothing;
        member.extend_session(now);
        if !member.knows_id && member.instance_id.is_none() {
            let id = id.clone();
            self.remove(&id, actions);
            self.rebalance(now, actions);
        }
    }

    pub(super) fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.pending.retain(|_, until| *until > now);
        let died = self.remove_where(actions, |member| {
            member.session_end().is_some_and(|end| end <= now)
        });
        if died {
            self.rebalance(now, actions);
        } else {
            self.complete_if_all_here(now, actions);
        }
        match self.phase {
            Phase::Initial { at, .. } if at <= now => self.end_initial(now, actions),
            Phase::Joins { until } if until <= now => self.complete_joins(now, actions),
            Phase::Syncs { until } if until <= now => self.end_syncs(now, actions),
            _ => {}
        }
    }

    /// Those that have joined and never asked for their assignment are out: a leader among them
    /// would keep everybody waiting for ever.
    fn end_syncs(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.phase = Phase::Idle;
        if self.remove_where(actions, |member| member.owes_sync) {
            self.rebalance(now, actions);
        }
    }

    /// Whether there were any.
    pub(super) fn remove_where(
        &mut self,
        actions: &mut Vec<Action>,
        out: impl Fn(&Member) -> bool,
    ) -> bool {
        let members = self.members.iter();
        let gone: Vec<String> = members
            .filter(|(_, member)| out(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.remove(id, actions);
        }
        !gone.is_empty()
    }
}
