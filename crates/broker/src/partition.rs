//! A live partition: its log, who writes to it, and which transactions are open in it.
//!
//! Checking a batch and putting it in line for the log are one step under one lock, so that what the
//! producers' numbers say is what the log holds. What is known of producers and transactions is the
//! sum of the heads of all batches; it is built when the partition is first used, from the last
//! snapshot on, and a partition that nobody uses has none.

mod cleaning;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_base::Timestamp;
use atoll_store::log::{self, Durability, Header, Pending};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use crate::compaction::upkeep::Upkeep;
use crate::config::{self, TopicConfig};
use crate::journal::{Change, Journal};
use crate::open_txns::{Aborted, OpenTxns};
use crate::producers::{self, Appended, Claim, Producers, Refused, Verdict};
use crate::records::{self, Section, control_batch, outcome_of};
use crate::txn::{Outcome, Producer};
use crate::{Error, error};

/// A partition that can be written and read. Shared.
#[derive(Debug)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Which of its partitions.
    pub index: i32,
    topic_id: [u8; 16],
    log: log::Partition,
    journal: Journal,
    config: Mutex<TopicConfig>,
    /// None: not built yet.
    state: Mutex<Option<State>>,
    building: tokio::sync::Mutex<()>,
    upkeep: tokio::sync::Mutex<Upkeep>,
}

#[derive(Debug)]
struct State {
    producers: Producers,
    open: OpenTxns,
    /// The offset of the last snapshot.
    kept: i64,
    /// How many snapshots there were; of two the later one is kept.
    version: i64,
    /// How often aborted transactions of which nothing is left were forgotten.
    forgotten: u64,
}

/// A batch on its way to the disk, or there already.
#[derive(Debug)]
pub struct Produced {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset after its last.
    next: i64,
    pending: Option<Pending>,
}

impl Produced {
    /// Whether the log has grown by it. A batch that a producer sends again was there before.
    pub fn is_new(&self) -> bool {
        self.pending.is_some()
    }
}

/// What a fetch finds.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Whole batches.
    pub batches: Bytes,
    /// Where to go on. Without batches it may be beyond what was asked for, where compaction has left
    /// nothing.
    pub next: i64,
    /// The offset after the last acknowledged record.
    pub high_watermark: i64,
    /// How far readers of committed records may read.
    pub last_stable: i64,
    /// The first offset.
    pub start: i64,
    /// For readers of committed records: whose are to be left out.
    pub aborted: Vec<Aborted>,
}

/// Batches are looked through in pieces of this size.
const SCAN_BYTES: usize = 1 << 20;
/// After so many records, what is known of producers is written down again.
const KEEP_EVERY: i64 = 100_000;

impl Partition {
    pub(crate) fn new(
        topic: Arc<str>,
        topic_id: [u8; 16],
        index: i32,
        log: log::Partition,
        config: TopicConfig,
        journal: Journal,
    ) -> Self {
        Self {
            topic,
            index,
            topic_id,
            log,
            journal,
            config: Mutex::new(config),
            state: Mutex::new(None),
            building: tokio::sync::Mutex::new(()),
            upkeep: tokio::sync::Mutex::default(),
        }
    }

