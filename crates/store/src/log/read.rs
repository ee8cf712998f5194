//! Reading: from an offset to whole, sound batches.
//!
//! A reader takes the partition's lock only to find out which file to read and where to begin; files
//! are opened, walked through and read outside of it. What was opened meanwhile is used only if the
//! files did not change hands (`generation`), else it is looked for again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::batch::{self, HEADER_BYTES, Header};
use super::disk::DiskFile;
use super::partition::{Inner, State};
use super::segment::{self, HEAD_BYTES, Index, Meta, Scan, Sealed};
use super::{BatchError, Error, Partition};

/// Records that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Whole batches, one after the other. The first may begin before the offset asked for.
    pub batches: Bytes,
    /// Where to go on: the offset after the last of them. If there are none, that asked for, or the
    /// end of a gap that compaction has left there.
    pub next: i64,
}

/// So many finished segments of a partition are kept open.
const OPEN_MAX: usize = 4;
/// So many readers of a partition go on where they were without a look into the index.
const HINTS_MAX: usize = 16;
/// Heads are looked for in pieces of this size.
const LOOK_BYTES: usize = 32 << 10;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
enum Want {
    Offset(i64),
    /// In the segment with this base, the first batch of this time or later.
    Time(i64, i64),
}

enum Look {
    Here(Found),
    Nothing,
    /// This has to be loaded first.
    Missing(Missing),
}

struct Missing {
    meta: Meta,
    generation: u64,
    /// Of the last segment, if it is open.
    last: Option<Option<Arc<dyn DiskFile>>>,
}

enum Loaded {
    Sealed(i64, u64, Arc<Sealed>),
    Last(i64, Arc<dyn DiskFile>, Scan),
}

/// A place in an open segment.
struct Found {
    file: Arc<dyn DiskFile>,
    meta: Meta,
    position: u64,
    next_base: Option<i64>,
    generation: u64,
    path: PathBuf,
}

#[derive(Default)]
struct FoundRead {
    batches: Bytes,
    next: i64,
    /// Where in the file the next batch begins.
    position: u64,
    /// There is nothing more in this segment.
    ended: bool,
}

impl Partition {
    /// Reads whole batches from the one that holds `from` on, of records before `until`: at most
    /// `bytes_max`, but one batch at least. May block on the disk.
    ///
    /// # Errors
    /// When `from` is not between start and end, or what is there is not what was written: that is
    /// never given out.
    pub fn read(&self, from: i64, bytes_max: usize, until: i64) -> Result<Read, Error> {
        self.0.in_range(from)?;
        let until = until.min(self.durable_offset());
        let mut at = from;
        while at < until {
            let Some(found) = self.0.place(Want::Offset(at))? else {
                // It was deleted since.
                self.0.in_range(from)?;
                break;
            };
            let read = found.read(at, bytes_max, until)?;
            if !read.batches.is_empty() {
                self.0.remember(&found, &read);
                return Ok(Read {
                    batches: read.batches,
                    next: read.next,
                });
            }
            if !read.ended {
                at = read.next;
                break;
            }
            // A gap, after compaction: go on in the next segment.
            let next = found.next_base.map_or(until, |base| base.min(until));
            self.0.is_not_lost(at, next)?;
            at = next;
        }
        Ok(Read {
            batches: Bytes::new(),
            next: at,
        })
    }

    /// The first batch that has a record of this time or later: its first offset and latest time.
    /// May block on the disk.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn offset_for_time(&self, timestamp: i64) -> Result<Option<(i64, i64)>, Error> {
        self.offset_for_time_from(i64::MIN, timestamp)
    }

    /// [`Self::offset_for_time`] among those batches that end at `from` or later.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn offset_for_time_from(
        &self,
        from: i64,
        timestamp: i64,
    ) -> Result<Option<(i64, i64)>, Error> {
        let metas = self.0.lock().segments.clone();
        for meta in metas.iter().filter(|meta| meta.max_timestamp >= timestamp) {
            let Some(found) = self.0.place(Want::Time(meta.base, timestamp))? else {
                continue;
            };
            let start = self.start_offset().max(from);
            let end = self.durable_offset();
            let hit = found.find(|header| {
                header.max_timestamp >= timestamp && header.last_offset() >= start
            })?;
            if let Some(header) = hit.filter(|header| header.last_offset() < end) {
                return Ok(Some((header.base_offset.max(start), header.max_timestamp)));
            }
        }
        Ok(None)
    }
}

impl Inner {
    fn in_range(&self, from: i64) -> Result<(), Error> {
        // In this order: the start never overtakes the end.
        let start = self.start.load(Ordering::Acquire);
        let end = self.durable.load(Ordering::Acquire);
        if from < start || from > end {
            return Err(Error::OutOfRange { from, start, end });
        }
        Ok(())
    }

