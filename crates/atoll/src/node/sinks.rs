//! What the supervisor and the proxy tell, brought to those who need to know.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_base::{Coded, InstanceId, RevisionNumber, ServiceName};
use atoll_deploy::InstanceNews;
use atoll_proxy::{SpanBatch, SpanRef, SpanSink};
use atoll_supervisor::{Event, ExitReason, Observer, OutputSink, Printed, Room, Stream as Output};
use atoll_telemetry::{Handle as Telemetry, Level, NewRecord, RecordRow, Records, Stream};

use super::access_log::AccessLog;
use super::broker::Topics;
use super::events::{EventKind, Events};
use super::hop::{Hops, caller};
use super::traffic::Traffic;

/// News of instances on its way to the deployments: for each instance the last of it, in the order
/// in which it came. Bounded by the number of instances, so nothing waits and nothing is lost.
#[derive(Default)]
pub struct News {
    pending: Mutex<Vec<(InstanceId, InstanceNews)>>,
    came: tokio::sync::Notify,
}

impl News {
    fn put(&self, id: InstanceId, news: InstanceNews) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|(known, _)| *known != id);
        pending.push((id, news));
        drop(pending);
        self.came.notify_one();
    }

    /// What has come since the last call; waits until there is something.
    pub async fn next(&self) -> Vec<(InstanceId, InstanceNews)> {
        loop {
            let pending = {
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *pending)
            };
            if !pending.is_empty() {
                return pending;
            }
            self.came.notified().await;
        }
    }
}

/// Hears the supervisor. Traffic is changed at once, within the call; everything else is passed on.
pub struct InstanceWatch {
    pub traffic: Arc<Traffic>,
    pub topics: Option<Arc<Topics>>,
    pub events: Arc<Events>,
    pub news: Arc<News>,
    /// Instances of Atoll's own (database servers), which no deployment knows.
    pub own_ready: Arc<OwnReady>,
    pub warnings: Arc<Mutex<Vec<String>>>,
}

/// Which of Atoll's own instances are ready, and what is wrong with the others.
#[derive(Default)]
pub struct OwnReady {
    ready: Mutex<HashSet<InstanceId>>,
    troubles: Mutex<BTreeMap<InstanceId, String>>,
    changed: tokio::sync::Notify,
}

impl OwnReady {
    /// Waits until the instance is ready.
    pub async fn wait(&self, id: &InstanceId) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self
                .ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(id)
            {
                return;
            }
            changed.await;
        }
    }

    fn set(&self, id: &InstanceId, ready: bool) {
        let mut set = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready {
            set.insert(id.clone());
        } else {
            set.remove(id);
        }
        drop(set);
        self.changed.notify_waiters();
    }

    fn set_trouble(&self, id: &InstanceId, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            // No service of anybody else has such a name.
            Some(trouble) if id.service().as_str().starts_with("atoll-") => {
                troubles.insert(id.clone(), trouble);
            }
            Some(_) => {}
            None => {
                troubles.remove(id);
            }
        }
    }

    /// Why servers of Atoll's own do not run now, each in a sentence.
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles
            .iter()
            .map(|(id, trouble)| format!("{} does not run: {trouble}", id.service()))
            .collect()
    }
}

impl InstanceWatch {
    fn reachable(&self, id: &InstanceId, addr: SocketAddr) {
        self.traffic.ready(id, addr);
        if let Some(topics) = &self.topics {
            topics.pushes().reachable(id.service());
        }
    }

    fn gone(&self, id: &InstanceId) {
        self.traffic.lost(id);
        self.own_ready.set(id, false);
    }

    fn told(&self, id: &InstanceId, what: EventKind, message: String) {
        self.events.instance(id, what, Level::Info, message);
    }

    /// The end itself is told besides.
    fn out_of_memory(&self, id: &InstanceId, reason: &ExitReason) {
        let ExitReason::OutOfMemory { limit } = reason else {
            return;
        };
        let limit = limit.map(|limit| ("memory_limit_bytes", limit.0));
        let numbers: Vec<_> = [("oom_kills", 1)].into_iter().chain(limit).collect();
        let said = (Level::Error, reason.to_string());
        self.events
            .instance_with(id, EventKind::Oom, said, &numbers);
    }

    fn lost(&self, id: InstanceId, reason: String, last_lines: &[String]) {
        self.gone(&id);
        let reason = match last_lines.last() {
            Some(last) => format!("{reason}; its last line: {last}"),
            None => reason,
        };
        self.events
            .instance(&id, EventKind::Exit, Level::Error, reason.clone());
        self.own_ready.set_trouble(&id, Some(reason.clone()));
        self.news.put(id, InstanceNews::Lost(reason));
    }
}

