//! Jobs: work that somebody asks for, that runs once, and whose end can be asked for.
//!
//! A queue is a topic with exactly one pushed subscription; a job is a record of it and a row in the
//! SQL state. The row is written first, and that is the answer to the one who asks: from then on the
//! job is not lost. Then its record is published, with a header that names it ([`JOB`]); what is not
//! known to be published is published again. So a record may be there twice, and be delivered twice:
//! the delivery asks here before it sends (`Jobs::enter`), and tells how it ended before its
//! progress is kept (`Jobs::keep`). What is done is never run again.
//!
//! What decides is pure (`machine`). That a job runs is known in memory only (`live`).

mod keeper;
mod live;
mod machine;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_base::{ByteCount, ServiceName, Tasks, Timestamp};
use atoll_store::Sql;
use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::bus::{Bus, BusError};
use crate::config::SubscribeConfig;
use crate::courier::Ending;
use crate::delivery::Outcome;
use crate::record::{Header, NewRecord, Record};
use live::Live;
pub(crate) use live::{End, Pass};
pub use machine::{Answer, Job, State};
use machine::{Command, Ended, Verdict};
pub use table::{Filter, MIGRATION};

/// The header of a record that is a job: its id, a slash, and the number of the run.
pub const JOB: &str = "atoll-job";

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A finished job is kept so long. Default 7 days.
    pub kept: Duration,
    /// So many finished jobs are kept at most. Default 10,000.
    pub finished_max: u32,
    /// So many jobs may wait, of all queues, about. Default 100,000.
    pub open_max: u32,
    /// So much of an answer's body is kept. Default 64 KiB.
    pub answer_max: ByteCount,
}

/// All jobs. A cheap handle.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

struct Shared {
    bus: Arc<dyn Bus>,
    sql: Sql,
    limits: Limits,
    live: Live,
    /// Who gets the records of a topic, and whether several at once.
    queues: Mutex<BTreeMap<String, Vec<(ServiceName, bool)>>>,
    /// Something is to be published.
    work: Notify,
    /// About so many wait; counted anew from time to time.
    open: AtomicU32,
}

/// A job that is asked for.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its name.
    pub id: Uuid,
    /// Who asks.
    pub caller: ServiceName,
    /// What is asked twice with one key, by one caller of one queue, is one job; with the digest of
    /// what makes the requests the same.
    pub key: Option<(String, Vec<u8>)>,
    /// It does not run before.
    pub due: Option<Timestamp>,
    /// What is delivered; its topic is the queue.
    pub record: NewRecord,
}

/// A job, and whether it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The job.
    pub job: Job,
    /// Since when it runs.
    pub running: Option<Timestamp>,
}

/// Why something cannot be done with jobs.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Nobody gets the records.
    #[error("'{0}' is no queue: no service has it in a [[subscribe]] with a path")]
    NoQueue(String),
    /// Several get the records.
    #[error("'{queue}' is no queue: its records go to {services}, and a job has one to run it")]
    NotOne {
        /// The topic.
        queue: String,
        /// Who gets its records.
        services: String,
    },
    /// Several at once have one answer.
    #[error(
        "'{0}' is no queue: its subscription has `batch` or `output`, and a job is one record with one answer of its own"
    )]
    Batches(String),
    /// The same key with something else.
    #[error(
        "the Idempotency-Key was used for another job of this queue; send a new key with a new job, and the same job with the same key"
    )]
    Reused,
    /// Too many wait.
    #[error("{0} jobs wait, and no more are taken; ask again later")]
    Full(u32),
    /// There is none of the name.
    #[error("there is no job {0}; finished jobs are kept for a time only")]
    NotFound(Uuid),
    /// It cannot be, as the job is in this state.
    #[error("the job {0} is {state}", state = .1.as_str())]
    State(Uuid, State),
    /// The topic does not take it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

/// What deliveries may do with records.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    /// The rights to run those that are jobs.
    pub(crate) passes: Vec<Pass>,
    /// Offsets that need no delivery.
    skipped: Vec<i64>,
}

