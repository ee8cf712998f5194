//! Outboxes: rows that a service writes into its own database, published once and in order.
//!
//! A service that saves something and then publishes it has two chances to die in between. With an
//! outbox it writes both in one transaction, and this publishes what is there and not marked.
//!
//! Once, and why: records are published together with a mark on the bus that names their rows
//! (`plan::Mark`); both hold or neither. Then the rows are marked in the database, and only then is
//! the next batch looked at. So at any moment at most one batch is out and not marked, and the mark
//! on the bus says which: after a crash, and after every error, its rows are marked first. No number
//! is ever taken as "all before it is done", so rows that are committed late with a smaller id are
//! published like all others. A round is never dropped half-way; a service has one at a time.
//!
//! Order holds among the rows that are visible together, by id, within each partition.

mod plan;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::{ServiceName, Tasks, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::bus::{Bus, BusError, Progress};
use crate::cloudevents;
use crate::config::OutboxConfig;
use crate::http::Rights;
use crate::record::{Header, NewRecord};
use plan::{Mark, Row};

/// The header of a record that comes from an outbox: the service, a slash, and the id of the row.
pub const OUTBOX: &str = "atoll-outbox";

/// What fails is tried again after this, and rows that are refused are looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// What fails so often in a row is told: the first times, a service may still make its tables.
const PATIENCE: u32 = 5;
/// A row that was refused against all expectation is tried again after this.
const REST: Duration = Duration::from_secs(60);
/// So many rows are read at once at most, with those that are refused.
const ROWS_MAX: usize = 10_000;

/// Where the rows are.
#[derive(Clone)]
pub enum Source {
    /// In this file.
    Sqlite(PathBuf),
    /// In the database that this leads to.
    Postgres(Arc<dyn Connect>),
}

/// Leads to a service's own database.
pub trait Connect: Send + Sync + 'static {
    /// A connection with the rights of the service. The error is for a person.
    fn connect(&self) -> BoxFuture<'static, Result<tokio_postgres::Client, String>>;
}

/// Hears what is wrong.
pub trait Told: Send + Sync + 'static {
    /// What is wrong with the outbox of the service, or that nothing is any more. Told when it
    /// changes.
    fn trouble(&self, service: &ServiceName, what: Option<&str>);
}

/// All outboxes. A cheap handle.
#[derive(Clone)]
pub struct Outboxes(Arc<Shared>);

struct Shared {
    bus: Arc<dyn Bus>,
    rights: Arc<dyn Rights>,
    told: Arc<dyn Told>,
    tasks: Tasks,
    running: Mutex<BTreeMap<ServiceName, Running>>,
}

struct Running {
    config: Option<OutboxConfig>,
    /// Dropped, it ends the task after its round.
    stop: Option<watch::Sender<()>>,
    /// Held by the task: the next one begins after it.
    turn: Arc<tokio::sync::Mutex<()>>,
    view: Arc<Mutex<View>>,
}

/// What can be seen of an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whose it is.
    pub service: ServiceName,
    /// Its table.
    pub table: String,
    /// Rows published since the node was started.
    pub published: u64,
    /// Rows that are refused.
    pub refused: usize,
    /// Rows that wait behind these.
    pub waiting: usize,
    /// What is wrong, and since when.
    pub trouble: Option<(String, Timestamp)>,
}

/// The table of an outbox. Errors are for a person.
trait Table: Send {
    /// Rows that are not marked, by id.
    fn unpublished(&mut self, limit: u32) -> BoxFuture<'_, Result<Vec<Row>, String>>;

    /// Those of these rows that are not marked.
    fn these(&mut self, ids: Vec<i64>) -> BoxFuture<'_, Result<Vec<Row>, String>>;

    /// Marks rows as published, unless they are already.
    fn mark(&mut self, ids: Vec<i64>) -> BoxFuture<'_, Result<(), String>>;
}

struct Worker {
    service: ServiceName,
    config: OutboxConfig,
    shared: Arc<Shared>,
    table: Box<dyn Table>,
    view: Arc<Mutex<View>>,
    /// The number of the last mark; none: it is not known what is out.
    number: Option<i64>,
    /// Rows that the bus has refused although it was asked before: why, and until when they rest.
    surprises: BTreeMap<i64, (String, tokio::time::Instant)>,
    /// So many rows go singly: one of them is refused.
    singly: usize,
    failures: u32,
    told: Option<String>,
}

impl Outboxes {
    /// Publishes to `bus` what `rights` allow.
    pub fn new(
        bus: Arc<dyn Bus>,
        rights: Arc<dyn Rights>,
        told: Arc<dyn Told>,
        tasks: Tasks,
    ) -> Self {
        Self(Arc::new(Shared {
            bus,
            rights,
            told,
            tasks,
            running: Mutex::default(),
        }))
    }

