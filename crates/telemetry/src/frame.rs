//! Frames of the write-ahead log: pure, bytes in and bytes out.
//!
//! ```text
//! file  = "ATOLLTEL" version:u32 frame*
//! frame = length:u32 crc32c:u32 <an Arrow IPC stream of that many bytes, with one batch>
//! ```
//! All numbers are little-endian. Each frame carries its own schema: a few hundred bytes, for which a
//! frame can be read by itself. The first frame that is not sound ends a file: what stands behind it was
//! written later, to a file that was torn already.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use crate::columns::fold;
use crate::schema::Kind;

const MAGIC: &[u8; 8] = b"ATOLLTEL";
const VERSION: u32 = 1;

/// The length of what a file begins with.
pub(crate) const HEADER_LENGTH: usize = 12;

/// The length of what a frame begins with.
const FRAME_HEADER_LENGTH: usize = 8;

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) batches: Vec<RecordBatch>,
    /// The length of what is sound.
    pub(crate) sound: usize,
    /// Why reading ended before the end of the file, if it did.
    pub(crate) torn: Option<String>,
}

/// What a file begins with.
pub(crate) fn header() -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// A batch as a frame.
pub(crate) fn encode(batch: &RecordBatch) -> Vec<u8> {
    let room = batch.get_array_memory_size() + 4096;
    let mut frame = Vec::with_capacity(room);
    frame.extend_from_slice(&[0; FRAME_HEADER_LENGTH]);
    let written = StreamWriter::try_new(&mut frame, &batch.schema()).and_then(|mut stream| {
        stream.write(batch)?;
        stream.finish()
    });
    written.expect("a vector takes all bytes, and the batch is of its schema");
    let (head, body) = frame.split_at_mut(FRAME_HEADER_LENGTH);
    let length = u32::try_from(body.len()).expect("a batch has at most 8192 rows of 16 KiB");
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    frame
}

/// The batches of a file.
pub(crate) fn decode(kind: Kind, file: &[u8]) -> Recovered {
    let mut found = Recovered {
        batches: Vec::new(),
        sound: 0,
        torn: None,
    };
    if file.is_empty() {
        return found;
    }
    if file.get(..HEADER_LENGTH) != Some(&header()[..]) {
        found.torn = Some("it does not begin as a write-ahead log of this version".to_owned());
        return found;
    }
    found.sound = HEADER_LENGTH;
    while found.sound < file.len() {
        match frame_at(kind, &file[found.sound..]) {
            Ok((batch, length)) => {
                found.batches.push(batch);
                found.sound += length;
            }
            Err(reason) => {
                found.torn = Some(reason);
                break;
            }
        }
    }
    found
}

fn frame_at(kind: Kind, rest: &[u8]) -> Result<(RecordBatch, usize), String> {
    let word = |at: usize| -> Option<u32> {
        let bytes = rest.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (length, sum) = word(0).zip(word(4)).ok_or("a frame is cut off")?;
    let end = FRAME_HEADER_LENGTH + length as usize;
    let body = rest
        .get(FRAME_HEADER_LENGTH..end)
        .ok_or("a frame is cut off")?;
    if crc32c::crc32c(body) != sum {
        return Err("a frame is not what was written".to_owned());
    }
    let mut stream = StreamReader::try_new(body, None).map_err(|error| error.to_string())?;
    let batch = stream
        .next()
        .ok_or("a frame is empty")?
        .map_err(|error| error.to_string())?;
    if batch.schema() == *kind.schema() {
        Ok((batch, end))
    } else if batch.schema() == *kind.plain_schema() {
        // So they were written before texts were folded.
        let folded = fold(kind, &batch).map_err(|error| error.to_string())?;
        Ok((folded, end))
    } else {
        Err("a frame has other columns".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::LogColumns;

    fn batch(first: u64, rows: u64) -> RecordBatch {
        let mut columns = LogColumns::new();
        for number in first..first + rows {
            columns.push(number, &crate::record::tests::line("orders", "x").row());
        }
        columns.finish()
    }

    #[test]
    fn what_is_whole_before_a_cut_is_read_and_nothing_else() {
        let frames = [encode(&batch(1, 3)), encode(&batch(4, 1))];
        let mut file = header().to_vec();
        let mut ends = Vec::new();
        for frame in &frames {
            file.extend_from_slice(frame);
            ends.push(file.len());
        }
        for cut in 0..=file.len() {
            let found = decode(Kind::Logs, &file[..cut]);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(found.batches.len(), whole, "cut at {cut}");
            let clean = cut == 0 || cut == HEADER_LENGTH || ends.contains(&cut);
            assert_eq!(found.torn.is_none(), clean, "cut at {cut}");
        }
        let found = decode(Kind::Logs, &file);
        assert_eq!(found.batches, [batch(1, 3), batch(4, 1)]);
    }

    #[test]
    fn rows_with_plain_texts_are_read_too() {
        let plain = crate::columns::unfold(Kind::Logs, &batch(1, 3)).unwrap();
        let file = [&header()[..], &encode(&plain)].concat();
        assert_eq!(decode(Kind::Logs, &file).batches, [batch(1, 3)]);
    }

    #[test]
    fn a_damaged_frame_ends_the_file() {
        let mut file = header().to_vec();
        file.extend_from_slice(&encode(&batch(1, 3)));
        let second = file.len();
        file.extend_from_slice(&encode(&batch(4, 3)));
        file[second + 20] ^= 1;
        let found = decode(Kind::Logs, &file);
        assert_eq!((found.batches.len(), found.sound), (1, second));
        assert!(found.torn.is_some());
        assert!(decode(Kind::Spans, &file).batches.is_empty());
    }
}
