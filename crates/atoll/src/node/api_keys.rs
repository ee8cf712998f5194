//! API keys: who has one, on disk and in use.
//!
//! The table is the truth; the proxy gets all of it after each change. Changes go one after the
//! other, so that an older reading never takes the place of a newer one. A key that was taken back
//! stays in the table: who looks at the log of last month finds whose it was.

use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_proxy::auth::{ApiKey, ApiKeys, NoRandomness};
use atoll_store::rusqlite::{self, Row, Transaction};
use atoll_store::{Migration, Sql};

/// The table of keys.
pub(super) const MIGRATION: Migration = Migration {
    subsystem: "api_keys",
    steps: &["CREATE TABLE api_keys (
                  id TEXT PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL,
                  scopes TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER, revoked INTEGER
              ) STRICT"],
};

/// The keys of an application.
#[derive(Debug)]
pub struct KeyRing {
    sql: Sql,
    in_use: Arc<ApiKeys>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// No such name.
    #[error("'{0}' is no name: it has 1 to 100 characters, none of them a control character")]
    Name(String),
    /// No such scope.
    #[error(
        "'{0}' is no scope: visible ASCII without spaces, quotes and backslashes (RFC 6749, 3.3)"
    )]
    Scope(String),
    /// It would never be valid.
    #[error("a key that ends at {0} is over before it begins")]
    Over(Timestamp),
    /// There is no such key.
    #[error("there is no key with the id '{0}'; `atoll key list` shows them")]
    Unknown(String),
    /// There is nothing to make keys of.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

/// The longest name, in characters.
const NAME_MAX: usize = 100;

impl KeyRing {
    /// Reads the keys and puts them into use.
    pub(super) async fn open(sql: Sql) -> Result<Self, atoll_store::Error> {
        let own = Self {
            sql,
            in_use: Arc::new(ApiKeys::default()),
        };
        own.in_use.replace(own.list().await?);
        Ok(own)
    }

    /// The keys that the proxy asks.
    pub(super) fn in_use(&self) -> Arc<ApiKeys> {
        Arc::clone(&self.in_use)
    }

    /// Makes a key, which is in use when this returns. The text is nowhere else.
    ///
    /// # Errors
    /// When something about it is wrong, or the state cannot be written.
    pub async fn create(
        &self,
        name: &str,
        scopes: Vec<String>,
        expires: Option<Timestamp>,
    ) -> Result<(String, ApiKey), KeyRingError> {
        check(name, &scopes)?;
        let now = Timestamp::now();
        if let Some(expires) = expires.filter(|expires| *expires <= now) {
            return Err(KeyRingError::Over(expires));
        }
        let (text, key) = ApiKey::create(name, scopes, expires, now)?;
        let stored = key.clone();
        self.change(move |t| insert(t, &stored)).await?;
        Ok((text, key))
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn list(&self) -> Result<Vec<ApiKey>, atoll_store::Error> {
        self.sql.call(all).await
    }

    /// Takes a key back. It is refused when this returns. Once is enough: the first time counts.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub async fn revoke(&self, id: &str) -> Result<ApiKey, KeyRingError> {
        let now = Timestamp::now().as_micros();
        let wanted = id.to_owned();
        let keys = self
            .change(move |t| {
                let sql = "UPDATE api_keys SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL";
                t.execute(sql, (wanted, now)).map(drop)
            })
            .await?;
        let found = keys.into_iter().find(|key| key.id == id);
        found.ok_or_else(|| KeyRingError::Unknown(id.to_owned()))
    }

    /// Writes, and puts what is there afterwards into use.
    async fn change<F>(&self, write: F) -> Result<Vec<ApiKey>, atoll_store::Error>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        let in_use = Arc::clone(&self.in_use);
        let write = |t: &Transaction<'_>| {
            write(t)?;
            all(t)
        };
        // Also if whoever asked for it does not wait any more: what is revoked is refused.
        let put_into_use = move |keys: &Vec<ApiKey>| in_use.replace(keys.clone());
        self.sql.call_then(write, put_into_use).await
    }
}

fn check(name: &str, scopes: &[String]) -> Result<(), KeyRingError> {
    let length = name.trim().chars().count();
    if length == 0 || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(KeyRingError::Name(name.to_owned()));
    }
    let sound = |scope: &&String| {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        !scope.is_empty() && scope.bytes().all(plain)
    };
    match scopes.iter().find(|scope| !sound(scope)) {
        Some(scope) => Err(KeyRingError::Scope(scope.clone())),
        None => Ok(()),
    }
}

fn insert(t: &Transaction<'_>, key: &ApiKey) -> rusqlite::Result<()> {
    t.execute(
        "INSERT INTO api_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)",
        (
            &key.id,
            &key.digest,
            &key.name,
            key.scopes.join(" "),
            key.created.as_micros(),
            key.expires.map(Timestamp::as_micros),
        ),
    )
    .map(drop)
}

fn all(t: &Transaction<'_>) -> rusqlite::Result<Vec<ApiKey>> {
    let sql = "SELECT id, digest, name, scopes, created, expires, revoked FROM api_keys ORDER BY created, id";
    t.prepare(sql)?.query_map([], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let moment = |at: usize| {
        let micros: Option<i64> = row.get(at)?;
        Ok::<_, rusqlite::Error>(micros.map(Timestamp::from_micros))
    };
    let scopes: String = row.get(3)?;
    Ok(ApiKey {
        id: row.get(0)?,
        digest: row.get(1)?,
        name: row.get(2)?,
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        created: Timestamp::from_micros(row.get(4)?),
        expires: moment(5)?,
        revoked: moment(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ring(dir: &std::path::Path) -> KeyRing {
        let sql = Sql::open(&dir.join("state.db"), &[MIGRATION]).unwrap();
        KeyRing::open(sql).await.unwrap()
    }

    #[tokio::test]
    async fn keys_live_until_they_are_taken_back_and_outlive_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let scopes = vec!["orders:read".to_owned(), "orders:write".to_owned()];
        let (text, key) = {
            let ring = ring(dir.path()).await;
            ring.create("billing", scopes, None).await.unwrap()
        };
        let ring = ring(dir.path()).await;
        let verify = || ring.in_use.verify(text.as_bytes(), Timestamp::now());
        assert_eq!(verify(), Ok(key.clone()));
        let revoked = ring.revoke(&key.id).await.unwrap();
        assert!(verify().is_err());
        let again = ring.revoke(&key.id).await.unwrap();
        assert_eq!(again.revoked, revoked.revoked, "the first time counts");
        assert_eq!(ring.list().await.unwrap(), [revoked]);
        let unknown = ring.revoke("nobody").await.unwrap_err();
        assert!(matches!(unknown, KeyRingError::Unknown(_)));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path()).await;
        let long = "x".repeat(101);
        for name in ["", "  ", "a\nb", &long] {
            let refused = ring.create(name, Vec::new(), None).await.unwrap_err();
            assert!(matches!(refused, KeyRingError::Name(_)), "{name}");
        }
        for scope in ["", "a b", "\"", "é"] {
            let refused = ring.create("a", vec![scope.to_owned()], None).await;
            assert!(matches!(refused, Err(KeyRingError::Scope(_))), "{scope}");
        }
        let past = Some(Timestamp::from_micros(1));
        let refused = ring.create("a", Vec::new(), past).await;
        assert!(matches!(refused, Err(KeyRingError::Over(_))));
        assert!(ring.list().await.unwrap().is_empty());
    }
}
