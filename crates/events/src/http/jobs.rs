//! `/jobs`: work is asked for, looked at, called off and tried anew.
//!
//! `POST /jobs/{queue}` takes a body of any content type, as it is, or one CloudEvent. It is answered
//! when the job is on disk, with 202 and its address; whoever sends the same with the same
//! `Idempotency-Key` again gets the same job. The event that the service gets has the id of the job,
//! unless it came with one of its own.
//!
//! Who may publish to the topic or reads it may look at its jobs; who may publish, may change them.

use atoll_base::{ServiceName, Timestamp};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::idempotency::Key;
use super::incoming::{self, About, PublishQuery};
use super::publish::{Asked, fresh_mark, read_body, unknown_caller};
use super::{Caller, DELIVER_AT, Problem, State};
use crate::cloudevents::Event;
use crate::jobs::{Filter, JobError, Jobs, NewJob, State as Stands, View};
use crate::record::NewRecord;

/// Says that the job was asked for before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// So many are listed, if nobody says how many.
const LISTED: u32 = 100;
/// More are not listed at once.
const LISTED_MAX: u32 = 1000;

/// Which jobs are listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    queue: Option<String>,
    state: Option<Wanted>,
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// A job, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    queue: String,
    state: &'static str,
    /// The attempt that runs, or so many that have failed.
    attempts: u32,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<ShownAnswer>,
}

/// What the service has answered.
#[derive(Debug, Serialize)]
struct ShownAnswer {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Instead of `body`, if that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// There was more of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

#[derive(Debug, Serialize)]
struct List {
    jobs: Vec<Shown>,
}

pub(super) async fn submit(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(queue) = path?;
    let Extension(caller) = caller.ok_or_else(unknown_caller)?;
    if !state.rights.may_publish(&caller.0, &queue) {
        let manifest = format!("[publish] topics = [\"{queue}\"]");
        let does = format!("publish to '{queue}', and so it has no jobs there");
        return Err(Problem::not_declared(&caller.0, &does, &manifest));
    }
    let Query(query) = query?;
    let jobs = jobs(&state)?;
    state.bus.partitions(&queue).await?;
    let (parts, body) = request.into_parts();
    let asked = Asked {
        body: read_body(body, state.limits.body_max.0).await?,
        headers: parts.headers,
        topic: queue,
        caller,
        query,
    };
    let key = Key::of(&asked.headers, &asked.caller, &asked.topic)?;
    let (id, record) = record(&state, &asked)?;
    let due = record.header(DELIVER_AT);
    let due = due.and_then(|at| std::str::from_utf8(at).ok()?.parse().ok());
    let new = NewJob {
        id,
        caller: asked.caller.0.clone(),
        key: key.map(|key| (key.key, asked.digest())),
        due,
        record,
    };
    let (view, known) = jobs.submit(new).await?;
    let location = format!("/jobs/{}", view.job.id);
    let mut response = (StatusCode::ACCEPTED, Json(Shown::of(view))).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(header::LOCATION, location);
    }
    if known {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

pub(super) async fn one(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let (_, view) = find(&state, caller, &id, Reach::Look).await?;
    Ok(Json(Shown::of(view)).into_response())
}

pub(super) async fn cancel(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let (jobs, view) = find(&state, caller, &id, Reach::Change).await?;
    let view = jobs.cancel(view.job.id).await?;
    Ok(Json(Shown::of(view)).into_response())
}

pub(super) async fn retry(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let (jobs, view) = find(&state, caller, &id, Reach::Change).await?;
    let view = jobs.retry(view.job.id).await?;
    Ok((StatusCode::ACCEPTED, Json(Shown::of(view))).into_response())
}

pub(super) async fn list(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Extension(Caller(caller)) = caller.ok_or_else(unknown_caller)?;
    let Query(query) = query?;
    let jobs = jobs(&state)?;
    let may = |queue: &String| reaches(&state, &caller, queue, Reach::Look);
    let queues = match query.queue {
        Some(queue) if may(&queue) => vec![queue],
        Some(queue) => {
            let manifest = format!("[publish] topics = [\"{queue}\"]");
            let does = format!("publish to '{queue}' and does not read it");
            return Err(Problem::not_declared(&caller, &does, &manifest));
        }
        None => jobs.names().into_iter().filter(may).collect(),
    };
    let (stands, running) = match query.state {
        None => (None, None),
        Some(Wanted::Queued) => (Some(Stands::Queued), Some(false)),
        Some(Wanted::Running) => (Some(Stands::Queued), Some(true)),
        Some(Wanted::Done) => (Some(Stands::Done), None),
        Some(Wanted::Failed) => (Some(Stands::Failed), None),
        Some(Wanted::Cancelled) => (Some(Stands::Cancelled), None),
    };
    let filter = Filter {
        queues: Some(queues),
        state: stands,
        running,
        before: None,
        limit: query.limit.unwrap_or(LISTED).clamp(1, LISTED_MAX),
    };
    let found = jobs.list(filter).await?;
    let jobs = found.into_iter().map(Shown::of).collect();
    Ok(Json(List { jobs }).into_response())
}

/// What somebody wants to do with a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Look,
    Change,
}

fn reaches(state: &State, caller: &ServiceName, queue: &str, reach: Reach) -> bool {
    let rights = &state.rights;
    rights.may_publish(caller, queue) || (reach == Reach::Look && rights.may_read(caller, queue))
}

/// A job that the caller may reach. To others it is not there.
async fn find<'a>(
    state: &'a State,
    caller: Option<Extension<Caller>>,
    id: &str,
    reach: Reach,
) -> Result<(&'a Jobs, View), Problem> {
    let Extension(Caller(caller)) = caller.ok_or_else(unknown_caller)?;
    let jobs = jobs(state)?;
    let none = || {
        let detail = format!("there is no job {id}; finished jobs are kept for 7 days");
        Problem::new(StatusCode::NOT_FOUND, detail)
    };
    let id: Uuid = id.parse().map_err(|_| none())?;
    let view = match jobs.one(id).await {
        Err(JobError::NotFound(_)) => return Err(none()),
        found => found?,
    };
    if !reaches(state, &caller, &view.job.queue, Reach::Look) {
        return Err(none());
    }
    if !reaches(state, &caller, &view.job.queue, reach) {
        let queue = &view.job.queue;
        let manifest = format!("[publish] topics = [\"{queue}\"]");
        let does = format!("publish to '{queue}', and so it cannot change its jobs");
        return Err(Problem::not_declared(&caller, &does, &manifest));
    }
    Ok((jobs, view))
}

