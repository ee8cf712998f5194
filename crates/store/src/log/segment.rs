//! One file of a partition: a head of 16 bytes, then batches, one after the other.
//!
//! ```text
//! "ATOLLOG" version:u8 base offset:i64 | batch | batch | …
//! ```
//!
//! A sparse index leads close to an offset or a time. That of a finished segment is in a file beside
//! it, and read when it is needed; that of the last one is in memory while somebody reads. Both can be
//! made again from the segment, and are when they are missing or do not fit. The file also tells how
//! long the finished segment was and where the next one begins: what is gone from between is noticed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::batch::{BatchError, HEADER_BYTES, Header};
use super::disk::{Disk, DiskFile, read_whole, replace, write_whole};

/// The bytes before the first batch.
pub(super) const HEAD_BYTES: u64 = 16;
const MAGIC: &[u8; 8] = b"ATOLLOG\x01";
const INDEX_MAGIC: &[u8; 8] = b"ATOLIDX\x01";
/// An entry of the index for about so many bytes.
const INDEX_EVERY: u64 = 16 << 10;
/// Files are walked through in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// What is known of a segment without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// The first offset that it may hold.
    pub(super) base: i64,
    /// Its length, head included.
    pub(super) bytes: u64,
    /// The latest time in it; `i64::MIN` if it is empty.
    pub(super) max_timestamp: i64,
}

/// Where batches begin, every few of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: i64,
    position: u64,
    /// The latest time of all batches before this one.
    max_before: i64,
}

/// An open segment that is finished.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) index: Index,
}

/// What the index of a finished segment tells of it.
#[derive(Debug)]
pub(super) struct Known {
    /// Its length when it was finished.
    pub(super) bytes: u64,
    /// The base of the segment after it.
    pub(super) next: i64,
    pub(super) max_timestamp: i64,
    pub(super) index: Index,
}

/// What walking through a segment found.
#[derive(Debug)]
pub(super) struct Scan {
    /// The end of the last sound batch.
    pub(super) end: u64,
    /// The offset after it.
    pub(super) next: i64,
    pub(super) max_timestamp: i64,
    pub(super) index: Index,
}

impl Index {
    /// Takes note of a batch that begins at `position`.
    pub(super) fn note(&mut self, header: &Header, position: u64, max_before: i64) {
        let last = self.0.last().map(|entry| entry.position);
        if last.is_none_or(|last| position >= last + INDEX_EVERY) {
            self.0.push(Entry {
                offset: header.base_offset,
                position,
                max_before,
            });
        }
    }

    /// Its end only: enough to take note of what follows.
    pub(super) fn tail(&self) -> Self {
        Self(self.0.last().copied().into_iter().collect())
    }

    /// Adds what was noted in a [`Self::tail`] of it.
    pub(super) fn extend(&mut self, tail: Self) {
        let last = self.0.last().map(|entry| entry.position);
        let new = tail.0.into_iter();
        self.0
            .extend(new.filter(|entry| last.is_none_or(|last| entry.position > last)));
    }

    /// A place at or before the batch that holds `offset`.
    pub(super) fn before_offset(&self, offset: i64) -> u64 {
        let after = self.0.partition_point(|entry| entry.offset <= offset);
        self.at(after)
    }

    /// A place at or before the first batch that has a time of `timestamp` or later.
    pub(super) fn before_time(&self, timestamp: i64) -> u64 {
        let after = self.0.partition_point(|entry| entry.max_before < timestamp);
        self.at(after)
    }

    fn at(&self, after: usize) -> u64 {
        let entry = after.checked_sub(1).and_then(|last| self.0.get(last));
        entry.map_or(HEAD_BYTES, |entry| entry.position)
    }
}

/// Where the segment with this base is.
pub(super) fn path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// Where its index is.
pub(super) fn index_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.index"))
}

