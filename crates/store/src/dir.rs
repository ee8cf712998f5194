//! The state folder and its lock.
//!
//! The lock is an advisory `flock` on `.atoll/lock`, so the kernel drops it when the node dies, in
//! whatever way; a pid file alone would need guessing about stale pids. The pid inside is only for
//! the message to a person.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// A state folder that this process holds. Dropping it lets another node have it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder where it is missing. Others may pass through it, because a database server
    /// of another user may live in it, but can list and read nothing.
    pub fn make(path: &Path) -> Result<(), Error> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path);
        made.map_err(|e| Error::unusable(path, e))
    }

    /// Makes the folder where it is missing and takes its lock.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::make(path)?;
        let path = path.canonicalize().map_err(|e| Error::unusable(path, e))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|e| Error::unusable(&lock_path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = lock
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(Error::InUse { dir: path, pid });
            }
            Err(TryLockError::Error(e)) => return Err(Error::unusable(&lock_path, e)),
        }
        write_pid(&mut lock).map_err(|e| Error::unusable(&lock_path, e))?;
        Ok(Self { path, _lock: lock })
    }

    /// Whether a node holds the folder now.
    pub fn is_held(path: &Path) -> bool {
        // A lock that could be had is given back when the file is closed.
        let lock = File::open(path.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside, made where it is missing, readable by its owner only.
    pub fn subdir(&self, name: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|e| Error::unusable(&path, e))?;
        Ok(path)
    }
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}
