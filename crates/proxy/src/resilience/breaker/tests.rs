//! Dependencies that fail and recover, in virtual time, and workers that share a breaker.

use std::sync::atomic::AtomicU32;

use proptest::prelude::*;

use super::*;

const SECOND: Millis = 1_000;

fn counts(calls: u32, failures: u32) -> Counts {
    let mut counts = Counts::default();
    (0..calls - failures).for_each(|_| counts.answered(Duration::from_millis(5)));
    (0..failures).for_each(|_| counts.failed(Failure::Timeout));
    counts
}

fn circuit() -> Circuit {
    Circuit::new(BreakerSettings::default())
}

fn opened() -> Circuit {
    let mut circuit = circuit();
    circuit.apply(Command::Counted(counts(20, 20)), 0, 0);
    circuit
}

/// One trial that ends at once.
fn trial(circuit: &mut Circuit, good: bool, now: Millis) -> State {
    assert!(circuit.lend(now), "{:?} at {now}", circuit.state());
    let command = if good {
        Command::TrialSucceeded
    } else {
        Command::TrialFailed(Failure::Broken)
    };
    circuit.apply(command, now, 0)
}

#[test]
fn half_of_twenty_calls_open_it_and_the_reason_can_be_read() {
    let mut circuit = circuit();
    assert_eq!(
        circuit.apply(Command::Counted(counts(19, 19)), 0, 0),
        State::Closed
    );
    let open = circuit.apply(Command::Counted(counts(1, 0)), 500, 0);
    assert_eq!(open, State::Open { until: 5_500 });
    let wall = Timestamp::from_micros(1_763_690_400_000_000);
    assert_eq!(
        circuit.why(500, wall).unwrap().to_string(),
        "19 of 20 calls failed within 10s, last: no answer in time; out until 2025-11-21T02:00:05Z"
    );
}

#[test]
fn when_its_time_is_over_it_is_on_trial_even_if_nobody_calls() {
    let mut circuit = circuit();
    let State::Open { until } = circuit.apply(Command::Counted(counts(20, 20)), 0, 0) else {
        panic!("it opens");
    };
    let wall = Timestamp::from_micros(1_763_690_400_000_000);
    let open_until = |circuit: &Circuit, now| circuit.why(now, wall).unwrap().until;
    assert!(open_until(&circuit, until - 1).is_some());
    assert_eq!(
        open_until(&circuit, until),
        None,
        "the next call is a trial"
    );
    assert!(
        circuit
            .why(until, wall)
            .unwrap()
            .to_string()
            .ends_with("; on trial")
    );
    assert!(circuit.lend(until));
    assert_eq!(open_until(&circuit, until), None, "it is under way");
    circuit.apply(Command::TrialFailed(Failure::Refused), until, 0);
    assert!(open_until(&circuit, until).is_some(), "it is open again");
}

#[test]
fn fewer_than_half_do_not_open_it_nor_do_failures_of_long_ago() {
    let mut closed = circuit();
    for tenth in 0..1_000 {
        let state = closed.apply(Command::Counted(counts(100, 49)), tenth * 100, 0);
        assert_eq!(state, State::Closed);
    }
    let mut slow = circuit();
    for second in 0..100 {
        let state = slow.apply(Command::Counted(counts(1, 1)), second * SECOND, 0);
        assert_eq!(state, State::Closed, "never twenty in ten seconds");
    }
    assert!(slow.why(0, Timestamp::from_micros(0)).is_none());
}

#[test]
fn what_the_service_answers_is_no_failure() {
    let mut circuit = circuit();
    let mut counts = Counts::default();
    (0..1_000).for_each(|_| counts.failed(Failure::Status(500)));
    assert_eq!(circuit.apply(Command::Counted(counts), 0, 0), State::Closed);
    let mut counts = Counts::default();
    (0..1_000).for_each(|_| counts.failed(Failure::Status(503)));
    assert_ne!(circuit.apply(Command::Counted(counts), 0, 0), State::Closed);
}

#[test]
fn three_trials_close_it_and_the_window_is_clean() {
    let mut circuit = opened();
    assert!(!circuit.lend(4_999));
    assert_eq!(
        trial(&mut circuit, true, 5_000),
        State::HalfOpen { lent: false }
    );
    assert!(circuit.lend(5_000));
    assert!(!circuit.lend(5_000), "one at a time");
    let dropped = circuit.apply(Command::TrialDropped, 5_001, 0);
    assert_eq!(dropped, State::HalfOpen { lent: false });
    trial(&mut circuit, true, 5_002);
    assert_eq!(trial(&mut circuit, true, 5_003), State::Closed);
    let counted = circuit.apply(Command::Counted(counts(19, 19)), 5_004, 0);
    assert_eq!(counted, State::Closed, "what was before is forgotten");
    assert!(!circuit.lend(5_004), "no trials while it is closed");
}

#[test]
fn a_failed_trial_opens_it_for_longer_up_to_a_minute() {
    let mut circuit = opened();
    let mut now = 5 * SECOND;
    for pause in [10, 20, 40, 60, 60] {
        trial(&mut circuit, true, now);
        let state = trial(&mut circuit, false, now);
        let until = now + pause * SECOND;
        assert_eq!(state, State::Open { until });
        now = until;
    }
    for _ in 0..3 {
        trial(&mut circuit, true, now);
    }
    // Good for the minute of the last offence: one step down.
    let counted = circuit.apply(Command::Counted(counts(20, 20)), now + 60 * SECOND, 0);
    let until = now + 60 * SECOND + 60 * SECOND;
    assert_eq!(counted, State::Open { until });
}

