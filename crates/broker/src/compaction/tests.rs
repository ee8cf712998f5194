//! Any log, with transactions, producers and compressions, is compacted; readers of all kinds see the
//! same last record of each key, and what is rebuilt from the log is as before.

use std::collections::{BTreeMap, HashMap};

use atoll_store::log::batch::set_base_offset;
use proptest::prelude::*;

use super::*;
use crate::open_txns::OpenTxns;
use crate::producers::{self, Appended, Claim, Limits, Producers};
use crate::records::{BatchBuilder, Compression, NewRecord, Options, control_batch};
use crate::txn::{Outcome, Producer};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Keys and values of a batch.
type Pairs = Vec<(u8, Option<u8>)>;

#[derive(Clone, Debug)]
enum Op {
    /// Producers: 0 none, 1 and 2 in transactions, 3 with numbers only.
    Data(u8, Pairs, usize),
    End(u8, bool),
}

/// A log as the partition holds it.
#[derive(Clone, Default, Debug)]
struct World {
    batches: Vec<Bytes>,
    next: i64,
    sequences: HashMap<u8, i32>,
}

/// What is known of its producers and transactions.
struct Sum {
    producers: Producers,
    open: OpenTxns,
}

/// A record that a reader sees: offset, key, value, time.
type Seen = (i64, Bytes, Option<Bytes>, i64);

/// The records of a batch.
fn all(header: &Header, batch: &Bytes) -> Vec<Record> {
    sound(header, batch).unwrap().map(Result::unwrap).collect()
}

fn head(batch: &Bytes) -> Header {
    Header::verify(batch).unwrap()
}

fn producer(id: u8) -> Producer {
    Producer {
        id: i64::from(id),
        epoch: 0,
    }
}

