//! Objectives and alerts, over the API.

use std::sync::Arc;

use atoll_base::{HumanDuration, Timestamp};
use atoll_console::Note;
use atoll_telemetry::objective::{Aim, Alert, AlertState, Change, Severity, Standing};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::events::refused;
use super::extract::{Json, Path, Query};
use super::types::Problem;
use super::words;
use crate::node::{Node, SilenceError};

/// State changes on a page, if nobody says how many; and the most.
const CHANGES: usize = 100;
const CHANGES_MAX: usize = 1_000;

/// How an objective stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ObjectiveView {
    /// Whose it is.
    pub service: String,
    /// `availability` or `latency`.
    #[schema(schema_with = words::aim)]
    pub kind: Aim,
    /// What is promised: `99.9%`, or `99% within 300ms`.
    pub target: String,
    /// Over which time.
    pub window: String,
    /// The share of the budget that is left: 1 if nothing was bad, 0 if all is spent, below 0 if more was
    /// spent than there is.
    pub budget_left: f64,
    /// How fast it burnt over the last hour; 1 uses it up in exactly its window.
    pub burn_1h: f64,
    /// The same over six hours.
    pub burn_6h: f64,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// Its name; it stays the same when the alert comes and goes.
    pub id: String,
    /// Whose it is.
    pub service: String,
    /// `availability` or `latency`.
    #[schema(schema_with = words::aim)]
    pub objective: Aim,
    /// `page`: somebody must look now; `ticket`: within days.
    #[schema(schema_with = words::severity)]
    pub severity: Severity,
    /// `pending`: it would fire, were there not too few requests to be sure; `firing`; `resolved`.
    #[schema(schema_with = words::alert_state)]
    pub state: AlertState,
    /// Since when (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Nobody is told of it before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub silenced_until: Option<Timestamp>,
    /// What is the matter, as it was then.
    pub message: String,
}

/// A state change of an alert.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// The alert from then on: `firing` or `resolved`.
    #[serde(flatten)]
    pub alert: AlertView,
    /// It was silenced then.
    pub silenced: bool,
}

/// State changes, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HistoryPage {
    /// The changes.
    pub alerts: Vec<ChangeView>,
    /// What to give as `before` for the next page, if there is one.
    pub next: Option<String>,
}

/// Which part of the history.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct HistoryQuery {
    /// So many at most. Default 100, at most 1000.
    pub limit: Option<usize>,
    /// `next` of an earlier page: what comes after it.
    pub before: Option<String>,
}

/// How long nobody is told.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Until then (RFC 3339); null or a past time ends the silence.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// The objectives of services, and how much of their budgets is left.
#[utoipa::path(get, path = "/v1/objectives", responses((status = 200, body = [ObjectiveView])))]
pub async fn objectives(State(node): State<Arc<Node>>) -> Json<Vec<ObjectiveView>> {
    let all = node.alerts().standings().into_iter();
    Json(all.map(ObjectiveView::from).collect())
}

/// Alerts that fire, are about to, or were resolved within the last hour, and those that are silenced.
#[utoipa::path(get, path = "/v1/alerts", responses((status = 200, body = [AlertView])))]
pub async fn list(State(node): State<Arc<Node>>) -> Json<Vec<AlertView>> {
    Json(now(&node))
}

/// When alerts fired and were resolved, the newest first. The last 10,000 changes are kept.
#[utoipa::path(
    get, path = "/v1/alerts/history", params(HistoryQuery),
    responses((status = 200, body = HistoryPage), (status = 422, body = Problem))
)]
pub async fn history(
    State(node): State<Arc<Node>>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryPage>, Problem> {
    let before = query.before.map(|text| {
        let read = text.parse::<i64>();
        read.map_err(|_| refused(format!("'{text}' is no `next` of an earlier page")))
    });
    let limit = query.limit.unwrap_or(CHANGES).clamp(1, CHANGES_MAX);
    // One more shows whether there is a next page.
    let found = node.alerts().history(before.transpose()?, limit + 1).await;
    let mut found = found.map_err(|error| unusable(&error))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|(number, _)| number.to_string());
    Ok(Json(HistoryPage {
        alerts: found
            .into_iter()
            .map(|(_, change)| ChangeView::from(change))
            .collect(),
        next: last.filter(|_| more),
    }))
}

/// Keeps an alert from being told, for a time. It is still shown, and told at the end if it still fires.
#[utoipa::path(
    post, path = "/v1/alerts/{id}/silence", params(("id" = String, Path)), request_body = Silence,
    responses(
        (status = 204, description = "It is silent, or not any more"), (status = 404, body = Problem)
    )
)]
pub async fn silence(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    Extension(note): Extension<Note>,
    Json(order): Json<Silence>,
) -> Result<StatusCode, Problem> {
    note.write(&match order.until {
        Some(until) => format!("silent until {until}"),
        None => "silent no longer".to_owned(),
    });
    match node.alerts().silence(&id, order.until).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ SilenceError::Unknown(_)) => {
            Err(Problem::new(StatusCode::NOT_FOUND, error.to_string()))
        }
        Err(SilenceError::Store(error)) => Err(unusable(&error)),
    }
}

/// The alerts, as they are now.
pub(super) fn now(node: &Node) -> Vec<AlertView> {
    node.alerts()
        .alerts()
        .into_iter()
        .map(AlertView::from)
        .collect()
}

fn unusable(error: &atoll_store::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

impl From<Standing> for ObjectiveView {
    fn from(standing: Standing) -> Self {
        let objective = standing.objective;
        Self {
            service: objective.key.service.to_string(),
            kind: objective.key.aim,
            target: objective.target(),
            window: HumanDuration(objective.window).to_string(),
            budget_left: standing.budget_left,
            burn_1h: standing.burn_1h,
            burn_6h: standing.burn_6h,
        }
    }
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        Self {
            id: alert.id.to_string(),
            service: alert.id.key.service.to_string(),
            objective: alert.id.key.aim,
            severity: alert.id.severity,
            state: alert.state,
            since: alert.since,
            silenced_until: alert.silenced_until,
            message: alert.message,
        }
    }
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            silenced: change.silenced,
            alert: AlertView::from(Alert {
                id: change.id,
                state: change.state,
                since: change.at,
                silenced_until: None,
                message: change.message,
            }),
        }
    }
}
