//! Ends processes for good: all that belong to an instance, whatever they did to get away.
//!
//! With a cgroup that is everything in it; no process leaves a cgroup by itself. Without one it is
//! everything in the session of the main process, and everything that was given the instance's
//! `ATOLL_NODE` and `ATOLL_INSTANCE`, which finds daemons that began a session of their own.
//!
//! A pid that was just read can be another process by now. Each is therefore held by a pid file
//! descriptor, looked at again, and only then signalled.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use atoll_base::clock;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::Group;
use crate::proc;

/// What belongs to an instance.
#[derive(Debug, Clone)]
pub(crate) struct Belongings {
    pub(crate) group: Option<Arc<Group>>,
    /// The session that the main process began.
    pub(crate) session: Option<u32>,
    /// `NAME=value` pairs of its environment that nobody else has all of.
    pub(crate) marks: Vec<String>,
}

impl Belongings {
    /// Sends SIGKILL to all that can be found now. Returns those that were alive.
    pub(crate) fn kill(&self) -> Vec<u32> {
        if let Some(group) = &self.group {
            let alive: Vec<u32> = group
                .pids()
                .into_iter()
                .filter(|pid| is_alive(*pid))
                .collect();
            if !alive.is_empty() {
                group.kill();
                for pid in &alive {
                    kill_if(*pid, |pid| group.pids().contains(&pid));
                }
            }
            return alive;
        }
        let mut found = proc::pids();
        found.retain(|pid| is_alive(*pid) && self.owns(*pid));
        for pid in &found {
            kill_if(*pid, |pid| self.owns(pid));
        }
        found
    }

    /// Kills again and again until nothing is left or `patience` is over. Returns what is left.
    /// Blocks.
    pub(crate) fn end(&self, patience: Duration) -> Vec<u32> {
        let deadline = clock::monotonic() + patience;
        let mut pause = Duration::from_millis(1);
        loop {
            let alive = self.kill();
            if alive.is_empty() || clock::monotonic() >= deadline {
                return alive;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// All processes that belong to it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.group {
            Some(group) => group.pids(),
            None => {
                let mut found = proc::pids();
                found.retain(|pid| self.owns(*pid));
                found
            }
        }
    }

    fn owns(&self, pid: u32) -> bool {
        if pid == std::process::id() {
            return false;
        }
        let in_session = self.session.is_some()
            && proc::stat(pid).is_some_and(|stat| self.session == Some(stat.session));
        let marked = !self.marks.is_empty();
        in_session || (marked && self.marks.iter().all(|mark| proc::was_given(pid, mark)))
    }
}

/// Whether a process runs; one that ended and waits to be reaped does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    proc::stat(pid).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'))
}

/// Sends SIGKILL to a process if `is_it` still holds once it cannot change any more.
pub(crate) fn kill_if(pid: u32, is_it: impl Fn(u32) -> bool) {
    let Some(handle) = Pid::from_raw(pid.cast_signed()) else {
        return;
    };
    if let Ok(held) = pidfd_open(handle, PidfdFlags::empty())
        && is_it(pid)
    {
        // It may have ended by itself.
        let _ = pidfd_send_signal(held, Signal::KILL);
    }
}
