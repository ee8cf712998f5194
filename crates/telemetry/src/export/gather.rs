//! The exporter at work: what gathers, what writes, what sends.

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use serde::Serialize;
use tokio::sync::Notify;

use super::encode;
use super::spool::{Batch, Spool};
use super::verdict::{Outcome, Verdict, verdict};
use crate::Error;
use crate::NewRecord;
use crate::metrics::MetricPoint;
use crate::otlp::Signal;
use crate::span::Span;

/// What has come is put on disk after this long at most.
const GATHER_TIME: Duration = Duration::from_secs(1);

/// So many items of a kind make a batch at once.
const BATCH_ITEMS: usize = 2048;

/// Items of a kind that may wait in memory. Beyond it, they are dropped and counted.
const ITEMS_MAX: usize = 32_768;

/// Sends batches, however it does.
pub trait Transport: Send + Sync + 'static {
    /// Sends a body: protobuf, compressed by gzip.
    fn send(&self, signal: Signal, body: Bytes) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

/// How the exporter does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExportStats {
    /// Items that were taken there.
    pub sent: u64,
    /// Items that were dropped here for want of room, or because the disk refused them.
    pub dropped: u64,
    /// Items that were refused there.
    pub refused: u64,
    /// Items on disk.
    pub waiting: u64,
    /// Bytes on disk.
    pub waiting_bytes: u64,
    /// Why nothing is sent at present.
    pub trouble: Option<String>,
}

/// Opens an exporter; see [`Service::start`].
#[derive(Debug)]
pub struct Service;

/// Takes items to be sent on; a cheap clone. The thread ends when the last one is dropped, which waits until
/// all that came is on disk.
#[derive(Debug, Clone)]
pub struct Exporter {
    shared: Arc<Shared>,
    alive: Arc<Alive>,
}

#[derive(Debug)]
struct Shared {
    gathered: Mutex<Gathered>,
    came: Condvar,
    spool: Mutex<Spool>,
    spooled: Notify,
    stats: Mutex<ExportStats>,
}

#[derive(Debug, Default)]
struct Gathered {
    spans: Vec<Span>,
    records: Vec<NewRecord>,
    points: Vec<MetricPoint>,
    /// Nobody has an exporter any more.
    closed: bool,
}

