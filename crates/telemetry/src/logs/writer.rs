//! Appends records to segments; rotates; drops the oldest.
//!
//! Records are gathered in a buffer and written when the owner says so. When the disk refuses (full,
//! read-only), the buffer is dropped and counted, the segment is given up (its tail may be torn) and
//! the next flush tries again with a new one: logs come back by themselves when there is room, and
//! the loss is told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use atoll_base::Timestamp;

use super::segment::{self, FORMAT_LINE, Segment};
use crate::config::LogsConfig;
use crate::record::LogRecord;
use crate::{Error, Query};

/// A buffer this full is written at once.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// A disk that refuses is tried again this often.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Where records go.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    config: LogsConfig,
    active: Option<Active>,
    buffer: Vec<u8>,
    buffered: u64,
    next: u64,
    /// Records that the disk refused since they were last told of.
    lost: u64,
    /// Why, while it lasts.
    trouble: Option<String>,
    /// When the disk is tried again, while it refuses.
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Active {
    segment: Segment,
    file: File,
    bytes: u64,
}

impl Writer {
    /// Continues the numbers of what is in `dir`.
    pub(crate) fn open(dir: PathBuf, config: LogsConfig) -> Result<Self, Error> {
        let next = next_number(&dir)?;
        Ok(Self {
            dir,
            config,
            active: None,
            buffer: Vec::with_capacity(BUFFER_BYTES_MAX + (32 << 10)),
            buffered: 0,
            next,
            lost: 0,
            trouble: None,
            retry_at: None,
        })
    }

    /// Numbers `record` and puts it into the buffer.
    pub(crate) fn append(&mut self, record: &mut LogRecord, now: Instant) {
        record.number = self.next;
        self.next += 1;
        let before = self.buffer.len();
        match serde_json::to_writer(&mut self.buffer, record) {
            Ok(()) => {
                self.buffer.push(b'\n');
                self.buffered += 1;
            }
            // A record holds only what JSON can say; should that ever change, the line is dropped
            // and counted, and the buffer stays whole.
            Err(_) => {
                self.buffer.truncate(before);
                self.lost += 1;
            }
        }
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush(now);
        }
    }

    /// Writes the buffer to the segment. While the disk refuses, it is tried again once in
    /// [`RETRY_INTERVAL`]; what comes in between is lost.
    pub(crate) fn flush(&mut self, now: Instant) {
        if self.buffer.is_empty() {
            return;
        }
        if self.retry_at.is_some_and(|at| now < at) {
            self.lost += self.buffered;
        } else if let Err(error) = self.write_buffer() {
            self.lost += self.buffered;
            self.active = None;
            self.retry_at = Some(now + RETRY_INTERVAL);
            if self.trouble.is_none() {
                tracing::error!(%error, "logs cannot be written; lines are being lost");
            }
            self.trouble = Some(error.to_string());
        } else {
            self.trouble = None;
            self.retry_at = None;
        }
        self.buffer.clear();
        self.buffered = 0;
    }

    /// Records lost since the last call, if writing works again.
    pub(crate) fn take_lost(&mut self) -> u64 {
        if self.trouble.is_some() {
            0
        } else {
            std::mem::take(&mut self.lost)
        }
    }

    /// Why records are being lost right now.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn write_buffer(&mut self) -> Result<(), Error> {
        let first = self.next - self.buffered;
        let full = self.config.segment_bytes_max();
        let mut active = match self.active.take().filter(|active| active.bytes < full) {
            Some(active) => active,
            None => {
                if let Err(error) = self.drop_old(Timestamp::now()) {
                    tracing::warn!(%error, "old logs cannot be removed");
                }
                Active::create(Segment::new(&self.dir, first))?
            }
        };
        active.append(&self.buffer)?;
        self.active = Some(active);
        Ok(())
    }

    /// Removes segments that are past the size or the age. The newest one is never removed.
    pub(crate) fn drop_old(&self, now: Timestamp) -> Result<(), Error> {
        let segments = segment::list(&self.dir)?;
        let oldest_kept = now.before(self.config.max_age.0);
        // The segment about to be written needs its room too.
        let mut total = self.config.segment_bytes_max();
        for (position, segment) in segments.iter().enumerate().rev() {
            let Ok(metadata) = segment.path.metadata() else {
                continue;
            };
            total += metadata.len();
            let newest = position + 1 == segments.len();
            let aged = metadata
                .modified()
                .ok()
                .and_then(timestamp)
                .is_some_and(|t| t < oldest_kept);
            if !newest && (total > self.config.max_size.0 || aged) {
                std::fs::remove_file(&segment.path)
                    .map_err(|e| Error::unusable(&segment.path, e))?;
            }
        }
        Ok(())
    }
}

impl Active {
    fn create(segment: Segment) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&segment.path)
            .map_err(|e| Error::unusable(&segment.path, e))?;
        let mut active = Self {
            segment,
            file,
            bytes: 0,
        };
        let begun = active.append(FORMAT_LINE.as_bytes());
        if begun.is_err() {
            // An empty file would stay for days, and one would come with each attempt.
            let _ = std::fs::remove_file(&active.segment.path);
        }
        begun.map(|()| active)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|e| Error::unusable(&self.segment.path, e))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// One past the highest number in `dir`.
fn next_number(dir: &std::path::Path) -> Result<u64, Error> {
    let Some(last) = segment::list(dir)?.pop() else {
        return Ok(1);
    };
    let mut next = last.first;
    let all = Query::default();
    super::search::search_segment(&last, &all, &mut |record| {
        next = next.max(record.number + 1);
        true
    })?;
    // A crash may have left a segment without any whole record: its name is taken all the same.
    Ok(next.max(last.first + 1))
}

fn timestamp(time: std::time::SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_micros(
        i64::try_from(since.as_micros()).ok()?,
    ))
}
