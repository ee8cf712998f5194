//! The store as others use it: a handle, and the two threads behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use atoll_base::{Timestamp, TraceId};
use atoll_store::log::{Disk, RealDisk};
use tokio::sync::{broadcast, oneshot};

use crate::columns::{LogColumns, SpanColumns};
use crate::export::Exporter;
use crate::follow::Follow;
use crate::mover::Mover;
use crate::open::{self, Found};
use crate::query::Filter;
use crate::queue::Queue;
use crate::sample::{Rules, Sampler};
use crate::schema::Kind;
use crate::search::{self, Facets, Histogram, Page, PageQuery, TracePage, TraceQuery, TraceView};
use crate::shelf::{HotBatch, Shelf, Snapshot};
use crate::wal::{self, Wal};
use crate::writer::{Lane, Outgoing, Writer};
use crate::{Error, LogRecord, NewRecord, Records, Span, Spans, TelemetryConfig};

/// Batches a follower may be behind before it reads from the store instead.
const FOLLOW_LENGTH: usize = 64;

/// Which records are wanted, in the order in which they came.
#[derive(Debug, Clone)]
pub struct Query {
    /// What is wanted of them.
    pub filter: Filter,
    /// Only records with a higher number.
    pub after: u64,
    /// Only the last so many of those that fit.
    pub tail: Option<usize>,
}

/// Whether telemetry is being kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Why something is being lost, or may soon be.
    pub trouble: Option<String>,
    /// Lines dropped since the node started, because the disk was full or slow.
    pub dropped: u64,
    /// Spans dropped since then.
    pub dropped_spans: u64,
    /// Spans of ordinary traces that were left out since then, because `[telemetry] sample` says so.
    pub left_out_spans: u64,
}

/// Opens the store; see [`Service::start`].
#[derive(Debug)]
pub struct Service;

/// The store; a cheap clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Owner>);

/// Ends the threads with the last handle.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads and the handles have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) logs: Arc<Shelf>,
    pub(crate) spans: Arc<Shelf>,
    pub(crate) live: broadcast::Sender<Arc<HotBatch>>,
    pub(crate) trouble: Trouble,
    /// Where all that is kept is sent on, if anywhere.
    pub(crate) outlet: OnceLock<Exporter>,
    /// Which spans were left out, and when.
    rules: Rules,
    dropped: AtomicU64,
    dropped_spans: AtomicU64,
    left_out_spans: AtomicU64,
}

/// What is wrong, by who found it.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<BTreeMap<&'static str, String>>);

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: Filter::all(Kind::Logs),
            after: 0,
            tail: None,
        }
    }
}

impl Trouble {
    /// Sets or takes back a trouble; answers whether there was none before.
    pub(crate) fn set(&self, by: &'static str, trouble: Option<String>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => all.insert(by, trouble).is_none(),
            None => all.remove(by).is_none(),
        }
    }

    fn first(&self) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().next().cloned()
    }
}

impl Shared {
    pub(crate) fn count_dropped(&self, records: u64, spans: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
        self.dropped_spans.fetch_add(spans, Ordering::Relaxed);
    }

    /// These spans, of which each may stand for some that were left out.
    pub(crate) fn weighed<'a>(&'a self, kept: &'a Snapshot) -> search::Spans<'a> {
        let rules = &self.rules;
        search::Spans { kept, rules }
    }

    pub(crate) fn count_left_out(&self, spans: u64) {
        self.left_out_spans.fetch_add(spans, Ordering::Relaxed);
    }
}

impl Service {
    /// Opens the store in `dir` (made where it is missing) and starts its threads. They end, with everything
    /// in files, when the last handle is dropped, which waits for it.
    ///
    /// # Errors
    /// If the folder cannot be used. A file that is damaged is skipped with a warning.
    pub fn start(dir: &Path, config: TelemetryConfig) -> Result<Handle, Error> {
        std::fs::create_dir_all(dir).map_err(|error| Error::unusable(dir, error))?;
        Self::start_on(Arc::new(RealDisk), dir, config)
    }

    /// The same on any disk; `dir` is there.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: TelemetryConfig,
    ) -> Result<Handle, Error> {
        let (writer, mover) = threads(disk, dir, config)?;
        let owner = Owner {
            shared: Arc::clone(&writer.shared),
            threads: Mutex::default(),
        };
        owner.spawn(dir, "atoll-telemetry", move || writer.run())?;
        owner.spawn(dir, "atoll-parquet", move || mover.run())?;
        Ok(Handle(Arc::new(owner)))
    }
}

