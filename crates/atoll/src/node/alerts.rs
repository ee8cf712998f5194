//! Objectives at the node: what the proxy counts goes into the machine, and what follows is kept and told.
//!
//! Once a second the counters of the proxy are read, and what came is written with what follows from it; a node
//! that is killed loses no more than that. How budgets and alerts work is in the crate
//! `telemetry`; here are the clock, the counters, the disk and the ways out.

mod delivery;
mod journal;
mod message;
mod way;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use atoll_base::{ServiceName, Tasks, Timestamp};
use atoll_proxy::ServiceTally;
use atoll_store::Sql;
use atoll_telemetry::Level;
use atoll_telemetry::objective::{
    Action, Aim, Alert, AlertId, AlertState, Change, Command, Key, Machine, Objective, Severity,
    Standing, Tally,
};
use tokio::sync::oneshot;

use super::Node;
use super::broker::Topics;
use super::events::Events;
use crate::manifest::{Application, ServiceFile};
use delivery::Delivery;
use journal::{Entry, Journal};
use way::Way;

pub(super) use journal::MIGRATION;

/// How often the counters are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many looks are between two times that old buckets go.
const LOOKS_PER_SWEEP: u32 = 3600;
/// So much may wait for a disk that refuses it.
const UNWRITTEN_MAX: usize = 1000;

/// Objectives and alerts of the application.
pub struct Alerts {
    machine: Mutex<Machine>,
    journal: Journal,
    deliveries: Vec<Arc<Delivery>>,
    events: Arc<Events>,
    /// Who changes the machine writes what follows, before the next one does. Within: what the disk has
    /// refused so far.
    writing: tokio::sync::Mutex<Vec<Action>>,
    trouble: Mutex<Option<String>>,
    /// Those of the node, once it is started.
    tasks: OnceLock<Tasks>,
}

/// Why an alert cannot be silenced.
#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    /// No objective has it.
    #[error("there is no alert '{0}'; `atoll alerts` shows those that are not calm")]
    Unknown(String),
    /// The state cannot be written.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

impl Alerts {
    /// Goes on where an earlier node has ended.
    ///
    /// # Errors
    /// When the state cannot be read, or a file that `[alerts]` names.
    pub(super) async fn open(
        application: &Application,
        sql: &Sql,
        topics: Option<&Arc<Topics>>,
        events: &Arc<Events>,
    ) -> anyhow::Result<Self> {
        let config = &application.file.alerts;
        let bus = topics.map(|topics| topics.bus());
        let ways = Way::all(config, &application.dir, bus);
        for way in &ways {
            way.check().context("[alerts] in atoll.toml")?;
        }
        let names = ways.iter().map(Way::name).collect();
        let journal = Journal::new(sql.clone(), names, application.file.name.as_str());
        let (restored, lost) = journal.restore().await?;
        if lost > 0 {
            let message =
                format!("{lost} alerts waited for ways that `[alerts]` does not name any more");
            events.node(Level::Warn, message);
        }
        let deliveries = ways.into_iter().map(|way| {
            let (journal, events) = (journal.clone(), Arc::clone(events));
            Arc::new(Delivery::new(way, config.timeout.0, journal, events))
        });
        Ok(Self {
            machine: Mutex::new(Machine::open(restored)),
            deliveries: deliveries.collect(),
            journal,
            events: Arc::clone(events),
            writing: tokio::sync::Mutex::default(),
            trouble: Mutex::new(None),
            tasks: OnceLock::new(),
        })
    }

    /// Watches the counters of the node's proxy, and tells who is to be told, until the node stops.
    pub(super) fn start(self: &Arc<Self>, node: &Arc<Node>, tasks: &Tasks) {
        // It is started once.
        let _ = self.tasks.set(tasks.clone());
        for delivery in &self.deliveries {
            let (own, tasks_of_it) = (Arc::clone(delivery), tasks.clone());
            tasks.spawn("alerts", async move { own.run(&tasks_of_it).await });
        }
        let (own, node) = (Arc::clone(self), Arc::downgrade(node));
        let stopping = tasks.clone();
        tasks.spawn("objectives", async move { own.watch(node, stopping).await });
    }

