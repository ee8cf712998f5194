//! Tokens: who has one, with which role. The text is shown once and kept nowhere.
//!
//! The table is the truth and is asked for each request that names a token: a token that was taken
//! back is refused from that moment on, and there is nothing to keep in step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_base::Timestamp;
use atoll_store::Sql;
use atoll_store::rusqlite::{self, OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::role::Role;
use crate::{Error, secret};

/// The longest name, in characters.
const NAME_MAX: usize = 100;
/// How a token begins, so that scanners for leaked secrets know it.
const BEGINNING: &str = "atoll_console_";

/// A token, but for the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its short name.
    pub id: String,
    /// Who has it, for people.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it was taken back.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked: Option<Timestamp>,
    /// When somebody last came with it, or with a session that was begun by it; null: nobody has since
    /// the node was started. It is not kept over a restart.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
}

/// All tokens. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    sql: Sql,
    /// When each was last used, by its id. In memory: who only looks must not write to the disk, and can
    /// look when it is full. It never holds more than the table.
    used: Arc<Mutex<HashMap<String, Timestamp>>>,
}

impl Tokens {
    pub(crate) fn new(sql: Sql) -> Self {
        Self {
            sql,
            used: Arc::default(),
        }
    }

    /// Notes that a token of ours, or a session that was begun by it, was used.
    pub(crate) fn used(&self, id: &str, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get_mut(id) {
            Some(last) => *last = now,
            None => drop(used.insert(id.to_owned(), now)),
        }
    }

    fn last_used(&self, view: TokenView) -> TokenView {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let last_used = used.get(&view.id).copied();
        TokenView { last_used, ..view }
    }

    /// Makes a token; the text is nowhere else.
    pub(crate) async fn create(
        &self,
        name: &str,
        role: Role,
    ) -> Result<(String, TokenView), Error> {
        let count = name.chars().count();
        if count == 0 || count > NAME_MAX || name.chars().any(char::is_control) {
            return Err(Error::Name(name.to_owned()));
        }
        let text = secret::make(BEGINNING)?;
        let hash = secret::hash(&text);
        let view = TokenView {
            id: secret::short(&hash),
            name: name.to_owned(),
            role,
            created: Timestamp::now(),
            revoked: None,
            last_used: None,
        };
        let own = view.clone();
        let written = self.sql.call(move |t| {
            let sql = "INSERT INTO console_tokens (id, hash, name, role, created) VALUES (?1, ?2, ?3, ?4, ?5)";
            let created = own.created.as_micros();
            t.execute(sql, (own.id, hash, own.name, own.role.as_str(), created))
                .map(drop)
        });
        written.await?;
        Ok((text, view))
    }

    /// All that there ever were, the oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<TokenView>, Error> {
        let read = self.sql.call(|t| {
            let mut rows = t.prepare(
                "SELECT id, name, role, created, revoked FROM console_tokens ORDER BY created",
            )?;
            let rows = rows.query_map([], view)?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        let all = read.await?.into_iter();
        Ok(all.map(|own| self.last_used(own)).collect())
    }

    /// Takes one back, with the sessions that were begun by it.
    pub(crate) async fn revoke(&self, id: &str) -> Result<TokenView, Error> {
        let (wanted, now) = (id.to_owned(), Timestamp::now().as_micros());
        let changed = self.sql.call(move |t| {
            t.execute(
                "UPDATE console_tokens SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL",
                (&wanted, now),
            )?;
            t.execute("DELETE FROM console_sessions WHERE token = ?1", [&wanted])?;
            let sql = "SELECT id, name, role, created, revoked FROM console_tokens WHERE id = ?1";
            t.query_row(sql, [&wanted], view).optional()
        });
        let found = changed.await?.map(|own| self.last_used(own));
        found.ok_or_else(|| Error::NoToken(id.to_owned()))
    }

    /// Whose this is, if it is one that holds. It counts as used.
    pub(crate) async fn find(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<TokenView>, Error> {
        let hash = secret::hash(text);
        let read = self.sql.call(move |t| {
            let sql = "SELECT id, name, role, created, revoked FROM console_tokens
                 WHERE hash = ?1 AND revoked IS NULL";
            t.query_row(sql, [hash], view).optional()
        });
        let found = read.await?;
        if let Some(own) = &found {
            self.used(&own.id, now);
        }
        Ok(found)
    }
}

/// A row as it is shown. A role that nobody knows any more allows least.
fn view(row: &Row<'_>) -> rusqlite::Result<TokenView> {
    let role: String = row.get(2)?;
    let revoked: Option<i64> = row.get(4)?;
    Ok(TokenView {
        id: row.get(0)?,
        name: row.get(1)?,
        role: role.parse().unwrap_or(Role::Viewer),
        created: Timestamp::from_micros(row.get(3)?),
        revoked: revoked.map(Timestamp::from_micros),
        last_used: None,
    })
}
