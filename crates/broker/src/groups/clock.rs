//! When which group wants to be told that time has passed.
//!
//! An alarm is never taken back: one that rings too early finds out that there is nothing to do, and
//! is set anew. A heartbeat, which moves a deadline away, costs nothing here for that reason.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use atoll_base::clock::monotonic;
use tokio::sync::Notify;

/// The earliest first.
type Queue = BinaryHeap<Reverse<(Instant, Arc<str>)>>;

/// The alarms of all groups.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: Mutex<Queue>,
    sooner: Notify,
}

impl Alarms {
    /// Rings for `group` at that time, once.
    pub(super) fn set(&self, at: Instant, group: &Arc<str>) {
        let mut set = self.lock();
        let first = set.peek().is_none_or(|Reverse((first, _))| at < *first);
        set.push(Reverse((at, Arc::clone(group))));
        drop(set);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Waits for the next alarm, and tells for whom it rings.
    pub(super) async fn next(&self) -> Arc<str> {
        loop {
            let next = self.lock().peek().map(|Reverse((at, _))| *at);
            let Some(at) = next else {
                self.sooner.notified().await;
                continue;
            };
            if at <= monotonic()
                && let Some(Reverse((_, group))) = self.lock().pop()
            {
                return group;
            }
            tokio::select! {
                () = self.sooner.notified() => {}
                () = tokio::time::sleep_until(at.into()) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
