//! The log and the hops of traces.

use std::sync::Arc;

use atoll_base::{ServiceName, Timestamp, TraceId};
use atoll_telemetry::{Hop, Query as LogQuery};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::lines::{line, ndjson};
use super::types::Problem;
use crate::node::Node;

/// Records that may wait for a slow reader.
const QUEUE_LENGTH: usize = 256;

/// The most that `tail` gives: they are gathered in memory.
const TAIL_MAX: usize = 100_000;

/// Which records are wanted.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct LogsQuery {
    /// Of these services, separated by commas. Default: all.
    #[serde(default)]
    pub services: String,
    /// Not older than this (RFC 3339).
    pub since: Option<String>,
    /// Not newer than this (RFC 3339).
    pub until: Option<String>,
    /// Whose message matches this regular expression.
    pub grep: Option<String>,
    /// Of this trace.
    pub trace: Option<String>,
    /// Only the last so many.
    pub tail: Option<usize>,
    /// Stay, and send records as they come.
    #[serde(default)]
    pub follow: bool,
}

/// Log records, one JSON object a line (`application/x-ndjson`), oldest first.
#[utoipa::path(
    get, path = "/v1/logs", params(LogsQuery),
    responses(
        (status = 200, description = "Records, one a line", content_type = "application/x-ndjson"),
        (status = 422, body = Problem)
    )
)]
pub async fn logs(
    State(node): State<Arc<Node>>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let wanted = parse(&query)?;
    let (records, queue) = tokio::sync::mpsc::channel::<Bytes>(QUEUE_LENGTH);
    let telemetry = node.telemetry().clone();
    if query.follow {
        let mut follow = telemetry.follow(wanted).await?;
        let tasks = node.tasks().clone();
        node.tasks().spawn("follow", async move {
            loop {
                let record = tokio::select! {
                    record = follow.next() => record,
                    () = tasks.stopping() => None,
                    () = records.closed() => None,
                };
                let Some(record) = record else { return };
                if records.send(line(&record)).await.is_err() {
                    return;
                }
            }
        });
    } else {
        node.tasks().spawn("search", async move {
            let found = move |record| records.blocking_send(line(&record)).is_ok();
            if let Err(error) = telemetry.search(wanted, found).await {
                tracing::warn!(%error, "a search of the logs broke off");
            }
        });
    }
    Ok(ndjson(queue))
}

/// The recent hops of a trace, oldest first: where the request went.
#[utoipa::path(
    get, path = "/v1/traces/{trace}", params(("trace" = String, Path)),
    responses((status = 200, description = "Hops"), (status = 422, body = Problem))
)]
pub async fn trace(
    State(node): State<Arc<Node>>,
    Path(trace): Path<String>,
) -> Result<Json<Vec<Hop>>, Problem> {
    Ok(Json(node.telemetry().hops_of(parse_trace(&trace)?)))
}

fn parse(query: &LogsQuery) -> Result<LogQuery, Problem> {
    let services = query.services.split(',').filter(|name| !name.is_empty());
    let services: Result<Vec<ServiceName>, _> = services.map(ServiceName::new).collect();
    let grep = query.grep.as_deref().map(regex::Regex::new).transpose();
    Ok(LogQuery {
        services: services.map_err(|error| refused(&error))?,
        since: moment(query.since.as_deref())?,
        until: moment(query.until.as_deref())?,
        grep: grep.map_err(|error| refused(&error))?,
        trace: query.trace.as_deref().map(parse_trace).transpose()?,
        tail: query.tail.map(|tail| tail.min(TAIL_MAX)),
        ..LogQuery::default()
    })
}

fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    text.map(str::parse)
        .transpose()
        .map_err(|error| refused(&error))
}

fn parse_trace(text: &str) -> Result<TraceId, Problem> {
    TraceId::parse(text.as_bytes())
        .ok_or_else(|| refused(&"a trace id is 32 lowercase hexadecimal digits"))
}

fn refused(why: &dyn std::fmt::Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
}
