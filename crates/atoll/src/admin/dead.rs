//! Dead letters, over the API.

use std::sync::Arc;

use atoll_base::{ServiceName, Timestamp};
use atoll_console::Note;
use atoll_events::dead::{DeadError, Filter, LISTED_MAX, Letter, LetterId, Page, Redrive, Step};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::events::{Text, desk, refused};
use super::extract::{Json, Path, Query};
use super::lines::{line, ndjson};
use super::types::Problem;
use crate::node::Node;

/// Outcomes that may wait for a slow reader.
const QUEUE_LENGTH: usize = 16;
/// Letters of a page, if nobody says how many.
const PAGE: usize = 1_000;

/// A dead letter: a record that a subscription has given up.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LetterView {
    /// `SERVICE/TOPIC/NUMBER`.
    pub id: String,
    /// The service that did not take it.
    pub service: String,
    /// The topic that it came from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Where it was posted to.
    pub path: String,
    /// When it was given up (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub died: Timestamp,
    /// How often it was tried, until it died the last time.
    pub attempts: u32,
    /// How often its record died: it was delivered again in between.
    pub deaths: u32,
    /// What happened the last time.
    pub reason: String,
    /// The beginning of the last answer, if there was one.
    pub answer: Option<String>,
    /// The trace of all attempts.
    pub trace: String,
    /// The same for all letters that died of the same.
    pub group: String,
    /// Its key.
    pub key: Option<Text>,
    /// Its value; that of the edited copy, if there is one.
    pub value: Option<Text>,
    /// Whether the value was edited.
    pub edited: bool,
    /// Its headers.
    pub headers: Vec<(String, Option<Text>)>,
}

/// Which letters are meant.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema, IntoParams)]
pub struct LettersQuery {
    /// Those of this service.
    pub service: Option<String>,
    /// Those that came from this topic.
    pub topic: Option<String>,
    /// Those that died of this.
    pub group: Option<String>,
}

/// Which part of the letters is wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
pub struct PageQuery {
    /// Those after this letter: `next` of the page before.
    pub after: Option<String>,
    /// So many at most, up to 10,000. Default 1,000.
    pub limit: Option<usize>,
}

/// Letters, oldest first, by service and topic.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct LettersPage {
    /// The letters.
    pub letters: Vec<LetterView>,
    /// There are more, `after` this one.
    pub next: Option<String>,
}

/// A value for an edited copy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The value.
    pub value: Text,
}

/// Letters to be dropped.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DropOrder {
    /// Their names.
    pub ids: Vec<String>,
}

/// Letters to be tried again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveOrder {
    /// Their names; if there are none, all that `which` describes.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Without `ids` and `which`: all.
    #[serde(default)]
    pub all: bool,
    /// Without `ids`: which.
    #[serde(default)]
    pub which: LettersQuery,
    /// Letters in a second, at most. Default 10.
    #[serde(default = "rate")]
    pub rate: f64,
    /// After so many failures in a row it stops. Default 3.
    #[serde(default = "stop_after")]
    pub stop_after: u32,
}

/// What became of a letter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum StepView {
    /// The service has taken it.
    Taken {
        /// Which.
        id: String,
    },
    /// It failed again.
    Failed {
        /// Which.
        id: String,
        /// Why.
        reason: String,
    },
    /// Too many failed in a row.
    Stopped {
        /// So many were not tried.
        left: usize,
    },
}

/// The open dead letters.
#[utoipa::path(
    get, path = "/v1/dead", params(LettersQuery, PageQuery),
    responses((status = 200, body = LettersPage), (status = 422, body = Problem))
)]
pub async fn list(
    State(node): State<Arc<Node>>,
    Query(query): Query<LettersQuery>,
    Query(part): Query<PageQuery>,
) -> Result<Json<LettersPage>, Problem> {
    let Some(desk) = node.topics() else {
        return Ok(Json(LettersPage::default()));
    };
    let after = part.after.as_deref().map(name).transpose()?;
    let limit = part.limit.unwrap_or(PAGE);
    let filter = filter(query)?;
    let page = desk.letters().page(&filter, after.as_ref(), limit).await?;
    Ok(Json(LettersPage {
        letters: page.letters.into_iter().map(LetterView::from).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

/// One dead letter.
#[utoipa::path(
    get, path = "/v1/dead/{service}/{topic}/{number}",
    params(("service" = String, Path), ("topic" = String, Path), ("number" = i64, Path)),
    responses((status = 200, body = LetterView), (status = 404, body = Problem))
)]
pub async fn one(
    State(node): State<Arc<Node>>,
    Path((service, topic, number)): Path<(String, String, String)>,
) -> Result<Json<LetterView>, Problem> {
    let id = name(&format!("{service}/{topic}/{number}"))?;
    Ok(Json(desk(&node)?.letters().one(&id).await?.into()))
}

/// Puts another value in its place for the next try.
#[utoipa::path(
    post, path = "/v1/dead/{service}/{topic}/{number}/edit",
    params(("service" = String, Path), ("topic" = String, Path), ("number" = i64, Path)),
    request_body = Edit,
    responses((status = 200, body = LetterView), (status = 404, body = Problem))
)]
pub async fn edit(
    State(node): State<Arc<Node>>,
    Path((service, topic, number)): Path<(String, String, String)>,
    Json(edit): Json<Edit>,
) -> Result<Json<LetterView>, Problem> {
    let id = name(&format!("{service}/{topic}/{number}"))?;
    let letters = desk(&node)?.letters();
    letters.edit(&id, edit.value.bytes()?).await?;
    Ok(Json(letters.one(&id).await?.into()))
}

