//! The node as others see it: one picture of every service, put together from all parts.

use std::collections::HashMap;
use std::sync::PoisonError;

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Timestamp};
use atoll_deploy::Progress;
use atoll_proxy::{Resilience, ServiceStats};
use atoll_supervisor::{State, Status, Usage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Node;

/// The node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// The application's name.
    pub application: String,
    /// Its folder.
    pub dir: String,
    /// The version of Atoll.
    pub version: String,
    /// The node's process.
    pub pid: u32,
    /// Since when it runs (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// The address of the edge: that of HTTPS, if it is served.
    pub edge: String,
    /// Where browsers reach the console, if there is one.
    pub console: Option<String>,
    /// What is not as it should be on this machine; also why a database server that Atoll runs is
    /// down, why alerts do not get to whom they should, and why telemetry is not sent on, while that is so.
    pub warnings: Vec<String>,
    /// Why log lines are being lost right now, if they are.
    pub logs_trouble: Option<String>,
    /// Log lines lost since the node started.
    pub logs_dropped: u64,
}

/// How a service is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Its build command runs, or its files are being copied.
    Building,
    /// It waits for a service that it names in `wait_for`.
    Waiting,
    /// Its instances start.
    Starting,
    /// All instances that it should have are ready.
    Ready,
    /// Some are ready, not all.
    Degraded,
    /// None is ready, and starting them has failed.
    Failed,
}

impl ServiceState {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Building => "building",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// The step that a deployment has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployStep {
    /// The build command runs.
    Building,
    /// The files are being copied.
    Copying,
    /// What it waits for is not ready yet.
    Waiting,
    /// Instances were started.
    Starting,
    /// Traffic has moved to the revision.
    Shifted,
    /// It is over, well.
    Succeeded,
    /// It is over, and what served before goes on.
    Failed,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It runs, or is about to, and does not answer its check yet.
    Starting,
    /// It answers.
    Ready,
    /// It stopped answering, or never did, and is being ended in order to be started again.
    Unready,
    /// It ended and is started again after a pause.
    BackingOff,
    /// It ended again and again soon after its start. Still retried.
    CrashLoop,
    /// It was asked to leave.
    Stopping,
    /// It left, as asked or with exit code 0, and is not started again.
    Stopped,
    /// It ended or could not be started, and is not started again.
    Failed,
}

/// A service.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: ServiceName,
    /// The team that answers for it.
    pub owner: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// How it is.
    pub state: ServiceState,
    /// The revision that serves.
    #[schema(value_type = Option<u32>)]
    pub revision: Option<RevisionNumber>,
    /// Instances wanted.
    pub wanted: u32,
    /// Instances that have requests.
    pub serving: u32,
    /// The deployment that runs.
    pub deployment: Option<i64>,
    /// The step that its last deployment has reached.
    pub step: Option<DeployStep>,
    /// What went wrong last, while it matters.
    pub reason: Option<String>,
    /// Milliseconds from the begin of its last deployment until now or until it was done.
    pub deployment_ms: Option<u64>,
    /// Its instances.
    pub instances: Vec<InstanceView>,
    /// Requests per second, over the last ten seconds.
    pub requests_per_second: f64,
    /// Failed ones of these.
    pub errors_per_second: f64,
    /// The time within which 99 of 100 requests of the last minute were answered, in milliseconds.
    pub p99_ms: f64,
    /// Requests since the node started.
    pub requests: u64,
    /// Failed ones of these.
    pub errors: u64,
    /// What the edge exposes of it.
    pub routes: Vec<String>,
}

/// An instance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// The revision that it runs.
    #[schema(value_type = u32)]
    pub revision: RevisionNumber,
    /// Where it is in its life.
    pub state: InstanceState,
    /// Whether it has requests.
    pub serving: bool,
    /// Its main process.
    pub pid: Option<u32>,
    /// Where it listens.
    pub address: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// Since when it is in its state (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why it is not well.
    pub reason: Option<String>,
    /// What it printed last, if it is not well.
    pub last_lines: Vec<String>,
    /// Processor time used, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, in bytes.
    pub memory: u64,
}

