//! Records pushed to services: a task for each subscription, and the handle that steers them all.
//!
//! A subscription is known from the moment that its manifest is: where it begins is kept then, so
//! that nothing that is published before the service is ready is missed. It runs by what the
//! revision that serves says. One that no manifest names any more rests; its place is kept, and a
//! rollback takes it up again.

mod cache;
mod flight;
mod grave;
mod letter;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::{ServiceName, Tasks, Timestamp};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::bus::{Bus, BusError, Mark, Progress};
use crate::config::{From, SubscribeConfig};
use crate::courier::{Courier, Ending, Failure};
use crate::delivery::Outcome;
use crate::jobs::{Jobs, Redrive};
use crate::record::Record;
pub(crate) use grave::PREFIX as DEAD_PREFIX;
pub use grave::dead_topic;
use subscription::{Control, Subscription};

/// All subscriptions. A cheap handle.
#[derive(Clone)]
pub struct Pushes(Arc<Shared>);

struct Shared {
    bus: Arc<dyn Bus>,
    courier: Arc<dyn Courier>,
    jobs: Option<Jobs>,
    tasks: Tasks,
    running: Mutex<BTreeMap<(ServiceName, String), Running>>,
    /// Those that were let go and may still have requests under way.
    leaving: Mutex<BTreeMap<(ServiceName, String), oneshot::Receiver<()>>>,
}

struct Running {
    config: SubscribeConfig,
    control: mpsc::Sender<Control>,
    /// Closed when it has ended.
    ended: oneshot::Receiver<()>,
}

/// Up to so many records are counted one by one.
const COUNTED_MAX: i64 = 100_000;
const COUNTED_BYTES: usize = 1 << 20;
/// Questions and orders to one subscription wait here.
const CONTROLS_MAX: usize = 64;

/// What can be seen of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Who gets the records.
    pub service: ServiceName,
    /// The topic.
    pub topic: String,
    /// Where they are posted to.
    pub path: String,
    /// Records that are not done: partitions, and how many of each.
    pub lags: Vec<(i32, i64)>,
    /// The time of the oldest of them, in milliseconds since 1970, if it is known.
    pub oldest: Option<i64>,
    /// Requests under way.
    pub in_flight: usize,
    /// Keys whose first record has failed and waits for its next attempt.
    pub failing: usize,
    /// Nobody answers: it is tried again then.
    pub paused_until: Option<Timestamp>,
    /// Records taken since the node was started.
    pub taken: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Records given up.
    pub buried: u64,
    /// The last failure, and when.
    pub trouble: Option<(String, Timestamp)>,
}

impl Pushes {
    /// Delivers what is on `bus` by `courier`.
    pub fn new(bus: Arc<dyn Bus>, courier: Arc<dyn Courier>, tasks: Tasks) -> Self {
        Self::with_jobs(bus, courier, None, tasks)
    }

    /// Delivers what is on `bus` by `courier`; of records that are jobs, `jobs` is asked and told.
    pub fn with_jobs(
        bus: Arc<dyn Bus>,
        courier: Arc<dyn Courier>,
        jobs: Option<Jobs>,
        tasks: Tasks,
    ) -> Self {
        Self(Arc::new(Shared {
            bus,
            courier,
            jobs,
            tasks,
            running: Mutex::default(),
            leaving: Mutex::default(),
        }))
    }

    /// A manifest names these subscriptions: those that are new begin here and now.
    ///
    /// # Errors
    /// When a topic is missing or the place cannot be kept.
    pub async fn declare(
        &self,
        service: &ServiceName,
        subscriptions: &[SubscribeConfig],
    ) -> Result<(), BusError> {
        let bus = &self.0.bus;
        for config in pushed(subscriptions) {
            let group = group(service, &config.topic);
            bus.ensure(&dead_topic(service, &config.topic)).await?;
            let known = bus.progress(&group).await?;
            let mut fresh = Vec::new();
            for partition in 0..bus.partitions(&config.topic).await? {
                let topic: Arc<str> = config.topic.as_str().into();
                if known.contains_key(&(Arc::clone(&topic), partition)) {
                    continue;
                }
                let ends = bus.ends(&config.topic, partition).await?;
                // Partitions that are added later are new as a whole.
                let offset = match config.from {
                    From::Latest if known.is_empty() => ends.end,
                    From::Latest | From::Earliest => ends.start,
                };
                let mark = Mark {
                    offset,
                    metadata: String::new(),
                };
                fresh.push(Progress {
                    topic,
                    partition,
                    mark,
                });
            }
            if fresh.is_empty() {
                continue;
            }
            bus.settle(&group, fresh.clone(), Vec::new()).await?;
            let key = (service.clone(), config.topic.clone());
            let control = self.lock().get(&key).map(|own| own.control.clone());
            if let Some(control) = control {
                for own in fresh {
                    let open = Control::Open(own.partition, own.mark.offset);
                    // One that ends meanwhile finds its partitions when it runs again.
                    let _ = control.send(open).await;
                }
            }
        }
        Ok(())
    }

