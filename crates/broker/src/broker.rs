//! The broker without its sockets: what all who speak to it share.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use atoll_base::{Tasks, Timestamp};
use atoll_store::Sql;
use atoll_store::log::{Header, Log};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::access::Access;
use crate::catalog::Catalog;
use crate::config::TopicConfig;
use crate::fetch_session::Sessions;
use crate::group::Limits;
use crate::groups::Groups;
use crate::journal::Journal;
use crate::partition::{Partition, section};
use crate::passed::{Counters, Passed};
use crate::records;
use crate::transactions::Transactions;
use crate::{Error, catalog};

/// The broker. A cheap handle.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    catalog: Catalog,
    groups: Groups,
    transactions: Transactions,
    access: Access,
    journal: Journal,
    log: Log,
    auto_create: bool,
    tasks: Tasks,
    values: OnceLock<Arc<dyn Values>>,
    fetches: Mutex<Sessions>,
    passed: Counters,
}

/// Looks at values before they are taken.
pub trait Values: std::fmt::Debug + Send + Sync + 'static {
    /// Whether it has anything to say about the topic.
    fn cares(&self, topic: &str) -> bool;

    /// Whether the topic takes this value.
    ///
    /// # Errors
    /// Why not; for who publishes.
    fn check(&self, topic: &str, value: Option<&[u8]>) -> Result<(), String>;
}

/// How often old records are looked for, those that a later one of their key replaces among them.
const TEND_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

impl Broker {
    /// Opens what is kept in `sql` and `log`, and begins to keep time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(
        sql: Sql,
        log: Log,
        access: Access,
        auto_create: bool,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let journal = Journal::start(sql, tasks);
        let kept = journal.read().await?;
        let catalog = Catalog::open(log.clone(), journal.clone(), &kept).await?;
        let groups = Groups::start(&kept, Limits::default(), journal.clone(), tasks);
        let transactions = Transactions::start(
            &kept,
            journal.clone(),
            catalog.clone(),
            groups.clone(),
            tasks,
        );
        let broker = Self(Arc::new(Parts {
            catalog,
            groups,
            transactions,
            access,
            journal,
            log,
            auto_create,
            tasks: tasks.clone(),
            values: OnceLock::new(),
            fetches: Mutex::default(),
            passed: Counters::default(),
        }));
        let own = broker.clone();
        tasks.spawn("broker retention", async move {
            while own.pause().await {
                own.retain(Timestamp::now());
            }
        });
        // That takes long, and old records are not to wait for it.
        let own = broker.clone();
        tasks.spawn("broker compaction", async move {
            while own.pause().await {
                own.compact(Timestamp::now()).await;
            }
        });
        Ok(broker)
    }

    /// All values are shown to `values` from now on. Only the first who asks gets that.
    pub fn guard(&self, values: Arc<dyn Values>) {
        let _ = self.0.values.set(values);
    }

    /// Whether a topic takes the records of a batch.
    ///
    /// # Errors
    /// With the number of the first that it does not take, and why.
    pub(crate) fn check_batch(&self, topic: &str, batch: &Bytes) -> Result<(), Error> {
        let Some(values) = self.0.values.get().filter(|own| own.cares(topic)) else {
            return Ok(());
        };
        let refuse = |reason| Err(Error::Refused(ResponseError::InvalidRecord, reason));
        let Ok(header) = Header::parse(batch) else {
            // What is wrong with it is told by who takes it.
            return Ok(());
        };
        let limit = crate::partition::UNPACKED_BYTES_MAX;
        let records = match records::read(&section(&header, batch), limit) {
            Ok(records) => records,
            Err(error) => return refuse(error.to_string()),
        };
        for (number, record) in records.enumerate() {
            let checked = match record {
                Ok(record) => values.check(topic, record.value.as_deref()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = checked {
                return refuse(format!("record {number} of the batch: {reason}"));
            }
        }
        Ok(())
    }

    /// Whether a topic takes a value.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_value(&self, topic: &str, value: Option<&[u8]>) -> Result<(), Error> {
        let values = self.0.values.get().filter(|own| own.cares(topic));
        let checked = values.map_or(Ok(()), |own| own.check(topic, value));
        checked.map_err(|reason| Error::Refused(ResponseError::InvalidRecord, reason))
    }

    /// The topics.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// The consumer groups.
    pub fn groups(&self) -> &Groups {
        &self.0.groups
    }

    /// The transactional ids.
    pub fn transactions(&self) -> &Transactions {
        &self.0.transactions
    }

    /// Who may do what.
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// How many records each account has published and read through the protocol of Kafka, by topic.
    pub fn passed(&self) -> Vec<Passed> {
        self.0.passed.all()
    }

    /// Where that is counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.passed
    }

    /// What clients read, if they want that remembered. To be held for moments.
    pub(crate) fn fetches(&self) -> MutexGuard<'_, Sessions> {
        self.0
            .fetches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of the records.
    pub(crate) fn folder(&self) -> &Path {
        self.0.log.dir()
    }

    /// Why nothing is accepted any more, if the disk has failed.
    ///
    /// # Errors
    /// With the reason.
    pub fn health(&self) -> Result<(), Error> {
        self.0.log.health().map_err(crate::error::of_log)
    }

    /// Writes everything down, and ends.
    pub async fn close(&self) {
        let kept = self.0.catalog.keep();
        if let Err(error) = self.0.journal.write(kept).await {
            tracing::warn!(%error, "what is known of producers is read anew at the next start");
        }
        let log = self.0.log.clone();
        tokio::task::block_in_place(|| log.close());
    }

    /// A topic that someone asks for: made, if that is allowed.
    pub(crate) async fn wanted(&self, name: &str) -> Result<(), Error> {
        if !self.0.auto_create {
            return Err(Error::NoTopic(name.to_owned()));
        }
        catalog::check_name(name)?;
        match self.0.catalog.create(name, TopicConfig::default()).await {
            Ok(_) | Err(Error::TopicExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a topic, and what groups have read of it.
    ///
    /// # Errors
    /// When there is none or the disk fails.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.0.catalog.delete(name).await?;
        self.0.groups.forget_topic(name);
        Ok(())
    }

    /// False: the node stops.
    async fn pause(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(TEND_EVERY) => true,
            () = self.0.tasks.stopping() => false,
        }
    }

    /// Deletes and compacts what is due at `now`. Done every 30 seconds without being asked, the one
    /// beside the other.
    pub async fn tend(&self, now: Timestamp) {
        self.retain(now);
        self.compact(now).await;
    }

    fn retain(&self, now: Timestamp) {
        let topics = self.0.catalog.topics();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            let retained = tokio::task::block_in_place(|| partition.retain(now));
            tell(partition, retained, "old records cannot be deleted");
        }
    }

    async fn compact(&self, now: Timestamp) {
        let topics = self.0.catalog.topics();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            if self.0.tasks.is_stopping() {
                return;
            }
            let compacted = partition.compact(now, &self.0.tasks).await;
            let what = "it cannot be compacted, and is tried again later";
            tell(partition, compacted, what);
        }
    }
}

fn tell(partition: &Partition, done: Result<(), Error>, what: &str) {
    match done {
        // Its topic was deleted meanwhile.
        Err(error) if error.response() == ResponseError::UnknownTopicOrPartition => {}
        Err(error) => {
            let (topic, index) = (&partition.topic, partition.index);
            tracing::error!(%topic, partition = index, %error, "{what}");
        }
        Ok(()) => {}
    }
}
