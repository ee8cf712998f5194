//! The task of one subscription: does what [`Delivery`] decides, and keeps what is done.
//!
//! Progress is kept in the background, together with what came of it (answers that are published,
//! dead letters): all that is done when it is written down, and nothing else, so that both hold or
//! neither does. Deliveries do not wait for it.

mod keep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_base::{ServiceName, Timestamp};
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, oneshot};

use super::cache::Cache;
use super::flight::{Answered, Started};
use super::{CONTROLS_MAX, View, grave, group, letter};
use crate::bus::{Bus, BusError, Chunk, Mark, Progress};
use crate::config::SubscribeConfig;
use crate::courier::{Courier, Ending};
use crate::delivery::{Action, Arrival, Command, Delivery, Flight, Outcome};
use crate::jobs::{End, Jobs};
use crate::record::{NewRecord, Record};

/// Records are read in pieces of about this size.
const READ_BYTES: usize = 1 << 20;
/// Progress is kept this often at most.
const KEEP_EVERY: Duration = Duration::from_millis(50);
/// What fails on the bus is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// While more answers and dead letters than this are not kept, nothing new is delivered.
const UNKEPT_MAX: usize = 1000;
/// What is done when it ends is kept within this.
const KEEP_WITHIN: Duration = Duration::from_secs(1);
/// Whether the topic has more partitions than before is looked at this often: any client of Kafka may
/// add some.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A subscription that nobody names any more ends within this.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// An order or a question.
pub(super) enum Control {
    /// Somebody answers again.
    Reachable,
    /// Another way to deliver.
    Change(Box<SubscribeConfig>),
    /// A partition that is new.
    Open(i32, i64),
    /// Reading begins anew: partitions and offsets.
    Rewind(Vec<(i32, i64)>),
    /// How it stands.
    View(oneshot::Sender<View>),
    /// An end, within this time.
    Stop(Duration, oneshot::Sender<()>),
}

/// Something that was under way has ended.
enum Done {
    Read(i32, i64, Result<Chunk, BusError>),
    Answered(Box<Answered>),
    Settled(Unkept, Result<(), BusError>),
    /// A pause after an error is over.
    Rested(i32),
    /// Partitions that are new, and where they begin.
    Found(Vec<(i32, i64)>),
    /// Nothing follows from it.
    Told,
}

/// What was to be kept.
struct Unkept {
    progress: Vec<Progress>,
    records: Vec<NewRecord>,
    /// Those that are not kept by themselves already.
    ends: Vec<End>,
}

/// A subscription that runs.
pub(super) struct Subscription {
    service: ServiceName,
    config: Arc<SubscribeConfig>,
    topic: Arc<str>,
    group: String,
    bus: Arc<dyn Bus>,
    courier: Arc<dyn Courier>,
    jobs: Option<Jobs>,
    machine: Delivery,
    cache: Cache,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    reading: HashMap<i32, AbortHandle>,
    /// What came of records that are done, in order; not kept yet.
    unkept: Vec<NewRecord>,
    /// How jobs ended; not kept yet.
    ends: Vec<End>,
    settling: bool,
    settle_after: Instant,
    look_after: Instant,
    /// What is done could not be kept the last time.
    unkeepable: bool,
    held: bool,
    /// It ends: nothing new is delivered.
    leaving: bool,
    random: SystemRandom,
    taken: u64,
    failed: u64,
    buried: u64,
    trouble: Option<(String, Timestamp)>,
}

impl Subscription {
    pub(super) fn new(
        service: ServiceName,
        config: SubscribeConfig,
        (bus, courier, jobs): (Arc<dyn Bus>, Arc<dyn Courier>, Option<Jobs>),
    ) -> Self {
        Self {
            group: group(&service, &config.topic),
            topic: config.topic.as_str().into(),
            machine: Delivery::new(config.settings()),
            config: Arc::new(config),
            service,
            bus,
            courier,
            jobs,
            cache: Cache::default(),
            work: FuturesUnordered::new(),
            reading: HashMap::new(),
            unkept: Vec::new(),
            ends: Vec::new(),
            settling: false,
            settle_after: monotonic(),
            look_after: monotonic() + LOOK_EVERY,
            unkeepable: false,
            held: false,
            leaving: false,
            random: SystemRandom::new(),
            taken: 0,
            failed: 0,
            buried: 0,
            trouble: None,
        }
    }

