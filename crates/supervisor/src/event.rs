//! What the supervisor tells others: events of instances, and what they print.
//!
//! Both traits are called synchronously, on the task that saw it happen. A channel would let the
//! proxy send a request to an endpoint that the supervisor knows to be dead.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ByteCount, Code, InstanceId, Timestamp};
use serde::Serialize;

use crate::error::Error;

/// Something that happened to an instance. An endpoint may serve from `Ready` until the next
/// `Unready`, `Leaving`, `Exited` or `Stopped` of the same instance.
#[derive(Debug, Clone)]
pub enum Event {
    /// A process was started.
    Started {
        /// The instance.
        id: InstanceId,
        /// Its main process.
        pid: u32,
        /// Where it is expected to listen.
        addr: SocketAddr,
        /// The number of its cgroup in the unified tree; none without such a tree.
        cgroup: Option<u64>,
    },
    /// It answers its check.
    Ready {
        /// The instance.
        id: InstanceId,
        /// Where it listens.
        addr: SocketAddr,
        /// How long that took from the start of the process.
        after: Duration,
    },
    /// It was ready and must not be used any more: checks failed.
    Unready {
        /// The instance.
        id: InstanceId,
        /// Why.
        reason: String,
    },
    /// It was ready and must not be used any more: it was asked to leave.
    Leaving {
        /// The instance.
        id: InstanceId,
    },
    /// Its main process ended.
    Exited {
        /// The instance.
        id: InstanceId,
        /// How.
        reason: ExitReason,
        /// The last lines that it printed.
        last_lines: Vec<String>,
    },
    /// It will be started again after a pause.
    BackingOff {
        /// The instance.
        id: InstanceId,
        /// The pause.
        delay: Duration,
        /// The number of the attempt to come, counted since it last ran well; 1 is the first
        /// restart.
        attempt: u32,
        /// Whether it ended so often that it is held to be in a crash loop.
        crash_loop: bool,
    },
    /// It did not become ready in time and is being ended.
    NeverReady {
        /// The instance.
        id: InstanceId,
        /// What was found out about the cause.
        explanation: String,
        /// The last lines that it printed.
        last_lines: Vec<String>,
    },
    /// It is gone, with all its processes, and is not started again.
    Stopped {
        /// The instance.
        id: InstanceId,
    },
    /// No process could be started.
    SpawnFailed {
        /// The instance.
        id: InstanceId,
        /// Why.
        error: Arc<Error>,
    },
    /// Something is not as it should be, for the operator of the node; told once.
    Warning {
        /// The page that tells more.
        code: Code,
        /// What.
        message: String,
    },
}

/// How a process ended. Displayed as a sentence without its subject: "exited with code 3 after
/// 120ms".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExitReason {
    /// It ended by itself.
    Code {
        /// Its exit code.
        code: i32,
        /// How long it ran, in whole milliseconds.
        after: Duration,
    },
    /// A signal ended it that the supervisor did not send.
    Signal {
        /// The signal's number.
        signal: i32,
        /// How long it ran.
        after: Duration,
    },
    /// It ended because the supervisor asked it to.
    Asked,
    /// It did not leave when asked, and was killed.
    Killed {
        /// How long it was given to leave.
        waited: Duration,
    },
    /// The kernel killed it because it used more memory than it may.
    OutOfMemory {
        /// The limit; None when it had none and the machine ran out.
        limit: Option<ByteCount>,
    },
}

/// Is told what happens. Called synchronously: must be quick and must not block.
pub trait Observer: Send + Sync + 'static {
    /// Takes notice of `event`.
    fn event(&self, event: Event);
}

/// Which of its two outputs a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Lines that an instance printed and that were read at once: their texts are one piece of memory.
#[derive(Debug)]
pub struct Printed {
    /// The instance.
    pub instance: InstanceId,
    /// Where it printed them.
    pub stream: Stream,
    /// When they were read.
    pub time: Timestamp,
    /// One text after the other.
    texts: String,
    /// Where each ends, and whether its line goes on.
    ends: Vec<(usize, bool)>,
}

/// A line that an instance printed, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLine<'a> {
    /// The text, at most 16 KiB; what is no UTF-8 is replaced with U+FFFD.
    pub text: &'a str,
    /// Whether the line goes on in the next one of this stream, because it is longer than 16 KiB.
    pub continued: bool,
}

/// Completes when there is room for lines, or when it was waited for long enough.
pub type Room<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Takes what instances print.
pub trait OutputSink: Send + Sync + 'static {
    /// Takes lines; there is one at least. Called synchronously: must not block, and should drop rather than
    /// wait.
    fn lines(&self, printed: Printed);

    /// None if more can be taken now. Until what is answered completes, pipes are not read, and who
    /// prints more than they hold waits. Default: there is always room.
    fn room(&self) -> Option<Room<'_>> {
        None
    }
}

