//! `GET /topics/{topic}`: what is there, from a place on, and where to go on.
//!
//! An answer has events of all partitions, so that none is left behind. Those of one partition are
//! in order; between partitions there is none. Nothing is kept of a reader: its cursor says it all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::{HumanDuration, ServiceName, Timestamp};
use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::select_all;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::cursor::Cursor;
use super::publish::unknown_caller;
use super::{Caller, Limits, Problem, State, stream};
use crate::bus::{Bus, BusError, Chunk};
use crate::cloudevents::{self, Event};
use crate::record::Record;

/// The events of an answer when nothing is said of their number.
const EVENTS_DEFAULT: usize = 100;

/// The most events of an answer.
const EVENTS_MAX: usize = 1_000;

/// About how many bytes of records an answer has at most; one record may be larger.
const BYTES_MAX: usize = 1 << 20;

/// The longest wait for an event.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A bus may wake too early again and again, as long as a transaction is open; it is asked no more
/// often than this.
const PAUSE: Duration = Duration::from_millis(10);

/// What is to be read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    /// `earliest` (the default), `latest`, or a time by RFC 3339.
    from: Option<String>,
    /// What the last answer gave as `next`.
    cursor: Option<String>,
    /// At most so many events: 100 by default, 1 to 1000.
    max: Option<usize>,
    /// How long to wait if there is nothing: `0s` by default, `60s` at most.
    wait: Option<String>,
}

/// A topic that is being read.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) topic: Arc<str>,
    pub(super) cursor: Cursor,
    /// Given back when the reader goes.
    _place: Arc<Place>,
}

/// How many may read at once: in all, and of one service.
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_one_max: usize,
    of_one: Mutex<HashMap<ServiceName, Arc<Semaphore>>>,
}

/// One of them.
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_one: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.readers_max)),
            of_one_max: limits.readers_of_one_max,
            of_one: Mutex::default(),
        }
    }

    fn take(&self, caller: &ServiceName) -> Result<Place, Problem> {
        let mut of_one = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
        // There is one for each service that was ever there: few.
        let own = of_one.entry(caller.clone());
        let own = own.or_insert_with(|| Arc::new(Semaphore::new(self.of_one_max)));
        let busy = |who: &str| {
            let detail = format!("{who} at once; try again, or read more events at once");
            Problem::later(StatusCode::SERVICE_UNAVAILABLE, 1, detail)
        };
        let of_one = Arc::clone(own).try_acquire_owned();
        let of_one = of_one.map_err(|_| {
            let max = self.of_one_max;
            busy(&format!(
                "{caller} has {max} reads under way, which is all it may have"
            ))
        })?;
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        Ok(Place {
            _of_all: of_all.map_err(|_| busy("too many read"))?,
            _of_one: of_one,
        })
    }
}

pub(super) async fn read(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    let Extension(Caller(caller)) = caller.ok_or_else(unknown_caller)?;
    if !state.rights.may_read(&caller, &topic) {
        let manifest = format!("[[subscribe]] topic = \"{topic}\"");
        let does = format!("read '{topic}'");
        return Err(Problem::not_declared(&caller, &does, &manifest));
    }
    let Query(query) = query?;
    let max = query.max()?;
    let wait = query.wait()?;
    let place = state.readers.take(&caller)?;
    let streamed = accepts_stream(&headers);
    let last = headers.get("last-event-id").filter(|_| streamed);
    let last = last.map(|last| last.to_str().unwrap_or_default().to_owned());
    let start = Start::of(last.as_deref().or(query.cursor.as_deref()), &query)?;
    let mut reading = Reading {
        cursor: begin(state.bus.as_ref(), &topic, start).await?,
        bus: state.bus,
        topic: topic.into(),
        _place: Arc::new(place),
    };
    if streamed {
        return stream::answer(reading, state.tasks).await;
    }
    let deadline = Instant::now() + wait;
    let records = tokio::select! {
        records = reading.next(max, deadline) => records?,
        // A reader comes back with its cursor as soon as there is somebody again.
        () = state.tasks.stopping() => Vec::new(),
    };
    Ok(answer(&records, &reading.cursor))
}

/// Where reading begins.
enum Start {
    Cursor(Cursor),
    Earliest,
    Latest,
    Time(Timestamp),
}

impl Start {
    fn of(cursor: Option<&str>, query: &ReadQuery) -> Result<Self, Problem> {
        if let Some(cursor) = cursor {
            let cursor = cursor.parse().map(Self::Cursor);
            return cursor.map_err(|error| Problem::bad(format!("{error}")));
        }
        match query.from.as_deref() {
            None | Some("earliest") => Ok(Self::Earliest),
            Some("latest") => Ok(Self::Latest),
            Some(time) => {
                let time = cloudevents::is_time(time)
                    .then(|| time.parse().ok())
                    .flatten();
                time.map(Self::Time).ok_or_else(|| {
                    let detail = "'from' is not earliest, latest or a time by RFC 3339 such as \
                                  2026-01-31T09:30:00Z (percent-encode a '+')";
                    Problem::bad(detail)
                })
            }
        }
    }
}

impl ReadQuery {
    fn max(&self) -> Result<usize, Problem> {
        let max = self.max.unwrap_or(EVENTS_DEFAULT);
        let sound = (1..=EVENTS_MAX).contains(&max);
        sound.then_some(max).ok_or_else(|| {
            let detail = format!("'max' is {max}; send 1 to {EVENTS_MAX}");
            Problem::bad(detail)
        })
    }

