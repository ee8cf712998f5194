//! Topics over HTTP: what stands behind `EVENTS_URL`.
//!
//! `POST /topics/{topic}` publishes, `GET /topics/{topic}` reads, once or as a stream. `/jobs` takes
//! work and tells of it. Who calls is known from outside: a layer around the [`router`] puts a [`Caller`] into
//! the request. What a caller may do, and the schemas of topics, come in as [`Rights`].
//!
//! The life of a publication: who and where, read within bounds, look for its idempotency key, decode,
//! hold all of it against the rules, publish all of it, keep the answer, answer. Nothing is published
//! of a request of which anything is refused. All refusals are problems (RFC 9457) that say what to do.
//!
//! Refused: groups over HTTP. A reader keeps its own cursor; who wants to be called, subscribes.

mod cursor;
mod idempotency;
mod incoming;
mod jobs;
mod problem;
mod publish;
mod read;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use atoll_base::{ByteCount, ServiceName, Tasks};
use atoll_store::Sql;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;

use crate::bus::Bus;
use crate::jobs::Jobs;

pub use self::idempotency::MIGRATION;
pub use self::problem::Problem;
pub use crate::record::DELIVER_AT;

/// The header of a record that was published with an `Idempotency-Key`: a mark of the request, a
/// slash, and the number of the event in it.
pub const IDEMPOTENCY: &str = "atoll-idempotency-key";

/// Who calls. The layer around the [`router`] sets it as an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub ServiceName);

/// What callers may do, and what topics take.
pub trait Rights: Send + Sync + 'static {
    /// Whether the service has declared that it publishes to the topic.
    fn may_publish(&self, caller: &ServiceName, topic: &str) -> bool;

    /// Whether the service has declared that it reads the topic.
    fn may_read(&self, caller: &ServiceName, topic: &str) -> bool;

    /// Whether the topic takes this value.
    ///
    /// # Errors
    /// Why not, for the one who publishes: the mismatches with the schema of the topic.
    fn check(
        &self,
        topic: &str,
        value: Option<&Bytes>,
        content_type: Option<&str>,
    ) -> Result<(), String>;
}

/// How much the API takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body of a publication. Default 1 MiB.
    pub body_max: ByteCount,
    /// The most events in one request. Default 1,000.
    pub events_max: usize,
    /// Arrays and objects of JSON within each other. Default 64.
    pub depth_max: usize,
    /// Reads that may be under way at once, with those that wait. Default 1,000.
    pub readers_max: usize,
    /// The same for one service, so that one which leaks them does not take those of all. Default 250.
    pub readers_of_one_max: usize,
}

/// What the API works with. Clones share it.
#[derive(Clone)]
pub struct State {
    bus: Arc<dyn Bus>,
    rights: Arc<dyn Rights>,
    idempotency: idempotency::Keys,
    jobs: Option<Jobs>,
    tasks: Tasks,
    limits: Limits,
    readers: Arc<read::Places>,
}

impl State {
    /// Puts it together. [`MIGRATION`] was run in the state.
    pub fn new(
        bus: Arc<dyn Bus>,
        rights: Arc<dyn Rights>,
        sql: Sql,
        tasks: Tasks,
        limits: Limits,
    ) -> Self {
        Self {
            bus,
            rights,
            idempotency: idempotency::Keys::new(sql),
            jobs: None,
            tasks,
            limits,
            readers: Arc::new(read::Places::new(&limits)),
        }
    }

    /// With `/jobs`.
    pub fn with_jobs(mut self, jobs: Jobs) -> Self {
        self.jobs = Some(jobs);
        self
    }
}

/// All routes.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/topics/{topic}", get(read::read).post(publish::publish))
        .route("/jobs", get(jobs::list))
        .route(
            "/jobs/{name}",
            get(jobs::one).post(jobs::submit).delete(jobs::cancel),
        )
        .route("/jobs/{name}/cancel", post(jobs::cancel))
        .route("/jobs/{name}/retry", post(jobs::retry))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(problem::no_path)
        .with_state(state)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_max: ByteCount::mib(1),
            events_max: 1_000,
            depth_max: 64,
            readers_max: 1_000,
            readers_of_one_max: 250,
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
