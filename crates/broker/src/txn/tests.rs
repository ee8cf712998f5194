//! What a coordinator must do, step by step. Crashes at every point are in [`super::simulation`].

use std::time::{Duration, Instant};

use super::*;
use crate::Ticket;

const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    txn: Txn,
    now: Instant,
    tickets: u64,
    actions: Vec<Action>,
}

impl Bench {
    fn new() -> Self {
        let now = atoll_base::clock::monotonic();
        Self {
            txn: Txn::new(Limits::default(), now),
            now,
            tickets: 0,
            actions: Vec::new(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn apply(&mut self, command: Command) {
        self.actions = self.txn.apply(command, self.now);
    }

    fn init(&mut self, given: Option<Producer>) -> Result<Producer, TxnError> {
        let ticket = self.ticket();
        self.apply(Command::Init(Init {
            ticket,
            timeout: MINUTE,
            given,
            fresh_id: 1_000 + self.tickets.cast_signed(),
        }));
        match self.actions.last() {
            Some(Action::Initialized(found, outcome)) if *found == ticket => *outcome,
            other => panic!("no answer but {other:?}"),
        }
    }

    fn done(&self, ticket: Ticket) -> Option<Result<(), TxnError>> {
        self.actions.iter().find_map(|action| match action {
            Action::Done(found, outcome) if *found == ticket => Some(*outcome),
            _ => None,
        })
    }

    fn add(&mut self, producer: Producer, indexes: &[i32]) -> Result<(), TxnError> {
        let ticket = self.ticket();
        let partitions = indexes.iter().map(|index| partition(*index)).collect();
        self.apply(Command::AddPartitions(ticket, producer, partitions));
        self.done(ticket).unwrap()
    }

    fn add_group(&mut self, producer: Producer, group: &str) -> Result<(), TxnError> {
        let ticket = self.ticket();
        self.apply(Command::AddGroup(ticket, producer, group.to_owned()));
        self.done(ticket).unwrap()
    }

    /// None: it is not ended yet.
    fn end(&mut self, producer: Producer, outcome: Outcome) -> Option<Result<(), TxnError>> {
        let ticket = self.ticket();
        self.apply(Command::End(ticket, producer, outcome));
        self.done(ticket)
    }

    fn carried_out(&mut self, producer: Producer) {
        self.apply(Command::CarriedOut(producer));
    }

    fn state(&self) -> State {
        self.txn.held().state
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.apply(Command::Tick);
    }
}

fn partition(index: i32) -> Partition {
    let topic = "orders".to_owned();
    Partition { topic, index }
}

fn fenced(given: i16, current: i16) -> TxnError {
    TxnError::ProducerFenced { given, current }
}

#[test]
fn a_transaction_is_decided_before_it_is_carried_out() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    assert_eq!(producer.epoch, 0);
    bench.add(producer, &[2, 0]).unwrap();
    bench.add_group(producer, "readers").unwrap();
    let ticket = Ticket(99);
    bench.apply(Command::End(ticket, producer, Outcome::Commit));
    let [persist, markers, offsets] = bench.actions.as_slice() else {
        panic!("{:?}", bench.actions);
    };
    let Action::Persist(stored) = persist else {
        panic!("{persist:?}");
    };
    assert_eq!(stored.state, State::PrepareCommit);
    assert_eq!(
        *markers,
        Action::WriteMarkers(producer, Outcome::Commit, vec![partition(0), partition(2)])
    );
    let groups = vec!["readers".to_owned()];
    assert_eq!(
        *offsets,
        Action::ApplyOffsets(producer, Outcome::Commit, groups)
    );
    bench.carried_out(producer);
    assert_eq!(bench.done(ticket), Some(Ok(())));
    assert_eq!(bench.state(), State::CompleteCommit);
    assert!(bench.txn.held().partitions.is_empty());
    assert!(bench.txn.held().groups.is_empty());
}

#[test]
fn everything_that_an_answer_depends_on_is_stored_first() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    assert!(matches!(bench.actions[0], Action::Persist(_)));
    bench.add(producer, &[1]).unwrap();
    assert!(matches!(bench.actions[0], Action::Persist(_)));
    bench.add_group(producer, "g").unwrap();
    assert!(matches!(bench.actions[0], Action::Persist(_)));
    bench.add(producer, &[1]).unwrap();
    assert_eq!(bench.actions.len(), 1, "nothing new, nothing to store");
}

#[test]
fn a_newer_producer_fences_an_older_one() {
    let mut bench = Bench::new();
    let old = bench.init(None).unwrap();
    let new = bench.init(None).unwrap();
    assert_eq!((new.id, new.epoch), (old.id, 1));
    assert_eq!(bench.add(old, &[1]), Err(fenced(0, 1)));
    assert_eq!(bench.add_group(old, "g"), Err(fenced(0, 1)));
    assert_eq!(bench.end(old, Outcome::Commit), Some(Err(fenced(0, 1))));
    let stranger = Producer { id: 5, epoch: 1 };
    assert_eq!(
        bench.add(stranger, &[1]),
        Err(TxnError::InvalidProducerIdMapping(5))
    );
}

#[test]
fn a_newer_producer_aborts_the_transaction_of_an_older_one_first() {
    let mut bench = Bench::new();
    let old = bench.init(None).unwrap();
    bench.add(old, &[1]).unwrap();
    assert_eq!(bench.init(None), Err(TxnError::ConcurrentTransactions));
    let fencing = Producer { epoch: 1, ..old };
    let markers = Action::WriteMarkers(fencing, Outcome::Abort, vec![partition(1)]);
    assert!(bench.actions.contains(&markers));
    assert_eq!(bench.init(None), Err(TxnError::ConcurrentTransactions));
    assert_eq!(bench.end(old, Outcome::Commit), Some(Err(fenced(0, 1))));
    bench.carried_out(fencing);
    assert_eq!(bench.init(None).unwrap().epoch, 2);
}

#[test]
fn a_producer_may_go_on_after_an_error_and_ask_twice() {
    let mut bench = Bench::new();
    let first = bench.init(None).unwrap();
    let second = bench.init(Some(first)).unwrap();
    assert_eq!(second.epoch, 1);
    assert_eq!(bench.init(Some(first)), Ok(second), "the answer was lost");
    let third = bench.init(None).unwrap();
    assert_eq!(third.epoch, 2);
    assert_eq!(bench.init(Some(first)), Err(fenced(0, 2)));
    assert_eq!(bench.init(Some(second)), Err(fenced(1, 2)));
}

#[test]
fn a_producer_may_abort_its_own_transaction_by_asking_again() {
    let mut bench = Bench::new();
    let first = bench.init(None).unwrap();
    bench.add(first, &[1]).unwrap();
    let stale = Producer { id: 77, epoch: 0 };
    assert_eq!(bench.init(Some(stale)), Err(fenced(0, 0)));
    assert_eq!(bench.state(), State::Ongoing, "a stranger aborts nothing");
    let again = bench.init(Some(first));
    assert_eq!(again, Err(TxnError::ConcurrentTransactions));
    let fencing = Producer { epoch: 1, ..first };
    bench.carried_out(fencing);
    assert_eq!(bench.init(Some(first)), Ok(fencing));
}

#[test]
fn a_producer_id_whose_epochs_are_used_up_is_replaced() {
    let mut bench = Bench::new();
    let mut producer = bench.init(None).unwrap();
    while producer.epoch < i16::MAX - 1 {
        producer = bench.init(None).unwrap();
    }
    let next = bench.init(Some(producer)).unwrap();
    assert_ne!(next.id, producer.id);
    assert_eq!(next.epoch, 0);
    assert_eq!(bench.init(Some(producer)), Ok(next), "asked again");
    assert_eq!(
        bench.add(producer, &[1]),
        Err(TxnError::InvalidProducerIdMapping(producer.id))
    );
}

#[test]
fn the_last_epoch_can_still_be_fenced() {
    let mut bench = Bench::new();
    let mut producer = bench.init(None).unwrap();
    while producer.epoch < i16::MAX - 1 {
        producer = bench.init(None).unwrap();
    }
    bench.add(producer, &[1]).unwrap();
    let again = bench.init(Some(producer));
    assert_eq!(again, Err(TxnError::ConcurrentTransactions));
    let epoch = i16::MAX;
    bench.carried_out(Producer { epoch, ..producer });
    assert_eq!(bench.init(Some(producer)), Err(fenced(epoch - 1, epoch)));
    assert_ne!(bench.init(None).unwrap().id, producer.id);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    bench.pass(MINUTE * 5);
    bench.add(producer, &[1]).unwrap();
    bench.pass(MINUTE - Duration::from_millis(1));
    bench.add(producer, &[2]).unwrap();
    assert_eq!(bench.state(), State::Ongoing);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.state(), State::PrepareAbort);
    assert!(matches!(bench.actions[0], Action::Persist(_)));
    assert_eq!(
        bench.end(producer, Outcome::Commit),
        Some(Err(fenced(0, 1)))
    );
    assert_eq!(bench.txn.next_deadline(), None);
}

