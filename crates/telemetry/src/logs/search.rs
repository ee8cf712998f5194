//! Reads segments for a query.
//!
//! Segments are read oldest first and whole lines are parsed only when they can matter: a segment
//! that was last written before `since` is skipped by its modification time, and a line without the
//! digits of the wanted trace is skipped by a byte search. A line that cannot be read (torn by a
//! crash) is skipped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use atoll_base::Timestamp;

use super::query::Query;
use super::segment::{self, Segment};
use crate::Error;
use crate::record::LogRecord;

/// Calls `found` with each record that `query` wants, in order, until it answers `false`.
pub(crate) fn search(
    dir: &Path,
    query: &Query,
    mut found: impl FnMut(LogRecord) -> bool,
) -> Result<(), Error> {
    let Some(tail) = query.tail else {
        return scan(dir, query, &mut found);
    };
    let mut last = VecDeque::with_capacity(tail.min(4096));
    scan(dir, query, &mut |record| {
        if last.len() == tail {
            last.pop_front();
        }
        if tail > 0 {
            last.push_back(record);
        }
        true
    })?;
    last.into_iter().all(found);
    Ok(())
}

fn scan(dir: &Path, query: &Query, found: &mut dyn FnMut(LogRecord) -> bool) -> Result<(), Error> {
    let segments = segment::list(dir)?;
    for (position, segment) in segments.iter().enumerate() {
        let next = segments.get(position + 1);
        if next.is_some_and(|next| next.first <= query.after) {
            continue;
        }
        if !search_segment(segment, query, found)? {
            break;
        }
    }
    Ok(())
}

/// Reads one segment; `false` if `found` wants no more.
pub(crate) fn search_segment(
    segment: &Segment,
    query: &Query,
    found: &mut dyn FnMut(LogRecord) -> bool,
) -> Result<bool, Error> {
    let file = match File::open(&segment.path) {
        Ok(file) => file,
        // Retention may remove a segment while the ones before it are read.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(Error::unusable(&segment.path, e)),
    };
    if query.since.is_some_and(|since| last_written(&file) < since) {
        return Ok(true);
    }
    let digits = query.trace.map(|trace| trace.to_hex());
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(|e| Error::unusable(&segment.path, e))? == 0 {
            return Ok(true);
        }
        if digits.is_some_and(|digits| memchr::memmem::find(&line, &digits).is_none()) {
            continue;
        }
        let Ok(record) = serde_json::from_slice::<LogRecord>(&line) else {
            continue;
        };
        if query.wants(&record) && !found(record) {
            return Ok(false);
        }
    }
}

fn last_written(file: &File) -> Timestamp {
    let modified = file.metadata().and_then(|m| m.modified()).ok();
    let since_epoch = modified.and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok());
    since_epoch.map_or(Timestamp::from_micros(i64::MAX), |d| {
        Timestamp::from_micros(i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    })
}
