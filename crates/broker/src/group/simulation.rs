//! Thousands of random lives of a group, in virtual time: members come, die, stall, restart, lose
//! connections and speak of generations long gone. What must hold is checked after every step, and
//! at the end that the group finds its rest.
//!
//! Each life is one seed, so that one that breaks a rule can be lived again: the panic names it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::Ticket;
use crate::dice::Dice;

const SEEDS: u64 = 4_000;
const STEPS: usize = 250;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE_MAX: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    /// Not running.
    Down,
    /// Wants to join.
    Outside,
    /// Waits for the answer to a join or a sync.
    Waiting(Ticket),
    /// Has joined and should fetch its assignment.
    Joined,
    /// Works; heartbeats.
    Working,
}

/// A client that follows the protocol as far as it is alive and not slow.
struct Peer {
    instance_id: Option<String>,
    skips: bool,
    modern: bool,
    member_id: String,
    generation: i32,
    doing: Doing,
    /// What the leader is to assign, if it leads.
    leads_over: Vec<String>,
}

struct World {
    group: Group,
    now: Instant,
    dice: Dice,
    peers: Vec<Peer>,
    /// Which peer had or has a member id.
    owners: BTreeMap<String, usize>,
    /// Requests without an answer: who asks, for which seat, and since when.
    open: BTreeMap<Ticket, (usize, String, Instant)>,
    next_number: u64,
    /// By generation: the seat that leads it.
    leaders: BTreeMap<i32, String>,
    /// By generation: what each seat was assigned.
    assigned: BTreeMap<i32, BTreeMap<String, Bytes>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let peers = (0..2 + dice.below(6)).map(|number| Peer {
            instance_id: dice.once_in(3).then(|| format!("instance-{number}")),
            skips: dice.once_in(2),
            modern: dice.once_in(2),
            member_id: String::new(),
            generation: -1,
            doing: Doing::Down,
            leads_over: Vec::new(),
        });
        let peers = peers.collect();
        let initial_delay = Duration::from_millis(dice.below(3) * 100);
        Self {
            group: Group::new(Limits {
                members_max: 6,
                initial_delay,
                ..Limits::default()
            }),
            now: atoll_base::clock::monotonic(),
            dice,
            peers,
            owners: BTreeMap::new(),
            open: BTreeMap::new(),
            next_number: 0,
            leaders: BTreeMap::new(),
            assigned: BTreeMap::new(),
        }
    }

    /// What stays of a member when it restarts: the instance if it is static, else its id.
    fn seat(&self, member_id: &str) -> String {
        let owner = self.owners.get(member_id).map(|owner| &self.peers[*owner]);
        let instance = owner.and_then(|peer| peer.instance_id.clone());
        instance.unwrap_or_else(|| member_id.to_owned())
    }

    fn fresh(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn ask(&mut self, peer: usize) -> Ticket {
        let ticket = Ticket(self.fresh());
        let seat = self.seat(&self.peers[peer].member_id);
        self.open.insert(ticket, (peer, seat, self.now));
        ticket
    }

    fn apply(&mut self, command: Command) {
        let before = self.group.generation();
        let actions = self.group.apply(command, self.now);
        assert!(self.group.generation() >= before, "generations only grow");
        for action in actions {
            self.perform(action);
        }
        self.check();
    }

    fn answered(&mut self, ticket: Ticket) -> (usize, String) {
        let found = self.open.remove(&ticket);
        let (peer, seat, _) = found.unwrap_or_else(|| panic!("{ticket:?} answered twice"));
        (peer, seat)
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Joined(ticket, outcome) => {
                let (peer, _) = self.answered(ticket);
                let waits = self.peers[peer].doing == Doing::Waiting(ticket);
                match outcome {
                    Ok(joined) => self.on_joined(peer, waits, joined),
                    Err(refused) if waits => self.on_refused(peer, refused),
                    Err(_) => {}
                }
            }
            Action::Synced(ticket, outcome) => {
                let (peer, seat) = self.answered(ticket);
                let waits = self.peers[peer].doing == Doing::Waiting(ticket);
                match outcome {
                    Ok(synced) => self.on_synced(peer, &seat, waits, &synced.assignment),
                    Err(error) if waits => self.on_error(peer, &error),
                    Err(_) => {}
                }
            }
            Action::Left(ticket, _) => {
                self.answered(ticket);
            }
            Action::Keep(snapshot) => assert_eq!(snapshot.generation, self.group.generation()),
            Action::BecameEmpty => assert_eq!(self.group.state(), State::Empty),
        }
    }

    fn on_joined(&mut self, peer: usize, waits: bool, joined: Joined) {
        assert_eq!(joined.generation, self.group.generation());
        let leader = self.seat(&joined.leader);
        let known = self.leaders.entry(joined.generation);
        let first = known.or_insert_with(|| leader.clone());
        assert_eq!(
            *first, leader,
            "one leader in generation {}",
            joined.generation
        );
        if !joined.members.is_empty() {
            let told = self.seat(&joined.member_id);
            assert_eq!(leader, told, "only the leader is told of the others");
        }
        if !waits {
            return;
        }
        let skips = joined.skip_assignment;
        let told = joined.members.into_iter().map(|member| member.member_id);
        let peer = &mut self.peers[peer];
        peer.leads_over = if skips { Vec::new() } else { told.collect() };
        peer.member_id = joined.member_id;
        peer.generation = joined.generation;
        peer.doing = Doing::Joined;
    }

    fn on_refused(&mut self, peer: usize, refused: JoinRefused) {
        if refused.error == GroupError::MemberIdRequired {
            self.peers[peer].member_id = refused.member_id;
            self.peers[peer].doing = Doing::Outside;
        } else {
            self.on_error(peer, &refused.error);
        }
    }

    fn on_synced(&mut self, peer: usize, seat: &str, waits: bool, assignment: &Bytes) {
        let generation = self.group.generation();
        let planned = self.assigned[&generation].get(seat);
        assert_eq!(
            assignment,
            planned.unwrap_or(&Bytes::new()),
            "what the leader of {generation} said"
        );
        if waits {
            self.peers[peer].doing = Doing::Working;
        }
    }

    fn on_error(&mut self, peer: usize, error: &GroupError) {
        let peer = &mut self.peers[peer];
        peer.doing = Doing::Outside;
        match error {
            GroupError::UnknownMemberId(_) | GroupError::IllegalGeneration { .. } => {
                peer.member_id.clear();
            }
            GroupError::FencedInstanceId(_) => {
                peer.doing = Doing::Down;
                peer.member_id.clear();
            }
            GroupError::RebalanceInProgress | GroupError::GroupMaxSizeReached(_) => {}
            other => panic!("{other} is not to be expected here"),
        }
    }

    fn join(&mut self, number: usize) {
        let ticket = self.ask(number);
        let fresh_id = format!("member-{}", self.fresh());
        self.owners.insert(fresh_id.clone(), number);
        let rebalance_timeout = Duration::from_secs(10 + 10 * self.dice.below(4));
        let said = Bytes::from(format!("topics {}", self.dice.below(4)));
        let peer = &mut self.peers[number];
        peer.doing = Doing::Waiting(ticket);
        let join = Join {
            ticket,
            member_id: peer.member_id.clone(),
            fresh_id,
            instance_id: peer.instance_id.clone(),
            must_know_id: peer.modern,
            may_skip_assignment: peer.skips,
            client: Client::default(),
            session_timeout: SESSION,
            rebalance_timeout,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), said)],
        };
        self.apply(Command::Join(join));
    }

    /// The leader forgets somebody now and then.
    fn plan(&mut self, number: usize) -> Vec<(String, Bytes)> {
        let generation = self.peers[number].generation;
        let members = self.peers[number].leads_over.clone();
        let nonce = self.fresh();
        let mut plan = Vec::new();
        let mut by_seat = BTreeMap::new();
        for id in members {
            if !self.dice.once_in(10) {
                let share = Bytes::from(format!("{generation}/{id}/{nonce}"));
                by_seat.insert(self.seat(&id), share.clone());
                plan.push((id, share));
            }
        }
        let stands = self.group.generation() == generation
            && self.group.state() == State::CompletingRebalance
            && self.group.describe().leader.as_ref() == Some(&self.peers[number].member_id);
        if stands {
            self.assigned.insert(generation, by_seat);
        }
        plan
    }

    fn sync(&mut self, number: usize) {
        let ticket = self.ask(number);
        let assignments = self.plan(number);
        let peer = &mut self.peers[number];
        peer.doing = Doing::Waiting(ticket);
        let sync = Sync {
            ticket,
            member_id: peer.member_id.clone(),
            instance_id: peer.instance_id.clone(),
            generation: peer.generation,
            protocol_type: None,
            protocol: Some("range".to_owned()),
            assignments,
        };
        self.apply(Command::Sync(sync));
    }

    fn heartbeat(&mut self, number: usize) {
        let peer = &self.peers[number];
        let instance_id = peer.instance_id.as_deref();
        let outcome = self
            .group
            .heartbeat(&peer.member_id, instance_id, peer.generation, self.now);
        if let Err(error) = outcome {
            self.on_error(number, &error);
        }
    }

    fn leave(&mut self, number: usize) {
        let ticket = self.ask(number);
        let peer = &mut self.peers[number];
        let members = vec![Leaver {
            member_id: std::mem::take(&mut peer.member_id),
            instance_id: peer.instance_id.clone(),
        }];
        peer.doing = Doing::Down;
        self.apply(Command::Leave(Leave { ticket, members }));
    }

    /// The process dies. Its connection may close at once, or stay half open for ever.
    fn die(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        let was = std::mem::replace(&mut peer.doing, Doing::Down);
        if self.dice.once_in(2) {
            peer.member_id.clear();
        }
        if let Doing::Waiting(ticket) = was
            && self.dice.once_in(2)
        {
            self.open.remove(&ticket);
            self.apply(Command::Gone(ticket));
        }
    }

    /// What a healthy client would do next.
    fn proceed(&mut self, number: usize) {
        match self.peers[number].doing {
            Doing::Outside => self.join(number),
            Doing::Joined => self.sync(number),
            Doing::Working => self.heartbeat(number),
            Doing::Down | Doing::Waiting(_) => {}
        }
    }

    fn misbehave(&mut self, number: usize) {
        match self.dice.below(6) {
            0 => self.die(number),
            1 => self.leave(number),
            2 => self.peers[number].generation -= 1,
            // A second request while the first waits: a client that reconnected.
            3 => self.join(number),
            4 if self.peers[number].doing != Doing::Down => self.sync(number),
            _ => self.peers[number].doing = Doing::Outside,
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.group.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.apply(Command::Tick);
            let after = self.group.next_deadline();
            assert!(after.is_none_or(|after| after > self.now), "no idle turns");
        }
        self.now = end;
    }

    fn check(&self) {
        for (ticket, (_, _, since)) in &self.open {
            let age = self.now - *since;
            assert!(age <= REBALANCE_MAX, "{ticket:?} waits for {age:?}");
        }
        let view = self.group.describe();
        assert!(view.members.len() <= 6);
        if view.state == State::Stable {
            let planned = &self.assigned[&view.generation];
            for member in &view.members {
                let seat = self.seat(&member.member_id);
                let share = planned.get(&seat).cloned().unwrap_or_default();
                assert_eq!(member.assignment, share, "as the leader said");
            }
        }
        assert_eq!(view.members.is_empty(), view.state == State::Empty);
    }

    fn step(&mut self) {
        let number = self.dice.below(self.peers.len() as u64) as usize;
        match self.dice.below(10) {
            0 => self.misbehave(number),
            1 => {
                let span = Duration::from_millis(self.dice.below(15_000));
                self.pass(span);
            }
            2 | 3 => {
                let span = Duration::from_millis(self.dice.below(300));
                self.pass(span);
            }
            4 if self.peers[number].doing == Doing::Down => {
                self.peers[number].doing = Doing::Outside;
            }
            _ => self.proceed(number),
        }
    }

    /// Everybody who is up behaves from now on: all of them must come to work in one generation.
    fn calm_down(&mut self) {
        for _ in 0..600 {
            self.pass(Duration::from_millis(500));
            for number in 0..self.peers.len() {
                self.proceed(number);
            }
        }
        let up = self.peers.iter().filter(|peer| peer.doing != Doing::Down);
        let up: Vec<&Peer> = up.collect();
        let working = up.iter().filter(|peer| peer.doing == Doing::Working);
        let generations: BTreeSet<i32> = working.clone().map(|peer| peer.generation).collect();
        assert_eq!(working.count(), up.len().min(6));
        assert!(generations.len() <= 1, "one generation: {generations:?}");
        let stable = self.group.state() == State::Stable;
        assert_eq!(stable, !up.is_empty());
        assert_eq!(self.group.describe().members.len(), up.len().min(6));
    }

    /// Nobody speaks any more: every question is answered and the group is empty.
    fn fall_silent(&mut self) {
        self.pass(Duration::from_secs(3_600));
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        assert_eq!(self.group.state(), State::Empty);
        assert_eq!(self.group.next_deadline(), None);
    }
}

#[test]
fn no_order_of_events_breaks_a_group() {
    for seed in 0..SEEDS {
        let lived = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            if seed % 2 == 0 {
                world.calm_down();
            }
            world.fall_silent();
            world.leaders.len()
        });
        match lived {
            Ok(generations) => assert!(generations < STEPS),
            Err(panic) => {
                eprintln!("in the life of seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