impl World {
    fn of(ops: &[Op]) -> Self {
        let mut own = Self::default();
        ops.iter().for_each(|op| own.apply(op));
        own
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Data(id, pairs, codec) => {
                let sequence = self.sequences.entry(*id).or_default();
                let mut batch = BatchBuilder::new(Options {
                    compression: CODECS[*codec],
                    producer: (*id > 0).then(|| (producer(*id), *sequence)),
                    transactional: matches!(id, 1 | 2),
                    ..Options::default()
                });
                for (number, (key, value)) in pairs.iter().enumerate() {
                    let record = NewRecord {
                        // Not in order.
                        timestamp: self.next * 10 - i64::try_from(number).unwrap(),
                        key: Some(&[*key]),
                        value: value.as_ref().map(std::slice::from_ref),
                        headers: &[("h", Some(b"x"))],
                    };
                    batch.push(&record).unwrap();
                }
                *sequence += i32::try_from(pairs.len()).unwrap();
                self.push(&batch.finish().unwrap());
            }
            Op::End(id, commits) => {
                let outcome = if *commits {
                    Outcome::Commit
                } else {
                    Outcome::Abort
                };
                self.push(&control_batch(producer(*id), outcome, self.next * 10));
            }
        }
    }

    fn push(&mut self, batch: &Bytes) {
        let mut batch = batch.to_vec();
        set_base_offset(&mut batch, self.next);
        let batch = Bytes::from(batch);
        self.next = head(&batch).next_offset();
        self.batches.push(batch);
    }

    /// As it is rebuilt from the log, transactions from a snapshot of this offset on.
    fn sum(&self, snapshot: Option<&[u8]>) -> Sum {
        let (open, from) = snapshot.map_or((OpenTxns::new(0), 0), |bytes| {
            OpenTxns::restore(bytes).unwrap()
        });
        let producers = Producers::new(Limits::default());
        let mut own = Sum { producers, open };
        for batch in &self.batches {
            own.observe(batch, from);
        }
        own.open.durable(self.next);
        own
    }

    /// The transactions before an offset.
    fn snapshot(&self, at: i64) -> Vec<u8> {
        let mut before = self.clone();
        before.batches.retain(|own| head(own).base_offset < at);
        before.next = at;
        before.sum(None).open.snapshot(at)
    }

    /// What a reader of committed records sees that begins at an offset.
    fn read(&self, open: &OpenTxns, from: i64) -> Vec<Seen> {
        let (mut seen, mut dropping) = (Vec::new(), HashSet::new());
        let stable = open.last_stable();
        let mut lists = open.aborted(from, stable);
        lists.sort_by_key(|own| own.first_offset);
        let mut lists = lists.into_iter().peekable();
        for batch in &self.batches {
            let header = head(batch);
            if header.last_offset() < from || header.next_offset() > stable {
                continue;
            }
            while let Some(own) = lists.next_if(|own| own.first_offset <= header.last_offset()) {
                dropping.insert(own.producer_id);
            }
            if header.is_control() {
                if mark_of(&header, batch) == Some(Outcome::Abort) {
                    dropping.remove(&header.producer_id);
                }
                continue;
            }
            if header.is_transactional() && dropping.contains(&header.producer_id) {
                continue;
            }
            let records = all(&header, batch).into_iter();
            seen.extend(records.filter(|own| own.offset >= from).map(|own| {
                assert_eq!(own.headers.len(), 1);
                (own.offset, own.key.unwrap(), own.value, own.timestamp)
            }));
        }
        seen
    }

    /// A run over the first `finished` batches.
    fn compact(&mut self, sum: &Sum, run: &Run) -> Found {
        let aborts = Aborts::new(sum.open.aborted_spans());
        let mut survey = Survey::new(run.from, run.keys_max, aborts);
        for batch in &self.batches {
            let header = head(batch);
            if header.next_offset() > sum.open.last_stable() {
                break;
            }
            if header.last_offset() >= run.from && !survey.note(&header, batch) {
                break;
            }
        }
        let known = Known {
            producers: sum.producers.last_batches().collect(),
            snapshot: run.snapshot,
            finished: run.finished,
            horizon: run.horizon,
            files: vec![0],
            partial: run.partial,
        };
        let mut plan = Plan::new(survey, known);
        let mut left = Vec::new();
        for batch in std::mem::take(&mut self.batches) {
            if head(&batch).base_offset >= run.finished {
                left.push(batch);
                continue;
            }
            match plan.decide(&batch) {
                Rewrite::Keep => left.push(batch),
                Rewrite::Drop => {}
                Rewrite::Stop => panic!("a plan goes to the end"),
                Rewrite::Replace(new) => {
                    replaces(&batch, &new);
                    left.push(new);
                }
            }
        }
        self.batches = left;
        let found = plan.finish();
        assert_eq!(found.unreadable, None);
        found
    }
}

/// What one batch may be in the place of another.
fn replaces(old: &Bytes, new: &Bytes) {
    let (was, is) = (head(old), head(new));
    let told = |own: &Header| {
        let producer = (own.producer_id, own.producer_epoch, own.base_sequence);
        (own.base_offset, own.last_offset_delta, producer)
    };
    assert_eq!(told(&was), told(&is));
    assert!(is.records < was.records);
    let latest = all(&is, new).iter().map(|own| own.timestamp).max();
    assert_eq!(is.max_timestamp, latest.unwrap_or(-1));
    if is.records > 0 {
        assert_eq!(is.attributes, was.attributes);
        assert_eq!(is.base_timestamp, was.base_timestamp);
    } else {
        assert_eq!(is.attributes, was.attributes & !7);
        assert_eq!(new.len(), 61);
    }
}

struct Run {
    from: i64,
    keys_max: usize,
    finished: i64,
    snapshot: i64,
    horizon: i64,
    partial: bool,
}

impl Sum {
    fn observe(&mut self, batch: &Bytes, from: i64) {
        let header = head(batch);
        if header.producer_id < 0 {
            return;
        }
        self.producers.observe(&producers::Header {
            batch: Appended {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                transactional: header.is_transactional(),
                at: atoll_base::Timestamp::from_micros(0),
            },
            control: header.is_control(),
        });
        if header.base_offset < from {
            return;
        }
        if let Some(outcome) = header
            .is_control()
            .then(|| mark_of(&header, batch).unwrap())
        {
            self.open
                .end(header.producer_id, outcome, header.base_offset);
        } else if header.is_transactional() {
            self.open.begin(header.producer_id, header.base_offset);
        }
    }

