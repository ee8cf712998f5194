//! Instances that fail, are slow, and come back, in virtual time.

use std::collections::BTreeSet;

use atoll_base::{RevisionNumber, ServiceName};
use proptest::prelude::*;

use super::*;

const SECOND: Millis = 1_000;

fn id(ordinal: u32) -> InstanceId {
    let service = ServiceName::new("orders").unwrap();
    InstanceId::new(service, RevisionNumber(1), ordinal)
}

/// A service of so many instances, all joined at zero. Without jitter.
struct Service {
    machine: Ejection,
    now: Millis,
}

impl Service {
    fn of(count: u32) -> Self {
        let mut service = Self {
            machine: Ejection::new(EjectionSettings::default()),
            now: 0,
        };
        for ordinal in 0..count {
            service.apply(Command::Joined(id(ordinal)));
        }
        service
    }

    fn apply(&mut self, command: Command) -> Vec<Action> {
        self.machine.apply(command, self.now, 0)
    }

    fn fail(&mut self, ordinal: u32, failure: Failure, times: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..times {
            actions.extend(self.apply(Command::Failed(id(ordinal), failure)));
        }
        actions
    }

    fn count(&mut self, ordinal: u32, answers: u32, latency: Duration, failures: u32) {
        let mut counts = Counts::default();
        (0..answers).for_each(|_| counts.answered(latency));
        (0..failures).for_each(|_| counts.failed(Failure::Status(500)));
        self.apply(Command::Counted(id(ordinal), counts));
    }

    /// Lets time pass, ticking whenever the machine asks for it.
    fn pass(&mut self, span: Millis) -> Vec<Action> {
        let end = self.now + span;
        let mut actions = Vec::new();
        while let Some(due) = self.machine.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            actions.extend(self.apply(Command::Tick));
        }
        self.now = end;
        actions
    }

    /// So many seconds in which each instance answers ten times a second, with this latency in
    /// milliseconds, and fails so many times.
    fn serve(&mut self, seconds: u32, instances: &[(u64, u32)]) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..seconds {
            for (ordinal, (latency, failures)) in instances.iter().enumerate() {
                let latency = Duration::from_millis(*latency);
                self.count(ordinal as u32, 10, latency, *failures);
            }
            actions.extend(self.pass(SECOND));
        }
        actions
    }

    fn trial(&mut self, ordinal: u32, failure: Option<Failure>) -> Vec<Action> {
        let lent = self.machine.lend(true, self.now, |_| true);
        assert_eq!(lent, Some(id(ordinal)));
        self.apply(match failure {
            Some(failure) => Command::TrialFailed(id(ordinal), failure),
            None => Command::TrialSucceeded(id(ordinal), Duration::from_millis(5)),
        })
    }

    fn out(&self) -> BTreeSet<u32> {
        let members = self.machine.members.iter();
        members
            .filter(|(_, member)| !member.is_in())
            .map(|(instance, _)| instance.ordinal())
            .collect()
    }

    fn why(&self, ordinal: u32) -> Option<String> {
        let wall = Timestamp::from_micros(1_763_690_400_000_000);
        let mut verdicts = self.machine.explain(self.now, wall).into_iter();
        let verdict = verdicts.find(|verdict| verdict.instance == id(ordinal))?;
        verdict.why.map(|why| why.to_string())
    }
}

fn ejected(ordinal: u32, until: Millis) -> Action {
    Action::Eject {
        instance: id(ordinal),
        until,
    }
}

#[test]
fn five_failures_in_a_row_eject_and_the_reason_can_be_read() {
    let mut service = Service::of(2);
    let actions = service.fail(0, Failure::Timeout, 4);
    assert_eq!(actions, [Action::Watch(id(0))]);
    assert_eq!(service.fail(0, Failure::Cut, 1), [ejected(0, 5_000)]);
    assert_eq!(
        service.why(0).unwrap(),
        "5 failures in a row, last: answer broken off; out until 2025-11-21T02:00:05Z"
    );
    assert_eq!(service.why(1), None);
}

#[test]
fn three_refused_connections_are_enough() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Refused, 2);
    assert!(service.out().is_empty());
    assert_eq!(service.fail(0, Failure::Refused, 1), [ejected(0, 5_000)]);
    let why = service.why(0).unwrap();
    assert!(
        why.starts_with("3 failures in a row, last: connection refused"),
        "{why}"
    );
}

