//! Members that ask for their assignment, and the leader that brings it.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::member::Waiting;
use super::{Action, Group, GroupError, State, Sync, Synced};

impl Group {
    pub(super) fn on_sync(&mut self, sync: Sync, now: Instant, actions: &mut Vec<Action>) {
        let ticket = sync.ticket;
        if let Err(error) = self.try_sync(sync, now, actions) {
            actions.push(Action::Synced(ticket, Err(error)));
        }
    }

    /// On success the ticket was answered, or a member waits under it.
    fn try_sync(
        &mut self,
        sync: Sync,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        self.refuse_if_dead()?;
        let id = sync.member_id.as_str();
        self.check_generation(id, sync.instance_id.as_deref(), sync.generation)?;
        let differs = |named: &Option<String>, held: &Option<String>| {
            named.is_some() && held.is_some() && named != held
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            let kind = self.protocol_type.clone().unwrap_or_default();
            return Err(GroupError::InconsistentGroupProtocol(kind));
        }
        match self.state {
            State::Empty | State::Dead => return Err(GroupError::UnknownMemberId(id.to_owned())),
            State::PreparingRebalance => return Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => {}
        }
        self.dismiss(id, GroupError::RebalanceInProgress, actions);
        let leads = self.leader.as_deref() == Some(id);
        let member = self.member_mut(id)?;
        member.owes_sync = false;
        member.waiting = Waiting::Sync(sync.ticket);
        if leads && self.state == State::CompletingRebalance {
            self.assign(sync.assignments);
            self.state = State::Stable;
        }
        if self.state == State::Stable {
            self.hand_out(now, actions);
        }
        Ok(())
    }

    /// Takes the leader's assignment. Who is not in it gets nothing; names that are no members' are
    /// ignored, because a member may have left while the leader computed.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
    }

    /// Answers all who wait for their assignment.
    fn hand_out(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let protocol_type = self.protocol_type.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        for member in self.members.values_mut() {
            if let Waiting::Sync(ticket) = member.waiting {
                member.waiting = Waiting::Nothing;
                member.extend_session(now);
                let synced = Synced {
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                actions.push(Action::Synced(ticket, Ok(synced)));
            }
        }
    }
}