    fn is_not_lost(&self, from: i64, until: i64) -> Result<(), Error> {
        self.lock().is_not_lost(self, from, until)
    }

    /// Where to begin to read, in an open file.
    fn place(&self, want: Want) -> Result<Option<Found>, Error> {
        let mut loaded = None;
        loop {
            let missing = {
                let mut state = self.lock();
                self.exists(&state)?;
                if let Some(loaded) = loaded.take() {
                    state.keep(self, loaded)?;
                }
                match state.look(self, want)? {
                    Look::Here(found) => return Ok(Some(found)),
                    Look::Nothing => return Ok(None),
                    Look::Missing(missing) => missing,
                }
            };
            let generation = missing.generation;
            match self.load(missing) {
                Ok(own) => loaded = Some(own),
                // It was deleted or replaced meanwhile.
                Err(_) if self.lock().generation != generation => {}
                Err(error) => return Err(error),
            }
            self.log.warm();
        }
    }

    fn load(&self, missing: Missing) -> Result<Loaded, Error> {
        let Missing {
            meta,
            generation,
            last,
        } = missing;
        let Some(open) = last else {
            let sealed = segment::open(&*self.log.disk, &self.dir, &meta)?;
            return Ok(Loaded::Sealed(meta.base, generation, Arc::new(sealed)));
        };
        let path = segment::path(&self.dir, meta.base);
        let failed = |source| Error::io(&path, source);
        let file = match open {
            Some(file) => file,
            None => self.log.disk.open(&path, false).map_err(failed)?,
        };
        let scan = segment::scan(&*file, HEAD_BYTES..meta.bytes, meta.base).map_err(failed)?;
        Ok(Loaded::Last(meta.base, file, scan))
    }

    /// Takes note of where a reader will go on.
    fn remember(&self, found: &Found, read: &FoundRead) {
        let mut state = self.lock();
        if state.generation == found.generation && read.position < found.meta.bytes {
            state.hint(read.next, found.meta.base, read.position);
        }
    }
}

impl State {
    /// Takes note of where in a segment the batch with this offset begins.
    pub(super) fn hint(&mut self, offset: i64, base: i64, position: u64) {
        self.hints.push_front((offset, base, position));
        self.hints.truncate(HINTS_MAX);
    }

    fn is_not_lost(&self, own: &Inner, from: i64, until: i64) -> Result<(), Error> {
        let mut lost = self.lost.iter();
        match lost.find(|lost| lost.start < until && from < lost.end) {
            None => Ok(()),
            Some(lost) => Err(Error::Lost {
                path: own.dir.clone(),
                from: lost.start,
                until: lost.end,
            }),
        }
    }

    fn look(&mut self, own: &Inner, want: Want) -> Result<Look, Error> {
        let at = match want {
            Want::Offset(offset) => {
                self.is_not_lost(own, offset, offset + 1)?;
                let after = self.segments.partition_point(|meta| meta.base <= offset);
                after.checked_sub(1)
            }
            Want::Time(base, _) => self
                .segments
                .binary_search_by_key(&base, |meta| meta.base)
                .ok(),
        };
        let Some((at, meta)) = at.and_then(|at| Some((at, *self.segments.get(at)?))) else {
            return Ok(Look::Nothing);
        };
        self.touched = true;
        let next_base = self.segments.get(at + 1).map(|meta| meta.base);
        let choose = |index: &Index| match want {
            Want::Offset(offset) => index.before_offset(offset),
            Want::Time(_, timestamp) => index.before_time(timestamp),
        };
        let hint = self.hints.iter().find(|(offset, base, _)| {
            *base == meta.base && matches!(want, Want::Offset(wanted) if wanted == *offset)
        });
        let hint = hint.map(|(_, _, position)| *position);
        let here = if next_base.is_some() {
            let sealed = self.open.iter().find(|(base, _)| *base == meta.base);
            sealed.map(|(_, own)| (&own.file, hint.unwrap_or_else(|| choose(&own.index))))
        } else {
            let position = hint.or_else(|| self.index.as_ref().map(choose));
            self.last.as_ref().zip(position)
        };
        Ok(match here {
            Some((file, position)) => Look::Here(Found {
                file: Arc::clone(file),
                meta,
                position,
                next_base,
                generation: self.generation,
                path: segment::path(&own.dir, meta.base),
            }),
            None => Look::Missing(Missing {
                meta,
                generation: self.generation,
                last: next_base.is_none().then(|| self.last.clone()),
            }),
        })
    }

