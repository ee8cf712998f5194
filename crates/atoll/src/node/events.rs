//! What the node itself has to say: one stream for the log and for whoever watches.
//!
//! A platform event is a log record of the stream `platform`, so it stands among the lines of the
//! service that it concerns, in order. The last step of each service is kept for `ps` and for the
//! picture that `up` draws.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Timestamp};
use atoll_deploy::Progress;
use atoll_proxy::config::RouteConfig;
use atoll_telemetry::{Handle as Telemetry, Level, NewRecord, Stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a service's deployment stands, and since when.
#[derive(Debug, Clone)]
pub struct Step {
    /// The last that was heard of it.
    pub progress: Progress,
    /// When.
    pub since: Timestamp,
    /// When the deployment was begun.
    pub begun: Timestamp,
    /// Which deployment.
    pub deployment: i64,
}

/// What kind of thing has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A deployment got on.
    Deploy,
    /// An instance was started.
    Start,
    /// An instance is ready.
    Ready,
    /// An instance has ended, or is not ready any more.
    Exit,
    /// An alert fires, or was resolved.
    Alert,
    /// An instance was left out of traffic, or gets requests again.
    Ejection,
    /// Calls of a service are refused because they fail, or pass again.
    Breaker,
    /// A limit of requests has begun to refuse some, or has ended it.
    Limit,
    /// What is exposed, or by which files, has changed.
    Config,
    /// Somebody wants another number of instances.
    Scale,
    /// The kernel killed a process for want of memory.
    Oom,
    /// A limit of processor time held an instance back.
    Throttle,
    /// Anything else.
    Other,
}