#[test]
fn a_success_breaks_the_row() {
    let mut service = Service::of(2);
    for _ in 0..10 {
        let watched = service.fail(0, Failure::Broken, 4);
        assert_eq!(watched, [Action::Watch(id(0))]);
        let restored = service.apply(Command::Succeeded(id(0)));
        assert_eq!(restored, [Action::Restore(id(0))]);
    }
    assert!(service.out().is_empty());
}

#[test]
fn errors_of_the_program_are_no_row() {
    let mut service = Service::of(2);
    let actions = service.fail(0, Failure::Status(500), 100);
    assert!(actions.is_empty() && service.out().is_empty());
}

#[test]
fn the_last_one_is_never_ejected() {
    let mut service = Service::of(1);
    service.fail(0, Failure::Refused, 100);
    assert!(service.out().is_empty());
    let why = service.why(0).unwrap();
    assert!(why.starts_with("100 failures in a row"), "{why}");

    let mut service = Service::of(3);
    for ordinal in 0..3 {
        service.fail(ordinal, Failure::Refused, 10);
    }
    assert_eq!(service.out().len(), 1, "of three, one");
    let kept = service.machine.explain(0, Timestamp::from_micros(0));
    let kept = kept.iter().filter(|verdict| verdict.state == State::Kept);
    assert_eq!(kept.count(), 2);
}

#[test]
fn of_three_hundred_half_may_be_out() {
    let mut service = Service::of(300);
    for ordinal in 0..300 {
        service.fail(ordinal, Failure::Unreachable, 5);
    }
    assert_eq!(service.out().len(), 150);
}

#[test]
fn a_small_share_of_few_is_one() {
    let mut service = Service::of(3);
    service.machine.set(EjectionSettings {
        share: crate::resilience::Percent::new(10).unwrap(),
        ..EjectionSettings::default()
    });
    service.fail(0, Failure::Refused, 3);
    service.fail(1, Failure::Refused, 3);
    assert_eq!(service.out(), BTreeSet::from([0]));
}

#[test]
fn who_would_be_the_last_is_taken_back_when_the_others_leave() {
    let mut service = Service::of(4);
    service.fail(0, Failure::Refused, 3);
    service.now = SECOND;
    service.fail(1, Failure::Refused, 3);
    assert_eq!(
        service.apply(Command::Left(id(2))),
        [Action::Restore(id(0))]
    );
    assert_eq!(service.apply(Command::Left(id(0))), []);
    assert_eq!(service.out(), BTreeSet::from([1]));
    assert_eq!(
        service.apply(Command::Left(id(3))),
        [Action::Restore(id(1))]
    );
}

#[test]
fn pauses_grow_with_each_failed_trial_and_shrink_when_it_is_good() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Timeout, 5);
    for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
        let probes = service.pass(pause * SECOND);
        assert_eq!(probes, [Action::Probe(id(0))], "after {pause}s");
        service.trial(0, Some(Failure::Timeout));
    }
    let why = service.why(0).unwrap();
    assert!(why.contains("8 trials since failed"), "{why}");
    service.pass(300 * SECOND);
    (0..3).for_each(|_| drop(service.trial(0, None)));
    assert!(service.out().is_empty());
    assert_eq!(service.why(0), None);
    // Good for 300 s and 160 s: two steps down, so the next time is the sixth again.
    service.pass(470 * SECOND);
    let again = service.fail(0, Failure::Timeout, 5);
    assert_eq!(again.last(), Some(&ejected(0, service.now + 160 * SECOND)));
}

