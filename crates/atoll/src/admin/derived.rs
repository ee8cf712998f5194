//! What follows from what happened: who calls whom, which errors are the same, what the platform did.

use std::sync::Arc;

use atoll_base::{ServiceName, Timestamp};
use atoll_telemetry::{
    Calls, ErrorGroup, Fault, Filter, Kind, Level, LogRecord, PageQuery, Stream, errors,
};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Query};
use super::log_search::between;
use super::logs::moment;
use super::map;
use super::types::Problem;
use super::words;
use crate::node::{EventKind, Node, ServiceState};

/// Records that are looked at for errors: the newest.
const ERRORS_MAX: usize = 5_000;
/// Events on a page of the timeline, if nobody says how many; and the most.
const EVENTS: usize = 200;
const EVENTS_MAX: usize = 5_000;

/// Between which times. Default: the last hour.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct TimesQuery {
    /// Not older than this (RFC 3339). Default: an hour before `until`.
    pub since: Option<String>,
    /// Not newer than this (RFC 3339). Default: now.
    pub until: Option<String>,
    /// Of this service alone.
    pub service: Option<String>,
}

/// Which events of the timeline.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct TimelineQuery {
    /// Not older than this (RFC 3339). Default: all that is kept.
    pub since: Option<String>,
    /// Not newer than this (RFC 3339). Default: now.
    pub until: Option<String>,
    /// Of this service alone.
    pub service: Option<String>,
    /// Of this kind alone.
    #[param(inline)]
    pub kind: Option<EventKind>,
    /// So many at most. Default 200, at most 5000.
    pub limit: Option<usize>,
    /// `next` of an earlier page: what comes after it.
    pub before: Option<String>,
}

/// Who calls whom.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MapView {
    /// The edge and the services.
    pub nodes: Vec<MapNode>,
    /// Calls between them.
    pub edges: Vec<MapEdge>,
}

/// The edge, a service or a topic.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MapNode {
    /// Its name, which no other has: that of a topic begins with `topic:` if a service is called the same.
    pub name: String,
    /// `edge`, `service` or `topic`.
    #[schema(schema_with = words::node_kind)]
    pub kind: String,
    /// How the service is, if it is one that runs.
    #[schema(value_type = Option<ServiceState>)]
    pub state: Option<String>,
    /// Calls to it.
    #[serde(flatten)]
    pub calls: CallsView,
}

/// Calls from one to another.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MapEdge {
    /// Who called: `edge` for clients outside.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// `http`, or `event` between a service and a topic: records that are published, pushed or read. Of a service
    /// that speaks the protocol of Kafka each record is one, and how long it took is not known.
    #[schema(schema_with = words::edge_kind)]
    pub kind: String,
    /// The calls.
    #[serde(flatten)]
    pub calls: CallsView,
}

/// How often, how well, how fast.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct CallsView {
    /// Calls in a second.
    pub rate: f64,
    /// Those of them that failed, in a second.
    pub error_rate: f64,
    /// Half took no longer than this.
    pub p50_us: u64,
    /// 95 in 100 took no longer.
    pub p95_us: u64,
    /// 99 in 100 took no longer.
    pub p99_us: u64,
}

/// Something that the platform did or saw.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TimelineEvent {
    /// When (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Whom it concerns.
    pub service: String,
    /// Which instance, if one.
    pub instance: Option<String>,
    /// Of which revision.
    pub revision: Option<u32>,
    /// What kind of thing.
    #[schema(value_type = EventKind)]
    pub kind: String,
    /// How grave.
    #[schema(schema_with = words::level)]
    pub level: Option<String>,
    /// What happened.
    pub message: String,
    /// The trace, if it was within one.
    pub trace: Option<String>,
}

/// Events, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TimelinePage {
    /// The events.
    pub events: Vec<TimelineEvent>,
    /// What to give as `before` for the next page, if there is one.
    pub next: Option<String>,
}

/// Errors that say the same.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    /// The same for all of them.
    pub fingerprint: String,
    /// Whose they are.
    pub service: String,
    /// What the newest says.
    pub message: String,
    /// How many.
    pub count: u64,
    /// The oldest (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub first: Timestamp,
    /// The newest.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
    /// The trace of the newest, if it has one.
    pub trace: Option<String>,
}

/// Who calls whom, from real traffic.
#[utoipa::path(
    get, path = "/v1/map", params(TimesQuery),
    responses((status = 200, body = MapView), (status = 422, body = Problem))
)]
pub async fn map(
    State(node): State<Arc<Node>>,
    Query(query): Query<TimesQuery>,
) -> Result<Json<MapView>, Problem> {
    let (since, until) = between(query.since.as_deref(), query.until.as_deref())?;
    let spans = |text| {
        let filter = super::logs::filter(Kind::Spans, text)?;
        Ok::<_, Problem>(filter.since(since).until(until))
    };
    let calls = node.telemetry().edges(spans("kind:server")?).await?;
    let records = spans("kind:producer OR kind:consumer")?;
    let records = node.telemetry().topic_edges(records).await?;
    let states = node.services().await.into_iter();
    let states = states.map(|own| (own.name.to_string(), own.state.word().to_owned()));
    let mut parts = map::Parts {
        calls,
        records,
        states: states.collect(),
    };
    parts.add(map::by_kafka(&node, (since, until)).await?);
    let wanted = service(query.service.as_deref())?;
    let seconds = (until.as_micros() - since.as_micros()).max(1) as f64 / 1e6;
    Ok(Json(parts.view(wanted.as_ref(), seconds)))
}

