//! Topics and subscriptions, over the API.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp};
use atoll_console::Note;
use atoll_events::bus::{Bus, BusError, Ends};
use atoll_events::record::{DELIVER_AT, Header, NewRecord, Record};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::lines::{line, ndjson};
use super::types::Problem;
use crate::node::{Node, Topics};

/// Records that may wait for a slow reader.
const QUEUE_LENGTH: usize = 256;
/// Records are read in pieces of this size.
const READ_BYTES: usize = 1 << 20;
/// How often it is looked whether partitions have something new.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A topic.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many records are kept, about: marks of transactions count too.
    pub records: i64,
    /// How much they take on disk.
    pub bytes: u64,
    /// The services that may publish to it.
    pub publishers: Vec<String>,
    /// The services that may read it.
    pub readers: Vec<String>,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its time (RFC 3339).
    #[schema(format = DateTime)]
    pub time: Option<String>,
    /// Its key.
    pub key: Option<Text>,
    /// Its value.
    pub value: Option<Text>,
    /// Its headers; names may repeat.
    pub headers: Vec<(String, Option<Text>)>,
}

/// Bytes: as text if they are, else in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Text {
    /// Text.
    Plain(String),
    /// What is no text.
    Bytes {
        /// The bytes in base64.
        base64: String,
    },
}

/// A record to be published.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRecordView {
    /// Its key.
    #[serde(default)]
    pub key: Option<Text>,
    /// Its value.
    #[serde(default)]
    pub value: Option<Text>,
    /// Its headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Subscriptions get it then, not before (RFC 3339).
    #[serde(default)]
    pub deliver_at: Option<String>,
}

/// Where a record stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlaceView {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// A subscription, or a consumer group and a topic that it reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ReaderView {
    /// The service, or the consumer group.
    pub name: String,
    /// Whether records are pushed to it.
    pub pushed: bool,
    /// The topic.
    pub topic: String,
    /// Records that it has not done.
    pub lag: i64,
    /// The same for each partition that it reads, by their numbers.
    pub lags: Vec<LagView>,
    /// Requests under way.
    pub in_flight: usize,
    /// Keys whose first record has failed and waits for its next attempt.
    pub failing: usize,
    /// Nobody answers; it is tried again then (RFC 3339).
    #[schema(format = DateTime)]
    pub paused_until: Option<String>,
    /// Records taken since the node was started.
    pub taken: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Records given up: dead letters.
    pub dead: u64,
    /// The last failure.
    pub trouble: Option<String>,
    /// When that was (RFC 3339).
    #[schema(format = DateTime)]
    pub trouble_at: Option<String>,
}

/// How far behind a reader is in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LagView {
    /// Which.
    pub partition: i32,
    /// Records that it has not done.
    pub lag: i64,
}

/// A partition of a topic.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// The first offset that is kept.
    pub start: i64,
    /// The offset that the next record gets.
    pub end: i64,
}

/// From where on records are delivered again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    /// Those published at this moment or later (RFC 3339).
    pub from: String,
}

/// What is delivered again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// So many records, about.
    pub records: u64,
}

/// Which records of a topic are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
pub struct RecordsQuery {
    /// Those published at this moment or later (RFC 3339).
    pub from: Option<String>,
    /// The last so many of each partition. Without `from` the default is 10.
    pub tail: Option<i64>,
    /// Stay, and send records as they come.
    #[serde(default)]
    pub follow: bool,
}

impl Text {
    /// Of these bytes.
    pub fn of(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Bytes {
                base64: STANDARD.encode(bytes),
            },
        }
    }

    /// The bytes.
    pub fn bytes(self) -> Result<Bytes, Problem> {
        match self {
            Self::Plain(text) => Ok(text.into()),
            Self::Bytes { base64 } => match STANDARD.decode(base64) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(refused(format!("`base64` is none: {error}"))),
            },
        }
    }
}

impl RecordView {
    fn of(record: &Record) -> Self {
        let text = |bytes: &Option<Bytes>| bytes.as_ref().map(Text::of);
        let time =
            (record.time >= 0).then(|| Timestamp::from_micros(record.time.saturating_mul(1000)));
        let headers = record.headers.iter();
        Self {
            partition: record.place.partition,
            offset: record.place.offset,
            time: time.map(|time| time.to_string()),
            key: text(&record.key),
            value: text(&record.value),
            headers: headers
                .map(|own| (own.name.clone(), text(&own.value)))
                .collect(),
        }
    }
}

