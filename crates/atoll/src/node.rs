//! The node: introduces the parts to each other and runs an application.
//!
//! Every crossing between subsystems stands in this folder: [`sinks`] is what the supervisor and
//! the proxy tell the others, [`ground`] what deployments ask of them, [`traffic`] the agreement
//! about who serves. The parts themselves do not know each other.

mod access_log;
mod alerts;
mod api_keys;
mod broker;
mod build;
mod bus;
mod certificates;
mod courier;
mod environment;
mod events;
mod export;
mod ground;
mod hop;
mod http_door;
mod kafka;
mod kafka_tls;
mod keys;
mod mesh_door;
mod notices;
mod otlp;
mod outbox;
mod own_metrics;
mod post;
mod sinks;
mod traffic;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use atoll_base::{ServiceName, Tasks, Timestamp};
use atoll_console::Console;
use atoll_deploy::{Deployment, History, Request, Source};
use atoll_store::{Migration, Sql, StateDir};
use tokio::sync::oneshot;

use crate::admin;
use crate::database::{self, Databases};
use crate::manifest::{self, Application, ServiceManifest};
use access_log::AccessLog;
use alerts::Alerts;
use environment::Folders;
use events::Events;
use ground::{NodeGround, SharedGround};
use traffic::Traffic;

pub use alerts::SilenceError;
pub use api_keys::{KeyRing, KeyRingError};
pub use broker::Topics;
pub use events::EventKind;
pub use ground::file_of;
pub use own_metrics::metric;
pub use sinks::OwnReady;
pub use views::{DeployStep, NodeView, ServiceState, ServiceView};

/// The state folder, within the application's.
pub const STATE_FOLDER: &str = ".atoll";

/// Requests that are under way when the node stops are given this long.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The tables of everyone who keeps something in the state.
const MIGRATIONS: [Migration; 11] = [
    atoll_console::MIGRATION,
    atoll_deploy::MIGRATION,
    database::MIGRATION,
    alerts::MIGRATION,
    api_keys::MIGRATION,
    atoll_broker::journal::MIGRATION,
    atoll_events::http::MIGRATION,
    atoll_events::dead::MIGRATION,
    atoll_events::registry::MIGRATION,
    atoll_events::kafka::MIGRATION,
    atoll_events::jobs::MIGRATION,
];

/// Tasks that were asked to end are given this long.
const TASKS_END_WITHIN: Duration = Duration::from_secs(2);

/// A running application.
pub struct Node {
    application: Mutex<Application>,
    started: Timestamp,
    stop_requested: tokio::sync::Notify,
    parts: Parts,
    _state: StateDir,
}

/// What the node introduced to each other.
struct Parts {
    proxy: atoll_proxy::Handle,
    supervisor: atoll_supervisor::Handle,
    deploy: atoll_deploy::Handle,
    ground: Arc<NodeGround>,
    telemetry: atoll_telemetry::Handle,
    sent: otlp::Sent,
    traffic: Arc<Traffic>,
    events: Arc<Events>,
    warnings: Arc<Mutex<Vec<String>>>,
    own_ready: Arc<OwnReady>,
    api_keys: KeyRing,
    access_log: Option<Arc<AccessLog>>,
    alerts: Arc<Alerts>,
    topics: Option<Arc<broker::Topics>>,
    front: Front,
    tasks: Tasks,
}

/// What people see of the node.
struct Front {
    console: Console,
    watch: admin::live::Watch,
    /// Where browsers come in, until it is served.
    door: Mutex<Option<tokio::net::TcpListener>>,
}

/// What a deployment of one service is to be.
pub enum Order {
    /// A new revision, of the folder if one is named, else of the member's own.
    Deploy(Option<PathBuf>),
    /// Back to a revision, or to the one before.
    Rollback(Option<atoll_base::RevisionNumber>),
    /// New instances.
    Restart,
    /// So many instances.
    Scale(u32),
}

/// A deployment that has begun.
pub type Begun = (
    i64,
    oneshot::Receiver<Result<Deployment, atoll_deploy::Error>>,
);

impl Node {
    /// Takes the state folder, ends what an earlier node left, binds all ports. No service runs
    /// yet; see [`Node::start_services`].
    ///
    /// # Errors
    /// When the folder is in use or a port is taken. Nothing is left behind then.
    pub async fn open(application: Application) -> anyhow::Result<Arc<Self>> {
        let state = StateDir::open(&application.dir.join(STATE_FOLDER))?;
        let parts = Parts::introduce(&application, &state).await?;
        let node = Arc::new(Self {
            application: Mutex::new(application),
            started: Timestamp::now(),
            stop_requested: tokio::sync::Notify::new(),
            parts,
            _state: state,
        });
        node.alerts().start(&node, node.tasks());
        Ok(node)
    }