#[test]
fn three_trials_one_at_a_time_bring_it_back() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Refused, 3);
    assert!(!service.machine.has_offer());
    assert_eq!(service.machine.lend(true, 4_999, |_| true), None);
    service.pass(5 * SECOND);
    assert!(service.machine.has_offer());
    assert_eq!(
        service.machine.lend(true, service.now, |_| false),
        None,
        "tried by it before"
    );
    assert_eq!(
        service.machine.lend(true, service.now, |_| true),
        Some(id(0))
    );
    assert!(!service.machine.has_offer());
    assert_eq!(
        service.machine.lend(true, service.now, |_| true),
        None,
        "one at a time"
    );
    let dropped = service.apply(Command::TrialDropped(id(0)));
    assert_eq!(
        dropped,
        [Action::Probe(id(0))],
        "a client that left says nothing"
    );
    assert_eq!(service.trial(0, None), [Action::Probe(id(0))]);
    assert_eq!(service.trial(0, None), [Action::Probe(id(0))]);
    assert_eq!(service.trial(0, None), [Action::Restore(id(0))]);
    service.fail(0, Failure::Refused, 2);
    assert!(service.out().is_empty(), "it has a clean slate");
}

#[test]
fn what_cannot_be_repeated_waits_for_what_can() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Refused, 3);
    service.pass(5 * SECOND);
    assert_eq!(
        service.machine.lend(false, service.now + 4_999, |_| true),
        None
    );
    let lent = service.machine.lend(false, service.now + 5_000, |_| true);
    assert_eq!(lent, Some(id(0)));
}

#[test]
fn late_news_of_one_that_is_out_change_nothing() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Refused, 3);
    assert_eq!(service.fail(0, Failure::Refused, 50), []);
    assert_eq!(service.apply(Command::Succeeded(id(0))), []);
    let stray = Command::TrialSucceeded(id(0), Duration::ZERO);
    assert_eq!(service.apply(stray), []);
    assert_eq!(service.apply(Command::TrialFailed(id(0), Failure::Cut)), []);
    assert_eq!(service.machine.next_deadline(), Some(5_000));
    assert_eq!(service.fail(9, Failure::Refused, 5), [], "nobody knows it");
}

#[test]
fn a_new_process_starts_over_but_the_record_is_kept() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Refused, 3);
    assert_eq!(
        service.apply(Command::Joined(id(0))),
        [Action::Restore(id(0))]
    );
    assert!(service.out().is_empty());
    let again = service.fail(0, Failure::Refused, 3);
    assert_eq!(again.last(), Some(&ejected(0, 10_000)));
}

#[test]
fn a_failure_rate_ejects_if_the_others_are_better() {
    for count in [2usize, 3, 300] {
        let mut service = Service::of(count as u32);
        let mut instances = vec![(5, 0); count];
        instances[1] = (5, 15);
        let actions = service.serve(2, &instances);
        assert!(
            matches!(&actions[..], [Action::Eject { instance, .. }] if *instance == id(1)),
            "{count}: {actions:?}"
        );
        let why = service.why(1).unwrap();
        assert!(
            why.starts_with("15 of 25 requests failed within 10s, while the others failed 0%"),
            "{why}"
        );
    }
}

#[test]
fn a_failure_rate_that_all_share_ejects_nobody() {
    for count in [1usize, 2, 3, 300] {
        let mut service = Service::of(count as u32);
        let mut instances = vec![(5, 15); count];
        instances[0] = (5, 25);
        let actions = service.serve(30, &instances);
        assert!(actions.is_empty(), "{count}: {actions:?}");
    }
}

#[test]
fn few_requests_say_nothing() {
    let mut service = Service::of(2);
    service.count(0, 0, Duration::ZERO, 9);
    service.count(1, 100, Duration::ZERO, 0);
    assert_eq!(service.pass(SECOND), []);
    service.count(0, 0, Duration::ZERO, 1);
    assert_eq!(service.pass(SECOND).len(), 1);
    let mut service = Service::of(2);
    service.count(0, 0, Duration::ZERO, 100);
    service.count(1, 9, Duration::ZERO, 0);
    assert_eq!(service.pass(20 * SECOND), [], "nor do few of the others");
}

#[test]
fn a_slow_one_is_ejected_after_three_windows() {
    for count in [2usize, 3, 300] {
        let mut service = Service::of(count as u32);
        let mut instances = vec![(60, 0); count];
        service.serve(60, &instances);
        instances[1] = (400, 0);
        assert_eq!(service.serve(10, &instances), []);
        let actions = service.serve(6, &instances);
        assert!(
            matches!(&actions[..], [Action::Eject { instance, .. }] if *instance == id(1)),
            "{count}: {actions:?}"
        );
        let why = service.why(1).unwrap();
        assert!(
            why.starts_with("answers take 399ms, while the others take 59ms")
                || why.starts_with("answers take 399ms, while the others take 60ms"),
            "{why}"
        );
    }
}