    /// The service serves by a manifest with this outbox, or with none.
    pub fn serve(&self, service: &ServiceName, outbox: Option<(&OutboxConfig, Source)>) {
        let mut running = self.lock();
        let own = running.entry(service.clone()).or_insert_with(|| Running {
            config: None,
            stop: None,
            turn: Arc::default(),
            view: Arc::new(Mutex::new(View::new(service))),
        });
        let config = outbox.as_ref().map(|(config, _)| (*config).clone());
        if own.config == config {
            return;
        }
        own.config.clone_from(&config);
        own.stop = None;
        let (Some(config), Some((_, source))) = (config, outbox) else {
            return;
        };
        let table: Box<dyn Table> = match source {
            Source::Sqlite(path) => Box::new(sqlite::Sqlite::new(path, config.table.clone())),
            Source::Postgres(connect) => {
                Box::new(postgres::Postgres::new(connect, config.table.clone()))
            }
        };
        lock(&own.view).table.clone_from(&config.table);
        let worker = Worker {
            service: service.clone(),
            config,
            shared: Arc::clone(&self.0),
            table,
            view: Arc::clone(&own.view),
            number: None,
            surprises: BTreeMap::new(),
            singly: 0,
            failures: 0,
            told: None,
        };
        let (stop, stopped) = watch::channel(());
        own.stop = Some(stop);
        let turn = Arc::clone(&own.turn);
        self.0.tasks.spawn("outbox", async move {
            let turn = turn.lock().await;
            worker.run(stopped).await;
            drop(turn);
        });
    }

