//! The file of the access log: lines in, one thread that writes them, one older file beside it.
//!
//! A disk that is slow or full must not stop requests: lines wait in a short queue, and what does
//! not fit is dropped, counted, and told. The file is closed and begun anew by size here, because
//! nobody installs logrotate for a platform that runs as one program.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use atoll_proxy::AccessLogConfig;
use atoll_telemetry::Level;

use super::events::Events;

/// Batches of lines that may wait for the disk. A worker makes a batch of up to 64 KiB at most every
/// few milliseconds.
const QUEUE_LENGTH: usize = 256;

/// A way to the thread that writes.
#[derive(Debug)]
pub struct AccessLog {
    lines: Mutex<Option<SyncSender<String>>>,
    dropped: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The thread's side.
struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    failing: bool,
    dropped: Arc<AtomicU64>,
    events: Arc<Events>,
}

impl AccessLog {
    /// Opens the file, in `dir` unless its path is absolute, and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(dir: &Path, config: &AccessLogConfig, events: Arc<Events>) -> anyhow::Result<Self> {
        let path = dir.join(&config.file);
        let (file, size) = append(&path)
            .with_context(|| format!("cannot write the access log {}", path.display()))?;
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path,
            file,
            size,
            max_size: config.max_size.0,
            failing: false,
            dropped: Arc::clone(&dropped),
            events,
        };
        let (lines, queue) = sync_channel(QUEUE_LENGTH);
        let thread = std::thread::Builder::new().name("atoll-access-log".to_owned());
        let thread = thread.spawn(move || writer.run(&queue))?;
        Ok(Self {
            lines: Mutex::new(Some(lines)),
            dropped,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// Takes lines; never waits.
    pub fn take(&self, lines: String) {
        let sender = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let count = lines.matches('\n').count() as u64;
        let sent = sender.as_ref().map(|sender| sender.try_send(lines));
        if !matches!(sent, Some(Ok(()))) {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Writes what there is and ends. Waits for the disk.
    pub fn close(&self) {
        let lines = self
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(lines);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the thread of the access log panicked; its last lines may be missing");
        }
    }
}

impl Writer {
    fn run(mut self, queue: &Receiver<String>) {
        for lines in queue {
            let written = self.write(&lines);
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            self.tell(written, dropped);
        }
    }

    /// Where there can be no new file, the old one grows.
    fn write(&mut self, lines: &str) -> io::Result<()> {
        let mut rotated = Ok(());
        if self.size > 0 && self.size + lines.len() as u64 > self.max_size {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            match std::fs::rename(&self.path, older) {
                // Somebody else has moved or removed it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => rotated = Err(error),
                _ => match append(&self.path) {
                    Ok(new) => (self.file, self.size) = new,
                    Err(error) => rotated = Err(error),
                },
            }
        }
        self.file.write_all(lines.as_bytes())?;
        self.size += lines.len() as u64;
        rotated
    }

    /// Tells of trouble when it begins, and of lines that are lost.
    fn tell(&mut self, written: io::Result<()>, dropped: u64) {
        if dropped > 0 {
            let message =
                format!("the access log lacks {dropped} lines: the disk is too slow for them");
            self.events.node(Level::Warn, message);
        }
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                let path = self.path.display();
                let message = format!(
                    "the access log {path} cannot be written or begun anew: {error}; lines may be lost until it can"
                );
                self.events.node(Level::Error, message);
            }
            Err(_) => {}
        }
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
