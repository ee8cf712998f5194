//! Compaction: of the finished segments of a partition, what a later record replaces goes away.
//!
//! Which records those are the caller decides; here a segment is written anew beside the old one and
//! takes its name. Offsets never change, so readers pass over gaps. The old index goes before the
//! name changes hands: an index always tells the truth about the file beside it.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::batch::{self, Header};
use super::disk::{beside, write_whole};
use super::segment::{self, HEAD_BYTES, Index, Meta};
use super::{BatchError, Error, Partition};

/// What is to become of a batch when its partition is compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// It stays.
    Keep,
    /// It goes.
    Drop,
    /// This stands in its place: one sound batch, with offsets of those of the old one.
    Replace(Bytes),
}

/// A segment that is written anew.
struct Fresh {
    content: Vec<u8>,
    index: Index,
    max_timestamp: i64,
    changed: bool,
}

impl Partition {
    /// Offers every batch of the finished segments to `rewrite`, and keeps what it says. Offsets
    /// never change. After a crash each segment is as before or as after. May block, long.
    ///
    /// # Errors
    /// When the partition was removed, the disk fails, or a batch, also one that `rewrite` made, is
    /// not sound.
    pub fn compact(&self, rewrite: &mut dyn FnMut(&[u8]) -> Rewrite) -> Result<(), Error> {
        let bases: Vec<i64> = self
            .0
            .lock()
            .segments
            .iter()
            .map(|meta| meta.base)
            .collect();
        for (base, next) in bases.iter().zip(bases.iter().skip(1)) {
            if *next > self.durable_offset() {
                // A group that is being written has finished it, and is not acknowledged yet.
                break;
            }
            let _keeping = self.0.keep()?;
            let meta = self
                .0
                .lock()
                .segments
                .iter()
                .find(|meta| meta.base == *base)
                .copied();
            // If there is none it was deleted meanwhile.
            if let Some(meta) = meta {
                self.compact_segment(&meta, *next, rewrite)?;
            }
        }
        Ok(())
    }

    fn compact_segment(
        &self,
        meta: &Meta,
        next: i64,
        rewrite: &mut dyn FnMut(&[u8]) -> Rewrite,
    ) -> Result<(), Error> {
        let path = segment::path(&self.0.dir, meta.base);
        let failed = |source| Error::io(&path, source);
        let file = self.0.log.disk.open(&path, false).map_err(failed)?;
        let mut old = vec![0; usize::try_from(meta.bytes).unwrap_or(usize::MAX)];
        file.read_at(&mut old, 0).map_err(failed)?;
        let mut fresh = Fresh {
            content: segment::head(meta.base).to_vec(),
            index: Index::default(),
            max_timestamp: i64::MIN,
            changed: false,
        };
        let mut position = HEAD_BYTES;
        while position < meta.bytes {
            let at = usize::try_from(position).unwrap_or(usize::MAX);
            let rest = old.get_mut(at..).unwrap_or_default();
            position += fresh.offer(&path, position, rest, rewrite)?;
        }
        if !fresh.changed {
            return Ok(());
        }
        self.swap(meta.base, next, &fresh)
    }

    /// Puts a compacted segment in the place of the old one.
    fn swap(&self, base: i64, next: i64, fresh: &Fresh) -> Result<(), Error> {
        let (log, dir) = (&self.0.log, &self.0.dir);
        let path = segment::path(dir, base);
        let new = beside(&path, "new");
        let failed = |source| log.failed(&path, source);
        write_whole(&*log.disk, &new, &fresh.content).map_err(failed)?;
        log.disk
            .remove(&segment::index_path(dir, base))
            .and_then(|()| log.disk.sync_dir(dir))
            .map_err(failed)?;
        let meta = Meta {
            base,
            bytes: fresh.content.len() as u64,
            max_timestamp: fresh.max_timestamp,
        };
        self.take_name(&new, &path, meta).map_err(failed)?;
        log.disk.sync_dir(dir).map_err(failed)?;
        segment::write_index(&*log.disk, dir, &meta, next, &fresh.index).map_err(failed)
    }

    /// Gives the file of a compacted segment its name. Whoever reads holds the old file open; whoever
    /// opens from here on gets the new one.
    fn take_name(&self, new: &Path, path: &Path, meta: Meta) -> io::Result<()> {
        let disk = &self.0.log.disk;
        let mut state = self.0.lock();
        let renamed = disk.rename(new, path);
        // It may have happened although it failed, and what was acknowledged stays readable.
        let gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        if renamed.is_ok() || disk.open(new, false).is_err_and(gone) {
            if let Some(own) = state.segments.iter_mut().find(|own| own.base == meta.base) {
                *own = meta;
            }
            state.forget_files();
        }
        renamed
    }
}

impl Fresh {
    /// Offers the batch at the start of `rest`, and tells how long it was.
    fn offer(
        &mut self,
        path: &Path,
        position: u64,
        rest: &mut [u8],
        rewrite: &mut dyn FnMut(&[u8]) -> Rewrite,
    ) -> Result<u64, Error> {
        let header = Header::verify_stored(rest).map_err(|source| Error::Corrupt {
            path: path.to_owned(),
            position,
            source,
        })?;
        let batch = rest.get_mut(..header.bytes).unwrap_or_default();
        batch::give_out(batch);
        match rewrite(batch) {
            Rewrite::Keep => self.add(&header, batch),
            Rewrite::Drop => self.changed = true,
            Rewrite::Replace(other) => {
                let new = replacement(&header, &other).map_err(Error::Batch)?;
                self.add(&new, &other);
                self.changed = true;
            }
        }
        Ok(header.bytes as u64)
    }

    fn add(&mut self, header: &Header, batch: &[u8]) {
        let begin = self.content.len();
        self.index.note(header, begin as u64, self.max_timestamp);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.content.extend_from_slice(batch);
        let stored = self.content.get_mut(begin..).unwrap_or_default();
        batch::store(stored, header.base_offset);
    }
}

/// The head of `new`, if it may stand in the place of `old`.
fn replacement(old: &Header, new: &[u8]) -> Result<Header, BatchError> {
    let header = Header::verify(new)?;
    if header.bytes != new.len() {
        return Err(BatchError::Length(
            i32::try_from(new.len()).unwrap_or(i32::MAX),
        ));
    }
    if header.base_offset < old.base_offset || header.last_offset() > old.last_offset() {
        return Err(BatchError::Count {
            records: header.records,
            offsets: header.last_offset() - old.base_offset + 1,
        });
    }
    Ok(header)
}
