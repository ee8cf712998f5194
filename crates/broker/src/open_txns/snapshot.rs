//! The transactions of a partition as bytes, so that recovery need not read every header of the log.

use crate::sealed::{Reader, SealError, Writer};

use super::{Entry, OpenTxns};

const KIND: [u8; 4] = *b"ATXP";
const VERSION: u16 = 1;
const OPEN_SIZE: usize = 8 + 8;
const ABORTED_SIZE: usize = 8 * 4;

impl OpenTxns {
    /// The state after all batches before `next_offset`. To be stored only once these are durable:
    /// a log that ends before the offset of its snapshot must not use it.
    pub fn snapshot(&self, next_offset: i64) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.i64(next_offset);
        writer.i64(self.start);
        writer.count(self.firsts.len());
        for (first, producer_id) in &self.firsts {
            writer.i64(*first);
            writer.i64(*producer_id);
        }
        writer.count(self.aborted.len());
        for entry in &self.aborted {
            writer.i64(entry.producer_id);
            writer.i64(entry.first);
            writer.i64(entry.marker);
            writer.i64(entry.stable);
        }
        writer.finish()
    }

    /// The state of a snapshot, and the offset from which on the log's batches are to be told with
    /// [`Self::begin`] and [`Self::end`], then its end with [`Self::durable`].
    pub fn restore(bytes: &[u8]) -> Result<(Self, i64), SealError> {
        let mut reader = Reader::open(KIND, VERSION, bytes)?;
        let next_offset = reader.i64()?;
        let mut txns = Self::new(next_offset);
        txns.start = reader.i64()?;
        for _ in 0..reader.count(OPEN_SIZE)? {
            let first = reader.i64()?;
            txns.begin(reader.i64()?, first);
        }
        for _ in 0..reader.count(ABORTED_SIZE)? {
            txns.aborted.push_back(Entry {
                producer_id: reader.i64()?,
                first: reader.i64()?,
                marker: reader.i64()?,
                stable: reader.i64()?,
            });
        }
        reader.finish()?;
        Ok((txns, next_offset))
    }
}
