//! How an end is told, and what comes after it.

use std::net::TcpListener;

use atoll_supervisor::{Event, ExitReason, State};

use crate::bed::{Bed, SERVER, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_with_its_code_and_the_last_lines() {
    let bed = Bed::new();
    let mut spec = bed.sh("echo one; echo two >&2; exit 3");
    spec.restart = false;
    let id = bed.start(spec);
    let (reason, lines) = bed.seen.exited(&id);
    assert!(
        matches!(reason, ExitReason::Code { code: 3, .. }),
        "{reason}"
    );
    assert!(reason.to_string().starts_with("exited with code 3 after "));
    let mut lines = lines;
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    let status = until_state(&bed, &id, State::Failed);
    assert_eq!(status.pid, None);
    assert_eq!(status.reason.unwrap(), reason.to_string());
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_with_code_zero_is_no_failure() {
    let bed = Bed::new();
    let mut spec = bed.sh("true");
    spec.restart = false;
    let id = bed.start(spec);
    until_state(&bed, &id, State::Stopped);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_named() {
    let bed = Bed::new();
    let id = bed.start(bed.sh("kill -SEGV $$"));
    let (reason, _) = bed.seen.exited(&id);
    assert!(
        reason.to_string().starts_with("killed by SIGSEGV"),
        "{reason}"
    );
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_again_and_again_is_in_a_crash_loop() {
    let bed = Bed::new();
    let id = bed.start(bed.sh("echo no database; exit 1"));
    let attempt = bed.seen.event(|event| match event {
        Event::BackingOff {
            attempt,
            crash_loop: true,
            ..
        } => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempt, 5);
    let status = until_state(&bed, &id, State::CrashLoop);
    assert_eq!(status.last_lines, ["no database"]);
    assert!(status.reason.unwrap().starts_with("exited with code 1"));
    assert_eq!(status.restarts, 5);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_is_started_again_and_told_at_once() {
    let bed = Bed::new();
    let id = bed.start(bed.python(SERVER));
    bed.seen.ready(&id);
    let pid = bed.status(&id).pid.unwrap();
    kill(pid);
    let (reason, _) = bed.seen.exited(&id);
    assert!(
        matches!(reason, ExitReason::Signal { signal: 9, .. }),
        "{reason}"
    );
    bed.seen.nth_event(1, |event| {
        matches!(event, Event::Ready { .. }).then_some(())
    });
    assert_ne!(bed.status(&id).pid.unwrap(), pid);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_main_process_leaves_behind_is_killed() {
    let bed = Bed::new();
    // A child in the group, and one that began a session of its own; both hold the pipe.
    let mut spec = bed.sh("sleep 1000 & setsid sleep 1001 & echo up; sleep 0.1");
    spec.restart = false;
    let id = bed.start(spec);
    bed.seen.exited(&id);
    bed.seen
        .event(|event| matches!(event, Event::Stopped { .. }).then_some(()));
    assert_eq!(crate::bed::marked(&bed.node_id), [0; 0]);
    bed.end().await;
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_port_that_somebody_else_has_is_waited_for_and_its_holder_named() {
    let bed = Bed::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut spec = bed.python(SERVER);
    spec.port = Some(port);
    let id = bed.start(spec);
    let told = bed.seen.event(|event| match event {
        Event::SpawnFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    let begin = format!("port {port}, which its users know it by, is taken by `");
    assert!(told.starts_with(&begin), "{told}");
    let holder = format!("(process {})", std::process::id());
    assert!(told.contains(&holder), "{told}");
    let events = bed.seen.events();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Ready { .. })),
        "the other one was taken for it: {events:#?}"
    );
    drop(taken);
    bed.seen.ready(&id);
    assert_eq!(bed.status(&id).addr.unwrap().port(), port);
    bed.end().await;
}
