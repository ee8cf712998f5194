//! The head of a record batch, as Kafka's clients write it (format 2, since Kafka 0.11).
//!
//! The log stores batches as they came and knows of them only this. Two fields lie outside of the
//! client's checksum: the offset of the first record, which the log sets, and the epoch of the
//! partition's leader. There is one node and no election, so the log keeps a checksum of the head in
//! the place of the epoch, and gives batches out with the epoch -1, which tells clients that there
//! is none. Without it a flipped bit in an offset would be served, and a head could not be trusted
//! before its whole batch was read.

/// The bytes before the records.
pub const HEADER_BYTES: usize = 61;

/// Where the checksum begins to count.
const SUMMED_FROM: usize = 21;

/// Where clients have the epoch of the leader, and the log the checksum of the head.
const EPOCH: std::ops::Range<usize> = 12..16;

/// The head of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The bytes of the whole batch, head included.
    pub bytes: usize,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression (bits 0-2), timestamp type (3), transactional (4), control (5).
    pub attributes: i16,
    /// From the first record to the last, in offsets.
    pub last_offset_delta: i32,
    /// The time of the first record, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// The latest time of a record, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// The producer that numbers its batches; -1 if it does not.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The number of the first record, by the producer's count.
    pub base_sequence: i32,
    /// The number of records.
    pub records: i32,
}

/// Bytes that are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a head has, or than the head says.
    #[error("it is cut off")]
    Short,
    /// A length that no batch has.
    #[error("its length of {0} makes no sense")]
    Length(i32),
    /// A format of before 2017, or of one to come.
    #[error("it is of format {0}; format 2 is understood")]
    Magic(i8),
    /// The bytes are not those that were written.
    #[error("its checksum does not fit")]
    Checksum,
    /// More or fewer records than offsets.
    #[error("it claims {records} records and {offsets} offsets")]
    Count {
        /// The number of records.
        records: i32,
        /// The number of offsets.
        offsets: i64,
    },
}

impl Header {
    /// Reads the head of a batch at the start of `bytes`, of which more may follow.
    ///
    /// # Errors
    /// When it is none. The checksum is not looked at: see [`Self::verify`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(BatchError::Short)?;
        let length = i32::from_be_bytes(part(head, 8));
        let least = i32::try_from(HEADER_BYTES - 12).unwrap_or(i32::MAX);
        if length < least {
            return Err(BatchError::Length(length));
        }
        let [magic] = part::<1>(head, 16).map(|byte| i8::from_be_bytes([byte]));
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let header = Self {
            base_offset: i64::from_be_bytes(part(head, 0)),
            bytes: usize::try_from(length)
                .unwrap_or(usize::MAX)
                .saturating_add(12),
            crc: u32::from_be_bytes(part(head, 17)),
            attributes: i16::from_be_bytes(part(head, 21)),
            last_offset_delta: i32::from_be_bytes(part(head, 23)),
            base_timestamp: i64::from_be_bytes(part(head, 27)),
            max_timestamp: i64::from_be_bytes(part(head, 35)),
            producer_id: i64::from_be_bytes(part(head, 43)),
            producer_epoch: i16::from_be_bytes(part(head, 51)),
            base_sequence: i32::from_be_bytes(part(head, 53)),
            records: i32::from_be_bytes(part(head, 57)),
        };
        if header.last_offset_delta < 0 || header.records < 0 {
            return Err(BatchError::Count {
                records: header.records,
                offsets: i64::from(header.last_offset_delta) + 1,
            });
        }
        Ok(header)
    }

    /// Reads the head and holds the whole batch against its checksum.
    ///
    /// # Errors
    /// When `bytes` do not begin with a whole, sound batch.
    pub fn verify(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::parse(bytes)?;
        let whole = bytes
            .get(SUMMED_FROM..header.bytes)
            .ok_or(BatchError::Short)?;
        if crc32c::crc32c(whole) != header.crc {
            return Err(BatchError::Checksum);
        }
        Ok(header)
    }

    /// Like [`Self::parse`], of a batch as the log stores it: every byte of the head is sound.
    pub(super) fn parse_stored(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::parse(bytes)?;
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(BatchError::Short)?;
        if u32::from_be_bytes(part(head, EPOCH.start)) != head_sum(head) {
            return Err(BatchError::Checksum);
        }
        Ok(header)
    }

    /// Like [`Self::verify`], of a batch as the log stores it: every byte of it is sound.
    pub(super) fn verify_stored(bytes: &[u8]) -> Result<Self, BatchError> {
        Self::parse_stored(bytes)?;
        Self::verify(bytes)
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 1 << 4 != 0
    }

    /// Whether it holds marks of the broker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes & 1 << 5 != 0
    }
}

/// Sets the offset of the first record of the batch at the start of `bytes`.
pub fn set_base_offset(bytes: &mut [u8], offset: i64) {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = offset.to_be_bytes();
    }
}

