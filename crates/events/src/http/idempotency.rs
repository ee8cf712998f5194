//! `Idempotency-Key`: what is sent twice with one key is published once, also when the node dies.
//!
//! A row is written before anything is published, with a mark of the request; the records carry the
//! mark. Then the answer is written to the row. A row without an answer is one of which nobody knows
//! how far it came: the topic is searched for the mark, from the time of the row on, and only what is
//! not there is published. While a request is under way its key is held in memory; nobody else works
//! on its row.
//!
//! Refused: keeping answers as they were sent. Where the records are, and the mark, are enough to say
//! the same again. What compaction or retention has removed within seconds of a crash is not found.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_store::rusqlite::{self, OptionalExtension as _, Transaction};
use atoll_store::{Migration, Sql};
use axum::http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::{Caller, IDEMPOTENCY, Problem};
use crate::bus::{Bus, BusError};
use crate::record::{Place, Record};

/// The tables of idempotency keys.
pub const MIGRATION: Migration = Migration {
    subsystem: "events_http",
    steps: &["
        CREATE TABLE events_idempotency (
            caller TEXT NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, mark BLOB NOT NULL,
            digest BLOB NOT NULL, began INTEGER NOT NULL, places TEXT,
            PRIMARY KEY (caller, topic, key)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX events_idempotency_by_time ON events_idempotency (began);
        CREATE TABLE events_idempotency_counts (
            caller TEXT PRIMARY KEY, count INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TRIGGER events_idempotency_more AFTER INSERT ON events_idempotency BEGIN
            INSERT INTO events_idempotency_counts VALUES (new.caller, 1)
                ON CONFLICT DO UPDATE SET count = count + 1;
        END;
        CREATE TRIGGER events_idempotency_less AFTER DELETE ON events_idempotency BEGIN
            UPDATE events_idempotency_counts SET count = count - 1 WHERE caller = old.caller;
        END;
    "],
};

/// How long a key is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The most keys of one service.
const KEYS_MAX: i64 = 100_000;

/// The longest key.
const KEY_LENGTH_MAX: usize = 255;

/// Rows that have expired and go with each new one: more than one, so that they become fewer.
const EXPIRED_AT_ONCE: i64 = 100;

/// How far the clocks of this node and of the bus may be apart.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// How much is read at once when records are searched.
const CHUNK_BYTES: usize = 1 << 20;

/// Whose key, for which topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    caller: String,
    pub(super) topic: String,
    pub(super) key: String,
}

/// A key that was used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mark: Uuid,
    pub(super) digest: Vec<u8>,
    pub(super) began: Timestamp,
    /// Where its records are, once that was known.
    places: Option<String>,
}

/// The keys of all callers. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    sql: Sql,
    busy: Arc<Mutex<HashSet<Key>>>,
}

/// A key that nobody else can hold.
#[derive(Debug)]
pub(super) struct Held {
    key: Key,
    busy: Arc<Mutex<HashSet<Key>>>,
}

impl Key {
    /// The key of a request, if it has one: a string of structured fields (RFC 8941), in quotes, as
    /// the draft has it, or without them, as most send it.
    pub(super) fn of(
        headers: &HeaderMap,
        caller: &Caller,
        topic: &str,
    ) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default().trim();
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let key = quoted.unwrap_or(text);
        let sound = (1..=KEY_LENGTH_MAX).contains(&key.len()) && !key.contains('"');
        if !sound || values.next().is_some() {
            let detail = format!(
                "the Idempotency-Key must be one text of 1 to {KEY_LENGTH_MAX} printable characters, \
                 such as a UUID"
            );
            return Err(Problem::bad(detail));
        }
        Ok(Some(Self {
            caller: caller.0.as_str().to_owned(),
            topic: topic.to_owned(),
            key: key.to_owned(),
        }))
    }
}

impl Found {
    /// Where the records are, if the request came to its end.
    pub(super) fn places(&self, topic: &str) -> Option<Vec<Place>> {
        let topic: Arc<str> = topic.into();
        let places = self
            .places
            .as_ref()?
            .split(',')
            .filter(|own| !own.is_empty());
        let place = |own: &str| {
            let (partition, offset) = own.split_once(':')?;
            Some(Place {
                topic: Arc::clone(&topic),
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
            })
        };
        places.map(place).collect()
    }
}

impl Keys {
    pub(super) fn new(sql: Sql) -> Self {
        let busy = Arc::default();
        Self { sql, busy }
    }

