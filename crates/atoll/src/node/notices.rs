//! What nobody says by itself and a person on call must know: instances that are left out, breakers that
//! open, limits that refuse, processes that the kernel kills or holds back.
//!
//! The proxy and the kernel are asked every second, and [`Notices`] tells what is new since. Asking costs a few
//! locks; telling at the source would cost every request a question, or a way out of the machines that
//! decide. What opens and closes again within a second is not seen; pauses are longer than that.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{InstanceId, ServiceName, Tasks, Timestamp};
use atoll_proxy::meter::{Metered, Series};
use atoll_proxy::resilience::ejection::State;
use atoll_proxy::{ErrorKind, Resilience};
use atoll_supervisor::Usage;
use atoll_telemetry::Level;

use super::events::{EventKind, Events, Number};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of a limit that goes on refusing, and of an instance that is held back, it is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Who waited less than this within [`TELL_EVERY`] was not held back to speak of.
const WAITED_LEAST: Duration = Duration::from_secs(1);

/// How things are at a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) resilience: Resilience,
    /// All instances that there are.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Requests that each service's limits have refused since the start.
    pub(super) refused: BTreeMap<ServiceName, Refused>,
    /// What instances have used, and by which process.
    pub(super) used: BTreeMap<InstanceId, (Option<u32>, Usage)>,
}

/// Requests that were refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// There were too many in a time.
    pub(super) by_rate: u64,
    /// There were too many at once.
    pub(super) by_number: u64,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) service: ServiceName,
    pub(super) instance: Option<InstanceId>,
    pub(super) what: EventKind,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) numbers: Vec<Number>,
}

/// What is known, to tell what is new. Pure: time is told to it.
#[derive(Debug, Default)]
pub(super) struct Notices {
    out: BTreeSet<InstanceId>,
    open: BTreeSet<(Option<ServiceName>, ServiceName)>,
    limits: BTreeMap<ServiceName, Limit>,
    used: BTreeMap<InstanceId, Used>,
}

/// The limits of one service.
#[derive(Debug, Default)]
struct Limit {
    seen: Refused,
    /// Refused since it was last told.
    untold: Refused,
    /// Refused since it began.
    all: u64,
    told: Option<Timestamp>,
}

/// What the kernel had counted for one instance.
#[derive(Debug, Clone, Copy)]
struct Used {
    pid: Option<u32>,
    oom_kills: u64,
    /// When it was last looked how it was held back, and what had been counted then.
    throttled: (Timestamp, atoll_supervisor::Throttled),
}

/// Looks until the node stops.
pub(super) async fn watch(
    (proxy, supervisor, events): (atoll_proxy::Handle, atoll_supervisor::Handle, Arc<Events>),
    tasks: Tasks,
) {
    let mut notices = Notices::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = tasks.stopping() => return,
        }
        let all = supervisor.list();
        let instances = all.iter().map(|status| status.id.clone()).collect();
        let used = all.into_iter().filter_map(|status| {
            let usage = supervisor.usage_of_cgroup(&status.id)?;
            Some((status.id, (status.pid, usage)))
        });
        let seen = Seen {
            resilience: proxy.explain(),
            instances,
            refused: refused(&proxy.series()),
            used: used.collect(),
        };
        for notice in notices.look(&seen, Timestamp::now()) {
            let said = (notice.level, notice.message);
            match &notice.instance {
                Some(id) => events.instance_with(id, notice.what, said, &notice.numbers),
                None => events.service_with(&notice.service, notice.what, said, &notice.numbers),
            }
        }
    }
}

/// What the limits of each service have refused, at the edge and in the mesh.
fn refused(series: &[Series]) -> BTreeMap<ServiceName, Refused> {
    let mut all = BTreeMap::<ServiceName, Refused>::new();
    for Series { of, counts } in series {
        let service = match of {
            Metered::Route { service, .. } => service,
            Metered::Call { callee, .. } => callee,
        };
        let own = all.entry(service.clone()).or_default();
        own.by_rate += counts.errors[ErrorKind::RateLimited as usize];
        own.by_number += counts.errors[ErrorKind::Overloaded as usize];
    }
    all
}

impl Notices {
    /// What is new at this moment.
    pub(super) fn look(&mut self, seen: &Seen, now: Timestamp) -> Vec<Notice> {
        let mut told = Vec::new();
        self.instances(seen, &mut told);
        self.breakers(&seen.resilience, &mut told);
        for (service, refused) in &seen.refused {
            let limit = self.limits.entry(service.clone()).or_default();
            told.extend(limit.look(service, *refused, now));
        }
        self.used.retain(|id, _| seen.used.contains_key(id));
        for (id, (pid, usage)) in &seen.used {
            self.kernel(id, *pid, usage, now, &mut told);
        }
        told
    }

    fn instances(&mut self, seen: &Seen, told: &mut Vec<Notice>) {
        let mut gone = std::mem::take(&mut self.out);
        for verdict in &seen.resilience.instances {
            let id = &verdict.instance;
            let was_out = gone.remove(id);
            // On probation it gets single requests, and is not back before they have gone well.
            let is_out =
                verdict.state == State::Out || (was_out && verdict.state == State::Probation);
            if is_out {
                self.out.insert(id.clone());
            }
            if is_out && !was_out {
                let why = verdict.why.as_ref().map(ToString::to_string);
                let message = format!("left out of traffic: {}", why.unwrap_or_default());
                told.push(Notice::of_instance(
                    id,
                    EventKind::Ejection,
                    Level::Warn,
                    message,
                ));
            } else if was_out && !is_out {
                told.push(back(id));
            }
        }
        // Who is not judged gets no requests at all: it is about to stop, or does not answer. It is back once it
        // is judged well, and if it has ended, never.
        let are_there = gone.into_iter().filter(|id| seen.instances.contains(id));
        self.out.extend(are_there);
    }

