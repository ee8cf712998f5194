//! How each route does: what a team looks at first, by the requests that really came.

use std::sync::Arc;

use atoll_telemetry::{Filter, Kind};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::derived::{CallsView, TimesQuery, service};
use super::extract::{Json, Query};
use super::log_search::between;
use super::types::Problem;
use crate::node::Node;

/// Requests of one route.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Whose it is.
    pub service: String,
    /// What was asked for, at the edge and in the mesh: `GET /orders/{id}`; the method alone where no
    /// route is known.
    pub route: String,
    /// The requests.
    #[serde(flatten)]
    pub calls: CallsView,
}

/// How often each route is asked for, fails, and how long it takes, by service and route.
#[utoipa::path(
    get, path = "/v1/routes", params(TimesQuery),
    responses((status = 200, body = [RouteView]), (status = 422, body = Problem))
)]
pub async fn routes(
    State(node): State<Arc<Node>>,
    Query(query): Query<TimesQuery>,
) -> Result<Json<Vec<RouteView>>, Problem> {
    let (since, until) = between(query.since.as_deref(), query.until.as_deref())?;
    let mut filter = Filter::all(Kind::Spans).since(since).until(until);
    if let Some(service) = service(query.service.as_deref())? {
        filter = filter.of_services(&[service]);
    }
    let found = node.telemetry().routes(filter).await?;
    let seconds = (until.as_micros() - since.as_micros()).max(1) as f64 / 1e6;
    let views = found.into_iter().map(|own| RouteView {
        calls: CallsView::of(&own.calls, seconds),
        service: own.service,
        route: own.route,
    });
    Ok(Json(views.collect()))
}
