//! Transactions over a coordinator that crashes: between any two of its actions, before and after
//! every marker, with and without the lazy writes. Whatever happens, all that was written in one
//! transaction must meet the same fate, and the one that its producer was told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::Ticket;
use crate::dice::Dice;

const PARTITIONS: [i32; 3] = [0, 1, 2];
const GROUP: &str = "readers";

/// One entry of a partition, or of the store of offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    /// Written by this producer in this of its transactions.
    Data(Producer, u32),
    Mark(Producer, Outcome),
}

/// The machine died while it performed an action.
#[derive(Debug)]
struct Crash;

/// A broker with one coordinator, three partitions and a store of offsets.
struct World {
    txn: Txn,
    now: Instant,
    /// What a restart finds.
    stored: Option<Vec<u8>>,
    /// Kept, but not durable yet.
    lazy: Option<Vec<u8>>,
    /// Whether a crash loses what is only kept.
    loses_lazy: bool,
    partitions: BTreeMap<i32, Vec<Entry>>,
    offsets: Vec<Entry>,
    /// How many steps of work are left before the crash. None: no crash.
    steps_left: Option<u32>,
    next_number: u32,
    crashes: u32,
}

impl World {
    fn new(loses_lazy: bool, steps_left: Option<u32>) -> Self {
        let now = atoll_base::clock::monotonic();
        Self {
            txn: Txn::new(Limits::default(), now),
            now,
            stored: None,
            lazy: None,
            loses_lazy,
            partitions: PARTITIONS.map(|index| (index, Vec::new())).into(),
            offsets: Vec::new(),
            steps_left,
            next_number: 0,
            crashes: 0,
        }
    }

