//! The rules, one by one.

use std::time::Duration;

use atoll_base::clock::monotonic;

use super::*;

struct Bench {
    machine: Delivery,
    now: Instant,
}

fn settings(concurrency: usize, batch: usize) -> Settings {
    Settings {
        concurrency,
        batch,
        policy: Policy {
            attempts: 3,
            ..Policy::default()
        },
    }
}

fn bench(concurrency: usize, batch: usize) -> Bench {
    let mut machine = Delivery::new(settings(concurrency, batch));
    machine.open(0, 0, "");
    Bench {
        machine,
        now: monotonic(),
    }
}

impl Bench {
    /// Records with these keys arrive, from `from` on.
    fn arrive(&mut self, from: i64, keys: &[Option<u64>]) -> Vec<Action> {
        let offsets = from..;
        let records = offsets.zip(keys).map(|(offset, key)| Arrival {
            offset,
            key: *key,
            due: None,
        });
        let records: Vec<_> = records.collect();
        let next = from + records.len() as i64;
        let command = Command::Arrived {
            partition: 0,
            from,
            records,
            next,
        };
        self.machine.apply(command, self.now)
    }

    fn answer(&mut self, flight: u64, outcome: Outcome) -> Vec<Action> {
        let command = Command::Answered {
            flight: Flight(flight),
            outcome,
            dice: 0,
        };
        self.machine.apply(command, self.now)
    }

    fn wait(&mut self, millis: u64) -> Vec<Action> {
        self.now += Duration::from_millis(millis);
        self.machine.apply(Command::Tick, self.now)
    }
}

fn deliver(flight: u64, offsets: &[i64], attempt: u32) -> Action {
    Action::Deliver {
        flight: Flight(flight),
        partition: 0,
        offsets: offsets.to_vec(),
        attempt,
    }
}

fn bury(offset: i64, attempts: u32) -> Action {
    Action::Bury {
        partition: 0,
        offset,
        attempts,
    }
}

const REFUSED: Outcome = Outcome::Refused {
    final_word: false,
    after: None,
};
const UNREACHED: Outcome = Outcome::Unreached { after: None };

#[test]
fn records_of_one_key_go_one_after_the_other_and_others_at_once() {
    let mut it = bench(8, 1);
    let sent = it.arrive(0, &[Some(1), Some(1), Some(2), None, None]);
    let expected = [
        deliver(0, &[0], 1),
        deliver(1, &[2], 1),
        deliver(2, &[3], 1),
        deliver(3, &[4], 1),
    ];
    assert_eq!(sent, expected);
    assert_eq!(it.answer(1, Outcome::Taken), []);
    assert_eq!(it.answer(0, Outcome::Taken), [deliver(4, &[1], 1)]);
}

#[test]
fn no_more_are_under_way_than_is_allowed() {
    let mut it = bench(2, 1);
    assert_eq!(it.arrive(0, &[None; 5]).len(), 2);
    assert_eq!(it.answer(0, Outcome::Taken), [deliver(2, &[2], 1)]);
    assert_eq!(it.machine.in_flight(), 2);
}

#[test]
fn a_record_that_fails_holds_back_its_key_and_nothing_else() {
    let mut it = bench(1, 1);
    it.arrive(0, &[Some(1), Some(1), Some(2)]);
    assert_eq!(it.answer(0, REFUSED), [deliver(1, &[2], 1)]);
    assert_eq!(it.answer(1, Outcome::Taken), []);
    assert_eq!(it.wait(249), []);
    assert_eq!(it.wait(1), [deliver(2, &[0], 2)]);
}

#[test]
fn the_wait_doubles_is_spread_and_heeds_the_service() {
    let policy = Policy::default();
    let wait = |failures, dice| policy.delay(failures, None, dice).as_millis();
    assert_eq!(wait(1, 0), 250);
    assert_eq!(wait(1, 250_000), 500);
    assert_eq!(wait(4, 0), 2000);
    assert_eq!(wait(40, 0), 30_000);
    let patient = policy.delay(1, Some(Duration::from_secs(7)), 0);
    assert_eq!(patient, Duration::from_secs(7));
    let day = policy.delay(1, Some(Duration::from_secs(86_400)), 0);
    assert_eq!(day, Duration::from_secs(3600));
}

