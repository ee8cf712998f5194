//! Parquet over the store's disk, so that tests can have it fail.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use atoll_store::log::DiskFile;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// So much is gathered before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// Reads a file from any place.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: Arc<dyn DiskFile>,
    length: u64,
}

/// Reads on from a place.
#[derive(Debug)]
pub(super) struct From {
    file: Arc<dyn DiskFile>,
    at: u64,
}

/// Appends to a file.
#[derive(Debug)]
pub(super) struct Sink {
    file: Arc<dyn DiskFile>,
    at: u64,
    buffer: Vec<u8>,
}

impl Source {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let length = file.length()?;
        Ok(Self { file, length })
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Source {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(From {
            file: Arc::clone(&self.file),
            at: start,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // A footer that lies must not ask for all the memory.
        if start.saturating_add(length as u64) > self.length {
            return Err(ParquetError::EOF("it is shorter than it says".to_owned()));
        }
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, start)?;
        if read < length {
            return Err(ParquetError::EOF("it was cut off".to_owned()));
        }
        Ok(bytes.into())
    }
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Sink {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            at: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// The bytes written so far.
    pub(super) fn length(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
