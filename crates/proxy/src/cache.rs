//! The cache of the edge: a shared cache by RFC 9111, for routes that ask for it.
//!
//! What is kept, for how long, and for which request is decided without I/O, by small rules that name
//! their section. A request that finds nothing becomes a `Fetch`, which goes along with its exchange
//! and keeps the answer if it may. One fetch is made for many requests (`flight`).
//!
//! **Careful where the RFC leaves room**: an answer with `Set-Cookie` is kept only if it is `public`,
//! one without a known length never (its end cannot be told from a crash), and without any word of the
//! service nothing is fresh (no heuristics): a page that is old for an hour because nobody said
//! otherwise is a fault that nobody finds. Who says who they are gets only what was made for all.

mod condition;
mod config;
mod control;
mod fetch;
mod flight;
mod fresh;
mod replay;
mod status;
mod store;
mod stored;
#[cfg(test)]
mod testkit;
mod vary;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_base::Timestamp;

use crate::http::field::Fields;

pub use self::config::CacheConfig;
pub use self::store::Purge;

pub(crate) use self::condition::{Conditions, conditional};
pub(crate) use self::control::Wishes;
pub(crate) use self::fetch::{Fetch, Tee};
pub(crate) use self::flight::{Boarding, Flight, Flights};
pub(crate) use self::fresh::Use;
pub(crate) use self::replay::Replay;
pub(crate) use self::status::{Forwarded, bypass_line, hit_lines};
pub(crate) use self::store::Store;
pub(crate) use self::stored::Stored;
pub(crate) use self::vary::{Ignored, Key};

/// What is kept, what is being fetched, and how often it was of use.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) store: Store,
    pub(crate) flights: Arc<Flights>,
    hits: AtomicU64,
    misses: AtomicU64,
    kept: AtomicU64,
}

/// How the cache does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Requests that were answered by it, stale answers included.
    pub hits: u64,
    /// Requests of cached routes that went to a service.
    pub misses: u64,
    /// Answers that were put into it.
    pub kept: u64,
    /// Keys in it.
    pub entries: u64,
    /// Bytes of memory in use, about.
    pub bytes: u64,
}

/// What a route says about caching, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachePolicy {
    pub(crate) config: CacheConfig,
    pub(crate) ignored: Ignored,
    /// Answers of other routes, or of this one with other settings, are not its own.
    pub(crate) route: u64,
}

/// Seconds since the epoch.
pub(crate) fn seconds(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_micros() / 1_000_000).unwrap_or(0)
}

impl CachePolicy {
    /// Of the route with this identity.
    pub(crate) fn new(config: &CacheConfig, identity: impl std::hash::Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        config.hash(&mut hasher);
        Self {
            ignored: Ignored(config.ignore_query.clone()),
            config: config.clone(),
            route: hasher.finish(),
        }
    }
}

impl CachePolicy {
    /// Whether a request has cookies that its answer may depend on.
    pub(crate) fn is_about_cookies(&self, fields: &Fields<'_, '_>) -> bool {
        !self.config.ignore_cookies && fields.get("cookie").is_some()
    }
}

impl Cache {
    /// For so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            store: Store::new(bytes),
            flights: Arc::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    pub(crate) fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    fn count_kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there can be anything in it.
    pub(crate) fn is_used(&self) -> bool {
        self.misses.load(Ordering::Relaxed) > 0
    }

    /// How it does.
    pub(crate) fn stats(&self) -> CacheStats {
        let (entries, bytes) = self.store.size();
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            kept: self.kept.load(Ordering::Relaxed),
            entries,
            bytes,
        }
    }

    /// A change may have made what is kept of a place wrong (RFC 9111, 4.4), whatever the query: it is
    /// forgotten, and what is being fetched is not kept.
    pub(crate) fn invalidate(&self, key: &Key) {
        self.store.outdate(key);
        self.flights.overtake(key);
    }
}
