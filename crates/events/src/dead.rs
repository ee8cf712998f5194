//! The workbench of dead letters: what died, of what, and another try.
//!
//! A dead letter stays in its topic until retention takes it; what was done about it stands beside
//! it in the SQL state. Another try goes straight to the one subscription that gave it up: nobody
//! else sees the record twice. It stops by itself when letters fail again, so that a fault that is
//! still there does not eat through all of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp};
use atoll_store::{Migration, Sql};
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use crate::bus::{Bus, BusError};
use crate::push::{DEAD_PREFIX, Pushes, dead_topic};
use crate::record::{Header, Place, Record};

mod deaths;
#[cfg(test)]
mod tests;

/// What was done about dead letters.
pub const MIGRATION: Migration = Migration {
    subsystem: "events_dead",
    steps: &[
        "
        CREATE TABLE events_dead (
            topic TEXT NOT NULL, offset INTEGER NOT NULL, state TEXT NOT NULL,
            at INTEGER NOT NULL, value BLOB, died INTEGER NOT NULL,
            PRIMARY KEY (topic, offset)
        ) STRICT, WITHOUT ROWID;
    ",
        deaths::STEP,
        deaths::START_STEP,
    ],
};

/// More are not on one page.
pub const LISTED_MAX: usize = 10_000;
/// Nor more bytes of them, about.
const LISTED_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 1 << 20;

/// All dead letters. A cheap handle.
#[derive(Clone)]
pub struct Letters {
    bus: Arc<dyn Bus>,
    pushes: Pushes,
    sql: Sql,
}

/// Names a dead letter: `SERVICE/TOPIC/NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// The service that did not take it.
    pub service: ServiceName,
    /// The topic that it came from.
    pub topic: String,
    /// Its number among the dead letters of both.
    pub number: i64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its name.
    pub id: LetterId,
    /// When it was given up.
    pub died: Timestamp,
    /// When it was published, in milliseconds since 1970.
    pub published: i64,
    /// Its partition in the topic that it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Where it was posted to.
    pub path: String,
    /// How often, until it died the last time.
    pub attempts: u32,
    /// How often its record was given up: each time that it was delivered again may add one.
    pub deaths: u32,
    /// What happened the last time.
    pub reason: String,
    /// The beginning of the last answer, if there was one.
    pub answer: Option<String>,
    /// The trace of all attempts.
    pub trace: String,
    /// Letters that died of the same have the same.
    pub group: String,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value: that of the edited copy, if there is one.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<Header>,
    /// Whether the value was edited.
    pub edited: bool,
}

/// Which letters are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this service.
    pub service: Option<ServiceName>,
    /// Those that came from this topic.
    pub topic: Option<String>,
    /// Those that died of this: a [`Letter::group`].
    pub group: Option<String>,
}

/// Open letters, by service and topic, oldest first. Of a record that died several times only the
/// newest letter is one: what is done about it is done about all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The letters.
    pub letters: Vec<Letter>,
    /// The next page begins after this one; none if there is no other page.
    pub next: Option<LetterId>,
}

/// How letters are tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Redrive {
    /// Letters in a second, at most.
    pub rate: f64,
    /// After so many failures in a row it stops.
    pub stop_after: u32,
}

/// What became of a letter that was tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The service has taken it.
    Taken(LetterId),
    /// It failed again, and is kept.
    Failed(LetterId, String),
    /// Too many failed: these were not tried.
    Stopped(usize),
}

/// Why something cannot be done with dead letters.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    /// There is no such letter, or it is done with.
    #[error("there is no dead letter {0}; `atoll events dead list` shows those that are open")]
    NotFound(LetterId),
    /// The topic cannot be read.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

#[derive(Debug, Clone)]
struct Done {
    state: String,
    value: Option<Vec<u8>>,
    /// The time of the letter: a topic that was made anew has others under the same numbers.
    died: i64,
}

impl Letters {
    /// [`MIGRATION`] was run in `sql`.
    pub fn new(bus: Arc<dyn Bus>, pushes: Pushes, sql: Sql) -> Self {
        Self { bus, pushes, sql }
    }

