//! What deployments stand on: the supervisor, the proxy and the databases, behind one trait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use atoll_base::{Coded, InstanceId, ServiceName, Tasks};
use atoll_deploy::{
    BoxFuture, DeployConfig, Ground, InstanceNews, Progress, Revision, ScaleConfig, Source,
};
use atoll_events::{OutboxConfig, outbox};
use atoll_supervisor::{Handle as Supervisor, InstanceSpec};
use atoll_telemetry::{Level, NewRecord, Stream};
use tokio::sync::watch;

use super::environment::{self, DependencyUrl, Folders};
use super::events::{self, EventKind, Events};
use super::outbox::OwnDatabase;
use super::traffic::Traffic;
use crate::database::Databases;
use crate::manifest::{self, DatabaseKind, ServiceFile};

/// The pause between two attempts to make a database.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

/// Lines of a failed build that are part of its error.
const BUILD_LINES_SHOWN: usize = 20;

/// The ground of this node.
pub struct NodeGround {
    pub folders: Folders,
    /// The application's name.
    pub application: String,
    pub supervisor: Supervisor,
    pub traffic: Arc<Traffic>,
    pub databases: Arc<Databases>,
    pub topics: Option<Arc<super::broker::Topics>>,
    pub events: Arc<Events>,
    pub telemetry: atoll_telemetry::Handle,
    pub tasks: Tasks,
    /// Set once the deployments run.
    pub deploy: OnceLock<atoll_deploy::Handle>,
    /// Instances whose environment is still being prepared, and the way to give that up.
    pub preparing: Mutex<HashMap<InstanceId, Preparing>>,
    /// Marks what the node runs besides instances (builds), so that it is found when the node dies.
    pub node_id: String,
}

/// An instance whose environment is being prepared.
pub struct Preparing {
    /// Set when nobody wants the instance any more.
    given_up: watch::Sender<bool>,
    /// Why the last attempt did not succeed.
    trouble: Option<String>,
}

/// The manifest of a revision, read once for all who hold the revision. It was sound when the
/// revision was made; one that this version of Atoll cannot read any more is told, and the service
/// does not start.
pub fn file_of(revision: &Revision) -> Result<Arc<ServiceFile>, String> {
    let reading = revision
        .manifest
        .reading(|text| manifest::parse_stored(text).map(Arc::new));
    reading.as_ref().clone().map_err(|error| {
        format!(
            "the manifest of {} {} cannot be read by this version: {}",
            revision.service,
            revision.number,
            error.message()
        )
    })
}

impl NodeGround {
    /// Everything the instance needs to run; the error is for a person.
    async fn spec(&self, id: &InstanceId, revision: &Revision) -> Result<InstanceSpec, String> {
        let file = file_of(revision)?;
        let data = self.folders.data(id.service());
        tokio::fs::create_dir_all(&data)
            .await
            .map_err(|error| format!("cannot make {}: {error}", data.display()))?;
        let mut resources = match file.database.as_ref().map(|own| own.kind) {
            None => Vec::new(),
            Some(DatabaseKind::Sqlite) => {
                vec![("DATABASE_URL".to_owned(), environment::sqlite_url(&data))]
            }
            Some(kind) => {
                let had = self.databases.variables(id.service(), kind).await;
                had.map_err(|error| {
                    format!("its database cannot be had: {error} ({})", error.code())
                })?
            }
        };
        if let Some(topics) = &self.topics {
            let own = super::http_door::own_name();
            let events = self.traffic.mesh_address(id.service(), &own);
            resources.extend(topics.variables(id.service(), &file, events));
        }
        let otlp = super::otlp::own_name();
        let otlp = self.traffic.mesh_address(id.service(), &otlp);
        resources.extend(super::otlp::variables(otlp));
        let dependencies: Vec<DependencyUrl> = file
            .needs
            .iter()
            .map(|callee| {
                let address = self.traffic.mesh_address(id.service(), callee);
                DependencyUrl {
                    callee: callee.clone(),
                    url: format!("http://{address}"),
                }
            })
            .collect();
        Ok(environment::instance_spec(
            &self.folders,
            id,
            revision,
            &file,
            &dependencies,
            &self.application,
            resources,
        ))
    }