    /// The service serves by a manifest with these subscriptions: they run so from now on, and no
    /// others.
    pub fn serve(&self, service: &ServiceName, subscriptions: &[SubscribeConfig]) {
        let mut running = self.lock();
        let wanted = |topic: &str| {
            let mut all = pushed(subscriptions);
            all.find(|config| config.topic == topic)
        };
        let mut leaving = self
            .0
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Dropped, its control ends it.
        let names = running.keys();
        let gone = names.filter(|(own, topic)| own == service && wanted(topic).is_none());
        for key in gone.cloned().collect::<Vec<_>>() {
            if let Some(own) = running.remove(&key) {
                leaving.insert(key, own.ended);
            }
        }
        for config in pushed(subscriptions) {
            let key = (service.clone(), config.topic.clone());
            match running.get_mut(&key) {
                Some(own) if own.config == *config => {}
                Some(own) => {
                    own.config = config.clone();
                    // A full queue means that it is asked for other things all the time.
                    let control = own.control.clone();
                    let change = Control::Change(Box::new(config.clone()));
                    self.0.tasks.spawn("subscription change", async move {
                        let _ = control.send(change).await;
                    });
                }
                None => {
                    let before = leaving.remove(&key);
                    running.insert(key, self.run(service, config, before));
                }
            }
        }
    }

    /// An instance of the service is ready: what waits for one need not wait longer.
    pub fn reachable(&self, service: &ServiceName) {
        let running = self.lock();
        let its = running.iter().filter(|((own, _), _)| own == service);
        for (_, running) in its {
            // If the queue is full, it looks again soon by itself.
            let _ = running.control.try_send(Control::Reachable);
        }
    }

    /// All subscriptions that run, as they are now.
    pub async fn views(&self) -> Vec<View> {
        let controls: Vec<_> = self.lock().values().map(|it| it.control.clone()).collect();
        let mut views = Vec::with_capacity(controls.len());
        for control in controls {
            let (answer, answered) = oneshot::channel();
            if control.send(Control::View(answer)).await.is_ok()
                && let Ok(view) = answered.await
            {
                views.push(view);
            }
        }
        views
    }

    /// Delivers again all records of a topic from a time on (milliseconds since 1970).
    ///
    /// # Errors
    /// When there is no such subscription, or the topic cannot be read.
    pub async fn replay(
        &self,
        service: &ServiceName,
        topic: &str,
        time: i64,
    ) -> Result<u64, BusError> {
        let key = (service.clone(), topic.to_owned());
        let control = self.lock().get(&key).map(|own| own.control.clone());
        let none = || {
            BusError::Refused(format!(
                "{service} has no subscription to '{topic}' that runs"
            ))
        };
        let control = control.ok_or_else(none)?;
        let bus = &self.0.bus;
        let mut offsets = Vec::new();
        let mut count = 0;
        for partition in 0..bus.partitions(topic).await? {
            let ends = bus.ends(topic, partition).await?;
            let from = bus.offset_at(topic, partition, time).await?;
            let from = from.unwrap_or(ends.end).max(ends.start);
            count += self.count(topic, partition, from, ends.end).await?;
            offsets.push((partition, from));
        }
        let sent = control.send(Control::Rewind(offsets)).await;
        sent.map_err(|_| none())?;
        Ok(count)
    }

    /// How many records lie between two offsets. Marks of transactions are none; of very many, nobody
    /// wants to know the number so well that all of them should be read.
    async fn count(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        end: i64,
    ) -> Result<u64, BusError> {
        if end - from > COUNTED_MAX {
            return Ok(u64::try_from(end - from).unwrap_or(0));
        }
        let (mut at, mut count) = (from, 0);
        while at < end {
            let chunk = self.0.bus.read(topic, partition, at, COUNTED_BYTES).await?;
            if chunk.next <= at {
                break;
            }
            at = chunk.next;
            count += chunk.records.len() as u64;
        }
        Ok(count)
    }