    /// Open letters after `after`, so many at most; never more than [`LISTED_MAX`], nor many more than
    /// 64 MiB of them.
    ///
    /// # Errors
    /// When topics or state cannot be read.
    pub async fn page(
        &self,
        filter: &Filter,
        after: Option<&LetterId>,
        count: usize,
    ) -> Result<Page, DeadError> {
        let count = count.clamp(1, LISTED_MAX);
        let after = after.map(|id| (dead_topic(&id.service, &id.topic), id.number));
        let mut topics = self.bus.topics().await?;
        deaths::forget_deleted(&self.sql, &topics, Timestamp::now()).await?;
        topics.retain(|topic| {
            let passed = after.as_ref().is_some_and(|(last, _)| topic < last);
            topic.starts_with("dead.") && !passed
        });
        topics.sort_unstable();
        let mut page = Page::default();
        for topic in topics {
            let past = after.as_ref().filter(|(last, _)| *last == topic);
            let past = past.map_or(0, |(_, number)| number + 1);
            if self.fill(&mut page, filter, (&topic, past), count).await? {
                page.next = page.letters.last().map(|letter| letter.id.clone());
                break;
            }
        }
        Ok(page)
    }

    /// Puts the letters of one topic from an offset on onto the page; true if there is no room for
    /// all.
    async fn fill(
        &self,
        page: &mut Page,
        filter: &Filter,
        (topic, from): (&str, i64),
        count: usize,
    ) -> Result<bool, DeadError> {
        deaths::catch_up(&*self.bus, &self.sql, topic).await?;
        let ends = self.bus.ends(topic, 0).await?;
        let mut at = ends.start.max(from);
        let mut bytes: usize = page.letters.iter().map(Letter::size).sum();
        while at < ends.end {
            let chunk = self.bus.read(topic, 0, at, READ_BYTES).await?;
            if chunk.next <= at {
                break;
            }
            let done = self.done(topic, at..chunk.next).await?;
            at = chunk.next;
            let letters = chunk.records.iter().filter_map(|own| read(own, &done));
            let letters = letters.filter(|letter| filter.fits(letter)).collect();
            for letter in deaths::newest(&self.sql, topic, letters).await? {
                if page.letters.len() >= count || bytes >= LISTED_BYTES_MAX {
                    return Ok(true);
                }
                bytes += letter.size();
                page.letters.push(letter);
            }
        }
        Ok(false)
    }

    /// One open letter.
    ///
    /// # Errors
    /// When there is none of the name.
    pub async fn one(&self, id: &LetterId) -> Result<Letter, DeadError> {
        let none = || DeadError::NotFound(id.clone());
        let topic = dead_topic(&id.service, &id.topic);
        let chunk = match self.bus.read(&topic, 0, id.number, 1).await {
            Err(BusError::NoTopic(_) | BusError::Gone { .. }) => return Err(none()),
            read => read?,
        };
        deaths::catch_up(&*self.bus, &self.sql, &topic).await?;
        let mut records = chunk.records.iter();
        let record = records.find(|own| own.place.offset == id.number);
        let done = self
            .done(&topic, id.number..id.number.saturating_add(1))
            .await?;
        let letter = record.and_then(|own| read(own, &done));
        let letter = letter.filter(|letter| letter.id == *id);
        let own = letter.into_iter().collect();
        let mut newest = deaths::newest(&self.sql, &topic, own).await?;
        newest.pop().ok_or_else(none)
    }

    /// Puts another value in its place for the next try. The letter itself stays as it is.
    ///
    /// # Errors
    /// When there is no such letter or the state cannot be written.
    pub async fn edit(&self, id: &LetterId, value: Bytes) -> Result<(), DeadError> {
        let letter = self.one(id).await?;
        self.set(&letter, "edited", Some(value.to_vec())).await
    }

    /// Puts letters aside for good, without another try.
    ///
    /// # Errors
    /// When one of them is not there; those before it are dropped.
    pub async fn drop(&self, ids: &[LetterId]) -> Result<(), DeadError> {
        for id in ids {
            let letter = self.one(id).await?;
            self.set(&letter, "dropped", None).await?;
        }
        Ok(())
    }

