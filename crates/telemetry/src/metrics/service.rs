//! Metrics at work: a lock around what is pure, and a thread that writes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;

use super::cell::Cell;
use super::config::MetricsConfig;
use super::history::History;
use super::point::{Labels, MetricPoint};
use super::query::{COARSE, Gathered, MetricName, Plan, Query, SeriesView, Totals};
use super::set::{Key, Refused, Set};
use crate::Error;
use crate::otlp::Taken;

/// What has come is written after this long at most; a kill loses no more.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// The disk keeps it after so many times more.
const NOTES_PER_FLUSH: u32 = 30;

/// Past days are looked at this often, in flushes.
const FLUSHES_PER_TIDY: u32 = 60;

/// How metrics do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Series in memory.
    pub series: usize,
    /// Bytes that packed cells use.
    pub packed_bytes: usize,
    /// Points that were refused since the start.
    pub refused: u64,
    /// Cells that never came to the disk, since the start.
    pub lost: u64,
    /// Why nothing can be written at present.
    pub trouble: Option<String>,
}

/// Opens metrics; see [`Service::start`].
#[derive(Debug)]
pub struct Service;

/// Metrics; a cheap clone.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    wake: SyncSender<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    set: Mutex<Set>,
    history: Mutex<History>,
    trouble: Mutex<Option<String>>,
    lost: AtomicU64,
    max_age: Duration,
}

/// An answer and how long its steps are.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The length of a step.
    pub step: Duration,
    /// The series, by their labels.
    pub series: Vec<SeriesView>,
    /// Series that there was no room for.
    pub left_out: usize,
}

impl Service {
    /// Opens the history in `dir`, reads the last day of it, and starts the thread. The thread ends,
    /// with everything written, when the last handle is dropped.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn start(dir: PathBuf, config: MetricsConfig) -> Result<Handle, Error> {
        let max_age = config.max_age;
        let mut history = History::open(dir.clone())?;
        let mut set = Set::new(config);
        history.restore(|pending, meaning| set.restore(pending, meaning));
        set.retire(Timestamp::now());
        let shared = Arc::new(Shared {
            set: Mutex::new(set),
            history: Mutex::new(history),
            trouble: Mutex::new(None),
            lost: AtomicU64::new(0),
            max_age,
        });
        let (wake, woken) = sync_channel(16);
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("atoll-metrics".to_owned())
            .spawn(move || run(&own, &woken))
            .map_err(|error| Error::unusable(&dir, error))?;
        Ok(Handle { shared, wake })
    }
}

