//! The coordinator of one transactional id: who may write under it, and how its transactions end.
//!
//! A transaction spans partitions and the offsets of groups, and must end the same way everywhere.
//! So its end is decided first, in one durable record, and carried out afterwards: markers go to
//! every partition, offsets are applied or dropped. After a crash the record says what was decided,
//! and carrying it out again harms nothing.
//!
//! ```text
//!         AddPartitions, AddOffsets           EndTxn                       all carried out
//! Empty ──────────────────────────> Ongoing ────────> PrepareCommit|Abort ────────────────> Complete…
//!   ^                                  ^  └ time is up, or another producer:                    │
//!   │ InitProducerId                   │    epoch + 1, PrepareAbort                            │
//!   └──────────────────────────────────┴────────────────────────────────────────────────────────┘
//! ```
//!
//! One producer at a time: InitProducerId raises the epoch, and from then on every request of an
//! older epoch is refused (`ProducerFenced`; the older versions of requests, and Produce, call that
//! `INVALID_PRODUCER_EPOCH`). EndTxn is answered when everything is carried out, not when it is
//! decided, as Kafka does: who has committed then sees it, and its next transaction need not try
//! until this one has ended.
//!
//! Rules for the caller: perform the actions of one command, in order, before it applies the next.
//! What follows an [`Action::Persist`] waits until that is durable; if it fails, the machine must be
//! dropped and restored from what is stored. Any crash in between is then allowed.

mod command;
mod init;
mod outcome;
mod snapshot;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use command::{Command, Init, Partition, Producer};
pub use outcome::{Action, Outcome, TxnError};
pub use snapshot::Snapshot;

use crate::Ticket;

/// What a transactional id may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest a transaction may take. Default 15 min, as in Kafka.
    pub timeout_max: Duration,
    /// After this time without use the id is forgotten. Default 7 days, as in Kafka.
    pub idle: Duration,
    /// The most groups whose offsets one transaction commits. Default 1,000: an application has one.
    pub groups_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_max: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(7 * 24 * 60 * 60),
            groups_max: 1_000,
        }
    }
}

/// Where a transactional id is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// It has a producer, that has not begun a transaction.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The transaction is committed; markers are being written.
    PrepareCommit,
    /// The transaction is aborted; markers are being written.
    PrepareAbort,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
    /// Forgotten. The caller should drop it.
    Dead,
}

/// The coordinator of one transactional id. See the module for its life and its rules.
#[derive(Debug)]
pub struct Txn {
    limits: Limits,
    held: Snapshot,
    /// When it changed last; while a transaction is open: when that began.
    since: Instant,
    /// The EndTxn request that waits for the end.
    waiting: Option<Ticket>,
}

