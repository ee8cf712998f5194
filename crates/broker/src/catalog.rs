//! The topics: made, changed and deleted one after the other, read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use atoll_store::log::Log;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::TopicConfig;
use crate::error::of_log;
use crate::journal::{Change, Journal, Kept, TopicRow};
use crate::partition::{Partition, log_config};
use crate::{Error, error};

/// A topic as it is now.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: another one if it is deleted and made again.
    pub id: [u8; 16],
    /// How it is kept.
    pub config: TopicConfig,
    /// Its partitions.
    pub partitions: Vec<Arc<Partition>>,
}

/// All topics. A cheap handle.
#[derive(Debug, Clone)]
pub struct Catalog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    topics: ArcSwap<Topics>,
    changing: tokio::sync::Mutex<()>,
    log: Log,
    journal: Journal,
}

/// The topics at one moment.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<[u8; 16], Arc<Topic>>,
}

/// More partitions of one topic, or topics, are surely a mistake on one machine.
const PARTITIONS_MAX: i32 = 1000;
/// The largest file of a partition, in bytes.
const SEGMENT_MAX: u64 = 1 << 30;

impl Catalog {
    /// The topics that are kept. What was being deleted is deleted.
    pub(crate) async fn open(log: Log, journal: Journal, kept: &Kept) -> Result<Self, Error> {
        let catalog = Self(Arc::new(Shared {
            topics: ArcSwap::default(),
            changing: tokio::sync::Mutex::new(()),
            log,
            journal,
        }));
        let mut topics = Topics::default();
        for row in &kept.topics {
            if row.deleting {
                catalog.finish_deletion(&row.name, row.partitions).await?;
                continue;
            }
            let config = serde_json::from_str(&row.settings).unwrap_or_else(|error| {
                tracing::error!(topic = row.name, %error, "its settings cannot be read; it has the defaults");
                TopicConfig::default()
            });
            topics.insert(catalog.topic(&row.name, row.id, config, row.partitions)?);
        }
        catalog.0.topics.store(Arc::new(topics));
        Ok(catalog)
    }

