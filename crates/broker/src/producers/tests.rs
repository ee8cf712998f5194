//! What a partition must accept, answer and refuse.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000_000);

fn later(span: Duration) -> Timestamp {
    NOW.after(span)
}

/// A log that checks, and appends what is accepted.
struct Log {
    producers: Producers,
    end: i64,
    headers: Vec<Header>,
}

impl Log {
    fn new() -> Self {
        Self {
            producers: Producers::new(Limits::default()),
            end: 100,
            headers: Vec::new(),
        }
    }

    fn write(&mut self, claim: Claim) -> Result<Verdict, Refused> {
        let verdict = self.producers.check(&claim)?;
        if verdict == Verdict::Accept {
            let batch = Appended {
                producer_id: claim.producer_id,
                epoch: claim.epoch,
                base_sequence: claim.base_sequence,
                base_offset: self.end,
                last_offset: self.end + i64::from(claim.record_count) - 1,
                transactional: claim.transactional,
                at: NOW,
            };
            self.append(batch, false);
        }
        Ok(verdict)
    }

    fn append(&mut self, batch: Appended, control: bool) {
        let header = Header { batch, control };
        self.producers.observe(&header);
        self.headers.push(header);
        self.end = batch.last_offset + 1;
    }

    fn mark(&mut self, producer_id: i64, epoch: i16) {
        let batch = Appended {
            producer_id,
            epoch,
            base_sequence: -1,
            base_offset: self.end,
            last_offset: self.end,
            transactional: true,
            at: NOW,
        };
        self.append(batch, true);
    }
}

/// Three records of producer 7.
fn claim(epoch: i16, base_sequence: i32) -> Claim {
    Claim {
        producer_id: 7,
        epoch,
        base_sequence,
        record_count: 3,
        transactional: false,
    }
}

fn out_of_order(given: i32, expected: i32) -> Result<Verdict, Refused> {
    Err(Refused::OutOfOrderSequenceNumber {
        producer_id: 7,
        given,
        expected,
    })
}

#[test]
fn batches_follow_each_other_without_a_gap() {
    let mut log = Log::new();
    assert_eq!(log.write(claim(0, 0)), Ok(Verdict::Accept));
    assert_eq!(log.write(claim(0, 6)), out_of_order(6, 3));
    assert_eq!(log.write(claim(0, 3)), Ok(Verdict::Accept));
}

#[test]
fn one_of_the_last_five_again_is_answered_as_the_first_time() {
    let mut log = Log::new();
    for batch in 0..6 {
        assert_eq!(log.write(claim(0, batch * 3)), Ok(Verdict::Accept));
    }
    for batch in 1..6_i32 {
        let first = 100 + i64::from(batch) * 3;
        let written = Written {
            base_offset: first,
            last_offset: first + 2,
            at: NOW,
        };
        let again = log.write(claim(0, batch * 3));
        assert_eq!(again, Ok(Verdict::Duplicate(written)));
    }
    assert_eq!(log.write(claim(0, 0)), out_of_order(0, 18), "too long ago");
    let longer = Claim {
        record_count: 4,
        ..claim(0, 15)
    };
    assert_eq!(log.write(longer), out_of_order(15, 18), "not the same");
}

#[test]
fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
    let mut log = Log::new();
    log.write(claim(4, 0)).unwrap();
    let fenced = Refused::InvalidProducerEpoch {
        producer_id: 7,
        given: 3,
        current: 4,
    };
    assert_eq!(log.write(claim(3, 3)), Err(fenced));
    assert_eq!(log.write(claim(5, 3)), out_of_order(3, 0));
    assert_eq!(log.write(claim(5, 0)), Ok(Verdict::Accept));
    assert_eq!(log.write(claim(5, 3)), Ok(Verdict::Accept));
}

#[test]
fn who_is_not_known_may_begin_anywhere() {
    let mut log = Log::new();
    assert_eq!(log.write(claim(2, 500)), Ok(Verdict::Accept));
    assert_eq!(log.write(claim(2, 500 + 4)), out_of_order(504, 503));
}

#[test]
fn sequence_numbers_start_again_after_the_greatest() {
    let mut log = Log::new();
    assert_eq!(log.write(claim(0, i32::MAX - 1)), Ok(Verdict::Accept));
    assert_eq!(log.write(claim(0, 1)), Ok(Verdict::Accept), "MAX-1, MAX, 0");
    assert_eq!(sequence_after(i32::MAX, 0), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 0), i32::MAX);
}

#[test]
fn a_marker_of_a_newer_epoch_fences_and_one_of_the_same_lets_it_go_on() {
    let mut log = Log::new();
    let transactional = |epoch, sequence| Claim {
        transactional: true,
        ..claim(epoch, sequence)
    };
    log.write(transactional(0, 0)).unwrap();
    log.mark(7, 0);
    assert_eq!(log.write(transactional(0, 3)), Ok(Verdict::Accept));
    log.mark(7, 1);
    let fenced = log.write(transactional(0, 6));
    assert!(matches!(fenced, Err(Refused::InvalidProducerEpoch { .. })));
    assert_eq!(log.write(transactional(1, 6)), out_of_order(6, 0));
    assert_eq!(log.write(transactional(1, 0)), Ok(Verdict::Accept));
}