impl Printed {
    /// Nothing yet, with room for so many bytes.
    pub(crate) fn new(instance: InstanceId, stream: Stream, time: Timestamp, bytes: usize) -> Self {
        Self {
            instance,
            stream,
            time,
            texts: String::with_capacity(bytes),
            ends: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, text: &str, continued: bool) {
        self.texts.push_str(text);
        self.ends.push((self.texts.len(), continued));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes that their texts take in memory.
    pub fn bytes(&self) -> usize {
        self.texts.capacity()
    }

    /// The lines, as they were printed.
    pub fn lines(&self) -> impl Iterator<Item = OutputLine<'_>> {
        let mut from = 0;
        self.ends.iter().map(move |&(end, continued)| {
            let text = &self.texts[from..end];
            from = end;
            OutputLine { text, continued }
        })
    }
}

impl ExitReason {
    /// The code of the page that tells more, where there is one.
    pub fn code(&self) -> Option<Code> {
        matches!(self, Self::OutOfMemory { .. }).then_some(crate::error::OUT_OF_MEMORY)
    }

    /// Whether it ended in order: by itself with code 0, or as asked.
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::Code { code: 0, .. } | Self::Asked)
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code, after } => {
                write!(f, "exited with code {code} after {}", Rough(*after))
            }
            Self::Signal { signal, after } => {
                write!(
                    f,
                    "killed by {} after {}",
                    SignalName(*signal),
                    Rough(*after)
                )
            }
            Self::Asked => f.write_str("left when asked"),
            Self::Killed { waited } => {
                write!(
                    f,
                    "killed: did not leave within {} of SIGTERM",
                    Rough(*waited)
                )
            }
            Self::OutOfMemory { limit: Some(limit) } => {
                write!(
                    f,
                    "killed by the kernel: used more than its memory limit of {limit}"
                )
            }
            Self::OutOfMemory { limit: None } => {
                f.write_str("killed by the kernel: the machine ran out of memory")
            }
        }
    }
}

/// A duration as people say it: `120ms`, `3.4s`, `5m 10s`, `26h`.
pub(crate) struct Rough(pub(crate) Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let secs = self.0.as_secs();
        match secs {
            0 => write!(f, "{millis}ms"),
            1..60 if millis.is_multiple_of(1000) => write!(f, "{secs}s"),
            1..60 => write!(f, "{secs}.{}s", (millis % 1000) / 100),
            60..3600 => write!(f, "{}m {}s", secs / 60, secs % 60),
            _ => write!(f, "{}h", secs / 3600),
        }
    }
}

struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::SIGHUP => "SIGHUP",
            libc::SIGINT => "SIGINT",
            libc::SIGQUIT => "SIGQUIT",
            libc::SIGILL => "SIGILL",
            libc::SIGTRAP => "SIGTRAP",
            libc::SIGABRT => "SIGABRT",
            libc::SIGBUS => "SIGBUS",
            libc::SIGFPE => "SIGFPE",
            libc::SIGKILL => "SIGKILL",
            libc::SIGUSR1 => "SIGUSR1",
            libc::SIGSEGV => "SIGSEGV",
            libc::SIGUSR2 => "SIGUSR2",
            libc::SIGPIPE => "SIGPIPE",
            libc::SIGALRM => "SIGALRM",
            libc::SIGTERM => "SIGTERM",
            libc::SIGXCPU => "SIGXCPU",
            libc::SIGXFSZ => "SIGXFSZ",
            libc::SIGSYS => "SIGSYS",
            other => return write!(f, "signal {other}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_reasons_read_as_sentences() {
        let after = Duration::from_millis(120);
        let code = ExitReason::Code { code: 3, after };
        assert_eq!(code.to_string(), "exited with code 3 after 120ms");
        let after = Duration::from_millis(61_500);
        let signal = ExitReason::Signal { signal: 11, after };
        assert_eq!(signal.to_string(), "killed by SIGSEGV after 1m 1s");
        let limit = Some(ByteCount::mib(256));
        assert_eq!(
            ExitReason::OutOfMemory { limit }.to_string(),
            "killed by the kernel: used more than its memory limit of 256MiB"
        );
        let waited = Duration::from_millis(1500);
        assert_eq!(
            ExitReason::Killed { waited }.to_string(),
            "killed: did not leave within 1.5s of SIGTERM"
        );
    }
}
