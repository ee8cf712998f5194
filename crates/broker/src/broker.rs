//! The broker without its sockets: what all who speak to it share.

use std::sync::Arc;

use atoll_base::{Tasks, Timestamp};
use atoll_store::Sql;
use atoll_store::log::Log;

use crate::access::Access;
use crate::catalog::Catalog;
use crate::config::TopicConfig;
use crate::group::Limits;
use crate::groups::Groups;
use crate::journal::Journal;
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
}

/// How often old records are looked for.
const RETAIN_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

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
        }));
        let (own, stopping) = (broker.clone(), tasks.clone());
        tasks.spawn("broker retention", async move {
            tokio::select! {
                () = own.retain() => {}
                () = stopping.stopping() => {}
            }
        });
        Ok(broker)
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

    async fn retain(&self) {
        loop {
            tokio::time::sleep(RETAIN_EVERY).await;
            let topics = self.0.catalog.topics();
            for partition in topics.iter().flat_map(|topic| &topic.partitions) {
                let old = tokio::task::block_in_place(|| partition.retain(Timestamp::now()));
                if let Err(error) = old {
                    tracing::error!(topic = %partition.topic, %error, "old records cannot be deleted");
                }
            }
        }
    }
}