    /// Tries until the spec is whole or nobody wants the instance any more.
    async fn start_when_prepared(&self, id: InstanceId, revision: Revision) {
        loop {
            let prepared = self.spec(&id, &revision).await;
            let Some((given_up, reason)) = self.hand_over(&id, prepared) else {
                return;
            };
            self.events.instance(
                &id,
                EventKind::Exit,
                Level::Error,
                format!("cannot be started: {reason}"),
            );
            if let Some(deploy) = self.deploy.get() {
                deploy.news(id.clone(), InstanceNews::Lost(reason)).await;
            }
            wait(given_up).await;
        }
    }

    /// Starts the instance if it is still wanted; answers why it could not, if another attempt is
    /// due. One lock for the question and the start: an instance that is stopped meanwhile is
    /// either not started or known to the supervisor.
    fn hand_over(
        &self,
        id: &InstanceId,
        prepared: Result<InstanceSpec, String>,
    ) -> Option<(watch::Receiver<bool>, String)> {
        let mut preparing = self
            .preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = preparing.get_mut(id)?;
        match prepared {
            Ok(spec) => {
                self.supervisor.start(spec);
                preparing.remove(id);
                None
            }
            Err(reason) => {
                entry.trouble = Some(reason.clone());
                Some((entry.given_up.subscribe(), reason))
            }
        }
    }

    /// Why instances of the service cannot be started, while that is so.
    pub fn trouble(&self, service: &ServiceName) -> Option<String> {
        let preparing = self
            .preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut own = preparing.iter().filter(|(id, _)| id.service() == service);
        own.find_map(|(_, preparing)| preparing.trouble.clone())
    }

    /// The outbox of the service, and the way to its database.
    fn outbox<'a>(
        &self,
        service: &ServiceName,
        file: &'a ServiceFile,
    ) -> Option<(&'a OutboxConfig, outbox::Source)> {
        let source = match file.database.as_ref()?.kind {
            DatabaseKind::Sqlite => {
                let data = self.folders.data(service);
                outbox::Source::Sqlite(environment::sqlite_file(&data))
            }
            DatabaseKind::Postgres => {
                let databases = Arc::clone(&self.databases);
                outbox::Source::Postgres(Arc::new(OwnDatabase::new(service.clone(), databases)))
            }
            DatabaseKind::Redis => return None,
        };
        Some((file.outbox.as_ref()?, source))
    }

    fn settings_of(&self, revision: &Revision) -> (ScaleConfig, DeployConfig) {
        match file_of(revision) {
            Ok(file) => (file.scale.clone(), file.deploy.clone()),
            Err(_) => Default::default(),
        }
    }
}

/// The pause before the next attempt; ends early when the attempt is given up.
async fn wait(mut given_up: watch::Receiver<bool>) {
    let stopped = given_up.wait_for(|given_up| *given_up);
    // Time is up, or the sender is gone: the next look at the table tells.
    let _ = tokio::time::timeout(DATABASE_RETRY, stopped).await;
}

/// The trait is implemented for the `Arc`, because what takes time holds on to the ground.
#[derive(Clone)]
pub struct SharedGround(pub Arc<NodeGround>);

impl Ground for SharedGround {
    fn build(&self, service: &ServiceName, source: &Source) -> BoxFuture<Result<(), String>> {
        let ground = Arc::clone(&self.0);
        let (service, source) = (service.clone(), source.clone());
        Box::pin(async move { ground.run_build(&service, &source).await })
    }

    fn settings(&self, revision: &Revision) -> (ScaleConfig, DeployConfig) {
        self.0.settings_of(revision)
    }

