//! Traces: which there are, and where one went.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_telemetry::{
    Kind, Span, TraceCursor, TraceOrder, TraceQuery, TraceSummary, critical_path,
};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::log_search::{LogView, between, object};
use super::logs::{filter, parse_trace, refused};
use super::types::Problem;
use super::words;
use crate::node::Node;

/// Traces in a page, if nothing else is said.
const LIMIT: usize = 100;

/// The most traces in a page.
const LIMIT_MAX: usize = 1000;

/// Which traces are wanted, and which page of them.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct TracesQuery {
    /// Those with a span that fits this, in the query language. Default: all.
    #[serde(default)]
    pub q: String,
    /// The span began not before this (RFC 3339). Default: an hour before `until`.
    pub since: Option<String>,
    /// The span began not after this (RFC 3339). Default: now.
    pub until: Option<String>,
    /// So many at most. Default 100, at most 1000.
    pub limit: Option<usize>,
    /// `time`: the newest first. `duration`: the slowest first.
    #[serde(default)]
    #[param(inline)]
    pub order: OrderView,
    /// `next` of an earlier page: what comes after it.
    pub before: Option<String>,
}

/// The order of traces.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderView {
    /// The newest first.
    #[default]
    Time,
    /// The slowest first.
    Duration,
}

/// A page of traces.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TracesPage {
    /// The traces.
    pub traces: Vec<TraceLine>,
    /// What to give as `before` for the next page, if there is one.
    pub next: Option<String>,
}

/// A trace in short.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TraceLine {
    /// Its id.
    pub trace: String,
    /// The service of its first span.
    pub root_service: String,
    /// The name of that.
    pub root_name: String,
    /// When it began (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// From then until its last span ended.
    pub duration_us: u64,
    /// How many spans it has.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
    /// Who took part.
    pub services: Vec<String>,
}

/// A trace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TraceDetail {
    /// Its id.
    pub trace: String,
    /// Its spans, by their start.
    pub spans: Vec<SpanView>,
    /// Its log records, by time.
    pub logs: Vec<LogView>,
    /// The ids of the spans that made it take as long as it took.
    pub critical_path: Vec<String>,
}

/// A span.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SpanView {
    /// The trace it belongs to.
    pub trace: String,
    /// Its id.
    pub span: String,
    /// The span that caused it.
    pub parent: Option<String>,
    /// Who did the work; `atoll` if no service was called.
    pub service: String,
    /// Which instance; empty if that is not known.
    pub instance: String,
    /// What was done.
    pub name: String,
    /// server, client, producer, consumer or internal.
    #[schema(schema_with = words::span_kind)]
    pub kind: String,
    /// When it began (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// How long it took.
    pub duration_us: u64,
    /// unset, ok or error.
    #[schema(schema_with = words::span_status)]
    pub status: String,
    /// What went wrong; empty if nothing did.
    pub status_message: String,
    /// Who called, if the proxy knows: a service, or `edge`.
    pub caller: Option<String>,
    /// Its place was found out by the moment, not told.
    pub inferred: bool,
    /// What else was told.
    #[schema(value_type = HashMap<String, serde_json::Value>)]
    pub attributes: serde_json::Value,
    /// What happened within it.
    #[schema(value_type = Vec<SpanEventView>)]
    pub events: serde_json::Value,
    /// Spans that it has to do with, of other traces too.
    #[schema(value_type = Vec<SpanLinkView>)]
    pub links: serde_json::Value,
}

/// Something that happened within a span.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SpanEventView {
    /// When (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What.
    pub name: String,
    /// What else was told.
    pub attributes: HashMap<String, serde_json::Value>,
}

/// A span that another has to do with.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SpanLinkView {
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub span: Option<String>,
    /// What else was told.
    pub attributes: HashMap<String, serde_json::Value>,
}

impl From<Span> for SpanView {
    fn from(span: Span) -> Self {
        Self {
            trace: span.trace.to_string(),
            span: span.span.to_string(),
            parent: span.parent.map(|parent| parent.to_string()),
            service: span.service.to_string(),
            instance: span.instance,
            name: span.name,
            kind: span.kind.as_str().to_owned(),
            start: span.start,
            duration_us: micros(span.duration),
            status: span.status.as_str().to_owned(),
            status_message: span.message,
            caller: span.caller,
            inferred: span.inferred,
            attributes: object(&span.attributes),
            events: list_of(&span.events),
            links: list_of(&span.links),
        }
    }
}

impl From<TraceSummary> for TraceLine {
    fn from(trace: TraceSummary) -> Self {
        Self {
            trace: trace.trace.to_string(),
            root_service: trace.root_service,
            root_name: trace.root_name,
            start: trace.start,
            duration_us: micros(trace.duration),
            spans: trace.spans,
            errors: trace.errors,
            services: trace.services,
        }
    }
}

/// A list that is kept as text; where there is nothing, it is empty.
fn list_of(text: &str) -> serde_json::Value {
    serde_json::from_str(text)
        .ok()
        .filter(serde_json::Value::is_array)
        .unwrap_or_else(|| serde_json::json!([]))
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A page of traces.
#[utoipa::path(
    get, path = "/v1/traces", params(TracesQuery),
    responses((status = 200, body = TracesPage), (status = 400, body = Problem), (status = 422, body = Problem))
)]
pub async fn list(
    State(node): State<Arc<Node>>,
    Query(query): Query<TracesQuery>,
) -> Result<Json<TracesPage>, Problem> {
    let (since, until) = between(query.since.as_deref(), query.until.as_deref())?;
    let before = query.before.as_deref().map(str::parse::<TraceCursor>);
    let wanted = TraceQuery {
        filter: filter(Kind::Spans, &query.q)?.since(since).until(until),
        limit: query.limit.unwrap_or(LIMIT).min(LIMIT_MAX),
        order: match query.order {
            OrderView::Time => TraceOrder::Time,
            OrderView::Duration => TraceOrder::Duration,
        },
        before: before.transpose().map_err(|error| refused(&error))?,
    };
    let page = node.telemetry().search_traces(wanted).await?;
    Ok(Json(TracesPage {
        traces: page.traces.into_iter().map(TraceLine::from).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

/// All that is kept of a trace. Of one that nothing is kept of, the lists are empty.
#[utoipa::path(
    get, path = "/v1/traces/{trace}", params(("trace" = String, Path)),
    responses((status = 200, body = TraceDetail), (status = 422, body = Problem))
)]
pub async fn one(
    State(node): State<Arc<Node>>,
    Path(trace): Path<String>,
) -> Result<Json<TraceDetail>, Problem> {
    let trace = parse_trace(&trace)?;
    let view = node.telemetry().trace(trace).await?;
    let path = critical_path(&view.spans);
    Ok(Json(TraceDetail {
        trace: trace.to_string(),
        spans: view.spans.into_iter().map(SpanView::from).collect(),
        logs: view.logs.into_iter().map(LogView::from).collect(),
        critical_path: path.iter().map(ToString::to_string).collect(),
    }))
}
