//! Performs what the fleets decide: one task per service, a [`Ground`] to stand on.
//!
//! Each service has an actor of its own, so a slow build of one never holds up another. The actor
//! owns its [`Fleet`](crate::rollout::Fleet); what takes time (building, copying, draining,
//! stopping) runs beside it and reports back as a message.

mod actor;
mod prepare;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Tasks};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::history::{Deployment, History, Kind, Revision};
use crate::{DeployConfig, Error, ScaleConfig};
use actor::{Actor, Message};

/// A future without a name.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Messages that may wait for one service's actor.
const QUEUE_LENGTH: usize = 256;

/// What deployments stand on; the node implements it over the supervisor and the proxy.
pub trait Ground: Send + Sync + 'static {
    /// Runs the build command of `source` in its folder. The error is for a person: how it ended
    /// and its last lines.
    fn build(&self, service: &ServiceName, source: &Source) -> BoxFuture<Result<(), String>>;

    /// The part of a revision's manifest that matters here.
    fn settings(&self, revision: &Revision) -> (ScaleConfig, DeployConfig);

    /// Begins to start an instance. What becomes of it is told by [`Handle::news`].
    fn start(&self, id: &InstanceId, revision: &Revision);

    /// Lets `ids` of the service, and no others, have requests, by the routes of `revision`. In
    /// force when it returns. Should none of them answer any more, those in `standby` take over at
    /// once, without being asked.
    fn serve(&self, revision: &Revision, ids: &[InstanceId], standby: &[InstanceId]);

    /// Completes when an instance that does not serve any more has no request left.
    fn drained(&self, id: &InstanceId) -> BoxFuture<()>;

    /// Ends an instance; completes when all its processes are gone.
    fn stop(&self, id: &InstanceId) -> BoxFuture<()>;

    /// Takes note of how a deployment gets on.
    fn progress(&self, service: &ServiceName, deployment: i64, progress: Progress);
}

/// How a deployment gets on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Progress {
    /// The build command runs.
    Building,
    /// The files are being copied.
    Copying,
    /// What it waits for is not ready yet.
    Waiting,
    /// Instances were started.
    Starting {
        /// Of this revision.
        revision: RevisionNumber,
        /// So many.
        count: u32,
    },
    /// Traffic has moved to the revision.
    Shifted {
        /// The revision.
        revision: RevisionNumber,
    },
    /// It is over, well.
    Succeeded,
    /// It is over, and what served before goes on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A folder that is to become a revision.
#[derive(Debug, Clone)]
pub struct Source {
    /// The folder.
    pub dir: PathBuf,
    /// The text of its `service.toml`.
    pub manifest: String,
    /// The build command; none if empty.
    pub build: Vec<String>,
    /// What of the folder is copied, as patterns; all if empty.
    pub artifact: Vec<String>,
}

/// What is asked of a service.
pub enum Request {
    /// Start it: from `source` if that has changed since the current revision was made (or if
    /// `build` is set), else the current revision. Instances start when `gate` completes.
    Up {
        /// The service's folder.
        source: Source,
        /// Build and copy even if nothing seems to have changed.
        build: bool,
        /// What the start waits for.
        gate: BoxFuture<()>,
    },
    /// Make a new revision of the folder and let it take over.
    Deploy(Source),
    /// Bring an earlier revision back; none: the one whose place the current one took.
    Rollback(Option<RevisionNumber>),
    /// New instances of the current revision.
    Restart,
    /// So many instances.
    Scale(u32),
}

/// What the node tells of an instance.
#[derive(Debug, Clone)]
pub enum InstanceNews {
    /// It answers its health check.
    Ready,
    /// It is gone or ill; the reason is for a person.
    Lost(String),
}

/// How a service is deployed now.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceView {
    /// Which one.
    pub service: ServiceName,
    /// The current revision.
    pub revision: Option<RevisionNumber>,
    /// How many instances of it are wanted.
    pub count: u32,
    /// The instances that may have requests.
    pub serving: Vec<InstanceId>,
    /// The deployment that runs.
    pub deployment: Option<i64>,
}

/// Makes the actors.
#[derive(Debug)]
pub struct Service;

/// Deployments of all services; a cheap clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    ground: Arc<dyn Ground>,
    history: History,
    artifacts: PathBuf,
    tasks: Tasks,
    /// None once the node is stopping.
    actors: Mutex<Option<Actors>>,
    /// Changes whenever a deployment has ended and its end is on disk.
    ended: watch::Sender<()>,
    /// Held for reading while an artifact is made that no revision names yet.
    sweeping: tokio::sync::RwLock<()>,
}

type Actors = HashMap<ServiceName, mpsc::Sender<Message>>;

