//! The broker as the platform itself uses it: records instead of batches, and no socket.
//!
//! What is read is what a client that reads committed records would see. What is published is spread
//! over the partitions as Kafka's own client does it (murmur2 of the key), so that a service that
//! changes from one way to the other finds its keys where they were.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_base::hash::Spread;
use atoll_store::log::Header;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use crate::catalog::Topic;
use crate::config::TopicConfig;
use crate::groups::Committer;
use crate::journal::Committed;
use crate::partition::{Fetched, Partition, check_key, mark_of, section};
use crate::records::{self, BatchBuilder, NewRecord, Options, Record};
use crate::transactions::TransactionError;
use crate::txn::{self, Outcome, Producer};
use crate::{Broker, Error};

/// The broker from within. A cheap handle.
#[derive(Debug, Clone)]
pub struct Inside(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    broker: Broker,
    /// Who writes in the transactions of a group.
    writers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Writer>>>>>,
    spread: Spread,
}

#[derive(Debug)]
struct Writer {
    producer: Producer,
    /// The next number in each partition.
    sequences: HashMap<(Arc<str>, i32), i32>,
}

/// A record to be published.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// Which partition; none: by the key.
    pub partition: Option<i32>,
    /// Its time, in milliseconds since 1970.
    pub time: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// A part of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Its committed records.
    pub records: Vec<Record>,
    /// The offset to go on at.
    pub next: i64,
    /// A batch that is there and cannot be read; for a person.
    pub trouble: Option<String>,
}

/// Records of one partition that go in one batch, and the place of each among all.
type Batches = BTreeMap<(Arc<str>, i32), (Vec<usize>, Arc<Partition>)>;

/// What is unpacked at once takes at most so many times of what was asked for.
const UNPACKED_TIMES: usize = 8;
/// A transaction of the platform takes no longer, if the node lives.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// What a record takes beside its fields, at most.
const RECORD_OVERHEAD: usize = 100;

impl Inside {
    /// Of this broker.
    pub fn new(broker: Broker) -> Self {
        Self(Arc::new(Shared {
            broker,
            writers: Mutex::default(),
            spread: Spread::default(),
        }))
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.0.broker
    }