#[test]
fn an_end_may_be_repeated_but_not_changed() {
    let (commit, abort) = (Outcome::Commit, Outcome::Abort);
    for (first, other) in [(commit, abort), (abort, commit)] {
        let mut bench = Bench::new();
        let producer = bench.init(None).unwrap();
        let never = bench.end(producer, first);
        assert_eq!(never, Some(Err(TxnError::InvalidTxnState(State::Empty))));
        bench.add(producer, &[1]).unwrap();
        assert_eq!(bench.end(producer, first), None);
        let again = bench.end(producer, first);
        assert_eq!(again, Some(Err(TxnError::ConcurrentTransactions)));
        let changed = bench.end(producer, other);
        assert!(matches!(changed, Some(Err(TxnError::InvalidTxnState(_)))));
        let early = bench.add(producer, &[2]);
        assert_eq!(early, Err(TxnError::ConcurrentTransactions));
        bench.carried_out(producer);
        assert_eq!(bench.end(producer, first), Some(Ok(())));
        let changed = bench.end(producer, other);
        assert!(matches!(changed, Some(Err(TxnError::InvalidTxnState(_)))));
        assert_eq!(bench.add(producer, &[2]), Ok(()), "the next begins");
    }
}

#[test]
fn only_what_belongs_to_the_open_transaction_is_written() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    bench.add(producer, &[1]).unwrap();
    bench.add_group(producer, "g").unwrap();
    let check = |bench: &Bench, index| bench.txn.check_partition(producer, &partition(index));
    assert_eq!(check(&bench, 1), Ok(()));
    let ongoing = Err(TxnError::InvalidTxnState(State::Ongoing));
    assert_eq!(check(&bench, 2), ongoing);
    assert_eq!(bench.txn.check_group(producer, "g"), Ok(()));
    assert_eq!(bench.txn.check_group(producer, "h"), ongoing);
    bench.end(producer, Outcome::Commit);
    let late = Err(TxnError::InvalidTxnState(State::PrepareCommit));
    assert_eq!(check(&bench, 1), late);
    assert_eq!(bench.txn.check_group(producer, "g"), late);
    let newer = Producer {
        epoch: 1,
        ..producer
    };
    let unknown = bench.txn.check_partition(newer, &partition(1));
    assert_eq!(unknown, Err(fenced(1, 0)));
}

