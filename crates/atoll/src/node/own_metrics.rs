//! What the node itself measures, among the metrics that services send: routes, dependencies, topics and
//! instances, under the names of `/v1/metrics`.
//!
//! Once a second the counters are read, and what was added since is handed on: a node that is killed loses no
//! more than that. So a route that is first asked for, or a first error, is seen with its first request. What
//! did not grow is told every ten seconds, so that nobody takes a rate of nothing for one that is not known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use atoll_base::{InstanceId, Tasks, Timestamp};
use atoll_broker::Passed;
use atoll_proxy::ErrorKind;
use atoll_proxy::meter::{BOUNDS_MICROS, CLASSES, Counts, Metered, Series};
use atoll_supervisor::Usage;
use atoll_telemetry::metrics::{
    Exemplar, Explicit, Histogram, Labels, MetricPoint, Temporality, Value,
};
use atoll_telemetry::otlp::Intake;

use super::broker::Topics;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many looks are between two that tell also what did not grow.
const LOOKS_PER_WHOLE: u32 = 10;

/// The names of what is measured of instances.
pub mod metric {
    /// Processor time, in seconds.
    pub const CPU: &str = "atoll_instance_cpu_seconds_total";
    /// Memory, in bytes.
    pub const MEMORY: &str = "atoll_instance_memory_bytes";
    /// How long threads waited because a limit of processor time held them back, in seconds.
    pub const THROTTLED: &str = "atoll_instance_cpu_throttled_seconds_total";
    /// Processes that the kernel killed for want of memory.
    pub const OOM_KILLS: &str = "atoll_instance_oom_kills_total";
    /// Bytes from and to disks.
    pub const IO: &str = "atoll_instance_io_bytes_total";
    /// Records that services published to topics and read from them by the protocol of Kafka.
    pub const RECORDS: &str = "atoll_topic_records_total";
    /// The `direction` of records that were published.
    pub const PUBLISHED: &str = "publish";
}

static BOUNDS: LazyLock<Arc<[f64]>> = LazyLock::new(|| {
    let seconds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6);
    seconds.collect()
});

/// Looks until the node stops.
pub(super) async fn watch(
    proxy: atoll_proxy::Handle,
    supervisor: atoll_supervisor::Handle,
    topics: Option<Arc<Topics>>,
    intake: Arc<dyn Intake>,
    tasks: Tasks,
) {
    let mut before = Before::default();
    for look in 1_u32.. {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = tasks.stopping() => return,
        }
        let (now, whole) = (Timestamp::now(), look.is_multiple_of(LOOKS_PER_WHOLE));
        let mut points = before.traffic(proxy.series(), whole, now);
        let passed = topics.as_ref().map(|topics| topics.passed());
        points.extend(before.records(passed.unwrap_or_default(), whole, now));
        let listed = supervisor.list();
        let living: HashSet<&InstanceId> = listed.iter().map(|status| &status.id).collect();
        before.used.retain(|id, _| living.contains(id));
        for status in &listed {
            let Some(usage) = supervisor.usage(&status.id) else {
                continue;
            };
            before.instance(&status.id, &usage, now, &mut points);
        }
        // What is refused is counted by those who keep it.
        let _ = intake.metrics(points);
    }
}

/// What had been counted the last time.
#[derive(Default)]
struct Before {
    traffic: BTreeMap<Metered, Counts>,
    used: BTreeMap<InstanceId, Usage>,
    /// By account and topic, in both directions.
    passed: HashMap<(String, String), (u64, u64)>,
}

impl Before {
    /// What was added; of what did not grow only if `whole`.
    fn traffic(&mut self, series: Vec<Series>, whole: bool, now: Timestamp) -> Vec<MetricPoint> {
        let mut points = Vec::new();
        for Series { of, counts } in series {
            let then = self.traffic.get(&of).cloned().unwrap_or_default();
            if counts == then && !whole {
                continue;
            }
            let (prefix, labels) = named(&of);
            let add = |more: Option<(&str, &str)>, name: &str, unit: &str, value: Value| {
                let own = labels.iter().map(|(key, value)| (*key, value.as_str()));
                let labels: Labels = own.chain(more).collect();
                point((&format!("{prefix}{name}"), unit), labels, now, value)
            };
            let grown = |now: u64, then: u64| {
                Value::Sum(now.saturating_sub(then) as f64, Temporality::Delta)
            };
            for (at, class) in CLASSES.iter().enumerate() {
                if counts.by_class[at] > 0 {
                    let value = grown(counts.by_class[at], then.by_class[at]);
                    points.push(add(
                        Some(("class", class)),
                        "requests_total",
                        "{request}",
                        value,
                    ));
                }
            }
            for (at, kind) in ErrorKind::ALL.iter().enumerate() {
                if counts.errors[at] > 0 {
                    let value = grown(counts.errors[at], then.errors[at]);
                    let reason = Some(("reason", kind.name()));
                    points.push(add(reason, "errors_total", "{request}", value));
                }
            }
            let value = Value::Histogram(took(&counts, &then), Temporality::Delta);
            let exemplars = exemplars(&counts, &then);
            points.push(MetricPoint {
                exemplars,
                ..add(None, "duration_seconds", "s", value)
            });
            self.traffic.insert(of, counts);
        }
        points
    }

