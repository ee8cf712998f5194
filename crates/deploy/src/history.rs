//! Revisions and deployments on disk.
//!
//! Three tables, in the node's SQL state. A deployment is written when it begins, without an
//! outcome, and completed when it ends; one without an outcome at the start of a node was
//! interrupted by a crash, and is marked so.

use atoll_base::{Code, RevisionNumber, ServiceName, Timestamp};
use atoll_store::rusqlite::{self, OptionalExtension, Row, Transaction};
use atoll_store::{Migration, Sql};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::artifact::Digest;
use crate::manifest::Manifest;

/// The tables of this crate.
pub const MIGRATION: Migration = Migration {
    subsystem: "deploy",
    steps: &["
        CREATE TABLE revisions (
            service TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL,
            manifest TEXT NOT NULL, source TEXT NOT NULL, fingerprint TEXT NOT NULL,
            created INTEGER NOT NULL, PRIMARY KEY (service, number)
        ) STRICT;
        CREATE TABLE deployments (
            id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, kind TEXT NOT NULL,
            revision INTEGER, previous INTEGER, who TEXT NOT NULL, why TEXT NOT NULL,
            started INTEGER NOT NULL, ended INTEGER, outcome TEXT, detail TEXT NOT NULL, code TEXT
        ) STRICT;
        CREATE INDEX deployments_by_service ON deployments (service, id);
        CREATE TABLE services (
            service TEXT PRIMARY KEY, current INTEGER, scale INTEGER
        ) STRICT;
    "],
};

/// One immutable version of a service.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Of which service.
    pub service: ServiceName,
    /// Its number.
    pub number: RevisionNumber,
    /// Its artifact.
    pub digest: Digest,
    /// Its `service.toml`, as it was.
    pub manifest: Manifest,
    /// The folder it was made from.
    pub source: String,
    /// The sign by which a change of that folder is noticed.
    pub fingerprint: String,
    /// When it was made.
    pub created: Timestamp,
}

/// What a deployment was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The node started the service.
    Up,
    /// A folder became a new revision.
    Deploy,
    /// An earlier revision was brought back.
    Rollback,
    /// New instances of the same revision.
    Restart,
    /// More or fewer instances.
    Scale,
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The revision serves.
    Succeeded,
    /// It does not; what served before goes on.
    Failed,
    /// The node stopped or died before it was over.
    Interrupted,
}

/// One attempt, in the history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployment {
    /// Grows by one with each deployment of the node.
    pub id: i64,
    /// Of which service.
    pub service: ServiceName,
    /// What it was.
    pub kind: Kind,
    /// The revision that was to serve; none if it failed before it got a number.
    pub revision: Option<RevisionNumber>,
    /// The revision that served before.
    pub previous: Option<RevisionNumber>,
    /// The digest of the revision's artifact.
    pub digest: Option<String>,
    /// The person who asked for it.
    pub who: String,
    /// The reason they gave.
    pub why: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it runs.
    pub ended: Option<Timestamp>,
    /// How it ended; none while it runs.
    pub outcome: Option<Outcome>,
    /// What went wrong, or what changed.
    pub detail: String,
    /// The code of what went wrong.
    pub code: Option<String>,
}

/// The tables, as questions and changes.
#[derive(Debug, Clone)]
pub struct History {
    sql: Sql,
}