impl Jobs {
    /// Takes up what is kept in `sql`, where [`MIGRATION`] was run.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn open(
        bus: Arc<dyn Bus>,
        sql: Sql,
        limits: Limits,
        tasks: &Tasks,
    ) -> Result<Self, atoll_store::Error> {
        let open = sql.call(table::open).await?;
        let own = Self(Arc::new(Shared {
            bus,
            sql,
            limits,
            live: Live::default(),
            queues: Mutex::default(),
            work: Notify::new(),
            open: AtomicU32::new(open),
        }));
        let (jobs, stopping) = (own.clone(), tasks.clone());
        tasks.spawn("jobs", async move {
            tokio::select! {
                () = jobs.keep_house() => {}
                () = stopping.stopping() => {}
            }
        });
        Ok(own)
    }

    /// These are all subscriptions of all services: they make the queues.
    pub fn declare<'a>(
        &self,
        all: impl IntoIterator<Item = (&'a ServiceName, &'a [SubscribeConfig])>,
    ) {
        let mut queues: BTreeMap<String, Vec<(ServiceName, bool)>> = BTreeMap::new();
        for (service, subscriptions) in all {
            let pushed = subscriptions.iter().filter(|own| own.path.is_some());
            for own in pushed {
                let queue = queues.entry(own.topic.clone()).or_default();
                queue.push((service.clone(), own.batch > 1 || own.output.is_some()));
            }
        }
        *self.queues() = queues;
    }

    /// The topics that are queues now.
    pub fn names(&self) -> Vec<String> {
        let queues = self.queues();
        let one = queues.iter().filter(|(_, services)| services.len() == 1);
        one.map(|(queue, _)| queue.clone()).collect()
    }

    /// Takes a job. It is kept when this returns; the flag says that it was asked for before.
    ///
    /// # Errors
    /// When the topic is no queue or does not take the record, the key was used for something else,
    /// or the job cannot be kept.
    pub async fn submit(&self, new: NewJob) -> Result<(View, bool), JobError> {
        let queue = new.record.topic.to_string();
        let service = self.service_of(&queue)?;
        self.0.bus.check(&new.record)?;
        let full = self.0.open.load(Ordering::Relaxed) >= self.0.limits.open_max;
        let job = Job {
            id: new.id,
            queue,
            service,
            caller: new.caller,
            state: State::Queued,
            run: 1,
            attempts: 0,
            place: None,
            created: Timestamp::now(),
            due: new.due,
            started: None,
            finished: None,
            reason: None,
            answer: None,
        };
        let (asked, record) = (new.key, new.record);
        let asked = asked.map(|(key, digest)| table::Asked { key, digest });
        let shared = Arc::clone(&self.0);
        let taken = self.0.sql.call_then(
            move |t| {
                if let Some(asked) = &asked {
                    let found = table::find(t, job.caller.as_str(), &job.queue, &asked.key)?;
                    if let Some((known, digest)) = found {
                        let same = digest == asked.digest;
                        return Ok(same.then_some((known, true)).ok_or(JobError::Reused));
                    }
                }
                if !full {
                    table::insert(t, &job, asked.as_ref(), &record)?;
                }
                Ok(Ok((job, false)))
            },
            move |taken| {
                if matches!(taken, Ok((_, false))) && !full {
                    shared.open.fetch_add(1, Ordering::Relaxed);
                    shared.work.notify_one();
                }
            },
        );
        let (job, known) = taken.await??;
        if full && !known {
            return Err(JobError::Full(self.0.limits.open_max));
        }
        Ok((self.view(job), known))
    }

    /// One job.
    ///
    /// # Errors
    /// When there is none of the name.
    pub async fn one(&self, id: Uuid) -> Result<View, JobError> {
        let found = self.0.sql.call(move |t| table::one(t, id)).await?;
        let job = found.ok_or(JobError::NotFound(id))?;
        Ok(self.view(job))
    }

    /// Jobs, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read, or the job before which they are wanted is not there, or no more.
    pub async fn list(&self, filter: Filter) -> Result<Vec<View>, JobError> {
        if let Some(before) = filter.before {
            self.one(before).await?;
        }
        let live = self.0.live.ids();
        let found = self.0.sql.call(move |t| table::list(t, &filter, &live));
        Ok(found.await?.into_iter().map(|job| self.view(job)).collect())
    }

    /// Nobody wants it any more: it is not delivered, and if it runs, the call is dropped.
    ///
    /// # Errors
    /// When there is no such job, or it is done or has failed already.
    pub async fn cancel(&self, id: Uuid) -> Result<View, JobError> {
        self.order(id, Command::Cancel).await
    }

    /// Tries a job anew that has failed or was cancelled.
    ///
    /// # Errors
    /// When there is no such job, or it is in another state.
    pub async fn retry(&self, id: Uuid) -> Result<View, JobError> {
        self.order(id, Command::Retry).await
    }

    async fn order(&self, id: Uuid, command: Command) -> Result<View, JobError> {
        let shared = Arc::clone(&self.0);
        let now = Timestamp::now();
        let ordered = self.0.sql.call_then(
            move |t| table::change(t, id, |_| true, command, now),
            // Also if the one who asks has gone meanwhile.
            move |ordered| match ordered {
                Some((_, Verdict::Drop)) => shared.live.cancel(id),
                Some((_, Verdict::Publish)) => shared.work.notify_one(),
                _ => {}
            },
        );
        match ordered.await? {
            None => Err(JobError::NotFound(id)),
            Some((_, Verdict::Refuse(state))) => Err(JobError::State(id, state)),
            Some((job, _)) => Ok(self.view(job)),
        }
    }

    /// Asks before records are delivered; waits while a job of them still runs. The error is for a
    /// person: it cannot be told now.
    pub(crate) async fn enter(
        &self,
        service: &ServiceName,
        records: &[Record],
    ) -> Result<Entered, String> {
        let mut entered = Entered::default();
        for record in records {
            let Some((id, run)) = named(record) else {
                continue;
            };
            let place = (record.place.partition, record.place.offset);
            if entered.passes.iter().any(|pass| pass.id == id) {
                entered.skipped.push(place.1);
                continue;
            }
            let mut pass = match self.0.live.try_enter(id) {
                Ok(pass) => pass,
                // Two that wait for each other's would wait for ever.
                Err(_) if records.len() > 1 => {
                    return Err("a job of the batch still runs".to_owned());
                }
                Err(_) => self.0.live.enter(id).await,
            };
            let command = Command::Deliver { run, place };
            let asked = self.ask(id, service, &record.place.topic, command);
            match asked.await.map_err(|error| error.to_string())? {
                Some((job, Verdict::Go)) => {
                    pass.run = job.run;
                    entered.passes.push(pass);
                }
                Some(_) => entered.skipped.push(place.1),
                None => {}
            }
        }
        Ok(entered)
    }

    /// Asks before a dead letter is delivered: none if it needs no delivery, or is no job.
    ///
    /// # Errors
    /// Why it must not be delivered; for a person.
    pub(crate) async fn redrive(
        &self,
        service: &ServiceName,
        record: &Record,
    ) -> Result<Redrive, String> {
        let Some((id, _)) = named(record) else {
            return Ok(Redrive::NoJob);
        };
        let mut pass = self.0.live.enter(id).await;
        let asked = self.ask(id, service, &record.place.topic, Command::Redrive);
        match asked.await.map_err(|error| error.to_string())? {
            None => Ok(Redrive::NoJob),
            Some((job, Verdict::Go)) => {
                pass.run = job.run;
                Ok(Redrive::Go(pass))
            }
            Some((_, Verdict::Refuse(state))) => Err(format!(
                "it is the job {id}, which is {} and would run twice",
                state.as_str()
            )),
            Some(_) => Ok(Redrive::Done),
        }
    }

    async fn ask(
        &self,
        id: Uuid,
        service: &ServiceName,
        queue: &Arc<str>,
        command: Command,
    ) -> Result<Option<(Job, Verdict)>, atoll_store::Error> {
        let (service, queue, now) = (service.clone(), Arc::clone(queue), Timestamp::now());
        let asked = self.0.sql.call(move |t| {
            let own = |job: &Job| job.service == service && *job.queue == *queue;
            table::change(t, id, own, command, now)
        });
        asked.await
    }

    /// Keeps how attempts have ended: all of them, or none.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub(crate) async fn keep(&self, ends: &[End]) -> Result<(), atoll_store::Error> {
        let commands = ends.iter().map(|end| (end.pass.id, end.command()));
        let commands: Vec<_> = commands.collect();
        let now = Timestamp::now();
        let kept = self.0.sql.call(move |t| {
            for (id, command) in commands {
                table::change(t, id, |_| true, command, now)?;
            }
            Ok(())
        });
        kept.await
    }

    /// What an attempt has come to. `buried`: there is no other.
    pub(crate) fn ended(
        &self,
        outcome: Outcome,
        buried: bool,
        ending: &Ending,
        reason: &str,
    ) -> Ended {
        let answer = match ending {
            Ending::Answer(answer) => Some(self.answer(answer)),
            _ => None,
        };
        match (outcome, answer) {
            (Outcome::Taken, Some(answer)) => Ended::Taken(answer),
            (Outcome::Unreached { .. } | Outcome::Busy { .. } | Outcome::Taken, _) => {
                Ended::Unreached(reason.to_owned())
            }
            (Outcome::Refused { .. }, answer) if buried => {
                Ended::GivenUp(reason.to_owned(), answer)
            }
            (Outcome::Refused { .. }, answer) => Ended::Refused(reason.to_owned(), answer),
        }
    }

    fn answer(&self, answer: &http::Response<Bytes>) -> Answer {
        let max = usize::try_from(self.0.limits.answer_max.0).unwrap_or(usize::MAX);
        let body = answer.body();
        let kind = answer.headers().get(http::header::CONTENT_TYPE);
        Answer {
            status: answer.status().as_u16(),
            content_type: kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned),
            body: body.slice(..max.min(body.len())),
            cut: body.len() > max,
        }
    }

    fn service_of(&self, queue: &str) -> Result<ServiceName, JobError> {
        let queues = self.queues();
        match queues.get(queue).map(Vec::as_slice) {
            None | Some([]) => Err(JobError::NoQueue(queue.to_owned())),
            Some([(_, true)]) => Err(JobError::Batches(queue.to_owned())),
            Some([(service, false)]) => Ok(service.clone()),
            Some(several) => {
                let names: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
                Err(JobError::NotOne {
                    queue: queue.to_owned(),
                    services: names.join(" and "),
                })
            }
        }
    }

    fn view(&self, job: Job) -> View {
        let running = self.0.live.since(job.id);
        let running = running.filter(|_| job.state == State::Queued);
        View { job, running }
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<String, Vec<(ServiceName, bool)>>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be done with a dead letter.
#[derive(Debug)]
pub(crate) enum Redrive {
    /// It is no job.
    NoJob,
    /// It may be delivered.
    Go(Pass),
    /// It needs no delivery any more.
    Done,
}

impl Entered {
    /// The records that are to be delivered.
    pub(crate) fn going<'a>(&self, records: &'a [Record]) -> Cow<'a, [Record]> {
        if self.skipped.is_empty() {
            return records.into();
        }
        let going = records.iter();
        let going = going.filter(|own| !self.skipped.contains(&own.place.offset));
        going.cloned().collect()
    }

    /// What comes of `carried`; none if the one record that goes is a job that is cancelled before.
    /// One of several cannot be called back: the call is for the others, too.
    pub(crate) async fn unless_cancelled(
        &self,
        going: &[Record],
        carried: impl Future<Output = Ending>,
    ) -> Option<Ending> {
        match (going, self.passes.as_slice()) {
            ([_], [pass]) => pass.unless_cancelled(carried).await,
            _ => Some(carried.await),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            kept: Duration::from_secs(7 * 24 * 3600),
            finished_max: 10_000,
            open_max: 100_000,
            answer_max: ByteCount::kib(64),
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// The job that a record says it is, and which run of it.
fn named(record: &Record) -> Option<(Uuid, u32)> {
    let (id, run) = record.text(JOB)?.split_once('/')?;
    Some((id.parse().ok()?, run.parse().ok()?))
}

fn header(id: Uuid, run: u32) -> Header {
    Header::text(JOB, format!("{id}/{run}"))
}
