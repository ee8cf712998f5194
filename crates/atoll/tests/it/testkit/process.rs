//! Processes: running one to its end, finding those of a node, killing one by its id.
//!
//! Output goes to files and not to pipes: a process that a command leaves behind may keep a pipe
//! open for ever, and then its reader would never come to an end.

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use atoll_base::clock;
use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// Longer than any command takes that comes to an end at all.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; 128 and the signal's number if one ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    command: String,
}

impl Said {
    /// It ended with this code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// It did what it was asked.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        self.ended(0)
    }

    /// Its data, parsed.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            out,
            err,
            command,
        } = self;
        write!(
            f,
            "{command}: exit code {code}\n--- stdout\n{out}\n--- stderr\n{err}\n---"
        )
    }
}

/// `program` in an environment that is the same on every machine.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .env_clear()
        .env("PATH", search_path())
        .env(
            "HOME",
            std::env::var_os("HOME").unwrap_or_else(|| "/".into()),
        )
        .env("USER", "root")
        .env("SUDO_USER", "tester")
        .env("LANG", "C.UTF-8")
        .env("COLUMNS", "100")
        .env("SECRET_OF_PARENT", "1")
        .stdin(Stdio::null());
    // Where the tools of Rust are, if not in the home.
    for name in ["CARGO_HOME", "RUSTUP_HOME"] {
        command.envs(std::env::var_os(name).map(|place| (name, place)));
    }
    command
}

/// Runs to the end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Said {
    let mut out = tempfile::tempfile().unwrap();
    let mut err = tempfile::tempfile().unwrap();
    command
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap());
    let shown = format!("{command:?}");
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let deadline = clock::monotonic() + COMMAND_TIMEOUT;
    let mut is_late = false;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if clock::monotonic() > deadline {
            is_late = true;
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let read = |file: &mut fs::File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let said = Said {
        code: code_of(status),
        out: read(&mut out),
        err: read(&mut err),
        command: shown,
    };
    assert!(!is_late, "did not end: {said}");
    said
}

pub(crate) fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// SIGKILL and the like, to one process.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended by itself.
    let _ = kill_process(pid, signal);
}

/// SIGSTOP to one process. When this returns it does nothing any more: the signal itself comes back
/// before all threads have heard of it.
#[track_caller]
pub(crate) fn freeze(pid: u32) {
    kill(pid, Signal::STOP);
    until("the process to stand still", || {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state comes after the name, which may hold anything.
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    });
}

/// The live processes, with their command lines, that were given `NAME=value` in their environment.
pub(crate) fn given(mark: &str) -> Vec<(u32, String)> {
    let has = |pid: u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ
            .split(|byte| *byte == 0)
            .any(|pair| pair == mark.as_bytes())
    };
    pids()
        .filter(|pid| has(*pid))
        .map(|pid| (pid, command_line(pid)))
        .collect()
}

/// The live processes whose command line has all of these words.
pub(crate) fn called(words: &[&str]) -> Vec<(u32, String)> {
    let all = pids().map(|pid| (pid, command_line(pid)));
    all.filter(|(_, line)| words.iter().all(|word| line.split(' ').any(|w| w == *word)))
        .collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let names = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok())
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// The search path, with the folder of the real Python in front: `python3` may be a shell script
/// that looks for it, which takes longer than everything that a test does with it.
fn search_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let own = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        let question = [
            "-c",
            "import os, sys; print(os.path.dirname(sys.executable))",
        ];
        let asked = Command::new("python3").args(question).output();
        let folder = asked.expect("the tests need python3").stdout;
        format!("{}:{own}", String::from_utf8_lossy(&folder).trim())
    })
}
