//! Compaction: of the finished segments of a partition, what a later record replaces goes away.
//!
//! Which records those are the caller decides; here a segment is written anew beside the old one and
//! takes its name. Offsets never change, so readers pass over gaps. The old index goes before the
//! name changes hands: an index always tells the truth about the file beside it.
//!
//! It is walked through in pieces, and the new one is written from the first change on: no file is in
//! memory. Who deletes waits only while the name changes hands; a failure before that, as of a full
//! disk, costs the new file and nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::batch::{self, HEADER_BYTES, Header};
use super::disk::{DiskFile, beside};
use super::partition::Inner;
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
    /// It stays, and so does all else of its file and behind it: compaction ends here.
    Stop,
}

/// A file of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The first offset that it may hold. It ends where the next one begins.
    pub base: i64,
    /// Its length.
    pub bytes: u64,
    /// The latest time in it, in milliseconds since 1970; `i64::MIN` if it is empty.
    pub max_timestamp: i64,
}

/// The batches of a finished segment, one after the other.
struct Source {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    meta: Meta,
    /// Where in the file the next batch begins.
    position: u64,
    piece: Vec<u8>,
    /// Where in the piece it does.
    at: usize,
}

/// What is to be in its place. Nothing is written while nothing changes.
struct Target<'a> {
    partition: &'a Inner,
    base: i64,
    bytes: u64,
    index: Index,
    max_timestamp: i64,
    fresh: Option<Fresh>,
}

/// The file that will take the name.
struct Fresh {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    written: u64,
    buffer: Vec<u8>,
}

/// Segments are read and written in pieces of this size; a batch may be larger.
const PIECE_BYTES: usize = 1 << 20;

impl Partition {
    /// Its files by offset. All but the last are finished; what lies behind
    /// [`Partition::durable_offset`] may not be acknowledged yet.
    pub fn segments(&self) -> Vec<Segment> {
        let state = self.0.lock();
        let segment = |meta: &Meta| Segment {
            base: meta.base,
            bytes: meta.bytes,
            max_timestamp: meta.max_timestamp,
        };
        state.segments.iter().map(segment).collect()
    }

    /// Offers every batch of the finished segments to `rewrite`, and keeps what it says. Offsets
    /// never change. After a crash each segment is as before or as after. May block, long; others can
    /// delete and read meanwhile, and who compacts, too, waits. Memory: two of the largest batches and
    /// what `rewrite` needs.
    ///
    /// # Errors
    /// When the partition was removed, the disk fails, or a batch, also one that `rewrite` made, is
    /// not sound. What failed before a file has changed its name, above all for want of space, harms
    /// nobody: it can be tried again.
    pub fn compact(&self, rewrite: &mut dyn FnMut(&[u8]) -> Rewrite) -> Result<(), Error> {
        self.compact_some(&|_| true, rewrite)
    }

    /// [`Self::compact`] of those segments only whose base is `chosen`; the others are not read.
    ///
    /// # Errors
    /// As there.
    pub fn compact_some(
        &self,
        chosen: &dyn Fn(i64) -> bool,
        rewrite: &mut dyn FnMut(&[u8]) -> Rewrite,
    ) -> Result<(), Error> {
        let one = &self.0.compacting;
        let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.segments();
        for (file, next) in files.iter().zip(files.iter().skip(1)) {
            if next.base > self.durable_offset() {
                // A group that is being written has finished it, and is not acknowledged yet.
                break;
            }
            if !chosen(file.base) {
                continue;
            }
            self.health()?;
            // If there is none it was deleted meanwhile.
            if let Some(meta) = self.0.segment(file.base)
                && !self.compact_segment(meta, next.base, rewrite)?
            {
                break;
            }
        }
        Ok(())
    }