    /// Makes sure that it is known who writes here. To be awaited before anything else.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.lock().is_some() {
            return Ok(());
        }
        let _one = self.building.lock().await;
        if self.lock().is_some() {
            return Ok(());
        }
        let known = self.journal.partition(self.topic_id, self.index).await?;
        let state = tokio::task::block_in_place(|| self.build(known))?;
        *self.lock() = Some(state);
        Ok(())
    }

    /// Takes one batch, as a client sends it. It is waited for with [`Self::acknowledged`].
    ///
    /// # Errors
    /// When the batch is not sound, too large, not the producer's next, or the disk has failed.
    pub fn produce(&self, batch: Bytes) -> Result<Produced, Error> {
        let header = self.check(&batch)?;
        let claim = Claim {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            record_count: header.records,
            transactional: header.is_transactional(),
        };
        let durability = self.durability();
        let mut state = self.lock();
        let state = state.as_mut().ok_or_else(not_ready)?;
        match state.producers.check(&claim).map_err(refused)? {
            Verdict::Duplicate(written) => Ok(Produced {
                base_offset: written.base_offset,
                next: written.last_offset + 1,
                pending: None,
            }),
            Verdict::Accept => {
                let pending = self.log.append(batch, durability).map_err(storage)?;
                let appended = appended(&header, pending.base_offset());
                state.producers.appended(&appended);
                if claim.transactional {
                    state.open.begin(claim.producer_id, pending.base_offset());
                }
                Ok(Produced {
                    base_offset: pending.base_offset(),
                    next: pending.next_offset(),
                    pending: Some(pending),
                })
            }
        }
    }

    /// Waits until a batch is on disk.
    ///
    /// # Errors
    /// When it may not be.
    pub async fn acknowledged(&self, produced: Produced) -> Result<(), Error> {
        match produced.pending {
            Some(pending) => pending.acknowledged().await.map_err(storage)?,
            None => self.durable_until(produced.next).await?,
        }
        self.keep_now_and_then();
        Ok(())
    }

    /// Appends the mark that ends a producer's transaction. It is on disk when this returns.
    ///
    /// # Errors
    /// When it may not be.
    pub(crate) async fn mark(&self, producer: Producer, outcome: Outcome) -> Result<(), Error> {
        self.ready().await?;
        let now = Timestamp::now();
        let batch = control_batch(producer, outcome, now.as_micros() / 1000);
        let pending = {
            let mut state = self.lock();
            let state = state.as_mut().ok_or_else(not_ready)?;
            // A mark is as durable as the decision that it carries out.
            let pending = self
                .log
                .append(batch, Durability::Synced)
                .map_err(storage)?;
            state.producers.ended(producer.id, producer.epoch, now);
            state.open.end(producer.id, outcome, pending.base_offset());
            pending
        };
        pending.acknowledged().await.map_err(storage)
    }

    /// Reads from an offset on: at most `bytes_max`, but one batch. May block.
    ///
    /// # Errors
    /// When there is no such offset or the disk does not give what it was given.
    pub fn fetch(&self, from: i64, bytes_max: usize, committed: bool) -> Result<Fetched, Error> {
        let mut fetched = self.ends()?;
        let until = if committed {
            fetched.last_stable
        } else {
            fetched.high_watermark
        };
        loop {
            let forgotten = self.forgotten()?;
            let read = self.log.read(from, bytes_max, until).map_err(storage)?;
            fetched.start = self.log.start_offset();
            if committed && !read.batches.is_empty() {
                let state = self.lock();
                let state = state.as_ref().ok_or_else(not_ready)?;
                if state.forgotten != forgotten {
                    // What was read may be of a transaction that is not in the list any more.
                    continue;
                }
                fetched.aborted = state.open.aborted(from, read.next);
            }
            fetched.batches = read.batches;
            fetched.next = read.next;
            return Ok(fetched);
        }
    }

    fn forgotten(&self) -> Result<u64, Error> {
        let state = self.lock();
        Ok(state.as_ref().ok_or_else(not_ready)?.forgotten)
    }

    /// Where it begins and ends, without records.
    ///
    /// # Errors
    /// When it was never made ready.
    pub fn ends(&self) -> Result<Fetched, Error> {
        let mut state = self.lock();
        let state = state.as_mut().ok_or_else(not_ready)?;
        let high_watermark = self.log.durable_offset();
        state.open.durable(high_watermark);
        state.open.delete_before(self.log.start_offset());
        Ok(Fetched {
            high_watermark,
            last_stable: state.open.last_stable(),
            start: self.log.start_offset(),
            ..Fetched::default()
        })
    }

    /// Who writes here, and where their open transactions begin.
    ///
    /// # Errors
    /// When it was never made ready.
    pub fn producers(&self) -> Result<Vec<(producers::View, Option<i64>)>, Error> {
        let state = self.lock();
        let state = state.as_ref().ok_or_else(not_ready)?;
        let open: HashMap<_, _> = state.open.open().collect();
        let known = state.producers.list().into_iter();
        Ok(known
            .map(|view| (view, open.get(&view.producer_id).copied()))
            .collect())
    }

    /// The first offset whose record has this time or a later one, in milliseconds, and its time.
    /// May block.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn offset_for_time(&self, timestamp: i64) -> Result<Option<(i64, i64)>, Error> {
        let mut at = i64::MIN;
        loop {
            let found = self.log.offset_for_time_from(at, timestamp);
            let Some((base, _)) = found.map_err(storage)? else {
                return Ok(None);
            };
            let from = base.max(self.log.start_offset());
            let batch = self.log.read(from, 1, i64::MAX).map_err(storage)?.batches;
            let Ok(header) = Header::parse(&batch) else {
                return Ok(None);
            };
            let records = records::read(&section(&header, &batch), UNPACKED_BYTES_MAX);
            let records = records.map_err(|error| unreadable(&error))?;
            for record in records {
                let record = record.map_err(|error| unreadable(&error))?;
                if record.timestamp >= timestamp && record.offset >= from {
                    return Ok(Some((record.offset, record.timestamp)));
                }
            }
            // Compaction took the record meanwhile, or the batch's head says too much.
            at = header.next_offset();
        }
    }

    /// Deletes what lies before an offset. May block.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn delete_before(&self, offset: i64) -> Result<i64, Error> {
        self.log.advance_start(offset).map_err(storage)?;
        Ok(self.log.start_offset())
    }

    /// Wakes `waiter` once when something was acknowledged here.
    pub fn watch(&self, waiter: &Arc<Notify>) {
        self.log.watch(waiter);
    }

    /// The bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub(crate) fn configure(&self, config: &TopicConfig) {
        self.log.configure(log_config(config));
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.clone();
    }

    /// What is known of producers, to be written down at the end.
    pub(crate) fn keep(&self) -> Option<Change> {
        let kept = self.lock().as_ref()?.kept;
        if kept == self.log.durable_offset() {
            return None;
        }
        self.snapshot().ok()?.map(|(_, change)| change)
    }

    /// What is known of producers now, and up to where. None while something is being written.
    fn snapshot(&self) -> Result<Option<(i64, Change)>, Error> {
        let mut state = self.lock();
        let state = state.as_mut().ok_or_else(not_ready)?;
        let next = self.log.durable_offset();
        if self.log.end_offset() != next {
            return Ok(None);
        }
        state.kept = next;
        state.version += 1;
        let (one, other) = (state.producers.snapshot(next), state.open.snapshot(next));
        let length = u32::try_from(one.len()).unwrap_or(u32::MAX);
        let change = Change::Partition {
            topic: self.topic_id,
            partition: self.index,
            version: state.version,
            state: [&length.to_be_bytes()[..], &one, &other].concat(),
        };
        Ok(Some((next, change)))
    }

    fn keep_now_and_then(&self) {
        let kept = self.lock().as_ref().map_or(i64::MAX, |state| state.kept);
        if self.log.durable_offset().saturating_sub(kept) > KEEP_EVERY
            && let Some(change) = self.keep()
        {
            self.journal.write_soon(vec![change]);
        }
    }

    async fn durable_until(&self, next: i64) -> Result<(), Error> {
        let waiter = Arc::new(Notify::new());
        while self.log.durable_offset() < next {
            self.log.watch(&waiter);
            if self.log.durable_offset() >= next {
                break;
            }
            // Nothing will come any more.
            self.log.health().map_err(storage)?;
            waiter.notified().await;
        }
        Ok(())
    }

    /// One sound batch of a client.
    fn check(&self, batch: &Bytes) -> Result<Header, Error> {
        let refuse = |response, reason: &str| Err(Error::Refused(response, reason.to_owned()));
        let header = match Header::verify(batch) {
            Ok(header) => header,
            Err(error @ log::BatchError::Magic(_)) => {
                let reason = error.to_string();
                return refuse(ResponseError::UnsupportedForMessageFormat, &reason);
            }
            Err(error) => return refuse(ResponseError::CorruptMessage, &error.to_string()),
        };
        if header.bytes != batch.len() {
            return refuse(ResponseError::InvalidRecord, "more than one batch");
        }
        let offsets = i64::from(header.last_offset_delta) + 1;
        if header.records < 1 || i64::from(header.records) != offsets {
            return refuse(
                ResponseError::InvalidRecord,
                "its number of records is wrong",
            );
        }
        if header.is_control() {
            return refuse(ResponseError::InvalidRecord, "only the broker writes marks");
        }
        if header.attributes & 7 > 4 {
            return refuse(
                ResponseError::UnsupportedCompressionType,
                "its compression is unknown",
            );
        }
        let config = self.config();
        let most = config.max_batch.0;
        if batch.len() as u64 > most {
            let reason = format!("a batch of {} bytes, and {most} are taken", batch.len());
            return refuse(ResponseError::MessageTooLarge, &reason);
        }
        if config.cleanup.compacts() {
            self.check_keys(&header, batch)?;
        }
        Ok(header)
    }

    /// In a compacted topic every record needs a key.
    fn check_keys(&self, header: &Header, batch: &Bytes) -> Result<(), Error> {
        let records = records::read(&section(header, batch), UNPACKED_BYTES_MAX);
        for record in records.map_err(|error| unreadable(&error))? {
            check_key(
                &self.topic,
                record.map_err(|error| unreadable(&error))?.key.as_ref(),
            )?;
        }
        Ok(())
    }

    /// May block.
    fn build(&self, known: Option<(Vec<u8>, i64)>) -> Result<State, Error> {
        let end = self.log.durable_offset();
        let now = Timestamp::now();
        // Also of one that cannot be used: the next must be later.
        let version = known.as_ref().map_or(0, |(_, version)| *version);
        let mut state = known
            .and_then(|(bytes, _)| restore(&bytes))
            .filter(|state| state.kept <= end)
            .unwrap_or_else(|| State {
                producers: Producers::new(producers::Limits::default()),
                open: OpenTxns::new(0),
                kept: 0,
                version,
                forgotten: 0,
            });
        state.version = version;
        let mut at = state.kept.max(self.log.start_offset());
        while at < end {
            let read = self.log.read(at, SCAN_BYTES, end).map_err(storage)?;
            if read.next <= at {
                break;
            }
            let mut rest = read.batches;
            while let Ok(header) = Header::parse(&rest) {
                let batch = rest.split_to(header.bytes.min(rest.len()));
                state.observe(&header, &batch, now);
            }
            at = read.next;
        }
        state.open.durable(end);
        Ok(state)
    }

    fn durability(&self) -> Durability {
        match self.config().durability {
            config::Durability::Synced => Durability::Synced,
            config::Durability::Memory => Durability::Memory,
        }
    }

    fn config(&self) -> TopicConfig {
        self.config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn observe(&mut self, header: &Header, batch: &Bytes, now: Timestamp) {
        if header.producer_id < 0 {
            return;
        }
        let mut found = appended(header, header.base_offset);
        found.at = now;
        self.producers.observe(&producers::Header {
            batch: found,
            control: header.is_control(),
        });
        if header.is_control() {
            if let Some(outcome) = mark_of(header, batch) {
                self.open
                    .end(header.producer_id, outcome, header.base_offset);
            }
        } else if header.is_transactional() {
            self.open.begin(header.producer_id, header.base_offset);
        }
    }
}

