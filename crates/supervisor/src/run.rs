//! Runs a command to its end: builds, migrations, hooks.
//!
//! It has a session and a process group of its own; cancelled or dropped, the whole group is
//! killed. What leaves the group on purpose (the daemons of build tools, which live on to be quick
//! the next time) is let go. There is no cgroup: a build is the developer's own work, with the
//! developer's own limits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use atoll_base::clock;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::environment;
use crate::error::Error;
use crate::event::{ExitReason, Stream};
use crate::output::{Lines, Read, read};
use crate::process::{Ended, Process};
use crate::spawn::{self, Launch, Launched, Refusal};
use crate::spec::User;
use crate::sys::watch;

/// How long output is read after the command ended, when somebody holds the pipe open.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// How much is read before others have their turn.
const BUDGET: usize = 1 << 20;

/// A command to be run to its end.
#[derive(Debug, Clone)]
pub struct Run {
    /// Program and arguments; found as in [`crate::InstanceSpec::command`].
    pub command: Vec<String>,
    /// The folder to run in.
    pub dir: PathBuf,
    /// Its environment, beside the few variables that it has from Atoll's own.
    pub env: Vec<(String, String)>,
    /// Run as another user; only root can.
    pub user: Option<User>,
}

/// Runs a command and completes when it has ended and its output was read. `on_line` is called for
/// each line, with whether it goes on in the next one (lines are cut at 16 KiB). `cancel` kills the
/// whole group, and the reason is then `Asked`. Dropping the future kills it too.
///
/// # Errors
/// When the command cannot be started, as for an instance.
pub async fn run_to_end(
    run: Run,
    mut on_line: impl FnMut(Stream, &str, bool) + Send,
    cancel: &CancellationToken,
) -> Result<ExitReason, Error> {
    let program = run.command.first().cloned().unwrap_or_default();
    let failed = |source| Error::Spawn {
        program: program.clone(),
        step: "watching it",
        source,
    };
    // Declared first, dropped last: the thread, and with it the process, lives until the end.
    let (_release, launched) = launch(run).await?;
    let mut process = Process::adopt(launched.child, launched.started).map_err(&failed)?;
    let mut stdout = Pipe::new(watch(launched.stdout).map_err(&failed)?, Stream::Stdout);
    let mut stderr = Pipe::new(watch(launched.stderr).map_err(&failed)?, Stream::Stderr);
    let mut cancelled = false;
    let ended = loop {
        tokio::select! {
            ended = process.ended() => break ended,
            () = cancel.cancelled(), if !cancelled => {
                cancelled = true;
                process.signal_group(Signal::KILL);
            }
            () = stdout.readable() => stdout.take(&mut on_line),
            () = stderr.readable() => stderr.take(&mut on_line),
        }
    };
    let after = clock::monotonic().saturating_duration_since(process.started());
    let after = Duration::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    process.signal_group(Signal::KILL);
    process.reap();
    let drained = async {
        while stdout.open || stderr.open {
            tokio::select! {
                () = stdout.readable() => stdout.take(&mut on_line),
                () = stderr.readable() => stderr.take(&mut on_line),
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
    stdout.finish(&mut on_line);
    stderr.finish(&mut on_line);
    Ok(match ended {
        _ if cancelled => ExitReason::Asked,
        Ended::Code(code) => ExitReason::Code { code, after },
        Ended::Signal(signal) => ExitReason::Signal { signal, after },
    })
}

/// Starts the command on a thread that lives until the sender is dropped: see `spawn`.
async fn launch(run: Run) -> Result<(oneshot::Sender<()>, Launched), Error> {
    let command = run.command.clone();
    let (release, released) = oneshot::channel::<()>();
    let (answer, launched) = oneshot::channel();
    std::thread::Builder::new()
        .name("run".to_owned())
        .spawn(move || {
            if answer.send(launch_here(&run)).is_ok() {
                // An error is the usual case: the sender was dropped.
                let _ = released.blocking_recv();
            }
        })
        .map_err(|source| Error::Spawn {
            program: command.first().cloned().unwrap_or_default(),
            step: "starting a thread",
            source,
        })?;
    let launched = launched.await.map_err(|_| Error::ShuttingDown)?;
    Ok((
        release,
        launched.map_err(|refusal| refusal.into_error(&command))?,
    ))
}

fn launch_here(run: &Run) -> Result<Launched, Refusal> {
    let env: BTreeMap<OsString, OsString> = environment::build(std::env::vars_os(), &run.env, &[]);
    spawn::launch(Launch {
        command: &run.command,
        dir: &spawn::absolute(&run.dir),
        env,
        sandbox: None,
        user: run.user,
        doors: Vec::new(),
        data_limit: None,
    })
}

/// One of the two outputs of a command.
struct Pipe {
    fd: AsyncFd<OwnedFd>,
    lines: Lines,
    stream: Stream,
    open: bool,
}

impl Pipe {
    fn new(fd: AsyncFd<OwnedFd>, stream: Stream) -> Self {
        Self {
            fd,
            lines: Lines::default(),
            stream,
            open: true,
        }
    }

    /// Completes when something can be read; never again after the end.
    async fn readable(&self) {
        if !self.open || self.fd.readable().await.is_err() {
            std::future::pending().await
        }
    }

    fn take(&mut self, on_line: &mut impl FnMut(Stream, &str, bool)) {
        let stream = self.stream;
        let mut on_line = |text: &str, continued| on_line(stream, text, continued);
        let lines = &mut self.lines;
        let outcome = self.fd.try_io(Interest::READABLE, |pipe| {
            match read(pipe, lines, BUDGET, &mut on_line) {
                // The runtime is to wait for more.
                Read::Empty => Err(io::ErrorKind::WouldBlock.into()),
                other => Ok(other),
            }
        });
        if matches!(outcome, Ok(Read::End)) {
            self.open = false;
        }
    }

    fn finish(&mut self, on_line: &mut impl FnMut(Stream, &str, bool)) {
        let stream = self.stream;
        self.lines
            .finish(&mut |text: &str, continued| on_line(stream, text, continued));
    }
}
