//! Who runs at this moment: in memory only, as after a crash nobody does.
//!
//! A job runs once at a time. Whoever wants to run one that runs waits for its end: it may be that
//! its record was read anew, and the earlier delivery counts no more.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_base::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use super::machine::{Command, Ended};

/// All jobs that run. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<Uuid, Running>>>);

#[derive(Debug)]
struct Running {
    since: Timestamp,
    /// Set when nobody wants it any more; gone when it has ended.
    cancelled: watch::Sender<bool>,
}

/// The right to run a job, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(super) id: Uuid,
    /// Which run: known once the job was asked.
    pub(super) run: u32,
    since: Timestamp,
    cancelled: watch::Receiver<bool>,
    live: Live,
}

/// An attempt that has ended; nobody else runs the job until this is kept.
#[derive(Debug)]
pub(crate) struct End {
    pub(super) pass: Pass,
    how: Ended,
}

impl Live {
    /// Waits until nobody runs it.
    pub(super) async fn enter(&self, id: Uuid) -> Pass {
        loop {
            let mut ending = match self.try_enter(id) {
                Ok(pass) => return pass,
                Err(ending) => ending,
            };
            // It ends with an error when the sender is gone.
            while ending.changed().await.is_ok() {}
        }
    }

    pub(super) fn try_enter(&self, id: Uuid) -> Result<Pass, watch::Receiver<bool>> {
        let mut all = self.lock();
        if let Some(other) = all.get(&id) {
            return Err(other.cancelled.subscribe());
        }
        let since = Timestamp::now();
        let (sender, cancelled) = watch::channel(false);
        let running = Running {
            since,
            cancelled: sender,
        };
        all.insert(id, running);
        Ok(Pass {
            id,
            run: 0,
            since,
            cancelled,
            live: self.clone(),
        })
    }

    pub(super) fn cancel(&self, id: Uuid) {
        if let Some(running) = self.lock().get(&id) {
            running.cancelled.send_replace(true);
        }
    }

    pub(super) fn since(&self, id: Uuid) -> Option<Timestamp> {
        self.lock().get(&id).map(|running| running.since)
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.lock().keys().map(Uuid::to_string).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// What comes of `work`; none if the job is cancelled before, and then `work` is dropped.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut cancelled = self.cancelled.clone();
        let cancelled = async move {
            // The sender lives as long as this pass.
            let _ = cancelled.wait_for(|cancelled| *cancelled).await;
        };
        tokio::select! {
            biased;
            () = cancelled => None,
            done = work => Some(done),
        }
    }

    /// The attempt has ended.
    pub(crate) fn end(self, how: Ended) -> End {
        End { pass: self, how }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.live.lock().remove(&self.id);
    }
}

impl End {
    pub(super) fn command(&self) -> Command {
        Command::Ended {
            run: self.pass.run,
            started: self.pass.since,
            how: self.how.clone(),
        }
    }
}