impl Observer for InstanceWatch {
    fn event(&self, event: Event) {
        match event {
            Event::Started {
                id, pid, cgroup, ..
            } => {
                self.traffic.started(&id, cgroup);
                let message = format!("started as process {pid}");
                self.told(&id, EventKind::Start, message);
            }
            Event::Ready { id, addr, after } => {
                self.reachable(&id, addr);
                self.own_ready.set(&id, true);
                self.own_ready.set_trouble(&id, None);
                let message = format!("ready after {} ms", after.as_millis());
                self.told(&id, EventKind::Ready, message);
                self.news.put(id, InstanceNews::Ready);
            }
            Event::Unready { id, reason } => self.lost(id, reason, &[]),
            Event::Leaving { id } => self.gone(&id),
            // Why it was ended has been told: it was never ready, it was ill, or somebody asked.
            Event::Exited { id, reason, .. }
                if matches!(reason, ExitReason::Asked | ExitReason::Killed { .. }) =>
            {
                self.gone(&id);
                self.told(&id, EventKind::Exit, reason.to_string());
            }
            Event::Exited {
                id,
                reason,
                last_lines,
            } => {
                self.out_of_memory(&id, &reason);
                self.lost(id, reason.to_string(), &last_lines);
            }
            Event::NeverReady {
                id,
                explanation,
                last_lines,
            } => {
                self.lost(id, explanation, &last_lines);
            }
            Event::SpawnFailed { id, error } => {
                self.lost(id, format!("{error} ({})", error.code()), &[]);
            }
            Event::BackingOff {
                id,
                delay,
                attempt,
                crash_loop,
            } => {
                let kind = if crash_loop { "crash loop: " } else { "" };
                let millis = delay.as_millis();
                let message = format!("{kind}restart {attempt} in {millis} ms");
                self.events
                    .instance(&id, EventKind::Exit, Level::Warn, message);
            }
            Event::Stopped { id } => {
                self.gone(&id);
                self.traffic.stopped(&id);
                self.own_ready.set_trouble(&id, None);
                self.told(&id, EventKind::Exit, "stopped".to_owned());
            }
            Event::Warning { code, message } => {
                let text = format!("{message} ({code})");
                self.events.node(Level::Warn, text.clone());
                self.warnings
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(text);
            }
        }
    }
}

/// Takes what instances print.
pub struct Output2Log {
    pub telemetry: Telemetry,
}

/// What an instance printed, as rows of the log.
#[derive(Debug)]
struct PrintedRows(Printed);

impl Records for PrintedRows {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn each(&self, take: &mut dyn FnMut(RecordRow<'_>)) {
        let Self(printed) = self;
        for line in printed.lines() {
            take(RecordRow {
                time: printed.time,
                service: printed.instance.service(),
                instance: printed.instance.as_str(),
                revision: printed.instance.revision(),
                stream: match printed.stream {
                    Output::Stdout => Stream::Stdout,
                    Output::Stderr => Stream::Stderr,
                },
                level: None,
                trace: None,
                span: None,
                attributes: "",
                continued: line.continued,
                message: line.text,
            });
        }
    }
}

impl OutputSink for Output2Log {
    fn lines(&self, printed: Printed) {
        self.telemetry.log_batch(Box::new(PrintedRows(printed)));
    }

    fn room(&self) -> Option<Room<'_>> {
        let is_busy = self.telemetry.is_busy();
        is_busy.then(|| Box::pin(self.telemetry.room()) as Room<'_>)
    }
}

/// Failed requests of one service that are logged in one second. In an outage they would push out
/// of the log what tells its cause.
const FAILURES_PER_SECOND_MAX: u32 = 50;

/// Takes the proxy's spans: all as spans of the service that was called; a failure also as a log record.
pub struct Spans2Log {
    telemetry: Telemetry,
    access_log: Option<Arc<AccessLog>>,
    failures: Mutex<HashMap<ServiceName, Failures>>,
    /// The platform's own name.
    own: ServiceName,
    /// The door for telemetry in the mesh.
    otlp: ServiceName,
}

/// Failures of one service in one second.
#[derive(Default)]
struct Failures {
    second: i64,
    count: u32,
}

impl Spans2Log {
    /// Writes to `telemetry`, and lines to `access_log` if there is one.
    pub fn new(telemetry: Telemetry, access_log: Option<Arc<AccessLog>>) -> Self {
        Self {
            telemetry,
            access_log,
            failures: Mutex::default(),
            own: ServiceName::new("atoll").expect("a valid name"),
            otlp: super::otlp::own_name(),
        }
    }

    /// Logs a failure if there were not too many in its second; of the others, how many there were.
    fn failed(&self, record: NewRecord) {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(record.service.clone()).or_default();
        let second = record.time.as_micros() / 1_000_000;
        if second != seen.second {
            let more = seen.count.saturating_sub(FAILURES_PER_SECOND_MAX);
            *seen = Failures { second, count: 0 };
            if more > 0 {
                let message = format!("{more} more requests failed in the second before");
                self.telemetry.log(NewRecord {
                    message,
                    trace: None,
                    ..record.clone()
                });
            }
        }
        seen.count += 1;
        if seen.count <= FAILURES_PER_SECOND_MAX {
            self.telemetry.log(record);
        }
    }
}

impl SpanSink for Spans2Log {
    fn access_lines(&self, lines: String) {
        if let Some(log) = &self.access_log {
            log.take(lines);
        }
    }

    fn spans(&self, batch: SpanBatch) {
        for span in batch.iter().filter(SpanRef::is_failed) {
            self.failed(failure(&span));
        }
        let (own, otlp) = (self.own.clone(), self.otlp.clone());
        self.telemetry
            .span_batch(Box::new(Hops { batch, own, otlp }));
    }
}

fn failure(span: &SpanRef<'_>) -> NewRecord {
    let millis = span.duration.as_secs_f64() * 1e3;
    let cause = match span.error {
        Some(error) => format!(" ({})", error.words()),
        None => String::new(),
    };
    let message = format!(
        "{} {} from {} failed with {} after {millis:.1} ms{cause}",
        span.method,
        span.path,
        caller(span),
        span.status,
    );
    let edge = || ServiceName::new("edge").expect("a valid name");
    let service = span.service.cloned().unwrap_or_else(edge);
    let end = span.start.after(span.duration);
    NewRecord {
        instance: span.instance.map(ToString::to_string).unwrap_or_default(),
        revision: span
            .instance
            .map_or(RevisionNumber(0), InstanceId::revision),
        level: Some(Level::Error),
        trace: Some(span.trace),
        span: Some(span.span),
        attributes: r#"{"kind":"request"}"#.to_owned(),
        ..NewRecord::new(end, service, Stream::Platform, message)
    }
}
