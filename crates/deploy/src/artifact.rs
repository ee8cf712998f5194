//! Artifacts: an immutable copy of what a revision runs, named by its content.
//!
//! The files that count are gathered, copied into a folder beside the artifacts and hashed on the
//! way; then the folder gets the digest as its name. Two revisions with equal files share one
//! artifact. Hard links were refused: a later edit in place of the source would change what runs.
//! The copy is a reflink where the file system can do it.
//!
//! An artifact is not forced to disk file by file; instead its digest is checked when a node
//! starts, so a copy torn by a power failure is noticed and made again.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};
use sha2::{Digest as _, Sha256};
use walkdir::{DirEntry, WalkDir};

/// Never part of an artifact: what tools leave behind, and what is large and of no use at run time.
const NEVER: &[&str] = &[".git", ".hg", ".svn", ".atoll", "__pycache__", ".DS_Store"];

/// Not part of an artifact unless its patterns name it.
const NOT_BY_DEFAULT: &[&str] = &["target"];

/// The SHA-256 of an artifact's files, names and modes, as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Digest(String);

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct Failure {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Which files of a folder make the artifact.
#[derive(Debug, Clone)]
pub struct Selection {
    patterns: Option<GlobSet>,
}

/// One thing in an artifact.
struct Entry {
    path: PathBuf,
    relative: PathBuf,
    kind: Kind,
}

enum Kind {
    File { executable: bool },
    Link { target: PathBuf },
}

impl Digest {
    /// Takes a stored digest.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Selection {
    /// Everything if `patterns` is empty, else what they match, relative to the folder. A pattern
    /// that names a folder matches all below it.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        if patterns.is_empty() {
            return Ok(Self { patterns: None });
        }
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.trim_end_matches('/');
            set.add(Glob::new(pattern)?);
            set.add(Glob::new(&format!("{pattern}/**"))?);
        }
        Ok(Self {
            patterns: Some(set.build()?),
        })
    }

    fn takes(&self, relative: &Path) -> bool {
        self.patterns
            .as_ref()
            .is_none_or(|patterns| patterns.is_match(relative))
    }

    /// Whether the walk goes into a folder. Build folders are left out at the top only: deeper, the
    /// name may mean something else.
    fn enters(&self, entry: &DirEntry) -> bool {
        let skipped = |names: &[&str]| names.iter().any(|skip| entry.file_name() == *skip);
        let built = self.patterns.is_none() && entry.depth() == 1 && skipped(NOT_BY_DEFAULT);
        !skipped(NEVER) && !built
    }
}

/// Copies what `selection` takes of `source` into `artifacts` and tells its digest.
pub fn copy(source: &Path, selection: &Selection, artifacts: &Path) -> Result<Digest, Failure> {
    let entries = entries(source, selection)?;
    let staging = artifacts.join(format!(".staging-{}-{}", std::process::id(), unique()));
    let copied = copy_into(&entries, &staging);
    let outcome = copied.and_then(|digest| {
        let home = artifacts.join(digest.as_str());
        if home.is_dir() && matches!(verify(&home, &digest), Ok(true)) {
            remove(&staging)?;
        } else {
            remove(&home)?;
            fs::rename(&staging, &home).map_err(at(&home))?;
        }
        Ok(digest)
    });
    if outcome.is_err() {
        // The first failure is the one to tell; what is left is swept at the next start.
        let _ = remove(&staging);
    }
    outcome
}

/// Whether the folder `home` still holds what its digest says.
pub fn verify(home: &Path, digest: &Digest) -> Result<bool, Failure> {
    let everything = Selection {
        patterns: Some(GlobSet::new([any_glob()]).map_err(odd_glob)?),
    };
    let mut hasher = Sha256::new();
    for entry in entries(home, &everything)? {
        hash_entry(&mut hasher, &entry, hash_file)?;
    }
    Ok(hex(hasher) == digest.0)
}

/// A cheap sign of whether a folder has changed: names, sizes, modes and times of its
/// files. Build output
/// (`target`, `node_modules`) is left out, as it changes without meaning.
pub fn fingerprint(source: &Path) -> Result<String, Failure> {
    let mut hasher = Sha256::new();
    let walk = WalkDir::new(source)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| {
            let named = |names: &[&str]| names.iter().any(|skip| entry.file_name() == *skip);
            let built = entry.depth() == 1 && named(NOT_BY_DEFAULT);
            entry.depth() == 0 || !(named(NEVER) || named(&["node_modules"]) || built)
        });
    for entry in walk {
        let entry = entry.map_err(|error| walk_failure(source, error))?;
        let metadata = entry
            .metadata()
            .map_err(|error| walk_failure(source, error))?;
        if metadata.is_dir() {
            continue;
        }
        hasher.update(entry.path().as_os_str().as_bytes());
        hasher.update([0]);
        for number in [
            metadata.len() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
        ] {
            hasher.update(number.to_le_bytes());
        }
    }
    Ok(hex(hasher))
}

