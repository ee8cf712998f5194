//! What is to be run, and what is known about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use atoll_base::{InstanceId, Timestamp};
use serde::Serialize;

use crate::config::{Health, Resources};

/// Everything needed to run one instance, and to run it again after it ended. Its soft limit of open
/// files is 65536, or the hard limit where that is lower; it may raise it to the hard limit.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// Its id; names its cgroup and its record.
    pub id: InstanceId,
    /// Program and arguments. The program is found as in a shell: absolute, or with a '/' in it
    /// relative to `dir`, or in `PATH`.
    pub command: Vec<String>,
    /// The folder it runs in.
    pub dir: PathBuf,
    /// Its environment, beside the few variables that it has from Atoll's own (`PATH`, `HOME`,
    /// `USER`, `LANG`, `LC_*`, `TZ`, `TMPDIR`; one given here wins) and `HOST`, `PORT`,
    /// `ATOLL_NODE` and `ATOLL_INSTANCE`, which the supervisor sets.
    pub env: Vec<(String, String)>,
    /// How it is known that it can serve.
    pub health: Health,
    /// What it may use.
    pub resources: Resources,
    /// How long it may take to leave after SIGTERM, before it is killed. Usual: 10 s.
    pub stop_timeout: Duration,
    /// Which files of the node it must not see. None: it sees everything.
    pub sandbox: Option<Sandbox>,
    /// Run as another user; only root can. None: as Atoll itself.
    pub user: Option<User>,
    /// A fixed port; None: a free one is found at each attempt.
    pub port: Option<u16>,
    /// Whether it is started again after it ended.
    pub restart: bool,
}

/// A folder that an instance does not see, except for parts of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The folder, covered with an empty one. Absolute.
    pub hide: PathBuf,
    /// Folders or files within it that stay visible at their places and writable.
    pub keep_writable: Vec<PathBuf>,
    /// Folders or files within it that stay visible at their places, read-only.
    pub keep_readonly: Vec<PathBuf>,
}

/// A user to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number; it has no other groups.
    pub gid: u32,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs, or is about to, and does not answer its check yet.
    Starting,
    /// It answers.
    Ready,
    /// It stopped answering, or never did, and is being ended in order to be started again.
    Unready,
    /// It ended and is started again after a pause.
    BackingOff,
    /// It ended again and again soon after its start. Still retried, every 30 s at the latest.
    CrashLoop,
    /// It was asked to leave.
    Stopping,
    /// It left, as asked or with exit code 0, and is not started again.
    Stopped,
    /// It ended or could not be started, and is not started again.
    Failed,
}

/// What is known about an instance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The instance.
    pub id: InstanceId,
    /// Where it is in its life.
    pub state: State,
    /// Its main process, while there is one.
    pub pid: Option<u32>,
    /// Where it listens, or is expected to; while there is a process.
    pub addr: Option<SocketAddr>,
    /// How often it was started again.
    pub restarts: u32,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why it is in this state, for people; None when all is well.
    pub reason: Option<String>,
    /// The last lines that it printed before it last ended or while it did not become ready: at
    /// most 40, at most 8 KiB.
    pub last_lines: Vec<String>,
    /// How long the present process took from its start until it was ready.
    pub ready_after: Option<Duration>,
}

/// What an instance uses, all its processes together; without cgroups, those of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Processor time used since the instance was first started, in nanoseconds; without cgroups
    /// since its main process was, and without that of processes that nobody has waited for.
    pub cpu_ns: u64,
    /// Memory in use, in bytes, without file cache that can be dropped. Without cgroups, what
    /// processes share counts with each of them.
    pub memory: u64,
    /// How many processes and threads there are.
    pub pids: u32,
    /// How often the kernel killed one of its processes for want of memory; 0 without cgroups.
    pub oom_kills: u64,
    /// How its limit of processor time has held it back; None where that is not counted.
    pub throttled: Option<Throttled>,
    /// What it read from disks and wrote to them; None where that is not counted. With cgroups of
    /// v2 since it was first started; else of the processes that there are, and those that they have waited
    /// for.
    pub io: Option<Io>,
}

/// How a limit of processor time has held an instance back, since it was first started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Throttled {
    /// Periods, of a tenth of a second, in which it had something to do.
    pub periods: u64,
    /// Those of them in which it used up its part and had to wait.
    pub throttled: u64,
    /// How long its threads waited for that, all together, in nanoseconds.
    pub waited_ns: u64,
}

/// Bytes that went to disks and came from them: what the page cache gave is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Io {
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written, or will be.
    pub written: u64,
}