/// Puts letters aside for good.
#[utoipa::path(
    post, path = "/v1/dead/drop", request_body = DropOrder,
    responses((status = 204, description = "They are closed"), (status = 404, body = Problem))
)]
pub async fn drop(
    State(node): State<Arc<Node>>,
    Extension(note): Extension<Note>,
    Json(order): Json<DropOrder>,
) -> Result<StatusCode, Problem> {
    note.write(&format!("drop {}", named(&order.ids)));
    let ids: Result<Vec<_>, _> = order.ids.iter().map(|id| name(id)).collect();
    desk(&node)?.letters().drop(&ids?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries letters again, and tells of each, one JSON object a line. It ends when nobody listens.
#[utoipa::path(
    post, path = "/v1/dead/redrive", request_body = RedriveOrder,
    responses(
        (status = 200, description = "Outcomes, one a line", body = StepView, content_type = "application/x-ndjson"),
        (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
pub async fn redrive(
    State(node): State<Arc<Node>>,
    Extension(note): Extension<Note>,
    Json(order): Json<RedriveOrder>,
) -> Result<Response, Problem> {
    note.write(&format!("redrive {}", order.words()));
    if !(order.rate > 0.0 && order.rate <= 10_000.0) {
        return Err(refused("`rate` is more than 0 and at most 10000"));
    }
    let named = [&order.which.service, &order.which.topic, &order.which.group];
    if order.ids.is_empty() && !order.all && named.iter().all(|own| own.is_none()) {
        return Err(refused("say which letters: `ids`, `which`, or `all`"));
    }
    let letters = desk(&node)?.letters().clone();
    let filter = filter(order.which)?;
    let mut chosen = Page::default();
    for id in &order.ids {
        chosen.letters.push(letters.one(&name(id)?).await?);
    }
    if order.ids.is_empty() {
        chosen = letters.page(&filter, None, LISTED_MAX).await?;
    }
    let how = Redrive {
        rate: order.rate,
        stop_after: order.stop_after,
    };
    let (told, mut steps) = mpsc::channel(QUEUE_LENGTH);
    let (lines, queue) = mpsc::channel(QUEUE_LENGTH);
    let tasks = node.tasks().clone();
    node.tasks().spawn("redrive", async move {
        let passing = async {
            while let Some(step) = steps.recv().await {
                if lines.send(line(&StepView::from(step))).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = async { tokio::join!(letters.redrive(chosen, filter, how, told), passing); } => {}
            () = tasks.stopping() => {}
        }
    });
    Ok(ndjson(queue))
}

impl From<Letter> for LetterView {
    fn from(letter: Letter) -> Self {
        let text = |bytes: Option<axum::body::Bytes>| bytes.as_ref().map(Text::of);
        let headers = letter.headers.into_iter();
        Self {
            id: letter.id.to_string(),
            service: letter.id.service.to_string(),
            topic: letter.id.topic,
            partition: letter.partition,
            offset: letter.offset,
            path: letter.path,
            died: letter.died,
            attempts: letter.attempts,
            deaths: letter.deaths,
            reason: letter.reason,
            answer: letter.answer,
            trace: letter.trace,
            group: letter.group,
            key: text(letter.key),
            value: text(letter.value),
            edited: letter.edited,
            headers: headers.map(|own| (own.name, text(own.value))).collect(),
        }
    }
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        match step {
            Step::Taken(id) => Self::Taken { id: id.to_string() },
            Step::Failed(id, reason) => Self::Failed {
                id: id.to_string(),
                reason,
            },
            Step::Stopped(left) => Self::Stopped { left },
        }
    }
}

impl From<DeadError> for Problem {
    fn from(error: DeadError) -> Self {
        match error {
            DeadError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            DeadError::Bus(error) => error.into(),
            DeadError::Store(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl RedriveOrder {
    /// For the audit log.
    fn words(&self) -> String {
        if !self.ids.is_empty() {
            return named(&self.ids);
        }
        let which = &self.which;
        let parts = [
            ("service", &which.service),
            ("topic", &which.topic),
            ("group", &which.group),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() {
            return "all letters".to_owned();
        }
        format!("letters of {}", parts.join(", "))
    }
}

/// So many letters, and which; for the audit log.
fn named(ids: &[String]) -> String {
    let letters = if ids.len() == 1 { "letter" } else { "letters" };
    format!("{} {letters}: {}", ids.len(), ids.join(", "))
}

fn name(text: &str) -> Result<LetterId, Problem> {
    text.parse().map_err(|error: String| refused(error))
}

fn filter(query: LettersQuery) -> Result<Filter, Problem> {
    let service = query.service.as_deref().map(ServiceName::new).transpose();
    Ok(Filter {
        service: service.map_err(|error| refused(error.to_string()))?,
        topic: query.topic,
        group: query.group,
    })
}

fn rate() -> f64 {
    Redrive::default().rate
}

fn stop_after() -> u32 {
    Redrive::default().stop_after
}
