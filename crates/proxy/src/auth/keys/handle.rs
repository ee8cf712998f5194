//! Keys as workers and the one who fetches them share them.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

use super::{KeySet, Refresh};

/// The keys in use of one issuer: a cheap handle. Workers read them without a lock; whoever fetches
/// them replaces them.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    current: ArcSwap<KeySet>,
    /// None: they come from a file or a secret, and waiting brings nothing.
    refresh: Option<Mutex<Refresh>>,
    wanted: Notify,
    settled: Notify,
}

/// Of all key sets of the process, so that no two sets have the same.
static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Keys {
    /// Keys of this machine: a file or a secret. [`replace`](Self::replace) takes a changed file.
    pub fn fixed(set: KeySet) -> Self {
        let keys = Self::default();
        keys.replace(set);
        keys
    }

    /// Keys that have to be fetched; none until then.
    pub fn remote(now: Instant) -> Self {
        Self(Arc::new(Shared {
            refresh: Some(Mutex::new(Refresh::new(now))),
            ..Shared::default()
        }))
    }

    /// The keys in use.
    pub fn current(&self) -> Guard<Arc<KeySet>> {
        self.0.current.load()
    }

    /// Whether they are fetched.
    pub fn is_remote(&self) -> bool {
        self.0.refresh.is_some()
    }

    /// Puts other keys into use; tells whether they differ. If not, what was verified with them
    /// stays so.
    pub fn replace(&self, mut set: KeySet) -> bool {
        if set.keys == self.current().keys {
            return false;
        }
        set.generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        self.0.current.store(Arc::new(set));
        true
    }

    /// A worker has a token by a key that it does not know: asks for a fetch and waits for its end.
    /// False at once if there is nothing to wait for, as there was a fetch a moment ago. The caller
    /// bounds the time, checks the token once more, and refuses it if the key is still unknown.
    pub async fn refreshed(&self, now: Instant) -> bool {
        let mut settled = pin!(self.0.settled.notified());
        settled.as_mut().enable();
        let refresh = self.refresh();
        let worth = refresh.is_some_and(|mut refresh| refresh.unknown(now));
        if worth {
            self.0.wanted.notify_one();
            settled.await;
        }
        worth
    }

    /// For whoever fetches: when the next fetch should begin. None while one is under way, and if
    /// there is nothing to fetch.
    pub fn due(&self) -> Option<Instant> {
        self.refresh()?.due()
    }

    /// For whoever fetches: waits until [`due`](Self::due) may have come nearer.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// For whoever fetches: a fetch begins. It has to end with [`succeeded`](Self::succeeded) or
    /// [`failed`](Self::failed), else there is never another one.
    pub fn begin(&self, now: Instant) {
        if let Some(mut refresh) = self.refresh() {
            refresh.begin(now);
        }
    }

    /// For whoever fetches: it brought these keys, good for so long. Tells whether they differ from
    /// those before.
    pub fn succeeded(&self, set: KeySet, max_age: Option<Duration>, now: Instant) -> bool {
        let differ = self.replace(set);
        if let Some(mut refresh) = self.refresh() {
            refresh.succeeded(max_age, now);
        }
        self.0.settled.notify_waiters();
        differ
    }

    /// For whoever fetches: it failed. Tells whether the keys in use were dropped, as they were not
    /// confirmed for a day.
    pub fn failed(&self, now: Instant) -> bool {
        let drop = self
            .refresh()
            .is_some_and(|mut refresh| refresh.failed(now));
        let dropped = drop && self.replace(KeySet::default());
        self.0.settled.notify_waiters();
        dropped
    }

    fn refresh(&self) -> Option<MutexGuard<'_, Refresh>> {
        let refresh = self.0.refresh.as_ref()?;
        Some(refresh.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(letter: u8) -> KeySet {
        KeySet::secret(&[letter; 32]).unwrap()
    }

    #[test]
    fn the_same_keys_are_no_change() {
        let keys = Keys::fixed(some(b'a'));
        let first = keys.current().generation();
        assert!(!keys.replace(some(b'a')));
        assert_eq!(keys.current().generation(), first);
        assert!(keys.replace(some(b'b')));
        assert_ne!(keys.current().generation(), first);
        let second = keys.current().generation();
        assert!(keys.replace(some(b'a')));
        assert!(![first, second].contains(&keys.current().generation()));
    }

    #[test]
    fn keys_are_dropped_after_a_day_without_their_source() {
        let now = atoll_base::clock::monotonic();
        let keys = Keys::remote(now);
        keys.begin(now);
        assert!(keys.succeeded(some(b'a'), None, now));
        let hour = Duration::from_secs(3600);
        for hours in 1..24 {
            keys.begin(now + hours * hour);
            assert!(!keys.failed(now + hours * hour));
            assert_eq!(keys.current().len(), 1, "after {hours} h");
        }
        assert!(keys.failed(now + 24 * hour));
        assert!(keys.current().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_lacks_a_key_waits_for_one_fetch() {
        let now = atoll_base::clock::monotonic();
        let keys = Keys::remote(now);
        let refreshed = async |keys: &Keys| {
            let ended = tokio::time::timeout(Duration::from_secs(1), keys.refreshed(now)).await;
            ended.expect("nothing is waited for that does not come")
        };
        let fetch = async {
            keys.wanted().await;
            assert_eq!(keys.due(), Some(now));
            keys.begin(now);
            keys.succeeded(some(b'a'), None, now);
        };
        let (first, second, ()) = tokio::join!(refreshed(&keys), refreshed(&keys), fetch);
        assert!(first && second);
        assert_eq!(keys.current().len(), 1);
        assert!(!refreshed(&keys).await, "there was one a moment ago");
        assert!(!refreshed(&Keys::fixed(some(b'a'))).await);
    }
}