    /// Alerts that are not calm, by name.
    pub fn alerts(&self) -> Vec<Alert> {
        self.machine().alerts()
    }

    /// How all objectives stand, by service.
    pub fn standings(&self) -> Vec<Standing> {
        self.machine().standings(Timestamp::now())
    }

    /// State changes with their numbers, the newest first; those before a number, if one is given.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn history(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<(i64, Change)>, atoll_store::Error> {
        self.journal.history(before, limit).await
    }

    /// Nobody is told of this alert before `until`; none or a past time ends that.
    ///
    /// # Errors
    /// When there is no such alert, or the state cannot be written; then it is silent until the node ends.
    pub async fn silence(
        self: &Arc<Self>,
        id: &str,
        until: Option<Timestamp>,
    ) -> Result<(), SilenceError> {
        let unknown = || SilenceError::Unknown(id.to_owned());
        let known = id.parse::<AlertId>().map_err(|_| unknown())?;
        if !self.machine().knows(&known) {
            return Err(unknown());
        }
        let command = Command::Silence { id: known, until };
        let (kept, heard) = oneshot::channel();
        let own = Arc::clone(self);
        // Who asks may go away at any moment. What is half done then would be told twice: the disk has it, and
        // it still counts as unwritten.
        let tasks = self.tasks.get().ok_or(atoll_store::Error::Closed)?;
        tasks.spawn("silence", async move {
            // Nobody may be left to hear it.
            let _ = kept.send(own.apply(vec![command]).await);
        });
        Ok(heard.await.map_err(|_| atoll_store::Error::Closed)??)
    }

    /// What keeps alerts from being told, or objectives from being kept.
    pub(super) fn troubles(&self) -> Vec<String> {
        let own = self
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let of_ways = self.deliveries.iter().filter_map(|own| own.trouble());
        own.into_iter().chain(of_ways).collect()
    }

    async fn watch(&self, node: Weak<Node>, tasks: Tasks) {
        let mut before = Before::default();
        let mut declared_last = None;
        for look in 1_u32.. {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = tasks.stopping() => {}
            }
            let Some(node) = node.upgrade() else { return };
            let mut commands = Vec::with_capacity(2);
            let declared = node.objectives();
            if declared_last.as_ref() != Some(&declared) {
                commands.push(declared.command());
                declared_last = Some(declared);
            }
            commands.push(Command::Observe(before.added(node.parts.proxy.tallies())));
            let over = tasks.is_stopping();
            let kept = self.apply(commands).await;
            self.is_kept(kept.err());
            if look % LOOKS_PER_SWEEP == 1 {
                self.sweep().await;
            }
            if over {
                return;
            }
        }
    }

    /// Applies commands, and writes what follows, and the counts. Only for tasks that run to their end.
    async fn apply(&self, commands: Vec<Command>) -> Result<(), atoll_store::Error> {
        let mut unwritten = self.writing.lock().await;
        let now = Timestamp::now();
        let (actions, rows) = {
            let mut machine = self.machine();
            let each = commands
                .into_iter()
                .map(|command| machine.apply(command, now));
            let actions: Vec<Action> = each.flatten().collect();
            (actions, machine.take_unsaved())
        };
        for action in &actions {
            if let Action::Record(change) = action {
                self.note(change);
            }
        }
        unwritten.extend(actions);
        let entry = Entry {
            actions: unwritten.clone(),
            rows,
            oldest: Vec::new(),
        };
        if entry.is_empty() {
            return Ok(());
        }
        match self.journal.write(entry).await {
            Ok(lost) => {
                if lost > 0 {
                    let message = format!("{lost} alerts were never told: too many wait");
                    self.events.node(Level::Error, message);
                }
                if unwritten
                    .iter()
                    .any(|action| matches!(action, Action::Tell(_)))
                {
                    self.deliveries.iter().for_each(|delivery| delivery.came());
                }
                unwritten.clear();
                Ok(())
            }
            Err(error) => {
                let over = unwritten.len().saturating_sub(UNWRITTEN_MAX);
                unwritten.drain(..over);
                self.machine().unsave();
                Err(error)
            }
        }
    }

    async fn sweep(&self) {
        let oldest = self.machine().oldest(Timestamp::now());
        let entry = Entry {
            oldest,
            ..Entry::default()
        };
        self.is_kept(self.journal.write(entry).await.err());
    }

    /// Remembers whether the last attempt to write was good, and tells the change.
    fn is_kept(&self, error: Option<atoll_store::Error>) {
        let now = error.map(|error| format!("objectives and alerts cannot be kept: {error}"));
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, &now) {
            (None, Some(why)) => self.events.node(Level::Error, why.clone()),
            (Some(_), None) => {
                let message = "objectives and alerts are kept again".to_owned();
                self.events.node(Level::Info, message);
            }
            _ => {}
        }
        *trouble = now;
    }

    /// Onto the timeline.
    fn note(&self, change: &Change) {
        let level = match (change.state, change.id.severity) {
            (AlertState::Firing, Severity::Page) => Level::Error,
            (AlertState::Firing, Severity::Ticket) => Level::Warn,
            _ => Level::Info,
        };
        let (aim, state) = (change.id.key.aim.as_str(), change.state.as_str());
        let severity = change.id.severity.as_str();
        let silenced = if change.silenced { ", silenced" } else { "" };
        let message = format!("{aim} ({severity}{silenced}) {state}: {}", change.message);
        self.events.alert(&change.id.key.service, level, message);
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// The objectives that hold: those of the revisions that serve, else of the folders.
    fn objectives(&self) -> Declared {
        let traffic = &self.parts.traffic;
        let application = self.application();
        let services = application.services.iter();
        Declared::new(services.map(|(name, own)| (name, &own.file, traffic.file_of(name))))
    }
}