#[test]
fn after_the_last_attempt_a_record_is_given_up_and_its_key_goes_on() {
    let mut it = bench(4, 1);
    it.arrive(0, &[Some(1), Some(1)]);
    assert_eq!(it.answer(0, REFUSED), []);
    assert_eq!(it.wait(500), [deliver(1, &[0], 2)]);
    assert_eq!(it.answer(1, REFUSED), []);
    assert_eq!(it.wait(1000), [deliver(2, &[0], 3)]);
    assert_eq!(it.answer(2, REFUSED), [bury(0, 3), deliver(3, &[1], 1)]);
}

#[test]
fn a_final_word_needs_no_more_attempts() {
    let mut it = bench(4, 1);
    it.arrive(0, &[Some(1)]);
    let outcome = Outcome::Refused {
        final_word: true,
        after: None,
    };
    assert_eq!(it.answer(0, outcome), [bury(0, 1)]);
    assert_eq!(it.machine.progress(0), Some((1, String::new())));
}

#[test]
fn while_nobody_answers_no_attempt_counts_and_one_record_at_a_time_tries() {
    let mut it = bench(4, 1);
    it.arrive(0, &[None, None, None]);
    for flight in 0..3 {
        assert_eq!(it.answer(flight, UNREACHED), []);
    }
    assert_eq!(it.wait(99), []);
    assert_eq!(
        it.machine.next_deadline(),
        Some(it.now + Duration::from_millis(1))
    );
    let tried = it.wait(1);
    assert_eq!(tried.len(), 1, "{tried:?}");
    assert_eq!(
        it.machine.next_deadline(),
        None,
        "the probe decides, not the time"
    );
    assert_eq!(it.answer(3, UNREACHED), []);
    assert_eq!(it.wait(199), []);
    let tried = it.wait(1);
    assert!(
        matches!(tried[..], [Action::Deliver { attempt: 1, .. }]),
        "{tried:?}"
    );
    assert_eq!(it.answer(4, Outcome::Taken).len(), 2);
    assert_eq!(it.machine.paused_until(), None);
}

#[test]
fn somebody_who_is_there_again_ends_the_pause() {
    let mut it = bench(4, 1);
    it.arrive(0, &[None, None]);
    it.answer(
        0,
        Outcome::Unreached {
            after: Some(Duration::from_secs(60)),
        },
    );
    it.answer(1, UNREACHED);
    assert_eq!(it.wait(59_999), []);
    assert_eq!(it.machine.apply(Command::Reachable, it.now).len(), 2);
}

#[test]
fn a_batch_holds_what_is_ready_and_keys_stay_in_order() {
    let mut it = bench(1, 3);
    assert_eq!(it.arrive(0, &[Some(1)]), [deliver(0, &[0], 1)]);
    assert_eq!(it.arrive(1, &[Some(2), Some(2), Some(3), Some(3)]), []);
    assert_eq!(it.answer(0, Outcome::Taken), [deliver(1, &[1, 2, 3], 1)]);
    assert_eq!(it.answer(1, Outcome::Taken), [deliver(2, &[4], 1)]);
}

#[test]
fn a_batch_that_fails_is_tried_record_by_record() {
    let mut it = bench(1, 3);
    it.arrive(0, &[None]);
    it.arrive(1, &[None, Some(2), Some(2)]);
    assert_eq!(it.answer(0, Outcome::Taken), [deliver(1, &[1, 2, 3], 1)]);
    assert_eq!(it.answer(1, REFUSED), [deliver(2, &[1], 1)]);
    assert_eq!(it.answer(2, Outcome::Taken), [deliver(3, &[2], 1)]);
    assert_eq!(it.answer(3, REFUSED), []);
    assert_eq!(it.wait(500), [deliver(4, &[2], 2)]);
}

