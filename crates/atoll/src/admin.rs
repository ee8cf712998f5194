//! The admin API: HTTP and JSON over a Unix socket in the state folder.
//!
//! Who may open the socket may do everything: it is in `.atoll/run`, which only its owner can
//! enter. The command line uses nothing but this API, and the console will use the same. Its
//! OpenAPI document is at `/v1/openapi.json`. Errors are `application/problem+json` (RFC 9457).

pub mod alerts;
pub mod cache;
pub mod client;
pub mod costs;
pub mod dead;
pub mod derived;
mod document;
pub mod events;
mod extract;
pub mod jobs;
pub mod keys;
mod lines;
pub mod live;
mod log_search;
mod logs;
mod map;
mod metrics;
mod problem;
pub mod resilience;
pub mod routes;
pub mod series;
mod services;
mod settings;
mod socket;
pub mod traces;
pub mod types;
pub mod why;
mod words;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use utoipa::OpenApi;

use crate::node::{Node, NodeView};

pub use socket::{bind, connect, path};

/// The OpenAPI 3.1 document of the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Atoll admin API",
        description = "Everything that `atoll` on the command line does"
    ),
    paths(
        openapi,
        node_view,
        stop,
        resilience::resilience,
        metrics::metrics,
        series::names,
        series::series,
        cache::view,
        cache::purge,
        keys::list,
        keys::create,
        keys::revoke,
        events::topics,
        events::partitions,
        events::publish,
        events::records,
        events::readers,
        events::replay,
        jobs::list,
        jobs::one,
        jobs::cancel,
        jobs::retry,
        jobs::outboxes,
        dead::list,
        dead::one,
        dead::edit,
        dead::drop,
        dead::redrive,
        services::list,
        services::one,
        services::history,
        settings::settings,
        services::deploy,
        services::deployment,
        logs::logs,
        live::live,
        derived::map,
        routes::routes,
        costs::costs,
        derived::timeline,
        derived::errors_of,
        why::why,
        alerts::objectives,
        alerts::list,
        alerts::history,
        alerts::silence,
        logs::live,
        log_search::search,
        log_search::histogram,
        log_search::facets,
        log_search::context,
        traces::list,
        traces::one
    )
)]
pub struct Document;

/// All routes.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/node", get(node_view))
        .route("/v1/node/stop", post(stop))
        .route("/v1/resilience", get(resilience::resilience))
        .route("/v1/metrics", get(metrics::metrics))
        .route("/v1/metrics/names", get(series::names))
        .route("/v1/metrics/series", get(series::series))
        .route("/v1/cache", get(cache::view))
        .route("/v1/cache/purge", post(cache::purge))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .merge(event_routes())
        .route("/v1/services", get(services::list))
        .route("/v1/services/{service}", get(services::one))
        .route("/v1/services/{service}/history", get(services::history))
        .route("/v1/services/{service}/settings", get(settings::settings))
        .route("/v1/services/{service}/deployments", post(services::deploy))
        .route("/v1/deployments/{id}", get(services::deployment))
        .route("/v1/live", get(live::live))
        .route("/v1/map", get(derived::map))
        .route("/v1/routes", get(routes::routes))
        .route("/v1/costs", get(costs::costs))
        .route("/v1/timeline", get(derived::timeline))
        .route("/v1/errors", get(derived::errors_of))
        .route("/v1/why/{subject}", get(why::why))
        .route("/v1/objectives", get(alerts::objectives))
        .route("/v1/alerts", get(alerts::list))
        .route("/v1/alerts/history", get(alerts::history))
        .route("/v1/alerts/{id}/silence", post(alerts::silence))
        .merge(telemetry_routes())
        .with_state(node)
}

fn telemetry_routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/logs", get(logs::logs))
        .route("/v1/logs/live", get(logs::live))
        .route("/v1/logs/search", get(log_search::search))
        .route("/v1/logs/histogram", get(log_search::histogram))
        .route("/v1/logs/facets", get(log_search::facets))
        .route("/v1/logs/context", get(log_search::context))
        .route("/v1/traces", get(traces::list))
        .route("/v1/traces/{trace}", get(traces::one))
}

fn event_routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/topics", get(events::topics))
        .route("/v1/topics/{topic}/partitions", get(events::partitions))
        .route(
            "/v1/topics/{topic}/records",
            get(events::records).post(events::publish),
        )
        .route("/v1/readers", get(events::readers))
        .route("/v1/readers/{service}/{topic}/replay", post(events::replay))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::one))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/v1/outboxes", get(jobs::outboxes))
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
    if let Some(door) = node.take_console_door() {
        let api = router(Arc::clone(&node));
        let console = node.console().clone();
        node.tasks()
            .spawn("console", console.run(door, api, tasks.clone()));
    }
    let api = node.console().local(router(Arc::clone(&node)));
    let served = axum::serve(listener, api.fallback(problem::not_found))
        .with_graceful_shutdown(stopping)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin API has ended");
        tasks.stop();
    }
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json",
    responses((status = 200, body = HashMap<String, serde_json::Value>))
)]
async fn openapi() -> Json<serde_json::Value> {
    Json(document::document())
}

/// The node.
#[utoipa::path(get, path = "/v1/node", responses((status = 200, body = NodeView)))]
async fn node_view(State(node): State<Arc<Node>>) -> Json<NodeView> {
    Json(node.view())
}

/// Stops the node, and every service with it.
#[utoipa::path(post, path = "/v1/node/stop", responses((status = 202, description = "It will stop")))]
async fn stop(State(node): State<Arc<Node>>) -> StatusCode {
    node.request_stop();
    StatusCode::ACCEPTED
}
