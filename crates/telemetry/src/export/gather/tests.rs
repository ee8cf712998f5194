//! Sending on, to a place that has its moods.

use std::collections::VecDeque;

use atoll_base::{RevisionNumber, ServiceName, Tasks, Timestamp};
use tokio::sync::mpsc;

use super::*;
use crate::record::Stream;

/// Answers by a list, then always well; tells what it got.
struct Place {
    answers: Mutex<VecDeque<Outcome>>,
    got: mpsc::Sender<(Signal, usize)>,
}

impl Transport for Place {
    fn send(&self, signal: Signal, body: Bytes) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let answer = lock(&self.answers).pop_front();
        let got = self.got.clone();
        Box::pin(async move {
            got.send((signal, body.len())).await.unwrap();
            answer.unwrap_or(answered(200))
        })
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
        rejected: 0,
    }
}

fn place(answers: &[Outcome]) -> (Arc<Place>, mpsc::Receiver<(Signal, usize)>) {
    let (got, gets) = mpsc::channel(100);
    let answers = Mutex::new(answers.iter().cloned().collect());
    (Arc::new(Place { answers, got }), gets)
}

fn record() -> NewRecord {
    NewRecord {
        time: Timestamp::from_micros(5),
        service: ServiceName::new("a").unwrap(),
        instance: String::new(),
        revision: RevisionNumber(0),
        stream: Stream::Stdout,
        level: None,
        trace: None,
        span: None,
        attributes: String::new(),
        continued: false,
        message: "x".to_owned(),
    }
}

fn sent_by_a_task(sending: impl Future<Output = ()> + Send + 'static) -> Tasks {
    let tasks = Tasks::new();
    let stopping = tasks.clone();
    tasks.spawn("sending", async move {
        tokio::select! {
            () = sending => {}
            () = stopping.stopping() => {}
        }
    });
    tasks
}

async fn until<F: Fn(&ExportStats) -> bool>(exporter: &Exporter, wanted: F) -> ExportStats {
    loop {
        let stats = exporter.stats();
        if wanted(&stats) {
            return stats;
        }
        // In paused time this passes at once, and lets the pauses of the sender pass too.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The pauses pass at once; the thread's second does not.
#[tokio::test(start_paused = true)]
async fn what_fails_is_sent_again_and_what_is_refused_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let unreached = Outcome::Unreached("nobody is there".to_owned());
    let (place, mut gets) = place(&[answered(503), unreached, answered(200), answered(400)]);
    let (exporter, sending) = Service::start(dir.path().to_owned(), 1 << 20, place).unwrap();
    let tasks = sent_by_a_task(sending);
    exporter.logs(vec![record(); BATCH_ITEMS]);
    let stats = until(&exporter, |stats| stats.sent > 0).await;
    assert_eq!(
        (stats.sent, stats.waiting, stats.trouble),
        (BATCH_ITEMS as u64, 0, None)
    );
    exporter.logs(vec![record(); BATCH_ITEMS]);
    let stats = until(&exporter, |stats| stats.refused > 0).await;
    assert_eq!(
        (stats.refused, stats.waiting, stats.dropped),
        (BATCH_ITEMS as u64, 0, 0)
    );
    for _ in 0..4 {
        assert_eq!(gets.recv().await.unwrap().0, Signal::Logs);
    }
    tasks.stop();
}

#[tokio::test]
async fn what_waits_is_sent_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let (nobody, _gets) = place(&[]);
    let (exporter, sending) = Service::start(dir.path().to_owned(), 1 << 20, nobody).unwrap();
    exporter.logs(vec![record(); 2 * BATCH_ITEMS]);
    until(&exporter, |stats| stats.waiting == 2 * BATCH_ITEMS as u64).await;
    drop((exporter, sending));
    let (place, mut gets) = place(&[]);
    let (exporter, sending) = Service::start(dir.path().to_owned(), 1 << 20, place).unwrap();
    let tasks = sent_by_a_task(sending);
    let stats = until(&exporter, |stats| stats.waiting == 0).await;
    assert_eq!(stats.sent, 2 * BATCH_ITEMS as u64);
    assert!(gets.recv().await.is_some() && gets.recv().await.is_some());
    tasks.stop();
}

#[tokio::test]
async fn what_does_not_fit_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (nobody, _gets) = place(&[]);
    let (exporter, _sending) = Service::start(dir.path().to_owned(), 64, nobody).unwrap();
    exporter.logs(vec![record(); BATCH_ITEMS]);
    let stats = until(&exporter, |stats| stats.dropped > 0).await;
    assert_eq!((stats.dropped, stats.waiting), (BATCH_ITEMS as u64, 0));
}
