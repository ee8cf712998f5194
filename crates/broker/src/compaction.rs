//! Compaction by key: of each key the last record stays. What goes is decided here, without a disk.
//!
//! Two passes. A [`Survey`] goes over what was not compacted yet and notes where each key comes last.
//! A [`Plan`] is then shown every batch of the finished files, in order, and says what stays of it.
//!
//! - Keys are known by 16 bytes of their SHA-256: clients choose the keys, and two that were taken for
//!   one would cost a record. When the survey is full it ends, also within a batch, and so does the
//!   plan; the next run goes on from there.
//! - Nothing from the last stable offset on is touched: how its transactions end is not known.
//! - A tombstone goes only before the [`horizon`], or who has read the value could miss it, and
//!   never behind a batch that cannot be read: that stays, perhaps with an older value.
//! - Records of aborted transactions go, and never stand in for an older record of their key.
//! - The last batch of each known producer stays, be it empty: its state is rebuilt from the log. So
//!   does the last batch of all, or readers would never come to the end.
//! - A mark goes when nothing is left of its transaction, the snapshot of open transactions is of
//!   later, and it lies before the horizon. That of an abort has a second condition: readers are given
//!   lists of aborted transactions, and a list without its mark would hide records that came later. So
//!   one run tells that nothing is left of it; then it goes from the list, in memory and on disk; and
//!   only a later run takes the mark. What a commit had written is read without its mark.
//!
//! Refused: a delete horizon in each batch, as newer versions of Kafka write it (KIP-534). Every batch
//! with a tombstone would be written once more, its times counted anew, only to say when it was
//! cleaned; the partition knows that for all of them at once.

pub mod horizon;
pub mod upkeep;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use atoll_store::log::{Header, Rewrite};
use bytes::Bytes;
use ring::digest::{SHA256, digest};

use crate::partition::{UNPACKED_BYTES_MAX, mark_of, section};
use crate::records::{self, LOG_APPEND_TIME, Record, Records, RecordsError, thinned};

/// So many keys are known at once. A table of 26 MB; one run at a time has one.
pub const KEYS_MAX: usize = (1 << 20) / 8 * 7;

type Key = [u8; 16];

/// The aborted transactions of a partition.
#[derive(Debug, Default)]
pub struct Aborts(HashMap<i64, Vec<(i64, i64)>>);

/// Where each key comes last.
#[derive(Debug)]
pub struct Survey {
    latest: HashMap<Key, i64>,
    keys_max: usize,
    aborts: Aborts,
    from: i64,
    end: i64,
}

/// What a run has to know beside the records.
#[derive(Debug, Default)]
pub struct Known {
    /// Where the last batch of each producer begins; `i64::MIN`: nobody knows.
    pub producers: HashMap<i64, i64>,
    /// Marks from here on may be needed to make sense of the snapshot of open transactions.
    pub snapshot: i64,
    /// The offset after the last finished file.
    pub finished: i64,
    /// What lies before was cleaned long enough ago: tombstones and marks may go.
    pub horizon: i64,
    /// Where the finished files begin.
    pub files: Vec<i64>,
    /// Not all of them are shown: nobody can tell whether something is left of a transaction.
    pub partial: bool,
}

/// What a run has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Up to here everything is decided.
    pub end: i64,
    /// The first tombstone that waits for the horizon, by the beginning of its file.
    pub waiting: BTreeMap<i64, i64>,
    /// Where the first batch begins that could not be read, and how many there are. They stay as they
    /// are.
    pub unreadable: Option<(i64, u64)>,
    /// The marks of aborted transactions of which nothing is left.
    pub emptied: HashSet<i64>,
}

/// What stays of each batch.
#[derive(Debug)]
pub struct Plan {
    survey: Survey,
    known: Known,
    /// Producers of whose open transaction something has stayed so far.
    stayed: HashSet<i64>,
    found: Found,
}

