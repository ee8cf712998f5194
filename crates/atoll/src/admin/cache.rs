//! The cache of the edge, over the API.

use std::sync::Arc;

use atoll_console::Note;
use atoll_proxy::cache::{CacheStats, Purge};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Json;
use super::types::Problem;
use crate::node::Node;

/// What is to be forgotten: exactly one of these is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeOrder {
    /// Everything, when true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// What the service has marked with this (`Cache-Tag`, `Surrogate-Key`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// This path with any query, on any host; `/**` at its end stands for all below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl PurgeOrder {
    /// What it asks for, or why that is nothing.
    fn target(self) -> Result<Purge, &'static str> {
        match (self.all, self.tag, self.path) {
            (Some(true), None, None) => Ok(Purge::All),
            (Some(false), None, None) => Err("`all` must be true, or left out"),
            (None, Some(tag), None) => Ok(Purge::Tag(tag)),
            (None, None, Some(path)) if path.starts_with('/') && !path.contains(['?', '#']) => {
                Ok(Purge::Path(path))
            }
            (None, None, Some(_)) => Err("a path starts with '/' and has no query"),
            _ => Err("give one of `all`, `tag` and `path`"),
        }
    }
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
    Extension(note): Extension<Note>,
    Json(order): Json<PurgeOrder>,
) -> Result<Json<Purged>, Problem> {
    let what = order
        .target()
        .map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    note.write(&match &what {
        Purge::All => "forget everything".to_owned(),
        Purge::Tag(tag) => format!("forget what is marked with {tag}"),
        Purge::Path(path) => format!("forget {path}"),
    });
    // It looks at every page.
    let pages = tokio::task::block_in_place(|| node.purge(&what));
    Ok(Json(Purged { pages }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(order: &str) -> Result<Purge, &'static str> {
        serde_json::from_str::<PurgeOrder>(order).unwrap().target()
    }

    #[test]
    fn an_order_names_one_thing() {
        assert_eq!(target(r#"{"all": true}"#), Ok(Purge::All));
        assert_eq!(
            target(r#"{"tag": "a", "all": null}"#),
            Ok(Purge::Tag("a".to_owned()))
        );
        assert_eq!(
            target(r#"{"path": "/a/**"}"#),
            Ok(Purge::Path("/a/**".to_owned()))
        );
        for wrong in [
            r#"{}"#,
            r#"{"all": false}"#,
            r#"{"tag": "a", "all": true}"#,
            r#"{"path": "a"}"#,
            r#"{"path": "/a?b"}"#,
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<PurgeOrder>(r#"{"tags": "a"}"#).is_err());
    }
}