    /// False: no more is to be compacted.
    fn compact_segment(
        &self,
        meta: Meta,
        next: i64,
        rewrite: &mut dyn FnMut(&[u8]) -> Rewrite,
    ) -> Result<bool, Error> {
        let path = segment::path(&self.0.dir, meta.base);
        let file = match self.0.log.disk.open(&path, false) {
            Ok(file) => file,
            Err(_) if self.0.segment(meta.base).is_none() => return Ok(true),
            Err(source) => return Err(Error::io(&path, source)),
        };
        let mut source = Source::new(file, path, meta);
        let mut target = Target::new(&self.0, meta.base);
        let walked = walk(&mut source, &mut target, rewrite);
        let written = walked.and_then(|on| {
            if on {
                target.finish()?;
            }
            Ok(on)
        });
        let Some(fresh) = target.fresh.take() else {
            return written;
        };
        if !matches!(written, Ok(true)) {
            self.0.abandon(&fresh.path);
            return written;
        }
        self.swap(&source, next, &target, &fresh)?;
        Ok(true)
    }

    /// Puts a compacted segment in the place of the old one.
    fn swap(&self, old: &Source, next: i64, new: &Target<'_>, fresh: &Fresh) -> Result<(), Error> {
        let (log, dir) = (&self.0.log, &self.0.dir);
        let _keeping = self.0.keep()?;
        if self.0.segment(new.base) != Some(old.meta) {
            // It was deleted meanwhile.
            let _ = log.disk.remove(&fresh.path);
            return Ok(());
        }
        // From here on nobody knows what the disk holds if it fails.
        let failed = |source| log.failed(&old.path, source);
        log.disk
            .remove(&segment::index_path(dir, new.base))
            .and_then(|()| log.disk.sync_dir(dir))
            .map_err(failed)?;
        let meta = Meta {
            base: new.base,
            bytes: new.bytes,
            max_timestamp: new.max_timestamp,
        };
        self.take_name(&fresh.path, &old.path, meta)
            .map_err(failed)?;
        log.disk.sync_dir(dir).map_err(failed)?;
        segment::write_index(&*log.disk, dir, &meta, next, &new.index).map_err(failed)
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

impl Inner {
    /// The segment with this base.
    fn segment(&self, base: i64) -> Option<Meta> {
        let state = self.lock();
        state.segments.iter().find(|own| own.base == base).copied()
    }

    /// Removes a file that will not take a name. One that stays is removed at the next start, or with
    /// its partition, whose folder may not be touched any more.
    fn abandon(&self, path: &Path) {
        if let Ok(_keeping) = self.keep() {
            let _ = self.log.disk.remove(path);
        }
    }
}

/// Offers batch after batch. False: it was stopped.
fn walk(
    source: &mut Source,
    target: &mut Target<'_>,
    rewrite: &mut dyn FnMut(&[u8]) -> Rewrite,
) -> Result<bool, Error> {
    while let Some(header) = source.load()? {
        let batch = source.batch(&header);
        batch::give_out(batch);
        match rewrite(batch) {
            Rewrite::Keep => target.add(&header, batch)?,
            Rewrite::Drop => target.change(source)?,
            Rewrite::Stop => return Ok(false),
            Rewrite::Replace(other) => {
                let new = replacement(&header, &other).map_err(Error::Batch)?;
                target.change(source)?;
                target.add(&new, &mut other.to_vec())?;
            }
        }
        source.pass(&header);
    }
    Ok(true)
}

impl Source {
    fn new(file: Arc<dyn DiskFile>, path: PathBuf, meta: Meta) -> Self {
        Self {
            file,
            path,
            meta,
            position: HEAD_BYTES,
            piece: Vec::new(),
            at: 0,
        }
    }

    /// Makes sure that the next batch is in the piece, and sound. None: there is none.
    fn load(&mut self) -> Result<Option<Header>, Error> {
        if self.position >= self.meta.bytes {
            return Ok(None);
        }
        let mut wanted = HEADER_BYTES;
        loop {
            self.fill(wanted)?;
            let rest = self.piece.get(self.at..).unwrap_or_default();
            match Header::parse_stored(rest) {
                Ok(header) if header.bytes > wanted => wanted = header.bytes,
                _ => break,
            }
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        match Header::verify_stored(rest) {
            Ok(header) => Ok(Some(header)),
            Err(source) => Err(Error::Corrupt {
                path: self.path.clone(),
                position: self.position,
                source,
            }),
        }
    }

    /// Makes sure that the piece goes on for `wanted` bytes, if the segment does.
    fn fill(&mut self, wanted: usize) -> Result<(), Error> {
        let left = usize::try_from(self.meta.bytes - self.position).unwrap_or(usize::MAX);
        let there = self.piece.len() - self.at;
        if there >= wanted.min(left) {
            return Ok(());
        }
        self.piece.drain(..self.at);
        self.at = 0;
        self.piece.resize(wanted.max(PIECE_BYTES).min(left), 0);
        let more = self.piece.get_mut(there..).unwrap_or_default();
        let read = self.file.read_at(more, self.position + there as u64);
        let read = read.map_err(|source| Error::io(&self.path, source))?;
        self.piece.truncate(there + read);
        Ok(())
    }

    fn batch(&mut self, header: &Header) -> &mut [u8] {
        let place = self.at..self.at + header.bytes;
        self.piece.get_mut(place).unwrap_or_default()
    }

    fn pass(&mut self, header: &Header) {
        self.at += header.bytes;
        self.position += header.bytes as u64;
    }
}

impl<'a> Target<'a> {
    fn new(partition: &'a Inner, base: i64) -> Self {
        Self {
            partition,
            base,
            bytes: HEAD_BYTES,
            index: Index::default(),
            max_timestamp: i64::MIN,
            fresh: None,
        }
    }

    /// Takes a batch as it was given out.
    fn add(&mut self, header: &Header, batch: &mut [u8]) -> Result<(), Error> {
        self.index.note(header, self.bytes, self.max_timestamp);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.bytes += batch.len() as u64;
        match &mut self.fresh {
            Some(fresh) => {
                batch::store(batch, header.base_offset);
                fresh.put(batch)
            }
            None => Ok(()),
        }
    }

    /// Something is not as it was: from here on it is written. So far all has stayed.
    fn change(&mut self, source: &Source) -> Result<(), Error> {
        if self.fresh.is_some() {
            return Ok(());
        }
        let path = beside(&source.path, "new");
        let file = {
            // Not into the folder of another partition that has the name now.
            let _keeping = self.partition.keep()?;
            let opened = self.partition.log.disk.open(&path, true);
            opened.map_err(|source| Error::io(&path, source))?
        };
        let fresh = self.fresh.insert(Fresh {
            file,
            path,
            written: 0,
            buffer: segment::head(self.base).to_vec(),
        });
        fresh.empty()?;
        let mut at = HEAD_BYTES;
        while at < source.position {
            let bytes = (source.position - at).min(PIECE_BYTES as u64);
            let mut piece = vec![0; usize::try_from(bytes).unwrap_or(PIECE_BYTES)];
            let read = source.file.read_at(&mut piece, at);
            let read = read.map_err(|error| Error::io(&source.path, error))?;
            if read < piece.len() {
                return Err(Error::Corrupt {
                    path: source.path.clone(),
                    position: at,
                    source: BatchError::Short,
                });
            }
            fresh.put(&piece)?;
            at += bytes;
        }
        Ok(())
    }

    /// Has the disk keep what was written, if something was.
    fn finish(&mut self) -> Result<(), Error> {
        let Some(fresh) = &mut self.fresh else {
            return Ok(());
        };
        fresh.flush()?;
        let synced = fresh.file.sync();
        synced.map_err(|source| Error::io(&fresh.path, source))
    }
}

impl Fresh {
    /// An earlier run may have left something in it.
    fn empty(&self) -> Result<(), Error> {
        let emptied = self.file.set_len(0);
        emptied.map_err(|source| Error::io(&self.path, source))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < PIECE_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(|source| Error::io(&self.path, source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
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
