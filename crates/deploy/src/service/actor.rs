//! The task of one service: takes messages, lets the fleet decide, performs the actions.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_base::{Coded, InstanceId, RevisionNumber, ServiceName, Timestamp, clock};
use tokio::sync::{mpsc, oneshot};

use super::prepare::{self, Prepare};
use super::{BoxFuture, InstanceNews, Progress, Request, ServiceView, Shared};
use crate::Error;
use crate::history::{Deployment, Outcome, Revision};
use crate::rollout::{Action, Command, Fleet, Goal};

type Begun = Result<(i64, oneshot::Receiver<Result<Deployment, Error>>), Error>;

pub(super) enum Message {
    Begin {
        request: Request,
        who: String,
        why: String,
        begun: oneshot::Sender<Begun>,
    },
    Prepared(i64, Result<Revision, Error>, Option<BoxFuture<()>>),
    GateOpen(i64),
    News(InstanceId, InstanceNews),
    Drained(InstanceId),
    Stopped(InstanceId),
    View(oneshot::Sender<ServiceView>),
    StopAll(oneshot::Sender<()>),
}

/// A deployment that somebody waits for.
struct Pending {
    id: i64,
    done: oneshot::Sender<Result<Deployment, Error>>,
    /// The revision it wants to serve, once that is known.
    target: Option<RevisionNumber>,
    /// The revision that is ready to start and waits for its gate.
    at_gate: Option<Revision>,
}

pub(super) struct Actor {
    service: ServiceName,
    shared: Arc<Shared>,
    own: mpsc::Sender<Message>,
    fleet: Fleet,
    /// The revisions that have instances, or are recorded as current.
    revisions: HashMap<RevisionNumber, Revision>,
    /// What was current when the node last ran; none once something serves.
    recorded: Option<Revision>,
    scale: Option<u32>,
    pending: Option<Pending>,
    instances: Vec<InstanceId>,
}

impl Actor {
    pub(super) fn new(
        service: ServiceName,
        shared: Arc<Shared>,
        own: mpsc::Sender<Message>,
        scale: Option<u32>,
    ) -> Self {
        Self {
            fleet: Fleet::new(service.clone()),
            service,
            shared,
            own,
            revisions: HashMap::new(),
            recorded: None,
            scale,
            pending: None,
            instances: Vec::new(),
        }
    }