macro_rules! text_column {
    ($type:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl $type {
            /// The name under which it is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            fn from_stored(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

text_column!(Kind {
    Up = "up", Deploy = "deploy", Rollback = "rollback", Restart = "restart", Scale = "scale",
});
text_column!(Outcome {
    Succeeded = "succeeded", Failed = "failed", Interrupted = "interrupted",
});

impl History {
    /// Takes the node's state, in which [`MIGRATION`] was run, and marks what a crash interrupted.
    pub async fn open(sql: Sql) -> Result<Self, Error> {
        let now = Timestamp::now().as_micros();
        sql.call(move |t| {
            t.execute(
                "UPDATE deployments SET outcome = 'interrupted', ended = ?1,
                     detail = 'the node ended before the deployment did'
                 WHERE outcome IS NULL",
                [now],
            )
        })
        .await?;
        Ok(Self { sql })
    }

    /// Writes that a deployment begins.
    pub async fn begin(&self, new: Deployment) -> Result<i64, Error> {
        let id = self
            .sql
            .call(move |t| {
                t.execute(
                    "INSERT INTO deployments
                         (service, kind, revision, previous, who, why, started, detail)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    (
                        new.service.as_str(),
                        new.kind.as_str(),
                        new.revision.map(|r| r.0),
                        new.previous.map(|r| r.0),
                        &new.who,
                        &new.why,
                        new.started.as_micros(),
                        &new.detail,
                    ),
                )?;
                Ok(t.last_insert_rowid())
            })
            .await?;
        Ok(id)
    }

    /// Writes how a deployment ended. An empty `detail` leaves what was written at its begin.
    pub async fn end(
        &self,
        id: i64,
        outcome: Outcome,
        detail: String,
        code: Option<Code>,
    ) -> Result<(), Error> {
        let now = Timestamp::now().as_micros();
        self.sql
            .call(move |t| {
                t.execute(
                    "UPDATE deployments SET outcome = ?2, ended = ?3, code = ?5,
                         detail = CASE WHEN ?4 = '' THEN detail ELSE ?4 END
                     WHERE id = ?1",
                    (id, outcome.as_str(), now, &detail, code.map(|code| code.0)),
                )
            })
            .await?;
        Ok(())
    }

    /// Gives a revision the next number of its service.
    pub async fn add_revision(&self, mut new: Revision) -> Result<Revision, Error> {
        let revision = self
            .sql
            .call(move |t| {
                new.number = RevisionNumber(t.query_row(
                    "SELECT coalesce(max(number), 0) + 1 FROM revisions WHERE service = ?1",
                    [new.service.as_str()],
                    |row| row.get(0),
                )?);
                t.execute(
                    "INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    (
                        new.service.as_str(),
                        new.number.0,
                        new.digest.as_str(),
                        new.manifest.text(),
                        &new.source,
                        &new.fingerprint,
                        new.created.as_micros(),
                    ),
                )?;
                Ok(new)
            })
            .await?;
        Ok(revision)
    }

    /// Writes which revision a deployment is about, once that is known.
    pub async fn set_target(&self, id: i64, number: RevisionNumber) -> Result<(), Error> {
        let sql = "UPDATE deployments SET revision = ?2 WHERE id = ?1";
        self.sql
            .call(move |t| t.execute(sql, (id, number.0)))
            .await?;
        Ok(())
    }

    /// A revision; none if there is none of this number.
    pub async fn revision(
        &self,
        service: &ServiceName,
        number: RevisionNumber,
    ) -> Result<Option<Revision>, Error> {
        let service = service.clone();
        let found = self
            .sql
            .call(move |t| revision(t, &service, number))
            .await?;
        Ok(found)
    }

    /// The fingerprint that the folder `source` had when a revision was last made of it, whatever
    /// became of that revision.
    pub async fn last_fingerprint(
        &self,
        service: &ServiceName,
        source: String,
    ) -> Result<Option<String>, Error> {
        let service = service.clone();
        let sql = "SELECT fingerprint FROM revisions WHERE service = ?1 AND source = ?2
                   ORDER BY number DESC LIMIT 1";
        let found = self
            .sql
            .call(move |t| {
                t.query_row(sql, (service.as_str(), &source), |row| row.get(0))
                    .optional()
            })
            .await?;
        Ok(found)
    }

    /// The revision whose place `current` took when it first served; if that is not known, the newest
    /// before it that has served.
    pub async fn served_before(
        &self,
        service: &ServiceName,
        current: RevisionNumber,
    ) -> Result<Option<RevisionNumber>, Error> {
        let service = service.clone();
        let found = self
            .sql
            .call(move |t| {
                t.query_row(
                    // The one whose place the current one took. If it came up late, its own
                    // deployment counts as failed: then the newest before it that has served, which
                    // is also one that another has succeeded.
                    "SELECT coalesce((
                         SELECT previous FROM deployments
                         WHERE service = ?1 AND outcome = 'succeeded'
                             AND revision = ?2 AND previous < ?2
                         ORDER BY id LIMIT 1
                     ), (
                         SELECT max(number) FROM (
                             SELECT revision AS number FROM deployments
                             WHERE service = ?1 AND outcome = 'succeeded'
                             UNION SELECT previous FROM deployments
                             WHERE service = ?1 AND outcome = 'succeeded'
                         ) WHERE number < ?2
                     ))",
                    (service.as_str(), current.0),
                    |row| row.get::<_, Option<u32>>(0),
                )
            })
            .await?;
        Ok(found.map(RevisionNumber))
    }

    /// The revision that serves, or served when the node last ran, and the wanted scale.
    pub async fn current(
        &self,
        service: &ServiceName,
    ) -> Result<(Option<Revision>, Option<u32>), Error> {
        let service = service.clone();
        let found = self
            .sql
            .call(move |t| {
                let sql = "SELECT current, scale FROM services WHERE service = ?1";
                let row: Option<(Option<u32>, Option<u32>)> = t
                    .query_row(sql, [service.as_str()], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?;
                let (number, scale) = row.unwrap_or_default();
                let current = match number {
                    Some(number) => revision(t, &service, RevisionNumber(number))?,
                    None => None,
                };
                Ok((current, scale))
            })
            .await?;
        Ok(found)
    }

    /// Records the revision that serves.
    pub async fn set_current(
        &self,
        service: &ServiceName,
        number: RevisionNumber,
    ) -> Result<(), Error> {
        self.set(service, "current", number.0).await
    }

    /// Records the wanted scale.
    pub async fn set_scale(&self, service: &ServiceName, count: u32) -> Result<(), Error> {
        self.set(service, "scale", count).await
    }

    /// The last `limit` deployments of a service, newest first; of those before the deployment `before`, if one is given.
    pub async fn deployments(
        &self,
        service: &ServiceName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Deployment>, Error> {
        let service = service.clone();
        let found = self
            .sql
            .call(move |t| {
                let sql = format!(
                    "{SELECT_DEPLOYMENTS} WHERE d.service = ?1 AND (?2 IS NULL OR d.id < ?2)
                     ORDER BY d.id DESC LIMIT ?3"
                );
                let mut statement = t.prepare(&sql)?;
                let rows = statement.query_map((service.as_str(), before, limit), deployment)?;
                rows.collect()
            })
            .await?;
        Ok(found)
    }

    /// One deployment.
    pub async fn deployment(&self, id: i64) -> Result<Option<Deployment>, Error> {
        let sql = format!("{SELECT_DEPLOYMENTS} WHERE d.id = ?1");
        let found = self
            .sql
            .call(move |t| t.query_row(&sql, [id], deployment).optional())
            .await?;
        Ok(found)
    }

    /// The digests of the last `keep` revisions of every service and of the current ones.
    pub async fn live_digests(&self, keep: u32) -> Result<Vec<Digest>, Error> {
        let found = self
            .sql
            .call(move |t| {
                let mut statement = t.prepare(
                    "SELECT DISTINCT r.digest FROM revisions r
                     LEFT JOIN services s ON s.service = r.service
                     WHERE r.number = s.current OR r.number >
                         (SELECT max(number) FROM revisions WHERE service = r.service) - ?1",
                )?;
                let rows =
                    statement.query_map([keep], |row| row.get(0).map(Digest::from_stored))?;
                rows.collect()
            })
            .await?;
        Ok(found)
    }

    async fn set(
        &self,
        service: &ServiceName,
        column: &'static str,
        value: u32,
    ) -> Result<(), Error> {
        let service = service.clone();
        self.sql
            .call(move |t| {
                t.execute(
                    &format!(
                        "INSERT INTO services (service, {column}) VALUES (?1, ?2)
                         ON CONFLICT DO UPDATE SET {column} = excluded.{column}"
                    ),
                    (service.as_str(), value),
                )
            })
            .await?;
        Ok(())
    }
}

const SELECT_DEPLOYMENTS: &str =
    "SELECT d.id, d.service, d.kind, d.revision, d.previous, d.who, d.why, d.started, d.ended,
            d.outcome, d.detail, r.digest, d.code
     FROM deployments d
     LEFT JOIN revisions r ON r.service = d.service AND r.number = d.revision";

fn deployment(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    let kind: String = row.get(2)?;
    let outcome: Option<String> = row.get(9)?;
    Ok(Deployment {
        id: row.get(0)?,
        service: name(row, 1)?,
        kind: Kind::from_stored(&kind).ok_or_else(|| odd(2))?,
        revision: row.get::<_, Option<u32>>(3)?.map(RevisionNumber),
        previous: row.get::<_, Option<u32>>(4)?.map(RevisionNumber),
        who: row.get(5)?,
        why: row.get(6)?,
        started: Timestamp::from_micros(row.get(7)?),
        ended: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_micros),
        outcome: outcome.as_deref().and_then(Outcome::from_stored),
        detail: row.get(10)?,
        digest: row.get(11)?,
        code: row.get(12)?,
    })
}

fn revision(
    t: &Transaction<'_>,
    service: &ServiceName,
    number: RevisionNumber,
) -> rusqlite::Result<Option<Revision>> {
    t.query_row(
        "SELECT service, number, digest, manifest, source, fingerprint, created
         FROM revisions WHERE service = ?1 AND number = ?2",
        (service.as_str(), number.0),
        |row| {
            Ok(Revision {
                service: name(row, 0)?,
                number: RevisionNumber(row.get(1)?),
                digest: Digest::from_stored(row.get(2)?),
                manifest: Manifest::new(row.get::<_, String>(3)?),
                source: row.get(4)?,
                fingerprint: row.get(5)?,
                created: Timestamp::from_micros(row.get(6)?),
            })
        },
    )
    .optional()
}

fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<ServiceName> {
    let text: String = row.get(column)?;
    ServiceName::new(&text).map_err(|_| odd(column))
}

fn odd(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Text)
}