/// Makes the batch at the start of `bytes` one of the log: its offset and the checksum of its head.
pub(super) fn store(bytes: &mut [u8], offset: i64) {
    set_base_offset(bytes, offset);
    let Some(head) = bytes.first_chunk_mut::<HEADER_BYTES>() else {
        return;
    };
    let sum = head_sum(head);
    set_epoch(head, sum.to_be_bytes());
}

/// Makes a stored batch one that clients take.
pub(super) fn give_out(bytes: &mut [u8]) {
    set_epoch(bytes, (-1_i32).to_be_bytes());
}

fn set_epoch(bytes: &mut [u8], epoch: [u8; 4]) {
    if let Some(place) = bytes.get_mut(EPOCH) {
        place.copy_from_slice(&epoch);
    }
}

/// The checksum of the head but for the place where it is kept.
fn head_sum(head: &[u8; HEADER_BYTES]) -> u32 {
    let (before, rest) = head.split_at(EPOCH.start);
    let after = rest.get(EPOCH.len()..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(before), after)
}

fn part<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = head.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}

/// Builds batches for tests: `records` records of nothing in particular.
#[cfg(any(test, feature = "test-util"))]
pub fn sample(records: i32, payload: &[u8], timestamp: i64) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    out.extend_from_slice(payload);
    let length = i32::try_from(out.len() - 12).expect("samples are small");
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &length.to_be_bytes());
    put(12, &(-1_i32).to_be_bytes());
    put(16, &[2]);
    put(23, &(records - 1).to_be_bytes());
    put(27, &timestamp.to_be_bytes());
    put(35, &timestamp.to_be_bytes());
    put(43, &(-1_i64).to_be_bytes());
    put(51, &(-1_i16).to_be_bytes());
    put(53, &(-1_i32).to_be_bytes());
    put(57, &records.to_be_bytes());
    let crc = crc32c::crc32c(&out[SUMMED_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(mut bytes: Vec<u8>, length in 0..200_i32, near: bool) {
            // Half of it nearly a batch: else nothing would come far.
            if near && bytes.len() > 16 {
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                bytes[16] = 2;
            }
            for parse in [Header::parse, Header::verify, Header::parse_stored, Header::verify_stored] {
                if let Ok(header) = parse(&bytes) {
                    prop_assert!(header.bytes >= HEADER_BYTES);
                    prop_assert!(header.last_offset() >= header.base_offset);
                }
            }
            if let Ok(header) = Header::verify(&bytes) {
                prop_assert_eq!(Header::verify(&bytes[..header.bytes]), Ok(header));
            }
        }

        #[test]
        fn a_stored_batch_is_given_out_as_it_came(
            records in 1..1_000_i32,
            payload: Vec<u8>,
            time: i64,
            offset in 0..i64::MAX - 1_000,
            place: prop::sample::Index,
            bits in 1..=255_u8,
        ) {
            let came = sample(records, &payload, time);
            let mut stored = came.clone();
            store(&mut stored, offset);
            let header = Header::verify_stored(&stored).unwrap();
            prop_assert_eq!(header.base_offset, offset);
            prop_assert_eq!(header.next_offset(), offset + i64::from(records));
            prop_assert_eq!(Header::parse_stored(&stored[..HEADER_BYTES]), Ok(header));

            let mut given = stored.clone();
            give_out(&mut given);
            prop_assert_eq!(&given[8..], &came[8..]);
            prop_assert_eq!(Header::verify(&given).unwrap().base_offset, offset);

            let place = place.index(stored.len());
            stored[place] ^= bits;
            prop_assert!(Header::verify_stored(&stored).is_err(), "byte {}", place);
            if place < HEADER_BYTES {
                prop_assert!(Header::parse_stored(&stored).is_err(), "byte {}", place);
            }
        }
    }

    #[test]
    fn a_batch_is_read_and_any_changed_byte_is_found() {
        let batch = sample(3, b"payload", 7);
        let header = Header::verify(&batch).unwrap();
        assert_eq!(
            (header.records, header.last_offset(), header.max_timestamp),
            (3, 2, 7)
        );
        assert_eq!(header.bytes, batch.len());
        for at in 0..batch.len() {
            let mut broken = batch.clone();
            broken[at] ^= 0x10;
            let outside = at < 8 || (12..16).contains(&at);
            assert_eq!(Header::verify(&broken).is_ok(), outside, "byte {at}");
        }
        for cut in 0..batch.len() {
            assert_eq!(Header::verify(&batch[..cut]), Err(BatchError::Short));
        }
    }

    #[test]
    fn the_offset_is_outside_the_checksum() {
        let mut batch = sample(1, b"", 0);
        set_base_offset(&mut batch, 99);
        assert_eq!(Header::verify(&batch).unwrap().next_offset(), 100);
    }
}
