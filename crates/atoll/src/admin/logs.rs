//! The log as it came, and as it comes.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp, TraceId};
use atoll_telemetry::{Filter, Kind, Query as Wanted};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::Query;
use super::lines::{event, events, line, ndjson};
use super::log_search::LogView;
use super::types::Problem;
use super::words;
use crate::node::Node;

/// Records that may wait for a slow reader.
const QUEUE_LENGTH: usize = 256;

/// A stream of events is never silent for longer.
const BEAT: Duration = Duration::from_secs(15);

/// The most that `tail` gives: they are gathered in memory.
const TAIL_MAX: usize = 100_000;

/// Which records are wanted.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct LogsQuery {
    /// Of these services, separated by commas. Default: all.
    #[serde(default)]
    pub services: String,
    /// Which fit this, in the query language. Default: all.
    #[serde(default)]
    pub q: String,
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

/// Which records are wanted as they come.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
pub struct LiveQuery {
    /// In the query language. Default: all.
    #[serde(default)]
    pub q: String,
}

/// A line of `/v1/logs`. Names are short: lines come by the million.
#[derive(Serialize, ToSchema)]
pub struct LogLine {
    /// Its number: grows with each record of this node.
    n: u64,
    /// When it was read (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// Whose it is.
    service: String,
    /// Of which instance; empty where Atoll speaks of the whole service.
    instance: String,
    /// Of which revision; 0 if that is not known.
    revision: u32,
    /// stdout, stderr, platform or otlp.
    #[schema(schema_with = words::stream)]
    stream: String,
    /// trace, debug, info, warn, error or fatal, if it says.
    #[schema(schema_with = words::known_level, required = false)]
    level: String,
    /// The trace it belongs to.
    #[schema(required = false)]
    trace: String,
    /// The span within it.
    #[schema(required = false)]
    span: String,
    /// What else was told: JSON, as a text.
    #[schema(required = false)]
    attributes: String,
    /// Whether this continues the line before it, which was longer than 16 KiB.
    #[schema(required = false)]
    continued: bool,
    /// The line.
    msg: String,
}

/// The events of `/v1/logs/live`, by their names, for its description.
#[derive(Serialize, ToSchema)]
pub struct LogEvents {
    /// A record.
    #[schema(required = false)]
    log: LogView,
}

/// Log records, one JSON object a line (`application/x-ndjson`), oldest first.
#[utoipa::path(
    get, path = "/v1/logs", params(LogsQuery),
    responses(
        (status = 200, description = "Records, one a line", body = LogLine, content_type = "application/x-ndjson"),
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
            if let Err(error) = telemetry.records(wanted, found).await {
                tracing::warn!(%error, "a search of the logs broke off");
            }
        });
    }
    Ok(ndjson(queue))
}

/// Log records that a query wants, as they come: Server-Sent Events called `log`.
#[utoipa::path(
    get, path = "/v1/logs/live", params(LiveQuery),
    responses(
        (status = 200, description = "Events, by their names", body = LogEvents, content_type = "text/event-stream"),
        (status = 400, body = Problem)
    )
)]
pub async fn live(
    State(node): State<Arc<Node>>,
    Query(query): Query<LiveQuery>,
) -> Result<Response, Problem> {
    let wanted = Wanted {
        filter: filter(Kind::Logs, &query.q)?,
        tail: Some(0),
        ..Wanted::default()
    };
    let (records, queue) = tokio::sync::mpsc::channel::<Bytes>(QUEUE_LENGTH);
    let mut follow = node.telemetry().follow(wanted).await?;
    let tasks = node.tasks().clone();
    node.tasks().spawn("live", async move {
        loop {
            let bytes = tokio::select! {
                record = follow.next() => match record {
                    Some(record) => event("log", &LogView::from(record)),
                    None => return,
                },
                // Whoever has gone without a word is found out by writing.
                () = tokio::time::sleep(BEAT) => Bytes::from_static(b":\n\n"),
                () = tasks.stopping() => return,
                () = records.closed() => return,
            };
            if records.send(bytes).await.is_err() {
                return;
            }
        }
    });
    Ok(events(queue))
}

fn parse(query: &LogsQuery) -> Result<Wanted, Problem> {
    let services = query.services.split(',').filter(|name| !name.is_empty());
    let services: Result<Vec<ServiceName>, _> = services.map(ServiceName::new).collect();
    let services = services.map_err(|error| refused(&error))?;
    let mut filter = filter(Kind::Logs, &query.q)?.of_services(&services);
    if let Some(since) = moment(query.since.as_deref())? {
        filter = filter.since(since);
    }
    if let Some(until) = moment(query.until.as_deref())? {
        filter = filter.until(until);
    }
    if let Some(grep) = &query.grep {
        filter = filter.matching(&regex::Regex::new(grep).map_err(|error| refused(&error))?);
    }
    if let Some(trace) = &query.trace {
        filter = filter.of_traces([parse_trace(trace)?]);
    }
    Ok(Wanted {
        filter,
        after: 0,
        tail: query.tail.map(|tail| tail.min(TAIL_MAX)),
    })
}

/// Reads a query; a mistake in it is told with its place.
pub(super) fn filter(kind: Kind, text: &str) -> Result<Filter, Problem> {
    Filter::parse(kind, text)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Reads a moment, if there is one.
pub(super) fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    text.map(str::parse)
        .transpose()
        .map_err(|error| refused(&error))
}

/// Reads the id of a trace.
pub(super) fn parse_trace(text: &str) -> Result<TraceId, Problem> {
    TraceId::parse(text.as_bytes())
        .ok_or_else(|| refused(&"a trace id is 32 lowercase hexadecimal digits"))
}

pub(super) fn refused(why: &dyn std::fmt::Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
}

#[cfg(test)]
mod tests {
    use atoll_base::{RevisionNumber, SpanId};
    use atoll_telemetry::{Level, LogRecord, Stream};

    use super::*;
    use crate::admin::document::document;

    #[test]
    fn lines_are_as_their_description_says() {
        let whole = LogRecord {
            number: 1,
            time: Timestamp::from_micros(1),
            service: ServiceName::new("orders").unwrap(),
            instance: "orders-r1-1".to_owned(),
            revision: RevisionNumber(1),
            stream: Stream::Stdout,
            level: Some(Level::Info),
            trace: Some(TraceId::parse(b"4bf92f3577b34da6a3ce929d0e0e4736").unwrap()),
            span: Some(SpanId::parse(b"00f067aa0ba902b7").unwrap()),
            attributes: "{}".to_owned(),
            continued: true,
            message: "paid".to_owned(),
        };
        let least = LogRecord {
            level: None,
            trace: None,
            span: None,
            attributes: String::new(),
            continued: false,
            ..whole.clone()
        };
        let schema = &document()["components"]["schemas"]["LogLine"];
        assert_eq!(schema["properties"]["level"]["type"], "string");
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort_unstable();
            keys
        };
        let told = |record: &LogRecord| keys(&serde_json::to_value(record).unwrap());
        assert_eq!(told(&whole), keys(&schema["properties"]));
        let mut required: Vec<String> = serde_json::from_value(schema["required"].clone()).unwrap();
        required.sort_unstable();
        assert_eq!(told(&least), required);
    }
}
