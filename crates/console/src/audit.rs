//! The audit log: who changed what, when, and how that ended.
//!
//! An entry is written when the change has been answered, in the SQL state. It names the request and what
//! its handler says of it in a [`Note`], not its content, which may hold secrets. The oldest entries go
//! beyond [`KEPT`].

use std::sync::{Arc, OnceLock};

use atoll_base::Timestamp;
use atoll_store::Sql;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::Error;
use crate::door::{WAYS, Who};
use crate::role::Role;

/// So many entries are kept.
const KEPT: i64 = 100_000;
/// The longest note, in characters; what is longer is cut.
const NOTE_MAX: usize = 500;

/// What a change is, in words. The door gives one to each request; a handler writes on it once it knows, before
/// it begins: what fails was tried.
#[derive(Debug, Clone, Default)]
pub struct Note(Arc<OnceLock<String>>);

impl Note {
    /// Only the first counts.
    pub fn write(&self, what: &str) {
        let cut = what.chars().take(NOTE_MAX).collect();
        let _ = self.0.set(cut);
    }

    fn text(&self) -> String {
        self.0.get().cloned().unwrap_or_default()
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Grows by one with each.
    pub number: i64,
    /// When it had been answered (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Who asked for it.
    pub who: String,
    /// In which role.
    #[schema(value_type = Role)]
    pub role: String,
    /// By which way: `token`, `session` or `socket`.
    #[schema(schema_with = ways)]
    pub way: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// What was to be done, in words: `scale to 3 instances`. Empty where the path says it all, and in entries of
    /// an older node.
    pub what: String,
    /// How it was answered.
    pub status: u16,
}

/// The ways there are, for the API's description.
fn ways() -> Object {
    ObjectBuilder::new()
        .description(Some("By which way it was asked for."))
        .schema_type(Type::String)
        .enum_values(Some(WAYS))
        .build()
}

/// Changes, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The changes.
    pub entries: Vec<AuditEntry>,
    /// There are more `before` this one.
    pub next: Option<i64>,
}

/// The log. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Audit(Sql);

impl Audit {
    pub(crate) fn new(sql: Sql) -> Self {
        Self(sql)
    }

    /// Writes a change down.
    pub(crate) async fn write(
        &self,
        who: &Who,
        method: &str,
        path: &str,
        note: &Note,
        status: u16,
    ) -> Result<(), Error> {
        let (name, role, way) = (who.name.clone(), who.role.as_str(), who.way);
        let (method, path, what) = (method.to_owned(), path.to_owned(), note.text());
        let now = Timestamp::now().as_micros();
        let written = self.0.call(move |t| {
            let sql = "INSERT INTO console_audit (time, who, role, way, method, path, what, status)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            t.execute(sql, (now, name, role, way, method, path, what, status))?;
            let gone = t.last_insert_rowid() - KEPT;
            t.execute("DELETE FROM console_audit WHERE number <= ?1", [gone])
                .map(drop)
        });
        Ok(written.await?)
    }

    /// The newest changes before an entry.
    pub(crate) async fn page(&self, before: Option<i64>, count: u32) -> Result<AuditPage, Error> {
        let before = before.unwrap_or(i64::MAX);
        let read = self.0.call(move |t| {
            let sql =
                "SELECT number, time, who, role, way, method, path, what, status FROM console_audit
                WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
            let mut rows = t.prepare(sql)?;
            let rows = rows.query_map((before, count), |row| {
                Ok(AuditEntry {
                    number: row.get(0)?,
                    time: Timestamp::from_micros(row.get(1)?),
                    who: row.get(2)?,
                    role: row.get(3)?,
                    way: row.get(4)?,
                    method: row.get(5)?,
                    path: row.get(6)?,
                    what: row.get(7)?,
                    status: row.get(8)?,
                })
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        let entries = read.await?;
        let full = entries.len() >= count as usize;
        let next = entries.last().filter(|_| full).map(|own| own.number);
        Ok(AuditPage { entries, next })
    }
}