/// Ends the thread when the last exporter is dropped.
#[derive(Debug)]
struct Alive {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Alive {
    fn close(&self) {
        lock(&self.shared.gathered).closed = true;
        self.shared.came.notify_all();
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|own| own.join().is_err()) {
            tracing::error!("the thread that writes what is sent on has panicked");
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.close();
    }
}

impl Service {
    /// Opens the buffer in `dir` and starts the thread. The future sends, until it is dropped.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn start(
        dir: PathBuf,
        bytes_max: u64,
        transport: Arc<dyn Transport>,
    ) -> Result<(Exporter, impl Future<Output = ()> + Send + 'static), Error> {
        let spool = Spool::open(dir.clone(), bytes_max);
        let spool = spool.map_err(|error| Error::unusable(&dir, error))?;
        let shared = Arc::new(Shared {
            gathered: Mutex::default(),
            came: Condvar::new(),
            spool: Mutex::new(spool),
            spooled: Notify::new(),
            stats: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("atoll-export".to_owned())
            .spawn(move || own.write())
            .map_err(|error| Error::unusable(&dir, error))?;
        let sending = send(Arc::clone(&shared), transport);
        let alive = Arc::new(Alive {
            shared: Arc::clone(&shared),
            thread: Mutex::new(Some(thread)),
        });
        let exporter = Exporter { shared, alive };
        Ok((exporter, sending))
    }
}

impl Exporter {
    /// Sends spans on. Never waits.
    pub fn spans(&self, spans: Vec<Span>) {
        self.shared.gather(spans, |gathered| &mut gathered.spans);
    }

    /// Sends log records on. Never waits.
    pub fn logs(&self, records: Vec<NewRecord>) {
        self.shared
            .gather(records, |gathered| &mut gathered.records);
    }

    /// Sends metric points on. Never waits.
    pub fn metrics(&self, points: Vec<MetricPoint>) {
        self.shared.gather(points, |gathered| &mut gathered.points);
    }

    /// Puts all that has come on disk; what comes later is lost. Blocks until then.
    pub fn close(&self) {
        self.alive.close();
    }

    /// How it does.
    pub fn stats(&self) -> ExportStats {
        let (waiting, waiting_bytes) = lock(&self.shared.spool).waiting();
        ExportStats {
            waiting,
            waiting_bytes,
            ..lock(&self.shared.stats).clone()
        }
    }
}

impl Shared {
    fn gather<T>(&self, items: Vec<T>, list: fn(&mut Gathered) -> &mut Vec<T>) {
        if items.is_empty() {
            return;
        }
        let came = items.len();
        let mut gathered = lock(&self.gathered);
        let list = list(&mut gathered);
        let room = ITEMS_MAX.saturating_sub(list.len()).min(came);
        list.extend(items.into_iter().take(room));
        let is_batch = list.len() >= BATCH_ITEMS;
        drop(gathered);
        if room < came {
            self.dropped(
                (came - room) as u64,
                "they come faster than they can be written",
            );
        }
        if is_batch {
            self.came.notify_one();
        }
    }

    /// The thread: everything that has come, once a second or when there is much of it.
    fn write(&self) {
        loop {
            let gathered = lock(&self.gathered);
            let waited = self.came.wait_timeout_while(gathered, GATHER_TIME, |own| {
                let most = own.spans.len().max(own.records.len()).max(own.points.len());
                !own.closed && most < BATCH_ITEMS
            });
            let (mut gathered, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let closed = gathered.closed;
            let taken = std::mem::take(&mut *gathered);
            drop(gathered);
            for spans in taken.spans.chunks(BATCH_ITEMS) {
                self.spool(Signal::Traces, spans.len(), &encode::traces(spans));
            }
            for records in taken.records.chunks(BATCH_ITEMS) {
                self.spool(Signal::Logs, records.len(), &encode::logs(records));
            }
            for points in taken.points.chunks(BATCH_ITEMS) {
                self.spool(Signal::Metrics, points.len(), &encode::metrics(points));
            }
            if closed {
                return;
            }
        }
    }

    fn spool(&self, signal: Signal, items: usize, request: &impl Message) {
        let items = items as u64;
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        let body = packed
            .write_all(&request.encode_to_vec())
            .and_then(|()| packed.finish());
        let pushed = body.and_then(|body| lock(&self.spool).push(signal, items, &body));
        match pushed {
            Ok(0) => {}
            Ok(dropped) => self.dropped(dropped, "the buffer is full, the oldest went"),
            Err(error) => {
                self.dropped(items, "the disk refuses them");
                tracing::warn!(%error, "telemetry to be sent on cannot be written");
            }
        }
        self.spooled.notify_one();
    }

    fn dropped(&self, items: u64, why: &str) {
        let mut stats = lock(&self.stats);
        // The first loss is told at once, then each time the number has doubled.
        let before = stats.dropped;
        stats.dropped += items;
        let all = stats.dropped;
        drop(stats);
        if before == 0 || all.ilog2() > before.ilog2() {
            tracing::warn!(items = all, "telemetry was not sent on: {why}");
        }
    }

    fn settle(&self, batch: Batch, verdict: &Verdict) {
        if matches!(verdict, Verdict::Again(..)) {
            return;
        }
        if let Err(error) = lock(&self.spool).remove(batch.number) {
            tracing::warn!(%error, "a batch that was sent cannot be removed; it may come twice");
        }
        let mut stats = lock(&self.stats);
        match verdict {
            Verdict::Sent(rejected) => {
                let rejected = batch.items.min(*rejected);
                stats.sent += batch.items - rejected;
                stats.refused += rejected;
            }
            Verdict::Refused(_) | Verdict::Again(..) => stats.refused += batch.items,
        }
    }

    /// Tells of trouble when it begins and when it ends.
    fn trouble(&self, now: Option<String>) {
        let mut stats = lock(&self.stats);
        let before = stats.trouble.take();
        stats.trouble.clone_from(&now);
        drop(stats);
        match (before, now) {
            (None, Some(why)) => {
                tracing::warn!("telemetry cannot be sent on: {why}");
            }
            (Some(_), None) => tracing::info!("telemetry is sent on again"),
            _ => {}
        }
    }
}

/// Sends the oldest batch, again and again.
async fn send(shared: Arc<Shared>, transport: Arc<dyn Transport>) {
    let mut failures = 0;
    loop {
        let spooled = shared.spooled.notified();
        let Some((batch, body)) = oldest(&shared).await else {
            spooled.await;
            continue;
        };
        let Some(body) = body else {
            shared.settle(batch, &Verdict::Refused("it is broken".to_owned()));
            continue;
        };
        let verdict = verdict(transport.send(batch.signal, body).await, failures);
        shared.settle(batch, &verdict);
        match verdict {
            Verdict::Sent(_) => {
                failures = 0;
                shared.trouble(None);
            }
            Verdict::Refused(why) => {
                failures = 0;
                shared.trouble(Some(format!("{why}; what is refused there is lost")));
            }
            Verdict::Again(pause, why) => {
                failures += 1;
                shared.trouble(Some(format!("{why}; it waits on disk")));
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// The oldest batch and its body, read where it holds nobody up.
async fn oldest(shared: &Arc<Shared>) -> Option<(Batch, Option<Bytes>)> {
    let batch = lock(&shared.spool).front()?;
    let own = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || lock(&own.spool).body(batch)).await;
    Some((batch, read.ok().flatten()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
