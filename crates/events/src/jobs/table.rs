//! Jobs in the SQL state: one row each, and beside it the record, which is large and never changes.

use atoll_base::{ServiceName, Timestamp};
use atoll_store::Migration;
use atoll_store::rusqlite::{
    self, OptionalExtension as _, Row, Transaction, named_params, types::Type,
};
use bytes::Bytes;
use uuid::Uuid;

use super::machine::{Answer, Command, Job, State, Verdict};
use crate::record::{Header, NewRecord};

/// The tables of jobs.
pub const MIGRATION: Migration = Migration {
    subsystem: "events_jobs",
    steps: &["
        CREATE TABLE events_jobs (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            queue TEXT NOT NULL, service TEXT NOT NULL, caller TEXT NOT NULL,
            key TEXT, digest BLOB,
            state TEXT NOT NULL, run INTEGER NOT NULL, attempts INTEGER NOT NULL,
            partition INTEGER, offset INTEGER,
            created INTEGER NOT NULL, due INTEGER, started INTEGER, finished INTEGER,
            reason TEXT, status INTEGER, content_type TEXT, body BLOB, cut INTEGER
        ) STRICT;
        CREATE UNIQUE INDEX events_jobs_by_key ON events_jobs (caller, queue, key)
            WHERE key IS NOT NULL;
        CREATE INDEX events_jobs_unpublished ON events_jobs (seq)
            WHERE state = 'queued' AND offset IS NULL;
        CREATE INDEX events_jobs_by_queue ON events_jobs (queue, seq);
        CREATE INDEX events_jobs_finished ON events_jobs (finished) WHERE finished IS NOT NULL;
        CREATE TABLE events_jobs_records (
            seq INTEGER PRIMARY KEY REFERENCES events_jobs ON DELETE CASCADE,
            key BLOB, value BLOB, headers TEXT NOT NULL
        ) STRICT;
    "],
};

/// A request with a key: what makes it the same.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) digest: Vec<u8>,
}

/// Which jobs are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of these queues; none: of all.
    pub queues: Option<Vec<String>>,
    /// Those in this state.
    pub state: Option<State>,
    /// Those that run, or those that do not.
    pub running: Option<bool>,
    /// Those that were asked for before this one.
    pub before: Option<Uuid>,
    /// So many at most, the newest.
    pub limit: u32,
}

const COLUMNS: &str = "id, queue, service, caller, state, run, attempts, partition, offset, created, \
    due, started, finished, reason, status, content_type, body, cut";

/// The job that was asked for with this key, and what makes the request the same.
pub(super) fn find(
    t: &Transaction<'_>,
    caller: &str,
    queue: &str,
    key: &str,
) -> rusqlite::Result<Option<(Job, Vec<u8>)>> {
    let sql = format!(
        "SELECT {COLUMNS}, digest FROM events_jobs WHERE caller = ?1 AND queue = ?2 AND key = ?3"
    );
    let row = t.query_row(&sql, (caller, queue, key), |row| {
        Ok((job(row)?, row.get("digest")?))
    });
    row.optional()
}

pub(super) fn one(t: &Transaction<'_>, id: Uuid) -> rusqlite::Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM events_jobs WHERE id = ?1");
    t.prepare_cached(&sql)?
        .query_row([id.to_string()], job)
        .optional()
}

pub(super) fn insert(
    t: &Transaction<'_>,
    job: &Job,
    asked: Option<&Asked>,
    record: &NewRecord,
) -> rusqlite::Result<()> {
    t.execute(
        "INSERT INTO events_jobs (id, queue, service, caller, key, digest, state, run, attempts, created, due)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10)",
        rusqlite::params![
            job.id.to_string(),
            job.queue,
            job.service.as_str(),
            job.caller.as_str(),
            asked.map(|own| &own.key),
            asked.map(|own| &own.digest),
            job.state.as_str(),
            job.run,
            job.created.as_micros(),
            job.due.map(Timestamp::as_micros),
        ],
    )?;
    let headers: Vec<(&str, Option<&str>)> = record.headers.iter().map(text_of).collect();
    let headers = serde_json::to_string(&headers).unwrap_or_default();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    t.execute(
        "INSERT INTO events_jobs_records VALUES (?1, ?2, ?3, ?4)",
        (t.last_insert_rowid(), key, value, headers),
    )
    .map(drop)
}

