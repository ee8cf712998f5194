//! Searches in the log: pages, histogram, facets, surroundings.

use std::sync::Arc;

use atoll_base::{Timestamp, clock};
use atoll_telemetry::{Cursor, Filter, Kind, LogRecord, PageQuery};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Query};
use super::logs::{filter, moment, refused};
use super::types::Problem;
use super::words;
use crate::node::Node;

/// Records in a page, if nothing else is said.
const LIMIT: usize = 100;

/// The most records in a page, and around a record: they are gathered in memory.
const LIMIT_MAX: usize = 10_000;

/// Buckets of a histogram, if nothing else is said.
const BUCKETS: usize = 60;

/// Without a time, the last hour is asked for.
const SPAN: std::time::Duration = std::time::Duration::from_secs(3600);

/// A log record.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// Its number: grows with each record of this node.
    pub number: u64,
    /// When it was read (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Whose it is.
    pub service: String,
    /// Of which instance; empty where Atoll speaks of the whole service.
    pub instance: String,
    /// Of which revision; 0 if that is not known.
    pub revision: u32,
    /// stdout, stderr, platform or otlp.
    #[schema(schema_with = words::stream)]
    pub stream: String,
    /// trace, debug, info, warn, error or fatal, if it says.
    #[schema(schema_with = words::level)]
    pub level: Option<String>,
    /// The trace it belongs to.
    pub trace: Option<String>,
    /// The span within it.
    pub span: Option<String>,
    /// The line.
    pub message: String,
    /// What else was told.
    #[schema(value_type = HashMap<String, serde_json::Value>)]
    pub attributes: serde_json::Value,
}

/// Which records are wanted, and which page of them.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct SearchQuery {
    /// In the query language. Default: all.
    #[serde(default)]
    pub q: String,
    /// Not older than this (RFC 3339). Default: an hour before `until`.
    pub since: Option<String>,
    /// Not newer than this (RFC 3339). Default: now.
    pub until: Option<String>,
    /// So many at most. Default 100, at most 10000.
    pub limit: Option<usize>,
    /// `next` of an earlier page: what comes after it.
    pub before: Option<String>,
}

/// A page of records, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SearchPage {
    /// The records.
    pub records: Vec<LogView>,
    /// What to give as `before` for the next page, if there is one.
    pub next: Option<String>,
    /// How many rows were looked at.
    pub scanned: u64,
    /// How long it took.
    pub took_us: u64,
}

/// Which records are counted.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct CountQuery {
    /// In the query language. Default: all.
    #[serde(default)]
    pub q: String,
    /// Not older than this (RFC 3339). Default: an hour before `until`.
    pub since: Option<String>,
    /// Not newer than this (RFC 3339). Default: now.
    pub until: Option<String>,
    /// Into so many spans of time. Default 60, at most 1000.
    pub buckets: Option<usize>,
}

/// Records over time.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HistogramView {
    /// The length of a bucket.
    pub step_us: u64,
    /// The oldest first, without gaps.
    pub buckets: Vec<BucketView>,
}

/// Records of one span of time.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BucketView {
    /// Where it begins (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// All that fit.
    pub total: u64,
    /// Warnings among them.
    pub warn: u64,
    /// Errors and worse.
    pub error: u64,
}

/// How often values occur, the most frequent first; at most 100 of each.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FacetsView {
    /// By service.
    pub service: Vec<FacetView>,
    /// By level.
    pub level: Vec<FacetView>,
    /// By instance.
    pub instance: Vec<FacetView>,
}

/// A value and how often it occurs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FacetView {
    /// The value.
    pub value: String,
    /// Records that have it.
    pub count: u64,
}

/// Around which record.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
pub struct ContextQuery {
    /// The number of the record.
    pub number: u64,
    /// So many before it. Default 20.
    pub before: Option<usize>,
    /// So many after it. Default 20.
    pub after: Option<usize>,
}

/// Records around one, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ContextView {
    /// All of its instance; none if the record is gone.
    pub records: Vec<LogView>,
}

impl From<LogRecord> for LogView {
    fn from(record: LogRecord) -> Self {
        Self {
            number: record.number,
            time: record.time,
            service: record.service.to_string(),
            instance: record.instance,
            revision: record.revision.0,
            stream: record.stream.as_str().to_owned(),
            level: record.level.map(|level| level.as_str().to_owned()),
            trace: record.trace.map(|trace| trace.to_string()),
            span: record.span.map(|span| span.to_string()),
            message: record.message,
            attributes: object(&record.attributes),
        }
    }
}