/// What the two threads run, with what was found below `dir`.
fn threads(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: TelemetryConfig,
) -> Result<(Writer, Mover), Error> {
    open::make_folders(disk.as_ref(), dir)?;
    let rules = open::sampling(disk.as_ref(), dir, &config, Timestamp::now());
    let logs = open::find(&disk, dir, Kind::Logs)?;
    let spans = open::find(&disk, dir, Kind::Spans)?;
    let hot = config.hot_bytes_max();
    let (log_lane, log_shelf) = lane(&disk, dir, Kind::Logs, logs, hot);
    let (span_lane, span_shelf) = lane(&disk, dir, Kind::Spans, spans, hot);
    let shared = Arc::new(Shared {
        queue: Queue::default(),
        logs: log_shelf,
        spans: span_shelf,
        live: broadcast::channel(FOLLOW_LENGTH).0,
        trouble: Trouble::default(),
        outlet: OnceLock::new(),
        rules,
        dropped: AtomicU64::new(0),
        dropped_spans: AtomicU64::new(0),
        left_out_spans: AtomicU64::new(0),
    });
    let (sealed, waiting) = sync_channel(1);
    let writer = Writer {
        shared: Arc::clone(&shared),
        logs: log_lane,
        spans: span_lane,
        log_columns: LogColumns::new(),
        span_columns: SpanColumns::new(),
        sampler: Sampler::new(config.sample, config.sample_slow.0),
        outgoing: Outgoing::default(),
        sealed,
    };
    let mover = Mover {
        shared,
        disk,
        dir: dir.to_owned(),
        config,
        sealed: waiting,
    };
    Ok((writer, mover))
}

fn lane(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    kind: Kind,
    found: Found,
    hot_bytes_max: usize,
) -> (Lane, Arc<Shelf>) {
    let folder: PathBuf = dir.join(wal::FOLDER);
    let shelf = Arc::new(Shelf::new(kind, found.snapshot));
    let wal = Wal::new(Arc::clone(disk), &folder, kind, found.sequence);
    let lane = Lane::new(Arc::clone(&shelf), wal, found.next, hot_bytes_max);
    (lane, shelf)
}