/// The base in the name of a segment.
pub(super) fn base_of(name: &str) -> Option<i64> {
    let digits = name
        .strip_suffix(".log")
        .filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

/// The bytes before the first batch.
pub(super) fn head(base: i64) -> [u8; 16] {
    let mut out = [0; 16];
    let (magic, offset) = out.split_at_mut(8);
    magic.copy_from_slice(MAGIC);
    offset.copy_from_slice(&base.to_be_bytes());
    out
}

/// Whether the file begins as a segment with this base does.
pub(super) fn has_head(file: &dyn DiskFile, base: i64) -> std::io::Result<bool> {
    let mut own = [0; 16];
    let read = file.read_at(&mut own, 0)?;
    Ok(read == own.len() && own == head(base))
}

/// Walks through the batches in `places`, of which the first must not be before offset `next`,
/// until something is no batch or does not follow.
pub(super) fn scan(file: &dyn DiskFile, places: Range<u64>, next: i64) -> std::io::Result<Scan> {
    let mut scan = Scan {
        end: places.start,
        next,
        max_timestamp: i64::MIN,
        index: Index::default(),
    };
    scan.go_on(file, places.end)?;
    Ok(scan)
}

impl Scan {
    /// Walks on, up to `until`.
    pub(super) fn go_on(&mut self, file: &dyn DiskFile, until: u64) -> std::io::Result<()> {
        let mut piece = Vec::new();
        let mut wanted = PIECE_BYTES;
        while self.end < until {
            let begin = self.end;
            let left = usize::try_from(until - begin).unwrap_or(usize::MAX);
            read_piece(file, begin, wanted.min(left), &mut piece)?;
            let Some(needed) = self.walk(&piece) else {
                break;
            };
            if self.end == begin && (needed > left || piece.len() < wanted.min(left)) {
                break;
            }
            wanted = needed.max(PIECE_BYTES);
        }
        Ok(())
    }

    /// Takes the batches at the start of `piece`. Tells how many bytes the next one needs, or none
    /// if something is no batch.
    fn walk(&mut self, piece: &[u8]) -> Option<usize> {
        let mut rest = piece;
        loop {
            match Header::parse_stored(rest) {
                Ok(header) if header.bytes > rest.len() => return Some(header.bytes),
                Err(BatchError::Short) => return Some(HEADER_BYTES),
                _ => {}
            }
            let sound = Header::verify_stored(rest).ok();
            let header = sound.filter(|header| header.base_offset >= self.next)?;
            self.index.note(&header, self.end, self.max_timestamp);
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
            self.next = header.next_offset();
            self.end += header.bytes as u64;
            rest = rest.get(header.bytes..)?;
        }
    }
}

fn read_piece(
    file: &dyn DiskFile,
    at: u64,
    bytes: usize,
    piece: &mut Vec<u8>,
) -> std::io::Result<usize> {
    piece.resize(bytes, 0);
    let read = file.read_at(piece, at)?;
    piece.truncate(read);
    Ok(read)
}

/// Makes a segment that a crash leaves whole or that can be told to be none.
pub(super) fn begin(
    disk: &dyn Disk,
    dir: &Path,
    base: i64,
) -> Result<(Arc<dyn DiskFile>, Meta), Error> {
    let path = path(dir, base);
    let begin = || {
        let file = write_whole(disk, &path, &head(base))?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    let file = begin().map_err(|source| Error::io(&path, source))?;
    let meta = Meta {
        base,
        bytes: HEAD_BYTES,
        max_timestamp: i64::MIN,
    };
    Ok((file, meta))
}

/// Opens a finished segment with its index, which is made again if it does not fit.
pub(super) fn open(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<Sealed, Error> {
    let path = path(dir, meta.base);
    let failed = |source| Error::io(&path, source);
    let file = disk.open(&path, false).map_err(failed)?;
    let index = match read_index(disk, dir, meta.base) {
        Some(known) if known.bytes == meta.bytes => known.index,
        _ => {
            scan(&*file, HEAD_BYTES..meta.bytes, meta.base)
                .map_err(failed)?
                .index
        }
    };
    Ok(Sealed { file, index })
}

/// The index in the file beside the segment, if there is a sound one.
pub(super) fn read_index(disk: &dyn Disk, dir: &Path, base: i64) -> Option<Known> {
    let content = read_whole(disk, &index_path(dir, base)).ok().flatten()?;
    decode_index(&content)
}

/// Writes the index of a finished segment.
pub(super) fn write_index(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    next: i64,
    index: &Index,
) -> std::io::Result<()> {
    let mut out = Vec::with_capacity(40 + index.0.len() * 24);
    out.extend_from_slice(INDEX_MAGIC);
    out.extend_from_slice(&meta.bytes.to_be_bytes());
    out.extend_from_slice(&next.to_be_bytes());
    out.extend_from_slice(&meta.max_timestamp.to_be_bytes());
    for entry in &index.0 {
        out.extend_from_slice(&entry.offset.to_be_bytes());
        out.extend_from_slice(&entry.position.to_be_bytes());
        out.extend_from_slice(&entry.max_before.to_be_bytes());
    }
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    replace(disk, &index_path(dir, meta.base), &out)
}

fn decode_index(bytes: &[u8]) -> Option<Known> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
        return None;
    }
    let rest = body.strip_prefix(INDEX_MAGIC)?;
    let mut numbers = rest.chunks_exact(8).map(|number| {
        let mut own = [0; 8];
        own.copy_from_slice(number);
        i64::from_be_bytes(own)
    });
    let mut known = Known {
        bytes: numbers.next()?.cast_unsigned(),
        next: numbers.next()?,
        max_timestamp: numbers.next()?,
        index: Index::default(),
    };
    while let (Some(offset), Some(position), Some(max_before)) =
        (numbers.next(), numbers.next(), numbers.next())
    {
        known.index.0.push(Entry {
            offset,
            position: position.cast_unsigned(),
            max_before,
        });
    }
    Some(known)
}
