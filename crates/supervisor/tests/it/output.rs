//! What instances print.

use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_base::clock;
use atoll_supervisor::{Event, Stream};

use crate::bed::{Bed, until};

#[tokio::test(flavor = "multi_thread")]
async fn lines_come_with_their_stream_and_are_always_utf8() {
    let bed = Bed::new();
    let mut spec = bed.sh(r"printf 'a\377b\nlast'; printf 'err\n' >&2");
    spec.restart = false;
    bed.start(spec);
    bed.seen
        .event(|event| matches!(event, Event::Stopped { .. }).then_some(()));
    let mut lines = bed.seen.lines();
    lines.sort_by_key(|(stream, ..)| *stream == Stream::Stderr);
    let expected = [
        (Stream::Stdout, "a\u{FFFD}b".to_owned(), false),
        (Stream::Stdout, "last".to_owned(), false),
        (Stream::Stderr, "err".to_owned(), false),
    ];
    assert_eq!(lines, expected);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gigabytes_without_a_line_end_pass_in_constant_memory() {
    const LENGTH: u64 = 300 << 20;
    let bed = Bed::new();
    bed.seen.only_count.store(true, Ordering::Relaxed);
    let before = resident();
    let began = clock::monotonic();
    let program = format!(
        "import os\nb = b'x' * (1 << 20)\nfor _ in range({}): os.write(1, b)",
        LENGTH >> 20
    );
    let mut spec = bed.python(&program);
    spec.restart = false;
    bed.start(spec);
    bed.seen
        .event(|event| matches!(event, Event::Stopped { .. }).then_some(()));
    assert_eq!(bed.seen.bytes.load(Ordering::Relaxed), LENGTH);
    let took = clock::monotonic() - began;
    eprintln!(
        "300 MiB in {took:?}; resident before {before} after {} KiB",
        resident()
    );
    assert!(resident() < before + 20_000, "{before} {}", resident());
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_prints_waits_while_there_is_no_room() {
    let bed = Bed::new();
    bed.seen.only_count.store(true, Ordering::Relaxed);
    let no_room = bed.seen.room.lock().await;
    let program = "import os, pathlib\nfor _ in range(64): os.write(1, b'x' * 65535 + b'\\n')\n\
                   pathlib.Path('printed').touch()";
    let mut spec = bed.python(program);
    let printed = spec.dir.join("printed");
    spec.restart = false;
    bed.start(spec);
    until("it to be asked for room", || {
        bed.seen
            .asked_for_room
            .load(Ordering::Relaxed)
            .then_some(())
    });
    assert_eq!(bed.seen.bytes.load(Ordering::Relaxed), 0);
    assert!(!printed.exists());
    drop(no_room);
    bed.seen
        .event(|event| matches!(event, Event::Stopped { .. }).then_some(()));
    assert!(printed.exists());
    assert_eq!(bed.seen.bytes.load(Ordering::Relaxed), 64 * 65535);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_who_holds_the_pipe_open_holds_up_nothing() {
    let bed = Bed::new();
    // The test itself keeps the write end of the pipe, through /proc.
    let mut spec = bed.sh("echo $$; read never < /dev/zero");
    spec.command = ["sh", "-c", "echo $$; exec sleep 1000"]
        .map(str::to_owned)
        .to_vec();
    spec.restart = false;
    let id = bed.start(spec);
    let pid = bed.seen.line(|line| line.parse::<u32>().ok());
    let pipe = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/fd/1"))
        .unwrap();
    let began = clock::monotonic();
    bed.handle.stop(&id).await;
    let took = clock::monotonic() - began;
    assert!(
        took >= Duration::from_millis(400),
        "the pipe was not held: {took:?}"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(pipe);
    until("the reader to end", || Some(()));
    bed.end().await;
}

/// In KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}
