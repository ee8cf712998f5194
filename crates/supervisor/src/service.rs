//! The supervisor as others see it: a [`Handle`] that starts, stops and tells.
//!
//! Every instance is a task of its own that owns all of its state; what is shared here is only the
//! table of them and the last status of each. There is no central loop: one would put twenty
//! instances that start at once behind each other.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_base::{Code, InstanceId, Tasks, Timestamp, clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cgroup::{Group, Tree};
use crate::error::{Error, NO_CGROUPS};
use crate::event::{Event, Observer, OutputSink};
use crate::instance::Instance;
use crate::port::Ports;
use crate::proc::{self, Sessions};
use crate::record::Records;
use crate::spawn::Spawner;
use crate::spec::{InstanceSpec, Io, State, Status, Usage};

/// How many different warnings are remembered as told.
const TOLD_MAX: usize = 256;

/// What the supervisor needs to know of its node.
#[derive(Debug, Clone)]
pub struct Config {
    /// A folder of its own, kept when the node ends; `recover` finds there what was running.
    pub run_dir: PathBuf,
    /// The node's id: part of cgroup names and, as `ATOLL_NODE`, of every environment. Letters,
    /// digits and hyphens; the same at every start of one node, different for two nodes.
    pub node_id: String,
}

/// Starts and stops instances and tells about them. A cheap handle: clones share one supervisor.
/// When all are dropped and all instances have ended, the supervisor is gone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// What all instances share.
pub(crate) struct Shared {
    pub(crate) node_id: String,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) output: Arc<dyn OutputSink>,
    pub(crate) tasks: Tasks,
    pub(crate) tree: Tree,
    pub(crate) ports: Arc<Ports>,
    pub(crate) records: Records,
    pub(crate) spawner: Spawner,
    told: Mutex<Told>,
    sessions: Sessions,
    runtime: tokio::runtime::Handle,
    entries: Mutex<BTreeMap<InstanceId, Entry>>,
    /// Nothing is started any more. Changed only while `entries` is locked.
    closed: AtomicBool,
}

/// The warnings that were told, oldest first. Bounded: what falls out may be told again.
#[derive(Debug, Default)]
struct Told(VecDeque<(Code, String)>);

struct Entry {
    slot: Arc<Slot>,
    stop: CancellationToken,
    gone: watch::Receiver<bool>,
}

/// Where the task of an instance leaves what others may read.
pub(crate) struct Slot {
    status: Mutex<Status>,
    group: Mutex<Option<Arc<Group>>>,
    most: Mutex<Most>,
}

/// The most that was counted of a main process and its session. The sum over processes falls when one ends that nobody
/// has waited for, and a counter must not: who sees it fall takes it for a new one.
#[derive(Debug, Default)]
struct Most {
    pid: u32,
    cpu_ns: u64,
    io: Option<Io>,
}

impl Most {
    /// The usage, with nothing below what it was.
    fn grown(&mut self, pid: u32, usage: Usage) -> Usage {
        if self.pid != pid {
            *self = Self {
                pid,
                ..Self::default()
            };
        }
        self.cpu_ns = self.cpu_ns.max(usage.cpu_ns);
        self.io = match (self.io, usage.io) {
            (Some(most), Some(now)) => Some(Io {
                read: most.read.max(now.read),
                written: most.written.max(now.written),
            }),
            (most, now) => now.or(most),
        };
        Usage {
            cpu_ns: self.cpu_ns,
            io: self.io,
            ..usage
        }
    }
}