    fn start(&self, id: &InstanceId, revision: &Revision) {
        let ground = Arc::clone(&self.0);
        let mut preparing = ground
            .preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let given_up = watch::channel(false).0;
        preparing.insert(
            id.clone(),
            Preparing {
                given_up,
                trouble: None,
            },
        );
        drop(preparing);
        let (id, revision) = (id.clone(), revision.clone());
        self.0.tasks.spawn("start", async move {
            ground.start_when_prepared(id, revision).await
        });
    }

    fn serve(&self, revision: &Revision, ids: &[InstanceId], standby: &[InstanceId]) {
        match file_of(revision) {
            Ok(file) => {
                if let Some(topics) = &self.0.topics {
                    topics.serve(&revision.service, &file.subscribe);
                    let outbox = self.0.outbox(&revision.service, &file);
                    topics.outboxes().serve(&revision.service, outbox);
                }
                let before = self.0.traffic.file_of(&revision.service);
                // What a service exposes when it first serves is told by its deployment.
                let told = before.and_then(|before| events::new_routes(&before.route, &file.route));
                if let Some(told) = told {
                    let told = (Level::Info, told);
                    let service = &revision.service;
                    let events = &self.0.events;
                    events.service_with(service, EventKind::Config, told, &[]);
                }
                self.0.traffic.serve(&revision.service, file, ids, standby);
            }
            Err(reason) => self
                .0
                .events
                .service(&revision.service, Level::Error, reason),
        }
    }

    fn drained(&self, id: &InstanceId) -> BoxFuture<()> {
        Box::pin(self.0.traffic.drained(id))
    }

    fn stop(&self, id: &InstanceId) -> BoxFuture<()> {
        let given_up = {
            let mut preparing = self
                .0
                .preparing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            preparing.remove(id)
        };
        if let Some(preparing) = given_up {
            preparing.given_up.send_replace(true);
        }
        let (supervisor, id) = (self.0.supervisor.clone(), id.clone());
        Box::pin(async move { supervisor.stop(&id).await })
    }

    fn progress(&self, service: &ServiceName, deployment: i64, progress: Progress) {
        self.0.events.progress(service, deployment, progress);
    }
}

impl NodeGround {
    async fn run_build(&self, service: &ServiceName, source: &Source) -> Result<(), String> {
        let last_lines = Arc::new(Mutex::new(std::collections::VecDeque::new()));
        let (telemetry, name) = (self.telemetry.clone(), service.clone());
        let lines = Arc::clone(&last_lines);
        let on_line = move |line: &str| {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == BUILD_LINES_SHOWN {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
            drop(lines);
            telemetry.log(build_line(&name, line));
        };
        let built = super::build::run(source, &self.node_id, on_line).await;
        built.map_err(|ending| {
            let lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            let shown: Vec<&str> = lines.iter().map(String::as_str).collect();
            format!(
                "`{}` {ending}\n{}",
                source.build.join(" "),
                shown.join("\n")
            )
        })
    }
}

fn build_line(service: &ServiceName, line: &str) -> NewRecord {
    let now = atoll_base::Timestamp::now();
    NewRecord {
        instance: "build".to_owned(),
        ..NewRecord::new(now, service.clone(), Stream::Stdout, line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_a_revision_is_read_once() {
        let revision = Revision {
            service: ServiceName::new("orders").unwrap(),
            number: atoll_base::RevisionNumber(1),
            digest: atoll_deploy::artifact::Digest::from_stored(String::new()),
            manifest: atoll_deploy::Manifest::new("name = \"orders\"\nrun = [\"true\"]"),
            source: String::new(),
            fingerprint: String::new(),
            created: atoll_base::Timestamp::now(),
        };
        let copy = revision.clone();
        let first = file_of(&revision).unwrap();
        assert_eq!(first.name.as_str(), "orders");
        assert!(Arc::ptr_eq(&first, &file_of(&copy).unwrap()));
    }
}
