//! What is found at a start.
//!
//! Behind the checkpoint, the last segment is walked through. Where something is no batch, or does
//! not follow, the log ends: nothing behind it was acknowledged, because an acknowledgement comes
//! only after the disk has everything before it. What is cut off is kept beside, if it is more than
//! zeros. Before the checkpoint everything was acknowledged; if the file is shorter than that, or a
//! file between two others is gone, the disk has lost records, and that is told and never papered
//! over: reading them is an error, and the offsets are not given again.
//!
//! What is found behind the checkpoint is written once more before anybody reads it. It may be known
//! only to the memory of the system: after a failed `fsync` Linux takes pages for written that are
//! not, and a process that starts again reads them as if nothing had happened.

use std::ops::Range;
use std::path::Path;

use super::checkpoint::Mark;
use super::disk::{Disk, DiskFile, beside, read_whole, write_whole};
use super::segment::{self, HEAD_BYTES, Meta};
use super::{Error, Finding};

/// A partition as it is on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) segments: Vec<Meta>,
    pub(super) start: i64,
    pub(super) next: i64,
    /// Offsets that were acknowledged, and are not there.
    pub(super) lost: Vec<Range<i64>>,
}

/// What is cut off and kept is at most this long.
const KEPT_BYTES_MAX: u64 = 64 << 20;
/// What was found is written again in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

/// Reads what is there of a partition, and cuts off what was never acknowledged.
pub(super) fn partition(
    disk: &dyn Disk,
    dir: &Path,
    mark: Option<&Mark>,
    findings: &mut Vec<Finding>,
) -> Result<Found, Error> {
    let known_start = read_start(disk, dir, findings)?;
    let marked = mark.map_or(0, |mark| mark.start);
    let start = known_start.unwrap_or(0).max(marked);
    if marked < start {
        // The disk may not have the name yet, and readers are told of this start from here on.
        disk.sync_dir(dir)
            .map_err(|source| Error::io(dir, source))?;
    }
    let mut bases = tidy(disk, dir, start)?;
    let mut found = Found::default();
    let last = bases.pop();
    for (at, base) in bases.iter().enumerate() {
        let next = bases.get(at + 1).copied().or(last).unwrap_or(*base);
        let (meta, lost) = finished(disk, dir, *base, next)?;
        found.segments.push(meta);
        found.lost.extend(lost);
    }
    if let Some(base) = last {
        let own = mark.filter(|mark| mark.base == base);
        grown(disk, dir, base, own, &mut found, findings)?;
    }
    // Records that were never synced may be gone though the start behind them is not.
    found.next = found.next.max(start);
    let known = mark.map_or(0, |mark| mark.next);
    if found.next < known {
        lose(disk, dir, known, &mut found)?;
    }
    let first = found.segments.first().map_or(found.next, |meta| meta.base);
    let told = found.lost.first().is_some_and(|lost| lost.start <= start);
    if known_start.is_some() && start < first && !told {
        found.lost.insert(0, start..first);
    }
    findings.extend(found.lost.iter().map(|lost| Finding::Lost {
        path: dir.to_owned(),
        from: lost.start,
        until: lost.end,
    }));
    found.start = if known_start.is_some() {
        start
    } else {
        start.max(first)
    };
    Ok(found)
}

/// Removes what is of no use any more, and tells the bases of the segments that stay.
fn tidy(disk: &dyn Disk, dir: &Path, start: i64) -> Result<Vec<i64>, Error> {
    let failed = |source| Error::io(dir, source);
    let names = disk.list(dir).map_err(failed)?;
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        disk.remove(&dir.join(name)).map_err(failed)?;
    }
    let mut bases: Vec<i64> = names
        .iter()
        .filter_map(|name| segment::base_of(name))
        .collect();
    bases.sort_unstable();
    // A crash may bring back some of the segments that were deleted.
    let before = bases
        .partition_point(|base| *base <= start)
        .saturating_sub(1);
    for base in bases.drain(..before) {
        remove_segment(disk, dir, base)?;
    }
    Ok(bases)
}

/// Removes the files of a segment.
pub(super) fn remove_segment(disk: &dyn Disk, dir: &Path, base: i64) -> Result<(), Error> {
    for path in [segment::path(dir, base), segment::index_path(dir, base)] {
        disk.remove(&path)
            .map_err(|source| Error::io(&path, source))?;
    }
    Ok(())
}

/// A finished segment, and what is lost between it and the next. Its index tells about it; if there
/// is none it is walked through.
fn finished(
    disk: &dyn Disk,
    dir: &Path,
    base: i64,
    next: i64,
) -> Result<(Meta, Option<Range<i64>>), Error> {
    let path = segment::path(dir, base);
    let failed = |source| Error::io(&path, source);
    let file = disk.open(&path, false).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    let known = segment::read_index(disk, dir, base).filter(|known| known.next <= next);
    if let Some(known) = known {
        let meta = Meta {
            base,
            bytes: known.bytes.min(length),
            max_timestamp: known.max_timestamp,
        };
        let end = if length < known.bytes {
            segment::scan(&*file, HEAD_BYTES..length, base)
                .map_err(failed)?
                .next
        } else {
            known.next
        };
        return Ok((meta, (end < next).then_some(end..next)));
    }
    let scan = segment::scan(&*file, HEAD_BYTES..length, base).map_err(failed)?;
    let meta = Meta {
        base,
        bytes: length,
        max_timestamp: scan.max_timestamp,
    };
    if scan.end == length {
        // What cannot be written is looked for again the next time.
        let _ = segment::write_index(disk, dir, &meta, next, &scan.index);
    }
    Ok((meta, None))
}

