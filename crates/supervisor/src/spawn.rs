//! Starts processes, on threads of its own.
//!
//! A child dies with the *thread* that forked it (PR_SET_PDEATHSIG), so that nothing may be forked
//! on a thread that a runtime can retire. A few long-lived threads do it: more than one, because
//! entering cgroups and mount namespaces makes the kernel wait, and twenty services that start
//! together should not queue behind each other for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::child::{REPORT_LENGTH, Setup, Step, file_limit};
use crate::error::Error;
use crate::process::Unwatched;
use crate::program::resolve_program;
use crate::sandbox::{Cover, c_string};
use crate::service::lock;
use crate::spec::{Sandbox, User};
use crate::{output, sys};

/// How many threads start processes.
const THREADS: usize = 4;
/// How many orders may wait before who orders has to.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The threads that start processes. They end, and what they started dies, when it is dropped.
#[derive(Debug)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

/// What is to be started.
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a [String],
    pub(crate) dir: &'a Path,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) sandbox: Option<&'a Sandbox>,
    pub(crate) user: Option<User>,
    pub(crate) doors: Vec<File>,
    pub(crate) data_limit: Option<u64>,
}

/// What was started. Nobody watches it yet; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Unwatched,
    /// When it was forked.
    pub(crate) started: Instant,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// The step of the sandbox that failed: the process sees all files.
    pub(crate) sandbox_refused: Option<(&'static str, io::Error)>,
}

/// Why nothing was started.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The kernel did not let it into its cgroup; without one it may work.
    Cgroup(io::Error),
    /// Anything else.
    Other(Error),
}

impl Spawner {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..THREADS {
            let queue = queue.clone();
            thread::Builder::new()
                .name(format!("spawner-{number}"))
                .spawn(move || {
                    loop {
                        let job = lock(&queue).blocking_recv();
                        match job {
                            Some(job) => perform(job),
                            None => return,
                        }
                    }
                })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody waits any more only when the node is being torn down.
            let _ = answer.send(job());
        });
        self.jobs.send(job).await.map_err(|_| Error::ShuttingDown)?;
        // The threads live as long as this; only a panic drops a job.
        result.await.map_err(|_| Error::Spawn {
            program: "atoll".to_owned(),
            step: "preparing it",
            source: io::Error::other("a thread that starts processes panicked"),
        })
    }
}

/// Performs a job. A panic in it must not end the thread: all that it ever started would die.
fn perform(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("starting a process panicked; it counts as not started");
    }
}

impl Refusal {
    /// As an error, when there is no second try.
    pub(crate) fn into_error(self, command: &[String]) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Cgroup(source) => Error::Spawn {
                program: command.first().cloned().unwrap_or_default(),
                step: Step::Cgroup.name(),
                source,
            },
        }
    }
}

/// Starts a process on the calling thread, with which it dies. Blocks until its program runs.
pub(crate) fn launch(launch: Launch<'_>) -> Result<Launched, Refusal> {
    let path_env = launch.env.get(std::ffi::OsStr::new("PATH"));
    let path_env = path_env
        .map(|path| path.to_string_lossy())
        .unwrap_or_default();
    let program = resolve_program(launch.command, launch.dir, &path_env).map_err(Refusal::Other)?;
    let failed = |step, source| {
        Refusal::Other(Error::Spawn {
            program: program.display().to_string(),
            step,
            source,
        })
    };
    let pipe = || output::pipe().map_err(|error| failed("making pipes", error.into()));
    let ((stdout, to_stdout), (stderr, to_stderr), (reports, report)) = (pipe()?, pipe()?, pipe()?);
    let (sandbox, unprepared) = match launch.sandbox.map(Cover::prepare) {
        None => (None, None),
        Some(Ok(cover)) => (Some(cover), None),
        Some(Err(error)) => (None, Some(("preparing the sandbox", error))),
    };
    let setup = Setup {
        parent: rustix::process::getpid(),
        doors: launch.doors,
        data_limit: launch.data_limit,
        file_limit: file_limit(),
        sandbox,
        dir: c_string(launch.dir.as_os_str()).map_err(|error| failed("preparing", error))?,
        user: launch.user,
        report,
    };
    let mut command = Command::new(&program);
    command
        .args(launch.command.iter().skip(1))
        .env_clear()
        .envs(&launch.env)
        .stdin(Stdio::null())
        .stdout(to_stdout)
        .stderr(to_stderr);
    let started = atoll_base::clock::monotonic();
    let spawned = sys::spawn(command, setup);
    let mut steps = read_reports(&reports);
    match spawned {
        Ok(child) => Ok(Launched {
            child: Unwatched::new(child),
            started,
            stdout,
            stderr,
            sandbox_refused: unprepared.or_else(|| {
                let (step, error) = steps.pop()?;
                Some((step.name(), error))
            }),
        }),
        Err(error) => Err(match steps.pop() {
            Some((Step::Cgroup, error)) => Refusal::Cgroup(error),
            Some((step, error)) if !step.is_of_sandbox() => failed(step.name(), error),
            _ => failed("running the program", error),
        }),
    }
}

/// The folder as an absolute path; relative ones are relative to where Atoll runs.
pub(crate) fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// What the child told before its program ran. It is all there by now; others that are just being
/// forked may hold the pipe open for a moment, so its end is not waited for.
fn read_reports(pipe: &OwnedFd) -> Vec<(Step, io::Error)> {
    let mut all = Vec::new();
    let mut report = [0; REPORT_LENGTH];
    while let Ok(REPORT_LENGTH) = rustix::io::read(pipe, &mut report) {
        all.extend(Step::parse(report));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let spawner = Spawner::start().unwrap();
        for _ in 0..2 * THREADS {
            let result = spawner.run(|| panic!("on purpose")).await;
            assert!(matches!(result, Err::<(), _>(Error::Spawn { .. })));
        }
        assert_eq!(spawner.run(|| 7).await.unwrap(), 7);
    }
}
