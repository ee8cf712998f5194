//! How far each partition is known to be sound, written down every few seconds and at the end, so
//! that a start has to look only at what came after.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::disk::{read_whole, replace};
use super::shared::LogShared;
use super::{Error, Finding};

/// How far one partition is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The last segment.
    pub(super) base: i64,
    /// Its length.
    pub(super) bytes: u64,
    /// The offset after its last record.
    pub(super) next: i64,
    /// The latest time in it.
    pub(super) max_timestamp: i64,
    /// The first offset that may be read.
    pub(super) start: i64,
}

const FIRST_LINE: &str = "atoll log checkpoint 1";

/// Writes down all partitions as they are on disk.
pub(super) fn write(log: &LogShared) -> Result<(), Error> {
    let mut text = format!("{FIRST_LINE}\n");
    for partition in log.all() {
        let next = partition.durable.load(Ordering::Acquire);
        let Some(last) = partition.lock().segments.last().copied() else {
            continue;
        };
        let name = &partition.name;
        let start = partition.start.load(Ordering::Acquire);
        // Writing to memory does not fail.
        let _ = writeln!(
            text,
            "{name} {} {} {next} {} {start}",
            last.base, last.bytes, last.max_timestamp
        );
    }
    let _ = writeln!(text, "{:08x}", crc32c::crc32c(text.as_bytes()));
    let path = path(log);
    replace(&*log.disk, &path, text.as_bytes()).map_err(|source| Error::io(&path, source))
}

/// What was written down; nothing if it is damaged: then more is looked at.
pub(super) fn read(
    log: &LogShared,
    findings: &mut Vec<Finding>,
) -> Result<HashMap<String, Mark>, Error> {
    let path = path(log);
    let content = read_whole(&*log.disk, &path).map_err(|source| Error::io(&path, source))?;
    let Some(content) = content else {
        return Ok(HashMap::new());
    };
    let marks = std::str::from_utf8(&content).ok().and_then(parse);
    if marks.is_none() {
        findings.push(Finding::Damaged { path });
    }
    Ok(marks.unwrap_or_default())
}

fn parse(text: &str) -> Option<HashMap<String, Mark>> {
    let without_end = text.strip_suffix('\n')?;
    let (body, sum) = without_end.rsplit_once('\n')?;
    let summed = crc32c::crc32c(format!("{body}\n").as_bytes());
    if u32::from_str_radix(sum, 16).ok()? != summed {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let mark = Mark {
                base: words.next()?.parse().ok()?,
                bytes: words.next()?.parse().ok()?,
                next: words.next()?.parse().ok()?,
                max_timestamp: words.next()?.parse().ok()?,
                start: words.next()?.parse().ok()?,
            };
            Some((name, mark))
        })
        .collect()
}

fn path(log: &LogShared) -> PathBuf {
    log.dir.join("checkpoint")
}
