//! Services and their deployments.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::ServiceName;
use atoll_console::{Note, Who};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Json, Path, Query};
use super::types::{Accepted, DeploymentView, NewDeployment, OrderKind, Problem};
use crate::node::{Node, Order, ServiceView};

/// The longest that a question for a deployment's end may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// All services, by name.
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = Vec<ServiceView>)))]
pub async fn list(State(node): State<Arc<Node>>) -> Json<Vec<ServiceView>> {
    Json(node.services().await)
}

/// One service.
#[utoipa::path(
    get, path = "/v1/services/{service}", params(("service" = String, Path)),
    responses((status = 200, body = ServiceView), (status = 404, body = Problem))
)]
pub async fn one(
    State(node): State<Arc<Node>>,
    Path(service): Path<ServiceName>,
) -> Result<Json<ServiceView>, Problem> {
    let found = node
        .services()
        .await
        .into_iter()
        .find(|view| view.name == service);
    found
        .map(Json)
        .ok_or_else(|| atoll_deploy::Error::NoService(service).into())
}

/// How much of a history is wanted.
#[derive(Debug, Deserialize, IntoParams)]
pub struct HistoryQuery {
    /// Those before this deployment: the next page.
    before: Option<i64>,
    /// The newest so many. Default 50, at most 1000.
    limit: Option<u32>,
}

/// The deployments of a service, newest first.
#[utoipa::path(
    get, path = "/v1/services/{service}/history", params(("service" = String, Path), HistoryQuery),
    responses((status = 200, body = Vec<DeploymentView>), (status = 404, body = Problem))
)]
pub async fn history(
    State(node): State<Arc<Node>>,
    Path(service): Path<ServiceName>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Vec<DeploymentView>>, Problem> {
    let limit = query.limit.unwrap_or(50).min(1000);
    let history = node.deployments().history();
    let entries = history.deployments(&service, query.before, limit).await?;
    // Who has been deployed has a first page.
    if entries.is_empty() && history.deployments(&service, None, 1).await?.is_empty() {
        return Err(atoll_deploy::Error::NoService(service).into());
    }
    Ok(Json(
        entries.into_iter().map(DeploymentView::from).collect(),
    ))
}

/// Begins a deployment: a new revision, a rollback, a restart or a change of scale.
#[utoipa::path(
    post, path = "/v1/services/{service}/deployments", params(("service" = String, Path)),
    request_body = NewDeployment,
    responses(
        (status = 202, body = Accepted), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)
    )
)]
pub async fn deploy(
    State(node): State<Arc<Node>>,
    Path(service): Path<ServiceName>,
    Extension(asks): Extension<Who>,
    Extension(note): Extension<Note>,
    Json(new): Json<NewDeployment>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let words = new.order.words();
    note.write(&match new.why.as_str() {
        "" => words,
        why => format!("{words}: {why}"),
    });
    // Only who owns the node's folder is believed whom it asks for.
    let who = new.who.filter(|_| asks.is_local()).unwrap_or(asks.name);
    let order = match new.order {
        OrderKind::Deploy { dir } => Order::Deploy(dir.map(PathBuf::from)),
        OrderKind::Rollback { revision } => Order::Rollback(revision),
        OrderKind::Restart => Order::Restart,
        OrderKind::Scale { instances } => Order::Scale(instances),
    };
    let (deployment, _) = node.order(&service, order, &who, &new.why).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { deployment })))
}

/// Whether the answer waits for the end.
#[derive(Debug, Deserialize, IntoParams)]
pub struct WaitQuery {
    /// Seconds to wait for its end, at most 60. Default 0.
    wait: Option<u64>,
}

/// One deployment.
#[utoipa::path(
    get, path = "/v1/deployments/{id}", params(("id" = i64, Path), WaitQuery),
    responses((status = 200, body = DeploymentView), (status = 404, body = Problem))
)]
pub async fn deployment(
    State(node): State<Arc<Node>>,
    Path(id): Path<i64>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<DeploymentView>, Problem> {
    let limit = Duration::from_secs(query.wait.unwrap_or(0)).min(WAIT_MAX);
    let time_is_up = tokio::time::sleep(limit);
    tokio::pin!(time_is_up);
    let mut ended = node.deployments().ended();
    loop {
        let entry = node.deployments().history().deployment(id).await?;
        let entry = entry.ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                format!("there is no deployment {id}"),
            )
        })?;
        if entry.outcome.is_some() || time_is_up.is_elapsed() || node.tasks().is_stopping() {
            return Ok(Json(entry.into()));
        }
        tokio::select! {
            // Some deployment has ended, perhaps this one.
            _ = ended.changed() => {}
            () = &mut time_is_up => {}
            () = node.tasks().stopping() => {}
        }
    }
}