    /// Delivers until it is told to stop, or nobody can tell it anything any more. If there is one
    /// `before`, when that has ended: both would deliver.
    pub(super) async fn run(
        mut self,
        mut controls: mpsc::Receiver<Control>,
        before: Option<oneshot::Receiver<()>>,
    ) {
        let mut later = Vec::new();
        if let Some(before) = before
            // Nothing is ever sent: it is dropped with the task.
            && !self.meanwhile(&mut controls, &mut later, before).await
        {
            return;
        }
        while let Err(error) = self.open().await {
            self.trouble(format!("its place cannot be read: {error}"));
            let rest = tokio::time::sleep(TRY_AGAIN);
            if !self.meanwhile(&mut controls, &mut later, rest).await {
                return;
            }
        }
        for order in later {
            self.control(order);
        }
        loop {
            self.start_reads();
            self.start_settle();
            self.start_look();
            let deadline = self.deadline();
            tokio::select! {
                biased;
                control = controls.recv() => match control {
                    Some(Control::Stop(limit, ended)) => {
                        self.end(limit).await;
                        return told(ended);
                    }
                    Some(other) => self.control(other),
                    None => return self.end(LEAVE_WITHIN).await,
                },
                Some(done) = self.work.next() => {
                    self.finish(done);
                    while let Some(Some(done)) = self.work.next().now_or_never() {
                        self.finish(done);
                    }
                }
                () = sleep_until(deadline) => self.apply(Command::Tick),
            }
        }
    }

    /// Answers questions while it waits for `something`; orders are for later, when there are
    /// partitions that they could concern. False: it is over.
    async fn meanwhile(
        &mut self,
        controls: &mut mpsc::Receiver<Control>,
        later: &mut Vec<Control>,
        something: impl Future,
    ) -> bool {
        tokio::pin!(something);
        loop {
            let room = later.len() < CONTROLS_MAX;
            tokio::select! {
                _ = &mut something => return true,
                Some(done) = self.work.next() => self.finish(done),
                control = controls.recv(), if room => match control {
                    Some(Control::Stop(_, ended)) => {
                        told(ended);
                        return false;
                    }
                    Some(question @ Control::View(_)) => self.control(question),
                    Some(order) => later.push(order),
                    None => return false,
                },
            }
        }
    }

    async fn open(&mut self) -> Result<(), BusError> {
        let known = self.bus.progress(&self.group).await?;
        for partition in 0..self.bus.partitions(&self.topic).await? {
            let mark = known.get(&(Arc::clone(&self.topic), partition));
            let mark = mark.cloned().unwrap_or_default();
            self.machine.open(partition, mark.offset, &mark.metadata);
        }
        Ok(())
    }

    /// Looks whether the topic has partitions that are not known yet. One that cannot be asked is
    /// asked again.
    fn start_look(&mut self) {
        let now = monotonic();
        if now < self.look_after {
            return;
        }
        self.look_after = now + LOOK_EVERY;
        let known = self.machine.partitions().max().map_or(0, |last| last + 1);
        let (bus, topic) = (Arc::clone(&self.bus), Arc::clone(&self.topic));
        let look = async move {
            let mut fresh = Vec::new();
            let count = bus.partitions(&topic).await.unwrap_or(known);
            for partition in known..count {
                let Ok(ends) = bus.ends(&topic, partition).await else {
                    break;
                };
                fresh.push((partition, ends.start));
            }
            Done::Found(fresh)
        };
        self.work.push(look.boxed());
    }

    /// A partition is new as a whole: nothing of it was missed.
    fn take_up(&mut self, partition: i32, offset: i64) {
        if !self.machine.partitions().any(|own| own == partition) {
            self.machine.open(partition, offset, "");
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Reachable => self.apply(Command::Reachable),
            Control::Change(config) => {
                self.machine.set(config.settings());
                self.config = Arc::from(config);
                self.apply(Command::Tick);
            }
            Control::Open(partition, offset) => self.take_up(partition, offset),
            Control::Rewind(offsets) => {
                for (partition, offset) in offsets {
                    self.cache.clear(partition);
                    if let Some(reading) = self.reading.remove(&partition) {
                        reading.abort();
                    }
                    self.apply(Command::Rewind { partition, offset });
                }
            }
            Control::View(answer) => {
                let view = self.view();
                let bus = Arc::clone(&self.bus);
                let standings = self
                    .machine
                    .partitions()
                    .map(|own| (own, self.machine.standing(own)));
                let standings: Vec<_> = standings.collect();
                let topic = Arc::clone(&self.topic);
                // The end of each partition is asked for; who asked may have gone meanwhile.
                let told = async move {
                    let mut view = view;
                    for (partition, standing) in standings {
                        let mut lag = i64::try_from(standing.outstanding).unwrap_or(i64::MAX);
                        if let Ok(ends) = bus.ends(&topic, partition).await {
                            lag += (ends.end - standing.next.max(ends.start)).max(0);
                        }
                        view.lags.push((partition, lag));
                    }
                    let _ = answer.send(view);
                    Done::Told
                };
                self.work.push(told.boxed());
            }
            Control::Stop(..) => {}
        }
    }

