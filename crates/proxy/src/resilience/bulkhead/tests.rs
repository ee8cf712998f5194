//! Requests that enter, wait, leave and give up, in every order.

use std::sync::atomic::AtomicU32;

use proptest::prelude::*;

use super::*;

const fn limits(in_flight: u32, queue: u32) -> Limits {
    Limits { in_flight, queue }
}

fn entered(bulkhead: &Arc<Bulkhead>) -> Permit {
    match bulkhead.enter() {
        Entry::Entered(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn queued(bulkhead: &Arc<Bulkhead>) -> Waiting {
    match bulkhead.enter() {
        Entry::Queued(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

fn poll(waiting: &mut Waiting) -> Option<Permit> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match Pin::new(waiting).poll(&mut cx) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

#[test]
fn some_enter_some_wait_and_the_rest_is_refused_with_a_reason() {
    let bulkhead = Bulkhead::new(limits(2, 1));
    let permits = [entered(&bulkhead), entered(&bulkhead)];
    let waiting = queued(&bulkhead);
    let Entry::Refused(refusal) = bulkhead.enter() else {
        panic!("there is no place")
    };
    assert_eq!(
        refusal.to_string(),
        "2 requests are under way and 1 wait for it; more are not let in"
    );
    assert_eq!(refusal.retry_after(), Duration::from_secs(1));
    drop(waiting);
    let refusal = bulkhead.waited(Duration::from_millis(1000));
    assert_eq!(
        refusal.to_string(),
        "the request waited for 1000ms and 2 others are still under way"
    );
    drop(permits);
    assert_eq!(bulkhead.load(), Load::default());
}

#[test]
fn who_comes_first_is_served_first_and_nobody_overtakes() {
    let bulkhead = Bulkhead::new(limits(1, 8));
    let permit = entered(&bulkhead);
    let mut first = queued(&bulkhead);
    let mut second = queued(&bulkhead);
    assert!(poll(&mut first).is_none());
    drop(permit);
    assert!(poll(&mut second).is_none());
    let third = queued(&bulkhead);
    let permit = poll(&mut first).unwrap();
    assert_eq!(bulkhead.load().waiting, 2);
    drop((permit, third));
    let permit = poll(&mut second).unwrap();
    assert_eq!(
        bulkhead.load(),
        Load {
            in_flight: 1,
            waiting: 0
        }
    );
    drop(permit);
    drop(entered(&bulkhead));
}

#[test]
fn nobody_overtakes_while_the_limit_is_being_raised() {
    let load = Load {
        in_flight: 1,
        waiting: 1,
    };
    assert_eq!(load.arrive(limits(5, 5)).1, Arrival::Wait);
    assert_eq!(load.arrive(limits(5, 1)).1, Arrival::Refuse);
}

#[test]
fn a_waiter_that_goes_gives_its_place_back() {
    let bulkhead = Bulkhead::new(limits(1, 2));
    let permit = entered(&bulkhead);
    let first = queued(&bulkhead);
    let mut second = queued(&bulkhead);
    drop(first);
    assert_eq!(bulkhead.lock().waiters.len(), 1);
    let third = queued(&bulkhead);
    drop(permit);
    assert!(poll(&mut second).is_some_and(|permit| {
        drop(permit);
        true
    }));
    // The third has its permit and has not seen it: it goes to nobody, and is not lost.
    drop(third);
    assert_eq!(bulkhead.load(), Load::default());
}

#[test]
fn limits_change_under_load() {
    let bulkhead = Bulkhead::new(limits(1, 8));
    let first = entered(&bulkhead);
    let mut waiters: Vec<_> = (0..4).map(|_| queued(&bulkhead)).collect();
    bulkhead.set_limits(limits(3, 8));
    assert_eq!(
        bulkhead.load(),
        Load {
            in_flight: 3,
            waiting: 2
        }
    );
    let second = poll(&mut waiters[0]).unwrap();
    let third = poll(&mut waiters[1]).unwrap();
    bulkhead.set_limits(limits(1, 8));
    drop(first);
    drop(second);
    assert_eq!(
        bulkhead.load(),
        Load {
            in_flight: 1,
            waiting: 2
        },
        "it shrinks first"
    );
    drop(third);
    assert!(poll(&mut waiters[2]).is_some());
    bulkhead.set_limits(limits(0, 0));
    drop(waiters);
    assert_eq!(bulkhead.load(), Load::default());
    drop(entered(&bulkhead));
}

/// Threads that enter, wait, give up, and change the limit: never more are in than may be, and in
/// the end nobody is.
#[test]
fn nothing_is_lost_whatever_the_threads_do() {
    const MOST: u32 = 3;
    let bulkhead = Bulkhead::new(limits(MOST, 4));
    let (inside, passed) = (AtomicU32::new(0), AtomicU32::new(0));
    let visit = |permit: Permit| {
        assert!(inside.fetch_add(1, Ordering::SeqCst) < MOST);
        passed.fetch_add(1, Ordering::SeqCst);
        std::hint::spin_loop();
        inside.fetch_sub(1, Ordering::SeqCst);
        drop(permit);
    };
    std::thread::scope(|scope| {
        for thread in 0..6u32 {
            let (bulkhead, visit) = (&bulkhead, &visit);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                for step in 0..4_000u32 {
                    match bulkhead.enter() {
                        Entry::Entered(permit) => visit(permit),
                        Entry::Queued(waiting) if (step + thread) % 3 == 0 => drop(waiting),
                        Entry::Queued(mut waiting) if (step + thread) % 3 == 1 => {
                            if let Some(permit) = poll(&mut waiting) {
                                visit(permit);
                            }
                        }
                        Entry::Queued(waiting) => visit(runtime.block_on(waiting)),
                        Entry::Refused(Refusal::Full(load)) => assert!(load.in_flight > 0),
                        Entry::Refused(other) => panic!("{other}"),
                    }
                    if step % 64 == thread {
                        bulkhead.set_limits(limits(1 + step % MOST, 4));
                    }
                }
            });
        }
    });
    assert!(passed.load(Ordering::SeqCst) > 1_000);
    assert_eq!(bulkhead.load(), Load::default());
    assert!(bulkhead.lock().waiters.is_empty());
}

proptest! {
    /// The decision alone: bounds hold, nobody overtakes, and nobody waits while there is room.
    #[test]
    fn the_bounds_hold_in_every_order(
        in_flight in 1u32..5,
        queue in 0u32..5,
        steps in proptest::collection::vec(0u8..3, 1..200),
    ) {
        let limits = limits(in_flight, queue);
        let mut load = Load::default();
        for step in steps {
            match step {
                0 => {
                    let (next, arrival) = load.arrive(limits);
                    match arrival {
                        Arrival::Enter => prop_assert_eq!(load.waiting, 0),
                        Arrival::Wait => prop_assert_eq!(load.in_flight, in_flight),
                        Arrival::Refuse => {
                            prop_assert_eq!((load.in_flight, load.waiting), (in_flight, queue));
                        }
                    }
                    load = next;
                }
                1 if load.in_flight > 0 => {
                    let (next, departure) = load.depart(limits);
                    prop_assert_eq!(departure == Departure::HandOver, load.waiting > 0);
                    load = next;
                }
                2 if load.waiting > 0 => load = load.give_up(),
                _ => {}
            }
            prop_assert!(load.in_flight <= in_flight && load.waiting <= queue);
            prop_assert!(load.waiting == 0 || load.in_flight == in_flight);
            prop_assert_eq!(load.promote(limits), None);
            prop_assert_eq!(Load::unpack(load.pack()), load);
        }
    }
}
