//! A disk in memory that fails, forgets and tears, by a seed: what the log must survive.
//!
//! It keeps what a process sees apart from what a crash of the machine leaves. Written pages of
//! 4 KiB reach the disk in any combination until the file is synced, lengths too; names reach it in
//! any combination until their folder is synced, but a rename is whole or not at all, and the
//! content of a file may be there without its name. After a failed sync some pages are taken for
//! written that are not, as Linux does it. Refused: bits that rot by themselves (see
//! [`SimDisk::damage`]), and pages that are torn within.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};

/// A disk in memory. A cheap handle; handles share what is on it.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// What happens at the operation that [`SimDisk::fail_at`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error, once. Of a write some bytes may arrive.
    Error(ErrorKind),
    /// It is cut off in the middle, and every later one fails: the process is dead.
    Crash,
}

/// A generator of numbers that look random (SplitMix64): the same for the same seed, everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

const PAGE: usize = 4096;

type FileId = usize;

#[derive(Debug, Clone)]
struct State {
    random: Random,
    files: Vec<File>,
    folders: Vec<Names<String>>,
    /// The folders: the root, and those in it.
    paths: Names<PathBuf>,
    root: PathBuf,
    operations: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    /// Changes with every crash: what was open before is of no use.
    life: u64,
}

#[derive(Debug, Default, Clone)]
struct File {
    /// As processes see it.
    content: Vec<u8>,
    /// As it is on disk.
    synced: Vec<u8>,
    /// Pages written since, in every version.
    pages: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Lengths since.
    lengths: Vec<usize>,
}

/// Of a name of a file in its folder, or of the path of a folder.
#[derive(Debug, Clone)]
enum Change<N> {
    Put(N, usize),
    Remove(N),
    Rename(N, N, usize),
}

/// Names as processes see them, and as they are on disk.
#[derive(Debug, Clone)]
struct Names<N: Ord> {
    now: BTreeMap<N, usize>,
    synced: BTreeMap<N, usize>,
    /// What happened since.
    changes: Vec<Change<N>>,
}

#[derive(Debug)]
struct Open {
    disk: SimDisk,
    id: FileId,
    life: u64,
}