    pub(super) fn with_current(mut self, current: Option<Revision>) -> Self {
        self.recorded = current;
        self
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        loop {
            let deadline = self.fleet.next_deadline();
            let tick = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = queue.recv() => message,
                () = tick => {
                    self.apply(Command::Tick).await;
                    continue;
                }
            };
            match message {
                None => return,
                Some(Message::StopAll(done)) => {
                    self.stop_all().await;
                    // Whoever asked may have given up.
                    let _ = done.send(());
                    return;
                }
                Some(message) => self.on_message(message).await,
            }
        }
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Begin {
                request,
                who,
                why,
                begun,
            } => {
                let outcome = self.begin(request, who, why).await;
                // Whoever asked may have gone; the deployment goes on.
                let _ = begun.send(outcome);
            }
            Message::Prepared(id, prepared, gate) => self.on_prepared(id, prepared, gate).await,
            Message::GateOpen(id) => self.on_gate_open(id).await,
            Message::News(id, InstanceNews::Ready) => self.apply(Command::Ready(id)).await,
            Message::News(id, InstanceNews::Lost(reason)) => {
                self.apply(Command::Lost(id, reason)).await;
            }
            Message::Drained(id) => self.apply(Command::Drained(id)).await,
            Message::Stopped(id) => {
                self.instances.retain(|known| *known != id);
                self.apply(Command::Stopped(id)).await;
            }
            Message::View(view) => {
                // Whoever asked may have gone.
                let _ = view.send(self.view());
            }
            Message::StopAll(_) => {}
        }
    }

    fn view(&self) -> ServiceView {
        let revision = self.fleet.current();
        ServiceView {
            service: self.service.clone(),
            revision,
            count: revision
                .and_then(|r| self.revisions.get(&r))
                .map_or(0, |r| self.count(r)),
            serving: self.fleet.serving().to_vec(),
            deployment: self.pending.as_ref().map(|pending| pending.id),
        }
    }

    async fn begin(&mut self, request: Request, who: String, why: String) -> Begun {
        if let Some(pending) = self.pending.take_if(|pending| pending.at_gate.is_some()) {
            // It would wait for ever for what never comes; whoever asks now knows better.
            self.interrupt(pending, "another deployment took its place")
                .await;
        }
        if let Some(pending) = &self.pending {
            return Err(Error::Busy {
                service: self.service.clone(),
                deployment: pending.id,
            });
        }
        let previous = self.current().map(|revision| revision.number);
        let detail = self.check(&request)?;
        let keeps_revision = matches!(request, Request::Restart | Request::Scale(_));
        let entry = Deployment {
            id: 0,
            service: self.service.clone(),
            kind: request.kind(),
            revision: previous.filter(|_| keeps_revision),
            previous,
            digest: None,
            who,
            why,
            started: Timestamp::now(),
            ended: None,
            outcome: None,
            detail,
            code: None,
        };
        let id = self.shared.history.begin(entry).await?;
        let (done, receiver) = oneshot::channel();
        self.pending = Some(Pending {
            id,
            done,
            target: None,
            at_gate: None,
        });
        match request {
            Request::Scale(count) => self.scale(id, count).await,
            other => self.prepare(id, other),
        }
        Ok((id, receiver))
    }

    /// Refuses what cannot be; tells what is worth a note in the history.
    fn check(&self, request: &Request) -> Result<String, Error> {
        let Request::Scale(wanted) = request else {
            return Ok(String::new());
        };
        let current = self.current().ok_or_else(|| self.nothing_yet())?;
        let (scale, _) = self.shared.ground.settings(current);
        let (least, most) = (scale.min, scale.most());
        if (least..=most).contains(wanted) {
            Ok(format!("{} to {wanted} instances", self.count(current)))
        } else {
            let service = self.service.clone();
            Err(Error::Scale {
                service,
                wanted: *wanted,
                least,
                most,
            })
        }
    }

    fn nothing_yet(&self) -> Error {
        Error::NoRevision {
            service: self.service.clone(),
            revision: None,
        }
    }

    /// Finds or makes the revision, beside the actor.
    fn prepare(&self, id: i64, mut request: Request) {
        let gate = match &mut request {
            Request::Up { gate, .. } => Some(std::mem::replace(gate, Box::pin(async {}))),
            _ => None,
        };
        let work = self.preparation(id, request);
        let (own, tasks) = (self.own.clone(), self.shared.tasks.clone());
        self.shared.tasks.spawn("prepare", async move {
            tokio::select! {
                // An actor that has ended needs no revision.
                prepared = work => drop(own.send(Message::Prepared(id, prepared, gate)).await),
                () = tasks.stopping() => {}
            }
        });
    }

    fn preparation(&self, id: i64, request: Request) -> BoxFuture<Result<Revision, Error>> {
        let current = self.current().cloned();
        let nothing_yet = self.nothing_yet();
        let shared = Arc::clone(&self.shared);
        let service = self.service.clone();
        let prepare = Prepare {
            shared,
            service,
            deployment: id,
        };
        match request {
            Request::Up { source, build, .. } => Box::pin(prepare.up(current, source, build)),
            Request::Deploy(source) => Box::pin(prepare.make(source)),
            Request::Rollback(wanted) => {
                Box::pin(prepare.earlier(current.map(|revision| revision.number), wanted))
            }
            Request::Restart => Box::pin(async move { current.ok_or(nothing_yet) }),
            // Scaling needs no revision; see `begin`.
            Request::Scale(_) => Box::pin(async move { Err(nothing_yet) }),
        }
    }

    async fn on_prepared(
        &mut self,
        id: i64,
        prepared: Result<Revision, Error>,
        gate: Option<BoxFuture<()>>,
    ) {
        let revision = match prepared {
            Ok(revision) => revision,
            Err(error) => return self.finish(id, Err(error)).await,
        };
        if let Err(error) = self.shared.history.set_target(id, revision.number).await {
            return self.finish(id, Err(error)).await;
        }
        match (gate, &mut self.pending) {
            (Some(gate), Some(pending)) => {
                pending.at_gate = Some(revision);
                self.progress(id, Progress::Waiting);
                self.then(gate, Message::GateOpen(id));
            }
            _ => self.launch(id, revision).await,
        }
    }

    async fn on_gate_open(&mut self, id: i64) {
        let pending = self.pending.as_mut().filter(|pending| pending.id == id);
        if let Some(revision) = pending.and_then(|pending| pending.at_gate.take()) {
            self.launch(id, revision).await;
        }
    }

    /// The revision is there: its instances start.
    async fn launch(&mut self, id: i64, revision: Revision) {
        let number = revision.number;
        let goal = self.goal(id, &revision);
        self.revisions.insert(number, revision);
        if let Some(pending) = &mut self.pending {
            pending.target = Some(number);
        }
        self.progress(
            id,
            Progress::Starting {
                revision: number,
                count: goal.count,
            },
        );
        self.apply(Command::Begin(goal)).await;
    }

    async fn interrupt(&self, pending: Pending, why: &str) {
        let history = &self.shared.history;
        let ended = history
            .end(pending.id, Outcome::Interrupted, why.to_owned(), None)
            .await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the history is incomplete");
        }
        self.shared.ended.send_replace(());
        // Whoever asked may have gone.
        let _ = pending.done.send(Err(Error::Stopping));
    }

    async fn scale(&mut self, id: i64, count: u32) {
        if let Err(error) = self.shared.history.set_scale(&self.service, count).await {
            return self.finish(id, Err(error)).await;
        }
        self.scale = Some(count);
        let Some(revision) = self.current().cloned() else {
            return;
        };
        let goal = self.goal(id, &revision);
        self.apply(Command::Scale(goal)).await;
    }

    /// The goal of a deployment of `revision`.
    fn goal(&self, deployment: i64, revision: &Revision) -> Goal {
        let (_, deploy) = self.shared.ground.settings(revision);
        Goal {
            deployment,
            revision: revision.number,
            count: self.count(revision),
            timeout: deploy.timeout.0,
            watch: deploy.watch.0,
            drain: deploy.drain.0,
        }
    }

    async fn apply(&mut self, command: Command) {
        for action in self.fleet.apply(command, clock::monotonic()) {
            self.perform(action).await;
        }
        let used: Vec<RevisionNumber> = self.instances.iter().map(InstanceId::revision).collect();
        let current = self.fleet.current();
        self.revisions
            .retain(|number, _| Some(*number) == current || used.contains(number));
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Start(id) => {
                if let Some(revision) = self.revisions.get(&id.revision()) {
                    self.shared.ground.start(&id, revision);
                    self.instances.push(id);
                }
            }
            Action::Commit(number) => {
                // The routes are there from the start, so that a caller is told that nobody is
                // ready, and not that there is no such path.
                self.serve();
                self.commit(number).await;
            }
            Action::Serve(_) => self.serve(),
            Action::AwaitDrain(id) => {
                let drained = self.shared.ground.drained(&id);
                self.then(drained, Message::Drained(id));
            }
            Action::Stop(id) => {
                let stopped = self.shared.ground.stop(&id);
                self.then(stopped, Message::Stopped(id));
            }
            Action::Finish {
                deployment,
                failure,
            } => {
                let outcome = match failure {
                    None => Ok(()),
                    Some(reason) => Err(self.not_ready(reason)),
                };
                self.finish(deployment, outcome).await;
            }
        }
    }

    fn serve(&self) {
        if let Some(current) = self.fleet.current().and_then(|r| self.revisions.get(&r)) {
            let ground = &self.shared.ground;
            ground.serve(current, self.fleet.serving(), &self.fleet.standby());
        }
    }

    async fn commit(&mut self, number: RevisionNumber) {
        let recorded = self.shared.history.set_current(&self.service, number).await;
        if let Err(error) = recorded {
            // It serves all the same; the node would start the one before it, though.
            tracing::error!(service = %self.service, revision = %number, %error, "not recorded");
        }
        self.recorded = None;
        // At a first start there is no traffic yet that could move.
        let moves = !self.fleet.serving().is_empty();
        if let Some(pending) = self.pending.as_ref().filter(|_| moves) {
            self.progress(pending.id, Progress::Shifted { revision: number });
        }
    }

    async fn finish(&mut self, id: i64, outcome: Result<(), Error>) {
        let (stored, detail, code) = match &outcome {
            Ok(()) => (Outcome::Succeeded, String::new(), None),
            Err(error) => (Outcome::Failed, error.to_string(), Some(error.code())),
        };
        let written = self.shared.history.end(id, stored, detail, code).await;
        self.shared.ended.send_replace(());
        let result = match outcome {
            Ok(()) => self.ended(id, written).await,
            Err(error) => Err(error),
        };
        self.progress(
            id,
            match &result {
                Ok(_) => Progress::Succeeded,
                Err(error) => Progress::Failed {
                    reason: error.to_string(),
                },
            },
        );
        if let Some(pending) = self.pending.take_if(|pending| pending.id == id) {
            // Whoever asked may have gone.
            let _ = pending.done.send(result);
        }
        let shared = Arc::clone(&self.shared);
        self.shared
            .tasks
            .spawn("sweep", async move { prepare::sweep(&shared).await });
    }

    async fn ended(&self, id: i64, written: Result<(), Error>) -> Result<Deployment, Error> {
        written?;
        self.shared
            .history
            .deployment(id)
            .await?
            .ok_or_else(|| self.nothing_yet())
    }

    fn not_ready(&self, reason: String) -> Error {
        let service = self.service.clone();
        match self.pending.as_ref().and_then(|pending| pending.target) {
            Some(revision) => Error::RolledBack {
                service,
                revision,
                reason,
            },
            None => Error::Late { service, reason },
        }
    }

    /// Ends every instance at once; the node is stopping.
    async fn stop_all(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.interrupt(pending, "the node was stopped").await;
        }
        let stops = self
            .instances
            .drain(..)
            .map(|id| self.shared.ground.stop(&id));
        futures_util::future::join_all(stops).await;
    }

    fn then(&self, work: BoxFuture<()>, message: Message) {
        let (own, tasks) = (self.own.clone(), self.shared.tasks.clone());
        self.shared.tasks.spawn("deploy-wait", async move {
            tokio::select! {
                () = work => {}
                () = tasks.stopping() => return,
            }
            // An actor that has ended waits for nothing.
            let _ = own.send(message).await;
        });
    }

    fn current(&self) -> Option<&Revision> {
        let running = self
            .fleet
            .current()
            .and_then(|number| self.revisions.get(&number));
        running.or(self.recorded.as_ref())
    }

    /// How many instances of `revision` are to run.
    fn count(&self, revision: &Revision) -> u32 {
        let (scale, _) = self.shared.ground.settings(revision);
        self.scale
            .unwrap_or(scale.min)
            .clamp(scale.min, scale.most())
    }

    fn progress(&self, deployment: i64, progress: Progress) {
        self.shared
            .ground
            .progress(&self.service, deployment, progress);
    }
}
