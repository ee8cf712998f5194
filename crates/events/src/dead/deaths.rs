//! Which of the letters of one record is the one that counts.
//!
//! A record that was given up is delivered again when somebody sets its subscription back, and may die
//! again: then its topic has a second letter of it. A person wants to see one, the newest, with how
//! often it died; and what is done about that one is done about all. The topic is only ever added to,
//! so what was seen of it is kept in the SQL state, and each look reads on from there: a page must not
//! need the whole topic. Of the letters at hand each is looked up by its record. A map in memory was
//! refused, also one of only those that died twice: it would grow with all dead letters there are.

use std::collections::{HashMap, HashSet};

use atoll_base::Timestamp;
use atoll_store::Sql;
use atoll_store::rusqlite::{self, Transaction, params_from_iter};

use super::{DeadError, Letter, READ_BYTES, read};
use crate::bus::Bus;

/// Which letter of a record is the newest.
pub(super) const STEP: &str = "
    CREATE TABLE events_dead_read (
        topic TEXT NOT NULL PRIMARY KEY, next INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events_dead_record (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
        published INTEGER NOT NULL, number INTEGER NOT NULL, deaths INTEGER NOT NULL,
        PRIMARY KEY (topic, partition, offset, published)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX events_dead_often ON events_dead_record (topic) WHERE deaths > 1;
    CREATE INDEX events_dead_number ON events_dead_record (topic, number);
";

/// Where the topic began when it was last cleared of what retention took. Records are looked up one by
/// one, not all that died often.
pub(super) const START_STEP: &str = "
    ALTER TABLE events_dead_read ADD COLUMN start INTEGER NOT NULL DEFAULT 0;
    DROP INDEX events_dead_often;
";

/// What was done about letters of a topic that is not there any more is kept for so long.
const DONE_KEPT_MICROS: i64 = 30 * 24 * 3600 * 1_000_000;

/// How far a dead-letter topic was read.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// Up to where.
    next: i64,
    /// No record is known whose letters are all before this one.
    start: i64,
}

/// A record, by where it was and when it was published.
type Origin = (i32, i64, i64);

/// Reads what is new of a dead-letter topic.
pub(super) async fn catch_up(bus: &dyn Bus, sql: &Sql, topic: &str) -> Result<(), DeadError> {
    let own = topic.to_owned();
    // Before the ends: what is read meanwhile by somebody else must not look like another topic.
    let known = sql.call(move |db| known(db, &own)).await?;
    let ends = bus.ends(topic, 0).await?;
    // One that ends earlier than it was read is another one of the same name.
    let anew = known.next > ends.end;
    let mut at = if anew { 0 } else { known.next }.max(ends.start);
    if anew || ends.start > known.start {
        let (own, start) = (topic.to_owned(), ends.start);
        let reached = Reached { next: at, start };
        sql.call(move |db| forget(db, &own, reached, anew)).await?;
    }
    while at < ends.end {
        let chunk = bus.read(topic, 0, at, READ_BYTES).await?;
        if chunk.next <= at {
            break;
        }
        at = chunk.next;
        let nothing = HashMap::new();
        let letters = chunk.records.iter();
        let letters = letters.filter_map(|own| read(own, &nothing));
        let letters = letters.map(|letter| (origin(&letter), letter.id.number));
        let (own, letters): (_, Vec<_>) = (topic.to_owned(), letters.collect());
        sql.call(move |db| note(db, &own, &letters, at)).await?;
    }
    Ok(())
}

/// Forgets the topics that are not there any more: at once what can be read again, and after a month what was done about
/// their letters. They may come back: the list may lack one for a moment, or another broker was looked at.
pub(super) async fn forget_deleted(
    sql: &Sql,
    topics: &[String],
    now: Timestamp,
) -> Result<(), DeadError> {
    let listed: HashSet<String> = topics.iter().cloned().collect();
    let long_ago = now.as_micros() - DONE_KEPT_MICROS;
    let forgotten = sql.call(move |db| {
        let missing = |sql: &str, parameters: &[i64]| -> rusqlite::Result<Vec<String>> {
            let mut rows = db.prepare_cached(sql)?;
            let topics = rows.query_map(params_from_iter(parameters), |row| row.get(0))?;
            let topics: rusqlite::Result<Vec<String>> = topics.collect();
            Ok(topics?
                .into_iter()
                .filter(|own| !listed.contains(own))
                .collect())
        };
        let read = missing("SELECT topic FROM events_dead_read", &[])?;
        for topic in read {
            db.execute("DELETE FROM events_dead_record WHERE topic = ?1", [&topic])?;
            db.execute("DELETE FROM events_dead_read WHERE topic = ?1", [&topic])?;
        }
        let done = missing(
            "SELECT DISTINCT topic FROM events_dead WHERE at < ?1",
            &[long_ago],
        )?;
        for topic in done {
            let sql = "DELETE FROM events_dead WHERE topic = ?1 AND at < ?2";
            db.execute(sql, (&topic, long_ago))?;
        }
        Ok(())
    });
    Ok(forgotten.await?)
}

/// Those of one topic's letters that are the newest of their records, with how often these died.
pub(super) async fn newest(
    sql: &Sql,
    topic: &str,
    mut letters: Vec<Letter>,
) -> Result<Vec<Letter>, DeadError> {
    let (topic, origins) = (topic.to_owned(), letters.iter().map(origin));
    let origins: Vec<_> = origins.collect();
    let found = sql.call(move |db| {
        let origins = origins.into_iter();
        let found = origins.map(|origin| record(db, &topic, origin));
        found.collect::<rusqlite::Result<Vec<_>>>()
    });
    let mut found = found.await?.into_iter();
    letters.retain_mut(|letter| {
        let Some((number, deaths)) = found.next().flatten() else {
            return true;
        };
        letter.deaths = deaths;
        letter.id.number >= number
    });
    Ok(letters)
}

fn origin(letter: &Letter) -> Origin {
    (letter.partition, letter.offset, letter.published)
}

/// How far the topic was read; nothing if it never was.
fn known(db: &Transaction<'_>, topic: &str) -> rusqlite::Result<Reached> {
    let mut row = db.prepare_cached("SELECT next, start FROM events_dead_read WHERE topic = ?1")?;
    let mut rows = row.query([topic])?;
    let Some(row) = rows.next()? else {
        return Ok(Reached::default());
    };
    let (next, start) = (row.get(0)?, row.get(1)?);
    Ok(Reached { next, start })
}

/// Forgets letters before the start, with what was done about them: retention has taken them. Of a
/// topic that is another one, all; what was done names the time of its letter, and waits for retention.
fn forget(
    db: &Transaction<'_>,
    topic: &str,
    Reached { next, start }: Reached,
    anew: bool,
) -> rusqlite::Result<()> {
    let before = if anew { i64::MAX } else { start };
    let sql = "DELETE FROM events_dead_record WHERE topic = ?1 AND number < ?2";
    db.execute(sql, (topic, before))?;
    let sql = "DELETE FROM events_dead WHERE topic = ?1 AND offset < ?2";
    db.execute(sql, (topic, start))?;
    let sql = "INSERT INTO events_dead_read (topic, next, start) VALUES (?1, ?2, ?3)
        ON CONFLICT DO UPDATE SET
            next = iif(?4, excluded.next, max(next, excluded.next)),
            start = iif(?4, excluded.start, max(start, excluded.start))";
    db.execute(sql, (topic, next, start, anew)).map(drop)
}

/// Notes letters up to an offset. What was noted before, by somebody who looked at the same time,
/// changes nothing.
fn note(
    db: &Transaction<'_>,
    topic: &str,
    letters: &[(Origin, i64)],
    next: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events_dead_record VALUES (?1, ?2, ?3, ?4, ?5, 1)
        ON CONFLICT DO UPDATE SET number = excluded.number, deaths = deaths + 1
        WHERE excluded.number > number";
    let mut insert = db.prepare_cached(sql)?;
    for ((partition, offset, published), number) in letters {
        insert.execute((topic, partition, offset, published, number))?;
    }
    let sql = "INSERT INTO events_dead_read (topic, next) VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET next = max(next, excluded.next)";
    db.execute(sql, (topic, next)).map(drop)
}

/// The newest letter of a record, and how often it died.
fn record(
    db: &Transaction<'_>,
    topic: &str,
    (partition, offset, published): Origin,
) -> rusqlite::Result<Option<(i64, u32)>> {
    let sql = "SELECT number, deaths FROM events_dead_record
        WHERE topic = ?1 AND partition = ?2 AND offset = ?3 AND published = ?4";
    let mut row = db.prepare_cached(sql)?;
    let mut rows = row.query((topic, partition, offset, published))?;
    let row = rows.next()?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}