/// The segment that was written to last.
fn grown(
    disk: &dyn Disk,
    dir: &Path,
    base: i64,
    mark: Option<&Mark>,
    found: &mut Found,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let path = segment::path(dir, base);
    let failed = |source| Error::io(&path, source);
    found.next = base;
    let file = disk.open(&path, false).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    let headed = segment::has_head(&*file, base).map_err(failed)?;
    if !headed && length <= HEAD_BYTES && mark.is_none() {
        // It was being made: a record is written only after the disk has the head.
        disk.remove(&path).map_err(failed)?;
        return disk.sync_dir(dir).map_err(failed);
    }
    // It may have an index, of a roll that did not come to its end; it gets another with the next.
    let (from, next, max) = match mark {
        Some(mark) if mark.bytes <= length => (mark.bytes, mark.next, mark.max_timestamp),
        _ => (HEAD_BYTES, base, i64::MIN),
    };
    let scan = segment::scan(&*file, from..length, next).map_err(failed)?;
    if scan.end < length {
        cut(disk, &path, &*file, scan.end..length, findings)?;
    }
    if !headed {
        file.write_at(&segment::head(base), 0).map_err(failed)?;
    }
    let clean = headed && mark.is_some_and(|mark| mark.bytes == length);
    if !clean {
        again(&*file, from..scan.end)
            .and_then(|()| disk.sync_dir(dir))
            .map_err(failed)?;
    }
    found.next = scan.next;
    found.segments.push(Meta {
        base,
        bytes: scan.end,
        max_timestamp: scan.max_timestamp.max(max),
    });
    Ok(())
}

/// Has the disk keep what may be in memory only.
fn again(file: &dyn DiskFile, places: Range<u64>) -> std::io::Result<()> {
    let mut at = places.start;
    while at < places.end {
        let bytes = (places.end - at).min(PIECE_BYTES);
        let mut piece = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let read = file.read_at(&mut piece, at)?;
        file.write_at(piece.get(..read).unwrap_or_default(), at)?;
        at += bytes;
    }
    file.sync()
}

/// Cuts off the end of a file.
fn cut(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn DiskFile,
    places: Range<u64>,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let failed = |source| Error::io(path, source);
    let bytes = usize::try_from((places.end - places.start).min(KEPT_BYTES_MAX)).unwrap_or(0);
    let mut rest = vec![0; bytes];
    let read = file.read_at(&mut rest, places.start).map_err(failed)?;
    rest.truncate(read);
    if rest.iter().any(|byte| *byte != 0) {
        let aside = beside(path, &format!("{}.cut", places.start));
        write_whole(disk, &aside, &rest).map_err(failed)?;
        findings.push(Finding::Cut {
            path: path.to_owned(),
            bytes: places.end - places.start,
            kept: aside,
        });
    }
    file.set_len(places.start)
        .and_then(|()| file.sync())
        .map_err(failed)
}

/// Offsets up to `known` were acknowledged, and are not there.
fn lose(disk: &dyn Disk, dir: &Path, known: i64, found: &mut Found) -> Result<(), Error> {
    found.lost.push(found.next..known);
    // From its index every later start learns where the records end.
    if let Some(last) = found.segments.last() {
        let path = segment::path(dir, last.base);
        let write = || {
            let file = disk.open(&path, false)?;
            let scan = segment::scan(&*file, HEAD_BYTES..last.bytes, last.base)?;
            segment::write_index(disk, dir, last, found.next, &scan.index)
        };
        write().map_err(|source| Error::io(&path, source))?;
    }
    // It goes on in a new file.
    let (_, meta) = segment::begin(disk, dir, known)?;
    found.segments.push(meta);
    found.next = known;
    Ok(())
}

/// The first offset that may be read; none if nobody can tell.
fn read_start(
    disk: &dyn Disk,
    dir: &Path,
    findings: &mut Vec<Finding>,
) -> Result<Option<i64>, Error> {
    let path = dir.join(START);
    let content = read_whole(disk, &path).map_err(|source| Error::io(&path, source))?;
    let Some(content) = content else {
        return Ok(Some(0));
    };
    let parsed = parse_start(&content);
    if parsed.is_none() {
        findings.push(Finding::Damaged { path });
    }
    Ok(parsed)
}

fn parse_start(content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?;
    let (offset, sum) = text.strip_suffix('\n')?.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (crc32c::crc32c(offset.as_bytes()) == sum).then(|| offset.parse().ok())?
}

/// The file of the first offset that may be read.
pub(super) const START: &str = "start";

/// What is written there.
pub(super) fn start_text(offset: i64) -> String {
    let offset = offset.to_string();
    format!("{offset} {:08x}\n", crc32c::crc32c(offset.as_bytes()))
}
