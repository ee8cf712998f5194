//! Milliseconds since the process first asked: small enough for one atomic word, the same on all
//! threads.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The moment that the process counts from.
pub(crate) fn origin() -> Instant {
    *ORIGIN.get_or_init(atoll_base::clock::monotonic)
}

/// Time since [`origin`].
pub(crate) fn uptime() -> Duration {
    atoll_base::clock::monotonic().saturating_duration_since(origin())
}

/// Whole milliseconds, for the words that deadlines are kept in.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
