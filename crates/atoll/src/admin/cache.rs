//! The cache of the edge, over the API.

use std::sync::Arc;

use atoll_proxy::cache::{CacheStats, Purge};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::types::Problem;
use crate::node::Node;

/// What is to be forgotten: one of these.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PurgeOrder {
    /// Everything; must be true.
    All(bool),
    /// What the service has marked with this (`Cache-Tag`, `Surrogate-Key`).
    Tag(String),
    /// This path with any query, on any host; `/**` at its end stands for all below.
    Path(String),
}

/// What was forgotten.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Purged {
    /// So many pages: answers to different queries and hosts count each.
    pub pages: usize,
}

/// How the cache does.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CacheView {
    /// Requests that it has answered since the node started, stale answers included.
    pub hits: u64,
    /// Requests of cached routes that went to a service.
    pub misses: u64,
    /// Answers that were put into it.
    pub kept: u64,
    /// Pages in it.
    pub entries: u64,
    /// Bytes of memory in use, about.
    pub bytes: u64,
}

impl From<CacheStats> for CacheView {
    fn from(stats: CacheStats) -> Self {
        Self {
            hits: stats.hits,
            misses: stats.misses,
            kept: stats.kept,
            entries: stats.entries,
            bytes: stats.bytes,
        }
    }
}

/// How the cache does.
#[utoipa::path(get, path = "/v1/cache", responses((status = 200, body = CacheView)))]
pub async fn view(State(node): State<Arc<Node>>) -> Json<CacheView> {
    Json(node.cache().into())
}

/// Forgets answers. What is being fetched now is not kept either.
#[utoipa::path(
    post, path = "/v1/cache/purge", request_body = PurgeOrder,
    responses((status = 200, body = Purged), (status = 422, body = Problem))
)]
pub async fn purge(
    State(node): State<Arc<Node>>,
    Json(order): Json<PurgeOrder>,
) -> Result<Json<Purged>, Problem> {
    let wrong = |detail: &str| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    let what = match order {
        PurgeOrder::All(true) => Purge::All,
        PurgeOrder::All(false) => return wrong("`all` must be true, or left out"),
        PurgeOrder::Tag(tag) => Purge::Tag(tag),
        PurgeOrder::Path(path) if path.starts_with('/') && !path.contains(['?', '#']) => {
            Purge::Path(path)
        }
        PurgeOrder::Path(_) => return wrong("a path starts with '/' and has no query"),
    };
    // It looks at every page.
    let pages = tokio::task::block_in_place(|| node.purge(&what));
    Ok(Json(Purged { pages }))
}