    fn fresh(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    fn ticket(&mut self) -> Ticket {
        Ticket(u64::from(self.fresh()))
    }

    /// One piece of work that either happens or does not.
    fn step(&mut self) -> Result<(), Crash> {
        match &mut self.steps_left {
            Some(0) => Err(Crash),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn apply(&mut self, command: Command) -> Result<Vec<Action>, Crash> {
        let actions = self.txn.apply(command, self.now);
        self.perform(actions)
    }

    /// Returns the answers.
    fn perform(&mut self, actions: Vec<Action>) -> Result<Vec<Action>, Crash> {
        let mut answers = Vec::new();
        for action in actions {
            self.step()?;
            match action {
                Action::Persist(snapshot) => {
                    self.lazy = None;
                    self.stored = Some(snapshot.to_bytes());
                }
                Action::Keep(snapshot) => self.lazy = Some(snapshot.to_bytes()),
                Action::WriteMarkers(producer, outcome, partitions) => {
                    for partition in partitions {
                        self.step()?;
                        let log = self.partitions.get_mut(&partition.index).unwrap();
                        log.push(Entry::Mark(producer, outcome));
                    }
                }
                Action::ApplyOffsets(producer, outcome, groups) => {
                    for _ in groups {
                        self.step()?;
                        self.offsets.push(Entry::Mark(producer, outcome));
                    }
                    self.step()?;
                    answers.extend(self.apply(Command::CarriedOut(producer))?);
                }
                answer @ (Action::Initialized(..) | Action::Done(..)) => answers.push(answer),
                Action::Forget => panic!("nobody is idle that long"),
            }
        }
        Ok(answers)
    }

    /// All that was in memory is gone.
    fn restart(&mut self) {
        self.crashes += 1;
        self.steps_left = None;
        let lazy = self.lazy.take();
        if !self.loses_lazy && lazy.is_some() {
            self.stored = lazy;
        }
        let Some(stored) = &self.stored else {
            self.txn = Txn::new(Limits::default(), self.now);
            return;
        };
        let snapshot = Snapshot::from_bytes(stored).unwrap();
        let (txn, actions) = Txn::restore(Limits::default(), snapshot, self.now);
        self.txn = txn;
        let answers = self.perform(actions).expect("it crashes once at a time");
        assert!(answers.is_empty(), "nobody waits after a restart");
    }

    fn init(&mut self) -> Result<Result<Producer, TxnError>, Crash> {
        let ticket = self.ticket();
        let fresh_id = i64::from(self.fresh());
        let answers = self.apply(Command::Init(Init {
            ticket,
            timeout: Duration::from_secs(60),
            given: None,
            fresh_id,
        }))?;
        match answers.as_slice() {
            [Action::Initialized(found, outcome)] if *found == ticket => Ok(*outcome),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, command: impl Fn(Ticket) -> Command) -> Result<Result<(), TxnError>, Crash> {
        let ticket = self.ticket();
        match self.apply(command(ticket))?.as_slice() {
            [Action::Done(found, outcome)] if *found == ticket => Ok(*outcome),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, producer: Producer, number: u32, index: i32) -> Result<(), TxnError> {
        self.txn.check_partition(producer, &partition(index))?;
        let log = self.partitions.get_mut(&index).unwrap();
        log.push(Entry::Data(producer, number));
        Ok(())
    }

    fn commit_offsets(&mut self, producer: Producer, number: u32) -> Result<(), TxnError> {
        self.txn.check_group(producer, GROUP)?;
        self.offsets.push(Entry::Data(producer, number));
        Ok(())
    }

    /// Everything written is decided, the same way everywhere, and as its producer was told.
    fn check(&self, told: &BTreeMap<u32, Outcome>) {
        let mut fates: BTreeMap<u32, Outcome> = BTreeMap::new();
        for log in self.partitions.values().chain([&self.offsets]) {
            for (at, entry) in log.iter().enumerate() {
                let Entry::Data(producer, number) = *entry else {
                    continue;
                };
                let fate = log[at..].iter().find_map(|entry| match *entry {
                    Entry::Mark(by, outcome) if by.id == producer.id => Some(outcome),
                    _ => None,
                });
                let fate = fate.unwrap_or_else(|| panic!("transaction {number} is left open"));
                let first = *fates.entry(number).or_insert(fate);
                assert_eq!(first, fate, "transaction {number} ended in two ways");
            }
        }
        for (number, fate) in fates {
            if let Some(outcome) = told.get(&number) {
                assert_eq!(fate, *outcome, "transaction {number} was told otherwise");
            }
        }
    }

    /// Lets the open transaction run out of time.
    fn run_out(&mut self) {
        self.steps_left = None;
        self.now += Duration::from_secs(61);
        self.apply(Command::Tick).unwrap();
    }
}

fn partition(index: i32) -> Partition {
    let topic = "orders".to_owned();
    Partition { topic, index }
}

/// Clients of the world, and how they were told that their transactions ended.
struct Client<'a> {
    world: &'a mut World,
    told: BTreeMap<u32, Outcome>,
}

impl Client<'_> {
    fn begin(&mut self) -> Result<Producer, Crash> {
        for _ in 0..10 {
            match self.world.init()? {
                Ok(producer) => return Ok(producer),
                Err(TxnError::ConcurrentTransactions) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("a transaction does not end");
    }

    /// One transaction. A crash leaves it where it is.
    fn transact(
        &mut self,
        producer: Producer,
        number: u32,
        outcome: Outcome,
    ) -> Result<Result<(), TxnError>, Crash> {
        for index in [0, 1] {
            let added = vec![partition(index)];
            let added = self
                .world
                .ask(|ticket| Command::AddPartitions(ticket, producer, added.clone()))?;
            if let Err(error) = added.and_then(|()| self.world.write(producer, number, index)) {
                return Ok(Err(error));
            }
        }
        let group = |ticket| Command::AddGroup(ticket, producer, GROUP.to_owned());
        let added = self.world.ask(group)?;
        if let Err(error) = added.and_then(|()| self.world.commit_offsets(producer, number)) {
            return Ok(Err(error));
        }
        self.end(producer, number, outcome)
    }

    fn end(
        &mut self,
        producer: Producer,
        number: u32,
        outcome: Outcome,
    ) -> Result<Result<(), TxnError>, Crash> {
        let end = |ticket| Command::End(ticket, producer, outcome);
        let ended = self.world.ask(end)?;
        if ended.is_ok() {
            self.told.insert(number, outcome);
        }
        Ok(ended)
    }
}

/// Two transactions in a row, with a crash after so many steps. After it the client either asks
/// again for the end, as one does that has lost the connection, or a new one takes its place. True:
/// it came to the crash.
fn two_transactions(outcomes: [Outcome; 2], steps: u32, loses_lazy: bool, persists: bool) -> bool {
    let mut world = World::new(loses_lazy, Some(steps));
    let mut client = Client {
        world: &mut world,
        told: BTreeMap::new(),
    };
    let mut producer = client.begin().unwrap_or_else(|Crash| {
        client.world.restart();
        client.begin().unwrap()
    });
    for (number, outcome) in (0..).zip(outcomes) {
        match client.transact(producer, number, outcome) {
            Ok(ended) => ended.unwrap(),
            Err(Crash) => {
                client.world.restart();
                if persists {
                    // An error means that the transaction was not known: it is not ended then.
                    let _ = client.end(producer, number, outcome).unwrap();
                }
                producer = client.begin().unwrap();
            }
        }
    }
    let told = client.told;
    world.run_out();
    world.check(&told);
    world.crashes > 0
}

#[test]
fn a_crash_between_any_two_actions_ends_well() {
    let (commit, abort) = (Outcome::Commit, Outcome::Abort);
    let pairs = [[commit, abort], [abort, commit], [commit; 2], [abort; 2]];
    let mut cuts = 0;
    for outcomes in pairs {
        for flags in 0..4 {
            let (loses_lazy, persists) = (flags & 1 == 1, flags & 2 == 2);
            let crashed =
                (0..).take_while(|steps| two_transactions(outcomes, *steps, loses_lazy, persists));
            cuts += crashed.count();
        }
    }
    assert!(cuts > 400, "only {cuts} cuts");
}

/// Several clients that fight for one id, in random order, over a broker that crashes.
fn live(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(dice.once_in(2), None);
    let mut client = Client {
        world: &mut world,
        told: BTreeMap::new(),
    };
    let mut producers: [Option<Writer>; 3] = [None; 3];
    for _ in 0..120 {
        if client.world.steps_left.is_none() && dice.once_in(8) {
            client.world.steps_left = Some(u32::try_from(dice.below(12)).unwrap());
        }
        let who = usize::try_from(dice.below(3)).unwrap();
        if act(&mut client, &mut dice, &mut producers[who]).is_err() {
            client.world.restart();
        }
    }
    let told = client.told;
    world.run_out();
    world.check(&told);
}

/// A client that holds the id, or believes so.
#[derive(Clone, Copy)]
struct Writer {
    producer: Producer,
    number: u32,
    /// It has asked for this end and must not go on before it knows.
    ending: Option<Outcome>,
}

fn act(client: &mut Client<'_>, dice: &mut Dice, writer: &mut Option<Writer>) -> Result<(), Crash> {
    let Some(held) = writer else {
        if let Ok(producer) = client.world.init()? {
            *writer = Some(Writer {
                producer,
                number: client.world.fresh(),
                ending: None,
            });
        }
        return Ok(());
    };
    let (id, number) = (held.producer, held.number);
    let index = i32::try_from(dice.below(3)).unwrap();
    let done = match dice.below(8) {
        choice if choice == 4 || held.ending.is_some() => end(client, dice, held)?,
        0 | 1 => {
            let add = |ticket| Command::AddPartitions(ticket, id, vec![partition(index)]);
            client.world.ask(add)?
        }
        2 => {
            let add = |ticket| Command::AddGroup(ticket, id, GROUP.to_owned());
            client.world.ask(add)?
        }
        3 => client.world.commit_offsets(id, number),
        5 if dice.once_in(8) => {
            client.world.now += Duration::from_secs(30);
            client.world.apply(Command::Tick)?;
            Ok(())
        }
        _ => client.world.write(id, number, index),
    };
    match done {
        Err(TxnError::ProducerFenced { .. } | TxnError::InvalidProducerIdMapping(_)) => {
            *writer = None;
        }
        Err(TxnError::PolicyViolation(_) | TxnError::InvalidTransactionTimeout(_)) => {
            panic!("{done:?}");
        }
        _ => {}
    }
    Ok(())
}

/// Asks for the end of the transaction, the same again if the answer was lost.
fn end(
    client: &mut Client<'_>,
    dice: &mut Dice,
    writer: &mut Writer,
) -> Result<Result<(), TxnError>, Crash> {
    let any = [Outcome::Commit, Outcome::Abort][usize::try_from(dice.below(2)).unwrap()];
    let outcome = *writer.ending.get_or_insert(any);
    let ended = client.end(writer.producer, writer.number, outcome)?;
    if ended != Err(TxnError::ConcurrentTransactions) {
        writer.ending = None;
        writer.number = client.world.fresh();
    }
    Ok(ended)
}

#[test]
fn no_order_of_events_and_crashes_breaks_a_transaction() {
    for seed in 0..10_000 {
        if let Err(panic) = std::panic::catch_unwind(|| live(seed)) {
            eprintln!("in the life of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
