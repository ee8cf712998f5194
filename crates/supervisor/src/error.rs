//! What a caller or an operator can tell apart when an instance cannot be started or kept.
//!
//! Failures to begin are [`Error`]s. Failures of a process that did begin are events, not errors;
//! those that an operator acts on have a code too, given here as constants.

use std::io;
use std::path::PathBuf;

use atoll_base::{Code, Coded};

/// The code of an instance that did not become ready in time.
pub const NEVER_READY: Code = Code("ATL0210");
/// The code of an instance that ends again and again soon after its start.
pub const CRASH_LOOP: Code = Code("ATL0211");
/// The code of an instance that the kernel killed because it used more memory than it may.
pub const OUT_OF_MEMORY: Code = Code("ATL0212");
/// The code of an instance that was ready, stopped answering its checks, and was restarted.
pub const UNHEALTHY: Code = Code("ATL0213");

/// Why something could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error("program '{program}' not found; looked in {}", list(looked_in))]
    ProgramNotFound {
        /// The first word of the command.
        program: String,
        /// The files or folders where it could have been.
        looked_in: Vec<PathBuf>,
    },
    /// The program is there but may not be run: no execute permission, or a folder.
    #[error("program '{}' is not executable", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// A script's first line names an interpreter that is not there.
    #[error("'{}' needs the interpreter '{interpreter}' of its first line, which is not there", script.display())]
    InterpreterNotFound {
        /// The script.
        script: PathBuf,
        /// What follows `#!`.
        interpreter: String,
    },
    /// The folder to run in is not there.
    #[error("folder '{}' to run in is not there", dir.display())]
    DirMissing {
        /// The folder.
        dir: PathBuf,
    },
    /// The command has no words, or a word or variable holds a zero byte.
    #[error("command cannot be run: {what}")]
    BadCommand {
        /// What is wrong with it.
        what: String,
    },
    /// The kernel refused one step of starting the process.
    #[error("cannot start '{program}': {step} failed")]
    Spawn {
        /// The program.
        program: String,
        /// The step, in words.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No port from 20000 to 31999 is free on the loopback address.
    #[error("no free port on 127.0.0.1 from 20000 to 31999")]
    NoFreePort,
    /// The port that the instance must have belongs to somebody else.
    #[error(
        "port {port}, which its users know it by, is taken by {holder}; it starts when the port is free"
    )]
    PortTaken {
        /// The port, on the loopback address.
        port: u16,
        /// Who listens there, with the pid if that can be seen.
        holder: String,
    },
    /// The folder for records cannot be read or written.
    #[error("cannot use '{}' for the records of running processes", path.display())]
    RunDir {
        /// The folder or file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Processes of an earlier run could not be ended.
    #[error("{count} processes of an earlier run do not end, among them {example}")]
    CannotEnd {
        /// How many.
        count: usize,
        /// One of them, with its pid.
        example: String,
    },
    /// The supervisor is shutting down.
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code(match self {
            Self::ProgramNotFound { .. } => "ATL0201",
            Self::NotExecutable { .. } => "ATL0202",
            Self::InterpreterNotFound { .. } => "ATL0203",
            Self::DirMissing { .. } => "ATL0204",
            Self::BadCommand { .. } => "ATL0205",
            Self::Spawn { .. } | Self::ShuttingDown => "ATL0206",
            Self::NoFreePort => "ATL0207",
            Self::PortTaken { .. } => "ATL0214",
            Self::RunDir { .. } => "ATL0208",
            Self::CannotEnd { .. } => "ATL0209",
        })
    }
}

/// The code of the warning that limits are not enforced by cgroups.
pub(crate) const NO_CGROUPS: Code = Code("ATL0220");
/// The code of the warning that files are not hidden.
pub(crate) const NO_SANDBOX: Code = Code("ATL0221");
/// The code of the warning that processes do not end though killed.
pub(crate) const WILL_NOT_END: Code = Code("ATL0222");

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "nothing: PATH is empty".to_owned();
    }
    let texts: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    texts.join(", ")
}
