//! What is told, second by second.

use atoll_base::RevisionNumber;
use atoll_proxy::OpenBreaker;
use atoll_proxy::resilience::ejection::Verdict;
use atoll_proxy::resilience::{Cause, Failure, Why};
use atoll_supervisor::Throttled;

use super::*;

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn id(number: u32) -> InstanceId {
    InstanceId::new(name("orders"), RevisionNumber(1), number)
}

fn why() -> Why {
    Why {
        cause: Cause::InARow {
            failures: 5,
            last: Failure::Timeout,
        },
        trials_failed: 0,
        until: None,
    }
}

/// A node at a second, and what is told then.
#[derive(Default)]
struct Bench {
    notices: Notices,
    seen: Seen,
}

impl Bench {
    fn told(&mut self, second: i64) -> Vec<String> {
        let now = Timestamp::from_micros(1_795_400_000_000_000 + second * 1_000_000);
        let told = self.notices.look(&self.seen, now).into_iter();
        told.map(|own| {
            let whom = own
                .instance
                .map_or(own.service.to_string(), |id| id.to_string());
            format!("{whom} {:?}: {}", own.what, own.message)
        })
        .collect()
    }

    fn stands(&mut self, state: Option<State>) {
        let verdict = state.map(|state| Verdict {
            instance: id(1),
            state,
            why: Some(why()),
        });
        self.seen.resilience.instances = verdict.into_iter().collect();
    }
}

#[test]
fn an_instance_that_is_left_out_is_told_once_and_when_it_is_back() {
    let mut bench = Bench::default();
    bench.seen.instances = [id(1)].into();
    let out = [
        "orders-r1-1 Ejection: left out of traffic: 5 failures in a row, last: no answer in time; on trial",
    ];
    let back = ["orders-r1-1 Ejection: left out of traffic no more"];
    for (second, (state, expected)) in (0..).zip([
        (Some(State::Kept), &[][..]),
        (Some(State::Out), &out),
        (Some(State::Out), &[]),
        (Some(State::Probation), &[]),
        (Some(State::Out), &[]),
        (Some(State::Probation), &[]),
        (None, &[]),
        (None, &[]),
        (Some(State::In), &back),
        (Some(State::In), &[]),
        (Some(State::Out), &out),
        (Some(State::Kept), &back),
    ]) {
        bench.stands(state);
        assert_eq!(bench.told(second), expected, "{second}: {state:?}");
    }
}

#[test]
fn an_instance_that_was_left_out_and_is_stopped_is_not_told_as_back() {
    let mut bench = Bench::default();
    bench.seen.instances = [id(1)].into();
    bench.stands(Some(State::Out));
    assert_eq!(bench.told(0).len(), 1);
    bench.stands(None);
    assert_eq!(bench.told(1), [""; 0], "its last requests");
    bench.seen.instances.clear();
    assert_eq!(bench.told(2), [""; 0]);
    bench.seen.instances = [id(1)].into();
    bench.stands(Some(State::In));
    assert_eq!(bench.told(3), [""; 0], "it is another of the same name");
}

#[test]
fn breakers_are_told_by_who_calls() {
    let mut bench = Bench::default();
    let open = |caller: Option<&str>| OpenBreaker {
        caller: caller.map(name),
        callee: name("bank"),
        why: why(),
    };
    bench.seen.resilience.breakers = vec![open(None), open(Some("orders"))];
    let told = bench.told(0);
    assert!(told[0].starts_with("bank Breaker: calls from the edge are refused: 5 failures"));
    assert!(told[1].starts_with("bank Breaker: calls from orders are refused"));
    assert_eq!(bench.told(1), [""; 0]);
    bench.seen.resilience.breakers.remove(0);
    assert_eq!(
        bench.told(2),
        ["bank Breaker: calls from the edge pass again"]
    );
}

#[test]
fn a_limit_is_told_once_a_minute_with_a_count_and_when_it_is_over() {
    let mut bench = Bench::default();
    let mut told = Vec::new();
    for second in 0..300 {
        // Ten a second for two minutes, and one that came at a bad moment.
        if (5..125).contains(&second) {
            let refused = bench.seen.refused.entry(name("orders")).or_default();
            refused.by_rate += 10;
            refused.by_number += u64::from(second == 70);
        }
        told.extend(bench.told(second).into_iter().map(|text| (second, text)));
    }
    let text = |text: &str| format!("orders Limit: {text}");
    let expected = [
        (
            5,
            text("its limits refuse requests: 10 were too many in their time"),
        ),
        (
            65,
            text("its limits go on refusing requests: 600 were too many in their time"),
        ),
        (
            125,
            text(
                "its limits go on refusing requests: 590 were too many in their time, 1 were too many at once",
            ),
        ),
        (
            185,
            text("its limits refuse nothing any more; it was 1201 in all"),
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_the_kernel_does_is_told_with_numbers() {
    let mut bench = Bench::default();
    let mut usage = Usage::default();
    let mut look = |second, pid, usage| {
        bench.seen.used = [(id(1), (pid, usage))].into();
        bench.told(second)
    };
    usage.oom_kills = 3;
    assert_eq!(look(0, Some(1), usage), [""; 0], "of before");
    usage.oom_kills = 5;
    let killed = "orders-r1-1 Oom: the kernel killed 2 of its processes for want of memory";
    assert_eq!(look(1, Some(1), usage), [killed]);
    usage.oom_kills = 6;
    assert_eq!(
        look(2, Some(2), usage),
        [""; 0],
        "it was the main process, whose end is told"
    );
    usage.throttled = Some(Throttled {
        periods: 600,
        throttled: 400,
        waited_ns: 30_000_000_000,
    });
    assert_eq!(look(59, Some(2), usage), [""; 0]);
    let held = "orders-r1-1 Throttle: its limit of processor time held it back in 400 of 600 periods within a \
                minute: its threads waited for 30.0 s";
    assert_eq!(look(60, Some(2), usage), [held]);
    assert_eq!(look(121, Some(2), usage), [""; 0], "no more of it");
}
