//! The system calls that need `unsafe`, each behind a safe function. The only file of the crate
//! that may hold any.
//!
//! Everything else goes through rustix. What is called between fork and exec must be
//! async-signal-safe: another thread of the parent may have held the allocator's lock at the moment
//! of the fork, and nobody will ever release it in the child.
#![expect(unsafe_code, reason = "fork, and the calls that rustix does not have")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::child::Setup;

/// Starts `command` with `setup` performed between fork and exec.
pub(crate) fn spawn(mut command: Command, mut setup: Setup) -> io::Result<Child> {
    // JUSTIFICATION: entering a cgroup, a session and a mount namespace before the program runs is
    // possible nowhere else; std offers this hook only as an unsafe one.
    // SAFETY: the closure runs in the forked child. `Setup::perform` only makes system calls
    // through rustix's raw backend and this file, on memory allocated before the fork; it does not
    // allocate, free, lock, panic, or touch thread-locals.
    unsafe {
        command.pre_exec(move || setup.perform().map_err(io::Error::from));
    }
    command.spawn()
}

/// Gives every signal its default meaning. Handlers would be reset by exec anyway; signals that
/// Atoll ignores, or was started ignoring, would not.
pub(crate) fn reset_signals() {
    const SIGNALS: libc::c_long = 64;
    /// The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, nothing blocked.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=SIGNALS {
        // JUSTIFICATION: rustix has no sigaction outside of its experimental runtime, and that of
        // libc leaves out the two signals that it uses itself, which can be inherited as ignored.
        // SAFETY: the kernel reads the struct, which is valid and at least as long as on any
        // architecture; the old action is not asked for. SIG_DFL installs no code. It fails for
        // SIGKILL and SIGSTOP, which is right.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}

/// Marks every file descriptor from 3 up to be closed at exec.
pub(crate) fn close_at_exec() -> rustix::io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // JUSTIFICATION: rustix has no close_range. Closing at exec, not now: std's own pipe, through
    // which it reports a failed exec, must stay open until then.
    // SAFETY: the call changes flags of descriptors only, takes no pointers, and with
    // CLOSE_RANGE_CLOEXEC closes nothing that anybody still owns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match check(result) {
        // Before Linux 5.11. What Atoll itself opens is closed at exec anyway.
        Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// Gives this process its own view of mounts, and of users if asked.
pub(crate) fn unshare_mounts(users_too: bool) -> rustix::io::Result<()> {
    let flags = match users_too {
        true => UnshareFlags::NEWNS | UnshareFlags::NEWUSER,
        false => UnshareFlags::NEWNS,
    };
    // JUSTIFICATION: the safe form of this function is deprecated because of a flag not used here.
    // SAFETY: the contract of `unshare_unsafe` is about CLONE_FILES, which is not in `flags`.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Makes a mount read-only: the one at `path` below `dir`, or that of `dir` itself when `path` is
/// empty; `below` extends it to all mounts within.
pub(crate) fn set_readonly(
    dir: BorrowedFd<'_>,
    path: &CStr,
    below: bool,
) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let recursive = if below { libc::AT_RECURSIVE } else { 0 };
    // JUSTIFICATION: rustix has no mount_setattr; the older remount would have to repeat the flags
    // that the kernel locked, and would have to know them.
    // SAFETY: `path` is a valid C string and `attributes` a valid struct of the size passed; both
    // outlive the call, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Lets the current runtime tell when a file descriptor can be read.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // JUSTIFICATION: tokio's only form of this that is not deprecated is unsafe, because it takes
    // any type that names a descriptor.
    // SAFETY: an `OwnedFd` names one and the same open descriptor until it is dropped, and the
    // `AsyncFd` owns it from here on.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

fn check(result: libc::c_long) -> rustix::io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    // SAFETY: `__errno_location` gives the address of this thread's errno, always valid; reading it
    // is async-signal-safe.
    let errno = unsafe { *libc::__errno_location() };
    Err(Errno::from_raw_os_error(errno))
}
