//! The idempotent producers of one partition (KIP-98): which batch comes next, and which is a repeat.
//!
//! A producer numbers its records. A batch that does not follow the last one is refused, so nothing
//! is lost or reordered on the way; one of the last five again is answered as it was the first time,
//! so nothing is written twice. Five, because that is how many a client has in flight at most.
//!
//! A producer that is not known may begin with any number, as in Kafka since 2.5 (KIP-360): what it
//! wrote may have been deleted or its entry expired, and `UNKNOWN_PRODUCER_ID` made old clients
//! fail for good. For the same reason an old repeat is out of order and not a duplicate.
//!
//! The state is the sum of the batch headers in the log. A snapshot saves reading them all; a lost
//! or damaged one costs time and nothing else.

mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use atoll_base::Timestamp;
use thiserror::Error;

/// How many batches of a producer are remembered.
const REMEMBERED: usize = 5;

/// What may be remembered.
#[derive(Clone, Debug)]
pub struct Limits {
    /// After this time without a batch a producer is forgotten. Default 1 day, as in Kafka: longer
    /// than any client retries.
    pub idle: Duration,
    /// The most producers of one partition. Default 5,000, about 1 MB; those idle longest go first,
    /// never one in a transaction.
    pub producers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(24 * 60 * 60),
            producers_max: 5_000,
        }
    }
}

/// What a batch that is to be appended says of its producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The producer; below zero: none, and nothing is checked.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The number of the first record.
    pub base_sequence: i32,
    /// How many records: at least 1.
    pub record_count: i32,
    /// Whether the batch is part of a transaction.
    pub transactional: bool,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Append it, then say so with [`Producers::appended`] before the next is checked.
    Accept,
    /// It is in the log already: answer with these offsets, as soon as they are durable.
    Duplicate(Written),
}

/// Where a batch was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// When.
    pub at: Timestamp,
}

/// Why a batch is refused. Each is the error of the same name in Kafka's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// A batch before it is missing, or it is an old repeat.
    #[error("sequence {given} of producer {producer_id} does not follow: {expected} comes next")]
    OutOfOrderSequenceNumber {
        /// Who.
        producer_id: i64,
        /// What it said.
        given: i32,
        /// What comes next.
        expected: i32,
    },
    /// A newer producer of the same transactional id has taken over.
    #[error("epoch {given} of producer {producer_id} is over, {current} holds")]
    InvalidProducerEpoch {
        /// Who.
        producer_id: i64,
        /// What it said.
        given: i16,
        /// What holds.
        current: i16,
    },
    /// It has an open transaction here and writes outside of it.
    #[error("producer {0} writes outside of its open transaction")]
    InvalidTxnState(i64),
}

/// A batch in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its producer; below zero: none.
    pub producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// The number of its first record.
    pub base_sequence: i32,
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record. Compaction may have removed records; the header still tells.
    pub last_offset: i64,
    /// Whether it is part of a transaction.
    pub transactional: bool,
    /// When it was appended. In recovery: when that runs, because the times in the batch are the
    /// client's, who may replay the past.
    pub at: Timestamp,
}

/// A producer as it is described.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// Who.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The number that comes next. None: any will do; 0: none was written in this epoch, or 2^31 were.
    pub next_sequence: Option<i32>,
    /// When it wrote last.
    pub seen: Timestamp,
}

/// What the header of any batch in the log says: for recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The batch.
    pub batch: Appended,
    /// Whether it is a marker that ends a transaction, not data.
    pub control: bool,
}

