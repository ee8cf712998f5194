//! Reads `/proc`: what processes there are, and what they are.
//!
//! A pid alone names nothing, since the kernel uses it again; a pid with its start time does. All
//! of these answer `None` or nothing for a process that is gone: that is not an error here.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::spec::{Io, Usage};

/// The interesting part of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// One of R, S, D, Z, T, …
    pub(crate) state: u8,
    pub(crate) pgrp: u32,
    pub(crate) session: u32,
    /// In clock ticks, user and system together.
    pub(crate) cpu_ticks: u64,
    /// The same of the processes that it has waited for, and those that these had.
    pub(crate) waited_cpu_ticks: u64,
    pub(crate) threads: u32,
    /// In clock ticks after boot.
    pub(crate) start_time: u64,
}

/// What `/proc/PID/stat` says.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name stands in parentheses and may itself hold any byte, also ')'.
    let after_name = memchr::memrchr(b')', text)?;
    let rest = str::from_utf8(text.get(after_name + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        pgrp: u32::try_from(number(2)?).ok()?,
        session: u32::try_from(number(3)?).ok()?,
        cpu_ticks: number(11)? + number(12)?,
        waited_cpu_ticks: number(13)? + number(14)?,
        threads: u32::try_from(number(17)?).ok()?,
        start_time: number(19)?,
    })
}

/// All processes that are not dead.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether the process was given exactly this `NAME=value` when it started.
pub(crate) fn was_given(pid: u32, assignment: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environment
        .split(|b| *b == 0)
        .any(|entry| entry == assignment.as_bytes())
}

/// The id of this boot; empty where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The command line, for people.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes
        .split(|b| *b == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    let mut text = words.join(" ");
    if text.chars().count() > 80 {
        text = text.chars().take(79).chain(['…']).collect();
    }
    text
}

/// Which processes are in which session. To look through all is not cheap, so it is done once a second at most.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Option<Seen>>);

/// When it was looked, and the processes of each session.
type Seen = (Instant, HashMap<u32, Vec<u32>>);

impl Sessions {
    /// The processes of the session that `leader` has begun; itself at least.
    pub(crate) fn of(&self, leader: u32, now: Instant) -> Vec<u32> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |at: Instant| now.saturating_duration_since(at) >= Duration::from_secs(1);
        if known.as_ref().is_none_or(|(at, _)| is_old(*at)) {
            *known = Some((now, sessions()));
        }
        let found = known.as_ref().and_then(|(_, all)| all.get(&leader));
        let found = found.filter(|pids| pids.contains(&leader));
        found.cloned().unwrap_or_else(|| vec![leader])
    }
}

fn sessions() -> HashMap<u32, Vec<u32>> {
    let mut all: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some(stat) = stat(pid) {
            all.entry(stat.session).or_default().push(pid);
        }
    }
    all
}

/// What processes of the session that `leader` has begun use together, with those that they have waited for; None if
/// none of them is there. A pid that is another's by now does not count.
pub(crate) fn usage(leader: u32, pids: &[u32]) -> Option<Usage> {
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let (mut all, mut own) = (None, Vec::new());
    for pid in pids {
        let stat = stat(*pid).filter(|stat| stat.session == leader);
        let Some((stat, memory)) = stat.zip(resident(*pid)) else {
            continue;
        };
        own.push(*pid);
        let usage = all.get_or_insert_with(Usage::default);
        usage.cpu_ns += (stat.cpu_ticks + stat.waited_cpu_ticks) * tick_ns;
        usage.memory += memory;
        usage.pids += stat.threads;
    }
    let io = io(&own);
    all.map(|usage| Usage { io, ..usage })
}

/// Bytes of a process that are in memory.
fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// What processes, and those that they have waited for, read from disks and wrote to them; None where
/// none of them may be asked.
pub(crate) fn io(pids: &[u32]) -> Option<Io> {
    let each = pids.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        parse_io(&text)
    });
    each.reduce(|all, own| Io {
        read: all.read + own.read,
        written: all.written + own.written,
    })
}

fn parse_io(text: &str) -> Option<Io> {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.trim().parse().ok()
    };
    Some(Io {
        read: number("read_bytes")?,
        written: number("write_bytes")?,
    })
}

/// The inodes of the sockets that a process has open.
pub(crate) fn socket_inodes(pid: u32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            let inner = target.to_str()?.strip_prefix("socket:[")?;
            inner.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// The number of a file or folder; for a cgroup this is its id.
pub(crate) fn inode(path: &std::path::Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse() {
        let line = b"42 (a) b (c) S 1 40 39 0 -1 4194560 1 2 3 4 70 30 2 3 20 0 5 0 12345 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.pgrp, stat.session), (b'S', 40, 39));
        assert_eq!((stat.cpu_ticks, stat.threads), (100, 5));
        assert_eq!(stat.waited_cpu_ticks, 5);
        assert_eq!(stat.start_time, 12_345);
        assert_eq!(parse_stat(b"42 (torn"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn bytes_of_disks_are_read_as_the_kernel_writes_them() {
        // Linux 6.18.
        let text = "rchar: 434508\nwchar: 409700\nsyscr: 138\nsyscw: 104\n\
                    read_bytes: 118784\nwrite_bytes: 421888\ncancelled_write_bytes: 0\n";
        let io = parse_io(text).unwrap();
        assert_eq!((io.read, io.written), (118_784, 421_888));
        assert_eq!(parse_io("rchar: 1\nread_bytes: x\n"), None);
        assert_eq!(parse_io(""), None);
    }

    #[test]
    fn this_process_is_found() {
        let me = std::process::id();
        assert!(pids().contains(&me));
        assert!(stat(me).is_some());
        let session = stat(me).unwrap().session;
        assert!(usage(session, &[me]).unwrap().memory > 100_000);
        assert_eq!(usage(session, &[]), None);
        assert_eq!(usage(session + 1, &[me]), None, "it is of another session");
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn a_session_counts_all_its_processes_the_dead_ones_too() {
        // A child that works and ends, one that stays; then it says so.
        let script = "(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done); sleep 600 & echo; wait";
        let mut child = Command::new("setsid")
            .args(["sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let leader = child.id();
        let mut told = [0];
        child.stdout.take().unwrap().read_exact(&mut told).unwrap();
        let (sessions, now) = (Sessions::default(), atoll_base::clock::monotonic());
        let pids = sessions.of(leader, now);
        let own = usage(leader, &[leader]).unwrap();
        let all = usage(leader, &pids).unwrap();
        let main = stat(leader).unwrap();
        for pid in &pids {
            crate::kill::kill_if(*pid, |pid| {
                stat(pid).is_some_and(|own| own.session == leader)
            });
        }
        child.wait().unwrap();
        assert_eq!(pids.len(), 2, "{pids:?}");
        assert!(all.memory > own.memory && all.pids == 2, "{all:?} {own:?}");
        // It took a good part of a second; a tick is a hundredth.
        assert!(main.waited_cpu_ticks > main.cpu_ticks, "{main:?}");
        assert!(all.cpu_ns >= main.waited_cpu_ticks * 10_000_000, "{all:?}");
        // What was seen a moment ago is not looked for again.
        let moment = now + Duration::from_millis(999);
        assert_eq!(sessions.of(leader, moment), pids);
        assert_eq!(sessions.of(leader, now + Duration::from_secs(1)), [leader]);
    }
}