#[test]
fn a_client_that_left_is_not_answered() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    bench.add(producer, &[1]).unwrap();
    bench.end(producer, Outcome::Commit);
    bench.apply(Command::Gone(Ticket(bench.tickets)));
    bench.carried_out(producer);
    assert!(matches!(bench.actions.as_slice(), [Action::Keep(_)]));
}

#[test]
fn what_others_carried_out_long_ago_ends_nothing() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    bench.add(producer, &[1]).unwrap();
    bench.carried_out(producer);
    assert_eq!(bench.state(), State::Ongoing);
    bench.init(None).unwrap_err();
    bench.carried_out(producer);
    assert_eq!(bench.state(), State::PrepareAbort, "another epoch's");
}

#[test]
fn timeouts_and_groups_have_bounds() {
    let mut bench = Bench::new();
    for timeout in [Duration::ZERO, MINUTE * 15 + Duration::from_millis(1)] {
        bench.apply(Command::Init(Init {
            ticket: Ticket(1),
            timeout,
            given: None,
            fresh_id: 1,
        }));
        let refused = Err(TxnError::InvalidTransactionTimeout(timeout));
        assert_eq!(bench.actions, [Action::Initialized(Ticket(1), refused)]);
    }
    let producer = bench.init(None).unwrap();
    for group in 0..1_000 {
        bench.add_group(producer, &group.to_string()).unwrap();
    }
    assert_eq!(
        bench.add_group(producer, "more"),
        Err(TxnError::PolicyViolation(1_000))
    );
    assert_eq!(bench.add_group(producer, "7"), Ok(()));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten() {
    let mut bench = Bench::new();
    let producer = bench.init(None).unwrap();
    let day = MINUTE * 60 * 24;
    bench.pass(day * 6);
    bench.add(producer, &[1]).unwrap();
    bench.end(producer, Outcome::Commit);
    bench.carried_out(producer);
    bench.pass(day * 6);
    assert!(bench.actions.is_empty());
    bench.pass(day);
    assert_eq!(bench.actions, [Action::Forget]);
    assert_eq!(bench.state(), State::Dead);
    assert_eq!(bench.init(None), Err(TxnError::ConcurrentTransactions));
}

#[test]
fn what_is_stored_is_read_again() {
    let mut bench = Bench::new();
    let first = bench.init(None).unwrap();
    let producer = bench.init(Some(first)).unwrap();
    bench.add(producer, &[3, 1]).unwrap();
    bench.add_group(producer, "g").unwrap();
    for state in [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
    ] {
        let held = bench.txn.held().clone();
        let snapshot = Snapshot { state, ..held };
        let bytes = snapshot.to_bytes();
        assert_eq!(Snapshot::from_bytes(&bytes), Ok(snapshot));
        for end in 0..bytes.len() {
            assert!(Snapshot::from_bytes(&bytes[..end]).is_err());
        }
    }
}