    /// What a producer gets as an answer to its next batch, and to one that leaves out a record.
    fn answers(&self, world: &World) -> Vec<String> {
        let claims = world.sequences.iter().flat_map(|(id, next)| {
            [0, 1].map(|more| Claim {
                producer_id: i64::from(*id),
                epoch: 0,
                base_sequence: next + more,
                record_count: 1,
                transactional: matches!(id, 1 | 2),
            })
        });
        let answers = claims.map(|claim| format!("{:?}", self.producers.check(&claim)));
        answers.collect()
    }
}

fn latest(seen: &[Seen]) -> BTreeMap<Bytes, Bytes> {
    let mut found = BTreeMap::new();
    for (_, key, value, _) in seen {
        match value {
            Some(value) => found.insert(key.clone(), value.clone()),
            None => found.remove(key),
        };
    }
    found
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pairs =
        proptest::collection::vec((0..6_u8, proptest::option::weighted(0.7, 0..9_u8)), 1..4);
    let data =
        (0..4_u8, pairs, 0..CODECS.len()).prop_map(|(id, own, codec)| Op::Data(id, own, codec));
    let end = (1..3_u8, any::<bool>()).prop_map(|(id, commits)| Op::End(id, commits));
    proptest::collection::vec(prop_oneof![3 => data, 2 => end], 1..40)
}

