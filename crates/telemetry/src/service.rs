//! The thread that owns the log, and the handle that everyone has.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use atoll_base::{RevisionNumber, ServiceName, Timestamp, TraceId, clock};
use tokio::sync::{broadcast, oneshot};

use crate::extract::extract;
use crate::hops::{Hop, Hops};
use crate::logs::query::Query;
use crate::logs::search;
use crate::logs::writer::Writer;
use crate::record::{Level, LogRecord, Stream};
use crate::{Error, LogsConfig};

/// A line is in its segment after this long at most.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Retention by age is looked at this often; by size, at every new segment.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Lines that may wait for the thread.
const QUEUE_LENGTH: usize = 8 << 10;

/// Bytes of lines that may wait for the thread. Beyond it, lines are dropped and counted.
const QUEUE_BYTES_MAX: usize = 8 << 20;

/// Records that a follower reads from the disk at once; the next ones when these were taken.
const BATCH_LENGTH: usize = 1024;

/// Records a follower may be behind before it reads from the disk instead.
const FOLLOW_LENGTH: usize = 1024;

/// A line that was just read.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// When it was read.
    pub time: Timestamp,
    /// Who printed it.
    pub service: ServiceName,
    /// Which instance; empty where Atoll speaks of the whole service.
    pub instance: String,
    /// Of which revision.
    pub revision: RevisionNumber,
    /// On which stream.
    pub stream: Stream,
    /// Its level, if it is known better than the line tells.
    pub level: Option<Level>,
    /// Its trace, if it is known better than the line tells.
    pub trace: Option<TraceId>,
    /// Whether it continues the line before.
    pub continued: bool,
    /// The line.
    pub message: String,
}

/// Whether lines are being kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Why lines are being lost right now.
    pub trouble: Option<String>,
    /// Lines dropped since the node started, because the disk was full or slow.
    pub dropped: u64,
}

/// Owns the log; see [`Service::start`].
#[derive(Debug)]
pub struct Service;

/// The log and the hops; a cheap clone.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    messages: SyncSender<Message>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    queued_bytes: AtomicUsize,
    /// Lines that found the queue full, not yet told of in the log.
    overflow: AtomicU64,
    dropped: AtomicU64,
    trouble: Mutex<Option<String>>,
    hops: Mutex<Hops>,
    live: broadcast::Sender<Arc<LogRecord>>,
}

enum Message {
    Record(NewRecord),
    Flush(oneshot::Sender<()>),
}

/// Records as they come, after those that are on disk. See [`Handle::follow`].
#[derive(Debug)]
pub struct Follow {
    handle: Handle,
    query: Query,
    live: broadcast::Receiver<Arc<LogRecord>>,
    backlog: VecDeque<LogRecord>,
    /// The disk may have more than the backlog.
    more: bool,
}

impl Service {
    /// Opens the log in `dir` (made where it is missing) and starts its thread. The thread ends,
    /// with everything written, when the last handle is dropped.
    pub fn start(dir: PathBuf, config: LogsConfig) -> Result<Handle, Error> {
        std::fs::create_dir_all(&dir).map_err(|e| Error::unusable(&dir, e))?;
        let writer = Writer::open(dir.clone(), config)?;
        let (messages, queue) = sync_channel(QUEUE_LENGTH);
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            queued_bytes: AtomicUsize::new(0),
            overflow: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            trouble: Mutex::new(None),
            hops: Mutex::new(Hops::default()),
            live: broadcast::channel(FOLLOW_LENGTH).0,
        });
        let thread = Thread {
            shared: Arc::clone(&shared),
            writer,
            queue,
        };
        std::thread::Builder::new()
            .name("atoll-logs".to_owned())
            .spawn(move || thread.run())
            .map_err(|e| Error::unusable(&dir, e))?;
        Ok(Handle { shared, messages })
    }
}