/// Removes every artifact that `keep` does not name, and what interrupted copies left.
pub fn sweep(artifacts: &Path, keep: &[Digest]) -> Result<(), Failure> {
    for entry in fs::read_dir(artifacts).map_err(at(artifacts))? {
        let path = entry.map_err(at(artifacts))?.path();
        let name = path.file_name().unwrap_or_default();
        if !keep.iter().any(|digest| name == digest.as_str()) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn copy_into(entries: &[Entry], staging: &Path) -> Result<Digest, Failure> {
    fs::create_dir_all(staging).map_err(at(staging))?;
    let mut hasher = Sha256::new();
    for entry in entries {
        let to = staging.join(&entry.relative);
        let parent = to.parent().unwrap_or(staging);
        fs::create_dir_all(parent).map_err(at(parent))?;
        hash_entry(&mut hasher, entry, |hasher, from| {
            fs::copy(from, &to).map_err(at(from))?;
            // What is hashed is the copy: it is what will run, whatever happens to the source.
            hash_file(hasher, &to)
        })?;
        match &entry.kind {
            Kind::Link { target } => {
                std::os::unix::fs::symlink(target, &to).map_err(at(&to))?;
            }
            Kind::File { executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&to, fs::Permissions::from_mode(mode)).map_err(at(&to))?;
            }
        }
    }
    Ok(Digest(hex(hasher)))
}

/// The files and links that are selected, in the order of their names.
fn entries(source: &Path, selection: &Selection) -> Result<Vec<Entry>, Failure> {
    let mut found = Vec::new();
    let walk = WalkDir::new(source).sort_by_file_name().into_iter();
    let walk = walk.filter_entry(|entry| entry.depth() == 0 || selection.enters(entry));
    for entry in walk {
        let entry = entry.map_err(|error| walk_failure(source, error))?;
        let path = entry.path().to_owned();
        let relative = path.strip_prefix(source).unwrap_or(&path).to_owned();
        let kind = if entry.file_type().is_symlink() {
            Kind::Link {
                target: fs::read_link(&path).map_err(at(&path))?,
            }
        } else if entry.file_type().is_file() {
            let metadata = entry
                .metadata()
                .map_err(|error| walk_failure(source, error))?;
            Kind::File {
                executable: metadata.permissions().mode() & 0o100 != 0,
            }
        } else {
            continue;
        };
        if selection.takes(&relative) {
            found.push(Entry {
                path,
                relative,
                kind,
            });
        }
    }
    Ok(found)
}

fn hash_entry(
    hasher: &mut Sha256,
    entry: &Entry,
    content: impl FnOnce(&mut Sha256, &Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = entry.relative.as_os_str().as_bytes();
    hasher.update((name.len() as u64).to_le_bytes());
    hasher.update(name);
    match &entry.kind {
        Kind::Link { target } => {
            let target = target.as_os_str().as_bytes();
            hasher.update(*b"l");
            hasher.update((target.len() as u64).to_le_bytes());
            hasher.update(target);
            Ok(())
        }
        Kind::File { executable } => {
            hasher.update(if *executable { *b"x" } else { *b"f" });
            content(hasher, &entry.path)
        }
    }
}

fn hash_file(hasher: &mut Sha256, path: &Path) -> Result<(), Failure> {
    let mut file = fs::File::open(path).map_err(at(path))?;
    hasher.update(file.metadata().map_err(at(path))?.len().to_le_bytes());
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(at(path))? {
            0 => return Ok(()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn hex(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Tells apart copies that this process makes at the same time.
fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn any_glob() -> Glob {
    Glob::new("**").expect("a valid pattern")
}

fn odd_glob(error: globset::Error) -> Failure {
    Failure {
        path: PathBuf::from("**"),
        source: io::Error::other(error),
    }
}

fn walk_failure(source: &Path, error: walkdir::Error) -> Failure {
    let path = error.path().unwrap_or(source).to_owned();
    Failure {
        path,
        source: error.into(),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure { path, source }
}