fn boundary(world: &World, at: prop::sample::Index) -> i64 {
    let bases: Vec<_> = world
        .batches
        .iter()
        .map(|own| head(own).base_offset)
        .collect();
    *at.get(&[bases, vec![world.next]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn readers_and_producers_find_what_they_had(
        ops in ops(),
        finished: prop::sample::Index,
        snapshot: prop::sample::Index,
        cut: prop::sample::Index,
        cleaned: prop::sample::Index,
        late: prop::sample::Index,
    ) {
        let before = World::of(&ops);
        let mut after = before.clone();
        let sum = before.sum(None);
        let finished = boundary(&before, finished);
        let at = boundary(&before, snapshot);
        let kept = before.snapshot(at);
        let young = boundary(&before, cleaned);
        let run = Run { snapshot: at, finished, horizon: young, ..everything(&before) };
        let end = after.compact(&sum, &run).end;
        prop_assert_eq!(end, sum.open.last_stable());

        // Who reads from anywhere sees records of before, in order, and the last of each key.
        let truth = before.read(&sum.open, 0);
        for from in 0..=before.next {
            let had: Vec<_> = truth.iter().filter(|own| own.0 >= from).cloned().collect();
            let seen = after.read(&sum.open, from);
            let mut rest = had.iter();
            prop_assert!(seen.iter().all(|own| rest.any(|had| had == own)), "{seen:?} of {had:?}");
            prop_assert_eq!(latest(&seen), latest(&had), "from {}", from);
            let untouched = |own: &&Seen| own.0 >= finished.min(end);
            prop_assert_eq!(
                seen.iter().filter(untouched).collect::<Vec<_>>(),
                had.iter().filter(untouched).collect::<Vec<_>>()
            );
        }
        let mut keys = HashSet::new();
        for (offset, key, value, _) in after.read(&sum.open, 0) {
            prop_assert!(offset >= finished.min(end) || keys.insert(key));
            prop_assert!(value.is_some() || offset >= finished.min(end) || offset >= young);
        }
        // What is known of producers and transactions is what the log says, also with a snapshot.
        for snapshot in [None, Some(&kept[..])] {
            let (was, is) = (before.sum(snapshot), after.sum(snapshot));
            prop_assert_eq!(was.answers(&before), is.answers(&before));
            prop_assert_eq!(
                was.open.open().map(|own| own.0).collect::<Vec<_>>(),
                is.open.open().map(|own| own.0).collect::<Vec<_>>()
            );
            prop_assert_eq!(was.open.last_stable(), is.open.last_stable());
            prop_assert_eq!(after.read(&is.open, 0), after.read(&sum.open, 0));
        }
        // The end is where it was: a reader comes to it.
        if finished > 0 && finished == before.next {
            prop_assert_eq!(after.batches.last().map(|own| head(own).next_offset()), Some(finished));
        }
        // After a crash some files are as before.
        let cut = boundary(&before, cut);
        let mut mixed = after.clone();
        mixed.batches.retain(|own| head(own).base_offset < cut);
        let rest = before.batches.iter().filter(|own| head(own).base_offset >= cut);
        mixed.batches.extend(rest.cloned());
        for snapshot in [None, Some(&kept[..])] {
            let is = mixed.sum(snapshot);
            prop_assert_eq!(is.open.last_stable(), sum.open.last_stable());
            prop_assert_eq!(latest(&mixed.read(&is.open, 0)), latest(&truth));
            prop_assert_eq!(is.answers(&before), sum.answers(&before));
        }
        let once = after.batches.clone();
        after.compact(&sum, &run);
        prop_assert_eq!(&once, &after.batches, "a second run changes nothing");

        // What the first run has cleaned is old by now; who began to read between the two and is slow,
        // or before the first one and it took no tombstones, learns of each deletion nevertheless.
        let mut first = before.clone();
        let none = Run { horizon: i64::MIN, snapshot: at, finished, ..everything(&before) };
        let end = first.compact(&sum, &none).end;
        let mut second = first.clone();
        second.compact(&sum, &Run { horizon: end.min(finished), snapshot: at, finished, ..everything(&before) });
        let late = boundary(&before, late);
        for (one, other) in [(&before, &first), (&first, &second)] {
            let mut seen = one.read(&sum.open, 0);
            seen.retain(|own| own.0 < late);
            seen.extend(other.read(&sum.open, late));
            prop_assert_eq!(latest(&seen), latest(&truth), "over at {}", late);
        }
    }

    #[test]
    fn aborted_transactions_are_forgotten_in_the_end(
        ops in ops(),
        finished: prop::sample::Index,
        late: prop::sample::Index,
    ) {
        let before = World::of(&ops);
        let mut sum = before.sum(None);
        let truth = before.read(&sum.open, 0);
        let finished = boundary(&before, finished);
        let late = boundary(&before, late);
        let run = |snapshot| Run { finished, snapshot, horizon: i64::MAX, ..everything(&before) };
        let mut one = before.clone();
        let found = one.compact(&sum, &run(before.next));
        for marker in &found.emptied {
            let kept = one.batches.iter().any(|own| head(own).base_offset == *marker);
            prop_assert!(kept, "the mark at {} went while lists tell of it", marker);
        }
        let seen = one.read(&sum.open, 0);
        prop_assert!(seen.iter().all(|own| truth.contains(own)));
        sum.open.forget(&found.emptied);
        prop_assert_eq!(&one.read(&sum.open, 0), &seen, "without the list");
        let mut two = one.clone();
        // There is no snapshot without them yet.
        two.compact(&sum, &run(i64::MIN));
        prop_assert_eq!(&two.batches, &one.batches);
        let kept = sum.open.snapshot(before.next);
        two.compact(&sum, &run(before.next));
        for snapshot in [None, Some(&kept[..])] {
            let is = two.sum(snapshot);
            prop_assert_eq!(&two.read(&is.open, 0), &seen);
            prop_assert_eq!(is.open.last_stable(), sum.open.last_stable());
            prop_assert_eq!(is.answers(&before), sum.answers(&before));
            prop_assert_eq!(two.read(&is.open, late), one.read(&sum.open, late));
        }
        // Nothing of them is left, but where the head of a producer's batch is.
        let heads: Vec<_> = two.batches.iter().map(head).collect();
        for mark in heads.iter().filter(|own| found.emptied.contains(&own.base_offset)) {
            let last = sum.producers.last_batches().find(|own| own.0 == mark.producer_id);
            prop_assert!(last.is_some_and(|own| own.1 <= mark.base_offset));
        }
        let three = two.batches.clone();
        two.compact(&sum, &run(before.next));
        prop_assert_eq!(three, two.batches);
    }

    #[test]
    fn a_small_table_needs_more_runs_and_comes_to_the_same(ops in ops(), keys_max in 1..4_usize) {
        let before = World::of(&ops);
        let sum = before.sum(None);
        let stable = sum.open.last_stable();
        let run = |from, keys_max| Run {
            from,
            keys_max,
            snapshot: 0,
            horizon: i64::MIN,
            ..everything(&before)
        };
        let (mut one, mut many, mut from) = (before.clone(), before.clone(), 0);
        one.compact(&sum, &run(0, 1000));
        while from < stable {
            let end = many.compact(&sum, &run(from, keys_max)).end;
            prop_assert!(end > from);
            from = end;
        }
        prop_assert_eq!(one.batches, many.batches);
    }
}

#[test]
fn a_table_is_never_larger_than_it_may_be() {
    let pairs = (0..5).map(|key| (key, Some(1))).collect();
    let world = World::of(&[Op::Data(0, pairs, 1)]);
    let batch = &world.batches[0];
    for (from, end) in [(0, 2), (2, 4), (4, 5)] {
        let mut survey = Survey::new(from, 2, Aborts::default());
        assert_eq!(survey.note(&head(batch), batch), end == 5);
        assert_eq!(survey.end(), end);
        assert!(survey.latest.len() <= 2);
    }
}

/// The offsets of what is left.
fn offsets(world: &World) -> Vec<(i64, i32)> {
    let heads = world.batches.iter().map(head);
    heads.map(|own| (own.base_offset, own.records)).collect()
}

fn everything(world: &World) -> Run {
    Run {
        from: 0,
        keys_max: 100,
        finished: world.next,
        snapshot: world.next,
        horizon: i64::MAX,
        partial: false,
    }
}

#[test]
fn marks_of_commits_go_and_those_of_aborts_later() {
    let data = |id, key, value| Op::Data(id, vec![(key, Some(value))], 0);
    let mut world = World::of(&[
        data(1, 7, 1),
        Op::End(1, true),
        data(2, 7, 2),
        Op::End(2, false),
        data(1, 8, 3),
        Op::End(1, true),
        data(2, 9, 4),
        Op::End(2, true),
        data(0, 7, 5),
        data(0, 7, 6),
    ]);
    let sum = world.sum(None);
    let mut young = world.clone();
    let run = everything(&world);
    world.compact(&sum, &run);
    // 0 is replaced by 9, 2 was aborted.
    let left = [(3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (9, 1)];
    assert_eq!(offsets(&world), left);
    // So long as a tombstone would it stays, and where not everything is looked at.
    for (horizon, partial, more) in [(1, false, 1), (i64::MAX, true, 1), (2, false, 0)] {
        let run = Run {
            horizon,
            partial,
            ..everything(&young)
        };
        let found = young.compact(&sum, &run);
        assert_eq!(offsets(&young).len(), left.len() + more);
        let emptied = if partial {
            HashSet::new()
        } else {
            HashSet::from([3])
        };
        assert_eq!((found.waiting, found.emptied), (BTreeMap::new(), emptied));
    }
    assert_eq!(offsets(&young), left);
}

#[test]
fn a_mark_stays_while_a_snapshot_needs_it() {
    let data = |id, key| Op::Data(id, vec![(key, Some(1))], 0);
    let ops = [
        data(1, 7),
        Op::End(1, true),
        data(1, 8),
        Op::End(1, true),
        data(0, 7),
    ];
    let before = World::of(&ops);
    let sum = before.sum(None);
    for (at, stays) in [(1, true), (2, false)] {
        let mut world = before.clone();
        let mut run = everything(&world);
        run.snapshot = at;
        world.compact(&sum, &run);
        assert_eq!(offsets(&world).contains(&(1, 1)), stays);
        let rebuilt = world.sum(Some(&before.snapshot(at)));
        assert_eq!(rebuilt.open.last_stable(), world.next);
    }
}

#[test]
fn readers_come_to_the_end_also_when_all_there_goes() {
    let mut world = World::of(&[
        Op::Data(0, vec![(1, Some(1))], 0),
        Op::Data(0, vec![(1, None)], 1),
    ]);
    let sum = world.sum(None);
    let mut run = everything(&world);
    world.compact(&sum, &run);
    assert_eq!(offsets(&world), [(1, 0)]);
    // When something follows it goes, too.
    world.apply(&Op::Data(0, vec![(2, Some(1))], 0));
    run.finished = world.next;
    world.compact(&sum, &run);
    assert_eq!(offsets(&world), [(2, 1)]);
}

#[test]
fn a_tombstone_goes_when_it_was_cleaned_long_ago() {
    let ops = [(1, Some(1)), (1, None), (2, Some(2))].map(|own| Op::Data(0, vec![own], 4));
    let mut world = World::of(&ops);
    let sum = world.sum(None);
    let mut run = everything(&world);
    run.horizon = 1;
    let found = world.compact(&sum, &run);
    assert_eq!((found.end, found.waiting), (3, BTreeMap::from([(0, 1)])));
    assert_eq!(offsets(&world), [(1, 1), (2, 1)]);
    run.horizon = 2;
    // Also when it was compacted before.
    run.from = 3;
    run.partial = true;
    let found = world.compact(&sum, &run);
    assert_eq!((found.end, found.waiting), (3, BTreeMap::new()));
    assert_eq!(offsets(&world), [(2, 1)]);
}

#[test]
fn the_head_of_a_producers_last_batch_stays() {
    let data = |id, key| Op::Data(id, vec![(key, Some(1)), (key, Some(2))], 1);
    let mut world = World::of(&[data(3, 1), data(3, 1), data(0, 1), data(0, 2)]);
    let sum = world.sum(None);
    let run = everything(&world);
    world.compact(&sum, &run);
    assert_eq!(offsets(&world), [(2, 0), (4, 1), (6, 1)]);
    assert_eq!(world.sum(None).answers(&world), sum.answers(&world));
}

#[test]
fn what_has_no_key_goes_and_what_cannot_be_read_stays() {
    let mut world = World::of(&[Op::Data(0, vec![(1, Some(1))], 0)]);
    let mut keyless = BatchBuilder::new(Options::default());
    keyless.push(&NewRecord::default()).unwrap();
    world.push(&keyless.finish().unwrap());
    world.apply(&Op::Data(0, vec![(1, Some(2))], 0));
    // The checksum holds, and behind the head there are no records.
    let lies = atoll_store::log::batch::sample(1, b"no records", 0);
    world.apply(&Op::Data(0, vec![(3, None)], 0));
    world.push(&lies.into());
    world.apply(&Op::Data(0, vec![(2, None)], 0));
    let mut survey = Survey::new(0, 100, Aborts::default());
    assert!(world.batches.iter().all(|own| survey.note(&head(own), own)));
    let finished = world.next;
    let known = Known {
        finished: finished + 1,
        horizon: i64::MAX,
        ..Known::default()
    };
    let mut plan = Plan::new(survey, known);
    let decided: Vec<_> = world.batches.iter().map(|own| plan.decide(own)).collect();
    use Rewrite::{Drop, Keep};
    // A tombstone before it may go; what one behind it deletes may be in it.
    assert_eq!(decided, [Drop, Drop, Keep, Drop, Keep, Keep]);
    assert_eq!(plan.finish().unreadable, Some((4, 1)));
}

#[test]
fn a_time_that_the_broker_set_stays() {
    let mut world = World::of(&[Op::Data(
        0,
        vec![(1, Some(1)), (2, Some(2)), (1, Some(3))],
        2,
    )]);
    let mut bytes = world.batches[0].to_vec();
    bytes[22] |= 1 << 3;
    let checksum = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    bytes[35..43].copy_from_slice(&99_i64.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    world.batches[0] = bytes.into();
    let (mut survey, batch) = (
        Survey::new(0, 9, Aborts::default()),
        world.batches[0].clone(),
    );
    survey.note(&head(&batch), &batch);
    let Rewrite::Replace(new) = Plan::new(survey, Known::default()).decide(&batch) else {
        panic!("it was not replaced");
    };
    assert_eq!((head(&new).records, head(&new).max_timestamp), (2, 99));
}