impl Owner {
    fn spawn(
        &self,
        dir: &Path,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::unusable(dir, error))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
        Ok(())
    }

    fn close(&self) {
        self.shared.queue.close();
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the telemetry store has panicked");
            }
        }
        if let Some(outlet) = self.shared.outlet.get() {
            outlet.close();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Handle {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// From now on, all that is kept is sent on, too. Only the first call counts.
    pub fn send_on(&self, outlet: Exporter) {
        // Whoever comes second finds one there already.
        let _ = self.shared().outlet.set(outlet);
    }

    /// Takes a line. Never waits: what does not fit is dropped and counted.
    pub fn log(&self, record: NewRecord) {
        self.logs([record]);
    }

    /// Takes lines. Never waits: what does not fit is dropped and counted. Answers how many that were.
    pub fn logs(&self, records: impl IntoIterator<Item = NewRecord>) -> u64 {
        let dropped = self.shared().queue.put_records(records);
        self.shared().count_dropped(dropped, 0);
        dropped
    }

    /// Takes lines in a form of somebody else. Never waits: if they do not fit, all are dropped and counted.
    /// Answers how many that were.
    pub fn log_batch(&self, batch: Box<dyn Records>) -> u64 {
        let dropped = self.shared().queue.put_record_batch(batch);
        self.shared().count_dropped(dropped, 0);
        dropped
    }

    /// Takes spans. Never waits: if they do not fit, all are dropped and counted. Answers how many that were.
    pub fn spans(&self, spans: impl IntoIterator<Item = Span>) -> u64 {
        self.span_batch(Box::new(spans.into_iter().collect::<Vec<Span>>()))
    }

    /// Takes spans in a form of somebody else. Never waits: if they do not fit, all are dropped and counted.
    /// Answers how many that were.
    pub fn span_batch(&self, batch: Box<dyn Spans>) -> u64 {
        let dropped = self.shared().queue.put_spans(batch);
        self.shared().count_dropped(0, dropped);
        dropped
    }

    /// Takes lines, or not if much waits already: who can send them later should. Answers whether they were taken.
    pub fn offer_records(&self, records: Box<dyn Records>) -> bool {
        self.shared().queue.offer_records(records)
    }

    /// Takes spans in the same way.
    pub fn offer_spans(&self, spans: Box<dyn Spans>) -> bool {
        self.shared().queue.offer_spans(spans)
    }

    /// Whether much waits already: whoever can send later should.
    pub fn is_busy(&self) -> bool {
        self.shared().queue.is_busy()
    }

    /// Completes when not much waits any more; also when nothing was taken for three seconds, and from then on at once
    /// until something is: nobody waits for a disk that is full.
    pub async fn room(&self) {
        self.shared().queue.room().await;
    }

    /// Completes when everything taken before is written ahead and can be found; while the disk is far behind,
    /// at once, so that nobody waits for a disk that is full.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn flush(&self) -> Result<(), Error> {
        let (done, flushed) = oneshot::channel();
        self.shared().queue.flush(done);
        flushed.await.map_err(|_| Error::Closed)
    }

    /// Completes when everything taken before is in files. Nothing is kept after it.
    pub async fn close(&self) {
        let owner = Arc::clone(&self.0);
        // Only a runtime that ends refuses; then the last handle does it.
        let _ = tokio::task::spawn_blocking(move || owner.close()).await;
    }

    /// Runs a search on a thread for blocking work, after everything taken before can be found.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        search: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.flush().await?;
        let shared = Arc::clone(self.shared());
        let searched = tokio::task::spawn_blocking(move || search(&shared));
        searched.await.map_err(|_| Error::Closed)
    }

    /// A page of log records, the newest first.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn search(&self, query: PageQuery) -> Result<Page, Error> {
        self.blocking(move |shared| search::page(&shared.logs.snapshot(), query))
            .await
    }

    /// Calls `found` with the log records that `query` wants, oldest first, until it answers `false`. It runs on
    /// a thread for blocking work, so `found` may block.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn records<F>(&self, query: Query, found: F) -> Result<(), Error>
    where
        F: FnMut(LogRecord) -> bool + Send + 'static,
    {
        self.records_up_to(query, found).await.map(drop)
    }

    /// The same; answers the highest number that there was to look at.
    pub(crate) async fn records_up_to<F>(&self, query: Query, found: F) -> Result<u64, Error>
    where
        F: FnMut(LogRecord) -> bool + Send + 'static,
    {
        self.blocking(move |shared| {
            let filter = query
                .filter
                .numbered(query.after.saturating_add(1), u64::MAX);
            let snapshot = shared.logs.snapshot();
            search::stream(&snapshot, &filter, query.tail, found);
            let units = snapshot.units();
            let last = units.iter().map(|unit| unit.extent().numbers.1).max();
            last.unwrap_or(0)
        })
        .await
    }

    /// How many log records fit, over time.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn histogram(
        &self,
        filter: Filter,
        between: (Timestamp, Timestamp),
        buckets: usize,
    ) -> Result<Histogram, Error> {
        self.blocking(move |shared| {
            search::histogram(&shared.logs.snapshot(), filter, between, buckets)
        })
        .await
    }

    /// Who called whom in the spans that fit, and how that went.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn edges(&self, filter: Filter) -> Result<Vec<search::Edge>, Error> {
        self.blocking(move |shared| {
            search::edges(shared.weighed(&shared.spans.snapshot()), &filter)
        })
        .await
    }

    /// How many log records fit, by service, level and instance.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn facets(&self, filter: Filter) -> Result<Facets, Error> {
        self.blocking(move |shared| search::facets(&shared.logs.snapshot(), &filter))
            .await
    }

    /// The log record of this number and those of its instance around it, oldest first; nothing if it is gone.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn context(
        &self,
        number: u64,
        before: usize,
        after: usize,
    ) -> Result<Vec<LogRecord>, Error> {
        self.blocking(move |shared| search::context(&shared.logs.snapshot(), number, before, after))
            .await
    }

    /// What `query` wants that is there, then what comes, with nothing lost or twice between.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn follow(&self, query: Query) -> Result<Follow, Error> {
        Follow::start(self.clone(), query).await
    }

    /// All that is kept of a trace.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn trace(&self, trace: TraceId) -> Result<TraceView, Error> {
        self.blocking(move |shared| {
            search::trace(&shared.spans.snapshot(), &shared.logs.snapshot(), trace)
        })
        .await
    }

    /// A page of traces.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn search_traces(&self, query: TraceQuery) -> Result<TracePage, Error> {
        self.blocking(move |shared| search::traces(&shared.spans.snapshot(), query))
            .await
    }

    /// Whether telemetry is being kept.
    pub fn health(&self) -> Health {
        let shared = self.shared();
        Health {
            trouble: shared.trouble.first(),
            dropped: shared.dropped.load(Ordering::Relaxed),
            dropped_spans: shared.dropped_spans.load(Ordering::Relaxed),
            left_out_spans: shared.left_out_spans.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