    /// Who may come to the console, and what they did.
    pub fn console(&self) -> &Console {
        &self.parts.front.console
    }

    /// Those who watch services.
    pub fn watch(&self) -> &admin::live::Watch {
        &self.parts.front.watch
    }

    /// Where browsers come in: once, for who serves them.
    pub fn take_console_door(&self) -> Option<tokio::net::TcpListener> {
        let door = self.parts.front.door.lock();
        door.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The tasks of the node; stopping them stops the node.
    pub fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    /// Asks the node to stop; who runs it will.
    pub fn request_stop(&self) {
        self.stop_requested.notify_one();
    }

    /// Completes when somebody has asked for a stop.
    ///
    /// # Errors
    /// When a task has panicked, and the node must stop for that reason.
    pub async fn stop_requested(&self) -> anyhow::Result<()> {
        tokio::select! {
            () = self.stop_requested.notified() => Ok(()),
            () = self.parts.tasks.stopping() => {
                anyhow::bail!("a part of the node has failed; the lines above tell where")
            }
        }
    }

    /// The log.
    pub fn telemetry(&self) -> &atoll_telemetry::Handle {
        &self.parts.telemetry
    }

    /// Metrics that were sent.
    pub fn metrics(&self) -> &atoll_telemetry::metrics::Handle {
        &self.parts.sent.metrics
    }

    /// How much has come by OTLP.
    pub fn otlp(&self) -> &atoll_telemetry::otlp::Door {
        &self.parts.sent.door
    }

    /// What is sent on, if anything is.
    pub fn export(&self) -> Option<&atoll_telemetry::export::Exporter> {
        self.parts.sent.export.as_ref()
    }

    /// Objectives and alerts.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.parts.alerts
    }

    /// The deployments.
    pub fn deployments(&self) -> &atoll_deploy::Handle {
        &self.parts.deploy
    }

    /// The API keys.
    pub fn api_keys(&self) -> &KeyRing {
        &self.parts.api_keys
    }

    /// Topics and all about them; none if the application has no `[events]`.
    pub fn topics(&self) -> Option<&Arc<Topics>> {
        self.parts.topics.as_ref()
    }

    /// Where each service's own folder is.
    pub fn service_folders(&self) -> BTreeMap<ServiceName, PathBuf> {
        let application = self.application();
        let services = application.services.iter();
        services
            .map(|(name, service)| (name.clone(), service.dir.clone()))
            .collect()
    }

