//! Asking an instance to leave.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use atoll_base::clock;
use atoll_supervisor::{Event, ExitReason, State};

use crate::bed::{Bed, SERVER, marked, until, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_asked_leaves_and_is_told_before() {
    let bed = Bed::new();
    let program = format!(
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n{SERVER}"
    );
    let id = bed.start(bed.python(&program));
    bed.seen.ready(&id);
    bed.handle.stop(&id).await;
    assert!(bed.handle.status(&id).is_none());
    let told: Vec<&str> = bed
        .seen
        .events()
        .iter()
        .map(|event| match event {
            Event::Started { .. } => "started",
            Event::Ready { .. } => "ready",
            Event::Leaving { .. } => "leaving",
            Event::Exited {
                reason, last_lines, ..
            } => {
                assert_eq!(
                    (reason, &last_lines[..]),
                    (&ExitReason::Asked, &["bye".to_owned()][..])
                );
                "exited"
            }
            Event::Stopped { .. } => "stopped",
            _ => "warning",
        })
        .filter(|told| *told != "warning")
        .collect();
    assert_eq!(told, ["started", "ready", "leaving", "exited", "stopped"]);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_leave_is_killed_with_all_that_it_forked() {
    let bed = Bed::new();
    let mut spec = bed.sh(
        "trap '' TERM; (trap '' TERM; sleep 1000) & setsid sh -c 'trap \"\" TERM; sleep 1001' & \
         echo up; while true; do sleep 1; done",
    );
    spec.stop_timeout = Duration::from_millis(300);
    let id = bed.start(spec);
    bed.seen.line(|line| (line == "up").then_some(()));
    until("three shells and their sleeps", || {
        (marked(&bed.node_id).len() >= 5).then_some(())
    });
    let began = clock::monotonic();
    bed.handle.stop(&id).await;
    let took = clock::monotonic() - began;
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(marked(&bed.node_id), [0; 0]);
    let (reason, _) = bed.seen.exited(&id);
    assert_eq!(
        reason.to_string(),
        "killed: did not leave within 300ms of SIGTERM"
    );
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_works_while_it_starts_and_while_it_waits() {
    let bed = Bed::new();
    let starting = bed.start(bed.sh("exec sleep 1000"));
    bed.handle.stop(&starting).await;
    let waiting = bed.start(bed.sh("exit 1"));
    until_state(&bed, &waiting, State::BackingOff);
    bed.handle.stop(&waiting).await;
    assert!(bed.handle.list().is_empty());
    bed.handle.stop(&waiting).await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_the_tasks_stops_everything() {
    let bed = Bed::new();
    let id = bed.start(bed.python(SERVER));
    bed.seen.ready(&id);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_stopped_at_the_same_time() {
    let bed = Bed::new();
    for _ in 0..5 {
        let mut spec = bed.sh("trap '' TERM; echo up; while true; do sleep 1; done");
        spec.stop_timeout = Duration::from_millis(500);
        bed.start(spec);
    }
    until("all to be up", || {
        (bed.seen
            .lines()
            .iter()
            .filter(|line| line.1 == "up")
            .count()
            == 5)
            .then_some(())
    });
    let began = clock::monotonic();
    bed.handle.stop_all().await;
    let took = clock::monotonic() - began;
    assert!(took < Duration::from_secs(2), "{took:?}");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stop_does_not_forget_the_next_one_of_that_name() {
    let bed = Bed::new();
    let spec = bed.sh("exec sleep 1000");
    let id = bed.start(spec.clone());
    let handle = bed.handle.clone();
    let mut late = Box::pin(handle.stop(&id));
    let begun = poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx))).await;
    assert!(begun.is_pending());
    bed.handle.stop(&id).await;
    bed.start(spec);
    late.await;
    drop(handle);
    assert!(bed.handle.status(&id).is_some(), "it runs, so it is listed");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_once_all_are_stopped() {
    let bed = Bed::new();
    let before = bed.start(bed.sh("exec sleep 1000"));
    bed.handle.stop_all().await;
    let after = bed.start(bed.sh("exec sleep 1000"));
    assert!(bed.handle.status(&before).is_none());
    assert!(bed.handle.status(&after).is_none());
    bed.end().await;
}
