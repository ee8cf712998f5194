//! Tasks that are counted, named, and end in order.
//!
//! A bare `tokio::spawn` is easily forgotten: its panic is silent and nothing waits for it. Here
//! every task has a name, a panic in one is logged and shuts the node down (a node that has lost a
//! part is worse than one that stops and says so), and shutdown waits for all of them.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks, tells them to stop, waits for them. A cheap handle: clones share one set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` as a task called `name` on the current runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = PanicGuard {
            name,
            shutdown: self.shutdown.clone(),
        };
        self.tracker.spawn(async move {
            let guard = guard;
            future.await;
            drop(guard);
        });
    }

    /// Asks every task to end. Tasks watch [`Tasks::stopping`].
    pub fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Completes when [`Tasks::stop`] was called or a task panicked.
    pub async fn stopping(&self) {
        self.shutdown.cancelled().await;
    }

    /// Whether the tasks have been asked to end.
    pub fn is_stopping(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// Waits until every task has ended, at most `deadline`. Tells whether all did.
    pub async fn join(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait())
            .await
            .is_ok()
    }
}

struct PanicGuard {
    name: &'static str,
    shutdown: CancellationToken,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "task panicked; shutting down");
            self.shutdown.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_asks_everything_to_stop() {
        let tasks = Tasks::new();
        tasks.spawn("doomed", async { panic!("on purpose") });
        tasks.stopping().await;
        assert!(tasks.join(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn join_gives_up_on_a_task_that_does_not_end() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        tasks.stop();
        assert!(!tasks.join(Duration::from_secs(5)).await);
    }
}