impl Service {
    /// Starts with no service; actors are made as services are first asked for by
    /// [`Request::Up`] or [`Request::Deploy`]. `artifacts` is swept of what no kept revision needs.
    pub async fn start(
        ground: Arc<dyn Ground>,
        history: History,
        artifacts: PathBuf,
        tasks: Tasks,
    ) -> Result<Handle, Error> {
        let actors = Mutex::new(Some(HashMap::new()));
        let sweeping = tokio::sync::RwLock::new(());
        let shared = Arc::new(Shared {
            ground,
            history,
            artifacts,
            tasks,
            actors,
            ended: watch::Sender::new(()),
            sweeping,
        });
        prepare::sweep(&shared).await;
        Ok(Handle { shared })
    }
}

impl Handle {
    /// Begins what is asked, in the name of `who` and for the reason `why`. The first answer is the
    /// deployment's id; the receiver tells its end.
    pub async fn begin(
        &self,
        service: &ServiceName,
        request: Request,
        who: &str,
        why: &str,
    ) -> Result<(i64, oneshot::Receiver<Result<Deployment, Error>>), Error> {
        let known = matches!(request, Request::Up { .. } | Request::Deploy(_));
        let actor = match self.actor(service) {
            Some(actor) => actor,
            None if known => self.add(service).await?,
            None if self.lock().is_none() => return Err(Error::Stopping),
            None => return Err(Error::NoService(service.clone())),
        };
        let (begun, answer) = oneshot::channel();
        let (who, why) = (who.to_owned(), why.to_owned());
        let message = Message::Begin {
            request,
            who,
            why,
            begun,
        };
        actor.send(message).await.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?
    }

    /// Takes news of an instance. News of one that is not known any more is dropped.
    pub async fn news(&self, id: InstanceId, news: InstanceNews) {
        if let Some(actor) = self.actor(id.service()) {
            // An actor that has ended needs no news.
            let _ = actor.send(Message::News(id, news)).await;
        }
    }

    /// How each service is deployed, by name.
    pub async fn list(&self) -> Vec<ServiceView> {
        let actors: Vec<_> = self
            .lock()
            .iter()
            .flatten()
            .map(|(_, actor)| actor.clone())
            .collect();
        let mut views = Vec::with_capacity(actors.len());
        for actor in actors {
            let (view, seen) = oneshot::channel();
            if actor.send(Message::View(view)).await.is_ok() {
                views.extend(seen.await);
            }
        }
        views.sort_by(|a: &ServiceView, b| a.service.cmp(&b.service));
        views
    }

    /// Changes whenever any deployment has ended; the history tells of it by then. Who waits for one
    /// subscribes first, and looks into the history before each wait.
    pub fn ended(&self) -> watch::Receiver<()> {
        self.shared.ended.subscribe()
    }

    /// The history.
    pub fn history(&self) -> &History {
        &self.shared.history
    }

    /// Stops every instance of every service, all at once, and the actors. Gives up after `limit`.
    pub async fn stop_all(&self, limit: Duration) {
        let actors = self.lock().take().unwrap_or_default().into_values();
        let stopping = actors.map(|actor| async move {
            let (done, stopped) = oneshot::channel();
            if actor.send(Message::StopAll(done)).await.is_ok() {
                // An actor that ended early has nothing left to stop.
                let _ = stopped.await;
            }
        });
        let all = futures_util::future::join_all(stopping);
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(?limit, "some instances did not stop in time");
        }
    }

    fn actor(&self, service: &ServiceName) -> Option<mpsc::Sender<Message>> {
        self.lock().as_ref()?.get(service).cloned()
    }

    async fn add(&self, service: &ServiceName) -> Result<mpsc::Sender<Message>, Error> {
        let (current, scale) = self.shared.history.current(service).await?;
        let mut actors = self.lock();
        let actors = actors.as_mut().ok_or(Error::Stopping)?;
        if let Some(actor) = actors.get(service) {
            return Ok(actor.clone());
        }
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        let actor = Actor::new(
            service.clone(),
            Arc::clone(&self.shared),
            sender.clone(),
            scale,
        );
        let actor = actor.with_current(current);
        self.shared.tasks.spawn("deploy", actor.run(queue));
        actors.insert(service.clone(), sender.clone());
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Actors>> {
        self.shared
            .actors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn kind(&self) -> Kind {
        match self {
            Self::Up { .. } => Kind::Up,
            Self::Deploy(_) => Kind::Deploy,
            Self::Rollback(_) => Kind::Rollback,
            Self::Restart => Kind::Restart,
            Self::Scale(_) => Kind::Scale,
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("artifacts", &self.shared.artifacts)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().as_str())
    }
}