#[test]
fn slow_is_only_who_is_much_slower_than_the_others_and_than_is_fast_enough() {
    for slowest in [(5, 90), (100, 250), (400, 800)] {
        let mut service = Service::of(3);
        let instances = [(slowest.0, 0), (slowest.1, 0), (slowest.0, 0)];
        assert_eq!(service.serve(120, &instances), [], "{slowest:?}");
    }
    let mut alone = Service::of(1);
    assert_eq!(alone.serve(120, &[(9_000, 0)]), []);
}

#[test]
fn a_young_one_may_be_slow() {
    let mut service = Service::of(2);
    let actions = service.serve(59, &[(5, 0), (2_000, 0)]);
    assert_eq!(actions, []);
    assert_eq!(service.serve(20, &[(5, 0), (5, 0)]), []);
}

#[test]
fn a_slow_one_must_have_become_faster() {
    let mut service = Service::of(2);
    service.serve(60, &[(60, 0), (60, 0)]);
    service.serve(20, &[(60, 0), (900, 0)]);
    assert_eq!(service.out(), BTreeSet::from([1]));
    service.pass(10 * SECOND);
    let trial = |service: &mut Service, millis| {
        assert_eq!(
            service.machine.lend(true, service.now, |_| true),
            Some(id(1))
        );
        let latency = Duration::from_millis(millis);
        service.apply(Command::TrialSucceeded(id(1), latency))
    };
    assert!(matches!(
        trial(&mut service, 900)[..],
        [Action::Eject { .. }]
    ));
    service.pass(10 * SECOND);
    assert_eq!(trial(&mut service, 90), [Action::Probe(id(1))]);

    // Against others that take 5 ms, 90 ms is slow, but fast enough.
    let mut service = Service::of(2);
    service.serve(60, &[(5, 0), (5, 0)]);
    service.serve(20, &[(5, 0), (900, 0)]);
    service.pass(10 * SECOND);
    assert_eq!(trial(&mut service, 90), [Action::Probe(id(1))]);
}

#[test]
fn few_answers_say_nothing_about_latency() {
    for (answers, ejections) in [(4, 0), (5, 1)] {
        let mut service = Service::of(2);
        service.pass(60 * SECOND);
        let mut actions = Vec::new();
        for _ in 0..5 {
            service.count(0, answers, Duration::from_millis(5), 0);
            service.count(1, answers, Duration::from_millis(900), 0);
            actions.extend(service.pass(5 * SECOND));
        }
        let ejected = |action: &&Action| matches!(action, Action::Eject { .. });
        assert_eq!(
            actions.iter().filter(ejected).count(),
            ejections,
            "{answers}"
        );
    }
}

#[test]
fn if_not_all_can_go_the_worst_goes() {
    let mut service = Service::of(3);
    service.count(0, 40, Duration::ZERO, 60);
    service.count(1, 0, Duration::ZERO, 100);
    service.count(2, 1000, Duration::ZERO, 0);
    service.pass(SECOND);
    assert_eq!(service.out(), BTreeSet::from([1]));

    let mut service = Service::of(5);
    service.serve(60, &[(5, 0); 4]);
    service.fail(4, Failure::Refused, 3);
    service.machine.members.get_mut(&id(4)).unwrap().phase = Phase::Out { until: 900_000 };
    service.serve(20, &[(5, 0), (900, 0), (400, 0), (5, 0)]);
    assert_eq!(service.out(), BTreeSet::from([1, 4]));
}

#[test]
fn clearly_better_is_half_as_bad() {
    for (others, is_ejected) in [(38, true), (40, false)] {
        let mut service = Service::of(2);
        service.count(0, 22, Duration::ZERO, 78);
        service.count(1, 100 - others, Duration::ZERO, others);
        service.pass(SECOND);
        assert_eq!(!service.out().is_empty(), is_ejected, "{others}");
    }
}