#[test]
fn late_news_change_nothing() {
    let mut circuit = opened();
    let before = circuit.state();
    assert_eq!(
        circuit.apply(Command::Counted(counts(500, 500)), 1, 0),
        before
    );
    assert_eq!(circuit.apply(Command::TrialSucceeded, 1, 0), before);
    assert_eq!(
        circuit.apply(Command::TrialFailed(Failure::Cut), 1, 0),
        before
    );
    assert!(circuit.lend(5_000));
    let lent = circuit.apply(Command::Counted(counts(500, 500)), 5_000, 0);
    assert_eq!(lent, State::HalfOpen { lent: true });
}

#[test]
fn turned_off_it_closes_and_stays_closed() {
    let off = BreakerSettings {
        enabled: false,
        ..BreakerSettings::default()
    };
    let mut circuit = opened();
    circuit.set(off, 1);
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(
        circuit.apply(Command::Counted(counts(99, 99)), 2, 0),
        State::Closed
    );
}

#[test]
fn workers_pass_are_refused_and_make_trials() {
    let breaker = Breaker::new(BreakerSettings::default());
    assert!(matches!(breaker.admit(0), Admission::Pass));
    assert_eq!(breaker.since(), 0);
    breaker.counted(counts(20, 20), 0, 0);
    let Admission::Refuse(pause) = breaker.admit(1_000) else {
        panic!("it is open")
    };
    assert_eq!(pause, Duration::from_secs(4), "for Retry-After");
    assert!(matches!(breaker.admit(4_999), Admission::Refuse(pause) if pause.as_secs() == 1));
    let Admission::Trial(trial) = breaker.admit(5_000) else {
        panic!("its time is over")
    };
    assert!(
        matches!(breaker.admit(5_000), Admission::Refuse(_)),
        "one at a time"
    );
    drop(trial);
    for _ in 0..3 {
        let Admission::Trial(trial) = breaker.admit(6_000) else {
            panic!("dropped trials are made again")
        };
        trial.failed(Failure::Status(500), 6_000, 0);
    }
    assert!(
        matches!(breaker.admit(6_000), Admission::Pass),
        "500 is an answer"
    );
    assert_eq!(breaker.since(), 6_000);
    assert!(breaker.why(6_000, Timestamp::from_micros(0)).is_none());
}

/// Many threads: never two trials at once, and it closes in the end.
#[test]
fn there_is_one_trial_at_a_time_whatever_the_threads_do() {
    let breaker = Breaker::new(BreakerSettings::default());
    breaker.counted(counts(20, 20), 0, 0);
    let (under_way, made) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (breaker, under_way, made) = (&breaker, &under_way, &made);
            scope.spawn(move || {
                for step in 0..20_000u32 {
                    // So late that any pause is over.
                    let now = 1_000_000_000 + u64::from(step) * 1_000_000;
                    let Admission::Trial(trial) = breaker.admit(now) else {
                        continue;
                    };
                    assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0);
                    let number = made.fetch_add(1, Ordering::SeqCst);
                    std::hint::spin_loop();
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    match (number + thread) % 5 {
                        0 => trial.failed(Failure::Cut, now, 0),
                        1 => drop(trial),
                        _ => trial.succeeded(now, 0),
                    }
                    breaker.counted(counts(20, 20), now, 0);
                }
            });
        }
    });
    assert!(made.load(Ordering::SeqCst) > 100);
    let late = Millis::MAX >> 3;
    for _ in 0..3 {
        if let Admission::Trial(trial) = breaker.admit(late) {
            trial.succeeded(late, 0);
        }
    }
    assert!(matches!(breaker.admit(late), Admission::Pass));
}

proptest! {
    /// Whatever happens: it opens only with reason, stays open for its time and no longer, and three
    /// good trials always close it.
    #[test]
    fn it_opens_with_reason_and_always_closes_again(
        events in proptest::collection::vec((0u8..6, 0u32..40, 0u32..40, 0u64..15_000), 1..200),
        random: u64,
    ) {
        let mut circuit = circuit();
        let mut now = 0;
        for (what, calls, failures, span) in events {
            let before = circuit.state();
            let after = match what {
                0 | 1 => {
                    let failures = failures.min(calls);
                    circuit.apply(Command::Counted(counts(calls, failures)), now, random)
                }
                2 => { circuit.lend(now); circuit.state() }
                3 => circuit.apply(Command::TrialSucceeded, now, random),
                4 => circuit.apply(Command::TrialFailed(Failure::Refused), now, random),
                _ => { now += span; circuit.state() }
            };
            match (before, after) {
                (State::Closed, State::Open { until }) => {
                    prop_assert!(what <= 1);
                    prop_assert!((now + 4_000..=now + 60_000).contains(&until));
                }
                (State::Closed, State::HalfOpen { .. }) => prop_assert!(false, "not by itself"),
                (State::Open { until }, State::HalfOpen { .. }) => prop_assert!(until <= now),
                (State::Open { .. }, State::Closed) => prop_assert!(false, "not without trials"),
                _ => {}
            }
            prop_assert_eq!(
                circuit.why(now, Timestamp::from_micros(0)).is_some(),
                circuit.state() != State::Closed
            );
        }
        circuit.apply(Command::TrialDropped, now, random);
        for _ in 0..3 {
            if circuit.state() != State::Closed {
                trial(&mut circuit, true, now + 60_000);
            }
        }
        prop_assert_eq!(circuit.state(), State::Closed);
    }
}