impl Handle {
    /// Opens the supervisor of a node on the current tokio runtime. Call [`crate::recover()`] before.
    ///
    /// # Errors
    /// `RunDir` when the folder for records cannot be made.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(
        config: Config,
        observer: Arc<dyn Observer>,
        output: Arc<dyn OutputSink>,
        tasks: Tasks,
    ) -> Result<Self, Error> {
        let records = Records::open(&config.run_dir, &config.node_id)?;
        let tree = Tree::find(&config.node_id);
        if let Some(message) = tree.shortcomings() {
            observer.event(Event::Warning {
                code: NO_CGROUPS,
                message,
            });
        }
        Ok(Self(Arc::new(Shared {
            node_id: config.node_id,
            observer,
            output,
            tasks,
            tree,
            ports: Ports::new(),
            records,
            spawner: Spawner::start().map_err(|source| Error::Spawn {
                program: "atoll".to_owned(),
                step: "starting the threads that start processes",
                source,
            })?,
            told: Mutex::default(),
            sessions: Sessions::default(),
            runtime: tokio::runtime::Handle::current(),
            entries: Mutex::default(),
            closed: AtomicBool::new(false),
        })))
    }

    /// Starts an instance and keeps it running until [`Handle::stop`]. Returns at once; what comes
    /// of it is told to the observer. An instance whose id is in use already is left as it is.
    /// After [`Handle::stop_all`] nothing is started any more.
    pub fn start(&self, spec: InstanceSpec) {
        let mut entries = lock(&self.0.entries);
        if self.0.closed.load(Ordering::Relaxed) {
            tracing::warn!(instance = %spec.id, "not started: all instances are being stopped");
            return;
        }
        if entries.contains_key(&spec.id) {
            tracing::warn!(instance = %spec.id, "started twice; the first one stays");
            return;
        }
        let slot = Arc::new(Slot::new(&spec.id));
        let stop = CancellationToken::new();
        let (gone_sender, gone) = watch::channel(false);
        let entry = Entry {
            slot: slot.clone(),
            stop: stop.clone(),
            gone,
        };
        entries.insert(spec.id.clone(), entry);
        drop(entries);
        let instance = Instance::new(spec, self.0.clone(), slot, stop);
        let _runtime = self.0.runtime.enter();
        self.0.tasks.spawn("instance", async move {
            instance.run().await;
            gone_sender.send_replace(true);
        });
    }

    /// Asks an instance to leave, kills it when it does not, forgets it. Completes when every
    /// process of it is gone; at once when there is no such instance.
    pub async fn stop(&self, id: &InstanceId) {
        let found = lock(&self.0.entries)
            .get(id)
            .map(|entry| (entry.slot.clone(), entry.stop.clone(), entry.gone.clone()));
        let Some((slot, stop, mut gone)) = found else {
            return;
        };
        stop.cancel();
        // An error means that the task is gone without a word: a panic, which `Tasks` reports.
        let _ = gone.wait_for(|gone| *gone).await;
        let mut entries = lock(&self.0.entries);
        // Two may stop it at once, and a third start the next one of that id in between.
        let same = entries.get(id).is_some_and(|e| Arc::ptr_eq(&e.slot, &slot));
        if same {
            entries.remove(id);
        }
    }

    /// Stops all instances, at the same time. From now on none is started: what decides on starts
    /// may not have heard yet, and an instance started now would be stopped by nobody.
    pub async fn stop_all(&self) {
        let ids: Vec<InstanceId> = {
            let entries = lock(&self.0.entries);
            self.0.closed.store(true, Ordering::Relaxed);
            let all = entries.iter().map(|(id, entry)| {
                entry.stop.cancel();
                id.clone()
            });
            all.collect()
        };
        for id in ids {
            self.stop(&id).await;
        }
        // What could not be ended keeps its cgroup, and with it the node's.
        self.0.tree.remove();
    }

    /// What is known about an instance; None when it was never started or is stopped and gone.
    pub fn status(&self, id: &InstanceId) -> Option<Status> {
        let entries = lock(&self.0.entries);
        let entry = entries.get(id)?;
        Some(lock(&entry.slot.status).clone())
    }

    /// What is known about all instances, by id.
    pub fn list(&self) -> Vec<Status> {
        lock(&self.0.entries)
            .values()
            .map(|entry| lock(&entry.slot.status).clone())
            .collect()
    }

    /// What an instance uses now; None when it has no process. Reads a few small files of the kernel's; without
    /// cgroups also those of all processes of the machine, once a second at most.
    pub fn usage(&self, id: &InstanceId) -> Option<Usage> {
        let slot = lock(&self.0.entries).get(id)?.slot.clone();
        let pid = lock(&slot.status).pid?;
        let group = lock(&slot.group).clone();
        let of_group = group.as_ref().and_then(|group| {
            let usage = group.usage()?;
            let io = usage.io.or_else(|| proc::io(&group.pids()));
            Some(Usage { io, ..usage })
        });
        let usage = of_group.or_else(|| {
            // The main process has begun a session, and all that it starts is in it.
            let pids = self.0.sessions.of(pid, clock::monotonic());
            proc::usage(pid, &pids)
        })?;
        Some(lock(&slot.most).grown(pid, usage))
    }

    /// What an instance uses by the count of its cgroup; None without one. Reads a few small files of the kernel's.
    pub fn usage_of_cgroup(&self, id: &InstanceId) -> Option<Usage> {
        let slot = lock(&self.0.entries).get(id)?.slot.clone();
        let group = lock(&slot.group).clone();
        group?.usage()
    }

    /// The number of the instance's cgroup in the unified tree, as the kernel's socket diagnostics
    /// tell it of a connection; None without such a tree. Fixed from the `Started` event on, for as
    /// long as the instance is not stopped.
    pub fn cgroup_id(&self, id: &InstanceId) -> Option<u64> {
        let slot = lock(&self.0.entries).get(id)?.slot.clone();
        slot.cgroup_id()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("node_id", &self.0.node_id)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tree.remove();
    }
}