#[test]
fn what_was_kept_for_its_rate_is_forgiven_when_that_is_over() {
    let mut service = Service::of(2);
    service.fail(0, Failure::Refused, 3);
    service.machine.members.get_mut(&id(0)).unwrap().phase = Phase::Out { until: 900_000 };
    service.count(1, 0, Duration::ZERO, 50);
    service.serve(1, &[]);
    assert_eq!(service.why(1), None, "nobody to compare with");
    let mut service = Service::of(3);
    service.fail(2, Failure::Refused, 3);
    service.machine.members.get_mut(&id(2)).unwrap().phase = Phase::Out { until: 900_000 };
    service.serve(1, &[(5, 0), (5, 20)]);
    assert!(service.why(1).is_some(), "no room");
    service.pass(12 * SECOND);
    assert_eq!(service.why(1), None);
    assert_eq!(
        service.machine.next_deadline(),
        Some(900_000),
        "nothing to look at"
    );
}

#[test]
fn turned_off_it_ejects_nobody() {
    let mut service = Service::of(3);
    service.machine.set(EjectionSettings {
        enabled: false,
        ..EjectionSettings::default()
    });
    service.fail(0, Failure::Refused, 100);
    assert!(service.out().is_empty());
}

/// Anything that can happen to a service.
fn event() -> impl Strategy<Value = (u8, u32, u64)> {
    (0u8..10, 0u32..5, 0u64..20_000)
}

proptest! {
    /// Whatever happens: somebody is in, no more than the share is out, everybody who is out comes
    /// back by time alone, and what the actions say is where the machine stands.
    #[test]
    fn whatever_happens_somebody_serves(
        events in proptest::collection::vec(event(), 1..300),
        random: u64,
    ) {
        let mut machine = Ejection::new(EjectionSettings::default());
        let mut now = 0;
        let mut told: std::collections::BTreeMap<InstanceId, bool> = Default::default();
        let mut on_trial = BTreeSet::new();
        for (what, ordinal, span) in events {
            let instance = id(ordinal);
            let mut counts = Counts::default();
            let command = match what {
                0 => Command::Joined(instance),
                1 => Command::Left(instance),
                2 | 3 => Command::Failed(instance, Failure::Refused),
                4 => Command::Failed(instance, Failure::Timeout),
                5 => Command::Succeeded(instance),
                6 => {
                    (0..span % 40).for_each(|_| counts.answered(Duration::from_millis(span)));
                    (0..span % 30).for_each(|_| counts.failed(Failure::Status(500)));
                    Command::Counted(instance, counts)
                }
                7 => match machine.lend(span % 2 == 0, now, |_| true) {
                    Some(instance) => {
                        prop_assert!(on_trial.insert(instance), "one at a time");
                        continue;
                    }
                    None => Command::Tick,
                },
                8 => match on_trial.pop_first() {
                    Some(instance) if span % 3 == 0 => Command::TrialDropped(instance),
                    Some(instance) if span % 3 == 1 => Command::TrialFailed(instance, Failure::Cut),
                    Some(instance) => Command::TrialSucceeded(instance, Duration::ZERO),
                    None => Command::Tick,
                },
                _ => {
                    now += span;
                    Command::Tick
                }
            };
            match &command {
                Command::Joined(instance) => {
                    told.insert(instance.clone(), true);
                    on_trial.remove(instance);
                }
                Command::Left(instance) => {
                    told.remove(instance);
                    on_trial.remove(instance);
                }
                _ => {}
            }
            for action in machine.apply(command, now, random) {
                let (instance, is_in) = match action {
                    Action::Watch(instance) | Action::Restore(instance) => (instance, true),
                    Action::Eject { instance, until } => {
                        prop_assert!(until > now && until <= now + 300_000);
                        (instance, false)
                    }
                    Action::Probe(instance) => (instance, false),
                };
                if is_in {
                    on_trial.remove(&instance);
                }
                told.insert(instance, is_in);
            }
            let count = machine.members.len();
            prop_assert!(machine.out() <= (count / 2).max(1).min(count.saturating_sub(1)));
            for (instance, member) in &machine.members {
                prop_assert_eq!(told.get(instance), Some(&member.is_in()));
            }
            prop_assert_eq!(told.len(), count);
            let waits = |member: &Member| matches!(member.phase, Phase::Out { .. });
            if machine.members.values().any(waits) {
                prop_assert!(machine.next_deadline().is_some());
            }
        }
    }
}
