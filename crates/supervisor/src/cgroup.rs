//! A cgroup for each instance: `<base>/atoll-<node id>/<instance id>`, on v2, v1, or both.
//!
//! **Why not `cgroups-rs`.** Its 0.5 depends on zbus (a D-Bus client with its own async runtime) to
//! reach systemd, on a second version of nix, and does not hand out the open `cgroup.procs` that a
//! child needs to enter its cgroup by itself, between fork and exec. What is needed here is a
//! handful of one-line files.
//!
//! **Where.** `find` looks for the places below which this process may create cgroups.
//! Where v1 controllers are mounted they limit; the unified tree (v2) is always joined too, even an
//! empty one, since the kernel's socket diagnostics name a cgroup of that tree and nothing else, and
//! since only it can kill a cgroup as a whole.
//!
//! **How long.** An instance keeps its cgroup over restarts, so that its number in the unified tree
//! stays the same, and loses it when it is stopped.

mod files;
mod find;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Resources;
use crate::spec::Usage;
use files::{Dialect, Setting};

/// What can be limited or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    /// Memory.
    Memory,
    /// Processor time.
    Cpu,
    /// The count of processor time; a controller of its own on v1 only.
    CpuAcct,
    /// The number of processes.
    Pids,
    /// Bytes from and to disks, of v2 only. That of v1 (`blkio`) does not see what is written by way of
    /// the page cache, which is nearly all.
    Io,
}

/// Where this node may create cgroups; empty where it may not.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    bases: Vec<Base>,
}

/// The node's folder in one hierarchy.
#[derive(Debug, Clone)]
struct Base {
    dir: PathBuf,
    dialect: Dialect,
    /// Sorted.
    controllers: Vec<Controller>,
}

/// The cgroup of one instance: a folder in each hierarchy. Removed with [`Group::remove`].
#[derive(Debug)]
pub(crate) struct Group {
    parts: Vec<Base>,
    /// The limit of memory was asked for and the kernel took it.
    memory_limited: bool,
}

impl Tree {
    /// Looks for places and makes the node's folder in each. Never fails: without any, limits are
    /// weaker and [`Tree::shortcomings`] says so.
    pub(crate) fn find(node_id: &str) -> Self {
        let mut bases = find::bases();
        for base in &mut bases {
            base.dir.push(format!("atoll-{node_id}"));
        }
        bases.retain(|base| make_dir(&base.dir).is_ok());
        for base in &mut bases {
            if base.dialect == Dialect::V2 {
                find::enable(&base.dir, &mut base.controllers);
            }
        }
        Self { bases }
    }

    /// What cannot be enforced here, for the operator; None when all can.
    pub(crate) fn shortcomings(&self) -> Option<String> {
        let wanted = [
            (Controller::Memory, "memory"),
            (Controller::Cpu, "processor time"),
            (Controller::Pids, "number of processes"),
        ];
        let missing: Vec<&str> = wanted
            .iter()
            .filter(|(controller, _)| !self.bases.iter().any(|base| base.has(*controller)))
            .map(|(_, name)| *name)
            .collect();
        if missing.is_empty() {
            return None;
        }
        Some(format!(
            "cgroups with the needed controllers are not available to Atoll: the limits of {} are \
             not enforced{}",
            missing.join(", "),
            match missing.contains(&"memory") {
                true => ", except that a memory limit holds for the data of each single process",
                false => "",
            }
        ))
    }

    /// The instances of this node that have a cgroup now, each with its folders.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for base in &self.bases {
            all.extend(subfolders(&base.dir));
        }
        all
    }

    /// Whether `dir` is a cgroup that this node could have made: directly below one of its folders.
    pub(crate) fn owns(&self, dir: &Path) -> bool {
        dir.file_name().is_some()
            && dir
                .parent()
                .is_some_and(|parent| self.bases.iter().any(|base| base.dir == parent))
    }

    /// Makes the cgroup of an instance. None when there is no place for one.
    pub(crate) fn create(&self, name: &str) -> Option<Group> {
        let mut parts = Vec::new();
        for base in &self.bases {
            let part = Base {
                dir: base.dir.join(name),
                ..base.clone()
            };
            if make_dir(&part.dir).is_ok() {
                parts.push(part);
            }
        }
        (!parts.is_empty()).then_some(Group {
            parts,
            memory_limited: false,
        })
    }

    /// Removes the node's own folders, if no instance is left in them.
    pub(crate) fn remove(&self) {
        for base in &self.bases {
            let _ = fs::remove_dir(&base.dir);
        }
    }
}