/// What is known of the objectives that hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Declared {
    objectives: Vec<Objective>,
    /// No revision of them has served so far, so it is not known which one will.
    coming: BTreeSet<ServiceName>,
}

impl Declared {
    /// Of services, the manifests of their folders, and those of the revisions that serve.
    fn new<'a>(
        services: impl Iterator<Item = (&'a ServiceName, &'a ServiceFile, Option<Arc<ServiceFile>>)>,
    ) -> Self {
        let mut declared = Self::default();
        for (name, folder, serving) in services {
            if serving.is_none() {
                declared.coming.insert(name.clone());
            }
            let config = &serving.as_deref().unwrap_or(folder).objective;
            let own = config.iter().flat_map(|config| config.objectives(name));
            declared.objectives.extend(own);
        }
        declared
    }

    fn command(&self) -> Command {
        let Self { objectives, coming } = self.clone();
        Command::Declare { objectives, coming }
    }
}

/// What had been counted at the last look.
#[derive(Default)]
struct Before(HashMap<ServiceName, ServiceTally>);

impl Before {
    /// What was added since.
    fn added(&mut self, now: Vec<ServiceTally>) -> Vec<(Key, Tally)> {
        let mut added = Vec::with_capacity(now.len() * 2);
        for tally in now {
            let then = self.0.get(&tally.service);
            let since =
                |own: fn(&ServiceTally) -> u64| own(&tally) - then.map_or(0, own).min(own(&tally));
            let (requests, errors) = (since(|own| own.requests), since(|own| own.errors));
            let slow = since(|own| own.slow);
            let mut add = |aim, total, bad| {
                let service = tally.service.clone();
                added.push((Key { service, aim }, Tally { total, bad }));
            };
            if requests > 0 {
                add(Aim::Availability, requests, errors);
                add(Aim::Latency, requests.saturating_sub(errors), slow);
            }
            self.0.insert(tally.service.clone(), tally);
        }
        added
    }
}

#[cfg(test)]
mod tests;