#[test]
fn a_record_of_later_waits_and_holds_nobody_back() {
    let mut it = bench(4, 1);
    let due = it.now + Duration::from_secs(10);
    let records = [(0, Some(due)), (1, None)].map(|(offset, due)| Arrival {
        offset,
        key: Some(1),
        due,
    });
    let command = Command::Arrived {
        partition: 0,
        from: 0,
        records: records.to_vec(),
        next: 2,
    };
    assert_eq!(it.machine.apply(command, it.now), [deliver(0, &[1], 1)]);
    assert_eq!(it.machine.next_deadline(), Some(due));
    it.answer(0, Outcome::Taken);
    assert_eq!(it.wait(9_999), []);
    assert_eq!(it.wait(1), [deliver(1, &[0], 1)]);
}

#[test]
fn after_a_restart_only_what_was_not_done_is_delivered() {
    let mut it = bench(8, 1);
    it.arrive(0, &[None; 6]);
    for flight in [0, 2, 3, 5] {
        it.answer(flight, Outcome::Taken);
    }
    let (offset, metadata) = it.machine.progress(0).unwrap();
    assert_eq!(offset, 1);
    let mut again = bench(8, 1);
    again.machine.open(0, offset, &metadata);
    assert_eq!(again.machine.wants(0), Some(1));
    assert_eq!(again.arrive(1, &[None; 3]), [deliver(0, &[1], 1)]);
    assert_eq!(again.machine.wants(0), Some(4));
    assert_eq!(
        again.arrive(4, &[None; 3]),
        [deliver(1, &[4], 1), deliver(2, &[6], 1)]
    );
    for flight in 0..3 {
        again.answer(flight, Outcome::Taken);
    }
    assert_eq!(again.machine.progress(0), Some((7, String::new())));
}

#[test]
fn what_lies_ahead_and_is_done_is_not_even_read() {
    let mut it = bench(8, 1);
    it.arrive(0, &[None; 6]);
    for flight in 1..6 {
        it.answer(flight, Outcome::Taken);
    }
    let (offset, metadata) = it.machine.progress(0).unwrap();
    let mut again = bench(8, 1);
    again.machine.open(0, offset, &metadata);
    again.arrive(0, &[None]);
    assert_eq!(again.machine.wants(0), Some(6));
}

#[test]
fn what_is_held_goes_when_it_is_let_go() {
    let mut it = bench(8, 1);
    assert_eq!(it.machine.apply(Command::Hold(true), it.now), []);
    assert_eq!(it.arrive(0, &[None]), []);
    assert_eq!(it.machine.next_deadline(), None);
    assert_eq!(it.machine.apply(Command::Hold(false), it.now).len(), 1);
}

#[test]
fn a_replay_begins_anew_and_what_is_under_way_says_nothing() {
    let mut it = bench(8, 1);
    it.arrive(0, &[Some(1), Some(1), None]);
    let command = Command::Rewind {
        partition: 0,
        offset: 0,
    };
    assert_eq!(it.machine.apply(command, it.now), []);
    assert_eq!(it.answer(0, REFUSED), []);
    assert_eq!(it.machine.standing(0), Standing::default());
    assert_eq!(it.arrive(0, &[Some(1), Some(1)]), [deliver(2, &[0], 1)]);
    assert_eq!(it.answer(1, Outcome::Taken), []);
    assert_eq!(it.machine.standing(0).outstanding, 2);
}

#[test]
fn a_replay_of_later_records_leaves_nothing_out_that_was_not_done() {
    let mut it = bench(8, 1);
    it.arrive(0, &[Some(1), Some(1), None, None, None]);
    for flight in [1, 2] {
        it.answer(flight, Outcome::Taken);
    }
    // 0, 1 and 4 are not done; 2 and 3 are. Again from 3 on.
    let command = Command::Rewind {
        partition: 0,
        offset: 3,
    };
    it.machine.apply(command, it.now);
    assert_eq!(it.machine.wants(0), Some(0));
    let sent = it.arrive(0, &[Some(1), Some(1), None, None, None]);
    let sent: Vec<_> = sent.iter().map(|action| format!("{action:?}")).collect();
    assert_eq!(
        sent.len(),
        3,
        "0, 3 and 4; 1 waits for 0, 2 is done: {sent:?}"
    );
}