/// What the platform did and saw, the newest first. Requests that failed are not here: they are logs.
#[utoipa::path(
    get, path = "/v1/timeline", params(TimelineQuery),
    responses((status = 200, body = TimelinePage), (status = 422, body = Problem))
)]
pub async fn timeline(
    State(node): State<Arc<Node>>,
    Query(query): Query<TimelineQuery>,
) -> Result<Json<TimelinePage>, Problem> {
    let mut filter = platform(query.kind)?;
    if let Some(service) = service(query.service.as_deref())? {
        filter = filter.of_services(&[service]);
    }
    if let Some(since) = moment(query.since.as_deref())? {
        filter = filter.since(since);
    }
    if let Some(until) = moment(query.until.as_deref())? {
        filter = filter.until(until);
    }
    let before = query.before.as_deref().map(str::parse).transpose();
    let page = PageQuery {
        filter,
        limit: query.limit.unwrap_or(EVENTS).clamp(1, EVENTS_MAX),
        before: before.map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?,
    };
    let page = node.telemetry().search(page).await?;
    Ok(Json(TimelinePage {
        events: page.records.into_iter().map(TimelineEvent::from).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

/// Errors in the logs, those that say the same together, the most frequent first. Of very many, the
/// newest 5000 count.
#[utoipa::path(
    get, path = "/v1/errors", params(TimesQuery),
    responses((status = 200, body = [ErrorView]), (status = 422, body = Problem))
)]
pub async fn errors_of(
    State(node): State<Arc<Node>>,
    Query(query): Query<TimesQuery>,
) -> Result<Json<Vec<ErrorView>>, Problem> {
    let (since, until) = between(query.since.as_deref(), query.until.as_deref())?;
    let mut filter = grave()?.since(since).until(until);
    if let Some(service) = service(query.service.as_deref())? {
        filter = filter.of_services(&[service]);
    }
    let page = PageQuery {
        filter,
        limit: ERRORS_MAX,
        before: None,
    };
    let records = node.telemetry().search(page).await?.records;
    let faults: Vec<Fault> = records.iter().map(Fault::from).collect();
    let groups = errors::group(&faults);
    Ok(Json(groups.into_iter().map(ErrorView::from).collect()))
}

pub(super) fn grave() -> Result<Filter, Problem> {
    parse("level>=error")
}

/// Platform events, but for requests that failed.
pub(super) fn platform(kind: Option<EventKind>) -> Result<Filter, Problem> {
    match kind {
        None => parse("stream:platform -kind:request"),
        Some(kind) => parse(&format!("stream:platform kind:{}", kind.as_str())),
    }
}

fn parse(text: &str) -> Result<Filter, Problem> {
    super::logs::filter(Kind::Logs, text)
}

pub(super) fn service(name: Option<&str>) -> Result<Option<ServiceName>, Problem> {
    let read = name.map(ServiceName::new).transpose();
    read.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

impl CallsView {
    pub(super) fn of(calls: &Calls, seconds: f64) -> Self {
        Self {
            rate: calls.count() as f64 / seconds,
            error_rate: calls.errors() as f64 / seconds,
            p50_us: calls.percentile(50),
            p95_us: calls.percentile(95),
            p99_us: calls.percentile(99),
        }
    }
}

impl From<LogRecord> for TimelineEvent {
    fn from(record: LogRecord) -> Self {
        let told: Option<serde_json::Value> = serde_json::from_str(&record.attributes).ok();
        let kind = told.as_ref().and_then(|told| told.get("kind")?.as_str());
        debug_assert_eq!(record.stream, Stream::Platform);
        Self {
            time: record.time,
            service: record.service.to_string(),
            instance: Some(record.instance).filter(|own| !own.is_empty()),
            revision: Some(record.revision.0).filter(|own| *own > 0),
            kind: kind.unwrap_or(EventKind::Other.as_str()).to_owned(),
            level: record.level.map(Level::as_str).map(str::to_owned),
            message: record.message,
            trace: record.trace.map(|trace| trace.to_string()),
        }
    }
}

impl From<ErrorGroup> for ErrorView {
    fn from(group: ErrorGroup) -> Self {
        Self {
            fingerprint: group.fingerprint,
            service: group.service,
            message: group.message,
            count: group.count,
            first: group.first,
            last: group.last,
            trace: group.trace.map(|trace| trace.to_string()),
        }
    }
}