impl Base {
    fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

impl Group {
    /// Sets the limits, each whether or not the others could be set. Tells all that could not, for
    /// people.
    pub(crate) fn limit(&mut self, resources: &Resources) -> Result<(), String> {
        let mut refused = Vec::new();
        for part in &self.parts {
            for setting in files::limits(part.dialect, &part.controllers, resources) {
                match setting.write(&part.dir) {
                    Ok(()) => {
                        self.memory_limited |=
                            setting.limits_memory() && resources.memory.is_some();
                    }
                    Err(problem) => {
                        refused.push(clamp_cpu(part, &setting, resources).unwrap_or(problem));
                    }
                }
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(refused.join("; "))
    }

    /// Whether a limit of memory is enforced: the kernel took it, not only could have.
    pub(crate) fn limits_memory(&self) -> bool {
        self.memory_limited
    }

    /// The files into which a process writes "0" to enter.
    pub(crate) fn doors(&self) -> io::Result<Vec<File>> {
        let open = |part: &Base| {
            OpenOptions::new()
                .write(true)
                .open(part.dir.join("cgroup.procs"))
        };
        self.parts.iter().map(open).collect()
    }

    /// The folders.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.dir.clone()).collect()
    }

    /// The number of the folder in the unified tree.
    pub(crate) fn unified_id(&self) -> Option<u64> {
        crate::proc::inode(&self.unified()?.dir)
    }

    /// The processes in it and in cgroups that they made below.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .parts
            .iter()
            .flat_map(|part| members(&part.dir))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// How often the kernel killed one of its processes for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.part(Controller::Memory)
            .and_then(|part| files::oom_kills(part.dialect, &part.dir))
            .unwrap_or(0)
    }

    /// What its processes use together; None where nothing is counted.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let memory = self.part(Controller::Memory)?;
        let cpu = self.part(Controller::CpuAcct).or(self.unified())?;
        let counted = self.part(Controller::Pids);
        Some(Usage {
            cpu_ns: files::cpu_ns(cpu.dialect, &cpu.dir)?,
            memory: files::memory(memory.dialect, &memory.dir)?,
            pids: match counted {
                Some(part) => files::pids(&part.dir)?,
                None => u32::try_from(self.pids().len()).ok()?,
            },
            oom_kills: self.oom_kills(),
            throttled: self
                .part(Controller::Cpu)
                .and_then(|part| files::throttled(part.dialect, &part.dir)),
            io: self
                .part(Controller::Io)
                .and_then(|part| files::io(&part.dir)),
        })
    }

    /// Sends SIGKILL to everything in it at once, where the kernel can (5.14 and later).
    pub(crate) fn kill(&self) {
        if let Some(part) = self.unified() {
            kill_dir(&part.dir);
        }
    }

    /// Removes the folders. Fails while a process is in them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.parts.iter().try_for_each(|part| remove_dir(&part.dir))
    }

    fn part(&self, controller: Controller) -> Option<&Base> {
        self.parts.iter().find(|part| part.has(controller))
    }

    fn unified(&self) -> Option<&Base> {
        self.parts.iter().find(|part| part.dialect == Dialect::V2)
    }
}

/// v1 refuses more processor time than a cgroup above has, where v2 takes the number and gives less.
/// Then as much is set as there is. Tells what was done; none if that was not the reason.
fn clamp_cpu(part: &Base, setting: &Setting, resources: &Resources) -> Option<String> {
    let wanted = resources.cpu.filter(|_| setting.limits_cpu())?;
    let most = files::cpu_of_above(part.dialect, &part.dir)?;
    if most >= wanted {
        return None;
    }
    let least = Resources {
        cpu: Some(most),
        ..*resources
    };
    let settings = files::limits(part.dialect, &[Controller::Cpu], &least);
    let done = settings
        .iter()
        .try_for_each(|setting| setting.write(&part.dir));
    let why = format!("cpu = {wanted} is more than the {most} cores that Atoll itself was given");
    Some(match done {
        Ok(()) => format!("{why}; {most} was set instead"),
        Err(problem) => format!("{why}, and {problem}"),
    })
}

impl Setting {
    fn write(&self, dir: &Path) -> Result<(), String> {
        match fs::write(dir.join(self.file), &self.value) {
            Err(error) if !(self.optional && error.kind() == io::ErrorKind::NotFound) => Err(
                format!("cannot set {} to {}: {error}", self.file, self.value.trim()),
            ),
            _ => Ok(()),
        }
    }
}

/// Sends SIGKILL to everything in a cgroup of the unified tree; without effect elsewhere.
pub(crate) fn kill_dir(dir: &Path) {
    // Opened without creating: on v1 there is no such file.
    if let Ok(mut file) = OpenOptions::new().write(true).open(dir.join("cgroup.kill")) {
        let _ = io::Write::write_all(&mut file, b"1");
    }
}

/// The processes in a cgroup and in those below it.
pub(crate) fn members(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for folder in subfolders(dir) {
        pids.extend(members(&folder));
    }
    // 0 stands for a process of another pid namespace.
    pids.retain(|pid| *pid != 0);
    pids
}

/// Removes a cgroup and those below it. One that is not there is no error. A process that was just
/// killed can hold it for a moment longer than it is listed, so this is tried for up to a second;
/// blocks that long at the most.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    const TRIES: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(5);
    for folder in subfolders(dir) {
        remove_dir(&folder)?;
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

fn subfolders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        })
        .collect()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