    /// Whether the service's folder differs from what the last revision was made of.
    pub async fn has_changed(&self, service: &ServiceName) -> bool {
        let Some(dir) = self.service_folders().remove(service) else {
            return false;
        };
        let source = dir.display().to_string();
        let history = self.parts.deploy.history();
        let last = history
            .last_fingerprint(service, source)
            .await
            .ok()
            .flatten();
        let looked = tokio::task::spawn_blocking(move || atoll_deploy::artifact::fingerprint(&dir));
        match looked.await {
            Ok(Ok(now)) => last != Some(now),
            // What cannot be read is told by the deployment.
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Begins a deployment.
    ///
    /// # Errors
    /// When a manifest has mistakes, or the service is being deployed already.
    pub async fn order(
        &self,
        service: &ServiceName,
        order: Order,
        who: &str,
        why: &str,
    ) -> Result<Begun, OrderError> {
        let before = self.application().services.get(service).cloned();
        let request = match order {
            // A few small files are read.
            Order::Deploy(ref dir) => Request::Deploy(tokio::task::block_in_place(|| {
                self.source(service, dir.as_deref())
            })?),
            Order::Rollback(revision) => Request::Rollback(revision),
            Order::Restart => Request::Restart,
            Order::Scale(count) => Request::Scale(count),
        };
        // What a new manifest publishes and reads holds before its instances start.
        if let Some(topics) = &self.parts.topics {
            let application = self.application().clone();
            if let Err(error) = topics.declare(&application).await {
                let known = &mut self.application().services;
                known.remove(service);
                known.extend(before.map(|own| (service.clone(), own)));
                return Err(error.into());
            }
        }
        let begun = self.parts.deploy.begin(service, request, who, why).await?;
        if let Order::Scale(count) = order {
            let for_what = if why.is_empty() {
                String::new()
            } else {
                format!(": {why}")
            };
            let told = (
                atoll_telemetry::Level::Info,
                format!("{who} wants {count} instances{for_what}"),
            );
            let count = [("instances", u64::from(count))];
            let events = &self.parts.events;
            events.service_with(service, events::EventKind::Scale, told, &count);
        }
        Ok(begun)
    }

    /// Reads the service's manifest anew, from `dir` if one is named, and checks how it fits with
    /// the others as they were last sound: a mistake in another team's file is not in the way. Only
    /// for a service that is not known yet, everything is read.
    fn source(&self, service: &ServiceName, dir: Option<&Path>) -> Result<Source, OrderError> {
        let known = self.application().clone();
        let home = known
            .services
            .get(service)
            .map(|service| service.dir.clone());
        let application = match (dir.or(home.as_deref()), &home) {
            (Some(dir), Some(_)) => manifest::reload(known, dir),
            (dir, _) => manifest::load_with(&known.dir, dir),
        };
        let mut application = application.map_err(OrderError::Manifest)?;
        let found = application.services.get(service);
        let found = found.ok_or_else(|| atoll_deploy::Error::NoService(service.clone()))?;
        let wanted = dir.and_then(|dir| dir.canonicalize().ok());
        if wanted.is_some_and(|dir| dir != found.dir) {
            return Err(OrderError::OtherService(service.clone()));
        }
        let source = source_of(found);
        // A folder that was named is for this once; the service's own stays where it is.
        if let (Some(service), Some(home)) = (application.services.get_mut(service), home) {
            service.dir = home;
        }
        *self.application() = application;
        Ok(source)
    }

    /// Stops everything, in order: the edge takes no new requests, those under way end, instances
    /// leave (and may call each other until then), the mesh closes, the log is written.
    pub async fn stop(&self) {
        self.parts
            .events
            .node(atoll_telemetry::Level::Info, "stopping".to_owned());
        self.parts.proxy.stop_edge(DRAIN_MAX).await;
        let slowest = self
            .application()
            .services
            .values()
            .map(|s| s.file.stop_timeout.0)
            .max();
        let limit = slowest.unwrap_or_default() + Duration::from_secs(5);
        if let Some(topics) = &self.parts.topics {
            topics.pushes().stop(DRAIN_MAX).await;
        }
        self.parts.deploy.stop_all(limit).await;
        // A database waits for those who are connected.
        if let Some(topics) = &self.parts.topics {
            topics.outboxes().stop(DRAIN_MAX).await;
        }
        self.parts.supervisor.stop_all().await;
        self.parts.proxy.stop(Duration::from_secs(1)).await;
        if let Some(log) = &self.parts.access_log {
            tokio::task::block_in_place(|| log.close());
        }
        self.parts.tasks.stop();
        if let Some(topics) = &self.parts.topics {
            topics.close().await;
        }
        if let Err(error) = self.parts.sent.metrics.flush().await {
            tracing::warn!(%error, "the last metrics may be missing");
        }
        if !self.parts.tasks.join(TASKS_END_WITHIN).await {
            tracing::warn!("a task of the node does not end");
        }
        self.parts.telemetry.close().await;
    }

    /// Begins to start every service. `build`: even those whose files have not changed are built.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn start_services(&self, build: bool) -> anyhow::Result<()> {
        let view = self.view();
        let message = format!("atoll {} started, edge {}", view.version, view.edge);
        self.parts
            .events
            .node(atoll_telemetry::Level::Info, message);
        let services: Vec<ServiceManifest> =
            self.application().services.values().cloned().collect();
        for service in services {
            let traffic = Arc::clone(&self.parts.traffic);
            let wait_for = service.file.wait_for.clone();
            let gate = Box::pin(async move {
                for name in &wait_for {
                    traffic.wait_ready(name).await;
                }
            });
            let request = Request::Up {
                source: source_of(&service),
                build,
                gate,
            };
            let name = service.file.name.clone();
            self.parts
                .deploy
                .begin(&name, request, &crate::who(), "up")
                .await?;
        }
        Ok(())
    }

    fn application(&self) -> std::sync::MutexGuard<'_, Application> {
        self.application
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a deployment did not begin.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The manifests have mistakes.
    #[error("{0}")]
    Manifest(manifest::Report),
    /// The folder holds another service.
    #[error("the folder does not hold the service '{0}'; its service.toml has another name")]
    OtherService(ServiceName),
    /// The deployment is refused.
    #[error(transparent)]
    Deploy(#[from] atoll_deploy::Error),
    /// Its topics cannot be set up.
    #[error(transparent)]
    Topics(#[from] broker::TopicsError),
}

fn source_of(service: &ServiceManifest) -> Source {
    Source {
        dir: service.dir.clone(),
        manifest: service.text.clone(),
        build: service.file.build.clone(),
        artifact: service.file.artifact.clone(),
    }
}

impl Parts {
    /// Makes every part and introduces it to those it needs.
    async fn introduce(application: &Application, state: &StateDir) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let telemetry = telemetry(application, state)?;
        let sql = Sql::open(&state.path().join("state.db"), &MIGRATIONS)?;
        let events = Arc::new(Events::new(telemetry.clone()));
        let api_keys = KeyRing::open(sql.clone()).await?;
        let front = Front::open(application, &sql).await?;
        let doors = keys::Doors::open(application, &api_keys)?;
        let access_log = access_log(application, &events)?;
        let spans = sinks::Spans2Log::new(telemetry.clone(), access_log.clone());
        let proxy = proxy(application, &doors, spans)?;
        let traffic = Arc::new(Traffic::new(proxy.clone()));
        let sent = otlp::open(application, state, &telemetry, &traffic, &tasks).await?;
        let told = (&events, &traffic);
        let topics = broker::Topics::open(application, state, &sql, told, &tasks).await?;
        let alerts = Alerts::open(application, &sql, topics.as_ref(), &events).await?;
        let (news, own_ready): (Arc<sinks::News>, Arc<OwnReady>) = Default::default();
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let watch = sinks::InstanceWatch {
            traffic: Arc::clone(&traffic),
            topics: topics.clone(),
            events: Arc::clone(&events),
            news: Arc::clone(&news),
            own_ready: Arc::clone(&own_ready),
            warnings: Arc::clone(&warnings),
        };
        let node_id = node_id(state.path())?;
        let supervisor = supervisor(state, &node_id, watch, &telemetry, &tasks)?;
        state.subdir("data")?;
        let ground = Arc::new(NodeGround {
            node_id,
            application: application.file.name.to_string(),
            folders: Folders {
                state: state.path().to_owned(),
            },
            supervisor: supervisor.clone(),
            traffic: Arc::clone(&traffic),
            databases: Arc::new(databases(application, state, &sql, &supervisor, &own_ready)),
            events: Arc::clone(&events),
            telemetry: telemetry.clone(),
            topics: topics.clone(),
            tasks: tasks.clone(),
            deploy: OnceLock::new(),
            preparing: Mutex::new(HashMap::new()),
        });
        let deploy = deployments(&ground, sql, state, &tasks).await?;
        // The ground was made a moment ago; nobody else has set it.
        let _ = ground.deploy.set(deploy.clone());
        watch_over(&proxy, &supervisor, &events, &tasks);
        doors.keep(&traffic, &events, &tasks);
        sent.watch(&proxy, &supervisor, topics.clone(), &tasks);
        tasks.spawn("news", pass_news_on(news, deploy.clone(), tasks.clone()));
        Ok(Self {
            proxy,
            supervisor,
            deploy,
            ground,
            telemetry,
            sent,
            traffic,
            events,
            warnings,
            own_ready,
            api_keys,
            access_log,
            alerts: Arc::new(alerts),
            topics,
            front,
            tasks,
        })
    }
}

impl Front {
    async fn open(application: &Application, sql: &Sql) -> Result<Self, atoll_console::Error> {
        let opened = Console::open(&application.file.console, sql.clone());
        let (console, door) = opened.await?;
        Ok(Self {
            console,
            watch: admin::live::Watch::default(),
            door: Mutex::new(door),
        })
    }
}

/// Opens the store of what happened.
fn telemetry(
    application: &Application,
    state: &StateDir,
) -> anyhow::Result<atoll_telemetry::Handle> {
    let config = application.file.telemetry.clone();
    let folder = state.subdir("telemetry")?;
    Ok(atoll_telemetry::Service::start(&folder, config)?)
}

fn databases(
    application: &Application,
    state: &StateDir,
    sql: &Sql,
    supervisor: &atoll_supervisor::Handle,
    ready: &Arc<OwnReady>,
) -> Databases {
    let context = database::Context {
        application: application.file.name.to_string(),
        state: state.path().to_owned(),
        sql: sql.clone(),
        supervisor: supervisor.clone(),
        ready: Arc::clone(ready),
    };
    Databases::new(context, &application.file)
}

/// The data plane, with its ports bound.
fn proxy(
    application: &Application,
    doors: &keys::Doors,
    spans: sinks::Spans2Log,
) -> anyhow::Result<atoll_proxy::Handle> {
    let mut edge = application.file.edge.clone();
    if let Some(tls) = &mut edge.tls {
        tls.resolve(&application.dir);
    }
    let config = atoll_proxy::Config {
        edge,
        mesh: application.file.mesh.clone(),
        auth: doors.authenticators.clone(),
        threads: None,
        failed_spans_only: application.file.telemetry.hops == atoll_telemetry::Hops::Failed,
    };
    Ok(atoll_proxy::Service::bind(config, Arc::new(spans))?.start())
}

fn access_log(
    application: &Application,
    events: &Arc<Events>,
) -> anyhow::Result<Option<Arc<AccessLog>>> {
    let config = application.file.edge.access_log.as_ref();
    let log = config.map(|config| AccessLog::open(&application.dir, config, Arc::clone(events)));
    Ok(log.transpose()?.map(Arc::new))
}

/// The supervisor, after what an earlier node left has been ended.
fn supervisor(
    state: &StateDir,
    node_id: &str,
    watch: sinks::InstanceWatch,
    telemetry: &atoll_telemetry::Handle,
    tasks: &Tasks,
) -> anyhow::Result<atoll_supervisor::Handle> {
    let run_dir = state.subdir("run")?;
    for ended in atoll_supervisor::recover(&run_dir, node_id)?.ended {
        let message = format!("ended what an earlier run had left: {ended}");
        watch.events.node(atoll_telemetry::Level::Warn, message);
    }
    let config = atoll_supervisor::Config {
        run_dir,
        node_id: node_id.to_owned(),
    };
    let output = Arc::new(sinks::Output2Log {
        telemetry: telemetry.clone(),
    });
    Ok(atoll_supervisor::Handle::open(
        config,
        Arc::new(watch),
        output,
        tasks.clone(),
    )?)
}

async fn deployments(
    ground: &Arc<NodeGround>,
    sql: Sql,
    state: &StateDir,
    tasks: &Tasks,
) -> anyhow::Result<atoll_deploy::Handle> {
    let ground = Arc::new(SharedGround(Arc::clone(ground)));
    let (history, artifacts) = (History::open(sql).await?, state.subdir("artifacts")?);
    Ok(atoll_deploy::Service::start(ground, history, artifacts, tasks.clone()).await?)
}

/// Looks after what changes without anybody's word.
fn watch_over(
    proxy: &atoll_proxy::Handle,
    supervisor: &atoll_supervisor::Handle,
    events: &Arc<Events>,
    tasks: &Tasks,
) {
    let renewing = certificates::watch(proxy.clone(), Arc::clone(events), tasks.clone());
    tasks.spawn("certificates", renewing);
    let asked = (proxy.clone(), supervisor.clone(), Arc::clone(events));
    tasks.spawn("notices", notices::watch(asked, tasks.clone()));
}

async fn pass_news_on(news: Arc<sinks::News>, deploy: atoll_deploy::Handle, tasks: Tasks) {
    loop {
        let came = tokio::select! {
            came = news.next() => came,
            () = tasks.stopping() => return,
        };
        for (id, item) in came {
            deploy.news(id, item).await;
        }
    }
}

/// The node's id: made once, kept in the state folder with the folder's path. A copy of the folder
/// is another node: with the same id, its start would end the services of the original.
fn node_id(state: &Path) -> anyhow::Result<String> {
    let path = state.join("node-id");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((id, home)) = known.trim_end().split_once(' ') {
        let sound = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if sound && Path::new(home) == state {
            return Ok(id.to_owned());
        }
    }
    let micros = Timestamp::now().as_micros();
    let fresh = format!("{:08x}{:08x}", micros & 0xffff_ffff, std::process::id());
    let text = format!("{fresh} {}\n", state.display());
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_id_and_a_copy_of_it_gets_another() {
        let (home, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = node_id(home.path()).unwrap();
        assert_eq!(node_id(home.path()).unwrap(), id);
        std::fs::copy(home.path().join("node-id"), copy.path().join("node-id")).unwrap();
        assert_ne!(node_id(copy.path()).unwrap(), id);
    }
}
