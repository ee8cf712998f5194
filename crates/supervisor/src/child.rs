//! What a child does between fork and exec, step by step.
//!
//! All of it works on memory prepared before the fork and makes system calls only. A step that
//! fails is written, with its number and what the kernel said, into a pipe, so that the parent can
//! name it; the kernel's error alone ("Operation not permitted") would tell nobody anything. Steps
//! of the sandbox may fail without consequence: the parent then warns.
//!
//! The order matters. First the session, so that from the first moment there is something to kill;
//! then the cgroup, so that all is counted there; mounts before the change of user, which takes
//! away the right to mount; the death signal after it, because the kernel clears the signal when
//! the user changes.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::sandbox::Cover;
use crate::spec::User;

/// How many files a child may have open unless it raises that itself (it may, up to Atoll's own
/// hard limit). Atoll's own soft limit is not passed on: it is raised as far as it goes, and where
/// that is a billion, programs that close every possible descriptor at their start (older Pythons,
/// shells, daemons) take minutes to begin. The 1024 of old is too few for a server.
const FILES_MAX: u64 = 65_536;

/// Everything that a child needs, allocated before the fork.
pub(crate) struct Setup {
    /// The process that forks.
    pub(crate) parent: Pid,
    /// See `Group::doors`.
    pub(crate) doors: Vec<File>,
    /// A limit of memory for where there is no cgroup.
    pub(crate) data_limit: Option<u64>,
    /// See [`file_limit`].
    pub(crate) file_limit: Rlimit,
    pub(crate) sandbox: Option<Cover>,
    pub(crate) dir: CString,
    pub(crate) user: Option<User>,
    /// Where failures are told; closed by exec.
    pub(crate) report: OwnedFd,
}

/// A step, as it is numbered in the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Session = 1,
    Cgroup,
    DataLimit,
    FileLimit,
    Namespace,
    UserMap,
    Private,
    Keep,
    Cover,
    Show,
    Seal,
    User,
    Dir,
    DeathSignal,
    Orphaned,
    CloseFiles,
}

/// How many bytes one report in the pipe has: the step, then the error number, little endian.
pub(crate) const REPORT_LENGTH: usize = 5;

/// The limit of open files for children: [`FILES_MAX`], or the hard limit where that is lower.
pub(crate) fn file_limit() -> Rlimit {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    Rlimit {
        current: Some(maximum.map_or(FILES_MAX, |hard| hard.min(FILES_MAX))),
        maximum,
    }
}

impl Step {
    const ALL: [Self; 16] = [
        Self::Session,
        Self::Cgroup,
        Self::DataLimit,
        Self::FileLimit,
        Self::Namespace,
        Self::UserMap,
        Self::Private,
        Self::Keep,
        Self::Cover,
        Self::Show,
        Self::Seal,
        Self::User,
        Self::Dir,
        Self::DeathSignal,
        Self::Orphaned,
        Self::CloseFiles,
    ];

    /// Reads one report.
    pub(crate) fn parse(report: [u8; REPORT_LENGTH]) -> Option<(Self, std::io::Error)> {
        let [step, errno @ ..] = report;
        let step = Self::ALL.into_iter().find(|known| *known as u8 == step)?;
        let error = std::io::Error::from_raw_os_error(i32::from_le_bytes(errno));
        Some((step, error))
    }

    /// The step in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "beginning a session",
            Self::Cgroup => "entering its cgroup",
            Self::DataLimit => "limiting its memory",
            Self::FileLimit => "limiting its open files",
            Self::Namespace => "getting its own view of the files (namespace)",
            Self::UserMap => "getting its own view of the files (user map)",
            Self::Private => "getting its own view of the files (propagation)",
            Self::Keep => "finding the files that it may see",
            Self::Cover => "covering the node's folder",
            Self::Show => "showing the files that it may see",
            Self::Seal => "making files read-only",
            Self::User => "becoming another user",
            Self::Dir => "entering its folder",
            Self::DeathSignal => "arranging to end with Atoll",
            Self::Orphaned => "Atoll ended meanwhile; starting",
            Self::CloseFiles => "closing Atoll's files",
        }
    }

    /// Whether the process runs nevertheless, seeing all files.
    pub(crate) fn is_of_sandbox(self) -> bool {
        (Self::Namespace as u8..=Self::Seal as u8).contains(&(self as u8))
    }
}

impl Setup {
    /// Performs all steps. On an error the child ends.
    pub(crate) fn perform(&mut self) -> Result<(), Errno> {
        self.step(Step::Session, rustix::process::setsid().map(drop))?;
        for door in &self.doors {
            let entered = rustix::io::write(door, b"0").map(drop);
            self.step(Step::Cgroup, entered)?;
        }
        if let Some(limit) = self.data_limit {
            let limit = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            self.step(
                Step::DataLimit,
                rustix::process::setrlimit(Resource::Data, limit),
            )?;
        }
        self.step(
            Step::FileLimit,
            rustix::process::setrlimit(Resource::Nofile, self.file_limit),
        )?;
        if let Some(cover) = &mut self.sandbox
            && let Err((step, error)) = cover.put_on()
        {
            report(&self.report, step, error);
        }
        self.step(Step::User, self.change_user())?;
        self.step(Step::Dir, rustix::process::chdir(self.dir.as_c_str()))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        crate::sys::reset_signals();
        let kill = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        self.step(Step::DeathSignal, kill)?;
        if rustix::process::getppid() != Some(self.parent) {
            self.step(Step::Orphaned, Err(Errno::SRCH))?;
        }
        self.step(Step::CloseFiles, crate::sys::close_at_exec())
    }

    fn step(&self, step: Step, result: Result<(), Errno>) -> Result<(), Errno> {
        if let Err(error) = result {
            report(&self.report, step, error);
        }
        result
    }

    fn change_user(&self) -> Result<(), Errno> {
        let Some(user) = self.user else {
            return Ok(());
        };
        let (uid, gid) = (
            rustix::process::Uid::from_raw(user.uid),
            rustix::process::Gid::from_raw(user.gid),
        );
        if rustix::process::getuid() == uid && rustix::process::getgid() == gid {
            return Ok(());
        }
        // These change the calling thread only; a forked child has no other.
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }
}

fn report(pipe: &OwnedFd, step: Step, error: Errno) {
    let [a, b, c, d] = error.raw_os_error().to_le_bytes();
    // The pipe is empty and takes a few bytes at once; if not, the error itself still arrives.
    let _ = rustix::io::write(pipe, &[step as u8, a, b, c, d]);
}
