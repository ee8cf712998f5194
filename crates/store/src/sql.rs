//! The SQL state: one SQLite file, one thread that owns it.
//!
//! SQLite has one writer at a time, and its calls block. So one thread owns the connection and
//! takes closures from a bounded queue; callers await the answer. Each closure runs in a
//! transaction of its own, and its answer is given only after the commit is on disk. Subsystems
//! bring their own tables as [`Migration`]s and never read each other's.

mod worker;

use std::path::Path;

use rusqlite::Transaction;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use worker::Worker;

/// Requests that may wait for the database thread. More means the disk is far behind; callers then
/// wait for a place.
const QUEUE_LENGTH: usize = 1024;

/// The tables of one subsystem, as the steps that made them. Step `i` leads to version `i + 1`.
/// Steps that were released are never changed; new ones are added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Whose tables these are.
    pub subsystem: &'static str,
    /// SQL scripts, each run once, in order.
    pub steps: &'static [&'static str],
}

/// A handle to the SQL state; clones share it.
#[derive(Debug, Clone)]
pub struct Sql {
    requests: mpsc::Sender<worker::Request>,
}

impl Sql {
    /// Opens or makes the database at `path` and brings its tables up to date.
    pub fn open(path: &Path, migrations: &[Migration]) -> Result<Self, Error> {
        let worker = Worker::open(path, migrations)?;
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        std::thread::Builder::new()
            .name("atoll-sql".to_owned())
            .spawn(move || worker.run(queue))
            .map_err(|e| Error::unusable(path, e))?;
        Ok(Self { requests })
    }

    /// Runs `work` in a transaction. When this returns `Ok`, what it wrote is on disk.
    ///
    /// If `work` fails, nothing of it is kept. If the disk fails, the state is poisoned.
    pub async fn call<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.call_then(work, |_| {}).await
    }

    /// As [`Self::call`], and runs `after` with what `work` has returned, once that is on disk: also
    /// if the caller has gone meanwhile, and in the order of the commits. It must be short.
    pub async fn call_then<T, F, A>(&self, work: F, after: A) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (answer, received) = oneshot::channel();
        let request: worker::Request = Box::new(move |worker| {
            let outcome = worker.transact(work);
            if let Ok(value) = &outcome {
                after(value);
            }
            // A caller that went away no longer waits for the answer; the work stands all the same.
            let _ = answer.send(outcome);
        });
        self.requests
            .send(request)
            .await
            .map_err(|_| Error::Closed)?;
        received.await.map_err(|_| Error::Closed)?
    }
}