/// A number of an event: its name and its value.
pub type Number = (&'static str, u64);

/// Writes platform records and remembers steps.
#[derive(Debug)]
pub struct Events {
    telemetry: Telemetry,
    steps: Mutex<HashMap<ServiceName, Step>>,
}

impl Events {
    /// Writes to `telemetry`.
    pub fn new(telemetry: Telemetry) -> Self {
        Self {
            telemetry,
            steps: Mutex::default(),
        }
    }

    /// Tells of a whole service.
    pub fn service(&self, service: &ServiceName, level: Level, message: String) {
        self.of_service(service, EventKind::Other, level, message);
    }

    /// Tells of an alert of a service.
    pub fn alert(&self, service: &ServiceName, level: Level, message: String) {
        self.of_service(service, EventKind::Alert, level, message);
    }

    fn of_service(&self, service: &ServiceName, what: EventKind, level: Level, message: String) {
        self.service_with(service, what, (level, message), &[]);
    }

    /// Tells of a whole service, of what kind it is and with numbers, which can be searched for.
    pub fn service_with(
        &self,
        service: &ServiceName,
        what: EventKind,
        (level, message): (Level, String),
        numbers: &[Number],
    ) {
        let whom = (service.clone(), String::new(), RevisionNumber(0));
        self.record(whom, what, (level, message), numbers);
    }

    /// The same of one instance.
    pub fn instance_with(
        &self,
        id: &InstanceId,
        what: EventKind,
        (level, message): (Level, String),
        numbers: &[Number],
    ) {
        let whom = (id.service().clone(), id.to_string(), id.revision());
        self.record(whom, what, (level, message), numbers);
    }

    /// Tells of one instance.
    pub fn instance(&self, id: &InstanceId, what: EventKind, level: Level, message: String) {
        self.instance_with(id, what, (level, message), &[]);
    }

    /// Tells of the node itself.
    pub fn node(&self, level: Level, message: String) {
        self.node_with(EventKind::Other, level, message);
    }

    /// Tells of the node itself, and of what kind it is.
    pub fn node_with(&self, what: EventKind, level: Level, message: String) {
        let service = ServiceName::new("atoll").expect("a valid name");
        self.of_service(&service, what, level, message);
    }

    /// Remembers how a deployment gets on, and tells it.
    pub fn progress(&self, service: &ServiceName, deployment: i64, progress: Progress) {
        let (level, message) = sentence(deployment, &progress);
        self.of_service(service, EventKind::Deploy, level, message);
        let now = Timestamp::now();
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match steps.get(service) {
            Some(step) if step.deployment == deployment => step.begun,
            _ => now,
        };
        steps.insert(
            service.clone(),
            Step {
                progress,
                since: now,
                begun,
                deployment,
            },
        );
    }

    /// The last step of a service's deployment.
    pub fn step(&self, service: &ServiceName) -> Option<Step> {
        self.steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(service)
            .cloned()
    }

    fn record(
        &self,
        (service, instance, revision): (ServiceName, String, RevisionNumber),
        what: EventKind,
        (level, message): (Level, String),
        numbers: &[Number],
    ) {
        let mut attributes = format!(r#"{{"kind":"{}""#, what.as_str());
        for (name, value) in numbers {
            // Writing to a string cannot fail; names are of letters and underscores.
            let _ = write!(attributes, r#","{name}":{value}"#);
        }
        attributes.push('}');
        self.telemetry.log(NewRecord {
            instance,
            revision,
            level: Some(level),
            attributes,
            ..NewRecord::new(Timestamp::now(), service, Stream::Platform, message)
        });
    }
}

impl EventKind {
    /// As it stands in the log, and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Exit => "exit",
            Self::Alert => "alert",
            Self::Ejection => "ejection",
            Self::Breaker => "breaker",
            Self::Limit => "limit",
            Self::Config => "config",
            Self::Scale => "scale",
            Self::Oom => "oom",
            Self::Throttle => "throttle",
            Self::Other => "other",
        }
    }
}

/// What of a service's routes has changed; none if nothing has. Of what a route does besides leading
/// somewhere, it is only told that it has changed.
pub fn new_routes(before: &[RouteConfig], now: &[RouteConfig]) -> Option<String> {
    let title = |route: &RouteConfig| {
        let methods = route.methods.join(",");
        let host = route.host.as_deref().unwrap_or_default();
        format!("{methods} {host}{}", route.path).trim().to_owned()
    };
    let among = |route: &RouteConfig, all: &[RouteConfig]| {
        all.iter().any(|other| title(other) == title(route))
    };
    let gone = before.iter().filter(|route| !among(route, now));
    let new = now.iter().filter(|route| !among(route, before));
    let kept = now.iter().filter(|route| among(route, before));
    let changed = kept.filter(|route| !before.contains(route));
    let told = [("new", new.map(title).collect::<Vec<_>>())];
    let told = told.into_iter().chain([
        ("changed", changed.map(title).collect()),
        ("gone", gone.map(title).collect()),
    ]);
    let told = told.filter(|(_, routes)| !routes.is_empty());
    let told: Vec<_> = told
        .map(|(what, routes)| format!("{what}: {}", routes.join("; ")))
        .collect();
    (!told.is_empty()).then(|| format!("routes {}", told.join(", ")))
}

fn sentence(deployment: i64, progress: &Progress) -> (Level, String) {
    let text = match progress {
        Progress::Building => "building".to_owned(),
        Progress::Copying => "copying the files".to_owned(),
        Progress::Waiting => "waiting for what it depends on".to_owned(),
        Progress::Starting { revision, count } => format!("starting {count} of {revision}"),
        Progress::Shifted { revision } => format!("{revision} takes the traffic"),
        Progress::Succeeded => "done".to_owned(),
        Progress::Failed { reason } => {
            return (
                Level::Error,
                format!("deployment {deployment} failed: {reason}"),
            );
        }
    };
    (Level::Info, format!("deployment {deployment}: {text}"))
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn a_kind_is_called_alike_in_the_log_and_in_the_api() {
        let schema = serde_json::to_value(EventKind::schema()).unwrap();
        let words = schema["enum"].as_array().unwrap();
        assert!(words.len() > 10, "{schema}");
        for word in words {
            let kind: EventKind = serde_json::from_value(word.clone()).unwrap();
            assert_eq!(word, kind.as_str());
        }
    }

    #[test]
    fn what_is_exposed_otherwise_is_told_and_nothing_else() {
        let route = |path: &str, methods: &[&str]| RouteConfig {
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            ..RouteConfig::new(path)
        };
        let before = [route("/a", &["GET"]), route("/b", &[]), route("/c", &[])];
        let limited = RouteConfig {
            rewrite: Some("/x".to_owned()),
            ..route("/b", &[])
        };
        let now = [route("/a", &["GET"]), limited, route("/a", &["POST"])];
        assert_eq!(
            new_routes(&before, &now).unwrap(),
            "routes new: POST /a, changed: /b, gone: /c"
        );
        assert_eq!(new_routes(&now, &now), None);
        assert_eq!(new_routes(&[], &[]), None);
    }
}
