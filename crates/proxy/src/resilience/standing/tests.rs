//! What workers see of ejections, alone and at the same time.

use std::sync::atomic::AtomicU32;

use atoll_base::{RevisionNumber, ServiceName};

use super::*;

fn id(ordinal: u32) -> InstanceId {
    let service = ServiceName::new("orders").unwrap();
    InstanceId::new(service, RevisionNumber(1), ordinal)
}

fn service(count: u32) -> (Arc<Ejector>, Vec<Arc<Standing>>) {
    let ejector = Ejector::new(EjectionSettings::default());
    let join = |ordinal| ejector.join(&id(ordinal), 0);
    let standings = (0..count).map(join).collect();
    (ejector, standings)
}

#[test]
fn the_life_of_an_ejection_as_a_worker_sees_it() {
    let (ejector, standings) = service(2);
    let bad = &standings[0];
    for _ in 0..4 {
        bad.failed(Failure::Timeout, 100, 0);
    }
    bad.succeeded(100);
    for _ in 0..4 {
        bad.failed(Failure::Timeout, 100, 0);
    }
    assert!(bad.admits(), "the success broke the row");
    bad.failed(Failure::Timeout, 100, 0);
    assert!(!bad.admits() && standings[1].admits());
    assert_eq!(bad.out_until(), Some(5_100));
    ejector.tick(5_099, 0);
    assert!(!ejector.has_offer());
    assert!(ejector.probe(true, 5_099, |_| true).is_none());
    ejector.tick(5_100, 0);
    assert!(ejector.has_offer());
    assert_eq!(bad.out_until(), None);
    for _ in 0..3 {
        let trial = ejector.probe(true, 5_100, |_| true).unwrap();
        assert_eq!(trial.standing().instance(), &id(0));
        assert!(
            ejector.probe(true, 5_100, |_| true).is_none(),
            "one at a time"
        );
        assert!(!bad.admits(), "trials alone");
        trial.succeeded(Duration::from_millis(5), 5_200, 0);
    }
    assert!(bad.admits() && !ejector.has_offer());
    assert_eq!((bad.since(), standings[1].since()), (5_200, 0));
}

#[test]
fn a_dropped_trial_is_made_again_and_a_failed_one_ejects() {
    let (ejector, standings) = service(2);
    (0..3).for_each(|_| standings[0].failed(Failure::Refused, 0, 0));
    ejector.tick(5_000, 0);
    drop(ejector.probe(true, 5_000, |_| true).unwrap());
    assert!(ejector.has_offer());
    let trial = ejector.probe(true, 5_000, |_| true).unwrap();
    trial.failed(Failure::Refused, 5_000, 0);
    assert_eq!(standings[0].out_until(), Some(15_000));
    let wall = Timestamp::from_micros(0);
    let verdicts = ejector.explain(5_000, wall);
    let why = verdicts[0].why.as_ref().unwrap().to_string();
    assert!(
        why.contains("connection refused; 1 trial since failed"),
        "{why}"
    );
}

#[test]
fn counts_of_all_instances_go_in_together() {
    let (ejector, standings) = service(2);
    let mut good = Counts::default();
    (0..20).for_each(|_| good.answered(Duration::from_millis(5)));
    let mut bad = Counts::default();
    (0..20).for_each(|_| bad.failed(Failure::Status(500)));
    ejector.counted([(&id(0), good), (&id(1), bad)], 500);
    ejector.tick(1_000, 0);
    assert!(standings[0].admits() && !standings[1].admits());
}

#[test]
fn whoever_leaves_is_forgotten() {
    let (ejector, standings) = service(2);
    (0..3).for_each(|_| standings[0].failed(Failure::Refused, 0, 0));
    assert!(!standings[0].admits());
    ejector.leave(&id(1), 1);
    assert!(standings[0].admits(), "it is the last one now");
    ejector.leave(&id(0), 2);
    drop(standings);
    assert_eq!(Arc::strong_count(&ejector), 1);
}

/// Threads that fail, succeed, probe, join and leave: there is always somebody to ask, never two
/// trials of one instance, and the words say what the machine says.
#[test]
fn somebody_always_serves_whatever_the_threads_do() {
    const COUNT: u32 = 4;
    let (ejector, standings) = service(COUNT);
    let trials: Vec<_> = (0..COUNT).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (ejector, standings, trials) = (&ejector, &standings, &trials);
            scope.spawn(move || {
                for step in 0..5_000u32 {
                    let now = u64::from(step) * 400;
                    let random = u64::from(step.wrapping_mul(2_654_435_761)) << 32;
                    let standing = &standings[((step / 7 + thread) % COUNT) as usize];
                    match step % 7 {
                        0..=3 => standing.failed(Failure::Refused, now, random),
                        4 => standing.succeeded(now),
                        5 => ejector.tick(now, random),
                        _ => {
                            let Some(trial) = ejector.probe(true, now, |_| true) else {
                                continue;
                            };
                            let at = trial.standing().instance().ordinal() as usize;
                            assert_eq!(trials[at].fetch_add(1, Ordering::SeqCst), 0);
                            std::hint::spin_loop();
                            trials[at].fetch_sub(1, Ordering::SeqCst);
                            match step % 3 {
                                0 => trial.failed(Failure::Cut, now, random),
                                1 => drop(trial),
                                _ => trial.succeeded(Duration::ZERO, now, random),
                            }
                        }
                    }
                    assert!(standings.iter().any(|standing| standing.admits()));
                }
            });
        }
    });
    let verdicts = ejector.explain(0, Timestamp::from_micros(0));
    for (standing, verdict) in standings.iter().zip(&verdicts) {
        use crate::resilience::ejection::State;
        let is_in = matches!(verdict.state, State::In | State::Kept);
        assert_eq!(standing.admits(), is_in, "{verdict:?}");
        let is_out = verdict.state == State::Out;
        assert_eq!(standing.out_until().is_some(), is_out, "{verdict:?}");
    }
}
