//! The task of one instance: it asks [`Lifecycle`] what to do, does it, and tells what happened.
//!
//! All state of the instance is here and nobody else touches it. Waiting happens in one place,
//! `next`; what is awaited elsewhere is short or bounded.
//!
//! **When the main process ends**: tell (with the last lines, read from the pipes there and then),
//! kill what is left of its group, reap it, kill what is left in the cgroup, read the rest of the
//! output for at most half a second, and only then decide what comes next.

mod attempt;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_base::clock;
use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cgroup::Group;
use crate::error::{NO_SANDBOX, WILL_NOT_END};
use crate::event::{Event, ExitReason, Rough};
use crate::explain::explain;
use crate::health::Checked;
use crate::kill::Belongings;
use crate::lifecycle::{Action, Input, Lifecycle, Limits};
use crate::output::Tail;
use crate::port::random;
use crate::process::Ended;
use crate::service::{Shared, Slot, lock};
use crate::spec::{InstanceSpec, State};
use attempt::{Attempt, Order};

/// How long output is read after the process ended, when somebody holds the pipe open.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// How much output is read at the very moment of the end, for the report; a pipe holds less.
const CATCH_UP: usize = 1 << 20;
/// How long processes that were killed may take to disappear before the operator is told.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long they are waited for after that.
const KILL_PATIENCE_LAST: Duration = Duration::from_secs(60);

/// One instance, from its start until it is gone.
pub(crate) struct Instance {
    spec: Arc<InstanceSpec>,
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    stop: CancellationToken,
    machine: Lifecycle,
    group: Option<Arc<Group>>,
    attempt: Option<Attempt>,
    tail: Arc<Mutex<Tail>>,
    /// Why the present or last attempt is bad.
    cause: Option<String>,
    stop_seen: bool,
}

/// What can end the wait of an instance.
enum Wake {
    Stop,
    Ended(Ended),
    Checked(Checked),
    Deadline,
}

impl Instance {
    pub(crate) fn new(
        spec: InstanceSpec,
        shared: Arc<Shared>,
        slot: Arc<Slot>,
        stop: CancellationToken,
    ) -> Self {
        let machine = Lifecycle::new(Limits {
            start_timeout: spec.health.start_timeout.0,
            stop_timeout: spec.stop_timeout,
            failures: spec.health.failures,
            restart: spec.restart,
        });
        Self {
            spec: Arc::new(spec),
            shared,
            slot,
            stop,
            machine,
            group: None,
            attempt: None,
            tail: Arc::default(),
            cause: None,
            stop_seen: false,
        }
    }

    /// Runs it until it is not wanted any more, or over.
    pub(crate) async fn run(mut self) {
        let mut inputs = VecDeque::from([Input::Start]);
        loop {
            let input = match inputs.pop_front() {
                Some(input) => input,
                None => self.next().await,
            };
            for action in self.machine.apply(input, clock::monotonic(), random()) {
                if let Action::Finish { failed } = action {
                    return self.finish(failed).await;
                }
                inputs.extend(self.perform(action).await);
            }
        }
    }

    /// Waits for the next thing that happens.
    async fn next(&mut self) -> Input {
        let deadline = self.machine.deadline().map(Instant::from_std);
        let wants_checks = self.machine.wants_checks();
        let (process, prober) = match &mut self.attempt {
            Some(attempt) => (Some(&attempt.process), Some(&mut attempt.prober)),
            None => (None, None),
        };
        let wake = tokio::select! {
            biased;
            ended = async { process.expect("checked by the guard").ended().await },
                if process.is_some() => Wake::Ended(ended),
            () = self.stop.cancelled(), if !self.stop_seen => Wake::Stop,
            () = self.shared.tasks.stopping(), if !self.stop_seen => Wake::Stop,
            () = async { sleep_until(deadline.expect("checked by the guard")).await },
                if deadline.is_some() => Wake::Deadline,
            checked = async { prober.expect("checked by the guard").next().await },
                if wants_checks && process.is_some() => Wake::Checked(checked),
        };
        match wake {
            Wake::Stop => {
                self.stop_seen = true;
                Input::Stop
            }
            Wake::Ended(ended) => self.on_ended(ended).await,
            Wake::Checked(Checked::Good) => Input::Healthy,
            Wake::Checked(Checked::Bad) => Input::Unhealthy,
            // Nothing was learnt; a deadline may have come meanwhile, as always.
            Wake::Checked(Checked::Unknown) => Input::Tick,
            Wake::Deadline => Input::Tick,
        }
    }