    /// The topics at this moment.
    pub fn topics(&self) -> Arc<Topics> {
        self.0.topics.load_full()
    }

    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.0.topics.load().by_name.get(name).cloned()
    }

    /// The topic with this id.
    pub fn by_id(&self, id: &[u8; 16]) -> Option<Arc<Topic>> {
        self.0.topics.load().by_id.get(id).cloned()
    }

    /// A partition.
    ///
    /// # Errors
    /// When there is none.
    pub fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, Error> {
        let found = self.get(topic);
        let found = found.as_ref().and_then(|topic| topic.partition(index));
        found.ok_or_else(|| Error::NoTopic(topic.to_owned()))
    }

    /// Makes a topic. On disk when this returns.
    ///
    /// # Errors
    /// When there is one of the name, or name or settings make no sense.
    pub async fn create(&self, name: &str, config: TopicConfig) -> Result<Arc<Topic>, Error> {
        check_name(name)?;
        check(&config)?;
        let _one = self.0.changing.lock().await;
        if self.get(name).is_some() {
            return Err(Error::TopicExists(name.to_owned()));
        }
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| {
            let source = std::io::Error::other("the system gives no random numbers");
            error::random(source)
        })?;
        self.write(name, id, &config, config.partitions, false)
            .await?;
        let topic = self.topic(name, id, config, -1)?;
        Ok(self.put(topic))
    }

    /// Makes a topic, or sets it up as it is declared. Partitions are added, never taken away.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn declare(&self, name: &str, config: &TopicConfig) -> Result<Arc<Topic>, Error> {
        match self.create(name, config.clone()).await {
            Err(Error::TopicExists(_)) => {}
            made => return made,
        }
        self.change(name, |own| {
            let partitions = own.partitions.max(config.partitions);
            *own = config.clone();
            own.partitions = partitions;
            Ok(())
        })
        .await
    }

    /// Changes how a topic is kept.
    ///
    /// # Errors
    /// When there is none, or what `edit` makes of it makes no sense.
    pub async fn change(
        &self,
        name: &str,
        edit: impl FnOnce(&mut TopicConfig) -> Result<(), Error>,
    ) -> Result<Arc<Topic>, Error> {
        let _one = self.0.changing.lock().await;
        let old = self
            .get(name)
            .ok_or_else(|| Error::NoTopic(name.to_owned()))?;
        let mut config = old.config.clone();
        edit(&mut config)?;
        check(&config)?;
        if config == old.config {
            return Ok(old);
        }
        if config.partitions < old.config.partitions {
            return Err(Error::Partitions {
                asked: config.partitions,
                reason: "a topic keeps those that it has: records of a key are in one of them",
            });
        }
        self.write(name, old.id, &config, config.partitions, false)
            .await?;
        for partition in &old.partitions {
            partition.configure(&config);
        }
        let mut topic = Topic {
            name: Arc::clone(&old.name),
            id: old.id,
            partitions: old.partitions.clone(),
            config,
        };
        for index in old.config.partitions..topic.config.partitions {
            let partition = self.open_partition(&topic.name, topic.id, index, &topic.config)?;
            topic.partitions.push(partition);
        }
        Ok(self.put(topic))
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    /// When there is none, or the disk fails; then it is deleted at the next start.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let _one = self.0.changing.lock().await;
        let old = self
            .get(name)
            .ok_or_else(|| Error::NoTopic(name.to_owned()))?;
        let partitions = old.config.partitions;
        self.write(name, old.id, &old.config, partitions, true)
            .await?;
        let mut topics = Topics::clone(&self.topics());
        topics.by_name.remove(name);
        topics.by_id.remove(&old.id);
        self.0.topics.store(Arc::new(topics));
        self.finish_deletion(name, partitions).await
    }

    /// What is known of all partitions' producers, to be written down.
    pub(crate) fn keep(&self) -> Vec<Change> {
        let topics = self.topics();
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .filter_map(|partition| partition.keep())
            .collect()
    }

    async fn finish_deletion(&self, name: &str, partitions: i32) -> Result<(), Error> {
        for index in 0..partitions {
            let folder = folder(name, index);
            tokio::task::block_in_place(|| self.0.log.remove(&folder)).map_err(of_log)?;
        }
        let gone = Change::NoTopic(name.to_owned());
        Ok(self.0.journal.write(vec![gone]).await?)
    }

    async fn write(
        &self,
        name: &str,
        id: [u8; 16],
        config: &TopicConfig,
        partitions: i32,
        deleting: bool,
    ) -> Result<(), Error> {
        let settings = serde_json::to_string(config).unwrap_or_default();
        let row = TopicRow {
            name: name.to_owned(),
            id,
            partitions,
            settings,
            deleting,
        };
        Ok(self.0.journal.write(vec![Change::Topic(row)]).await?)
    }

    /// `partitions`: how many there are; below zero: as many as the settings say.
    fn topic(
        &self,
        name: &str,
        id: [u8; 16],
        mut config: TopicConfig,
        partitions: i32,
    ) -> Result<Topic, Error> {
        if partitions >= 0 {
            config.partitions = partitions;
        }
        let name: Arc<str> = name.into();
        let partitions = (0..config.partitions)
            .map(|index| self.open_partition(&name, id, index, &config))
            .collect::<Result<_, _>>()?;
        Ok(Topic {
            name,
            id,
            config,
            partitions,
        })
    }

    fn open_partition(
        &self,
        topic: &Arc<str>,
        id: [u8; 16],
        index: i32,
        config: &TopicConfig,
    ) -> Result<Arc<Partition>, Error> {
        let log = self
            .0
            .log
            .partition(&folder(topic, index), log_config(config));
        let (topic, journal) = (Arc::clone(topic), self.0.journal.clone());
        let log = log.map_err(of_log)?;
        let own = Partition::new(topic, id, index, log, config.clone(), journal);
        Ok(Arc::new(own))
    }

    fn put(&self, topic: Topic) -> Arc<Topic> {
        let mut topics = Topics::clone(&self.topics());
        let topic = topics.insert(topic);
        self.0.topics.store(Arc::new(topics));
        topic
    }
}

impl Topics {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    fn insert(&mut self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.by_name
            .insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.by_id.insert(topic.id, Arc::clone(&topic));
        topic
    }
}

impl Topic {
    /// A partition of it.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(index).ok()?;
        self.partitions.get(index).cloned()
    }
}

fn folder(topic: &str, index: i32) -> String {
    format!("{topic}-{index}")
}

/// Whether a topic can have this name.
///
/// # Errors
/// When it cannot.
pub fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let sound = (1..=249).contains(&name.len()) && name.bytes().all(allowed);
    if sound && name != "." && name != ".." {
        return Ok(());
    }
    Err(Error::TopicName(name.to_owned()))
}

/// Whether a topic can be kept so.
///
/// # Errors
/// When it cannot.
pub fn check(config: &TopicConfig) -> Result<(), Error> {
    if !(1..=PARTITIONS_MAX).contains(&config.partitions) {
        return Err(Error::Partitions {
            asked: config.partitions,
            reason: "a topic has 1 to 1000",
        });
    }
    let setting = |key: &str, value: u64, reason| {
        Err(Error::Setting {
            key: key.to_owned(),
            value: value.to_string(),
            reason,
        })
    };
    if config.segment.0 < 1 << 20 {
        return setting("segment", config.segment.0, "a file has 1 MiB at least");
    }
    if config.segment.0 > SEGMENT_MAX {
        // Deletion goes by whole files, and what is compacted is there twice for a while.
        return setting("segment", config.segment.0, "a file has 1 GiB at most");
    }
    if config.segment_age.0.is_zero() {
        return setting("segment_age", 0, "a file grows for 1 ms at least");
    }
    if config.compaction_dirty > 100 {
        let percent = u64::from(config.compaction_dirty);
        return setting("compaction_dirty", percent, "it is a part of 100");
    }
    if config.max_batch.0 < 1024 || config.max_batch.0 > 32 << 20 {
        let reason = "a batch may have 1 KiB to 32 MiB";
        return setting("max_batch", config.max_batch.0, reason);
    }
    Ok(())
}