/// Headers of jobs are made here, of text.
fn text_of(header: &Header) -> (&str, Option<&str>) {
    let value = header.value.as_ref();
    let value = value.and_then(|value| std::str::from_utf8(value).ok());
    (&header.name, value)
}

/// Tells a job what happened, and keeps what came of it; none if there is no such job, or `fits` says
/// that another is meant.
pub(super) fn change(
    t: &Transaction<'_>,
    id: Uuid,
    fits: impl Fn(&Job) -> bool,
    command: Command,
    now: Timestamp,
) -> rusqlite::Result<Option<(Job, Verdict)>> {
    let Some(before) = one(t, id)?.filter(fits) else {
        return Ok(None);
    };
    let mut job = before.clone();
    let verdict = job.apply(command, now);
    // What has not changed needs no write, and so no sync.
    if job != before {
        update(t, &job)?;
    }
    Ok(Some((job, verdict)))
}

/// Writes what may change. Of a job that is done, the record is not needed any more.
fn update(t: &Transaction<'_>, job: &Job) -> rusqlite::Result<()> {
    let answer = job.answer.as_ref();
    let sql = "UPDATE events_jobs SET state = :state, run = :run, attempts = :attempts,
        partition = :partition, offset = :offset, started = :started, finished = :finished,
        reason = :reason, status = :status, content_type = :content_type, body = :body, cut = :cut
        WHERE id = :id";
    t.prepare_cached(sql)?.execute(named_params! {
        ":id": job.id.to_string(),
        ":state": job.state.as_str(),
        ":run": job.run,
        ":attempts": job.attempts,
        ":partition": job.place.map(|(partition, _)| partition),
        ":offset": job.place.map(|(_, offset)| offset),
        ":started": job.started.map(Timestamp::as_micros),
        ":finished": job.finished.map(Timestamp::as_micros),
        ":reason": job.reason,
        ":status": answer.map(|own| own.status),
        ":content_type": answer.and_then(|own| own.content_type.as_deref()),
        ":body": answer.map(|own| &*own.body),
        ":cut": answer.map(|own| own.cut),
    })?;
    if job.state == State::Done {
        let sql = "DELETE FROM events_jobs_records
            WHERE seq = (SELECT seq FROM events_jobs WHERE id = ?1)";
        t.prepare_cached(sql)?.execute([job.id.to_string()])?;
    }
    Ok(())
}

/// The oldest jobs whose record is not known to be in the topic, with it: about `bytes_max` of them.
pub(super) fn unpublished(
    t: &Transaction<'_>,
    bytes_max: usize,
) -> rusqlite::Result<Vec<(Uuid, u32, NewRecord)>> {
    let sql = "SELECT j.id, j.run, j.queue, r.key, r.value, r.headers
        FROM events_jobs j JOIN events_jobs_records r USING (seq)
        WHERE j.state = 'queued' AND j.offset IS NULL ORDER BY j.seq";
    let mut rows = t.prepare_cached(sql)?;
    let mut rows = rows.query([])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(row) = rows.next()?
    {
        let mut record = NewRecord::new(row.get::<_, String>(2)?);
        record.key = row.get::<_, Option<Vec<u8>>>(3)?.map(Bytes::from);
        record.value = row.get::<_, Option<Vec<u8>>>(4)?.map(Bytes::from);
        let headers: Vec<(String, Option<String>)> =
            serde_json::from_str(&row.get::<_, String>(5)?).map_err(|error| broken(5, error))?;
        record.headers = headers
            .into_iter()
            .map(|(name, value)| Header {
                name,
                value: value.map(Bytes::from),
            })
            .collect();
        bytes += record.value.as_ref().map_or(0, Bytes::len) + 1024;
        found.push((uuid(row, 0)?, row.get(1)?, record));
    }
    Ok(found)
}

/// Jobs that wait with a record before this offset.
pub(super) fn behind(
    t: &Transaction<'_>,
    queue: &str,
    partition: i32,
    start: i64,
) -> rusqlite::Result<Vec<Uuid>> {
    let sql = "SELECT id FROM events_jobs
        WHERE queue = ?1 AND state = 'queued' AND partition = ?2 AND offset < ?3";
    let mut rows = t.prepare(sql)?;
    let rows = rows.query_map((queue, partition, start), |row| uuid(row, 0))?;
    rows.collect()
}

