//! Constant load on kept connections; every request is counted, and every failure told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use atoll_base::clock;

use super::Connection;

/// Connections, each with a thread of its own.
const CONNECTIONS: u32 = 8;

/// `GET`, on a connection that is kept.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// `POST`, which the proxy never sends twice.
pub(crate) fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody")
}

/// `GET`, after which the connection is closed.
pub(crate) fn get_and_close(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
}

/// Load that goes on until [`Load::stop`].
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Outcome>>,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) failures: Vec<String>,
    /// Good answers, by the revision that gave them.
    pub(crate) by_revision: BTreeMap<String, u64>,
}

impl Load {
    /// These requests in turn, so many in a second on all connections together, or as many as the
    /// machine can.
    pub(crate) fn start(edge: SocketAddr, requests: &[String], per_second: u32) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let pause = Duration::from_secs(1) * CONNECTIONS / per_second;
        let threads = (0..CONNECTIONS)
            .map(|_| {
                let requests = requests.to_vec();
                let (ends, sent) = (Arc::clone(&ends), Arc::clone(&sent));
                std::thread::spawn(move || drive(edge, &requests, pause, &ends, &sent))
            })
            .collect();
        Self {
            ends,
            sent,
            threads,
        }
    }

    /// Requests that have been answered, or have failed, so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Outcome {
        self.ends.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for thread in std::mem::take(&mut self.threads) {
            let one = thread.join().unwrap();
            all.requests += one.requests;
            all.failures.extend(one.failures);
            for (revision, count) in one.by_revision {
                *all.by_revision.entry(revision).or_default() += count;
            }
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn drive(
    edge: SocketAddr,
    requests: &[String],
    pause: Duration,
    ends: &AtomicBool,
    sent: &AtomicU64,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    let begun = clock::monotonic();
    let mut due = begun;
    for request in requests.iter().cycle() {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let answered = match connection.take() {
            Some(kept) => Ok(kept),
            None => Connection::open(edge),
        }
        .and_then(|mut open| open.exchange(request).map(|answer| (open, answer)));
        outcome.requests += 1;
        sent.fetch_add(1, Ordering::Relaxed);
        match answered {
            Ok((open, answer)) if answer.status == 200 => {
                let revision = answer.field("x-revision").unwrap_or_default().to_owned();
                *outcome.by_revision.entry(revision).or_default() += 1;
                // The edge may say that it closes; a client that listens has lost nothing.
                let closes = answer.field("connection") == Some("close");
                connection = (!closes).then_some(open);
            }
            Ok((_, answer)) => {
                let at = begun.elapsed();
                outcome
                    .failures
                    .push(format!("{at:?}: {} {}", answer.status, answer.body));
            }
            Err(error) => outcome
                .failures
                .push(format!("{:?}: {error}", begun.elapsed())),
        }
        due += pause;
        let now = clock::monotonic();
        match due.checked_duration_since(now) {
            Some(early) => std::thread::sleep(early),
            // Behind: what was missed is not made up for in a burst.
            None => due = now,
        }
    }
    outcome
}