impl Aborts {
    /// From the producers, the first offsets and those of the marks.
    pub fn new(spans: impl Iterator<Item = (i64, i64, i64)>) -> Self {
        let mut own = Self::default();
        for (producer, first, mark) in spans {
            own.0.entry(producer).or_default().push((first, mark));
        }
        for spans in own.0.values_mut() {
            spans.sort_unstable();
        }
        own
    }

    /// Whether the batch is part of an aborted transaction.
    fn hold(&self, header: &Header) -> bool {
        if !header.is_transactional() || header.is_control() {
            return false;
        }
        let spans = self.0.get(&header.producer_id).map(Vec::as_slice);
        let spans = spans.unwrap_or_default();
        let after = spans.partition_point(|(first, _)| *first <= header.base_offset);
        let span = after.checked_sub(1).and_then(|at| spans.get(at));
        span.is_some_and(|(_, mark)| header.base_offset < *mark)
    }
}

impl Aborts {
    /// Whether the mark ends one of them.
    fn end_at(&self, header: &Header) -> bool {
        let spans = self.0.get(&header.producer_id);
        spans.is_some_and(|own| own.iter().any(|(_, mark)| *mark == header.base_offset))
    }
}

impl Survey {
    /// Of what begins at `from`, with at most `keys_max` keys, one at least.
    pub fn new(from: i64, keys_max: usize, aborts: Aborts) -> Self {
        Self {
            latest: HashMap::new(),
            keys_max: keys_max.max(1),
            aborts,
            from,
            end: from,
        }
    }

    /// Takes the next batch, of which all transactions have ended. False: there is no room, and the
    /// survey ends before one of its records.
    pub fn note(&mut self, header: &Header, batch: &Bytes) -> bool {
        // What cannot be read stays as it is.
        if !header.is_control()
            && !self.aborts.hold(header)
            && let Ok(records) = sound(header, batch)
        {
            let new = records.flatten().filter(|own| own.offset >= self.from);
            for record in new {
                let Some(key) = record.key.as_deref().map(hash) else {
                    continue;
                };
                let full = self.latest.len() >= self.keys_max;
                if full && !self.latest.contains_key(&key) {
                    self.end = self.end.max(record.offset);
                    return false;
                }
                let latest = self.latest.entry(key).or_insert(record.offset);
                *latest = record.offset.max(*latest);
            }
        }
        self.end = self.end.max(header.next_offset());
        true
    }

    /// There is nothing more before this offset.
    pub fn skip(&mut self, until: i64) {
        self.end = self.end.max(until);
    }

    /// The offset after the last record that was taken.
    pub fn end(&self) -> i64 {
        self.end
    }
}

impl Plan {
    /// By what was found.
    pub fn new(survey: Survey, known: Known) -> Self {
        let found = Found {
            end: survey.end,
            ..Found::default()
        };
        Self {
            survey,
            known,
            stayed: HashSet::new(),
            found,
        }
    }

    /// What was found, at the end.
    pub fn finish(self) -> Found {
        self.found
    }

    /// What becomes of the next batch.
    pub fn decide(&mut self, batch: &[u8]) -> Rewrite {
        let Ok(header) = Header::parse(batch) else {
            return Rewrite::Keep;
        };
        if header.base_offset >= self.survey.end {
            return Rewrite::Keep;
        }
        if header.is_control() {
            return self.mark(&header, batch);
        }
        let rewrite = match self.thin(&header, batch) {
            Ok(rewrite) => rewrite,
            Err(_) => {
                // Older values may be in it.
                self.known.horizon = self.known.horizon.min(header.base_offset);
                let known = self.found.unreadable.get_or_insert((header.base_offset, 0));
                known.1 += 1;
                Rewrite::Keep
            }
        };
        if header.is_transactional() && rewrite != Rewrite::Drop {
            self.stayed.insert(header.producer_id);
        }
        rewrite
    }

