//! Hides the node's folder from an instance, except for what is its own.
//!
//! The child gets its own view of mounts; in it an empty file system covers the folder, and the
//! parts that the instance may see are put back at their usual places. As root this needs a mount
//! namespace; as anybody else also a user namespace in which the user keeps its numbers (set-user-id
//! programs such as sudo do not work in there). A kernel that refuses either leaves the instance
//! seeing everything, and the operator is told once.
//!
//! This keeps secrets and other services' data from honest code and from code that reads files it
//! was tricked into. It is no wall against hostile code running as root. Refused: a root file system
//! of its own (that is what containers are for), and Landlock (it cannot hide, only forbid, and
//! leaves the names and the admin socket in sight).

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::child::Step;
use crate::spec::Sandbox;

/// A prepared cover: everything that [`Cover::put_on`] needs, allocated before the fork.
pub(crate) struct Cover {
    hide: CString,
    keeps: Vec<Keep>,
    /// The trees that stay visible, taken hold of before the cover goes on. As long as `keeps`.
    trees: Vec<OwnedFd>,
    /// For the user and group map; None for root.
    maps: Option<Maps>,
}

struct Keep {
    path: CString,
    is_dir: bool,
    readonly: bool,
    /// The folders between the covered one and this, outermost first.
    parents: Vec<CString>,
}

struct Maps {
    users: String,
    groups: String,
}

impl Cover {
    /// Prepares to cover. Paths are resolved now; one to keep that is not there, or that does not
    /// lie in the covered folder, is passed over.
    pub(crate) fn prepare(sandbox: &Sandbox) -> io::Result<Self> {
        let hide = sandbox.hide.canonicalize()?;
        let writable = sandbox.keep_writable.iter().map(|path| (path, false));
        let readonly = sandbox.keep_readonly.iter().map(|path| (path, true));
        let mut paths: Vec<(PathBuf, bool)> = writable
            .chain(readonly)
            .filter_map(|(path, readonly)| Some((path.canonicalize().ok()?, readonly)))
            .filter(|(path, _)| path.starts_with(&hide) && *path != hide)
            .collect();
        // Outer ones first: an inner one is then put into the outer one.
        paths.sort();
        let keeps = paths
            .iter()
            .map(|(path, readonly)| Keep::prepare(&hide, path, *readonly))
            .collect::<io::Result<Vec<_>>>()?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Ok(Self {
            hide: c_string(hide.as_os_str())?,
            trees: Vec::with_capacity(keeps.len()),
            keeps,
            maps: (!uid.is_root()).then(|| Maps {
                users: format!("{0} {0} 1", uid.as_raw()),
                groups: format!("{0} {0} 1", gid.as_raw()),
            }),
        })
    }

    /// Puts the cover on. Runs between fork and exec. When it fails, what was covered is bared
    /// again.
    pub(crate) fn put_on(&mut self) -> Result<(), (Step, Errno)> {
        let at = |step| move |error| (step, error);
        crate::sys::unshare_mounts(self.maps.is_some()).map_err(at(Step::Namespace))?;
        if let Some(maps) = &self.maps {
            maps.write().map_err(at(Step::UserMap))?;
        }
        // Nothing of what follows may reach the mounts of others.
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private).map_err(at(Step::Private))?;
        for keep in &self.keeps {
            let tree = keep.take_hold()?;
            // The capacity was reserved before the fork.
            self.trees.push(tree);
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount(
            c"atoll",
            self.hide.as_c_str(),
            c"tmpfs",
            flags,
            c"size=256k,mode=755",
        )
        .map_err(at(Step::Cover))?;
        let shown = self.show();
        if shown.is_err() {
            let _ = rustix::mount::unmount(self.hide.as_c_str(), UnmountFlags::DETACH);
        }
        shown
    }

    fn show(&self) -> Result<(), (Step, Errno)> {
        for (keep, tree) in self.keeps.iter().zip(&self.trees) {
            keep.show(tree).map_err(|error| (Step::Show, error))?;
        }
        crate::sys::set_readonly(CWD, &self.hide, false).map_err(|error| (Step::Seal, error))
    }
}

impl Keep {
    fn prepare(hide: &Path, path: &Path, readonly: bool) -> io::Result<Self> {
        let mut parents: Vec<CString> = path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != hide)
            .map(|parent| c_string(parent.as_os_str()))
            .collect::<io::Result<_>>()?;
        parents.reverse();
        Ok(Self {
            path: c_string(path.as_os_str())?,
            is_dir: path.is_dir(),
            readonly,
            parents,
        })
    }

    fn take_hold(&self) -> Result<OwnedFd, (Step, Errno)> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(CWD, self.path.as_c_str(), flags)
            .map_err(|error| (Step::Keep, error))?;
        if self.readonly {
            use std::os::fd::AsFd;
            crate::sys::set_readonly(tree.as_fd(), c"", true)
                .map_err(|error| (Step::Seal, error))?;
        }
        Ok(tree)
    }

    fn show(&self, tree: &OwnedFd) -> Result<(), Errno> {
        for parent in &self.parents {
            make_dir(parent)?;
        }
        if self.is_dir {
            make_dir(&self.path)?;
        } else {
            let flags = OFlags::CREATE | OFlags::CLOEXEC | OFlags::WRONLY;
            match rustix::fs::open(self.path.as_c_str(), flags, Mode::from_raw_mode(0o644)) {
                // It lies in an outer one that was put back read-only.
                Err(Errno::ROFS) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(tree, c"", CWD, self.path.as_c_str(), flags)
    }
}

impl Maps {
    fn write(&self) -> Result<(), Errno> {
        // Groups may be mapped only after giving up the right to drop some.
        put(c"/proc/self/setgroups", "deny")?;
        put(c"/proc/self/uid_map", &self.users)?;
        put(c"/proc/self/gid_map", &self.groups)
    }
}

fn put(path: &std::ffi::CStr, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes()).map(drop)
}

fn make_dir(path: &std::ffi::CStr) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A path for the kernel.
pub(crate) fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}
