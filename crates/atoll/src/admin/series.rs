//! Metrics that were sent, over the API: which there are, and how one went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{Timestamp, TraceId};
use atoll_telemetry::metrics::{Query as Wanted, SeriesView, Stat};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Query};
use super::types::Problem;
use super::words;
use crate::node::Node;

/// What is shown where nothing else is asked for.
const SINCE_DEFAULT: Duration = Duration::from_secs(3600);

/// Steps where no length is asked for.
const STEPS_DEFAULT: i64 = 120;

/// A metric.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MetricView {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    #[schema(schema_with = words::metric_kind)]
    pub kind: String,
    /// Its unit, by UCUM.
    pub unit: String,
    /// What it means.
    pub help: String,
    /// The keys of its labels.
    pub labels: Vec<String>,
}

/// Which series are wanted.
#[derive(Debug, Deserialize, IntoParams)]
pub struct SeriesQuery {
    /// The metric. Without it, no series is found.
    #[serde(default)]
    pub name: String,
    /// Labels that a series must have: `label:value,label:value`.
    #[serde(default, rename = "match")]
    pub matching: String,
    /// From when (RFC 3339). Default: an hour ago.
    pub since: Option<String>,
    /// Until when (RFC 3339). Default: now.
    pub until: Option<String>,
    /// The length of a step in microseconds. The answer's may be longer.
    pub step_us: Option<u64>,
    /// `rate`, `value`, `p50`, `p95` or `p99`. Default `value`.
    #[param(schema_with = words::stat)]
    pub stat: Option<String>,
}

/// How the series went.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SeriesAnswer {
    /// The length of a step in microseconds.
    pub step_us: u64,
    /// One for each set of labels.
    pub series: Vec<OneSeries>,
    /// Series beyond the 500 of an answer: a label tells them apart.
    pub left_out: usize,
}

/// How one series went.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OneSeries {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When a step begins, in microseconds since 1970, and what it says.
    pub points: Vec<(i64, Option<f64>)>,
    /// Values that it is made of, with their traces.
    pub exemplars: Vec<ExemplarView>,
}

/// A value with its trace.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExemplarView {
    /// When (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The value.
    pub value: f64,
    /// The trace, 32 hex digits.
    #[schema(value_type = String)]
    pub trace: TraceId,
}

/// The metrics that there are.
#[utoipa::path(get, path = "/v1/metrics/names", responses((status = 200, body = Vec<MetricView>)))]
pub async fn names(State(node): State<Arc<Node>>) -> Json<Vec<MetricView>> {
    let names = node.metrics().names().into_iter();
    let views = names.map(|own| MetricView {
        name: own.name.to_string(),
        kind: own.kind.to_owned(),
        unit: own.unit.to_string(),
        help: own.help.to_string(),
        labels: own.labels,
    });
    Json(views.collect())
}

/// How the series of a metric went.
#[utoipa::path(
    get, path = "/v1/metrics/series", params(SeriesQuery),
    responses((status = 200, body = SeriesAnswer), (status = 422, body = Problem))
)]
pub async fn series(
    State(node): State<Arc<Node>>,
    Query(query): Query<SeriesQuery>,
) -> Result<Json<SeriesAnswer>, Problem> {
    let wanted = parse(query, Timestamp::now())?;
    let answer = node.metrics().query(wanted).await?;
    Ok(Json(SeriesAnswer {
        step_us: u64::try_from(answer.step.as_micros()).unwrap_or(u64::MAX),
        series: answer.series.into_iter().map(view).collect(),
        left_out: answer.left_out,
    }))
}

fn view(own: SeriesView) -> OneSeries {
    let labels = own.labels.iter();
    let points = own.points.into_iter();
    let exemplars = own.exemplars.into_iter();
    OneSeries {
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        points: points
            .map(|(time, said)| (time.as_micros(), said))
            .collect(),
        exemplars: exemplars
            .map(|own| ExemplarView {
                time: own.time,
                value: own.value,
                trace: own.trace,
            })
            .collect(),
    }
}

fn parse(query: SeriesQuery, now: Timestamp) -> Result<Wanted, Problem> {
    let wrong = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let time = |key: &str, text: Option<String>, default: Timestamp| match text {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| wrong(format!("`{key}` is not a time: \"{text}\""))),
    };
    let since = time("since", query.since, now.before(SINCE_DEFAULT))?;
    let until = time("until", query.until, now)?;
    let stat = match query.stat.as_deref().unwrap_or("value") {
        "rate" => Stat::Rate,
        "value" => Stat::Value,
        "p50" => Stat::Quantile(0.5),
        "p95" => Stat::Quantile(0.95),
        "p99" => Stat::Quantile(0.99),
        other => {
            let known = "rate, value, p50, p95 or p99";
            return Err(wrong(format!("`stat` is {known}, not \"{other}\"")));
        }
    };
    let mut matchers: Vec<(String, String)> = Vec::new();
    for part in query.matching.split(',').filter(|part| !part.is_empty()) {
        match (part.split_once(':'), matchers.last_mut()) {
            (Some((label, value)), _) => matchers.push((label.to_owned(), value.to_owned())),
            // A comma within the value before.
            (None, Some((_, value))) => value.extend([",", part]),
            (None, None) => return Err(wrong(format!("`match` is label:value, not \"{part}\""))),
        }
    }
    let span = (until.as_micros() - since.as_micros()).max(0) / STEPS_DEFAULT;
    let step = query.step_us.unwrap_or(span.unsigned_abs());
    Ok(Wanted {
        name: query.name,
        matchers,
        since,
        until,
        step: Duration::from_micros(step),
        stat,
    })
}
