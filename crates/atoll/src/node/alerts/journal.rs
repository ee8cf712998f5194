//! What of objectives and alerts is kept: in the SQL state, in one transaction for all that belongs together.
//!
//! A state change, its line in the history and what is to be told of it stand or fall together: after a crash
//! nothing is told twice, and nothing is forgotten. Counts are a row for each minute and hour.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp};
use atoll_store::rusqlite::{self, OptionalExtension as _, Row as SqlRow, Transaction};
use atoll_store::{Migration, Sql};
use atoll_telemetry::objective::{
    Action, Aim, AlertId, AlertState, Change, Kept, Key, Restored, Row, Scale, Tally,
};

use super::message::Message;

/// The tables.
pub(in crate::node) const MIGRATION: Migration = Migration {
    subsystem: "alerts",
    steps: &["CREATE TABLE objective_counts (
                  service TEXT NOT NULL, aim TEXT NOT NULL, seconds INTEGER NOT NULL, at INTEGER NOT NULL,
                  total INTEGER NOT NULL, bad INTEGER NOT NULL,
                  PRIMARY KEY (service, aim, seconds, at)
              ) STRICT, WITHOUT ROWID;
              CREATE TABLE alerts (
                  id TEXT PRIMARY KEY, state TEXT, since INTEGER NOT NULL, silenced_until INTEGER,
                  told INTEGER NOT NULL, message TEXT NOT NULL
              ) STRICT;
              CREATE TABLE alert_history (
                  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, state TEXT NOT NULL,
                  at INTEGER NOT NULL, message TEXT NOT NULL, silenced INTEGER NOT NULL
              ) STRICT;
              CREATE TABLE alert_notices (
                  number INTEGER PRIMARY KEY AUTOINCREMENT, way TEXT NOT NULL, made INTEGER NOT NULL,
                  body TEXT NOT NULL
              ) STRICT;
              CREATE INDEX alert_notices_by_way ON alert_notices (way, number)"],
};

/// So many state changes are kept.
const HISTORY_MAX: i64 = 10_000;
/// So many messages may wait for one way. Then the oldest go, and that is told.
const WAITING_MAX: i64 = 1_000;

/// A handle to the tables.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    sql: Sql,
    /// The names of the ways that are told.
    ways: Arc<[&'static str]>,
    application: Arc<str>,
}

/// What is to be written, all or nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) actions: Vec<Action>,
    pub(super) rows: Vec<(Key, Row)>,
    /// Older buckets go.
    pub(super) oldest: Vec<(Key, [(Scale, i64); 2])>,
}

/// A message that waits to be told, since `made`: a silence may have come before that.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) number: i64,
    pub(super) made: Timestamp,
    pub(super) body: String,
}

/// A state change, with its place in the history.
pub(super) type Numbered = (i64, Change);

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.rows.is_empty() && self.oldest.is_empty()
    }
}

impl Journal {
    pub(super) fn new(sql: Sql, ways: Vec<&'static str>, application: &str) -> Self {
        Self {
            sql,
            ways: ways.into(),
            application: application.into(),
        }
    }

    /// What an earlier run has kept. Messages for ways that are no more go, and are counted.
    pub(super) async fn restore(&self) -> Result<(Restored, usize), atoll_store::Error> {
        let ways = Arc::clone(&self.ways);
        let read = move |t: &Transaction<'_>| {
            let restored = Restored {
                rows: all(
                    t,
                    "SELECT service, aim, seconds, at, total, bad FROM objective_counts ORDER BY at",
                    bucket,
                )?,
                alerts: all(
                    t,
                    "SELECT id, state, since, silenced_until, told, message FROM alerts",
                    kept,
                )?,
            };
            let known = serde_json::to_string(&ways[..]).unwrap_or_default();
            let sql =
                "DELETE FROM alert_notices WHERE way NOT IN (SELECT value FROM json_each(?1))";
            Ok((restored, t.execute(sql, [known])?))
        };
        self.sql.call(read).await
    }

    /// Writes; tells how many messages had to go for want of room.
    pub(super) async fn write(&self, entry: Entry) -> Result<usize, atoll_store::Error> {
        let (own, now) = (self.clone(), Timestamp::now());
        self.sql.call(move |t| own.write_in(t, &entry, now)).await
    }

    fn write_in(
        &self,
        t: &Transaction<'_>,
        entry: &Entry,
        now: Timestamp,
    ) -> rusqlite::Result<usize> {
        let mut lost = 0;
        for action in &entry.actions {
            match action {
                Action::Keep(kept) => keep(t, kept)?,
                Action::Forget(key) => forget(t, key)?,
                Action::Record(change) => record(t, change)?,
                Action::Tell(notice) => {
                    let message = Message::new(notice, &self.application);
                    for way in &*self.ways {
                        lost += wait(t, way, &message, now)?;
                    }
                }
            }
        }
        let sql = "INSERT INTO objective_counts VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT DO UPDATE SET total = excluded.total, bad = excluded.bad";
        let mut put = t.prepare_cached(sql)?;
        for (key, row) in &entry.rows {
            let (total, bad) = (signed(row.tally.total), signed(row.tally.bad));
            put.execute((
                key.service.as_str(),
                key.aim.as_str(),
                seconds(row.scale),
                row.at,
                total,
                bad,
            ))?;
        }
        let sql = "DELETE FROM objective_counts WHERE service = ?1 AND aim = ?2 AND seconds = ?3 AND at < ?4";
        let mut drop_old = t.prepare_cached(sql)?;
        for (key, scales) in &entry.oldest {
            for (scale, at) in scales {
                drop_old.execute((key.service.as_str(), key.aim.as_str(), seconds(*scale), at))?;
            }
        }
        Ok(lost)
    }

    /// State changes, the newest first: those before this number, if one is given, and so many at most.
    pub(super) async fn history(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Numbered>, atoll_store::Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = move |t: &Transaction<'_>| {
            let sql = "SELECT number, id, state, at, message, silenced FROM alert_history
                       WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
            let mut found = t.prepare(sql)?;
            let found = found.query_map((before.unwrap_or(i64::MAX), limit), change)?;
            found.collect()
        };
        self.sql.call(read).await
    }

    /// What has waited longest for this way.
    pub(super) async fn oldest(
        &self,
        way: &'static str,
    ) -> Result<Option<Waiting>, atoll_store::Error> {
        let read = move |t: &Transaction<'_>| {
            let sql = "SELECT number, made, body FROM alert_notices WHERE way = ?1 ORDER BY number LIMIT 1";
            let read = |row: &SqlRow<'_>| {
                Ok(Waiting {
                    number: row.get(0)?,
                    made: Timestamp::from_micros(row.get(1)?),
                    body: row.get(2)?,
                })
            };
            t.query_row(sql, [way], read).optional()
        };
        self.sql.call(read).await
    }

    /// A message need not be told any more.
    pub(super) async fn told(&self, number: i64) -> Result<(), atoll_store::Error> {
        let write = move |t: &Transaction<'_>| {
            t.execute("DELETE FROM alert_notices WHERE number = ?1", [number])
                .map(drop)
        };
        self.sql.call(write).await
    }
}

