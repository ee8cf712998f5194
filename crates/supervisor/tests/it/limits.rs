//! Limits of memory, processes and processor time.

use std::error::Error as _;
use std::process::Command;
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration};
use atoll_supervisor::{Event, ExitReason, State};
use atoll_testkit::{Ability, lacking};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bed::{Bed, SERVER, has_cgroups, http, until_state};

const ALONE: &str = "TEST_ALONE";

/// Atoll's own soft limit is raised as far as it goes; instances begin with a moderate one.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_open_files_begins_moderate_and_can_be_raised() {
    let own = getrlimit(Resource::Nofile);
    let hard = own.maximum.unwrap_or(u64::MAX);
    if std::env::var(ALONE).is_err() {
        // One below the hard limit, so that what is passed on can be told from what is set.
        return alone("limits::the_number_of_open_files_begins_moderate_and_can_be_raised");
    }
    let lower = Rlimit {
        current: Some(hard.min(65_536) - 1),
        ..own
    };
    setrlimit(Resource::Nofile, lower).unwrap();
    let bed = Bed::new();
    bed.start(bed.sh("echo files $(ulimit -Sn) $(ulimit -Hn); exec sleep 1000"));
    let files = bed
        .seen
        .line(|line| line.strip_prefix("files ").map(str::to_owned));
    let hard = own
        .maximum
        .map_or("unlimited".to_owned(), |hard| hard.to_string());
    let soft = own.maximum.unwrap_or(u64::MAX).min(65_536);
    assert_eq!(files, format!("{soft} {hard}"));
    bed.end().await;
}

/// Clients may take all file descriptors that Atoll has. That must not kill what is healthy, nor be
/// taken for something else.
#[tokio::test(flavor = "multi_thread")]
async fn want_of_file_descriptors_is_no_verdict_about_an_instance() {
    if std::env::var(ALONE).is_err() {
        return alone("limits::want_of_file_descriptors_is_no_verdict_about_an_instance");
    }
    let bed = Bed::new();
    let mut spec = bed.python(SERVER);
    spec.health = http("/");
    spec.health.interval = HumanDuration::millis(10);
    spec.health.failures = 1;
    let id = bed.start(spec);
    bed.seen.ready(&id);
    let own = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..own
    };
    setrlimit(Resource::Nofile, none).unwrap();
    bed.start(bed.python(SERVER));
    let (text, source) = bed.seen.event(|event| match event {
        Event::SpawnFailed { error, .. } => Some((
            error.to_string(),
            error.source().map(ToString::to_string).unwrap_or_default(),
        )),
        _ => None,
    });
    assert!(text.contains("looking for a free port"), "{text}");
    assert!(source.contains("Too many open files"), "{source}");
    // Time for many checks, any of which would be the last.
    tokio::time::sleep(Duration::from_millis(300)).await;
    setrlimit(Resource::Nofile, own).unwrap();
    assert_eq!(bed.status(&id).state, State::Ready);
    let unready = |event: &Event| matches!(event, Event::Unready { .. });
    assert!(!bed.seen.events().iter().any(unready));
    bed.end().await;
}

/// Runs one test in a process of its own: limits are of the whole process.
fn alone(test: &str) {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_uses_too_much_memory_is_said_to() {
    let bed = Bed::new();
    let mut spec = bed.python("x = bytearray(200 << 20); print(len(x))");
    spec.resources.memory = Some(ByteCount::mib(64));
    spec.restart = false;
    let id = bed.start(spec);
    let (reason, _) = bed.seen.exited(&id);
    if has_cgroups(&bed) {
        assert_eq!(
            reason.to_string(),
            "killed by the kernel: used more than its memory limit of 64MiB"
        );
        assert_eq!(reason.code().unwrap().0, "ATL0212");
    } else {
        assert!(
            matches!(reason, ExitReason::Code { code: 1, .. }),
            "{reason}"
        );
    }
    let status = until_state(&bed, &id, State::Failed);
    assert_eq!(status.reason.unwrap(), reason.to_string());
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_kills_itself_is_not_said_to_have_used_too_much() {
    let bed = Bed::new();
    let id = bed.start(bed.sh("kill -9 $$"));
    let (reason, _) = bed.seen.exited(&id);
    assert!(
        matches!(reason, ExitReason::Signal { signal: 9, .. }),
        "{reason}"
    );
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_processes_is_limited() {
    let bed = Bed::new();
    if !has_cgroups(&bed) {
        lacking(Ability::Cgroups);
        return bed.end().await;
    }
    let program = "
import os
n = 0
try:
    while n < 100:
        if os.fork() == 0:
            import time; time.sleep(1000)
        n += 1
except OSError: pass
print('forked', n)
";
    let mut spec = bed.python(program);
    spec.resources.pids = Some(10);
    spec.restart = false;
    bed.start(spec);
    let forked = bed
        .seen
        .line(|line| line.strip_prefix("forked ").map(str::to_owned));
    assert_eq!(forked, "9");
    bed.end().await;
}