impl DeployStep {
    /// The word, for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Copying => "copying",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Shifted => "shifted",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl From<&Progress> for DeployStep {
    fn from(progress: &Progress) -> Self {
        match progress {
            Progress::Building => Self::Building,
            Progress::Copying => Self::Copying,
            Progress::Waiting => Self::Waiting,
            Progress::Starting { .. } => Self::Starting,
            Progress::Shifted { .. } => Self::Shifted,
            Progress::Succeeded => Self::Succeeded,
            Progress::Failed { .. } => Self::Failed,
        }
    }
}

impl InstanceState {
    /// The words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::BackingOff => "backing off",
            Self::CrashLoop => "crash loop",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl From<State> for InstanceState {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Ready => Self::Ready,
            State::Unready => Self::Unready,
            State::BackingOff => Self::BackingOff,
            State::CrashLoop => Self::CrashLoop,
            State::Stopping => Self::Stopping,
            State::Stopped => Self::Stopped,
            State::Failed => Self::Failed,
        }
    }
}

impl Node {
    /// Where clients are to go.
    fn edge(&self) -> String {
        let proxy = &self.parts.proxy;
        match proxy.tls_addr() {
            Some(addr) => format!("https://{addr}"),
            None => format!("http://{}", proxy.edge_addr()),
        }
    }

    /// What went over each route and each dependency since the start.
    pub fn series(&self) -> Vec<atoll_proxy::meter::Series> {
        self.parts.proxy.series()
    }

    /// What each instance that runs uses now.
    pub fn usage(&self) -> Vec<(InstanceId, Usage)> {
        let supervisor = &self.parts.supervisor;
        let listed = supervisor.list().into_iter();
        listed
            .filter_map(|status| Some((status.id.clone(), supervisor.usage(&status.id)?)))
            .collect()
    }

    /// How the cache of the edge does.
    pub fn cache(&self) -> atoll_proxy::cache::CacheStats {
        self.parts.proxy.cache()
    }

    /// Forgets answers of the cache; tells how many pages.
    pub fn purge(&self, what: &atoll_proxy::cache::Purge) -> usize {
        self.parts.proxy.purge(what)
    }

    /// What keeps requests away from where they would go.
    pub fn resilience(&self) -> Resilience {
        self.parts.proxy.explain()
    }

    /// The node itself.
    pub fn view(&self) -> NodeView {
        let health = self.parts.telemetry.health();
        let application = self.application();
        NodeView {
            application: application.file.name.to_string(),
            dir: application.dir.display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            edge: self.edge(),
            console: self.console().addr().map(|addr| format!("http://{addr}")),
            warnings: self.warnings(),
            logs_trouble: health.trouble,
            logs_dropped: health.dropped,
        }
    }

    /// What this machine lacks, servers of Atoll's own that do not run, alerts that nobody gets, and telemetry
    /// that cannot be sent on.
    fn warnings(&self) -> Vec<String> {
        let lasting = self.parts.warnings.lock();
        let mut warnings = lasting.unwrap_or_else(PoisonError::into_inner).clone();
        warnings.extend(self.parts.own_ready.troubles());
        warnings.extend(self.parts.alerts.troubles());
        let export = self.export().and_then(|own| own.stats().trouble);
        warnings.extend(export.map(|why| format!("telemetry cannot be sent on: {why}")));
        warnings
    }

    /// Every service, by name.
    pub async fn services(&self) -> Vec<ServiceView> {
        let deployed = self.parts.deploy.list().await;
        let statuses = self.parts.supervisor.list();
        let stats: HashMap<ServiceName, ServiceStats> = self
            .parts
            .proxy
            .stats()
            .into_iter()
            .map(|s| (s.service.clone(), s))
            .collect();
        deployed
            .into_iter()
            .map(|deployed| {
                let own: Vec<&Status> = statuses
                    .iter()
                    .filter(|s| *s.id.service() == deployed.service)
                    .collect();
                self.service_view(&deployed, &own, stats.get(&deployed.service))
            })
            .collect()
    }

