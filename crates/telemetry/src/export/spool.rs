//! Batches on disk, oldest first, within a bound.
//!
//! A file for each batch: `<number>-<signal>-<items>.otlp`, its checksum and then the body as it is
//! sent. One that is torn or broken is dropped and counted. No write is waited for: what a killed
//! process has written stays, and what a falling machine loses is the last second of copies.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use crate::otlp::Signal;

/// Batches that may wait. With small ones, their number is what hurts.
const BATCHES_MAX: usize = 20_000;

const ENDING: &str = "otlp";

/// The checksum before a body.
const HEAD: usize = 4;

/// A batch that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Which; they grow.
    pub number: u64,
    /// What it holds.
    pub signal: Signal,
    /// How many items.
    pub items: u64,
    /// Bytes on disk.
    bytes: u64,
}

/// Batches on disk.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    bytes: u64,
    next: u64,
    waiting: VecDeque<Batch>,
}

impl Batch {
    fn name(&self) -> String {
        let signal = match self.signal {
            Signal::Traces => "traces",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        };
        format!("{:016}-{signal}-{}.{ENDING}", self.number, self.items)
    }

    fn of(name: &str, bytes: u64) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.strip_suffix('.')?.split('-');
        let number = parts.next()?.parse().ok()?;
        let signal = match parts.next()? {
            "traces" => Signal::Traces,
            "logs" => Signal::Logs,
            "metrics" => Signal::Metrics,
            _ => return None,
        };
        let items = parts.next()?.parse().ok()?;
        Some(Self {
            number,
            signal,
            items,
            bytes,
        })
    }
}

impl Spool {
    /// Opens the folder, which is made where it is missing, with what an earlier run left.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = entry.metadata()?.len();
            found.extend(name.to_str().and_then(|name| Batch::of(name, bytes)));
        }
        found.sort_unstable_by_key(|batch| batch.number);
        Ok(Self {
            dir,
            bytes_max,
            bytes: found.iter().map(|batch| batch.bytes).sum(),
            next: found.last().map_or(0, |batch| batch.number + 1),
            waiting: found.into(),
        })
    }

    /// Puts a batch at the end. Answers how many items of older ones had to go for it.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub fn push(&mut self, signal: Signal, items: u64, body: &[u8]) -> io::Result<u64> {
        let bytes = (HEAD + body.len()) as u64;
        let mut dropped = 0;
        while self.waiting.len() >= BATCHES_MAX || self.bytes + bytes > self.bytes_max {
            let Some(oldest) = self.waiting.front().copied() else {
                return Ok(items);
            };
            self.remove(oldest.number)?;
            dropped += oldest.items;
        }
        let batch = Batch {
            number: self.next,
            signal,
            items,
            bytes,
        };
        let mut content = Vec::with_capacity(HEAD + body.len());
        content.extend(crc32c::crc32c(body).to_le_bytes());
        content.extend(body);
        fs::write(self.dir.join(batch.name()), content)?;
        self.next += 1;
        self.bytes += bytes;
        self.waiting.push_back(batch);
        Ok(dropped)
    }

    /// The oldest batch.
    pub fn front(&self) -> Option<Batch> {
        self.waiting.front().copied()
    }

    /// The body of a batch; none if it is gone or broken.
    pub fn body(&self, batch: Batch) -> Option<Bytes> {
        let content = fs::read(self.dir.join(batch.name())).ok()?;
        let content = Bytes::from(content);
        let sum = u32::from_le_bytes(content.get(..HEAD)?.try_into().ok()?);
        let body = content.slice(HEAD..);
        (crc32c::crc32c(&body) == sum).then_some(body)
    }

    /// Removes a batch, if it is there still.
    ///
    /// # Errors
    /// When the disk refuses; then it may come again.
    pub fn remove(&mut self, number: u64) -> io::Result<()> {
        let Some(at) = self.waiting.iter().position(|batch| batch.number == number) else {
            return Ok(());
        };
        if let Some(batch) = self.waiting.remove(at) {
            self.bytes -= batch.bytes;
            match fs::remove_file(self.dir.join(batch.name())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// How many items and bytes wait.
    pub fn waiting(&self) -> (u64, u64) {
        (
            self.waiting.iter().map(|batch| batch.items).sum(),
            self.bytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(dir: &tempfile::TempDir, bytes_max: u64) -> Spool {
        Spool::open(dir.path().to_owned(), bytes_max).unwrap()
    }

    #[test]
    fn batches_come_out_in_order_also_after_a_new_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = spool(&dir, 1000);
        assert_eq!(own.push(Signal::Traces, 3, b"one").unwrap(), 0);
        own.push(Signal::Logs, 4, b"two").unwrap();
        drop(own);
        let mut own = spool(&dir, 1000);
        own.push(Signal::Metrics, 5, b"three").unwrap();
        assert_eq!(own.waiting(), (12, 23));
        for (signal, body) in [
            (Signal::Traces, "one"),
            (Signal::Logs, "two"),
            (Signal::Metrics, "three"),
        ] {
            let batch = own.front().unwrap();
            assert_eq!(
                (batch.signal, own.body(batch).unwrap().as_ref()),
                (signal, body.as_bytes())
            );
            own.remove(batch.number).unwrap();
        }
        assert_eq!((own.front(), own.waiting()), (None, (0, 0)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_oldest_go_for_the_newest_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = spool(&dir, 100);
        let dropped: Vec<u64> = (0..5)
            .map(|at| own.push(Signal::Logs, 10 + at, &[0; 30]).unwrap())
            .collect();
        assert_eq!(dropped, [0, 0, 10, 11, 12]);
        assert_eq!(own.front().unwrap().number, 3);
        assert_eq!(
            own.push(Signal::Logs, 7, &[0; 200]).unwrap(),
            7,
            "larger than all room"
        );
    }

    #[test]
    fn a_broken_batch_has_no_body() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = spool(&dir, 1000);
        own.push(Signal::Traces, 3, b"one").unwrap();
        let batch = own.front().unwrap();
        let path = dir.path().join(batch.name());
        fs::write(&path, &fs::read(&path).unwrap()[..5]).unwrap();
        assert_eq!(own.body(batch), None);
    }
}