    /// Tries letters again, one after the other, and tells of each: those of the page, and those of
    /// the pages after it that the filter lets through. Ends when nobody listens.
    pub async fn redrive(
        &self,
        mut page: Page,
        filter: Filter,
        how: Redrive,
        told: mpsc::Sender<Step>,
    ) {
        let pause = Duration::from_secs_f64(1.0 / how.rate.clamp(0.01, 10_000.0));
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            let next = page.next.take();
            let run = self.run(page.letters, how, &told, (&mut ticks, &mut failures));
            let Some(left) = run.await else {
                return;
            };
            let Some(next) = next.as_ref().filter(|_| left == 0) else {
                let beyond = match next {
                    Some(next) if left > 0 => self.count_after(&filter, next).await,
                    _ => 0,
                };
                if left + beyond > 0 {
                    let _ = told.send(Step::Stopped(left + beyond)).await;
                }
                return;
            };
            page = match self.page(&filter, Some(next), LISTED_MAX).await {
                Ok(page) => page,
                Err(error) => {
                    let why = format!("those after it cannot be read: {error}");
                    let _ = told.send(Step::Failed(next.clone(), why)).await;
                    return;
                }
            };
        }
    }

    /// How many letters are on the pages after this letter, as far as they can be read.
    async fn count_after(&self, filter: &Filter, letter: LetterId) -> usize {
        let (mut count, mut after) = (0, Some(letter));
        while let Some(id) = after {
            let Ok(page) = self.page(filter, Some(&id), LISTED_MAX).await else {
                break;
            };
            count += page.letters.len();
            after = page.next;
        }
        count
    }

    /// Tries these; tells how many were left because too many have failed, or none if nobody listens.
    async fn run(
        &self,
        letters: Vec<Letter>,
        how: Redrive,
        told: &mpsc::Sender<Step>,
        (ticks, failures): (&mut Interval, &mut u32),
    ) -> Option<usize> {
        let total = letters.len();
        for (tried, letter) in letters.into_iter().enumerate() {
            if *failures >= how.stop_after.max(1) {
                return Some(total - tried);
            }
            tokio::select! {
                _ = ticks.tick() => {}
                () = told.closed() => return None,
            }
            let step = match self.try_again(&letter).await {
                Ok(()) => {
                    *failures = 0;
                    Step::Taken(letter.id)
                }
                Err(reason) => {
                    *failures += 1;
                    Step::Failed(letter.id, reason)
                }
            };
            if told.send(step).await.is_err() {
                return None;
            }
        }
        Some(0)
    }

    /// The error is for a person.
    async fn try_again(&self, letter: &Letter) -> Result<(), String> {
        let id = &letter.id;
        // Somebody else may have been faster.
        let letter = self.one(id).await.map_err(|error| error.to_string())?;
        let record = Record {
            place: Place {
                topic: id.topic.as_str().into(),
                partition: letter.partition,
                offset: letter.offset,
            },
            time: letter.published,
            key: letter.key.clone(),
            value: letter.value.clone(),
            headers: letter.headers.clone(),
        };
        let sent = self
            .pushes
            .send(&id.service, record, letter.attempts.saturating_add(1));
        sent.await?;
        let kept = self.set(&letter, "redriven", None).await;
        kept.map_err(|error| format!("taken, but that cannot be noted: {error}"))
    }

    /// What was done about letters of a topic with these numbers.
    async fn done(
        &self,
        topic: &str,
        numbers: Range<i64>,
    ) -> Result<HashMap<i64, Done>, DeadError> {
        let topic = topic.to_owned();
        let read = self.sql.call(move |db| {
            let sql = "SELECT offset, state, value, died FROM events_dead
                WHERE topic = ?1 AND offset >= ?2 AND offset < ?3";
            let mut rows = db.prepare_cached(sql)?;
            let rows = rows.query_map((topic, numbers.start, numbers.end), |row| {
                let done = Done {
                    state: row.get(1)?,
                    value: row.get(2)?,
                    died: row.get(3)?,
                };
                Ok((row.get(0)?, done))
            })?;
            rows.collect()
        });
        Ok(read.await?)
    }

    async fn set(
        &self,
        letter: &Letter,
        state: &'static str,
        value: Option<Vec<u8>>,
    ) -> Result<(), DeadError> {
        let id = &letter.id;
        let (topic, number) = (dead_topic(&id.service, &id.topic), id.number);
        let died = letter.died.as_micros() / 1000;
        let now = Timestamp::now().as_micros();
        let written = self.sql.call(move |db| {
            let sql = "INSERT INTO events_dead VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                ON CONFLICT DO UPDATE SET state = ?3, at = ?4, value = ?5, died = ?6";
            db.execute(sql, (topic, number, state, now, value, died))
                .map(drop)
        });
        Ok(written.await?)
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters").finish_non_exhaustive()
    }
}