    /// What was added; of what did not grow only if `whole`.
    fn records(&mut self, passed: Vec<Passed>, whole: bool, now: Timestamp) -> Vec<MetricPoint> {
        let mut points = Vec::new();
        for own in passed {
            let now_both = (own.published, own.read);
            let key = (own.account.clone(), own.topic.clone());
            let then = self.passed.insert(key, now_both).unwrap_or_default();
            for (direction, now_of_it, then) in [
                (metric::PUBLISHED, own.published, then.0),
                ("read", own.read, then.1),
            ] {
                let added = added(now_of_it, then);
                if added > 0 || (now_of_it > 0 && whole) {
                    let labels = [
                        ("service", own.account.as_str()),
                        ("topic", &own.topic),
                        ("direction", direction),
                    ];
                    let value = Value::Sum(added as f64, Temporality::Delta);
                    let name = (metric::RECORDS, "{record}");
                    points.push(point(name, labels.into_iter().collect(), now, value));
                }
            }
        }
        points
    }

    fn instance(
        &mut self,
        id: &InstanceId,
        usage: &Usage,
        now: Timestamp,
        points: &mut Vec<MetricPoint>,
    ) {
        let labels = |more: Option<(&'static str, &'static str)>| -> Labels {
            let pairs = [
                ("service", id.service().as_str()),
                ("instance", id.as_str()),
            ];
            pairs.into_iter().chain(more).collect()
        };
        let then = self.used.insert(id.clone(), *usage).unwrap_or_default();
        let mut sum = |name, unit, more, added: f64| {
            let value = Value::Sum(added, Temporality::Delta);
            points.push(point((name, unit), labels(more), now, value));
        };
        let cpu = added(usage.cpu_ns, then.cpu_ns);
        sum(metric::CPU, "s", None, cpu as f64 / 1e9);
        if let Some(throttled) = usage.throttled {
            let before = then.throttled.unwrap_or_default();
            let waited = added(throttled.waited_ns, before.waited_ns);
            sum(metric::THROTTLED, "s", None, waited as f64 / 1e9);
        }
        let kills = added(usage.oom_kills, then.oom_kills);
        sum(metric::OOM_KILLS, "{kill}", None, kills as f64);
        if let Some(io) = usage.io {
            let before = then.io.unwrap_or_default();
            for (direction, now, then) in [
                ("read", io.read, before.read),
                ("write", io.written, before.written),
            ] {
                let more = Some(("direction", direction));
                sum(metric::IO, "By", more, added(now, then) as f64);
            }
        }
        let memory = Value::Gauge(usage.memory as f64);
        points.push(point((metric::MEMORY, "By"), labels(None), now, memory));
    }
}

/// What came to a count. A new process begins at nothing.
fn added(now: u64, then: u64) -> u64 {
    now.checked_sub(then).unwrap_or(now)
}

fn named(of: &Metered) -> (&'static str, Vec<(&'static str, String)>) {
    match of {
        Metered::Route {
            service,
            host,
            path,
            methods,
        } => {
            let mut labels = vec![("service", service.to_string()), ("path", path.clone())];
            labels.extend(host.clone().map(|host| ("host", host)));
            if !methods.is_empty() {
                labels.push(("methods", methods.join(",")));
            }
            ("atoll_route_", labels)
        }
        Metered::Call { caller, callee } => {
            let labels = vec![
                ("caller", caller.to_string()),
                ("callee", callee.to_string()),
            ];
            ("atoll_call_", labels)
        }
    }
}

fn took(now: &Counts, then: &Counts) -> Histogram {
    let counts = now.buckets.iter().zip(then.buckets);
    let counts = counts.map(|(now, then)| now.saturating_sub(then));
    Histogram::Explicit(Explicit {
        bounds: Arc::clone(&BOUNDS),
        counts: counts.collect(),
        sum: now.micros.saturating_sub(then.micros) as f64 / 1e6,
        min: None,
        max: None,
    })
}

