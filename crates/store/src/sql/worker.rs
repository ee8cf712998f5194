//! The thread that owns the connection: opening, migrating, transactions, poison.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction};
use tokio::sync::mpsc;

use super::Migration;
use crate::Error;

pub(super) type Request = Box<dyn FnOnce(&mut Worker) + Send>;

pub(super) struct Worker {
    connection: Connection,
    poison: Option<Arc<str>>,
}

impl Worker {
    pub(super) fn open(path: &Path, migrations: &[Migration]) -> Result<Self, Error> {
        // SQLite gives its other files the permissions of this one; passwords are in it.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::unusable(path, e))?;
        let connection = Connection::open(path).map_err(refused)?;
        // Another program (a person with `sqlite3`) may hold the file for a moment.
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(refused)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(refused)?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(refused)?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(refused)?;
        let mut worker = Self {
            connection,
            poison: None,
        };
        worker.migrate(path, migrations)?;
        Ok(worker)
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            let done = catch_unwind(AssertUnwindSafe(|| request(&mut self)));
            if done.is_err() {
                tracing::error!("a change of the state panicked; no change is accepted any more");
                self.poison = Some("a change of the state panicked".into());
            }
        }
    }

    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        if let Some(reason) = &self.poison {
            let reason = Arc::clone(reason);
            return self.read_only(work).map_err(|_| Error::Poisoned(reason));
        }
        let outcome = self.connection.transaction().and_then(|transaction| {
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        outcome.map_err(|error| self.judge(error))
    }

    /// What is there can still be read when nothing can be written any more.
    fn read_only<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.connection.pragma_update(None, "query_only", true)?;
        let transaction = self.connection.transaction()?;
        work(&transaction)
    }

    /// An error of the disk poisons; an error of the statement does not.
    fn judge(&mut self, error: rusqlite::Error) -> Error {
        let disk = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::ReadOnly
            )
        );
        if !disk {
            return refused(error);
        }
        let reason: Arc<str> = error.to_string().into();
        tracing::error!(%reason, "writing the state failed; no change is accepted any more");
        self.poison = Some(Arc::clone(&reason));
        Error::Poisoned(reason)
    }

    fn migrate(&mut self, path: &Path, migrations: &[Migration]) -> Result<(), Error> {
        self.transact(|transaction| {
            transaction.execute_batch(
                "CREATE TABLE IF NOT EXISTS schema_versions (
                     subsystem TEXT PRIMARY KEY, version INTEGER NOT NULL
                 ) STRICT",
            )
        })?;
        for migration in migrations {
            let found =
                self.transact(|transaction| version_of(transaction, migration.subsystem))?;
            let known = u32::try_from(migration.steps.len()).unwrap_or(u32::MAX);
            check_version(path, migration.subsystem, found, known)?;
            self.transact(|transaction| {
                for step in migration.steps.iter().skip(found as usize) {
                    transaction.execute_batch(step)?;
                }
                transaction.execute(
                    "INSERT INTO schema_versions VALUES (?1, ?2)
                     ON CONFLICT DO UPDATE SET version = excluded.version",
                    (migration.subsystem, known),
                )
            })?;
        }
        Ok(())
    }
}

fn version_of(transaction: &Transaction<'_>, subsystem: &str) -> rusqlite::Result<u32> {
    let sql = "SELECT version FROM schema_versions WHERE subsystem = ?1";
    Ok(transaction
        .query_row(sql, [subsystem], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

fn check_version(
    path: &Path,
    subsystem: &'static str,
    found: u32,
    known: u32,
) -> Result<(), Error> {
    if found <= known {
        return Ok(());
    }
    Err(Error::TooNew {
        path: PathBuf::from(path),
        subsystem,
        found,
        known,
    })
}

fn refused(error: rusqlite::Error) -> Error {
    Error::Sql(Arc::new(error))
}