    fn start_reads(&mut self) {
        let partitions: Vec<i32> = self.machine.partitions().collect();
        for partition in partitions {
            if self.reading.contains_key(&partition) {
                continue;
            }
            let Some(from) = self.machine.wants(partition) else {
                continue;
            };
            let (bus, topic) = (Arc::clone(&self.bus), Arc::clone(&self.topic));
            let (read, abort) = abortable(async move {
                loop {
                    match bus.read(&topic, partition, from, READ_BYTES).await {
                        Ok(chunk) if chunk.next == from => bus.wait(&topic, partition, from).await,
                        read => return read,
                    }
                }
            });
            self.reading.insert(partition, abort);
            let read = read.map(move |read| match read {
                Ok(read) => Done::Read(partition, from, read),
                Err(_aborted) => Done::Told,
            });
            self.work.push(read.boxed());
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Read(partition, from, Ok(chunk)) => {
                self.reading.remove(&partition);
                self.arrived(partition, from, chunk);
            }
            Done::Read(partition, from, Err(BusError::Gone { start, .. })) if start > from => {
                self.reading.remove(&partition);
                let lost = format!(
                    "the records {from} to {} of partition {partition} were deleted before they were delivered: the topic's retention is too short",
                    start - 1
                );
                tracing::error!(service = %self.service, topic = %self.topic, "{lost}");
                self.trouble(lost);
                let chunk = Chunk {
                    records: Vec::new(),
                    next: start,
                    trouble: None,
                };
                self.arrived(partition, from, chunk);
            }
            Done::Read(partition, from, Err(BusError::Gone { start, end, .. })) if from > end => {
                self.reading.remove(&partition);
                let lost = format!(
                    "partition {partition} ends at {end}, and {from} was read before: it is another one now, and begins anew"
                );
                tracing::error!(service = %self.service, topic = %self.topic, "{lost}");
                self.trouble(lost);
                self.cache.clear(partition);
                let offset = start;
                self.apply(Command::Restart { partition, offset });
            }
            Done::Read(partition, _, Err(error)) => {
                self.trouble(format!("the topic cannot be read: {error}"));
                let rest = tokio::time::sleep(TRY_AGAIN);
                self.work
                    .push(rest.map(move |()| Done::Rested(partition)).boxed());
            }
            Done::Rested(partition) => drop(self.reading.remove(&partition)),
            Done::Told => {}
            Done::Found(fresh) => {
                for (partition, offset) in fresh {
                    self.take_up(partition, offset);
                }
            }
            Done::Answered(answered) => self.answered(*answered),
            Done::Settled(unkept, result) => self.settled(unkept, result),
        }
    }

    fn arrived(&mut self, partition: i32, from: i64, chunk: Chunk) {
        let (now, wall) = (monotonic(), Timestamp::now());
        let arrivals = chunk.records.iter().map(|record| Arrival {
            offset: record.place.offset,
            key: record.key.as_ref().map(|key| letter::hash(key)),
            due: letter::due(record, wall).map(|wait| now + wait),
        });
        let arrivals: Vec<_> = arrivals.collect();
        let offsets: Vec<i64> = arrivals.iter().map(|own| own.offset).collect();
        for record in chunk.records {
            self.cache.put(record);
        }
        self.apply(Command::Arrived {
            partition,
            from,
            records: arrivals,
            next: chunk.next,
        });
        // What goes at once is gone from there; what stays must not hold all that came with it.
        for offset in offsets {
            if let Some(record) = self.cache.take(partition, offset)
                && self.machine.is_outstanding(partition, offset)
            {
                self.cache.put(record.compact());
            }
        }
        if let Some(trouble) = chunk.trouble {
            self.trouble(trouble);
        }
    }

