//! A batch with some of its records taken out, for compaction.
//!
//! What stays is copied byte for byte: offsets and times of records count from the head, and the head
//! keeps where it begins. So offsets have gaps, and the producer's numbers are told as before, which
//! is what those who rebuild its state from the log need. Writing the records anew was refused: it
//! could only lose what this code does not know of.

use bytes::Bytes;

use super::encode::{BEFORE_CHECKSUM, BEFORE_LENGTH, HEAD, length};
use super::{Compression, RecordsError, compress};

const LENGTH: usize = 8;
const ATTRIBUTES: usize = 21;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const COUNT: usize = 57;
/// The time of a batch that has none.
const NO_TIME: i64 = -1;

/// The batch with only `count` of its records: `kept`, uncompressed, as they stand in it, of which the
/// latest time is `max_timestamp`. Without any it still tells of its producer; its times are -1 then.
///
/// # Errors
/// When `batch` has no head, or compressing fails.
pub fn thinned(
    batch: &[u8],
    kept: &[u8],
    count: i32,
    max_timestamp: i64,
) -> Result<Bytes, RecordsError> {
    let short = RecordsError::Truncated(batch.len());
    let head: &[u8; HEAD] = batch.first_chunk().ok_or(short)?;
    let mut attributes = i16::from_be_bytes([head[ATTRIBUTES], head[ATTRIBUTES + 1]]);
    let records = match Compression::of(attributes)? {
        _ if count == 0 => Bytes::new(),
        Compression::None => Bytes::copy_from_slice(kept),
        codec => compress(codec, kept)?.into(),
    };
    let mut out = Vec::with_capacity(HEAD + records.len());
    out.extend_from_slice(head);
    out.extend_from_slice(&records);
    let size = length(out.len() - BEFORE_LENGTH)?;
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    if count == 0 {
        // Nothing is compressed, and no bytes would be no frame of any compression.
        attributes &= !7;
        put(ATTRIBUTES, &attributes.to_be_bytes());
        put(BASE_TIMESTAMP, &NO_TIME.to_be_bytes());
        put(MAX_TIMESTAMP, &NO_TIME.to_be_bytes());
    } else {
        put(MAX_TIMESTAMP, &max_timestamp.to_be_bytes());
    }
    put(LENGTH, &size.to_be_bytes());
    put(COUNT, &count.to_be_bytes());
    let checksum = crc32c::crc32c(&out[BEFORE_CHECKSUM..]);
    out[BEFORE_CHECKSUM - 4..BEFORE_CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    Ok(out.into())
}