impl Txn {
    /// An id that nobody has used. Nothing of it is stored yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            held: Snapshot::default(),
            since: now,
            waiting: None,
        }
    }

    /// The id as it was stored, and what is still to be carried out. `since`: when it was stored,
    /// or now if that is not known; an open transaction is given its time from then on.
    pub fn restore(limits: Limits, snapshot: Snapshot, since: Instant) -> (Self, Vec<Action>) {
        let txn = Self {
            limits,
            held: snapshot,
            since,
            waiting: None,
        };
        let mut actions = Vec::new();
        txn.carry_out(&mut actions);
        (txn, actions)
    }

    /// Takes one command. The actions are to be performed in order, see the module.
    pub fn apply(&mut self, command: Command, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            Command::Init(init) => {
                let outcome = self.init(&init, now, &mut actions);
                actions.push(Action::Initialized(init.ticket, outcome));
            }
            Command::AddPartitions(ticket, producer, partitions) => {
                let outcome = self.add(producer, partitions, None, now, &mut actions);
                actions.push(Action::Done(ticket, outcome));
            }
            Command::AddGroup(ticket, producer, group) => {
                let outcome = self.add(producer, Vec::new(), Some(group), now, &mut actions);
                actions.push(Action::Done(ticket, outcome));
            }
            Command::End(ticket, producer, outcome) => {
                match self.end(ticket, producer, outcome, &mut actions) {
                    Ok(true) => actions.push(Action::Done(ticket, Ok(()))),
                    Ok(false) => {}
                    Err(error) => actions.push(Action::Done(ticket, Err(error))),
                }
            }
            Command::CarriedOut(producer) => self.on_carried_out(producer, now, &mut actions),
            Command::Gone(ticket) => self.waiting = self.waiting.filter(|held| *held != ticket),
            Command::Tick => self.on_tick(now, &mut actions),
        }
        actions
    }

    /// When it wants its next [`Command::Tick`]. None: it waits for its actions only.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.held.state {
            State::Ongoing => Some(self.since + self.held.timeout),
            State::PrepareCommit | State::PrepareAbort | State::Dead => None,
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                Some(self.since + self.limits.idle)
            }
        }
    }

    /// Whether this producer may write records of its transaction to this partition now. Without
    /// this check a late request could open a transaction that nobody ever ends; the same could one
    /// that is checked here, waits, and reaches the partition after the markers. So the caller puts
    /// it in line for the partition before it applies the next command.
    pub fn check_partition(
        &self,
        producer: Producer,
        partition: &Partition,
    ) -> Result<(), TxnError> {
        self.check_producer(producer)?;
        self.refuse_unless(self.held.partitions.contains(partition))
    }

    /// Whether this producer may commit offsets of this group in its transaction now.
    pub fn check_group(&self, producer: Producer, group: &str) -> Result<(), TxnError> {
        self.check_producer(producer)?;
        self.refuse_unless(self.held.groups.contains(group))
    }

    /// What is held: what a description shows, and what would have to survive a crash now.
    pub fn held(&self) -> &Snapshot {
        &self.held
    }

    /// When it changed last; while a transaction is open: when that began.
    pub fn since(&self) -> Instant {
        self.since
    }

    fn refuse_unless(&self, listed: bool) -> Result<(), TxnError> {
        if listed && self.held.state == State::Ongoing {
            Ok(())
        } else {
            Err(TxnError::InvalidTxnState(self.held.state))
        }
    }

    fn check_producer(&self, given: Producer) -> Result<(), TxnError> {
        let current = self.held.producer;
        match current {
            Some(current) if current == given => Ok(()),
            Some(current) if current.id == given.id => Err(TxnError::ProducerFenced {
                given: given.epoch,
                current: current.epoch,
            }),
            _ => Err(TxnError::InvalidProducerIdMapping(given.id)),
        }
    }

    /// Empty, Complete…, Ongoing -> Ongoing, with more in it.
    fn add(
        &mut self,
        producer: Producer,
        partitions: Vec<Partition>,
        group: Option<String>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), TxnError> {
        self.check_producer(producer)?;
        let begins = match self.held.state {
            State::Empty | State::CompleteCommit | State::CompleteAbort => true,
            State::Ongoing => false,
            State::PrepareCommit | State::PrepareAbort | State::Dead => {
                return Err(TxnError::ConcurrentTransactions);
            }
        };
        let known = partitions
            .iter()
            .all(|one| self.held.partitions.contains(one))
            && group.iter().all(|one| self.held.groups.contains(one));
        if known {
            return Ok(());
        }
        if group.is_some() && self.held.groups.len() >= self.limits.groups_max {
            return Err(TxnError::PolicyViolation(self.limits.groups_max));
        }
        if begins {
            self.since = now;
            self.held.state = State::Ongoing;
        }
        self.held.partitions.extend(partitions);
        self.held.groups.extend(group);
        actions.push(Action::Persist(self.held.clone()));
        Ok(())
    }

    /// Ongoing -> Prepare…. True: it had ended so before. False: the ticket waits.
    fn end(
        &mut self,
        ticket: Ticket,
        producer: Producer,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) -> Result<bool, TxnError> {
        self.check_producer(producer)?;
        match (self.held.state, outcome) {
            (State::Ongoing, _) => {
                self.waiting = Some(ticket);
                self.decide(outcome, actions);
                Ok(false)
            }
            (State::CompleteCommit, Outcome::Commit) | (State::CompleteAbort, Outcome::Abort) => {
                Ok(true)
            }
            (State::PrepareCommit, Outcome::Commit) | (State::PrepareAbort, Outcome::Abort) => {
                Err(TxnError::ConcurrentTransactions)
            }
            (state, _) => Err(TxnError::InvalidTxnState(state)),
        }
    }

    fn decide(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.held.state = match outcome {
            Outcome::Commit => State::PrepareCommit,
            Outcome::Abort => State::PrepareAbort,
        };
        actions.push(Action::Persist(self.held.clone()));
        self.carry_out(actions);
    }

    /// Says what a decided transaction asks for.
    fn carry_out(&self, actions: &mut Vec<Action>) {
        let (Some(outcome), Some(producer)) = (self.decided(), self.held.producer) else {
            return;
        };
        let partitions = self.held.partitions.iter().cloned().collect();
        let groups = self.held.groups.iter().cloned().collect();
        actions.push(Action::WriteMarkers(producer, outcome, partitions));
        actions.push(Action::ApplyOffsets(producer, outcome, groups));
    }

    fn decided(&self) -> Option<Outcome> {
        match self.held.state {
            State::PrepareCommit => Some(Outcome::Commit),
            State::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }

    /// Prepare… -> Complete…. The answer need not wait for the record of it: after a crash the
    /// transaction would be carried out once more, which changes nothing.
    fn on_carried_out(&mut self, producer: Producer, now: Instant, actions: &mut Vec<Action>) {
        let Some(outcome) = self
            .decided()
            .filter(|_| self.held.producer == Some(producer))
        else {
            return;
        };
        self.held.state = match outcome {
            Outcome::Commit => State::CompleteCommit,
            Outcome::Abort => State::CompleteAbort,
        };
        self.held.partitions.clear();
        self.held.groups.clear();
        self.since = now;
        if let Some(ticket) = self.waiting.take() {
            actions.push(Action::Done(ticket, Ok(())));
        }
        actions.push(Action::Keep(self.held.clone()));
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.held.state == State::Ongoing {
            self.fence(None, actions);
        } else {
            self.held.state = State::Dead;
            actions.push(Action::Forget);
        }
    }
}
