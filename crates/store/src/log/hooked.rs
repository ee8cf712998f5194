//! A disk that tells what it does, for tests: they look what happens beside it, hold it up, or panic.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};

/// What is called: with what is done, and to which file.
type Called = dyn Fn(&str, &Path) + Send + Sync;

#[derive(Clone)]
struct Hook(Arc<Called>);

/// Another disk, and a hook in its files.
#[derive(Debug)]
pub struct Hooked {
    disk: Box<dyn Disk>,
    hook: Hook,
}

#[derive(Debug)]
struct HookedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    hook: Hook,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hook")
    }
}

impl Hooked {
    /// Calls `hook` with `opening` and `write`, `sync` before that is done, and with `open` and `read` after it.
    pub fn new(
        disk: impl Disk + 'static,
        hook: impl Fn(&str, &Path) + Send + Sync + 'static,
    ) -> Self {
        Self {
            disk: Box::new(disk),
            hook: Hook(Arc::new(hook)),
        }
    }
}

impl Disk for Hooked {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        (self.hook.0)("opening", path);
        let file = self.disk.open(path, create)?;
        (self.hook.0)("open", path);
        Ok(Arc::new(HookedFile {
            file,
            path: path.to_owned(),
            hook: self.hook.clone(),
        }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

impl DiskFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, at);
        (self.hook.0)("read", &self.path);
        read
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        (self.hook.0)("write", &self.path);
        self.file.write_at(bytes, at)
    }
    fn sync(&self) -> io::Result<()> {
        (self.hook.0)("sync", &self.path);
        self.file.sync()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