/// The topics, by name.
#[utoipa::path(
    get, path = "/v1/topics",
    responses((status = 200, body = [TopicView]), (status = 503, body = Problem))
)]
pub async fn topics(State(node): State<Arc<Node>>) -> Result<Json<Vec<TopicView>>, Problem> {
    // Without `[events]` there are none.
    let Some(desk) = node.topics() else {
        return Ok(Json(Vec::new()));
    };
    Ok(Json(desk.views().await?))
}

/// The partitions of a topic, by their numbers.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/partitions", params(("topic" = String, Path)),
    responses(
        (status = 200, body = [PartitionView]), (status = 404, body = Problem), (status = 503, body = Problem)
    )
)]
pub async fn partitions(
    State(node): State<Arc<Node>>,
    Path(topic): Path<String>,
) -> Result<Json<Vec<PartitionView>>, Problem> {
    let bus = desk(&node)?.bus();
    let mut views = Vec::new();
    for partition in 0..bus.partitions(&topic).await? {
        let Ends { start, end } = bus.ends(&topic, partition).await?;
        views.push(PartitionView {
            partition,
            start,
            end,
        });
    }
    Ok(Json(views))
}

/// Publishes a record.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/records", params(("topic" = String, Path)),
    request_body = NewRecordView,
    responses(
        (status = 200, body = PlaceView), (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
pub async fn publish(
    State(node): State<Arc<Node>>,
    Path(topic): Path<String>,
    Json(new): Json<NewRecordView>,
) -> Result<Json<PlaceView>, Problem> {
    let desk = desk(&node)?;
    let mut record = NewRecord::new(topic);
    record.key = new.key.map(Text::bytes).transpose()?;
    record.value = new.value.map(Text::bytes).transpose()?;
    let headers = new.headers.into_iter();
    record.headers = headers
        .map(|(name, value)| Header::text(name, value))
        .collect();
    if let Some(at) = new.deliver_at {
        let at: Timestamp = at
            .parse()
            .map_err(|error| refused(format!("`deliver_at`: {error}")))?;
        record
            .headers
            .push(Header::text(DELIVER_AT, at.to_string()));
    }
    desk.bus().check(&record)?;
    let mut places = desk.bus().publish(vec![record]).await?;
    let place = places
        .pop()
        .ok_or_else(|| refused("nothing was published"))?;
    Ok(Json(PlaceView {
        topic: place.topic.to_string(),
        partition: place.partition,
        offset: place.offset,
    }))
}

/// Records of a topic, one JSON object a line (`application/x-ndjson`), partition by partition.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/records", params(("topic" = String, Path), RecordsQuery),
    responses(
        (status = 200, description = "Records, one a line", body = RecordView, content_type = "application/x-ndjson"),
        (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
pub async fn records(
    State(node): State<Arc<Node>>,
    Path(topic): Path<String>,
    Query(query): Query<RecordsQuery>,
) -> Result<Response, Problem> {
    let desk = desk(&node)?;
    let from: Option<Timestamp> = query.from.as_deref().map(str::parse).transpose().map_err(
        |error: <Timestamp as std::str::FromStr>::Err| refused(format!("`from`: {error}")),
    )?;
    let bus = Arc::clone(desk.bus());
    let mut places = Vec::new();
    for partition in 0..bus.partitions(&topic).await? {
        let ends = bus.ends(&topic, partition).await?;
        let begin = begin(&*bus, (&topic, partition), ends, from, query.tail).await?;
        places.push((partition, begin, ends.end));
    }
    let (lines, queue) = mpsc::channel::<Bytes>(QUEUE_LENGTH);
    let tasks = node.tasks().clone();
    node.tasks().spawn("tail", async move {
        tokio::select! {
            () = send(&*bus, &topic, places, query.follow, &lines) => {}
            () = tasks.stopping() => {}
        }
    });
    Ok(ndjson(queue))
}

/// Who reads, and how far behind they are: subscriptions first, then consumer groups.
#[utoipa::path(
    get, path = "/v1/readers",
    responses((status = 200, body = [ReaderView]), (status = 503, body = Problem))
)]
pub async fn readers(State(node): State<Arc<Node>>) -> Result<Json<Vec<ReaderView>>, Problem> {
    let Some(desk) = node.topics() else {
        return Ok(Json(Vec::new()));
    };
    let mut views: Vec<ReaderView> = desk
        .pushes()
        .views()
        .await
        .into_iter()
        .map(pushed)
        .collect();
    views.extend(desk.groups().await?);
    Ok(Json(views))
}

/// Delivers records again to one subscription. Others see nothing of it.
#[utoipa::path(
    post, path = "/v1/readers/{service}/{topic}/replay",
    params(("service" = String, Path), ("topic" = String, Path)), request_body = ReplayOrder,
    responses(
        (status = 200, body = Replayed), (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
pub async fn replay(
    State(node): State<Arc<Node>>,
    Path((service, topic)): Path<(String, String)>,
    Extension(note): Extension<Note>,
    Json(order): Json<ReplayOrder>,
) -> Result<Json<Replayed>, Problem> {
    note.write(&format!("deliver again from {}", order.from));
    let desk = desk(&node)?;
    let service = ServiceName::new(&service).map_err(|error| refused(error.to_string()))?;
    let from: Timestamp = order
        .from
        .parse()
        .map_err(|error| refused(format!("`from`: {error}")))?;
    let time = from.as_micros() / 1000;
    let records = desk.pushes().replay(&service, &topic, time).await?;
    Ok(Json(Replayed { records }))
}

/// What the node has of topics.
pub(super) fn desk(node: &Node) -> Result<&Arc<Topics>, Problem> {
    node.topics().ok_or_else(|| {
        let detail =
            "this application has no topics; add `[events]` to atoll.toml and start it again";
        Problem::new(StatusCode::CONFLICT, detail)
    })
}

pub(super) fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

async fn begin(
    bus: &dyn Bus,
    (topic, partition): (&str, i32),
    ends: Ends,
    from: Option<Timestamp>,
    tail: Option<i64>,
) -> Result<i64, BusError> {
    let since = match from {
        Some(from) => {
            let found = bus
                .offset_at(topic, partition, from.as_micros() / 1000)
                .await?;
            found.unwrap_or(ends.end)
        }
        None => ends.start,
    };
    let tail = tail.or_else(|| from.is_none().then_some(10));
    let last = tail.map_or(ends.start, |tail| ends.end.saturating_sub(tail.max(0)));
    Ok(since.max(last).max(ends.start))
}

/// Sends what is there; then, if asked to, what comes.
async fn send(
    bus: &dyn Bus,
    topic: &str,
    mut places: Vec<(i32, i64, i64)>,
    follow: bool,
    lines: &mpsc::Sender<Bytes>,
) {
    loop {
        for (partition, at, end) in &mut places {
            while follow || at < end {
                let chunk = match bus.read(topic, *partition, *at, READ_BYTES).await {
                    Ok(chunk) => chunk,
                    Err(BusError::Gone { start, .. }) if start > *at => {
                        *at = start;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(topic, %error, "a topic cannot be read on");
                        return;
                    }
                };
                if chunk.next <= *at {
                    break;
                }
                *at = chunk.next;
                for record in &chunk.records {
                    if lines.send(line(&RecordView::of(record))).await.is_err() {
                        return;
                    }
                }
            }
        }
        if !follow {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = lines.closed() => return,
        }
    }
}

impl ReaderView {
    /// One that is so far behind in these partitions.
    pub(crate) fn behind(name: &str, topic: &str, mut lags: Vec<LagView>) -> Self {
        lags.sort_by_key(|own| own.partition);
        Self {
            name: name.to_owned(),
            topic: topic.to_owned(),
            lag: lags.iter().map(|own| own.lag).sum(),
            lags,
            ..Self::default()
        }
    }
}

fn pushed(view: atoll_events::push::View) -> ReaderView {
    let lags = view.lags.into_iter();
    let lags = lags.map(|(partition, lag)| LagView { partition, lag });
    let (trouble, trouble_at) = view.trouble.unzip();
    ReaderView {
        pushed: true,
        in_flight: view.in_flight,
        failing: view.failing,
        paused_until: view.paused_until.map(|at| at.to_string()),
        taken: view.taken,
        failed: view.failed,
        dead: view.buried,
        trouble,
        trouble_at: trouble_at.map(|at| at.to_string()),
        ..ReaderView::behind(view.service.as_str(), &view.topic, lags.collect())
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        let status = match &error {
            BusError::NoTopic(_) | BusError::NoPartition { .. } => StatusCode::NOT_FOUND,
            BusError::Gone { .. } => StatusCode::GONE,
            BusError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            BusError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let detail = match &error {
            BusError::NoTopic(_) => {
                format!("{error}; `atoll events topics` shows those that there are")
            }
            _ => error.to_string(),
        };
        Self::new(status, detail)
    }
}