    async fn perform(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Spawn => return Some(self.spawn().await),
            Action::Terminate => self.signal(Signal::TERM),
            Action::Kill => {
                self.signal(Signal::KILL);
                if let Some(group) = &self.group {
                    group.kill();
                }
            }
            Action::TellSurvived { after } => self.tell_survived(after),
            Action::TellReady { after } => self.tell_ready(after),
            Action::TellUnhealthy => self.tell_unhealthy(),
            Action::TellStopping { was_ready } => self.tell_stopping(was_ready),
            Action::TellNeverReady => self.tell_never_ready().await,
            Action::TellPause {
                delay,
                attempt,
                crash_loop,
            } => self.tell_pause(delay, attempt, crash_loop),
            Action::Finish { .. } => {}
        }
        None
    }

    async fn spawn(&mut self) -> Input {
        lock(&self.tail).clear();
        self.cause = None;
        let order = Order {
            spec: self.spec.clone(),
            shared: self.shared.clone(),
            group: self.group.clone(),
        };
        let outcome = self.shared.spawner.run(move || order.carry_out()).await;
        let started = outcome.and_then(|outcome| {
            self.slot.set_group(outcome.group.clone());
            self.group = outcome.group;
            Attempt::begin(outcome.result?, &self.spec, &self.shared, &self.tail)
        });
        let attempt = match started {
            Ok(attempt) => attempt,
            Err(error) => {
                // A process that was started and could not be kept may have left others.
                self.end_all(None).await;
                let error = Arc::new(error);
                self.cause = Some(error.to_string());
                let id = self.spec.id.clone();
                self.tell(Event::SpawnFailed { id, error });
                return Input::SpawnFailed;
            }
        };
        if let Some((step, error)) = &attempt.sandbox_refused {
            let message = format!(
                "files of the node are not hidden from instances: the kernel refused {step}: {error}"
            );
            self.shared.warn_once(NO_SANDBOX, message);
        }
        let (pid, addr) = (attempt.process.pid(), attempt.addr);
        self.slot.update(|status| {
            status.state = State::Starting;
            status.pid = Some(pid);
            status.addr = Some(addr);
            status.ready_after = None;
        });
        self.attempt = Some(attempt);
        let id = self.spec.id.clone();
        let cgroup = self.slot.cgroup_id();
        self.tell(Event::Started {
            id,
            pid,
            addr,
            cgroup,
        });
        Input::Spawned
    }

    /// The main process ended: tells, and ends everything else of it.
    async fn on_ended(&mut self, ended: Ended) -> Input {
        let mut attempt = self.attempt.take().expect("only an attempt can end");
        for reader in &attempt.outputs {
            reader.catch_up(CATCH_UP);
        }
        let reason = self.exit_reason(ended, &attempt);
        let last_lines = lock(&self.tail).lines();
        self.tell(Event::Exited {
            id: self.spec.id.clone(),
            reason: reason.clone(),
            last_lines: last_lines.clone(),
        });
        self.slot.update(|status| {
            status.pid = None;
            status.addr = None;
            status.last_lines = last_lines;
        });
        self.cause.get_or_insert_with(|| reason.to_string());
        attempt.process.signal_group(Signal::KILL);
        attempt.process.reap();
        self.end_all(Some(attempt.process.pid())).await;
        // What is left in the pipes now is the last; whoever waits for room would not get to it in time.
        for reader in &attempt.outputs {
            reader.catch_up(CATCH_UP);
        }
        let drained = async {
            for reader in &mut attempt.outputs {
                reader.ended().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
        Input::Gone {
            orderly: reason.is_orderly(),
        }
    }

    fn exit_reason(&self, ended: Ended, attempt: &Attempt) -> ExitReason {
        let elapsed = clock::monotonic().saturating_duration_since(attempt.process.started());
        let after = Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        let oom_kills = self.group.as_ref().map_or(0, |group| group.oom_kills());
        let asked = self.machine.asked_to_leave();
        match (ended, asked) {
            (Ended::Signal(libc::SIGKILL), None | Some(false))
                if oom_kills > attempt.oom_kills_before =>
            {
                ExitReason::OutOfMemory {
                    limit: self.spec.resources.memory,
                }
            }
            (Ended::Signal(libc::SIGKILL), Some(true)) => ExitReason::Killed {
                waited: self.spec.stop_timeout,
            },
            (_, Some(_)) => ExitReason::Asked,
            (Ended::Code(code), None) => ExitReason::Code { code, after },
            (Ended::Signal(signal), None) => ExitReason::Signal { signal, after },
        }
    }

    /// Kills everything that is left of the instance and waits until it is gone.
    async fn end_all(&self, session: Option<u32>) {
        let belongings = self.belongings(session);
        if belongings.kill().is_empty() {
            return;
        }
        for patience in [KILL_PATIENCE, KILL_PATIENCE_LAST] {
            let belongings = belongings.clone();
            let ending = tokio::task::spawn_blocking(move || belongings.end(patience));
            let Ok(left) = ending.await else { return };
            if left.is_empty() {
                return;
            }
            let message = format!(
                "processes of {} do not end although killed (the kernel may be waiting for a disk): \
                 {left:?}",
                self.spec.id
            );
            self.shared.warn_once(WILL_NOT_END, message);
        }
    }

    fn belongings(&self, session: Option<u32>) -> Belongings {
        Belongings {
            group: self.group.clone(),
            session,
            marks: vec![
                format!("ATOLL_NODE={}", self.shared.node_id),
                format!("ATOLL_INSTANCE={}", self.spec.id),
            ],
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(attempt) = &self.attempt {
            attempt.process.signal_group(signal);
        }
    }

    fn tell(&self, event: Event) {
        self.shared.observer.event(event);
    }

    fn tell_survived(&self, after: Duration) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        let pid = attempt.process.pid();
        let state = crate::proc::stat(pid).map_or('?', |stat| char::from(stat.state));
        let message = format!(
            "process {pid} of {} is there still, {} after SIGKILL (its state is {state}): the kernel \
             does not let go of it, mostly because a disk or a network share does not answer; \
             nothing takes its place until it ends",
            self.spec.id,
            Rough(after)
        );
        self.slot
            .update(|status| status.reason = Some(message.clone()));
        self.shared.warn_once(WILL_NOT_END, message);
    }

    fn tell_ready(&mut self, after: Duration) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        attempt.prober.slow_down();
        let addr = attempt.addr;
        self.slot.update(|status| {
            status.state = State::Ready;
            status.reason = None;
            status.last_lines.clear();
            status.ready_after = Some(after);
        });
        let id = self.spec.id.clone();
        self.tell(Event::Ready { id, addr, after });
    }

    fn tell_unhealthy(&mut self) {
        let last = self
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.prober.last());
        let failures = self.spec.health.failures;
        let reason = match (failures, last) {
            (1, Some(last)) => format!("failed its check: {last}"),
            (_, Some(last)) => format!("failed {failures} checks in a row, at last: {last}"),
            (_, None) => format!("failed {failures} checks in a row"),
        };
        self.tell(Event::Unready {
            id: self.spec.id.clone(),
            reason: reason.clone(),
        });
        self.slot.update(|status| {
            status.state = State::Unready;
            status.reason = Some(reason.clone());
        });
        self.cause = Some(reason);
    }

    fn tell_stopping(&mut self, was_ready: bool) {
        if was_ready {
            self.tell(Event::Leaving {
                id: self.spec.id.clone(),
            });
        }
        self.slot.update(|status| status.state = State::Stopping);
    }

    async fn tell_never_ready(&mut self) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        let belongings = self.belongings(Some(attempt.process.pid()));
        let (addr, waited) = (attempt.addr, self.spec.health.start_timeout.0);
        let last = attempt.prober.last().map(str::to_owned);
        let finding = tokio::task::spawn_blocking(move || {
            explain(addr, &belongings.pids(), waited, last.as_deref())
        });
        let explanation = finding
            .await
            .unwrap_or_else(|_| format!("not ready after {waited:?}"));
        for reader in &attempt.outputs {
            reader.catch_up(CATCH_UP);
        }
        let last_lines = lock(&self.tail).lines();
        self.slot.update(|status| {
            status.state = State::Unready;
            status.reason = Some(explanation.clone());
            status.last_lines.clone_from(&last_lines);
        });
        self.cause = Some(explanation.clone());
        self.tell(Event::NeverReady {
            id: self.spec.id.clone(),
            explanation,
            last_lines,
        });
    }

    fn tell_pause(&mut self, delay: Duration, attempt: u32, crash_loop: bool) {
        self.slot.update(|status| {
            status.state = match crash_loop {
                true => State::CrashLoop,
                false => State::BackingOff,
            };
            status.restarts += 1;
            status.reason.clone_from(&self.cause);
        });
        self.tell(Event::BackingOff {
            id: self.spec.id.clone(),
            delay,
            attempt,
            crash_loop,
        });
    }

    async fn finish(&mut self, failed: bool) {
        if let Some(group) = self.group.take() {
            // Empty now, or the operator was warned; the next start of the node tries again.
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
        }
        self.slot.set_group(None);
        self.shared.records.delete(&self.spec.id);
        self.slot.update(|status| {
            status.state = match failed {
                true => State::Failed,
                false => State::Stopped,
            };
            status.reason = self.cause.take().filter(|_| failed);
        });
        let id = self.spec.id.clone();
        self.tell(Event::Stopped { id });
    }
}