fn run(shared: &Shared, woken: &Receiver<oneshot::Sender<()>>) {
    let (mut notes, mut flushes) = (0_u32, 0_u32);
    loop {
        let asked = woken.recv_timeout(NOTE_INTERVAL);
        notes = notes.wrapping_add(1);
        let is_due = notes.is_multiple_of(NOTES_PER_FLUSH);
        if !is_due && matches!(asked, Err(RecvTimeoutError::Timeout)) {
            shared.note();
            continue;
        }
        shared.flush(Timestamp::now());
        match asked {
            // Whoever asked may have gone.
            Ok(done) => drop(done.send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if flushes.is_multiple_of(FLUSHES_PER_TIDY) {
            shared.tidy(Timestamp::now());
        }
        flushes = flushes.wrapping_add(1);
    }
}

impl Shared {
    fn note(&self) {
        let fresh = lock(&self.set).drain();
        if fresh.is_empty() {
            return;
        }
        let noted = lock(&self.history).note(fresh);
        // Only a file of a day that was written shows that all is well again.
        if let Err(error) = noted {
            self.failed(&error);
        }
    }

    fn flush(&self, now: Timestamp) {
        let (fresh, overflowing) = {
            let mut set = lock(&self.set);
            set.retire(now);
            (set.drain(), set.take_overflowing())
        };
        if let Some(name) = overflowing {
            tracing::warn!(metric = %name, "there are too many series; new ones are refused");
        }
        let mut history = lock(&self.history);
        // What the journal refuses comes to the file all the same.
        let _ = history.note(fresh);
        let flushed = history.flush();
        self.lost.store(history.lost(), Ordering::Relaxed);
        drop(history);
        match flushed {
            Ok(()) => *lock(&self.trouble) = None,
            Err(error) => self.failed(&error),
        }
    }

    /// Tells of trouble when it begins.
    fn failed(&self, error: &Error) {
        let mut trouble = lock(&self.trouble);
        if trouble.is_none() {
            tracing::warn!(%error, "metrics cannot be written; they wait in memory");
        }
        *trouble = Some(error.to_string());
    }

    fn tidy(&self, now: Timestamp) {
        if let Err(error) = lock(&self.history).tidy(now, self.max_age) {
            tracing::warn!(%error, "old metrics cannot be put in order");
        }
    }
}

impl Handle {
    /// Takes points. Never waits for the disk.
    pub fn take(&self, points: Vec<MetricPoint>) -> Taken {
        let now = Timestamp::now();
        let mut set = lock(&self.shared.set);
        let (mut many, mut late) = (0, 0);
        for point in points {
            match set.take(point, now) {
                Ok(()) => {}
                Err(Refused::TooMany) => many += 1,
                Err(Refused::Late) => late += 1,
            }
        }
        match (many, late) {
            (0, 0) => Taken::All,
            (0, late) => Taken::Except(late, "they are older than what can still be added to"),
            (many, late) => Taken::Except(many + late, "there are too many series"),
        }
    }

    /// The metrics that there are, by name.
    pub fn names(&self) -> Vec<MetricName> {
        lock(&self.shared.set).names()
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When metrics have stopped.
    pub async fn query(&self, query: Query) -> Result<Answer, Error> {
        let shared = Arc::clone(&self.shared);
        let answered = tokio::task::spawn_blocking(move || shared.answer(&query, Timestamp::now()));
        answered.await.map_err(|_| Error::Closed)
    }

    /// What each series of a metric amounts to over a time, however many they are: of counters what was
    /// added, of histograms the sum of their values, of gauges the average times the seconds of
    /// the steps, 360 at most, in which there were values.
    ///
    /// # Errors
    /// When metrics have stopped.
    pub async fn totals(
        &self,
        name: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(Arc<Labels>, f64)>, Error> {
        let shared = Arc::clone(&self.shared);
        let query = Query::total(name, since, until);
        let added = tokio::task::spawn_blocking(move || {
            let mut totals = Totals::default();
            let plan = shared.read(&query, Timestamp::now(), |plan, key, micros, cell| {
                totals.add(plan, key, micros, cell);
            });
            totals.finish(&plan)
        });
        added.await.map_err(|_| Error::Closed)
    }

    /// Completes when everything taken before is on disk, or the disk has refused it.
    ///
    /// # Errors
    /// When metrics have stopped.
    pub async fn flush(&self) -> Result<(), Error> {
        let (done, flushed) = oneshot::channel();
        let wake = self.wake.clone();
        let asked = tokio::task::spawn_blocking(move || wake.send(done)).await;
        asked
            .map_err(|_| Error::Closed)?
            .map_err(|_| Error::Closed)?;
        flushed.await.map_err(|_| Error::Closed)
    }

    /// How metrics do.
    pub fn stats(&self) -> Stats {
        let set = lock(&self.shared.set);
        let (series, packed_bytes, refused) = (set.len(), set.packed_bytes(), set.refused());
        drop(set);
        Stats {
            series,
            packed_bytes,
            refused,
            lost: self.shared.lost.load(Ordering::Relaxed),
            trouble: lock(&self.shared.trouble).clone(),
        }
    }
}

impl Shared {
    fn answer(&self, query: &Query, now: Timestamp) -> Answer {
        let mut gathered = Gathered::default();
        let plan = self.read(query, now, |plan, key, micros, cell| {
            gathered.add(plan, key, micros, cell);
        });
        let left_out = gathered.left_out();
        let mut views = gathered.finish(&plan, query.stat);
        lock(&self.set).exemplars(&plan, &mut views);
        Answer {
            step: Duration::from_micros(u64::try_from(plan.step).unwrap_or(0)),
            series: views.into_iter().map(|(_, view)| view).collect(),
            left_out,
        }
    }

    /// Hands on the cells that a question is about, from where they are.
    fn read(
        &self,
        query: &Query,
        now: Timestamp,
        mut out: impl FnMut(&Plan, &Key, i64, &Cell),
    ) -> Plan {
        let plan = {
            let set = lock(&self.set);
            let plan = set.plan(query, now);
            if plan.resolution != COARSE {
                set.gather(query, &plan, |key, micros, cell| {
                    out(&plan, key, micros, cell);
                });
            }
            plan
        };
        if plan.resolution == COARSE {
            // What is not yet on disk is written first, so the disk has all. What is read stays as it is: the next
            // second of metrics is written meanwhile.
            self.flush(now);
            let parts = lock(&self.history).parts(plan.since, plan.until);
            for part in parts {
                part.read(
                    plan.since,
                    plan.until,
                    |key| query.wants(key),
                    |key, micros, cell| out(&plan, key, micros, cell),
                );
            }
        }
        plan
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