#[test]
fn a_marker_alone_does_not_tell_the_sequence() {
    let mut log = Log::new();
    log.mark(7, 3);
    assert_eq!(log.write(claim(3, 42)), Ok(Verdict::Accept));
}

#[test]
fn what_is_not_known_of_a_producer_is_not_known_after_a_restart() {
    let mut log = Log::new();
    log.mark(7, 3);
    let bytes = log.producers.snapshot(101);
    (log.producers, _) = Producers::restore(Limits::default(), &bytes).unwrap();
    assert_eq!(log.write(claim(3, 42)), Ok(Verdict::Accept));
    let zombie = log.write(claim(2, 0));
    assert!(matches!(zombie, Err(Refused::InvalidProducerEpoch { .. })));
}

#[test]
fn every_batch_keeps_its_producer_alive() {
    let mut log = Log::new();
    log.write(claim(0, 0)).unwrap();
    let hour = Duration::from_secs(60 * 60);
    let batch = Appended {
        base_sequence: 3,
        at: later(hour),
        ..log.headers[0].batch
    };
    log.append(batch, false);
    assert_eq!(log.producers.expire(later(hour * 24)), 0);
    assert_eq!(log.producers.expire(later(hour * 25)), 1);
}

#[test]
fn nobody_writes_outside_of_an_open_transaction() {
    let mut log = Log::new();
    let inside = Claim {
        transactional: true,
        ..claim(0, 0)
    };
    log.write(inside).unwrap();
    assert_eq!(log.write(claim(0, 3)), Err(Refused::InvalidTxnState(7)));
    log.mark(7, 0);
    assert_eq!(log.write(claim(0, 3)), Ok(Verdict::Accept));
}

#[test]
fn who_was_idle_too_long_is_forgotten_unless_in_a_transaction() {
    let mut log = Log::new();
    log.write(claim(0, 0)).unwrap();
    let inside = Claim {
        producer_id: 8,
        transactional: true,
        ..claim(0, 0)
    };
    log.write(inside).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let almost = later(day - Duration::from_micros(1));
    assert_eq!(log.producers.expire(almost), 0);
    assert_eq!(log.producers.expire(later(day)), 1);
    assert_eq!(log.producers.len(), 1);
    assert_eq!(log.write(claim(0, 99)), Ok(Verdict::Accept));
}

#[test]
fn producers_without_number_take_bounded_room_and_the_oldest_go_first() {
    let limits = Limits {
        producers_max: 80,
        ..Limits::default()
    };
    let mut producers = Producers::new(limits);
    for producer_id in 0..10_000 {
        producers.appended(&Appended {
            producer_id,
            epoch: 0,
            base_sequence: 0,
            base_offset: producer_id,
            last_offset: producer_id,
            transactional: producer_id == 3,
            at: later(Duration::from_secs(producer_id.unsigned_abs())),
        });
        assert!(producers.len() <= 80);
    }
    let known = |producer_id| {
        let again = Claim {
            producer_id,
            epoch: 0,
            base_sequence: 0,
            record_count: 1,
            transactional: true,
        };
        producers.check(&again) != Ok(Verdict::Accept)
    };
    assert!(known(9_999) && known(9_930), "the newest are known");
    assert!(known(3), "a transaction is not forgotten");
    assert!(!known(9_800));
}

#[test]
fn batches_without_a_producer_leave_no_trace() {
    let mut log = Log::new();
    let nobody = Claim {
        producer_id: -1,
        epoch: -1,
        base_sequence: -1,
        ..claim(0, 0)
    };
    assert_eq!(log.write(nobody), Ok(Verdict::Accept));
    assert!(log.producers.is_empty());
}

fn any_claim() -> impl Strategy<Value = (Claim, bool)> {
    let numbers = (0..4_i64, 0..3_i16, 0..8_i32, 1..3_i32);
    (numbers, any::<bool>(), any::<bool>()).prop_map(|(numbers, transactional, mark)| {
        let (producer_id, epoch, base_sequence, record_count) = numbers;
        let claim = Claim {
            producer_id,
            epoch,
            base_sequence,
            record_count,
            transactional,
        };
        (claim, mark)
    })
}

proptest! {
    /// A log that was read again, from its beginning or from any snapshot, knows the same.
    #[test]
    fn recovery_knows_what_the_living_knew(
        claims in prop::collection::vec(any_claim(), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut log = Log::new();
        for (claim, mark) in claims {
            let _ = log.write(claim);
            if mark {
                log.mark(claim.producer_id, claim.epoch);
            }
        }
        let cut = cut.index(log.headers.len() + 1);
        let (before, after) = log.headers.split_at(cut);
        let mut early = Producers::new(Limits::default());
        before.iter().for_each(|header| early.observe(header));
        let bytes = early.snapshot(31);
        let (mut restored, next) = Producers::restore(Limits::default(), &bytes).unwrap();
        prop_assert_eq!(next, 31);
        after.iter().for_each(|header| restored.observe(header));
        prop_assert_eq!(&restored.known, &log.producers.known);
    }

    #[test]
    fn damaged_snapshots_are_refused_and_never_panic(
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut log = Log::new();
        log.write(claim(0, 0)).unwrap();
        log.write(claim(0, 3)).unwrap();
        let mut bytes = log.producers.snapshot(5);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Producers::restore(Limits::default(), &bytes).is_err());
        prop_assert!(Producers::restore(Limits::default(), &bytes[..at]).is_err());
    }
}