impl Handle {
    /// Takes a line. Never waits: what does not fit is dropped and counted.
    pub fn log(&self, record: NewRecord) {
        let size = record.message.len();
        let queued = self.shared.queued_bytes.fetch_add(size, Ordering::Relaxed);
        let fits = queued + size <= QUEUE_BYTES_MAX;
        if !fits || self.messages.try_send(Message::Record(record)).is_err() {
            self.shared.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.shared.overflow.fetch_add(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Completes when everything logged before is in its segment.
    pub async fn flush(&self) -> Result<(), Error> {
        let (done, flushed) = oneshot::channel();
        let messages = self.messages.clone();
        // The queue may be full for a moment; waiting for a place must not hold up the runtime.
        let sent = tokio::task::spawn_blocking(move || messages.send(Message::Flush(done))).await;
        sent.map_err(|_| Error::Closed)?
            .map_err(|_| Error::Closed)?;
        flushed.await.map_err(|_| Error::Closed)
    }

    /// Calls `found` with what `query` wants, oldest first, until it answers `false`. Runs on a
    /// thread for blocking work, so `found` may block.
    pub async fn search<F>(&self, query: Query, found: F) -> Result<(), Error>
    where
        F: FnMut(LogRecord) -> bool + Send + 'static,
    {
        self.flush().await?;
        let shared = Arc::clone(&self.shared);
        let searched =
            tokio::task::spawn_blocking(move || search::search(&shared.dir, &query, found));
        searched.await.map_err(|_| Error::Closed)?
    }

    /// What `query` wants that is on disk, then what comes, with nothing lost or twice between.
    pub async fn follow(&self, query: Query) -> Result<Follow, Error> {
        let live = self.shared.live.subscribe();
        let backlog = VecDeque::new();
        let mut follow = Follow {
            handle: self.clone(),
            query,
            live,
            backlog,
            more: false,
        };
        follow.read_disk().await?;
        Ok(follow)
    }

    /// Takes hops.
    pub fn hops(&self, hops: impl IntoIterator<Item = Hop>) {
        self.shared
            .hops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(hops);
    }

    /// The recent hops of a trace, oldest first.
    pub fn hops_of(&self, trace: TraceId) -> Vec<Hop> {
        self.shared
            .hops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(trace)
    }

    /// Whether lines are being kept.
    pub fn health(&self) -> Health {
        let trouble = self
            .shared
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Health {
            trouble,
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Follow {
    /// The next record; none once the store has stopped.
    pub async fn next(&mut self) -> Option<LogRecord> {
        loop {
            if let Some(record) = self.backlog.pop_front() {
                self.query.after = record.number;
                return Some(record);
            }
            if self.more {
                self.read_disk().await.ok()?;
                continue;
            }
            match self.live.recv().await {
                Ok(record) if self.query.wants(&record) => {
                    self.query.after = record.number;
                    return Some(record.as_ref().clone());
                }
                Ok(_) => {}
                // Too far behind for the memory: the disk has what was missed.
                Err(broadcast::error::RecvError::Lagged(_)) => self.read_disk().await.ok()?,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Reads the next batch from the disk.
    async fn read_disk(&mut self) -> Result<(), Error> {
        let (records, mut found) = tokio::sync::mpsc::channel(BATCH_LENGTH);
        let query = self.query.clone();
        // A tail is a batch of its own; what comes after it is read by number.
        let room = self.query.tail.take().unwrap_or(BATCH_LENGTH).max(1);
        let mut taken = 0;
        let handle = self.handle.clone();
        let read = handle.search(query, move |record| {
            taken += 1;
            records.blocking_send(record).is_ok() && taken < room
        });
        let gather = async {
            while let Some(record) = found.recv().await {
                self.backlog.push_back(record);
            }
        };
        let (outcome, ()) = tokio::join!(read, gather);
        self.more = self.backlog.len() >= room;
        outcome
    }
}

/// What the thread has.
struct Thread {
    shared: Arc<Shared>,
    writer: Writer,
    queue: Receiver<Message>,
}

impl Thread {
    fn run(mut self) {
        let mut flush_at: Option<Instant> = None;
        let mut retain_at = clock::monotonic();
        loop {
            let now = clock::monotonic();
            if now >= retain_at {
                self.drop_old();
                retain_at = now + RETENTION_INTERVAL;
            }
            if flush_at.is_some_and(|at| now >= at) {
                self.flush();
                flush_at = None;
            }
            let wake_at = flush_at.unwrap_or(retain_at);
            match self
                .queue
                .recv_timeout(wake_at.saturating_duration_since(now))
            {
                Ok(Message::Record(record)) => {
                    self.shared
                        .queued_bytes
                        .fetch_sub(record.message.len(), Ordering::Relaxed);
                    self.take(record);
                    flush_at = flush_at.or(Some(now + FLUSH_INTERVAL));
                }
                Ok(Message::Flush(done)) => {
                    self.flush();
                    flush_at = None;
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.flush();
    }

    fn take(&mut self, new: NewRecord) {
        let told = extract(&new.message);
        let mut record = LogRecord {
            number: 0,
            time: new.time,
            service: new.service,
            instance: new.instance,
            revision: new.revision,
            stream: new.stream,
            level: new.level.or(told.level),
            trace: new.trace.or(told.trace),
            continued: new.continued,
            message: new.message,
        };
        self.writer.append(&mut record, clock::monotonic());
        if self.shared.live.receiver_count() > 0 {
            // Nobody may be following any more by now.
            let _ = self.shared.live.send(Arc::new(record));
        }
    }

    fn flush(&mut self) {
        let overflow = self.shared.overflow.swap(0, Ordering::Relaxed);
        if overflow > 0 {
            self.tell(format!(
                "{overflow} lines were dropped: they came faster than the disk takes them"
            ));
        }
        self.writer.flush(clock::monotonic());
        let lost = self.writer.take_lost();
        if lost > 0 {
            self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
            self.tell(format!(
                "{lost} lines were lost while the disk refused them"
            ));
            self.writer.flush(clock::monotonic());
        }
        let trouble = self.writer.trouble().map(str::to_owned);
        *self
            .shared
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn drop_old(&self) {
        if let Err(error) = self.writer.drop_old(Timestamp::now()) {
            tracing::warn!(%error, "old logs cannot be removed");
        }
    }

    /// A record by the log, about itself.
    fn tell(&mut self, message: String) {
        let service = ServiceName::new("atoll").expect("a valid name");
        self.take(NewRecord {
            time: Timestamp::now(),
            service,
            instance: String::new(),
            revision: RevisionNumber(0),
            stream: Stream::Platform,
            level: Some(Level::Warn),
            trace: None,
            continued: false,
            message,
        });
    }
}