    /// Keeps what was loaded, if it still fits.
    fn keep(&mut self, own: &Inner, loaded: Loaded) -> Result<(), Error> {
        match loaded {
            Loaded::Sealed(base, generation, sealed) => {
                let known = self.open.iter().any(|(known, _)| *known == base);
                if generation == self.generation && !known {
                    self.open.push_front((base, sealed));
                    self.open.truncate(OPEN_MAX);
                }
            }
            Loaded::Last(base, file, mut scan) => {
                let Some(last) = self.segments.last().filter(|last| last.base == base) else {
                    return Ok(());
                };
                if self.index.is_none() {
                    // What came while it was walked through.
                    scan.go_on(&*file, last.bytes)
                        .map_err(|source| Error::io(&segment::path(&own.dir, base), source))?;
                    self.index = Some(scan.index);
                }
                self.last.get_or_insert(file);
            }
        }
        Ok(())
    }
}

impl Found {
    /// Batches from the one that holds `from` on.
    fn read(&self, from: i64, bytes_max: usize, until: i64) -> Result<FoundRead, Error> {
        let Some((mut place, mut piece, begin)) = self.seek(from, bytes_max.max(LOOK_BYTES))?
        else {
            return Ok(FoundRead {
                ended: true,
                ..FoundRead::default()
            });
        };
        let mut end = begin;
        // Up to the first batch there may be a gap, and that batch may be too far.
        let first = Header::parse(piece.get(begin..).unwrap_or_default());
        let mut next = first.map_or(from, |first| first.base_offset.clamp(from, until));
        while place + (end as u64) < self.meta.bytes {
            let rest = piece.get_mut(end..).unwrap_or_default();
            let taken = end - begin;
            let header = match Header::parse_stored(rest) {
                Ok(header) if header.next_offset() > until => break,
                Ok(header) if taken > 0 && taken + header.bytes > bytes_max => break,
                Ok(_) => Header::verify(rest),
                unsound => unsound,
            };
            match header {
                Ok(header) => {
                    batch::give_out(rest);
                    end += header.bytes;
                    next = header.next_offset();
                }
                // What is before it is sound, or the piece ends here.
                Err(_) if taken > 0 => break,
                Err(source) => return Err(self.corrupt(place + end as u64, source)),
            }
        }
        place += end as u64;
        Ok(FoundRead {
            batches: Bytes::from(piece).slice(begin..end),
            next,
            position: place,
            ended: false,
        })
    }

    /// The batch that holds `from`, or the next one: a piece of the file, where that begins, and
    /// where in it the batch does. It is whole. None if the segment ends before.
    fn seek(&self, from: i64, wanted: usize) -> Result<Option<(u64, Vec<u8>, usize)>, Error> {
        let mut place = self.position;
        let mut piece = self.piece(place, wanted)?;
        let mut at = 0;
        while place + (at as u64) < self.meta.bytes {
            let rest = piece.get(at..).unwrap_or_default();
            let needed = match Header::parse_stored(rest) {
                Ok(header) if header.last_offset() < from => {
                    at += header.bytes;
                    continue;
                }
                Ok(header) if header.bytes <= rest.len() => return Ok(Some((place, piece, at))),
                Ok(header) => header.bytes,
                Err(BatchError::Short) => HEADER_BYTES,
                Err(source) => return Err(self.corrupt(place + at as u64, source)),
            };
            place += at as u64;
            at = 0;
            piece = self.piece(place, needed.max(wanted))?;
            if piece.len() < needed {
                return Err(self.corrupt(place, BatchError::Short));
            }
        }
        Ok(None)
    }

    /// The first batch from the place on that `fits`.
    fn find(&self, fits: impl Fn(&Header) -> bool) -> Result<Option<Header>, Error> {
        let (mut place, mut at) = (self.position, 0);
        let mut piece = self.piece(place, LOOK_BYTES)?;
        while place + (at as u64) < self.meta.bytes {
            let rest = piece.get(at..).unwrap_or_default();
            match Header::parse_stored(rest) {
                Ok(header) if fits(&header) => return Ok(Some(header)),
                Ok(header) => at += header.bytes,
                Err(BatchError::Short) if at > 0 => {
                    place += at as u64;
                    at = 0;
                    piece = self.piece(place, LOOK_BYTES)?;
                }
                Err(source) => return Err(self.corrupt(place + at as u64, source)),
            }
        }
        Ok(None)
    }

    /// So many bytes from a place on, or what there is of them before the end that is known.
    fn piece(&self, place: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        let there = self.meta.bytes.saturating_sub(place);
        let bytes = bytes.min(usize::try_from(there).unwrap_or(usize::MAX));
        let mut piece = vec![0; bytes];
        let read = self.file.read_at(&mut piece, place);
        let read = read.map_err(|source| Error::io(&self.path, source))?;
        piece.truncate(read);
        Ok(piece)
    }

    fn corrupt(&self, position: u64, source: BatchError) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            position,
            source,
        }
    }
}
