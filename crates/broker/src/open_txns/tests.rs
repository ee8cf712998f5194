//! How far readers may read, and what they are told of.

use proptest::prelude::*;

use super::*;

fn aborted(producer_id: i64, first_offset: i64) -> Aborted {
    Aborted {
        producer_id,
        first_offset,
    }
}

/// The picture of the module, all of it durable.
fn pictured() -> OpenTxns {
    let mut txns = OpenTxns::new(0);
    txns.begin(1, 0);
    txns.begin(2, 1);
    txns.begin(1, 2);
    txns.end(1, Outcome::Abort, 3);
    txns.begin(3, 4);
    txns.begin(2, 5);
    txns.end(3, Outcome::Commit, 6);
    txns.begin(2, 7);
    txns.durable(8);
    txns
}

#[test]
fn readers_stop_before_the_oldest_open_transaction() {
    let mut txns = pictured();
    assert_eq!(txns.last_stable(), 1);
    assert_eq!(txns.open().collect::<Vec<_>>(), [(2, 1)]);
    assert!(txns.is_open(2) && !txns.is_open(1));
    txns.end(2, Outcome::Commit, 8);
    txns.durable(9);
    assert_eq!(txns.last_stable(), 9);
}

#[test]
fn a_marker_counts_once_it_is_durable() {
    let mut txns = OpenTxns::new(0);
    txns.begin(1, 0);
    txns.durable(1);
    txns.end(1, Outcome::Commit, 1);
    txns.durable(1);
    assert_eq!(txns.last_stable(), 0, "a crash could take the marker back");
    txns.durable(2);
    assert_eq!(txns.last_stable(), 2);
}

#[test]
fn readers_never_go_beyond_what_is_durable() {
    let mut txns = OpenTxns::new(5);
    txns.begin(1, 7);
    assert_eq!(txns.last_stable(), 5);
    txns.durable(3);
    assert_eq!(txns.last_stable(), 5, "what was durable stays so");
}

#[test]
fn aborted_transactions_are_told_where_they_matter() {
    let txns = pictured();
    assert_eq!(txns.aborted(0, 8), [aborted(1, 0)]);
    assert_eq!(txns.aborted(3, 4), [aborted(1, 0)], "its marker");
    assert_eq!(txns.aborted(4, 8), []);
    assert_eq!(txns.aborted(0, 0), []);
}

#[test]
fn a_marker_without_a_transaction_means_nothing() {
    let mut txns = pictured();
    txns.end(1, Outcome::Abort, 8);
    txns.end(99, Outcome::Abort, 9);
    assert_eq!(txns.aborted(0, 100), [aborted(1, 0)]);
}

#[test]
fn what_lies_before_the_start_is_forgotten() {
    let mut txns = pictured();
    txns.delete_before(3);
    assert_eq!(txns.aborted(0, 8), [aborted(1, 0)], "its marker is there");
    assert_eq!(txns.last_stable(), 3, "never before the start");
    txns.delete_before(4);
    assert_eq!(txns.aborted(0, 8), []);
    txns.delete_before(2);
    assert_eq!(txns.last_stable(), 4);
    let (restored, _) = OpenTxns::restore(&txns.snapshot(8)).unwrap();
    assert_eq!(restored.last_stable(), 4);
}

/// One batch of a log: data of a producer, or the end of its transaction.
#[derive(Clone, Copy, Debug)]
enum Batch {
    Data(i64),
    End(i64, Outcome),
}

fn any_batch() -> impl Strategy<Value = Batch> {
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    prop_oneof![
        3 => (0..5_i64).prop_map(Batch::Data),
        1 => ((0..5_i64), outcome).prop_map(|(producer, outcome)| Batch::End(producer, outcome)),
    ]
}

fn tell(txns: &mut OpenTxns, log: &[Batch], from: usize) {
    for (offset, batch) in (0_i64..).zip(log).skip(from) {
        match *batch {
            Batch::Data(producer) => txns.begin(producer, offset),
            Batch::End(producer, outcome) => txns.end(producer, outcome, offset),
        }
    }
    txns.durable(i64::try_from(log.len()).unwrap());
}

/// What becomes of the record at each offset: None while its transaction is open.
fn fates(log: &[Batch]) -> Vec<Option<Outcome>> {
    let fate = |at: usize| match log[at] {
        Batch::End(..) => Some(Outcome::Commit),
        Batch::Data(producer) => log[at..].iter().find_map(|batch| match *batch {
            Batch::End(ended, outcome) if ended == producer => Some(outcome),
            _ => None,
        }),
    };
    (0..log.len()).map(fate).collect()
}

/// What a client reads of `from..to`: it drops a producer's records from the first offset that it
/// was told, until that producer's abort marker.
fn read_committed(log: &[Batch], from: usize, to: usize, told: &[Aborted]) -> Vec<usize> {
    let mut told = told.to_vec();
    told.sort_by_key(|aborted| aborted.first_offset);
    let mut told = VecDeque::from(told);
    let mut dropping = BTreeSet::new();
    let mut read = Vec::new();
    for (offset, batch) in log.iter().enumerate().take(to).skip(from) {
        while let Some(next) = told
            .front()
            .filter(|next| next.first_offset <= offset as i64)
        {
            dropping.insert(next.producer_id);
            told.pop_front();
        }
        match batch {
            Batch::Data(producer) if !dropping.contains(producer) => read.push(offset),
            Batch::End(producer, Outcome::Abort) => {
                dropping.remove(producer);
            }
            _ => {}
        }
    }
    read
}

proptest! {
    /// A reader reads, wherever it begins, exactly the committed records before the first open one.
    #[test]
    fn a_reader_sees_what_was_committed_and_nothing_else(
        log in prop::collection::vec(any_batch(), 0..60),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let mut txns = OpenTxns::new(0);
        tell(&mut txns, &log, 0);
        let fates = fates(&log);
        let stable = fates.iter().position(Option::is_none).unwrap_or(log.len());
        prop_assert_eq!(usize::try_from(txns.last_stable()).unwrap(), stable);
        let (from, to) = (from.index(stable + 1), to.index(stable + 1));
        let told = txns.aborted(from as i64, to as i64);
        let committed = (from..to).filter(|at| {
            matches!(log[*at], Batch::Data(_)) && fates[*at] == Some(Outcome::Commit)
        });
        prop_assert_eq!(
            read_committed(&log, from, to, &told),
            committed.collect::<Vec<_>>()
        );
        for entry in &told {
            prop_assert!((entry.first_offset as usize) < to);
        }
    }

    #[test]
    fn recovery_knows_what_the_living_knew(
        log in prop::collection::vec(any_batch(), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut living = OpenTxns::new(0);
        tell(&mut living, &log, 0);
        let cut = cut.index(log.len() + 1);
        let mut early = OpenTxns::new(0);
        tell(&mut early, &log[..cut], 0);
        let bytes = early.snapshot(cut as i64);
        let (mut restored, next) = OpenTxns::restore(&bytes).unwrap();
        tell(&mut restored, &log, usize::try_from(next).unwrap());
        prop_assert_eq!(restored.last_stable(), living.last_stable());
        prop_assert_eq!(restored.aborted(0, 100), living.aborted(0, 100));
        prop_assert_eq!(&restored.open, &living.open);
        prop_assert_eq!(restored.snapshot(9), living.snapshot(9));
    }
}
