//! Sessions of browsers, and the codes that begin one without a token.
//!
//! A session is a cookie and, apart from it, a mark against forged requests: another site can make a
//! browser send the cookie, but cannot read the mark. Sessions outlive the node; codes do not: they
//! are for the moment in which somebody types `atoll console`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_store::Sql;
use atoll_store::rusqlite::OptionalExtension as _;

use crate::role::Role;
use crate::{Error, secret};

/// A session ends after this.
pub(crate) const SESSION_LASTS: Duration = Duration::from_secs(7 * 24 * 3600);
/// A code must be used within this, once.
const CODE_LASTS: Duration = Duration::from_secs(600);
/// More codes are not kept: the oldest go.
const CODES_MAX: usize = 100;
/// More sessions are not kept: the oldest go.
const SESSIONS_MAX: i64 = 1000;
/// How a code begins.
const CODE_BEGINNING: &str = "atoll_code_";

/// A browser that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What changes are proved by.
    pub(crate) csrf: String,
    /// The id of the token that it was begun by; none, if by a code.
    pub(crate) token: Option<String>,
}

/// All sessions. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    sql: Sql,
    codes: Arc<Mutex<HashMap<String, Code>>>,
}

#[derive(Debug)]
struct Code {
    name: String,
    ends: Timestamp,
}

impl Sessions {
    pub(crate) fn new(sql: Sql) -> Self {
        Self {
            sql,
            codes: Arc::default(),
        }
    }

    /// A code that begins one session of an admin.
    pub(crate) fn code(&self, name: &str, now: Timestamp) -> Result<String, Error> {
        let code = secret::make(CODE_BEGINNING)?;
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, own| own.ends > now);
        if codes.len() >= CODES_MAX {
            let oldest = codes.iter().min_by_key(|(_, own)| own.ends);
            if let Some(oldest) = oldest.map(|(hash, _)| hash.clone()) {
                codes.remove(&oldest);
            }
        }
        let own = Code {
            name: name.to_owned(),
            ends: now.after(CODE_LASTS),
        };
        codes.insert(secret::hash(&code), own);
        Ok(code)
    }

    /// Whose code this is, if it is one; it is none any more afterwards.
    pub(crate) fn redeem(&self, code: &str, now: Timestamp) -> Option<String> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let own = codes.remove(&secret::hash(code))?;
        (own.ends > now).then_some(own.name)
    }

    /// Begins a session; the text goes into the cookie and nowhere else. `token`: by which token.
    pub(crate) async fn begin(
        &self,
        name: &str,
        role: Role,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<String, Error> {
        let text = secret::make("")?;
        let (hash, csrf) = (secret::hash(&text), secret::make("")?);
        let (name, token) = (name.to_owned(), token.map(str::to_owned));
        let written = self.sql.call(move |t| {
            let (now, ends) = (now.as_micros(), now.after(SESSION_LASTS).as_micros());
            t.execute("DELETE FROM console_sessions WHERE ends <= ?1", [now])?;
            t.execute(
                "DELETE FROM console_sessions WHERE hash IN
                     (SELECT hash FROM console_sessions ORDER BY ends DESC LIMIT -1 OFFSET ?1)",
                [SESSIONS_MAX - 1],
            )?;
            let sql = "INSERT INTO console_sessions (hash, name, role, token, csrf, ends)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            t.execute(sql, (hash, name, role.as_str(), token, csrf, ends))
                .map(drop)
        });
        written.await?;
        Ok(text)
    }

    /// The session of a cookie.
    pub(crate) async fn find(&self, text: &str, now: Timestamp) -> Result<Option<Session>, Error> {
        let hash = secret::hash(text);
        let read = self.sql.call(move |t| {
            let sql = "SELECT name, role, csrf, token FROM console_sessions WHERE hash = ?1 AND ends > ?2";
            let row = t.query_row(sql, (hash, now.as_micros()), |row| {
                let role: String = row.get(1)?;
                Ok(Session {
                    name: row.get(0)?,
                    role: role.parse().unwrap_or(Role::Viewer),
                    csrf: row.get(2)?,
                    token: row.get(3)?,
                })
            });
            row.optional()
        });
        Ok(read.await?)
    }

    /// Ends a session.
    pub(crate) async fn end(&self, text: &str) -> Result<(), Error> {
        let hash = secret::hash(text);
        let gone = self.sql.call(move |t| {
            t.execute("DELETE FROM console_sessions WHERE hash = ?1", [hash])
                .map(drop)
        });
        Ok(gone.await?)
    }
}