    fn breakers(&mut self, resilience: &Resilience, told: &mut Vec<Notice>) {
        let mut gone = std::mem::take(&mut self.open);
        for open in &resilience.breakers {
            let key = (open.caller.clone(), open.callee.clone());
            if !gone.remove(&key) {
                let message = format!("calls from {} are refused: {}", caller(&key.0), open.why);
                told.push(Notice::new(
                    &open.callee,
                    EventKind::Breaker,
                    Level::Warn,
                    message,
                ));
            }
            self.open.insert(key);
        }
        for (from, callee) in gone {
            let message = format!("calls from {} pass again", caller(&from));
            told.push(Notice::new(
                &callee,
                EventKind::Breaker,
                Level::Info,
                message,
            ));
        }
    }

    /// What the kernel did to an instance.
    fn kernel(
        &mut self,
        id: &InstanceId,
        pid: Option<u32>,
        usage: &Usage,
        now: Timestamp,
        told: &mut Vec<Notice>,
    ) {
        let throttled = usage.throttled.unwrap_or_default();
        let used = self.used.entry(id.clone()).or_insert(Used {
            pid,
            oom_kills: usage.oom_kills,
            throttled: (now, throttled),
        });
        let kills = usage.oom_kills.saturating_sub(used.oom_kills);
        // The end of the main process tells of itself.
        if kills > 0 && used.pid == pid {
            let message = format!("the kernel killed {kills} of its processes for want of memory");
            let mut notice = Notice::of_instance(id, EventKind::Oom, Level::Error, message);
            notice.numbers = vec![("oom_kills", kills), ("memory_bytes", usage.memory)];
            told.push(notice);
        }
        (used.pid, used.oom_kills) = (pid, usage.oom_kills);
        let (since, before) = used.throttled;
        if now.since(since) < TELL_EVERY {
            return;
        }
        used.throttled = (now, throttled);
        let waited = throttled.waited_ns.saturating_sub(before.waited_ns);
        if waited >= WAITED_LEAST.as_nanos() as u64 {
            let periods = throttled.periods.saturating_sub(before.periods);
            let held = throttled.throttled.saturating_sub(before.throttled);
            let millis = waited / 1_000_000;
            let message = format!(
                "its limit of processor time held it back in {held} of {periods} periods within a minute: \
                 its threads waited for {:.1} s",
                millis as f64 / 1e3
            );
            let mut notice = Notice::of_instance(id, EventKind::Throttle, Level::Warn, message);
            notice.numbers = vec![
                ("periods", periods),
                ("throttled_periods", held),
                ("waited_ms", millis),
            ];
            told.push(notice);
        }
    }
}

fn caller(caller: &Option<ServiceName>) -> &str {
    caller.as_ref().map_or("the edge", ServiceName::as_str)
}

fn back(id: &InstanceId) -> Notice {
    let message = "left out of traffic no more".to_owned();
    Notice::of_instance(id, EventKind::Ejection, Level::Info, message)
}

impl Limit {
    /// Tells that it begins, how it goes on once a minute, and that it is over after a minute in which
    /// nothing was refused.
    fn look(&mut self, service: &ServiceName, refused: Refused, now: Timestamp) -> Option<Notice> {
        let by_rate = refused.by_rate.saturating_sub(self.seen.by_rate);
        let by_number = refused.by_number.saturating_sub(self.seen.by_number);
        self.seen = refused;
        self.untold.by_rate += by_rate;
        self.untold.by_number += by_number;
        self.all += by_rate + by_number;
        let untold = self.untold;
        let count = untold.by_rate + untold.by_number;
        let (level, message) = match self.told {
            None if count > 0 => (Level::Warn, format!("its limits refuse requests: {untold}")),
            Some(at) if now.since(at) >= TELL_EVERY && count > 0 => (
                Level::Warn,
                format!("its limits go on refusing requests: {untold}"),
            ),
            Some(at) if now.since(at) >= TELL_EVERY => {
                let all = std::mem::take(&mut self.all);
                let message = format!("its limits refuse nothing any more; it was {all} in all");
                self.told = None;
                return Some(Notice {
                    numbers: vec![("refused", all)],
                    ..Notice::new(service, EventKind::Limit, Level::Info, message)
                });
            }
            _ => return None,
        };
        self.told = Some(now);
        self.untold = Refused::default();
        Some(Notice {
            numbers: vec![
                ("refused", count),
                ("over_rate", untold.by_rate),
                ("over_number", untold.by_number),
            ],
            ..Notice::new(service, EventKind::Limit, level, message)
        })
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.by_rate, self.by_number) {
            (rate, 0) => write!(f, "{rate} were too many in their time"),
            (0, number) => write!(f, "{number} were too many at once"),
            (rate, number) => write!(
                f,
                "{rate} were too many in their time, {number} were too many at once"
            ),
        }
    }
}

impl Notice {
    fn new(service: &ServiceName, what: EventKind, level: Level, message: String) -> Self {
        Self {
            service: service.clone(),
            instance: None,
            what,
            level,
            message,
            numbers: Vec::new(),
        }
    }

    fn of_instance(id: &InstanceId, what: EventKind, level: Level, message: String) -> Self {
        Self {
            instance: Some(id.clone()),
            ..Self::new(id.service(), what, level, message)
        }
    }
}