    fn apply(&mut self, command: Command) {
        let actions = self.machine.apply(command, monotonic());
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Deliver {
                flight,
                partition,
                offsets,
                attempt,
            } = action
            {
                self.deliver(flight, partition, &offsets, attempt);
            }
        }
    }

    fn deliver(&mut self, flight: Flight, partition: i32, offsets: &[i64], attempt: u32) {
        let cached = |offset: &i64| (*offset, self.cache.take(partition, *offset));
        let started = Started {
            flight,
            partition,
            records: offsets.iter().map(cached).collect(),
            attempt,
            dice: self.dice(),
            service: self.service.clone(),
            topic: Arc::clone(&self.topic),
            config: Arc::clone(&self.config),
            bus: Arc::clone(&self.bus),
            courier: Arc::clone(&self.courier),
            jobs: self.jobs.clone(),
        };
        let done = async move { Done::Answered(Box::new(started.carry().await)) };
        self.work.push(done.boxed());
    }

    fn answered(&mut self, answered: Answered) {
        let Answered {
            flight,
            records,
            ending,
            letter,
            gone,
            passes,
            skipped,
        } = answered;
        let mut outcome = ending.outcome(&self.service, &self.config.retry);
        let mut reason = ending.reason();
        if skipped {
            outcome = Outcome::Taken;
        } else if records.is_empty() && gone {
            // What was deleted needs no delivery.
            outcome = Outcome::Taken;
            self.trouble(
                "a record was deleted before it was delivered: the topic's retention is too short, or a later record of its key has replaced it"
                    .to_owned(),
            );
        } else if outcome == Outcome::Taken
            && let Some(Err(error)) = self.publish_answer(&records, &ending, &letter)
        {
            reason = format!("its answer cannot be published: {error}");
            outcome = Outcome::Refused {
                final_word: true,
                after: None,
            };
        }
        if skipped {
            // It was nobody's success and nobody's failure.
        } else if outcome == Outcome::Taken {
            self.taken += records.len() as u64;
        } else {
            // Where nobody was reached, no attempt counts.
            self.failed += u64::from(matches!(outcome, Outcome::Refused { .. }));
            self.trouble(format!("{} {reason}", self.service));
        }
        let dice = self.dice();
        let command = Command::Answered {
            flight,
            outcome,
            dice,
        };
        let actions = self.machine.apply(command, monotonic());
        self.bury(&actions, &records, &reason, &ending, &letter.trace);
        if let (Some(jobs), false) = (&self.jobs, skipped) {
            let buried = actions.iter().any(|own| matches!(own, Action::Bury { .. }));
            let ends = passes.into_iter().map(|pass| {
                let ended = jobs.ended(outcome, buried, &ending, &reason);
                pass.end(ended)
            });
            self.ends.extend(ends);
        }
        for record in records {
            if self
                .machine
                .is_outstanding(record.place.partition, record.place.offset)
            {
                self.cache.put(record);
            }
        }
        self.perform(actions);
        self.hold();
    }

    fn deadline(&self) -> Option<Instant> {
        let keep = (!self.settling && self.has_news()).then_some(self.settle_after);
        let next = self.machine.next_deadline();
        [keep, next, Some(self.look_after)]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is under way may end; then all that is done is kept.
    async fn end(mut self, limit: Duration) {
        let until = tokio::time::Instant::from_std(monotonic() + limit);
        for (_, reading) in self.reading.drain() {
            reading.abort();
        }
        self.leaving = true;
        self.apply(Command::Hold(true));
        while self.machine.in_flight() > 0 {
            self.start_settle();
            let Ok(Some(done)) = tokio::time::timeout_at(until, self.work.next()).await else {
                break;
            };
            self.finish(done);
        }
        let until = until + KEEP_WITHIN;
        while self.settling || self.has_news() {
            self.settle_after = monotonic();
            self.start_settle();
            let Ok(Some(done)) = tokio::time::timeout_at(until, self.work.next()).await else {
                tracing::warn!(service = %self.service, topic = %self.topic, "what was delivered last may be delivered again");
                return;
            };
            self.finish(done);
        }
    }

    fn view(&self) -> View {
        let wait = self.machine.paused_until();
        let wait = wait.map(|until| until.saturating_duration_since(monotonic()));
        View {
            service: self.service.clone(),
            topic: self.topic.to_string(),
            path: self.config.path.clone().unwrap_or_default(),
            lags: Vec::new(),
            oldest: self.cache.first().map(|record| record.time),
            in_flight: self.machine.in_flight(),
            failing: self.machine.failing(),
            paused_until: wait.map(|wait| Timestamp::now().after(wait)),
            taken: self.taken,
            failed: self.failed,
            buried: self.buried,
            trouble: self.trouble.clone(),
        }
    }

    fn trouble(&mut self, what: String) {
        self.trouble = Some((what, Timestamp::now()));
    }

    fn dice(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without random numbers waits are not spread; nothing breaks.
        let _ = self.random.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

/// Who asked for the end may not wait for it.
fn told(ended: oneshot::Sender<()>) {
    let _ = ended.send(());
}

/// The time by which the timers here run.
fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
