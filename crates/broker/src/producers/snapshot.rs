//! The producers as bytes, so that recovery need not read every header of the log.

use std::collections::{HashMap, VecDeque};

use atoll_base::Timestamp;

use crate::sealed::{Reader, SealError, Writer};

use super::{Limits, Producer, Producers, REMEMBERED, Remembered, Written};

const KIND: [u8; 4] = *b"APRD";
const VERSION: u16 = 1;
/// The least bytes of a producer in a snapshot.
const PRODUCER_LEAST: usize = 8 + 2 + 4 + 1 + 8 + 4;
const BATCH_SIZE: usize = 4 + 8 + 8 + 8;

impl Producers {
    /// The state after all batches before `next_offset`. To be stored only once these are durable:
    /// a log that ends before the offset of its snapshot must not use it.
    pub fn snapshot(&self, next_offset: i64) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.i64(next_offset);
        writer.count(self.known.len());
        let mut ids: Vec<&i64> = self.known.keys().collect();
        ids.sort_unstable();
        for id in ids {
            writer.i64(*id);
            write_producer(&mut writer, &self.known[id]);
        }
        writer.finish()
    }

    /// The state of a snapshot, and the offset from which on the log's headers are to be observed.
    pub fn restore(limits: Limits, bytes: &[u8]) -> Result<(Self, i64), SealError> {
        let mut reader = Reader::open(KIND, VERSION, bytes)?;
        let next_offset = reader.i64()?;
        let count = reader.count(PRODUCER_LEAST)?;
        let mut known = HashMap::with_capacity(count);
        for _ in 0..count {
            let id = reader.i64()?;
            known.insert(id, read_producer(&mut reader)?);
        }
        reader.finish()?;
        let mut producers = Self { limits, known };
        producers.evict();
        Ok((producers, next_offset))
    }
}

fn write_producer(writer: &mut Writer, producer: &Producer) {
    writer.i16(producer.epoch);
    writer.i32(producer.next_sequence.unwrap_or(-1));
    writer.u8(u8::from(producer.in_transaction));
    writer.i64(producer.seen.as_micros());
    writer.count(producer.batches.len());
    for batch in &producer.batches {
        writer.i32(batch.base_sequence);
        writer.i64(batch.written.base_offset);
        writer.i64(batch.written.last_offset);
        writer.i64(batch.written.at.as_micros());
    }
}

fn read_producer(reader: &mut Reader<'_>) -> Result<Producer, SealError> {
    let epoch = reader.i16()?;
    let next_sequence = Some(reader.i32()?).filter(|next| *next >= 0);
    let in_transaction = reader.flag()?;
    let seen = Timestamp::from_micros(reader.i64()?);
    let count = reader.count(BATCH_SIZE)?;
    if count > REMEMBERED {
        return Err(reader.nonsense());
    }
    let mut batches = VecDeque::with_capacity(count);
    for _ in 0..count {
        batches.push_back(Remembered {
            base_sequence: reader.i32()?,
            written: Written {
                base_offset: reader.i64()?,
                last_offset: reader.i64()?,
                at: Timestamp::from_micros(reader.i64()?),
            },
        });
    }
    Ok(Producer {
        epoch,
        next_sequence,
        batches,
        in_transaction,
        seen,
    })
}