    /// Takes a key, until what is returned is dropped.
    pub(super) fn hold(&self, key: &Key) -> Result<Held, Problem> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(key.clone()) {
            let detail = "a request with this Idempotency-Key is still under way; wait for its answer, \
                          or send the same again later";
            return Err(Problem::later(StatusCode::CONFLICT, 1, detail));
        }
        Ok(Held {
            key: key.clone(),
            busy: Arc::clone(&self.busy),
        })
    }

    /// What is known of a key that was used in the last 24 hours.
    pub(super) async fn find(
        &self,
        key: &Key,
        now: Timestamp,
    ) -> Result<Option<Found>, atoll_store::Error> {
        let key = key.clone();
        let oldest = now.before(KEPT).as_micros();
        self.sql.call(move |t| find(t, &key, oldest)).await
    }

    /// Writes that a key is used, before anything is published.
    pub(super) async fn begin(
        &self,
        key: &Key,
        mark: Uuid,
        digest: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let key = key.clone();
        let oldest = now.before(KEPT).as_micros();
        let begin = move |t: &Transaction<'_>| {
            forget(t, &key, oldest)?;
            if count(t, &key.caller)? >= KEYS_MAX {
                return Ok(false);
            }
            t.execute(
                "INSERT INTO events_idempotency VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)",
                (
                    &key.caller,
                    &key.topic,
                    &key.key,
                    mark.as_bytes(),
                    digest,
                    now.as_micros(),
                ),
            )?;
            Ok(true)
        };
        if self.sql.call(begin).await? {
            return Ok(());
        }
        let detail = format!(
            "{KEYS_MAX} keys of this service are kept, and no more are; they go after 24 hours: \
             send many events in one request, or without a key"
        );
        Err(Problem::later(StatusCode::TOO_MANY_REQUESTS, 60, detail))
    }

    /// Writes where the records are.
    pub(super) async fn finish(
        &self,
        key: &Key,
        places: &[Place],
    ) -> Result<(), atoll_store::Error> {
        let key = key.clone();
        let places = places.iter();
        let places = places.map(|place| format!("{}:{}", place.partition, place.offset));
        let places = places.collect::<Vec<_>>().join(",");
        let sql = "UPDATE events_idempotency SET places = ?4
                   WHERE caller = ?1 AND topic = ?2 AND key = ?3";
        let finish =
            move |t: &Transaction<'_>| t.execute(sql, (&key.caller, &key.topic, &key.key, places));
        self.sql.call(finish).await.map(drop)
    }
}

fn find(t: &Transaction<'_>, key: &Key, oldest: i64) -> rusqlite::Result<Option<Found>> {
    t.query_row(
        "SELECT mark, digest, began, places FROM events_idempotency
         WHERE caller = ?1 AND topic = ?2 AND key = ?3 AND began > ?4",
        (&key.caller, &key.topic, &key.key, oldest),
        |row| {
            Ok(Found {
                mark: Uuid::from_bytes(row.get(0)?),
                digest: row.get(1)?,
                began: Timestamp::from_micros(row.get(2)?),
                places: row.get(3)?,
            })
        },
    )
    .optional()
}

/// Removes the row of a key that is used anew, and some of those that have expired.
fn forget(t: &Transaction<'_>, key: &Key, oldest: i64) -> rusqlite::Result<()> {
    t.execute(
        "DELETE FROM events_idempotency
         WHERE caller = ?1 AND topic = ?2 AND key = ?3",
        (&key.caller, &key.topic, &key.key),
    )?;
    t.execute(
        "DELETE FROM events_idempotency WHERE (caller, topic, key) IN (
             SELECT caller, topic, key FROM events_idempotency
             WHERE began <= ?1 ORDER BY began LIMIT ?2)",
        (oldest, EXPIRED_AT_ONCE),
    )?;
    Ok(())
}

fn count(t: &Transaction<'_>, caller: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT count FROM events_idempotency_counts WHERE caller = ?1";
    let count = t.query_row(sql, [caller], |row| row.get(0)).optional()?;
    Ok(count.unwrap_or(0))
}

/// What a record of a request carries.
pub(super) fn header(mark: Uuid, index: usize) -> String {
    format!("{mark}/{index}")
}

/// Looks for the records of a request from the time on at which it began.
pub(super) async fn search(
    bus: &dyn Bus,
    topic: &str,
    mark: Uuid,
    began: Timestamp,
    places: &mut [Option<Place>],
) -> Result<(), BusError> {
    let since = began.before(SKEW).as_micros() / 1000;
    for partition in 0..bus.partitions(topic).await? {
        let end = bus.ends(topic, partition).await?.end;
        let Some(mut from) = bus.offset_at(topic, partition, since).await? else {
            continue;
        };
        while from < end && places.iter().any(Option::is_none) {
            let chunk = match bus.read(topic, partition, from, CHUNK_BYTES).await {
                // Retention has overtaken the search.
                Err(BusError::Gone { start, .. }) if start > from => {
                    from = start;
                    continue;
                }
                chunk => chunk?,
            };
            chunk.records.iter().for_each(|own| note(own, mark, places));
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
    }
    Ok(())
}

fn note(record: &Record, mark: Uuid, places: &mut [Option<Place>]) {
    let Some((own, index)) = record.text(IDEMPOTENCY).and_then(|own| own.split_once('/')) else {
        return;
    };
    let index = index.parse().unwrap_or(usize::MAX);
    if let (Ok(own), Some(place)) = (own.parse::<Uuid>(), places.get_mut(index))
        && own == mark
    {
        *place = Some(record.place.clone());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.key);
    }
}