    fn wait(&self) -> Result<Duration, Problem> {
        let Some(text) = &self.wait else {
            return Ok(Duration::ZERO);
        };
        let wait: Result<HumanDuration, _> = text.parse();
        let wait = wait.map_err(|error| Problem::bad(format!("'wait': {error}")))?;
        if wait.0 > WAIT_MAX {
            return Err(Problem::bad(
                "'wait' is longer than 60s; ask again after that",
            ));
        }
        Ok(wait.0)
    }
}

/// A cursor that names every partition.
async fn begin(bus: &dyn Bus, topic: &str, start: Start) -> Result<Cursor, Problem> {
    let count = bus.partitions(topic).await?;
    let mut whole = Cursor::default();
    for partition in 0..count {
        let ends = bus.ends(topic, partition).await?;
        let offset = match &start {
            Start::Earliest => ends.start,
            Start::Latest => ends.end,
            Start::Time(time) => {
                // Up to the next millisecond: records have no finer times.
                let millis = time.as_micros().div_euclid(1000);
                let millis = millis + i64::from(time.as_micros().rem_euclid(1000) > 0);
                let offset = bus.offset_at(topic, partition, millis).await?;
                offset.unwrap_or(ends.end)
            }
            // The topic has got more partitions since: all of theirs is new.
            Start::Cursor(cursor) => cursor.0.get(&partition).copied().unwrap_or(ends.start),
        };
        whole.set(partition, offset);
    }
    if let Start::Cursor(cursor) = start
        && let Some(partition) = cursor.0.keys().find(|own| **own >= count)
    {
        let detail = format!(
            "the cursor names partition {partition}, and '{topic}' has {count}; it is of another topic: \
             leave it out to begin anew"
        );
        return Err(Problem::bad(detail));
    }
    Ok(whole)
}

impl Reading {
    /// The next events: as soon as there are some, or none at the deadline.
    pub(super) async fn next(
        &mut self,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Record>, Problem> {
        loop {
            let records = self.gather(max).await?;
            if !records.is_empty() || Instant::now() >= deadline {
                return Ok(records);
            }
            let waited = tokio::time::timeout_at(deadline, self.something());
            if waited.await.is_err() {
                return Ok(Vec::new());
            }
            let records = self.gather(max).await?;
            if !records.is_empty() {
                return Ok(records);
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + PAUSE)).await;
        }
    }

    async fn something(&self) {
        let waits = self.cursor.0.iter();
        let waits =
            waits.map(|(partition, offset)| self.bus.wait(&self.topic, *partition, *offset));
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        select_all(waits).map(drop).await;
    }

    /// What is there now: first a share of each partition, then as much as there is place for.
    async fn gather(&mut self, max: usize) -> Result<Vec<Record>, Problem> {
        let mut records = Vec::new();
        let mut bytes = BYTES_MAX;
        let turns = self.cursor.turns();
        let share = max.div_ceil(turns.len().max(1));
        for quota in [share, max] {
            for partition in &turns {
                let room = quota.min(max - records.len());
                if room > 0 && bytes > 0 {
                    let taken = self.take(*partition, room, bytes).await?;
                    let size: usize = taken.iter().map(size).sum();
                    bytes = bytes.saturating_sub(size);
                    records.extend(taken);
                }
            }
        }
        Ok(records)
    }

    /// The next records of one partition, and the cursor after them. Marks of transactions and what
    /// was never committed are passed over.
    async fn take(
        &mut self,
        partition: i32,
        room: usize,
        bytes: usize,
    ) -> Result<Vec<Record>, Problem> {
        let mut from = self.cursor.0.get(&partition).copied().unwrap_or(0);
        let mut chunk = self.chunk(partition, from, bytes).await?;
        while chunk.records.is_empty() && chunk.next > from {
            from = chunk.next;
            chunk = self.chunk(partition, from, bytes).await?;
        }
        let mut next = chunk.next.max(from);
        if chunk.records.len() > room {
            chunk.records.truncate(room);
            next = chunk
                .records
                .last()
                .map_or(from, |own| own.place.offset + 1);
        }
        self.cursor.set(partition, next);
        Ok(chunk.records)
    }

    async fn chunk(&self, partition: i32, from: i64, bytes: usize) -> Result<Chunk, Problem> {
        match self.bus.read(&self.topic, partition, from, bytes).await {
            Err(BusError::Gone { .. }) => Err(self.expired().await?),
            chunk => Ok(chunk?),
        }
    }

    async fn expired(&self) -> Result<Problem, Problem> {
        let earliest = begin(self.bus.as_ref(), &self.topic, Start::Earliest).await?;
        Ok(Problem::expired(&earliest))
    }
}

fn size(record: &Record) -> usize {
    let value = record.value.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter();
    let headers =
        headers.map(|own| own.name.len() + own.value.as_ref().map_or(0, bytes::Bytes::len));
    value + headers.sum::<usize>() + 64
}

fn answer(records: &[Record], next: &Cursor) -> Response {
    let mut body = br#"{"events":["#.to_vec();
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event(record));
    }
    body.extend_from_slice(format!(r#"],"next":"{next}"}}"#).as_bytes());
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}

/// A record as a reader gets it.
pub(super) fn event(record: &Record) -> bytes::Bytes {
    Event::of_record(record).with_place(record).to_json()
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("text/event-stream")
    })
}
