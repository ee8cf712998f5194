//! What the disk alone takes: as many bytes as one record in its batch, appended, and an fdatasync.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file that grows.
pub(crate) struct Disk {
    path: PathBuf,
    file: File,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("bare-fdatasync");
        let file = File::create(&path)?;
        Ok(Self { path, file })
    }

    pub(crate) fn sync(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.file.write_all(&[b'x'; 179])?;
        self.file.sync_data()?;
        Ok(begun.elapsed())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The folder goes as a whole, at the latest.
        let _ = std::fs::remove_file(&self.path);
    }
}
