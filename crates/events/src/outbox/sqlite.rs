//! An outbox in a file of SQLite that belongs to the service.
//!
//! The service writes while this reads and marks, with a journal or a WAL: so each step is one short
//! statement, and waits a while for the lock. The file may be replaced at any time; it is looked at
//! anew before each step.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_store::rusqlite::types::ValueRef;
use atoll_store::rusqlite::{self, Connection, OpenFlags};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Table;
use super::plan::Row;

/// A lock of the service is waited for this long; then the next round tries again.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// A table in a file.
#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    table: String,
    /// The file that is open: its device and number, and the way to it.
    open: Option<((u64, u64), Connection)>,
}

impl Sqlite {
    /// `table` is a name that needs no quotes.
    pub(super) fn new(path: PathBuf, table: String) -> Self {
        Self {
            path,
            table,
            open: None,
        }
    }

    /// Does something with the connection, where blocking harms nobody.
    fn step<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, String>> {
        let (path, table, open) = (self.path.clone(), self.table.clone(), self.open.take());
        let done = tokio::task::spawn_blocking(move || -> Result<_, String> {
            let (file, connection) = connected(&path, open)?;
            let done = work(&connection, &table);
            let done = done.map_err(|error| told(&path, &table, &error))?;
            Ok(((file, connection), done))
        });
        async move {
            let done = done.await.map_err(|error| error.to_string())?;
            let (open, done) = done?;
            self.open = Some(open);
            Ok(done)
        }
        .boxed()
    }
}

impl Table for Sqlite {
    fn unpublished(&mut self, limit: u32) -> BoxFuture<'_, Result<Vec<Row>, String>> {
        self.step(move |db, table| {
            let sql = format!(
                "SELECT id, topic, key, value, headers FROM {table}
                 WHERE published_at IS NULL ORDER BY id LIMIT ?1"
            );
            let mut rows = db.prepare_cached(&sql)?;
            let rows = rows.query_map([limit], row)?;
            rows.collect()
        })
    }

    fn these(&mut self, ids: Vec<i64>) -> BoxFuture<'_, Result<Vec<Row>, String>> {
        self.step(move |db, table| {
            let sql = format!(
                "SELECT id, topic, key, value, headers FROM {table}
                 WHERE id = ?1 AND published_at IS NULL"
            );
            let mut one = db.prepare_cached(&sql)?;
            let mut found = Vec::new();
            for id in ids {
                let rows = one.query_map([id], row)?;
                for row in rows {
                    found.push(row?);
                }
            }
            Ok(found)
        })
    }

    fn mark(&mut self, ids: Vec<i64>) -> BoxFuture<'_, Result<(), String>> {
        self.step(move |db, table| {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            let sql = format!(
                "UPDATE {table} SET published_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
                 WHERE published_at IS NULL AND id IN ({})",
                ids.join(", ")
            );
            db.execute(&sql, []).map(drop)
        })
    }
}

type Open = ((u64, u64), Connection);

/// The connection that is there, if it is still to the file of this name; else a new one. No file is
/// made: that is for the service to do.
fn connected(path: &Path, open: Option<Open>) -> Result<Open, String> {
    let found = std::fs::metadata(path)
        .map_err(|error| format!("there is no database {}: {error}", path.display()))?;
    let file = (found.dev(), found.ino());
    if let Some(open) = open.filter(|(own, _)| *own == file) {
        return Ok(open);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags);
    let connection = connection.and_then(|connection| {
        connection.busy_timeout(BUSY_MAX)?;
        Ok(connection)
    });
    let connection =
        connection.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
    Ok((file, connection))
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        topic: text(row.get_ref(1)?).unwrap_or_default(),
        key: text(row.get_ref(2)?),
        value: bytes(row.get_ref(3)?),
        headers: text(row.get_ref(4)?),
    })
}

/// Columns of SQLite hold values of any kind.
fn bytes(value: ValueRef<'_>) -> Option<Bytes> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(Bytes::from(number.to_string())),
        ValueRef::Real(number) => Some(Bytes::from(number.to_string())),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Bytes::copy_from_slice(bytes)),
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    let bytes = bytes(value)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn told(path: &Path, table: &str, error: &rusqlite::Error) -> String {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    format!(
        "the table '{table}' in {} cannot be used: {text}",
        path.display()
    )
}