/// Those that are new.
fn exemplars(now: &Counts, then: &Counts) -> Vec<Exemplar> {
    let both = now.exemplars.iter().zip(&then.exemplars);
    let new = both.filter(|(now, then)| now != then);
    new.filter_map(|(now, _)| *now)
        .map(|own| Exemplar {
            time: own.time,
            value: own.micros as f64 / 1e6,
            trace: own.trace,
            span: None,
        })
        .collect()
}

fn point((name, unit): (&str, &str), labels: Labels, time: Timestamp, value: Value) -> MetricPoint {
    MetricPoint {
        name: name.into(),
        unit: unit.into(),
        help: "".into(),
        labels,
        start: None,
        time,
        value,
        exemplars: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::{RevisionNumber, ServiceName};
    use atoll_supervisor::Io;

    #[test]
    fn instances_are_told_by_what_they_used_since_and_a_new_process_begins_anew() {
        let id = InstanceId::new(ServiceName::new("orders").unwrap(), RevisionNumber(1), 1);
        let mut before = Before::default();
        let mut look = |cpu_ns, read| {
            let usage = Usage {
                cpu_ns,
                memory: 5,
                io: Some(Io { read, written: 0 }),
                ..Usage::default()
            };
            let mut points = Vec::new();
            before.instance(&id, &usage, Timestamp::from_micros(1), &mut points);
            let told = points.into_iter().map(|own| {
                let direction = own.labels.get("direction").unwrap_or_default().to_owned();
                (own.name.to_string(), direction, own.value)
            });
            told.collect::<Vec<_>>()
        };
        let value = |told: &[(String, String, Value)], name: &str, direction: &str| {
            let mut found = told.iter();
            let found = found.find(|own| own.0 == name && own.1 == direction);
            found.map(|own| own.2.clone())
        };
        let sum = |value| Some(Value::Sum(value, Temporality::Delta));
        let told = look(2_000_000_000, 4096);
        assert_eq!(value(&told, metric::CPU, ""), sum(2.0));
        assert_eq!(value(&told, metric::IO, "read"), sum(4096.0));
        assert_eq!(value(&told, metric::MEMORY, ""), Some(Value::Gauge(5.0)));
        assert_eq!(
            value(&told, metric::THROTTLED, ""),
            None,
            "not counted here"
        );
        assert_eq!(value(&look(5_000_000_000, 4097), metric::CPU, ""), sum(3.0));
        let told = look(1_000_000_000, 7);
        assert_eq!(value(&told, metric::CPU, ""), sum(1.0), "another process");
        assert_eq!(value(&told, metric::IO, "read"), sum(7.0));
    }

    #[test]
    fn records_are_told_when_they_come_and_with_the_whole() {
        let mut before = Before::default();
        let mut look = |published, read, whole| {
            let passed = Passed {
                account: "orders".to_owned(),
                topic: "placed".to_owned(),
                published,
                read,
            };
            let points = before.records(vec![passed], whole, Timestamp::from_micros(1));
            let told = points.into_iter().map(|own| {
                let direction = own.labels.get("direction").unwrap_or_default().to_owned();
                (direction, own.value)
            });
            told.collect::<Vec<_>>()
        };
        let told =
            |direction: &str, added| (direction.to_owned(), Value::Sum(added, Temporality::Delta));
        assert_eq!(look(3, 0, false), [told("publish", 3.0)]);
        assert_eq!(look(3, 2, false), [told("read", 2.0)]);
        assert!(look(3, 2, false).is_empty(), "nothing came");
        assert_eq!(look(3, 2, true), [told("publish", 0.0), told("read", 0.0)]);
    }

    #[test]
    fn what_was_added_is_told_from_the_first_request_on() {
        let of = Metered::Call {
            caller: ServiceName::new("orders").unwrap(),
            callee: ServiceName::new("bank").unwrap(),
        };
        let mut counts = Counts::default();
        let mut before = Before::default();
        let mut look = |counts: &Counts, whole: bool| {
            let series = Series {
                of: of.clone(),
                counts: counts.clone(),
            };
            let points = before.traffic(vec![series], whole, Timestamp::from_micros(1));
            let told = points
                .into_iter()
                .map(|own| (own.name.to_string(), own.value));
            told.collect::<Vec<_>>()
        };
        counts.by_class[5] = 2;
        counts.buckets[0] = 2;
        counts.micros = 500;
        let told = look(&counts, false);
        let sum = |value| Value::Sum(value, Temporality::Delta);
        assert_eq!(told[0], ("atoll_call_requests_total".to_owned(), sum(2.0)));
        assert!(matches!(&told[1].1, Value::Histogram(own, _) if own.count() == 2));
        counts.by_class[5] = 3;
        assert_eq!(look(&counts, false)[0].1, sum(1.0));
        assert!(look(&counts, false).is_empty(), "nothing came");
        assert_eq!(look(&counts, true)[0].1, sum(0.0));
    }
}
