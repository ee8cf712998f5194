//! Where this process may create cgroups.
//!
//! **v1**: below its own cgroup in each hierarchy, so that limits set on Atoll itself hold for what
//! it starts.
//!
//! **v2** knows one more rule: a cgroup that deals out controllers to those below it may not itself
//! hold processes (except for the root). Atoll's own cgroup holds Atoll. In turn:
//! 1. Its own cgroup, when it is the root, or Atoll has moved into the leaf before.
//! 2. Its own cgroup, when Atoll is alone in it (a systemd unit with `Delegate=yes`, a container):
//!    Atoll moves itself into a leaf, `atoll-node`, and deals them out.
//! 3. The cgroup above, when it deals controllers out or lets Atoll do so (a terminal in a user
//!    session, whose `app.slice` is delegated to the user).
//! 4. Its own cgroup without controllers: nothing is limited, but instances can be told apart and
//!    killed as a whole.
//!
//! What is refused: asking systemd over D-Bus for a scope for each instance. It would make the start
//! of a process wait for another process, and there is no systemd in containers.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::files::Dialect;
use super::{Base, Controller};

/// The leaf that Atoll moves to.
const LEAF: &str = "atoll-node";

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// Which part of the hierarchy is mounted there; "/" except in some containers.
    pub(super) root: String,
    /// Empty for v2.
    pub(super) controllers: Vec<Controller>,
    pub(super) dialect: Dialect,
}

/// The cgroups below which this process may create its own.
pub(super) fn bases() -> Vec<Base> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    mounts
        .lines()
        .filter_map(parse_mount)
        .filter_map(|mount| {
            let dir = own_dir(&mount, &own)?;
            match mount.dialect {
                Dialect::V1 => is_writable(&dir).then_some(Base {
                    dir,
                    dialect: Dialect::V1,
                    controllers: mount.controllers,
                }),
                Dialect::V2 => unified(&mount.point, &dir),
            }
        })
        .collect()
}

/// One line of `/proc/self/mountinfo`, if it is of a hierarchy that is of use here.
pub(super) fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let root = left.next()?.to_owned();
    let point = PathBuf::from(left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1)?;
    let (dialect, controllers) = match kind {
        "cgroup2" => (Dialect::V2, Vec::new()),
        "cgroup" => {
            let mut controllers: Vec<_> = options.split(',').filter_map(controller).collect();
            controllers.sort();
            if controllers.is_empty() {
                return None;
            }
            (Dialect::V1, controllers)
        }
        _ => return None,
    };
    Some(Mount {
        point,
        root,
        controllers,
        dialect,
    })
}

fn controller(name: &str) -> Option<Controller> {
    Some(match name {
        "memory" => Controller::Memory,
        "cpu" => Controller::Cpu,
        "cpuacct" => Controller::CpuAcct,
        "pids" => Controller::Pids,
        "io" => Controller::Io,
        _ => return None,
    })
}

/// The folder of this process's own cgroup, from the text of `/proc/self/cgroup`.
pub(super) fn own_dir(mount: &Mount, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let mut listed = names.split(',').filter_map(controller);
        let same = match mount.dialect {
            Dialect::V2 => names.is_empty(),
            Dialect::V1 => listed.any(|name| mount.controllers.contains(&name)),
        };
        same.then_some(path)
    })?;
    let inside = match mount.root.as_str() {
        "/" => path,
        root => path.strip_prefix(root)?,
    };
    Some(mount.point.join(inside.trim_start_matches('/')))
}

pub(super) fn unified(mount_point: &Path, own: &Path) -> Option<Base> {
    let base = |dir: &Path, controllers| Base {
        dir: dir.to_owned(),
        dialect: Dialect::V2,
        controllers,
    };
    // A second look by the same node, after it has moved.
    let own = match own.file_name() {
        Some(name) if name == LEAF => own.parent()?,
        _ => own,
    };
    let mut controllers = available(own);
    // The kernel counts processor time without any controller.
    if controllers.is_empty() {
        return is_writable(own).then(|| base(own, Vec::new()));
    }
    if is_writable(own)
        && (may_deal_out(own) || leave_to_leaf(own))
        && enable(own, &mut controllers)
    {
        return Some(base(own, controllers));
    }
    let above = own.parent().filter(|dir| dir.starts_with(mount_point));
    if let Some(above) = above.filter(|dir| is_writable(dir)) {
        let mut controllers = available(above);
        enable(above, &mut controllers);
        if !controllers.is_empty() {
            return Some(base(above, controllers));
        }
    }
    is_writable(own).then(|| base(own, Vec::new()))
}

/// Deals out controllers to the cgroups below `dir`. Leaves in `controllers` those that are dealt
/// out now and tells whether that is all that limits need: `io` only counts, and kernels and
/// containers that have the others may refuse it.
pub(super) fn enable(dir: &Path, controllers: &mut Vec<Controller>) -> bool {
    let file = dir.join("cgroup.subtree_control");
    for controller in controllers.iter() {
        // One at a time: a single one that is refused must not take the others with it.
        let _ = tell(&file, &format!("+{}", name(*controller)));
    }
    let enabled = listed(&file);
    let lacks = |own: &Controller| *own != Controller::Io && !enabled.contains(own);
    let is_enough = !controllers.iter().any(lacks);
    controllers.retain(|controller| enabled.contains(controller));
    is_enough
}

/// Writes to a file of the kernel's, which must be there: it is neither made nor emptied.
fn tell(file: &Path, word: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(word.as_bytes())
}

fn available(dir: &Path) -> Vec<Controller> {
    let mut all = listed(&dir.join("cgroup.controllers"));
    all.retain(|controller| *controller != Controller::CpuAcct);
    all
}

fn listed(file: &Path) -> Vec<Controller> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut all: Vec<_> = text
        .split_ascii_whitespace()
        .filter_map(controller)
        .collect();
    all.sort();
    all
}

fn name(controller: Controller) -> &'static str {
    match controller {
        Controller::Memory => "memory",
        Controller::Cpu => "cpu",
        Controller::CpuAcct => "cpuacct",
        Controller::Pids => "pids",
        Controller::Io => "io",
    }
}

/// Whether controllers may be dealt out at `dir`: no process is in it itself, or it is the root, which
/// alone has no type. It must not be found out by trying: where processes are, the kernel refuses
/// memory, but takes processor time and pids, and from then on lets no process into any cgroup below
/// (`domain invalid`).
fn may_deal_out(dir: &Path) -> bool {
    let procs = fs::read_to_string(dir.join("cgroup.procs"));
    procs.is_ok_and(|procs| procs.trim().is_empty()) || !dir.join("cgroup.type").exists()
}

/// Moves this process out of its cgroup into a leaf below, if it is alone there.
fn leave_to_leaf(own: &Path) -> bool {
    let procs = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
    let me = std::process::id().to_string();
    if procs.lines().ne([me.as_str()]) {
        return false;
    }
    let leaf = own.join(LEAF);
    super::make_dir(&leaf).is_ok() && fs::write(leaf.join("cgroup.procs"), me).is_ok()
}

fn is_writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}