impl SimDisk {
    /// An empty disk with this folder.
    pub fn new(seed: u64, root: &Path) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            files: Vec::new(),
            folders: vec![Names::new()],
            paths: Names {
                now: BTreeMap::from([(root.to_owned(), 0)]),
                synced: BTreeMap::from([(root.to_owned(), 0)]),
                changes: Vec::new(),
            },
            root: root.to_owned(),
            operations: 0,
            fault: None,
            dead: false,
            life: 0,
        })))
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Has the operation fail before which there were so many ([`Self::operations`]).
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.lock().fault = Some((operation, fault));
    }

    /// Whether the fault is still to come.
    pub fn is_sound(&self) -> bool {
        self.lock().fault.is_some()
    }

    /// The process dies and starts again; the system goes on, and forgets nothing.
    pub fn restart(&self) {
        let mut state = self.lock();
        (state.dead, state.fault) = (false, None);
        state.life += 1;
    }

    /// The machine loses power and starts again: what was not synced is there or not, as it happens.
    pub fn crash(&self) {
        self.restart();
        let State {
            random,
            files,
            folders,
            paths,
            ..
        } = &mut *self.lock();
        for file in files.iter_mut() {
            file.crash(random);
        }
        for folder in folders {
            folder.crash(random);
        }
        paths.crash(random);
    }

    /// A copy of its own of all that is on it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.lock().clone();
        Self(Arc::new(Mutex::new(state)))
    }

    /// All files, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.lock();
        let folders = state.paths.now.iter();
        let named = folders.flat_map(|(dir, own)| {
            let names = state.folders[*own].now.iter();
            names.map(move |(name, id)| (dir.join(name), *id))
        });
        named
            .map(|(path, id)| (path, state.files[id].content.len() as u64))
            .collect()
    }

    /// Flips bits of a byte of a file, on disk and for whoever reads it.
    pub fn damage(&self, path: &Path, at: usize, bits: u8) {
        let mut state = self.lock();
        let id = state
            .find(path)
            .expect("a file can be damaged only if it is there");
        let file = &mut state.files[id];
        file.content[at] ^= bits;
        if let Some(byte) = file.synced.get_mut(at) {
            *byte ^= bits;
        }
    }

    /// Cuts a file off, on disk and for whoever reads it.
    pub fn truncate(&self, path: &Path, length: usize) {
        let mut state = self.lock();
        let id = state
            .find(path)
            .expect("a file can be cut off only if it is there");
        state.files[id].content.truncate(length);
        state.files[id].synced.truncate(length);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; tells how the fault strikes it.
    fn begin(&self) -> io::Result<(MutexGuard<'_, State>, Option<io::Error>)> {
        let mut state = self.lock();
        if state.dead {
            return Err(dead());
        }
        let number = state.operations;
        state.operations += 1;
        let fault = state.fault.take_if(|(at, _)| *at <= number);
        let error = fault.map(|(_, fault)| match fault {
            Fault::Error(kind) => io::Error::new(kind, "the disk was told to fail"),
            Fault::Crash => {
                state.dead = true;
                dead()
            }
        });
        Ok((state, error))
    }

    /// An operation that happens or not.
    fn whole<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let (mut state, error) = self.begin()?;
        match error {
            // A failed one may have happened nevertheless.
            Some(error) if state.random.below(2) == 0 => act(&mut state).and(Err(error)),
            Some(error) => Err(error),
            None => act(&mut state),
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.whole(|state| {
            if !state.paths.now.contains_key(path) {
                state.paths.put(path.to_owned(), state.folders.len());
                state.folders.push(Names::new());
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.whole(|state| {
            let files = state.folder(path)?.now.keys().cloned().collect::<Vec<_>>();
            let folders = state.paths.now.keys();
            let folders = folders.filter(|own| own.parent() == Some(path));
            Ok(files
                .into_iter()
                .chain(folders.map(|own| split(own).1))
                .collect())
        })
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.whole(|state| {
            let id = match state.find(path) {
                None if create => state.create(path)?,
                found => found.ok_or_else(missing)?,
            };
            let open: Arc<dyn DiskFile> = Arc::new(Open {
                disk: self.clone(),
                id,
                life: state.life,
            });
            Ok(open)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole(|state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.whole(|state| {
            let (dir, name) = split(path);
            if let Ok(folder) = state.folder(&dir) {
                folder.remove(name);
            }
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.whole(|state| {
            if let Ok(folder) = state.folder(path) {
                let names: Vec<_> = folder.now.keys().cloned().collect();
                names.into_iter().for_each(|name| folder.remove(name));
                state.paths.remove(path.to_owned());
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, error) = self.begin()?;
        if let Some(error) = error {
            return Err(error);
        }
        state.folder(path)?.sync();
        if path == state.root {
            state.paths.sync();
        }
        Ok(())
    }
}

impl DiskFile for Open {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let (state, error) = self.begin()?;
        if let Some(error) = error {
            return Err(error);
        }
        let content = &state.files[self.id].content;
        let rest = usize::try_from(at).ok().and_then(|at| content.get(at..));
        let rest = rest.unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let (mut state, error) = self.begin()?;
        let some = match &error {
            Some(_) => state.random.below(bytes.len() as u64 + 1),
            None => bytes.len() as u64,
        };
        let part = &bytes[..usize::try_from(some).expect("it is part of a slice")];
        state.files[self.id].write(part, usize::try_from(at).expect("test files are small"));
        error.map_or(Ok(()), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, error) = self.begin()?;
        let State { files, random, .. } = &mut *state;
        let file = &mut files[self.id];
        match error {
            None => file.persist(),
            // Some of it is on disk, and the system believes that all is.
            Some(_) => file.synced = file.survivor(random),
        }
        file.pages.clear();
        file.lengths.clear();
        error.map_or(Ok(()), Err)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let (mut state, error) = self.begin()?;
        if let Some(error) = error {
            return Err(error);
        }
        let length = usize::try_from(length).expect("test files are small");
        state.files[self.id].resize(length);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let (state, error) = self.begin()?;
        match error {
            Some(error) => Err(error),
            None => Ok(state.files[self.id].content.len() as u64),
        }
    }
}

impl Open {
    fn begin(&self) -> io::Result<(MutexGuard<'_, State>, Option<io::Error>)> {
        let (state, error) = self.disk.begin()?;
        if state.life != self.life {
            return Err(dead());
        }
        Ok((state, error))
    }
}

impl State {
    fn folder(&mut self, path: &Path) -> io::Result<&mut Names<String>> {
        let id = self.paths.now.get(path).ok_or_else(missing)?;
        Ok(&mut self.folders[*id])
    }

    fn find(&mut self, path: &Path) -> Option<FileId> {
        let (dir, name) = split(path);
        self.folder(&dir).ok()?.now.get(&name).copied()
    }

    fn create(&mut self, path: &Path) -> io::Result<FileId> {
        let (dir, name) = split(path);
        let id = self.files.len();
        self.folder(&dir)?.put(name, id);
        self.files.push(File::default());
        Ok(id)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.paths.now.contains_key(from) {
            return self.paths.rename(from.to_owned(), to.to_owned());
        }
        let ((dir, old), (_, new)) = (split(from), split(to));
        self.folder(&dir)?.rename(old, new)
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], at: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        if end > self.content.len() {
            self.content.resize(end, 0);
            self.lengths.push(end);
        }
        self.content[at..end].copy_from_slice(bytes);
        self.touch(at, end);
    }

    fn resize(&mut self, length: usize) {
        let before = self.content.len();
        self.content.resize(length, 0);
        self.lengths.push(length);
        self.touch(before.min(length), before.max(length));
    }

    /// Takes note of new versions of pages.
    fn touch(&mut self, begin: usize, end: usize) {
        for page in begin / PAGE..end.div_ceil(PAGE) {
            let mut version = vec![0; PAGE];
            let there = self.content.get(page * PAGE..).unwrap_or_default();
            let bytes = there.len().min(PAGE);
            version[..bytes].copy_from_slice(&there[..bytes]);
            self.pages.entry(page).or_default().push(version);
        }
    }

    /// All that was written since the last sync reaches the disk; not what an earlier one has lost.
    fn persist(&mut self) {
        self.synced
            .resize(self.content.len().next_multiple_of(PAGE), 0);
        for (page, versions) in &self.pages {
            let place = self.synced.get_mut(page * PAGE..(page + 1) * PAGE);
            if let (Some(place), Some(last)) = (place, versions.last()) {
                place.copy_from_slice(last);
            }
        }
        self.synced.truncate(self.content.len());
    }

    /// What may be on disk if nothing more is written.
    fn survivor(&self, random: &mut Random) -> Vec<u8> {
        let mut out = self.synced.clone();
        // Often all or nothing, which is what happens most.
        let mood = random.below(4);
        for (page, versions) in &self.pages {
            let chosen = match mood {
                0 => None,
                1 => versions.last(),
                _ => versions.get(random.index(versions.len() + 1)),
            };
            if let Some(version) = chosen {
                let end = (page + 1) * PAGE;
                out.resize(out.len().max(end), 0);
                out[page * PAGE..end].copy_from_slice(version);
            }
        }
        let length = match mood {
            0 => None,
            1 => self.lengths.last(),
            _ => self.lengths.get(random.index(self.lengths.len() + 1)),
        };
        out.resize(length.copied().unwrap_or(self.synced.len()), 0);
        out
    }

    fn crash(&mut self, random: &mut Random) {
        self.synced = self.survivor(random);
        self.content.clone_from(&self.synced);
        self.pages.clear();
        self.lengths.clear();
    }
}

impl<N: Ord + Clone> Names<N> {
    fn new() -> Self {
        Self {
            now: BTreeMap::new(),
            synced: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    fn put(&mut self, name: N, id: usize) {
        self.now.insert(name.clone(), id);
        self.changes.push(Change::Put(name, id));
    }

    fn remove(&mut self, name: N) {
        if self.now.remove(&name).is_some() {
            self.changes.push(Change::Remove(name));
        }
    }

    fn rename(&mut self, from: N, to: N) -> io::Result<()> {
        let id = self.now.remove(&from).ok_or_else(missing)?;
        self.now.insert(to.clone(), id);
        self.changes.push(Change::Rename(from, to, id));
        Ok(())
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.now);
        self.changes.clear();
    }

    fn crash(&mut self, random: &mut Random) {
        let mood = random.below(3);
        for change in std::mem::take(&mut self.changes) {
            let happens = mood == 0 || (mood == 1 && random.below(2) == 0);
            match change {
                _ if !happens => {}
                Change::Put(name, id) => drop(self.synced.insert(name, id)),
                Change::Remove(name) => drop(self.synced.remove(&name)),
                Change::Rename(from, to, id) => {
                    self.synced.remove(&from);
                    self.synced.insert(to, id);
                }
            }
        }
        self.now.clone_from(&self.synced);
    }
}

impl Random {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit`, which it is not; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.any().checked_rem(limit).unwrap_or(0)
    }

    /// Like [`Self::below`], for places in a slice.
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }
}

fn split(path: &Path) -> (PathBuf, String) {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default();
    (dir.to_owned(), name.to_string_lossy().into_owned())
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

fn missing() -> io::Error {
    ErrorKind::NotFound.into()
}