/// Attributes as they are shown: an object, an empty one if there is nothing that can be read.
pub(super) fn object(text: &str) -> serde_json::Value {
    let parsed = serde_json::from_str::<serde_json::Value>(text).ok();
    parsed
        .filter(serde_json::Value::is_object)
        .unwrap_or_else(|| serde_json::json!({}))
}

/// The time that is asked for.
pub(super) fn between(
    since: Option<&str>,
    until: Option<&str>,
) -> Result<(Timestamp, Timestamp), Problem> {
    let until = moment(until)?.unwrap_or_else(Timestamp::now);
    let since = moment(since)?.unwrap_or_else(|| until.before(SPAN));
    Ok((since, until))
}

/// A page of log records, the newest first.
#[utoipa::path(
    get, path = "/v1/logs/search", params(SearchQuery),
    responses((status = 200, body = SearchPage), (status = 400, body = Problem), (status = 422, body = Problem))
)]
pub async fn search(
    State(node): State<Arc<Node>>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<SearchPage>, Problem> {
    let begun = clock::monotonic();
    let (since, until) = between(query.since.as_deref(), query.until.as_deref())?;
    let before = query.before.as_deref().map(str::parse::<Cursor>);
    let wanted = PageQuery {
        filter: filter(Kind::Logs, &query.q)?.since(since).until(until),
        limit: query.limit.unwrap_or(LIMIT).min(LIMIT_MAX),
        before: before.transpose().map_err(|error| refused(&error))?,
    };
    let page = node.telemetry().search(wanted).await?;
    let took = clock::monotonic().saturating_duration_since(begun);
    Ok(Json(SearchPage {
        records: page.records.into_iter().map(LogView::from).collect(),
        next: page.next.map(|next| next.to_string()),
        scanned: page.scanned,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    }))
}

fn counted(query: &CountQuery) -> Result<(Filter, (Timestamp, Timestamp)), Problem> {
    let between = between(query.since.as_deref(), query.until.as_deref())?;
    Ok((filter(Kind::Logs, &query.q)?, between))
}

/// How many log records there are over time.
#[utoipa::path(
    get, path = "/v1/logs/histogram", params(CountQuery),
    responses((status = 200, body = HistogramView), (status = 400, body = Problem), (status = 422, body = Problem))
)]
pub async fn histogram(
    State(node): State<Arc<Node>>,
    Query(query): Query<CountQuery>,
) -> Result<Json<HistogramView>, Problem> {
    let (filter, between) = counted(&query)?;
    let buckets = query.buckets.unwrap_or(BUCKETS);
    let counts = node.telemetry().histogram(filter, between, buckets).await?;
    let bucket = |bucket: atoll_telemetry::Bucket| BucketView {
        time: bucket.time,
        total: bucket.total,
        warn: bucket.warn,
        error: bucket.error,
    };
    Ok(Json(HistogramView {
        step_us: counts.step_us,
        buckets: counts.buckets.into_iter().map(bucket).collect(),
    }))
}

/// How many log records there are by service, level and instance.
#[utoipa::path(
    get, path = "/v1/logs/facets", params(CountQuery),
    responses((status = 200, body = FacetsView), (status = 400, body = Problem), (status = 422, body = Problem))
)]
pub async fn facets(
    State(node): State<Arc<Node>>,
    Query(query): Query<CountQuery>,
) -> Result<Json<FacetsView>, Problem> {
    let (filter, (since, until)) = counted(&query)?;
    let filter = filter.since(since).until(until);
    let facets = node.telemetry().facets(filter).await?;
    let views = |facets: Vec<atoll_telemetry::Facet>| {
        let view = |facet: atoll_telemetry::Facet| FacetView {
            value: facet.value,
            count: facet.count,
        };
        facets.into_iter().map(view).collect()
    };
    Ok(Json(FacetsView {
        service: views(facets.service),
        level: views(facets.level),
        instance: views(facets.instance),
    }))
}

/// The log records of an instance around one of them.
#[utoipa::path(
    get, path = "/v1/logs/context", params(ContextQuery),
    responses((status = 200, body = ContextView))
)]
pub async fn context(
    State(node): State<Arc<Node>>,
    Query(query): Query<ContextQuery>,
) -> Result<Json<ContextView>, Problem> {
    let count = |asked: Option<usize>| asked.unwrap_or(20).min(LIMIT_MAX);
    let (before, after) = (count(query.before), count(query.after));
    let around = node
        .telemetry()
        .context(query.number, before, after)
        .await?;
    Ok(Json(ContextView {
        records: around.into_iter().map(LogView::from).collect(),
    }))
}
