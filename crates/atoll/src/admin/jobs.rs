//! Jobs and outboxes, over the API: what services have asked for, and what they publish from their
//! databases.
//!
//! A service reaches its own jobs at `EVENTS_URL`; here is what an operator sees, of all services.

use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_events::jobs::{Filter, JobError, State as Stands, View};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::events::{Text, desk, refused};
use super::extract::{Json, Path, Query};
use super::types::Problem;
use crate::node::Node;

/// So many are listed, if nobody says how many.
const LISTED: u32 = 100;
/// More are not listed at once.
const LISTED_MAX: u32 = 10_000;

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its first attempt, or the next.
    Queued,
    /// An attempt is under way.
    Running,
    /// The service has taken it.
    Done,
    /// It was given up.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    pub id: String,
    /// The topic that it is a record of.
    pub queue: String,
    /// Who does it.
    pub service: String,
    /// Who asked for it.
    pub caller: String,
    /// How it stands.
    pub state: JobState,
    /// The attempt that runs, or so many that were made.
    pub attempts: u32,
    /// When it was asked for (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// It does not run before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due: Option<Timestamp>,
    /// When its last attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished: Option<Timestamp>,
    /// The last failure.
    pub reason: Option<String>,
    /// What the service has answered.
    pub answer: Option<AnswerView>,
}

/// What a service has answered.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    /// The status.
    pub status: u16,
    /// The type of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Text,
    /// There was more of it.
    pub cut: bool,
}

/// Which jobs are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
pub struct JobsQuery {
    /// Those of this queue.
    pub queue: Option<String>,
    /// Those that stand so: `queued`, `running`, `done`, `failed` or `cancelled`.
    #[param(inline)]
    pub state: Option<JobState>,
    /// Those that were asked for before the job with this id: the next page.
    pub before: Option<String>,
    /// So many at most, the newest; up to 10,000. Default 100.
    pub limit: Option<u32>,
}

/// The outbox of a service.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OutboxView {
    /// Whose it is.
    pub service: String,
    /// Its table.
    pub table: String,
    /// Rows published since the node was started.
    pub published: u64,
    /// Rows that are refused: each holds back those of its key.
    pub refused: usize,
    /// Rows that wait behind these.
    pub waiting: usize,
    /// What is wrong.
    pub trouble: Option<String>,
    /// Since when (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub trouble_since: Option<Timestamp>,
}

/// Jobs, the newest first.
#[utoipa::path(
    get, path = "/v1/jobs", params(JobsQuery),
    responses(
        (status = 200, body = [JobView]), (status = 404, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)
    )
)]
pub async fn list(
    State(node): State<Arc<Node>>,
    Query(query): Query<JobsQuery>,
) -> Result<Json<Vec<JobView>>, Problem> {
    let Some(desk) = node.topics() else {
        return Ok(Json(Vec::new()));
    };
    let (state, running) = query.state.map_or((None, None), JobState::asked);
    let filter = Filter {
        queues: query.queue.map(|queue| vec![queue]),
        state,
        running,
        before: query.before.as_deref().map(name).transpose()?,
        limit: query.limit.unwrap_or(LISTED).clamp(1, LISTED_MAX),
    };
    let jobs = desk.jobs().list(filter).await?;
    Ok(Json(jobs.into_iter().map(JobView::from).collect()))
}

/// One job.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = 404, body = Problem))
)]
pub async fn one(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let job = desk(&node)?.jobs().one(name(&id)?).await?;
    Ok(Json(job.into()))
}

/// Calls a job off.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", params(("id" = String, Path)),
    responses(
        (status = 200, body = JobView), (status = 404, body = Problem), (status = 409, body = Problem)
    )
)]
pub async fn cancel(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let job = desk(&node)?.jobs().cancel(name(&id)?).await?;
    Ok(Json(job.into()))
}

/// Tries a job anew that has failed or was cancelled.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/retry", params(("id" = String, Path)),
    responses(
        (status = 200, body = JobView), (status = 404, body = Problem), (status = 409, body = Problem)
    )
)]
pub async fn retry(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let job = desk(&node)?.jobs().retry(name(&id)?).await?;
    Ok(Json(job.into()))
}

/// The outboxes of services that run.
#[utoipa::path(get, path = "/v1/outboxes", responses((status = 200, body = [OutboxView])))]
pub async fn outboxes(State(node): State<Arc<Node>>) -> Json<Vec<OutboxView>> {
    let views = node.topics().map(|desk| desk.outboxes().views());
    let views = views.unwrap_or_default().into_iter().map(|view| {
        let (trouble, trouble_since) = view.trouble.unzip();
        OutboxView {
            service: view.service.to_string(),
            table: view.table,
            published: view.published,
            refused: view.refused,
            waiting: view.waiting,
            trouble,
            trouble_since,
        }
    });
    Json(views.collect())
}

impl JobState {
    /// As the word in manifests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What is asked of the jobs: a state, and whether they run. One that runs is still queued there.
    fn asked(self) -> (Option<Stands>, Option<bool>) {
        match self {
            Self::Queued => (Some(Stands::Queued), Some(false)),
            Self::Running => (Some(Stands::Queued), Some(true)),
            Self::Done => (Some(Stands::Done), None),
            Self::Failed => (Some(Stands::Failed), None),
            Self::Cancelled => (Some(Stands::Cancelled), None),
        }
    }
}

impl From<View> for JobView {
    fn from(View { job, running }: View) -> Self {
        let state = match job.state {
            Stands::Queued if running.is_some() => JobState::Running,
            Stands::Queued => JobState::Queued,
            Stands::Done => JobState::Done,
            Stands::Failed => JobState::Failed,
            Stands::Cancelled => JobState::Cancelled,
        };
        let under_way = matches!(state, JobState::Running | JobState::Done);
        Self {
            id: job.id.to_string(),
            queue: job.queue,
            service: job.service.to_string(),
            caller: job.caller.to_string(),
            state,
            attempts: job.attempts + u32::from(under_way),
            created: job.created,
            due: job.due,
            started: running.or(job.started),
            finished: job.finished,
            reason: job.reason,
            answer: job.answer.map(|answer| AnswerView {
                status: answer.status,
                content_type: answer.content_type,
                body: Text::of(&answer.body),
                cut: answer.cut,
            }),
        }
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        let text = error.to_string();
        match error {
            JobError::NotFound(_) | JobError::NoQueue(_) => Self::new(StatusCode::NOT_FOUND, text),
            JobError::Bus(error) => error.into(),
            JobError::Store(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, text),
            _ => Self::new(StatusCode::CONFLICT, text),
        }
    }
}

fn name(id: &str) -> Result<Uuid, Problem> {
    let read = id.parse();
    read.map_err(|_| {
        refused(format!(
            "'{id}' is no job's id; `atoll events jobs list` shows them"
        ))
    })
}