fn jobs(state: &State) -> Result<&Jobs, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "there are no jobs here");
    state.jobs.as_ref().ok_or_else(none)
}

/// The job's id and its record, held against the schema of the topic.
fn record(state: &State, asked: &Asked) -> Result<(Uuid, NewRecord), Problem> {
    let id = fresh_mark()?;
    let event = if is_event(&asked.headers) {
        let events = asked.events(state, id)?;
        let [event] = <[Event; 1]>::try_from(events)
            .map_err(|_| Problem::bad("a job is one event; send a request for each"))?;
        event
    } else {
        let about = About {
            topic: &asked.topic,
            caller: &asked.caller.0,
            mark: id,
            now: atoll_base::Timestamp::now(),
        };
        incoming::as_it_is(&asked.headers, &asked.body, about)?
    };
    let events = [event];
    asked.check(state, &events)?;
    let record = asked.records(&events)?.into_iter().next();
    let none = || Problem::bad("a job is one event; send a request for each");
    Ok((id, record.ok_or_else(none)?))
}

fn is_event(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let structured = kind.to_ascii_lowercase();
    headers.contains_key("ce-specversion") || structured.starts_with("application/cloudevents")
}

impl Shown {
    fn of(view: View) -> Self {
        let View { job, running } = view;
        let answer = job.answer.map(|answer| {
            let text = std::str::from_utf8(&answer.body).map(str::to_owned).ok();
            ShownAnswer {
                status: answer.status,
                content_type: answer.content_type,
                body_base64: text.is_none().then(|| STANDARD.encode(&answer.body)),
                body: text,
                cut: answer.cut,
            }
        });
        Self {
            id: job.id.to_string(),
            queue: job.queue,
            state: running.map_or(job.state.as_str(), |_| "running"),
            attempts: job.attempts + u32::from(running.is_some() || job.state == Stands::Done),
            created: job.created,
            due: job.due,
            started: running.or(job.started),
            finished: job.finished,
            reason: job.reason,
            answer,
        }
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        let text = error.to_string();
        match error {
            JobError::NoQueue(_) | JobError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, text),
            JobError::NotOne { .. } | JobError::Batches(_) | JobError::State(..) => {
                Self::new(StatusCode::CONFLICT, text)
            }
            JobError::Reused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text),
            JobError::Full(_) => Self::later(StatusCode::TOO_MANY_REQUESTS, 10, text),
            JobError::Bus(error) => error.into(),
            JobError::Store(error) => {
                tracing::warn!(%error, "jobs cannot be kept");
                let detail = "the state of the node cannot be used, so jobs cannot be kept; nothing \
                              is taken until that works again";
                Self::later(StatusCode::SERVICE_UNAVAILABLE, 10, detail)
            }
        }
    }
}
