//! A running process: when it ends, how, and how to make it.
//!
//! Its end is seen through a pid file descriptor, at once and without SIGCHLD. It is reaped only
//! after its group was signalled for the last time: until then the kernel gives its number to
//! nobody else, so that a signal to the group cannot hit a stranger.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::Instant;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::unix::AsyncFd;

/// A child that leads a session and a process group. Dropped, it is killed with its group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Pid,
    pidfd: AsyncFd<OwnedFd>,
    started: Instant,
    reaped: bool,
}

/// A child, leading a session and a process group, that nobody watches yet. Dropped, it is killed
/// with its group and reaped: what nobody would ever end must not run.
#[derive(Debug)]
pub(crate) struct Unwatched(Option<Child>);

/// How a process ended, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Process {
    /// Takes charge of a child that was forked at `started`. On a failure the child is killed.
    pub(crate) fn adopt(child: Unwatched, started: Instant) -> io::Result<Self> {
        let group = child.group();
        let pidfd = pidfd_open(group, PidfdFlags::empty()).map_err(io::Error::from)?;
        let pidfd = crate::sys::watch(pidfd)?;
        Ok(Self {
            child: child.into_child(),
            group,
            pidfd,
            started,
            reaped: false,
        })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was forked.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Completes when it ended. It stays to be reaped.
    pub(crate) async fn ended(&self) -> Ended {
        loop {
            if let Some(ended) = self.try_ended() {
                return ended;
            }
            match self.pidfd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is being torn down; nobody will poll this again.
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn try_ended(&self) -> Option<Ended> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), options).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Ended::Code(code)),
            (None, Some(signal)) => Some(Ended::Signal(signal)),
            (None, None) => None,
        }
    }

    /// Signals its whole process group; without effect once it is reaped.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if !self.reaped {
            // Fails when nobody is left in it.
            let _ = kill_process_group(self.group, signal);
        }
    }

    /// Lets the kernel forget it. Blocks until it ended.
    pub(crate) fn reap(&mut self) {
        if !self.reaped {
            let _ = self.child.wait();
            self.reaped = true;
        }
    }
}

impl Unwatched {
    /// A child that was just forked.
    pub(crate) fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.held().id()
    }

    fn group(&self) -> Pid {
        Pid::from_child(self.held())
    }

    fn held(&self) -> &Child {
        self.0.as_ref().expect("taken out only by into_child")
    }

    fn into_child(mut self) -> Child {
        self.0.take().expect("taken out only here")
    }
}

impl Drop for Unwatched {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        self.reap();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_child_that_nobody_watches_is_killed_with_its_group_and_reaped() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1004 & echo $!; wait"]);
        command
            .process_group(0)
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut forked = String::new();
        let mut lines = io::BufReader::new(child.stdout.take().unwrap());
        io::BufRead::read_line(&mut lines, &mut forked).unwrap();
        let child = Unwatched::new(child);
        let pid = child.pid();
        drop(child);
        assert!(crate::proc::stat(pid).is_none(), "it was not reaped");
        // The pipe ends when the last of the group lets go of its files, a moment before it is gone.
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut lines, &mut rest).unwrap();
        let forked = forked.trim().parse().unwrap();
        let deadline = atoll_base::clock::monotonic() + Duration::from_secs(10);
        while crate::kill::is_alive(forked) {
            let late = atoll_base::clock::monotonic() > deadline;
            assert!(!late, "its group lives on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
