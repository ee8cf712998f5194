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
    pub(crate) fn adopt(mut child: Child, started: Instant) -> io::Result<Self> {
        let group = Pid::from_child(&child);
        let pidfd = pidfd_open(group, PidfdFlags::empty())
            .map_err(io::Error::from)
            .and_then(crate::sys::watch);
        match pidfd {
            Ok(pidfd) => Ok(Self {
                child,
                group,
                pidfd,
                started,
                reaped: false,
            }),
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
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

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        self.reap();
    }
}
