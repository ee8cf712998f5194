//! What the node itself has to say: one stream for the log and for whoever watches.
//!
//! A platform event is a log record of the stream `platform`, so it stands among the lines of the
//! service that it concerns, in order. The last step of each service is kept for `ps` and for the
//! picture that `up` draws.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Timestamp};
use atoll_deploy::Progress;
use atoll_telemetry::{Handle as Telemetry, Level, NewRecord, Stream};

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
        self.record(
            service.clone(),
            String::new(),
            RevisionNumber(0),
            level,
            message,
        );
    }

    /// Tells of one instance.
    pub fn instance(&self, id: &InstanceId, level: Level, message: String) {
        self.record(
            id.service().clone(),
            id.to_string(),
            id.revision(),
            level,
            message,
        );
    }

    /// Tells of the node itself.
    pub fn node(&self, level: Level, message: String) {
        let service = ServiceName::new("atoll").expect("a valid name");
        self.record(service, String::new(), RevisionNumber(0), level, message);
    }

    /// Remembers how a deployment gets on, and tells it.
    pub fn progress(&self, service: &ServiceName, deployment: i64, progress: Progress) {
        let (level, message) = sentence(deployment, &progress);
        self.service(service, level, message);
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
        service: ServiceName,
        instance: String,
        revision: RevisionNumber,
        level: Level,
        message: String,
    ) {
        self.telemetry.log(NewRecord {
            time: Timestamp::now(),
            service,
            instance,
            revision,
            stream: Stream::Platform,
            level: Some(level),
            trace: None,
            continued: false,
            message,
        });
    }
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
