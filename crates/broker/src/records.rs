//! The records inside a batch (format 2): reading them from any compression within a bound, and
//! writing batches of our own.
//!
//! Batches are stored and served as they came. Only what must look inside reads them here: pushes,
//! HTTP, schemas, compaction. What came from a client may be anything, so nothing here trusts a
//! length or a count: a limit bounds what decompression may yield, records and their headers are
//! slices of that, and headers are read one by one instead of being collected, because two bytes
//! would otherwise become a hundred.
//!
//! The module of `kafka-protocol` was refused: it decompresses without a bound.
//!
//! ```text
//! record: length, attributes, timestamp delta, offset delta, key, value, count of headers, headers
//! ```
//! All numbers are zigzag varints, but for the attributes, a byte; a length of -1 is null.

mod compress;
mod control;
mod decode;
mod encode;
mod rewrite;
mod varint;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use thiserror::Error;

pub use compress::{compress, decompress};
pub use control::{control_batch, outcome_of};
pub use decode::{Header, Headers, Record, Records};
pub use encode::{BatchBuilder, NewRecord, Options};
pub use rewrite::thinned;

/// Bit 3 of a batch's attributes: the broker set the time, the same for all records.
pub(crate) const LOG_APPEND_TIME: i16 = 1 << 3;
/// Bit 4: the batch is part of a transaction.
const TRANSACTIONAL: i16 = 1 << 4;
/// Bit 5: the batch is a marker, not data.
const CONTROL: i16 = 1 << 5;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy, in blocks as xerial's Java library frames them, or one raw block.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// What the attributes of a batch say.
    pub fn of(attributes: i16) -> Result<Self, RecordsError> {
        match attributes & 7 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            code => Err(RecordsError::UnknownCompression(code)),
        }
    }

    fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// The records of one batch as they are stored, and what its header says of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// The header's attributes.
    pub attributes: i16,
    /// The offset of the first record when the batch was written.
    pub base_offset: i64,
    /// The time that the records' times count from, in milliseconds.
    pub base_timestamp: i64,
    /// The greatest of their times, in milliseconds.
    pub max_timestamp: i64,
    /// How many they are.
    pub count: i32,
    /// All after the header.
    pub bytes: Bytes,
}

/// Opens the records of a batch. They may take at most `bytes_max` bytes uncompressed. Memory: twice
/// that, and up to 12 MiB for the blocks of the compression.
pub fn read(section: &Section, bytes_max: usize) -> Result<Records, RecordsError> {
    let compression = Compression::of(section.attributes)?;
    let bytes = decompress(compression, &section.bytes, bytes_max)?;
    Records::new(section, bytes)
}

/// Why records cannot be read or written. Positions are in the uncompressed bytes.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// The batch was compressed by something newer.
    #[error("compression {0} is not known")]
    UnknownCompression(i16),
    /// More than the caller allows.
    #[error("the records take more than {0} bytes")]
    TooLarge(usize),
    /// The compressed bytes are damaged.
    #[error("the records cannot be decompressed as {codec:?}")]
    Damaged {
        /// As what they were read.
        codec: Compression,
        /// What the decompressor says.
        #[source]
        source: std::io::Error,
    },
    /// Compressing failed.
    #[error("the records cannot be compressed as {codec:?}")]
    NotCompressed {
        /// As what they were to be written.
        codec: Compression,
        /// What the compressor says.
        #[source]
        source: std::io::Error,
    },
    /// A number or a field goes beyond the end.
    #[error("the record breaks off at byte {0}")]
    Truncated(usize),
    /// A number takes more bytes or bits than it may.
    #[error("the number at byte {0} is too long")]
    Varint(usize),
    /// A length or count is negative, or does not fit what is there.
    #[error("the length {length} at byte {at} cannot be")]
    Length {
        /// Where.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// There are more or fewer records than the header says.
    #[error("{0} records were announced, and that is not what is there")]
    Count(i32),
    /// Offsets do not rise.
    #[error("the offset delta {given} follows {previous}")]
    Offsets {
        /// Of the record before; -1: there is none.
        previous: i32,
        /// Of this record.
        given: i32,
    },
    /// A batch must have a record.
    #[error("a batch without records")]
    Empty,
}
