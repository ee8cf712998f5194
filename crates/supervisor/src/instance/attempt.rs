//! One attempt to run an instance: from the order to the running process with its pipes and checks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::cgroup::Group;
use crate::environment;
use crate::error::{Error, NO_CGROUPS};
use crate::event::Stream;
use crate::explain::holder;
use crate::health::Prober;
use crate::output::Tail;
use crate::output::reader::{Reader, Source};
use crate::port::{self, Lease};
use crate::process::Process;
use crate::record::RecordedProcess;
use crate::service::Shared;
use crate::spawn::{self, Launch, Launched, Refusal};
use crate::spec::InstanceSpec;

/// What a spawner thread is asked to do.
pub(super) struct Order {
    pub(super) spec: Arc<InstanceSpec>,
    pub(super) shared: Arc<Shared>,
    /// The cgroup of earlier attempts.
    pub(super) group: Option<Arc<Group>>,
}

/// What it did.
pub(super) struct Outcome {
    /// The cgroup, which is there also when nothing was started.
    pub(super) group: Option<Arc<Group>>,
    pub(super) result: Result<Raw, Error>,
}

/// A process that nobody watches yet.
pub(super) struct Raw {
    launched: Launched,
    lease: Option<Lease>,
    port: u16,
    oom_kills_before: u64,
}

/// A process of the instance that runs.
pub(super) struct Attempt {
    pub(super) process: Process,
    pub(super) outputs: [Reader; 2],
    pub(super) prober: Prober,
    pub(super) addr: SocketAddr,
    pub(super) oom_kills_before: u64,
    pub(super) sandbox_refused: Option<(&'static str, io::Error)>,
    /// The port is nobody else's until the attempt is over.
    _lease: Option<Lease>,
}

impl Order {
    /// Starts the process. Blocks; runs on a spawner thread.
    pub(super) fn carry_out(self) -> Outcome {
        let mut group = self.group.clone().or_else(|| self.create_group());
        let result = self.start(&mut group);
        Outcome { group, result }
    }

    fn start(&self, group: &mut Option<Arc<Group>>) -> Result<Raw, Error> {
        let lease = match self.spec.port {
            Some(port) => {
                self.check_free(port)?;
                None
            }
            None => Some(self.take_port()?),
        };
        let port = lease.as_ref().map(Lease::port).or(self.spec.port);
        let port = port.ok_or(Error::NoFreePort)?;
        // Before the process is there: see `record`.
        self.record(None, group.as_deref())?;
        let oom_kills_before = group.as_ref().map_or(0, |group| group.oom_kills());
        let launched = match self.launch(port, group.as_deref()) {
            Err(Refusal::Cgroup(error)) => {
                self.warn(format!(
                    "the kernel does not let instances into their cgroups ({error}): limits are \
                     not enforced"
                ));
                if let Some(group) = group.take() {
                    let _ = group.remove();
                }
                self.launch(port, None)
            }
            other => other,
        };
        let launched = launched.map_err(|refusal| refusal.into_error(&self.spec.command))?;
        self.record(Some(launched.child.pid()), group.as_deref())?;
        Ok(Raw {
            launched,
            lease,
            port,
            oom_kills_before,
        })
    }

    fn take_port(&self) -> Result<Lease, Error> {
        let lease = self.shared.ports.take().map_err(|e| self.no_port(e))?;
        lease.ok_or(Error::NoFreePort)
    }

    /// A port that is given cannot be exchanged for another. If somebody else listens there, a check
    /// of the new process would find that one, and take it for ready.
    fn check_free(&self, port: u16) -> Result<(), Error> {
        if port::is_free(port).map_err(|e| self.no_port(e))? {
            return Ok(());
        }
        let holder = holder(port).unwrap_or_else(|| "a program of another user".to_owned());
        Err(Error::PortTaken { port, holder })
    }

    fn no_port(&self, source: io::Error) -> Error {
        Error::Spawn {
            program: self.spec.command.first().cloned().unwrap_or_default(),
            step: "looking for a free port",
            source,
        }
    }

    fn create_group(&self) -> Option<Arc<Group>> {
        let mut group = self.shared.tree.create(self.spec.id.as_str())?;
        if let Err(problem) = group.limit(&self.spec.resources) {
            let service = self.spec.id.service();
            self.warn(format!(
                "not all limits of {service} are enforced: {problem}"
            ));
        }
        Some(Arc::new(group))
    }

    fn launch(&self, port: u16, group: Option<&Group>) -> Result<Launched, Refusal> {
        let spec = &self.spec;
        let fixed = [
            ("HOST", Ipv4Addr::LOCALHOST.to_string()),
            ("PORT", port.to_string()),
            ("ATOLL_NODE", self.shared.node_id.clone()),
            ("ATOLL_INSTANCE", spec.id.to_string()),
        ];
        let limited = group.is_some_and(Group::limits_memory);
        let doors = match group {
            Some(group) => group.doors().map_err(Refusal::Cgroup)?,
            None => Vec::new(),
        };
        spawn::launch(Launch {
            command: &spec.command,
            dir: &spawn::absolute(&spec.dir),
            env: environment::build(std::env::vars_os(), &spec.env, &fixed),
            sandbox: spec.sandbox.as_ref(),
            user: spec.user,
            doors,
            // RLIMIT_AS would count what a runtime reserves and never touches; Node and the JVM
            // reserve many GiB. RLIMIT_DATA counts writable private memory, for each process.
            // RLIMIT_NPROC is not used: it counts all processes of the user, also those that have
            // nothing to do with Atoll.
            data_limit: spec
                .resources
                .memory
                .filter(|_| !limited)
                .map(|memory| memory.0),
        })
    }

    fn record(&self, pid: Option<u32>, group: Option<&Group>) -> Result<(), Error> {
        // It can have ended already; it was not reaped, so its entry in /proc is there.
        let process = pid.and_then(|pid| {
            let start_time = crate::proc::stat(pid)?.start_time;
            Some(RecordedProcess { pid, start_time })
        });
        let dirs = group.map(Group::dirs).unwrap_or_default();
        self.shared.records.write(&self.spec.id, dirs, process)
    }

    fn warn(&self, message: String) {
        self.shared.warn_once(NO_CGROUPS, message);
    }
}

impl Attempt {
    /// Takes charge of what was started.
    pub(super) fn begin(
        raw: Raw,
        spec: &InstanceSpec,
        shared: &Shared,
        tail: &Arc<Mutex<Tail>>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Spawn {
            program: spec.command.first().cloned().unwrap_or_default(),
            step: "watching it",
            source,
        };
        let Launched {
            child,
            started,
            stdout,
            stderr,
            sandbox_refused,
        } = raw.launched;
        let process = Process::adopt(child, started).map_err(failed)?;
        let read = |pipe, stream| {
            let source = Source {
                pipe: crate::sys::watch(pipe).map_err(failed)?,
                lines: Mutex::default(),
                tail: tail.clone(),
                sink: shared.output.clone(),
                instance: spec.id.clone(),
                stream,
            };
            Ok(Reader::start(source, &shared.tasks))
        };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, raw.port));
        Ok(Self {
            process,
            outputs: [read(stdout, Stream::Stdout)?, read(stderr, Stream::Stderr)?],
            prober: Prober::new(addr, spec.health.clone()),
            addr,
            oom_kills_before: raw.oom_kills_before,
            sandbox_refused,
            _lease: raw.lease,
        })
    }
}