fn keep(t: &Transaction<'_>, kept: &Kept) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    t.execute(
        sql,
        (
            kept.id.to_string(),
            kept.state.map(AlertState::as_str),
            kept.since.as_micros(),
            kept.silenced_until.map(Timestamp::as_micros),
            kept.told,
            &kept.message,
        ),
    )
    .map(drop)
}

fn forget(t: &Transaction<'_>, key: &Key) -> rusqlite::Result<()> {
    let sql = "DELETE FROM objective_counts WHERE service = ?1 AND aim = ?2";
    t.execute(sql, (key.service.as_str(), key.aim.as_str()))?;
    for severity in atoll_telemetry::objective::Severity::ALL {
        let id = AlertId {
            key: key.clone(),
            severity,
        };
        t.execute("DELETE FROM alerts WHERE id = ?1", [id.to_string()])?;
    }
    Ok(())
}

fn record(t: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO alert_history (id, state, at, message, silenced) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (id, at) = (change.id.to_string(), change.at.as_micros());
    t.execute(
        sql,
        (
            id,
            change.state.as_str(),
            at,
            &change.message,
            change.silenced,
        ),
    )?;
    let sql =
        "DELETE FROM alert_history WHERE number <= (SELECT max(number) FROM alert_history) - ?1";
    t.execute(sql, [HISTORY_MAX]).map(drop)
}

/// A message waits for one way; tells how many others had to go.
fn wait(
    t: &Transaction<'_>,
    way: &str,
    message: &Message,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO alert_notices (way, made, body) VALUES (?1, ?2, ?3)";
    t.execute(sql, (way, now.as_micros(), message.json()))?;
    let sql = "DELETE FROM alert_notices WHERE way = ?1 AND number NOT IN
               (SELECT number FROM alert_notices WHERE way = ?1 ORDER BY number DESC LIMIT ?2)";
    t.execute(sql, (way, WAITING_MAX))
}

fn all<T>(
    t: &Transaction<'_>,
    sql: &str,
    read: fn(&SqlRow<'_>) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<Vec<T>> {
    let mut found = t.prepare(sql)?;
    let found = found.query_map([], read)?;
    // What a later version has written, and this one does not know, is left out.
    found.filter_map(Result::transpose).collect()
}

fn bucket(row: &SqlRow<'_>) -> rusqlite::Result<Option<(Key, Row)>> {
    let (service, aim): (String, String) = (row.get(0)?, row.get(1)?);
    let scale = match Duration::from_secs(row.get::<_, u32>(2)?.into()) {
        own if own == Scale::Minute.length() => Scale::Minute,
        own if own == Scale::Hour.length() => Scale::Hour,
        _ => return Ok(None),
    };
    let (Ok(service), Some(aim)) = (ServiceName::new(&service), Aim::named(&aim)) else {
        return Ok(None);
    };
    let count =
        |at: usize| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0));
    let tally = Tally {
        total: count(4)?,
        bad: count(5)?,
    };
    let row = Row {
        scale,
        at: row.get(3)?,
        tally,
    };
    Ok(Some((Key { service, aim }, row)))
}

fn kept(row: &SqlRow<'_>) -> rusqlite::Result<Option<Kept>> {
    let (id, state): (String, Option<String>) = (row.get(0)?, row.get(1)?);
    let Ok(id) = id.parse() else { return Ok(None) };
    Ok(Some(Kept {
        id,
        state: state.as_deref().and_then(AlertState::named),
        since: Timestamp::from_micros(row.get(2)?),
        silenced_until: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_micros),
        told: row.get(4)?,
        message: row.get(5)?,
    }))
}

fn change(row: &SqlRow<'_>) -> rusqlite::Result<Numbered> {
    let text = |at: usize| row.get::<_, String>(at);
    let wrong = |at: usize, what: String| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, what.into())
    };
    let state = text(2)?;
    let change = Change {
        id: text(1)?.parse().map_err(|error| wrong(1, error))?,
        state: AlertState::named(&state).ok_or_else(|| wrong(2, state))?,
        at: Timestamp::from_micros(row.get(3)?),
        message: text(4)?,
        silenced: row.get(5)?,
    };
    Ok((row.get(0)?, change))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(scale: Scale) -> i64 {
    signed(scale.length().as_secs())
}