    /// Sends one record to the subscription of the service to its topic, beside all others, and
    /// publishes the answer if the subscription does so.
    ///
    /// # Errors
    /// When the service does not take it; for a person.
    pub async fn send(
        &self,
        service: &ServiceName,
        record: Record,
        attempt: u32,
    ) -> Result<(), String> {
        let key = (service.clone(), record.place.topic.to_string());
        let config = self.lock().get(&key).map(|own| own.config.clone());
        let topic = &record.place.topic;
        let config =
            config.ok_or_else(|| format!("{service} does not subscribe to '{topic}' now"))?;
        let redrive = match &self.0.jobs {
            Some(jobs) => jobs.redrive(service, &record).await?,
            None => Redrive::NoJob,
        };
        if matches!(redrive, Redrive::Done) {
            return Ok(());
        }
        let records = [record];
        let (request, facts) = letter::write(&config, service, &records, attempt, 1);
        let ending = carry(&*self.0.courier, service, request, config.timeout.0).await;
        let outcome = ending.outcome(service, &config.retry);
        if let (Some(jobs), Redrive::Go(pass)) = (&self.0.jobs, redrive) {
            let ended = jobs.ended(outcome, true, &ending, &ending.reason());
            let kept = jobs.keep(&[pass.end(ended)]).await;
            kept.map_err(|error| format!("how the job ended cannot be kept: {error}"))?;
        }
        if outcome != Outcome::Taken {
            return Err(format!("{service} {}", ending.reason()));
        }
        let [record] = &records;
        if let (Some(topic), Ending::Answer(answer)) = (&config.output, &ending)
            && let Some(output) = letter::output(topic, record, answer, &facts)
        {
            let published = self.0.bus.publish(vec![output?]).await;
            published.map_err(|error| format!("its answer cannot be published: {error}"))?;
        }
        Ok(())
    }

    /// Ends all deliveries: those under way have so long to end. What was done is kept.
    pub async fn stop(&self, limit: Duration) {
        let running = std::mem::take(&mut *self.lock());
        let mut endings = Vec::new();
        for (_, own) in running {
            let (ended, ending) = oneshot::channel();
            if own.control.send(Control::Stop(limit, ended)).await.is_ok() {
                endings.push(ending);
            }
        }
        futures_util::future::join_all(endings).await;
        let leaving = self.0.leaving.lock();
        let leaving = std::mem::take(&mut *leaving.unwrap_or_else(PoisonError::into_inner));
        let all = futures_util::future::join_all(leaving.into_values());
        // What they have under way is delivered again if it takes longer.
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// `before`: the last one of the same name, which ends before this one begins, or both would
    /// deliver.
    fn run(
        &self,
        service: &ServiceName,
        config: &SubscribeConfig,
        before: Option<oneshot::Receiver<()>>,
    ) -> Running {
        let (control, controls) = mpsc::channel(CONTROLS_MAX);
        let (ending, ended) = oneshot::channel::<()>();
        let subscription = Subscription::new(
            service.clone(),
            config.clone(),
            (
                Arc::clone(&self.0.bus),
                Arc::clone(&self.0.courier),
                self.0.jobs.clone(),
            ),
        );
        let stopping = self.0.tasks.clone();
        self.0.tasks.spawn("subscription", async move {
            let _ending = ending;
            tokio::select! {
                () = subscription.run(controls, before) => {}
                () = stopping.stopping() => {}
            }
        });
        Running {
            config: config.clone(),
            control,
            ended,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ServiceName, String), Running>> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pushes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pushes").finish_non_exhaustive()
    }
}

/// Sends a request, and waits so long for the answer.
async fn carry(
    courier: &dyn Courier,
    service: &ServiceName,
    request: http::Request<Bytes>,
    limit: Duration,
) -> Ending {
    match tokio::time::timeout(limit, courier.send(service, request)).await {
        Ok(Ok(answer)) => Ending::Answer(answer),
        Ok(Err(Failure::Unsent(error))) => Ending::Unsent(error),
        Ok(Err(Failure::Broken(error))) => Ending::Broken(error),
        Err(_) => Ending::Timeout(limit),
    }
}

/// The consumer group that keeps the place of a subscription.
pub fn group(service: &ServiceName, topic: &str) -> String {
    format!("atoll.{service}.{topic}")
}

fn pushed(all: &[SubscribeConfig]) -> impl Iterator<Item = &SubscribeConfig> {
    all.iter().filter(|config| config.path.is_some())
}