    /// Ends all, each after its round, and leaves the databases; waits so long for that.
    pub async fn stop(&self, limit: Duration) {
        let turns: Vec<_> = {
            let mut running = self.lock();
            let stopped = running.values_mut().map(|own| {
                (own.config, own.stop) = (None, None);
                Arc::clone(&own.turn)
            });
            stopped.collect()
        };
        let all = async {
            for turn in turns {
                drop(turn.lock().await);
            }
        };
        // A round that takes longer ends with the node; what it has published is known to the bus.
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// All outboxes that are published now.
    pub fn views(&self) -> Vec<View> {
        let running = self.lock();
        let served = running.values().filter(|own| own.stop.is_some());
        served.map(|own| lock(&own.view).clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Running>> {
        lock(&self.0.running)
    }
}

impl Worker {
    async fn run(mut self, mut stopped: watch::Receiver<()>) {
        let tasks = self.shared.tasks.clone();
        loop {
            let wait = match self.round().await {
                Ok(0) if lock(&self.view).refused > 0 => TRY_AGAIN.max(self.config.poll.0),
                Ok(0) => self.config.poll.0,
                Ok(_) => Duration::ZERO,
                Err(_) => TRY_AGAIN,
            };
            // Only between rounds: what was published half-way would have to be looked for.
            let rest = tokio::time::timeout(wait, stopped.changed());
            tokio::select! {
                ended = rest => if let Ok(Err(_)) = ended {
                    return;
                },
                () = tasks.stopping() => return,
            }
        }
    }

    /// Publishes a batch; tells of how many rows. An error is told, too.
    async fn round(&mut self) -> Result<usize, String> {
        let done = self.try_round().await;
        match &done {
            Ok(_) => {
                self.failures = 0;
                let refused = self.refusal();
                self.tell(refused);
            }
            Err(error) => {
                self.number = None;
                self.failures += 1;
                let trouble = (error.clone(), Timestamp::now());
                lock(&self.view).trouble = Some(trouble);
                if self.failures >= PATIENCE {
                    self.tell(Some(error.clone()));
                }
            }
        }
        done
    }

    async fn try_round(&mut self) -> Result<usize, String> {
        let group = format!("atoll.outbox.{}", self.service);
        let number = match self.number.take() {
            Some(number) => number,
            None => self.recover(&group).await?,
        };
        let held = {
            let view = lock(&self.view);
            (view.refused + view.waiting).min(ROWS_MAX)
        };
        let now = tokio::time::Instant::now();
        self.surprises.retain(|_, (_, until)| *until > now);
        let batch = match self.singly {
            0 => usize::try_from(self.config.batch).unwrap_or(usize::MAX),
            _ => 1,
        };
        self.singly = self.singly.saturating_sub(1);
        let limit = u32::try_from(held + batch).unwrap_or(u32::MAX);
        let rows = self.table.unpublished(limit).await?;
        let plan = plan::plan(rows, batch, |row| self.judge(row));
        self.note(&plan.refused, plan.waiting);
        let Some((first, _)) = plan.out.first() else {
            self.number = Some(number);
            return Ok(0);
        };
        let mark = Mark::of(&plan.out);
        let progress = Progress {
            topic: first.topic.as_str().into(),
            partition: 0,
            mark: crate::bus::Mark {
                offset: number + 1,
                metadata: mark.to_text(),
            },
        };
        let count = plan.out.len();
        let records: Vec<_> = plan.out.into_iter().map(|(_, record)| record).collect();
        let settled = self
            .shared
            .bus
            .settle(&group, vec![progress], records)
            .await;
        if let Err(error) = settled {
            return Err(self.refused(&mark, error));
        }
        // They are out. If the marks cannot be written now, the next round writes them, and counts nothing.
        lock(&self.view).published += count as u64;
        self.table.mark(mark.ids()).await?;
        self.number = Some(number + 1);
        Ok(count)
    }

    /// Marks what is out; tells the number of the last mark.
    async fn recover(&mut self, group: &str) -> Result<i64, String> {
        let known = self.shared.bus.progress(group).await;
        let known = known.map_err(|error| error.to_string())?;
        // There is one for each topic that ever came first; the last counts.
        let last = known.into_values().max_by_key(|mark| mark.offset);
        let Some(last) = last else {
            return Ok(0);
        };
        let mark = Mark::from_text(&last.metadata);
        let unmarked = self.table.these(mark.ids()).await?;
        let out = mark.of_these(&unmarked);
        if !out.is_empty() {
            self.table.mark(out).await?;
        }
        Ok(last.offset)
    }

    /// What a refusal means that was not foreseen: if it is about one row, that row is held.
    fn refused(&mut self, mark: &Mark, error: BusError) -> String {
        match (&error, mark.0.as_slice()) {
            (BusError::Refused(reason), [(id, _)]) => {
                let until = tokio::time::Instant::now() + REST;
                self.surprises.insert(*id, (reason.clone(), until));
            }
            (BusError::Refused(_), several) => self.singly = several.len(),
            _ => {}
        }
        format!("rows cannot be published: {error}")
    }

    /// The record of a row, or why it is refused.
    fn judge(&self, row: &Row) -> Result<NewRecord, String> {
        if let Some((reason, _)) = self.surprises.get(&row.id) {
            return Err(reason.clone());
        }
        let (shared, service) = (&self.shared, &self.service);
        if !shared.rights.may_publish(service, &row.topic) {
            return Err(format!(
                "{service} does not publish to '{}'; if it should, add the topic to [publish] in its \
                 service.toml",
                row.topic
            ));
        }
        let record = record(service, row)?;
        let kind = record.header("content-type");
        let kind = kind.and_then(|kind| std::str::from_utf8(kind).ok());
        let checked = shared.rights.check(&row.topic, row.value.as_ref(), kind);
        checked.map_err(|why| format!("it does not match the schema of '{}': {why}", row.topic))?;
        let taken = shared.bus.check(&record);
        taken.map_err(|error| error.to_string())?;
        Ok(record)
    }

    fn note(&self, refused: &[(i64, String)], waiting: usize) {
        let mut view = lock(&self.view);
        (view.refused, view.waiting) = (refused.len(), waiting);
        let first = refused.first().map(|(id, reason)| {
            let more = match refused.len() {
                1 => String::new(),
                count => format!(" ({} others are refused, too)", count - 1),
            };
            format!("the row {id} is not published: {reason}{more}")
        });
        let same = view.trouble.as_ref().map(|(known, _)| known) == first.as_ref();
        if !same {
            view.trouble = first.map(|what| (what, Timestamp::now()));
        }
    }

    fn refusal(&self) -> Option<String> {
        let view = lock(&self.view);
        view.trouble.as_ref().map(|(what, _)| what.clone())
    }

    fn tell(&mut self, what: Option<String>) {
        if self.told != what {
            self.shared.told.trouble(&self.service, what.as_deref());
            self.told = what;
        }
    }
}

impl View {
    fn new(service: &ServiceName) -> Self {
        Self {
            service: service.clone(),
            table: String::new(),
            published: 0,
            refused: 0,
            waiting: 0,
            trouble: None,
        }
    }
}

/// A row as a CloudEvent. Its id is that of the row with its digest: the same after a crash, and
/// another in another database.
fn record(service: &ServiceName, row: &Row) -> Result<NewRecord, String> {
    let own: BTreeMap<String, String> = match row.headers.as_deref() {
        None | Some("") => BTreeMap::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| format!("its headers are no JSON object of texts: {error}"))?,
    };
    let kind = row.value.as_ref().map(|value| cloudevents::guess(value));
    let defaults = [
        ("ce_specversion", Some("1.0".to_owned())),
        ("ce_id", Some(format!("{}-{:08x}", row.id, row.digest()))),
        ("ce_source", Some(format!("/services/{service}/outbox"))),
        ("ce_type", Some(row.topic.clone())),
        ("content-type", kind.map(str::to_owned)),
    ];
    let mut record = NewRecord::new(row.topic.as_str());
    for (name, value) in defaults {
        if let (Some(value), false) = (value, own.contains_key(name)) {
            record.headers.push(Header::text(name, value));
        }
    }
    let own = own
        .into_iter()
        .map(|(name, value)| Header::text(name, value));
    record.headers.extend(own);
    let place = format!("{service}/{}", row.id);
    record.headers.push(Header::text(OUTBOX, place));
    record.key = row.key.clone().map(bytes::Bytes::from);
    record.value.clone_from(&row.value);
    Ok(record)
}

impl std::fmt::Debug for Outboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outboxes").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