/// Letters that died of the same, and how many they are.
pub fn groups(letters: &[Letter]) -> Vec<(&Letter, usize)> {
    let mut groups: BTreeMap<(&ServiceName, &str, &str), (&Letter, usize)> = BTreeMap::new();
    for letter in letters {
        let id = &letter.id;
        let key = (&id.service, id.topic.as_str(), letter.group.as_str());
        let own = groups.entry(key).or_insert((letter, 0));
        *own = (letter, own.1 + 1);
    }
    groups.into_values().collect()
}

/// What a record of a dead-letter topic says; none if it is done with, or no dead letter at all.
fn read(record: &Record, done: &HashMap<i64, Done>) -> Option<Letter> {
    let number = record.place.offset;
    let done = done.get(&number).filter(|done| done.died == record.time);
    if done.is_some_and(|done| done.state != "edited") {
        return None;
    }
    let edited = done.and_then(|done| done.value.clone());
    let said = |name: &str| record.text(&format!("{DEAD_PREFIX}{name}"));
    let number_of = |name: &str| said(name).and_then(|text| text.parse().ok());
    let service = ServiceName::new(said("service")?).ok()?;
    let topic = said("topic")?.to_owned();
    if dead_topic(&service, &topic) != *record.place.topic {
        // Whoever wrote it was no subscription.
        return None;
    }
    let reason = said("reason").unwrap_or_default().to_owned();
    let group = fingerprint(&service, &topic, &reason);
    let headers = record.headers.iter();
    let headers = headers.filter(|header| !header.name.starts_with(DEAD_PREFIX));
    Some(Letter {
        id: LetterId {
            service,
            topic,
            number,
        },
        died: Timestamp::from_micros(record.time.saturating_mul(1000)),
        published: number_of("published").unwrap_or(-1),
        partition: said("partition")?.parse().ok()?,
        offset: number_of("offset")?,
        path: said("path").unwrap_or_default().to_owned(),
        attempts: said("attempts")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        deaths: 1,
        reason,
        answer: said("answer").map(str::to_owned),
        trace: said("trace").unwrap_or_default().to_owned(),
        group,
        key: record.key.clone(),
        edited: edited.is_some(),
        value: edited.map(Bytes::from).or_else(|| record.value.clone()),
        headers: headers.cloned().collect(),
    })
}

/// Eight digits that are the same for what died of the same: numbers in the reason do not count, as
/// they name this order or that customer.
fn fingerprint(service: &ServiceName, topic: &str, reason: &str) -> String {
    let mut shape = String::new();
    for word in reason.split_whitespace() {
        let is_name = word.chars().any(|letter| letter.is_ascii_digit());
        // A status tells faults apart.
        let status = word.trim_end_matches(':');
        let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        shape.push_str(if is_name && !is_status { "#" } else { word });
        shape.push(' ');
    }
    let digest = digest(&SHA256, format!("{service}\n{topic}\n{shape}").as_bytes());
    let bytes = digest.as_ref().iter().take(4);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

impl Letter {
    fn size(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len) + 1024
    }
}

impl Filter {
    fn fits(&self, letter: &Letter) -> bool {
        self.service
            .as_ref()
            .is_none_or(|own| *own == letter.id.service)
            && self
                .topic
                .as_ref()
                .is_none_or(|own| *own == letter.id.topic)
            && self.group.as_ref().is_none_or(|own| *own == letter.group)
    }
}

impl Default for Redrive {
    /// Ten in a second, until three in a row fail.
    fn default() -> Self {
        Self {
            rate: 10.0,
            stop_after: 3,
        }
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service, self.topic, self.number)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no dead letter: they are called SERVICE/TOPIC/NUMBER");
        let mut parts = text.split('/');
        let (Some(service), Some(topic), Some(number), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            service: ServiceName::new(service).map_err(|_| wrong())?,
            topic: topic.to_owned(),
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}