#[test]
fn a_partition_that_is_another_begins_from_its_start() {
    let mut it = bench(8, 1);
    it.arrive(0, &[None; 5]);
    let command = Command::Restart {
        partition: 0,
        offset: 0,
    };
    it.machine.apply(command, it.now);
    assert_eq!(it.machine.standing(0), Standing::default());
    assert_eq!(it.arrive(0, &[None]).len(), 1);
}

#[test]
fn an_answer_to_a_question_of_before_is_ignored() {
    let mut it = bench(8, 1);
    it.arrive(0, &[None]);
    assert_eq!(it.arrive(0, &[None]), []);
    assert_eq!(it.machine.wants(0), Some(1));
}

#[test]
fn a_mark_that_was_not_kept_is_told_again() {
    let mut it = bench(8, 1);
    it.arrive(0, &[None]);
    assert!(it.machine.progress(0).is_some());
    assert_eq!(it.machine.progress(0), None);
    it.machine.not_kept(0);
    assert!(it.machine.progress(0).is_some());
}

#[test]
fn enough_that_waits_is_enough() {
    let mut it = bench(1, 1);
    it.arrive(0, &vec![None; READ_AHEAD + 1]);
    assert_eq!(it.machine.wants(0), None);
    it.answer(0, Outcome::Taken);
    assert_eq!(it.machine.wants(0), Some(READ_AHEAD as i64 + 1));
}

const BUSY: Outcome = Outcome::Busy {
    after: Some(Duration::from_secs(2)),
};

#[test]
fn a_service_without_time_is_left_alone_and_asked_for_another_key_first() {
    let mut it = bench(1, 1);
    it.arrive(0, &[Some(1), Some(2)]);
    assert_eq!(it.answer(0, BUSY), []);
    assert_eq!(it.wait(1_999), []);
    assert_eq!(it.wait(1), [deliver(1, &[1], 1)]);
    // It has time again: no attempt counts.
    assert_eq!(it.answer(1, Outcome::Taken), [deliver(2, &[0], 1)]);
}

#[test]
fn a_record_that_alone_finds_no_time_holds_back_its_key_and_nothing_else() {
    let mut it = bench(1, 1);
    it.arrive(0, &[Some(1), Some(1), Some(2)]);
    it.answer(0, BUSY);
    it.wait(2_000);
    assert_eq!(it.answer(1, Outcome::Taken), [deliver(2, &[0], 1)]);
    assert_eq!(it.answer(2, BUSY), []);
    assert_eq!((it.machine.paused_until(), it.machine.failing()), (None, 1));
    assert_eq!(it.arrive(3, &[Some(3)]), [deliver(3, &[3], 1)]);
    it.answer(3, Outcome::Taken);
    // It is never given up.
    for flight in 4..20 {
        assert_eq!(it.wait(60_000), [deliver(flight, &[0], 1)]);
        it.machine.taken += 1;
        assert_eq!(it.answer(flight, BUSY), []);
    }
    it.wait(60_000);
    assert_eq!(it.answer(20, Outcome::Taken), [deliver(21, &[1], 1)]);
}

#[test]
fn records_of_a_batch_that_was_refused_wait_as_long_as_the_service_says() {
    let mut it = bench(1, 2);
    it.arrive(0, &[None]);
    it.arrive(1, &[Some(2), Some(3)]);
    it.answer(0, Outcome::Taken);
    let refused = Outcome::Refused {
        final_word: false,
        after: Some(Duration::from_secs(2)),
    };
    assert_eq!(it.answer(1, refused), []);
    assert_eq!(it.wait(1_999), []);
    assert_eq!(it.wait(1), [deliver(2, &[1], 1)]);
    assert_eq!(it.answer(2, Outcome::Taken), [deliver(3, &[2], 1)]);
}