    /// A topic.
    ///
    /// # Errors
    /// When there is none.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let found = self.0.broker.catalog().get(name);
        found.ok_or_else(|| Error::NoTopic(name.to_owned()))
    }

    /// Makes a topic, unless there is one of the name.
    ///
    /// # Errors
    /// When the name cannot be, or the disk fails.
    pub async fn ensure(&self, name: &str, config: TopicConfig) -> Result<(), Error> {
        match self.0.broker.catalog().create(name, config).await {
            Ok(_) | Err(Error::TopicExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Committed records from an offset on, and the offset to go on at.
    ///
    /// # Errors
    /// When there is no such offset or the disk fails.
    pub async fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> Result<Part, Error> {
        let partition = self.0.broker.catalog().partition(topic, partition)?;
        partition.ready().await?;
        // Nothing new costs nothing.
        let ends = partition.ends()?;
        if from == ends.last_stable {
            return Ok(Part {
                next: from,
                ..Part::default()
            });
        }
        tokio::task::block_in_place(|| {
            let fetched = partition.fetch(from, bytes_max, true)?;
            Ok(unpack(&partition, from, fetched, bytes_max))
        })
    }

    /// Completes when something at this offset or after it may be read, or the partition is gone.
    pub async fn wait(&self, topic: &str, partition: i32, from: i64) {
        let found = self.0.broker.catalog().partition(topic, partition);
        let Ok(partition) = found else {
            return;
        };
        if partition.ready().await.is_err() {
            return;
        }
        let waiter = Arc::new(Notify::new());
        loop {
            partition.watch(&waiter);
            if partition
                .ends()
                .map_or(true, |ends| ends.last_stable > from)
            {
                return;
            }
            waiter.notified().await;
        }
    }

    /// Whether a record would be taken.
    ///
    /// # Errors
    /// When its topic is missing or it is too large.
    pub fn check(&self, record: &Outgoing) -> Result<(), Error> {
        let topic = self.topic(&record.topic)?;
        let size = size(record);
        let most = topic.config.max_batch.0;
        if size as u64 > most {
            let reason = format!(
                "a record of {size} bytes, and '{}' takes {most}",
                record.topic
            );
            return Err(Error::Refused(ResponseError::MessageTooLarge, reason));
        }
        if topic.config.cleanup.compacts() {
            check_key(&record.topic, record.key.as_ref())?;
        }
        self.0
            .broker
            .check_value(&record.topic, record.value.as_deref())
    }

    /// Publishes records, and waits until they are on disk: partition and offset of each.
    ///
    /// # Errors
    /// When one of them is refused or the disk fails. Some may be there then.
    pub async fn publish(&self, records: &[Outgoing]) -> Result<Vec<(i32, i64)>, Error> {
        records.iter().try_for_each(|record| self.check(record))?;
        let mut places = vec![(0, 0); records.len()];
        let mut waiting = Vec::new();
        for ((_, index), (members, partition)) in self.sort(records)? {
            partition.ready().await?;
            for part in self.split(records, &members, &partition) {
                let batch = build(records, part, Options::default())?;
                let produced = partition.produce(batch)?;
                for (place, offset) in part.iter().zip(produced.base_offset..) {
                    if let Some(own) = places.get_mut(*place) {
                        *own = (index, offset);
                    }
                }
                waiting.push((Arc::clone(&partition), produced));
            }
        }
        for (partition, produced) in waiting {
            partition.acknowledged(produced).await?;
        }
        Ok(places)
    }

    /// Keeps how far a group has read, and publishes records: both or neither.
    ///
    /// # Errors
    /// When it cannot be done; then nothing of it holds.
    pub async fn settle(
        &self,
        group: &str,
        offsets: Vec<Committed>,
        records: &[Outgoing],
    ) -> Result<(), Error> {
        let who = Committer {
            generation: -1,
            ..Committer::default()
        };
        if records.is_empty() {
            return Ok(self.0.broker.groups().commit(group, &who, offsets).await?);
        }
        let writer = {
            let mut writers = self
                .0
                .writers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(writers.entry(group.to_owned()).or_default())
        };
        let mut writer = writer.lock().await;
        let mut own = match writer.take() {
            Some(own) => own,
            None => Writer {
                producer: self
                    .transactions()
                    .init(Some(group), TRANSACTION_TIMEOUT, None)
                    .await
                    .map_err(flat)?,
                sequences: HashMap::new(),
            },
        };
        let producer = own.producer;
        match self.transact(group, &mut own, &who, offsets, records).await {
            Ok(()) => {
                *writer = Some(own);
                Ok(())
            }
            Err(error) => {
                // Whether this succeeds does not matter: the next to come begins as a new producer,
                // which ends what this one has left.
                let _ = self
                    .transactions()
                    .end(group, producer, Outcome::Abort)
                    .await;
                Err(error)
            }
        }
    }

    async fn transact(
        &self,
        group: &str,
        own: &mut Writer,
        who: &Committer,
        offsets: Vec<Committed>,
        records: &[Outgoing],
    ) -> Result<(), Error> {
        records.iter().try_for_each(|record| self.check(record))?;
        let producer = own.producer;
        let transactions = self.transactions();
        let sorted = self.sort(records)?;
        let places = sorted.keys().map(|(topic, index)| txn::Partition {
            topic: topic.to_string(),
            index: *index,
        });
        let places = places.collect();
        transactions
            .add_partitions(group, producer, places)
            .await
            .map_err(flat)?;
        let mut waiting = Vec::new();
        for (place, (members, partition)) in sorted {
            partition.ready().await?;
            for part in self.split(records, &members, &partition) {
                let sequence = own.sequences.entry(place.clone()).or_default();
                let options = Options {
                    producer: Some((producer, *sequence)),
                    transactional: true,
                    ..Options::default()
                };
                let batch = build(records, part, options)?;
                let count = i32::try_from(part.len()).unwrap_or(i32::MAX);
                *sequence = sequence.checked_add(count).unwrap_or(0);
                let produced = transactions.produce(group, producer, &partition, batch);
                waiting.push((Arc::clone(&partition), produced.await.map_err(flat)?));
            }
        }
        for (partition, produced) in waiting {
            partition.acknowledged(produced).await?;
        }
        if !offsets.is_empty() {
            transactions
                .add_group(group, producer, group)
                .await
                .map_err(flat)?;
            let kept = transactions.commit_offsets(group, producer, group, who, offsets);
            kept.await.map_err(flat)?;
        }
        transactions
            .end(group, producer, Outcome::Commit)
            .await
            .map_err(flat)
    }

    /// The records by partition, in order.
    fn sort(&self, records: &[Outgoing]) -> Result<Batches, Error> {
        let mut sorted = Batches::new();
        for (place, record) in records.iter().enumerate() {
            let topic = self.topic(&record.topic)?;
            let index = record.partition.unwrap_or_else(|| {
                let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                self.0.spread.choose(record.key.as_deref(), count)
            });
            let partition = topic.partition(index);
            let partition = partition.ok_or_else(|| Error::NoTopic(record.topic.to_string()))?;
            let own = sorted.entry((Arc::clone(&topic.name), index));
            own.or_insert_with(|| (Vec::new(), partition)).0.push(place);
        }
        Ok(sorted)
    }

    /// As many records in one batch as the topic takes.
    fn split<'a>(
        &self,
        records: &[Outgoing],
        members: &'a [usize],
        partition: &Partition,
    ) -> Vec<&'a [usize]> {
        let topic = self.0.broker.catalog().get(&partition.topic);
        let most = topic.map_or(1 << 20, |topic| topic.config.max_batch.0);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, RECORD_OVERHEAD);
        for (at, member) in members.iter().enumerate() {
            let own = records.get(*member).map_or(0, size);
            if bytes + own > most && at > start {
                parts.extend(members.get(start..at));
                (start, bytes) = (at, RECORD_OVERHEAD);
            }
            bytes += own;
        }
        parts.extend(members.get(start..));
        parts
    }

    fn transactions(&self) -> &crate::transactions::Transactions {
        self.0.broker.transactions()
    }
}