/// The partitions in which jobs wait.
pub(super) fn waiting(t: &Transaction<'_>) -> rusqlite::Result<Vec<(String, i32)>> {
    let sql = "SELECT DISTINCT queue, partition FROM events_jobs
        WHERE state = 'queued' AND partition IS NOT NULL";
    let mut rows = t.prepare(sql)?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Removes what was finished long ago, and of the rest the oldest that are too many.
pub(super) fn forget(
    t: &Transaction<'_>,
    before: Timestamp,
    finished_max: u32,
) -> rusqlite::Result<usize> {
    t.execute(
        "DELETE FROM events_jobs WHERE finished <= max(?1, ifnull((
             SELECT finished FROM events_jobs WHERE finished IS NOT NULL
             ORDER BY finished DESC LIMIT 1 OFFSET ?2), ?1))",
        (before.as_micros(), finished_max),
    )
}

/// How many wait.
pub(super) fn open(t: &Transaction<'_>) -> rusqlite::Result<u32> {
    let sql = "SELECT count(*) FROM events_jobs WHERE finished IS NULL";
    t.query_row(sql, [], |row| row.get(0))
}

/// Jobs, the newest first.
pub(super) fn list(
    t: &Transaction<'_>,
    filter: &Filter,
    live: &[String],
) -> rusqlite::Result<Vec<Job>> {
    let json = |names: &[String]| serde_json::to_string(names).unwrap_or_default();
    let sql = format!(
        "SELECT {COLUMNS} FROM events_jobs
         WHERE (:queues IS NULL OR queue IN (SELECT value FROM json_each(:queues)))
           AND (:state IS NULL OR state = :state)
           AND (:running IS NULL OR :running = (id IN (SELECT value FROM json_each(:live))))
           AND (:before IS NULL OR seq < (SELECT seq FROM events_jobs WHERE id = :before))
         ORDER BY seq DESC LIMIT :limit"
    );
    let mut rows = t.prepare_cached(&sql)?;
    let rows = rows.query_map(
        named_params! {
            ":queues": filter.queues.as_deref().map(json),
            ":state": filter.state.map(State::as_str),
            ":running": filter.running,
            ":live": json(live),
            ":before": filter.before.map(|id| id.to_string()),
            ":limit": filter.limit,
        },
        job,
    )?;
    rows.collect()
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let time = |name| {
        let micros: Option<i64> = row.get(name)?;
        Ok::<_, rusqlite::Error>(micros.map(Timestamp::from_micros))
    };
    let place: (Option<i32>, Option<i64>) = (row.get("partition")?, row.get("offset")?);
    let status: Option<u16> = row.get("status")?;
    let answer = status.map(|status| {
        let body: Option<Vec<u8>> = row.get("body")?;
        Ok::<_, rusqlite::Error>(Answer {
            status,
            content_type: row.get("content_type")?,
            body: body.unwrap_or_default().into(),
            cut: row.get::<_, Option<bool>>("cut")?.unwrap_or(false),
        })
    });
    Ok(Job {
        id: uuid(row, 0)?,
        queue: row.get("queue")?,
        service: service(row, 2)?,
        caller: service(row, 3)?,
        state: state(&row.get::<_, String>("state")?),
        run: row.get("run")?,
        attempts: row.get("attempts")?,
        place: place.0.zip(place.1),
        created: Timestamp::from_micros(row.get("created")?),
        due: time("due")?,
        started: time("started")?,
        finished: time("finished")?,
        reason: row.get("reason")?,
        answer: answer.transpose()?,
    })
}

fn state(text: &str) -> State {
    match text {
        "done" => State::Done,
        "failed" => State::Failed,
        "cancelled" => State::Cancelled,
        _ => State::Queued,
    }
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| broken(column, error))
}

fn service(row: &Row<'_>, column: usize) -> rusqlite::Result<ServiceName> {
    let text: String = row.get(column)?;
    ServiceName::new(&text).map_err(|error| broken(column, error))
}

fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
