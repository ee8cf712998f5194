//! Commands that are run to their end.

use std::time::Duration;

use atoll_base::clock;
use atoll_supervisor::{Error, ExitReason, Run, Stream, run_to_end};
use tokio_util::sync::CancellationToken;

use crate::bed::{is_alive, until};

fn command(program: &str) -> Run {
    Run {
        command: ["sh", "-c", program].map(str::to_owned).to_vec(),
        dir: std::env::temp_dir(),
        env: vec![("GREETING".into(), "hello".into())],
        user: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_output_arrives_before_the_end_is_told() {
    let mut lines = Vec::new();
    let take = |stream, text: &str, _| lines.push((stream, text.to_owned()));
    let run = command("echo $GREETING; echo wrong >&2; seq 20000; exit 4");
    let reason = run_to_end(run, take, &CancellationToken::new())
        .await
        .unwrap();
    assert!(
        matches!(reason, ExitReason::Code { code: 4, .. }),
        "{reason}"
    );
    assert!(lines.contains(&(Stream::Stdout, "hello".to_owned())));
    assert!(lines.contains(&(Stream::Stderr, "wrong".to_owned())));
    assert_eq!(lines.len(), 20_002);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_kills_the_whole_group() {
    let cancel = CancellationToken::new();
    let mut pids = Vec::new();
    let take = |_, text: &str, _| {
        pids.push(text.parse::<u32>().unwrap());
        cancel.cancel();
    };
    let began = clock::monotonic();
    let run = command("trap '' TERM INT; sleep 1000 & echo $!; wait");
    let reason = run_to_end(run, take, &cancel).await.unwrap();
    assert_eq!(reason, ExitReason::Asked);
    assert!(clock::monotonic() - began < Duration::from_secs(5));
    until("the child to be gone", || {
        (!is_alive(pids[0])).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_kills_it_too() {
    let seen = std::sync::Mutex::new(None);
    let cancel = CancellationToken::new();
    let take = |_, text: &str, _| *seen.lock().unwrap() = text.parse::<u32>().ok();
    let running = run_to_end(command("echo $$; sleep 1000"), take, &cancel);
    let heard = async {
        while seen.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = running => panic!("it sleeps"),
        () = heard => {}
    }
    let pid = seen.lock().unwrap().unwrap();
    until("it to be gone", || (!is_alive(pid)).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_left_behind_does_not_hold_it_up() {
    let began = clock::monotonic();
    let run = command("setsid sleep 3 & echo done");
    let reason = run_to_end(run, |_, _, _| {}, &CancellationToken::new())
        .await
        .unwrap();
    assert!(reason.is_orderly());
    let took = clock::monotonic() - began;
    assert!(took < Duration::from_millis(2500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_named() {
    let mut run = command("");
    run.command = vec!["no-such-builder".to_owned()];
    let error = run_to_end(run, |_, _, _| {}, &CancellationToken::new()).await;
    assert!(matches!(error, Err(Error::ProgramNotFound { .. })));
}