    fn service_view(
        &self,
        deployed: &atoll_deploy::ServiceView,
        statuses: &[&Status],
        stats: Option<&ServiceStats>,
    ) -> ServiceView {
        let step = self.parts.events.step(&deployed.service);
        let instances: Vec<InstanceView> = statuses
            .iter()
            .map(|status| self.instance_view(deployed, status))
            .collect();
        let serving = instances.iter().filter(|instance| instance.serving).count();
        let application = self.application();
        let file = application
            .services
            .get(&deployed.service)
            .map(|service| &service.file);
        // What serves is told by the revision that serves, not by the folder.
        let served = self.parts.traffic.file_of(&deployed.service);
        let progress = step.as_ref().map(|step| &step.progress);
        let failure = match progress {
            Some(Progress::Failed { reason }) => Some(reason.clone()),
            _ => None,
        };
        let ill = statuses.iter().find_map(|status| status.reason.clone());
        let ill = ill.or_else(|| self.parts.ground.trouble(&deployed.service));
        let state = state(deployed, progress, serving as u32);
        ServiceView {
            name: deployed.service.clone(),
            owner: file.and_then(|file| file.owner.clone()),
            description: file.and_then(|file| file.description.clone()),
            state,
            revision: deployed.revision,
            wanted: deployed.count,
            serving: serving as u32,
            deployment: deployed.deployment,
            step: progress.map(DeployStep::from),
            reason: match state {
                ServiceState::Ready => None,
                ServiceState::Waiting => file.map(|file| waits_for(&file.wait_for)),
                _ => ill.or(failure),
            },
            deployment_ms: step.as_ref().map(|step| {
                let end = if deployed.deployment.is_some() {
                    Timestamp::now()
                } else {
                    step.since
                };
                u64::try_from(end.since(step.begun).as_millis()).unwrap_or(u64::MAX)
            }),
            instances,
            requests_per_second: stats.map_or(0.0, |s| s.requests_per_second),
            errors_per_second: stats.map_or(0.0, |s| s.errors_per_second),
            p99_ms: stats.map_or(0.0, |s| s.p99.as_secs_f64() * 1e3),
            requests: stats.map_or(0, |s| s.requests),
            errors: stats.map_or(0, |s| s.errors),
            routes: served
                .map(|f| f.route.iter().map(route).collect())
                .unwrap_or_default(),
        }
    }

    fn instance_view(&self, deployed: &atoll_deploy::ServiceView, status: &Status) -> InstanceView {
        let usage = self.parts.supervisor.usage(&status.id).unwrap_or_default();
        InstanceView {
            id: status.id.to_string(),
            revision: status.id.revision(),
            state: status.state.into(),
            serving: status.state == State::Ready && deployed.serving.contains(&status.id),
            pid: status.pid,
            address: status.addr.map(|addr| addr.to_string()),
            restarts: status.restarts,
            since: status.since,
            reason: status.reason.clone(),
            last_lines: status.last_lines.clone(),
            cpu_ns: usage.cpu_ns,
            memory: usage.memory,
        }
    }
}

fn state(
    deployed: &atoll_deploy::ServiceView,
    progress: Option<&Progress>,
    serving: u32,
) -> ServiceState {
    match progress {
        _ if serving > 0 && serving >= deployed.count => ServiceState::Ready,
        _ if serving > 0 => ServiceState::Degraded,
        Some(Progress::Building | Progress::Copying) => ServiceState::Building,
        Some(Progress::Waiting) => ServiceState::Waiting,
        Some(Progress::Failed { .. }) => ServiceState::Failed,
        Some(Progress::Starting { .. } | Progress::Shifted { .. }) | None => ServiceState::Starting,
        // It was well once, and all its instances are down.
        Some(Progress::Succeeded) => ServiceState::Failed,
    }
}

fn waits_for(services: &[ServiceName]) -> String {
    let names: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
    format!("waits for {}", names.join(", "))
}

fn route(route: &atoll_proxy::RouteConfig) -> String {
    let methods = if route.methods.is_empty() {
        "any".to_owned()
    } else {
        route.methods.join(",")
    };
    let host = route.host.as_deref().unwrap_or_default();
    format!("{methods} {host}{}", route.path)
}