/// The producers of one partition.
#[derive(Debug)]
pub struct Producers {
    limits: Limits,
    known: HashMap<i64, Producer>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    /// None: not known, any will do.
    next_sequence: Option<i32>,
    /// The last batches of this epoch, oldest first.
    batches: VecDeque<Remembered>,
    in_transaction: bool,
    seen: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Remembered {
    base_sequence: i32,
    written: Written,
}

impl Producers {
    /// A partition that nobody has written to.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: HashMap::new(),
        }
    }

    /// Whether a batch may be appended now. Changes nothing: what is accepted may still fail.
    pub fn check(&self, claim: &Claim) -> Result<Verdict, Refused> {
        let Some(producer) = self.known.get(&claim.producer_id) else {
            return Ok(Verdict::Accept);
        };
        let producer_id = claim.producer_id;
        if claim.epoch < producer.epoch {
            let (given, current) = (claim.epoch, producer.epoch);
            return Err(Refused::InvalidProducerEpoch {
                producer_id,
                given,
                current,
            });
        }
        let same_epoch = claim.epoch == producer.epoch;
        if same_epoch && let Some(written) = producer.repeat_of(claim) {
            return Ok(Verdict::Duplicate(written));
        }
        if producer.in_transaction && !claim.transactional {
            return Err(Refused::InvalidTxnState(producer_id));
        }
        let expected = if same_epoch {
            producer.next_sequence
        } else {
            Some(0)
        };
        match expected {
            Some(expected) if expected != claim.base_sequence => {
                Err(Refused::OutOfOrderSequenceNumber {
                    producer_id,
                    given: claim.base_sequence,
                    expected,
                })
            }
            _ => Ok(Verdict::Accept),
        }
    }

    /// A batch of data is in the log, though perhaps not durable yet.
    pub fn appended(&mut self, batch: &Appended) {
        if batch.producer_id < 0 {
            return;
        }
        let producer = self.entry(batch.producer_id, batch.epoch, batch.at);
        let span = batch.last_offset - batch.base_offset;
        producer.next_sequence = Some(sequence_after(batch.base_sequence, span));
        producer.in_transaction |= batch.transactional;
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            base_sequence: batch.base_sequence,
            written: Written {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                at: batch.at,
            },
        });
        self.evict();
    }

    /// A marker that ends the producer's transaction is in the log. Its epoch may be newer than the
    /// producer's: then who still writes with the old one is fenced from here on.
    pub fn ended(&mut self, producer_id: i64, epoch: i16, at: Timestamp) {
        let producer = self.entry(producer_id, epoch, at);
        producer.in_transaction = false;
        self.evict();
    }

    /// Takes a batch that was found in the log: for recovery, in the order of the log.
    pub fn observe(&mut self, header: &Header) {
        let batch = &header.batch;
        if header.control {
            self.ended(batch.producer_id, batch.epoch, batch.at);
        } else {
            self.appended(batch);
        }
    }

    /// Forgets who was idle too long. To be called now and then; returns how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let before = self.known.len();
        let idle = self.limits.idle;
        self.known
            .retain(|_, producer| producer.in_transaction || now.since(producer.seen) < idle);
        before - self.known.len()
    }

    /// Those that are known, by their ids.
    pub fn list(&self) -> Vec<View> {
        let known = self.known.iter().map(|(id, producer)| View {
            producer_id: *id,
            epoch: producer.epoch,
            next_sequence: producer.next_sequence,
            seen: producer.seen,
        });
        let mut known: Vec<_> = known.collect();
        known.sort_unstable_by_key(|view| view.producer_id);
        known
    }

    /// Where the last batch of data of each known producer begins; `i64::MIN`: none is known. From
    /// these batches its state is rebuilt, so compaction leaves their heads.
    pub fn last_batches(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.known.iter().map(|(id, producer)| {
            let last = producer.batches.back();
            (*id, last.map_or(i64::MIN, |own| own.written.base_offset))
        })
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The producer, in this epoch or a newer one.
    fn entry(&mut self, producer_id: i64, epoch: i16, at: Timestamp) -> &mut Producer {
        let producer = self.known.entry(producer_id).or_insert_with(|| Producer {
            epoch,
            next_sequence: None,
            batches: VecDeque::new(),
            in_transaction: false,
            seen: at,
        });
        if epoch > producer.epoch {
            producer.epoch = epoch;
            producer.next_sequence = Some(0);
            producer.batches.clear();
        }
        producer.seen = producer.seen.max(at);
        producer
    }

    /// Beyond the bound an eighth goes at once, so that the search for the oldest is rare.
    fn evict(&mut self) {
        if self.known.len() <= self.limits.producers_max {
            return;
        }
        let idle = self.known.iter().filter(|(_, one)| !one.in_transaction);
        let mut idle: Vec<(Timestamp, i64)> = idle.map(|(id, one)| (one.seen, *id)).collect();
        let excess = self.known.len() - self.limits.producers_max;
        let count = (excess + self.limits.producers_max / 8).min(idle.len());
        if count < idle.len() {
            idle.select_nth_unstable(count);
        }
        for (_, id) in &idle[..count] {
            self.known.remove(id);
        }
    }
}

impl Producer {
    fn repeat_of(&self, claim: &Claim) -> Option<Written> {
        let same = |batch: &&Remembered| {
            let span = batch.written.last_offset - batch.written.base_offset;
            batch.base_sequence == claim.base_sequence && span + 1 == i64::from(claim.record_count)
        };
        self.batches.iter().find(same).map(|batch| batch.written)
    }
}

/// The sequence number that follows a batch whose last record is `span` after its first: 0 follows
/// the greatest.
fn sequence_after(base: i32, span: i64) -> i32 {
    let next = (i64::from(base) + span + 1) & i64::from(i32::MAX);
    i32::try_from(next).expect("masked to 31 bits")
}