/// The records of one batch may take so much memory.
pub const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// How a transaction ended, by the mark in a control batch; none if it is another mark.
pub(crate) fn mark_of(header: &Header, batch: &Bytes) -> Option<Outcome> {
    let read = records::read(&section(header, batch), UNPACKED_BYTES_MAX);
    let mark = read.ok()?.next()?.ok()?;
    outcome_of(&mark).ok().flatten()
}

/// Whether a compacted topic takes a record with this key.
pub(crate) fn check_key(topic: &str, key: Option<&Bytes>) -> Result<(), Error> {
    if key.is_some() {
        return Ok(());
    }
    let reason = format!("a record has no key, and in '{topic}', which is compacted, it needs one");
    Err(Error::Refused(ResponseError::InvalidRecord, reason))
}

/// What `records` needs of a batch.
pub fn section(header: &Header, batch: &Bytes) -> Section {
    Section {
        attributes: header.attributes,
        base_offset: header.base_offset,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        count: header.records,
        bytes: batch.slice(log::batch::HEADER_BYTES.min(batch.len())..),
    }
}

pub(crate) fn log_config(config: &TopicConfig) -> log::PartitionConfig {
    log::PartitionConfig {
        segment_bytes: config.segment.0,
    }
}

fn restore(bytes: &[u8]) -> Option<State> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (one, other) = rest.split_at_checked(length)?;
    let (producers, next) = Producers::restore(producers::Limits::default(), one).ok()?;
    let (open, other_next) = OpenTxns::restore(other).ok()?;
    (next == other_next).then_some(State {
        producers,
        open,
        kept: next,
        version: 0,
        forgotten: 0,
    })
}

fn appended(header: &Header, base_offset: i64) -> Appended {
    Appended {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        base_offset,
        last_offset: base_offset + i64::from(header.last_offset_delta),
        transactional: header.is_transactional(),
        at: Timestamp::now(),
    }
}

fn not_ready() -> Error {
    let reason = "the partition was not made ready".to_owned();
    Error::Refused(ResponseError::NotLeaderOrFollower, reason)
}

fn refused(refused: Refused) -> Error {
    let response = match refused {
        Refused::OutOfOrderSequenceNumber { .. } => ResponseError::OutOfOrderSequenceNumber,
        Refused::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
        Refused::InvalidTxnState(_) => ResponseError::InvalidTxnState,
    };
    Error::Refused(response, refused.to_string())
}

fn unreadable(error: &records::RecordsError) -> Error {
    Error::Refused(ResponseError::CorruptMessage, error.to_string())
}

fn storage(error: log::Error) -> Error {
    error::of_log(error)
}