    fn mark(&mut self, header: &Header, batch: &[u8]) -> Rewrite {
        let something = self.stayed.remove(&header.producer_id);
        let bytes = Bytes::copy_from_slice(batch);
        let unknown = self.known.partial || mark_of(header, &bytes).is_none();
        if something || unknown || self.is_last(header) {
            return Rewrite::Keep;
        }
        if self.survey.aborts.end_at(header) {
            self.found.emptied.insert(header.base_offset);
            return Rewrite::Keep;
        }
        let last = self.known.producers.get(&header.producer_id);
        let told_later = last.is_none_or(|last| *last > header.base_offset);
        let settled = header.last_offset() < self.known.snapshot;
        if told_later && settled && header.last_offset() < self.known.horizon {
            return Rewrite::Drop;
        }
        Rewrite::Keep
    }

    fn thin(&mut self, header: &Header, batch: &[u8]) -> Result<Rewrite, RecordsError> {
        if header.records == 0 || self.survey.aborts.hold(header) {
            return self.empty(header, batch);
        }
        let bytes = Bytes::copy_from_slice(batch);
        let mut records = records::read(&section(header, &bytes), UNPACKED_BYTES_MAX)?;
        let (mut kept, mut count, mut latest) = (Vec::new(), 0, i64::MIN);
        while let Some(next) = records.next_with_bytes() {
            let (record, own) = next?;
            if self.stays(&record) {
                kept.extend_from_slice(&own);
                count += 1;
                latest = latest.max(record.timestamp);
            }
        }
        if count == header.records {
            return Ok(Rewrite::Keep);
        }
        if count == 0 {
            return self.empty(header, batch);
        }
        if header.attributes & LOG_APPEND_TIME != 0 {
            latest = header.max_timestamp;
        }
        thinned(batch, &kept, count, latest).map(Rewrite::Replace)
    }

    fn stays(&mut self, record: &Record) -> bool {
        if record.offset >= self.survey.end {
            return true;
        }
        let Some(key) = record.key.as_deref().map(hash) else {
            // From before the topic was compacted; as in Kafka.
            return false;
        };
        let latest = self.survey.latest.get(&key);
        if latest.is_some_and(|latest| *latest > record.offset) {
            return false;
        }
        record.value.is_some() || self.waits(record.offset)
    }

    /// Nothing of the batch stays but, perhaps, its head.
    fn empty(&self, header: &Header, batch: &[u8]) -> Result<Rewrite, RecordsError> {
        let of_producer = self.known.producers.get(&header.producer_id);
        if of_producer != Some(&header.base_offset) && !self.is_last(header) {
            return Ok(Rewrite::Drop);
        }
        if header.records == 0 {
            return Ok(Rewrite::Keep);
        }
        thinned(batch, &[], 0, 0).map(Rewrite::Replace)
    }

    fn is_last(&self, header: &Header) -> bool {
        header.next_offset() >= self.known.finished
    }

    /// Whether a tombstone must stay for those who have read what it deletes.
    fn waits(&mut self, offset: i64) -> bool {
        let waits = offset >= self.known.horizon;
        if waits {
            let files = &self.known.files;
            let after = files.partition_point(|base| *base <= offset);
            let file = after.checked_sub(1).and_then(|at| files.get(at));
            let first = self.found.waiting.entry(file.copied().unwrap_or(0));
            first.or_insert(offset);
        }
        waits
    }
}

/// The records of a batch, all of which can be read. One after the other is in memory.
fn sound(header: &Header, batch: &Bytes) -> Result<Records, RecordsError> {
    let records = records::read(&section(header, batch), UNPACKED_BYTES_MAX)?;
    records.clone().try_for_each(|record| record.map(drop))?;
    Ok(records)
}

fn hash(key: &[u8]) -> Key {
    let mut out = [0; 16];
    let whole = digest(&SHA256, key);
    out.copy_from_slice(&whole.as_ref()[..16]);
    out
}
