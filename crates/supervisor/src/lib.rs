//! Runs each instance of a service as a process of its own, and knows the truth about it.
//!
//! **The life of an instance.** [`Handle::start`] gives it a task. The task finds a free port and
//! asks a spawner thread for a process, which begins in its own session, its own cgroup and its own
//! view of the files. Probes ask it until it answers: it is *ready*. From then on they ask it from
//! time to time. When it ends, or stops answering, it is started again after a pause that grows.
//! [`Handle::stop`] asks it to leave, waits, then kills whatever is left of it, and completes only
//! when nothing is.
//!
//! **Who decides.** `lifecycle` is the pure machine of that life: no clock, no
//! process, no randomness. The task in `instance` performs what it decides. What happened is told
//! to an [`Observer`], synchronously, so that the proxy can take an endpoint out before anything
//! else is done. What the process prints goes as lines to an [`OutputSink`].
//!
//! **What is absent.** No containers, no Kubernetes, no other system than Linux (5.4 or later, for
//! pid file descriptors; the sandbox needs 5.12). No image of a root file system: the sandbox hides what a
//! service must not see of its node, and does not pretend to confine hostile code.

mod cgroup;
mod child;
mod config;
mod environment;
mod error;
mod event;
mod explain;
mod health;
mod instance;
mod kill;
mod lifecycle;
mod output;
mod port;
mod proc;
mod process;
mod program;
mod record;
mod recover;
mod run;
mod sandbox;
mod service;
mod spawn;
mod spec;
mod sys;

pub use config::{Check, Health, Resources};
pub use error::{CRASH_LOOP, Error, NEVER_READY, OUT_OF_MEMORY, UNHEALTHY};
pub use event::{Event, ExitReason, Observer, OutputLine, OutputSink, Printed, Room, Stream};
pub use program::resolve_program;
pub use recover::{Recovered, recover};
pub use run::{Run, run_to_end};
pub use service::{Config, Handle};
pub use spec::{InstanceSpec, Io, Sandbox, State, Status, Throttled, Usage, User};
