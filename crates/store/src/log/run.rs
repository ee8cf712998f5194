//! The records of one partition on their way to the system, in one write for many batches; over the
//! end of a segment if need be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Error;
use super::batch::{self, BatchError, Header};
use super::disk::DiskFile;
use super::partition::{Inner, Queued};
use super::segment::{self, HEAD_BYTES, Index, Meta};

/// So much is handed to the system at once.
const WRITE_BYTES: usize = 4 << 20;

/// Records of one partition on their way to the system.
pub(super) struct Run {
    partition: Arc<Inner>,
    segment_bytes: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Of the segment as it is written, acknowledged or not.
    pub(super) meta: Meta,
    /// Of what is new in the segment.
    pub(super) index: Index,
    /// The offset after the last record.
    pub(super) next: i64,
    /// The first record in the segment that is written now, and where it is.
    pub(super) first: (i64, u64),
}

impl Run {
    /// Goes on where the partition ends; `base` is the next offset.
    pub(super) fn begin(partition: &Arc<Inner>, base: i64) -> Result<Self, Error> {
        let (last, open, tail) = {
            let state = partition.lock();
            let tail = state.index.as_ref().map(Index::tail);
            (state.segments.last().copied(), state.last.clone(), tail)
        };
        let (disk, dir) = (&*partition.log.disk, &partition.dir);
        let (file, meta) = match (last, open) {
            (Some(meta), Some(file)) => (file, meta),
            (Some(meta), None) => {
                let path = segment::path(dir, meta.base);
                let opened = disk.open(&path, false);
                (opened.map_err(|source| Error::io(&path, source))?, meta)
            }
            (None, _) => {
                let (file, meta) = segment::begin(disk, dir, base)?;
                append_segment(partition, &file, meta);
                (file, meta)
            }
        };
        Ok(Self {
            segment_bytes: partition.config().segment_bytes,
            partition: Arc::clone(partition),
            file,
            meta,
            index: tail.unwrap_or_default(),
            next: base,
            first: (base, meta.bytes),
        })
    }

    /// Adds records to the buffer, with their offsets.
    pub(super) fn take(&mut self, queued: &Queued, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut rest = &queued.batches[..];
        let mut offset = queued.base;
        while !rest.is_empty() {
            let mut header = Header::parse(rest).map_err(Error::Batch)?;
            let (batch, others) = rest
                .split_at_checked(header.bytes)
                .ok_or(Error::Batch(BatchError::Short))?;
            let end = self.meta.bytes + buffer.len() as u64;
            if end > HEAD_BYTES && end + header.bytes as u64 > self.segment_bytes {
                self.flush(buffer)?;
                self.roll(offset)?;
            } else if buffer.len() >= WRITE_BYTES {
                self.flush(buffer)?;
            }
            let begin = buffer.len();
            buffer.extend_from_slice(batch);
            batch::store(buffer.get_mut(begin..).unwrap_or_default(), offset);
            header.base_offset = offset;
            let position = self.meta.bytes + begin as u64;
            self.index.note(&header, position, self.meta.max_timestamp);
            self.meta.max_timestamp = self.meta.max_timestamp.max(header.max_timestamp);
            offset = header.next_offset();
            self.next = offset;
            rest = others;
        }
        Ok(())
    }

    /// Hands the buffer to the system.
    pub(super) fn flush(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        if !buffer.is_empty() {
            let written = self.file.write_at(buffer, self.meta.bytes);
            let path = segment::path(&self.partition.dir, self.meta.base);
            written.map_err(|source| Error::io(&path, source))?;
            self.meta.bytes += buffer.len() as u64;
            buffer.clear();
            buffer.shrink_to(WRITE_BYTES);
        }
        Ok(())
    }

    /// Finishes the segment, and begins one at `base`.
    pub(super) fn roll(&mut self, base: i64) -> Result<(), Error> {
        let (disk, dir) = (&*self.partition.log.disk, &self.partition.dir);
        let path = segment::path(dir, self.meta.base);
        let failed = |source| Error::io(&path, source);
        self.file.sync().map_err(failed)?;
        self.partition.synced.fetch_max(base, Ordering::AcqRel);
        let known = self.partition.lock().index.clone();
        let index = match known {
            Some(mut known) => {
                known.extend(std::mem::take(&mut self.index));
                known
            }
            // Nobody has read from it.
            None => {
                let places = HEAD_BYTES..self.meta.bytes;
                segment::scan(&*self.file, places, self.meta.base)
                    .map_err(failed)?
                    .index
            }
        };
        segment::write_index(disk, dir, &self.meta, base, &index)
            .map_err(|source| Error::io(&segment::index_path(dir, self.meta.base), source))?;
        let (file, meta) = segment::begin(disk, dir, base)?;
        if let Some(last) = self.partition.lock().segments.last_mut() {
            *last = self.meta;
        }
        append_segment(&self.partition, &file, meta);
        (self.file, self.meta) = (file, meta);
        self.index = Index::default();
        self.first = (base, HEAD_BYTES);
        Ok(())
    }
}

/// Makes a segment the last one of its partition.
fn append_segment(partition: &Inner, file: &Arc<dyn DiskFile>, meta: Meta) {
    let mut state = partition.lock();
    state.segments.push(meta);
    state.index = Some(Index::default());
    state.last = Some(Arc::clone(file));
    state.touched = true;
}

/// Finishes the last segment of a partition, of which all is acknowledged, if something is in it.
pub(super) fn seal(partition: &Arc<Inner>, next: i64) -> Result<(), Error> {
    let last = partition.lock().segments.last().copied();
    if last.is_some_and(|last| last.bytes > HEAD_BYTES && last.base < next) {
        Run::begin(partition, next)?.roll(next)?;
    }
    Ok(())
}
