//! The admin API: HTTP and JSON over a Unix socket in the state folder.
//!
//! Who may open the socket may do everything: it is in `.atoll/run`, which only its owner can
//! enter. The command line uses nothing but this API, and the console will use the same. Its
//! OpenAPI document is at `/v1/openapi.json`. Errors are `application/problem+json` (RFC 9457).

pub mod cache;
pub mod client;
pub mod dead;
pub mod events;
pub mod keys;
mod lines;
mod logs;
mod metrics;
mod problem;
mod services;
mod socket;
pub mod types;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use utoipa::OpenApi;

use crate::node::{Node, NodeView, ResilienceView};

pub use socket::{bind, connect, path};

/// The OpenAPI 3.1 document of the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Atoll admin API",
        description = "Everything that `atoll` on the command line does"
    ),
    paths(
        node_view,
        stop,
        resilience,
        metrics::metrics,
        cache::view,
        cache::purge,
        keys::list,
        keys::create,
        keys::revoke,
        events::topics,
        events::publish,
        events::records,
        events::readers,
        events::replay,
        dead::list,
        dead::one,
        dead::edit,
        dead::drop,
        dead::redrive,
        services::list,
        services::one,
        services::history,
        services::deploy,
        services::deployment,
        logs::logs,
        logs::trace
    )
)]
pub struct Document;

/// All routes.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(
            "/v1/openapi.json",
            get(|| async { Json(Document::openapi()) }),
        )
        .route("/v1/node", get(node_view))
        .route("/v1/node/stop", post(stop))
        .route("/v1/resilience", get(resilience))
        .route("/v1/metrics", get(metrics::metrics))
        .route("/v1/cache", get(cache::view))
        .route("/v1/cache/purge", post(cache::purge))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .merge(event_routes())
        .route("/v1/services", get(services::list))
        .route("/v1/services/{service}", get(services::one))
        .route("/v1/services/{service}/history", get(services::history))
        .route("/v1/services/{service}/deployments", post(services::deploy))
        .route("/v1/deployments/{id}", get(services::deployment))
        .route("/v1/logs", get(logs::logs))
        .route("/v1/traces/{trace}", get(logs::trace))
        .fallback(problem::not_found)
        .with_state(node)
}

fn event_routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/topics", get(events::topics))
        .route(
            "/v1/topics/{topic}/records",
            get(events::records).post(events::publish),
        )
        .route("/v1/readers", get(events::readers))
        .route("/v1/readers/{service}/{topic}/replay", post(events::replay))
        .route("/v1/dead", get(dead::list))
        .route("/v1/dead/{service}/{topic}/{number}", get(dead::one))
        .route("/v1/dead/{service}/{topic}/{number}/edit", post(dead::edit))
        .route("/v1/dead/drop", post(dead::drop))
        .route("/v1/dead/redrive", post(dead::redrive))
}

/// Serves the API until the node stops.
pub async fn serve(listener: tokio::net::UnixListener, node: Arc<Node>) {
    let tasks = node.tasks().clone();
    let stopping = {
        let tasks = tasks.clone();
        async move { tasks.stopping().await }
    };
    let served = axum::serve(listener, router(node))
        .with_graceful_shutdown(stopping)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin API has ended");
        tasks.stop();
    }
}

/// The node.
#[utoipa::path(get, path = "/v1/node", responses((status = 200, body = NodeView)))]
async fn node_view(State(node): State<Arc<Node>>) -> Json<NodeView> {
    Json(node.view())
}

/// Breakers that are open and instances that are left out, each with the reason. Empty lists when
/// all is well.
#[utoipa::path(get, path = "/v1/resilience", responses((status = 200, body = ResilienceView)))]
async fn resilience(State(node): State<Arc<Node>>) -> Json<ResilienceView> {
    Json(node.resilience())
}

/// Stops the node, and every service with it.
#[utoipa::path(post, path = "/v1/node/stop", responses((status = 202, description = "It will stop")))]
async fn stop(State(node): State<Arc<Node>>) -> StatusCode {
    node.request_stop();
    StatusCode::ACCEPTED
}
