//! Batches of our own: what HTTP publishes, and the markers of transactions.
//!
//! Kafka's layout of a batch, all big-endian:
//!
//! ```text
//! base offset 8 · length 4 · leader epoch 4 · magic 1 · crc32c 4 │ attributes 2 · last offset delta 4
//! · base time 8 · greatest time 8 · producer id 8 · epoch 2 · base sequence 4 · count 4 · records
//! ```
//! The checksum is over all that follows it.

use bytes::Bytes;

use crate::txn::Producer;

use super::varint::{put_varint, put_varlong};
use super::{CONTROL, Compression, RecordsError, TRANSACTIONAL, compress};

/// Bytes before the records.
pub(super) const HEAD: usize = 61;
/// Bytes that the length in the header does not count: the offset and itself.
pub(super) const BEFORE_LENGTH: usize = 12;
/// Bytes that the checksum does not cover.
pub(super) const BEFORE_CHECKSUM: usize = 21;
const MAGIC: u8 = 2;

/// How a batch is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// How its records are compressed.
    pub compression: Compression,
    /// Its producer and the sequence number of its first record, if it has one.
    pub producer: Option<(Producer, i32)>,
    /// Whether it is part of a transaction of that producer.
    pub transactional: bool,
    pub(crate) control: bool,
}

/// A record to be written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NewRecord<'a> {
    /// Its time in milliseconds since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// A batch that is being written. Its base offset is 0: the log sets it, which the checksum allows.
#[derive(Debug)]
pub struct BatchBuilder {
    options: Options,
    records: Vec<u8>,
    scratch: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A batch without records.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            records: Vec::new(),
            scratch: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
        }
    }

    /// Adds a record. Times may be in any order.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), RecordsError> {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let body = &mut self.scratch;
        body.clear();
        body.push(0);
        put_varlong(body, record.timestamp.wrapping_sub(self.base_timestamp));
        put_varint(body, self.count);
        put_field(body, record.key)?;
        put_field(body, record.value)?;
        put_varint(body, length(record.headers.len())?);
        for (name, value) in record.headers {
            put_field(body, Some(name.as_bytes()))?;
            put_field(body, *value)?;
        }
        // The whole batch must keep a length that its header can say.
        length(self.records.len() + body.len() + 2 * HEAD)?;
        put_varint(&mut self.records, length(body.len())?);
        self.records.extend_from_slice(body);
        self.count += 1;
        Ok(())
    }

    /// How many records.
    pub fn len(&self) -> i32 {
        self.count
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes the batch would have if it were not compressed.
    pub fn size(&self) -> usize {
        HEAD + self.records.len()
    }

    /// The batch.
    pub fn finish(self) -> Result<Bytes, RecordsError> {
        if self.count == 0 {
            return Err(RecordsError::Empty);
        }
        let records = match self.options.compression {
            Compression::None => self.records,
            codec => compress(codec, &self.records)?,
        };
        let size = HEAD + records.len();
        let Options {
            compression,
            producer,
            transactional,
            control,
        } = self.options;
        let mut attributes = compression.bits();
        attributes |= if transactional { TRANSACTIONAL } else { 0 };
        attributes |= if control { CONTROL } else { 0 };
        let nobody = Producer { id: -1, epoch: -1 };
        let (producer, sequence) = producer.unwrap_or((nobody, -1));

        let mut batch = Vec::with_capacity(size);
        batch.extend_from_slice(&0_i64.to_be_bytes());
        batch.extend_from_slice(&length(size - BEFORE_LENGTH)?.to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.push(MAGIC);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&attributes.to_be_bytes());
        batch.extend_from_slice(&(self.count - 1).to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp.to_be_bytes());
        batch.extend_from_slice(&producer.id.to_be_bytes());
        batch.extend_from_slice(&producer.epoch.to_be_bytes());
        batch.extend_from_slice(&sequence.to_be_bytes());
        batch.extend_from_slice(&self.count.to_be_bytes());
        batch.extend_from_slice(&records);
        let checksum = crc32c::crc32c(&batch[BEFORE_CHECKSUM..]);
        batch[BEFORE_CHECKSUM - 4..BEFORE_CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        Ok(batch.into())
    }
}

/// Kafka's lengths have 31 bits.
pub(super) fn length(length: usize) -> Result<i32, RecordsError> {
    i32::try_from(length).map_err(|_| RecordsError::TooLarge(i32::MAX as usize))
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) -> Result<(), RecordsError> {
    match field {
        None => put_varint(out, -1),
        Some(field) => {
            put_varint(out, length(field.len())?);
            out.extend_from_slice(field);
        }
    }
    Ok(())
}