/// What it takes in a batch, at most.
fn size(record: &Outgoing) -> usize {
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + length(value) + 10)
        .sum();
    length(&record.key) + length(&record.value) + headers + RECORD_OVERHEAD
}

fn build(records: &[Outgoing], members: &[usize], options: Options) -> Result<Bytes, Error> {
    let mut batch = BatchBuilder::new(options);
    for record in members.iter().filter_map(|member| records.get(*member)) {
        let headers = record.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_deref()));
        let headers: Vec<_> = headers.collect();
        let new = NewRecord {
            timestamp: record.time,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        batch.push(&new).map_err(|error| invalid(&error))?;
    }
    batch.finish().map_err(|error| invalid(&error))
}

/// The records in what was fetched, without those that were never committed.
fn unpack(partition: &Partition, from: i64, fetched: Fetched, bytes_max: usize) -> Part {
    let mut part = Part {
        next: if fetched.batches.is_empty() {
            fetched.next.max(from)
        } else {
            from
        },
        ..Part::default()
    };
    let mut aborted = HashSet::new();
    let mut marks = fetched.aborted;
    marks.sort_by_key(|own| own.first_offset);
    let mut marks = marks.into_iter().peekable();
    let mut unpacked = 0;
    let mut rest = fetched.batches;
    while let Ok(header) = Header::parse(&rest) {
        let batch = rest.split_to(header.bytes.min(rest.len()));
        while let Some(own) = marks.next_if(|own| own.first_offset <= header.last_offset()) {
            aborted.insert(own.producer_id);
        }
        let room = (bytes_max * UNPACKED_TIMES).saturating_sub(unpacked);
        if room == 0 && !part.records.is_empty() {
            break;
        }
        part.next = header.next_offset();
        if header.is_control() {
            if mark_of(&header, &batch) == Some(Outcome::Abort) {
                aborted.remove(&header.producer_id);
            }
            continue;
        }
        if header.is_transactional() && aborted.contains(&header.producer_id) {
            continue;
        }
        let limit = crate::partition::UNPACKED_BYTES_MAX;
        let read = records::read(&section(&header, &batch), limit);
        let read = read.and_then(|all| all.collect::<Result<Vec<_>, _>>());
        match read {
            Ok(all) => {
                unpacked += all.iter().map(weight).sum::<usize>();
                let wanted = all.into_iter().filter(|record| record.offset >= from);
                part.records.extend(wanted);
            }
            // Waiting would not make it better, and holds up all that follows.
            Err(error) => {
                let (first, last) = (header.base_offset, header.last_offset());
                let trouble = format!(
                    "the records {first} to {last} of partition {} are left out: {error}",
                    partition.index
                );
                tracing::error!(topic = %partition.topic, "{trouble}");
                part.trouble = Some(trouble);
            }
        }
    }
    part
}

fn weight(record: &Record) -> usize {
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    length(&record.key) + length(&record.value) + RECORD_OVERHEAD
}

fn invalid(error: &records::RecordsError) -> Error {
    Error::Refused(ResponseError::InvalidRecord, error.to_string())
}

fn flat(error: TransactionError) -> Error {
    match error {
        TransactionError::Other(error) => error,
        TransactionError::Refused(error) => {
            Error::Refused(ResponseError::InvalidTxnState, error.to_string())
        }
    }
}

/// A mark of a group, now.
pub fn committed(topic: Arc<str>, partition: i32, next: i64, metadata: String) -> Committed {
    Committed {
        topic,
        partition,
        next,
        leader_epoch: -1,
        metadata,
        at: Timestamp::now().as_micros() / 1000,
    }
}

#[cfg(test)]
mod tests;
