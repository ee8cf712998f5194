//! Members that come, come back, or say something new.

use std::time::Instant;

use super::member::{Member, Waiting};
use super::{Action, Group, GroupError, Join, JoinRefused, Joined, Phase, State};

impl Group {
    pub(super) fn on_join(&mut self, join: Join, now: Instant, actions: &mut Vec<Action>) {
        if let Err(error) = self.try_join(&join, now, actions) {
            let required = error == GroupError::MemberIdRequired;
            let member_id = if required {
                join.fresh_id
            } else {
                join.member_id
            };
            let refused = JoinRefused { error, member_id };
            actions.push(Action::Joined(join.ticket, Err(refused)));
        }
    }

    /// On success the ticket was answered, or a member waits under it.
    fn try_join(
        &mut self,
        join: &Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        self.refuse_if_dead()?;
        let session = join.session_timeout;
        if session < self.limits.session_timeout_min || session > self.limits.session_timeout_max {
            return Err(GroupError::InvalidSessionTimeout(session));
        }
        if !self.understands(join) {
            let kind = self.protocol_type.clone().unwrap_or_default();
            return Err(GroupError::InconsistentGroupProtocol(kind));
        }
        if !join.member_id.is_empty() {
            return self.join_known(join, now, actions);
        }
        let owner = join.instance_id.as_ref();
        match owner.and_then(|instance| self.instances.get(instance)) {
            Some(previous) => {
                let previous = previous.clone();
                self.replace_static(&previous, join, now, actions);
                Ok(())
            }
            None => self.join_first(join, now, actions),
        }
    }

    /// Whether the member can talk with all the others. Its own earlier words do not count.
    fn understands(&self, join: &Join) -> bool {
        let mut others = self
            .members
            .iter()
            .filter(|(id, member)| {
                let same_instance =
                    member.instance_id.is_some() && member.instance_id == join.instance_id;
                **id != join.member_id && !same_instance
            })
            .map(|(_, member)| member)
            .peekable();
        if others.peek().is_none() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let others: Vec<&Member> = others.collect();
        let common = |name: &str| others.iter().all(|member| member.speaks(name));
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| common(name))
    }

    /// A member without an id.
    fn join_first(
        &mut self,
        join: &Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        self.refuse_if_full()?;
        if join.must_know_id && join.instance_id.is_none() {
            self.await_return(join, now);
            return Err(GroupError::MemberIdRequired);
        }
        self.add(&join.fresh_id, join, now, actions);
        Ok(())
    }

    fn refuse_if_full(&self) -> Result<(), GroupError> {
        if self.members.len() >= self.limits.members_max {
            return Err(GroupError::GroupMaxSizeReached(self.limits.members_max));
        }
        Ok(())
    }

    /// Remembers an id that is handed out. If too many are out, the one that ends first is
    /// forgotten: its owner is told so and asks for another.
    fn await_return(&mut self, join: &Join, now: Instant) {
        if self.pending.len() >= self.limits.members_max {
            let first = self.pending.iter().min_by_key(|(_, until)| **until);
            if let Some(id) = first.map(|(id, _)| id.clone()) {
                self.pending.remove(&id);
            }
        }
        self.pending
            .insert(join.fresh_id.clone(), now + join.session_timeout);
    }

    /// A member that names its id.
    fn join_known(
        &mut self,
        join: &Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        let id = &join.member_id;
        if self.pending.contains_key(id) && join.instance_id.is_none() {
            self.refuse_if_full()?;
            self.add(id, join, now, actions);
            return Ok(());
        }
        self.identify(id, join.instance_id.as_deref())?;
        let leads = self.leader.as_ref() == Some(id);
        let member = self.member_mut(id)?;
        let changed = member.protocols != join.protocols;
        // A leader that rejoins a stable group wants a new assignment. Anybody else that says
        // nothing new has only missed its answer.
        let again = match self.state {
            State::Stable => leads || changed,
            State::CompletingRebalance => changed,
            _ => true,
        };
        self.member_mut(id)?.update(join, now);
        if again {
            self.wait_for_join(id, join, actions);
            self.rebalance(now, actions);
        } else {
            let joined = self.joined(id);
            actions.push(Action::Joined(join.ticket, Ok(joined)));
        }
        Ok(())
    }

    /// A new member.
    fn add(&mut self, id: &str, join: &Join, now: Instant, actions: &mut Vec<Action>) {
        self.pending.remove(id);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.members.insert(id.to_owned(), Member::new(join, now));
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.to_owned());
        }
        self.leader.get_or_insert_with(|| id.to_owned());
        if let Phase::Initial { newcomers, .. } = &mut self.phase {
            *newcomers = true;
        }
        self.wait_for_join(id, join, actions);
        self.rebalance(now, actions);
    }

    /// From now on the member waits under the ticket of this join. A request that it sent before
    /// and that is still open gets an answer that makes it try again.
    fn wait_for_join(&mut self, id: &str, join: &Join, actions: &mut Vec<Action>) {
        self.dismiss(id, GroupError::RebalanceInProgress, actions);
        if let Some(member) = self.members.get_mut(id) {
            member.waiting = Waiting::Join(join.ticket);
        }
    }

    /// A static member starts anew under its instance id: it gets a new member id, takes the place
    /// of the old one, and who still speaks under the old id is fenced.
    fn replace_static(
        &mut self,
        previous: &str,
        join: &Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let id = join.fresh_id.as_str();
        let instance = join.instance_id.clone().unwrap_or_default();
        self.dismiss(
            previous,
            GroupError::FencedInstanceId(instance.clone()),
            actions,
        );
        let Some(mut member) = self.members.remove(previous) else {
            return;
        };
        member.update(join, now);
        member.knows_id = false;
        self.members.insert(id.to_owned(), member);
        self.instances.insert(instance, id.to_owned());
        let led = self.leader.as_deref() == Some(previous);
        if led {
            self.leader = Some(id.to_owned());
        }
        if self.state == State::Stable && self.vote() == self.protocol {
            let joined = self.joined_again(previous, led, join);
            actions.push(Action::Joined(join.ticket, Ok(joined)));
            return;
        }
        self.wait_for_join(id, join, actions);
        self.rebalance(now, actions);
    }

    /// The answer to a static member that came back and changes nothing. A leader must not compute
    /// an assignment: newer clients can be told so, older ones are shown their former id as the
    /// leader's and take themselves for followers.
    fn joined_again(&self, previous: &str, led: bool, join: &Join) -> Joined {
        let mut joined = self.joined(&join.fresh_id);
        if led && join.may_skip_assignment {
            joined.skip_assignment = true;
        } else if led {
            previous.clone_into(&mut joined.leader);
            joined.members.clear();
        }
        joined
    }
}