impl Shared {
    /// Tells a warning, unless the same was told before.
    pub(crate) fn warn_once(&self, code: Code, message: String) {
        let fresh = lock(&self.told).is_fresh(code, &message);
        if fresh {
            self.observer.event(Event::Warning { code, message });
        }
    }
}

impl Told {
    /// Whether a warning is new; remembers it.
    fn is_fresh(&mut self, code: Code, message: &str) -> bool {
        if self.0.iter().any(|(c, m)| *c == code && m == message) {
            return false;
        }
        if self.0.len() == TOLD_MAX {
            self.0.pop_front();
        }
        self.0.push_back((code, message.to_owned()));
        true
    }
}

impl Slot {
    fn new(id: &InstanceId) -> Self {
        Self {
            status: Mutex::new(Status {
                id: id.clone(),
                state: State::Starting,
                pid: None,
                addr: None,
                restarts: 0,
                since: Timestamp::now(),
                reason: None,
                last_lines: Vec::new(),
                ready_after: None,
            }),
            group: Mutex::new(None),
            most: Mutex::default(),
        }
    }

    /// Changes the status; a change of state is stamped with the time.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut status = lock(&self.status);
        let before = status.state;
        change(&mut status);
        if status.state != before {
            status.since = Timestamp::now();
        }
    }

    /// The number of its cgroup in the unified tree.
    pub(crate) fn cgroup_id(&self) -> Option<u64> {
        let group = lock(&self.group).clone();
        group?.unified_id()
    }

    /// Remembers the cgroup, so that others can ask what it uses.
    pub(crate) fn set_group(&self, group: Option<Arc<Group>>) {
        *lock(&self.group) = group;
    }
}

/// Locks a mutex. What it guards here is never left half changed, so a panic elsewhere does not
/// spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once_and_another_of_the_same_code_too() {
        let mut told = Told::default();
        let (code, other) = (Code("ATL0220"), Code("ATL0221"));
        assert!(told.is_fresh(code, "cpu"));
        assert!(!told.is_fresh(code, "cpu"));
        assert!(told.is_fresh(code, "memory"));
        assert!(told.is_fresh(other, "cpu"));
        for number in 0..10 * TOLD_MAX {
            told.is_fresh(code, &number.to_string());
        }
        assert_eq!(told.0.len(), TOLD_MAX);
    }
}
