//! `POST /topics/{topic}`: one event, many, or anything at all.

use atoll_base::{Timestamp, clock};
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::idempotency::{self, Found, Held, Key};
use super::incoming::{self, About, PublishQuery};
use super::{Caller, IDEMPOTENCY, Problem, State};
use crate::bus::{Bus, BusError};
use crate::cloudevents::Event;
use crate::record::{Header, NewRecord, Place};

/// Says that the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Where the events are now.
#[derive(Debug, Serialize)]
struct Published {
    records: Vec<PublishedRecord>,
}

#[derive(Debug, Serialize)]
struct PublishedRecord {
    id: String,
    topic: String,
    partition: i32,
    offset: i64,
}

pub(super) async fn publish(
    Shared(state): Shared<State>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    let Extension(Caller(caller)) = caller.ok_or_else(unknown_caller)?;
    if !state.rights.may_publish(&caller, &topic) {
        let manifest = format!("[publish] topics = [\"{topic}\"]");
        let does = format!("publish to '{topic}'");
        return Err(Problem::not_declared(&caller, &does, &manifest));
    }
    let Query(query) = query?;
    state.bus.partitions(&topic).await?;
    let (parts, body) = request.into_parts();
    let body = read_body(body, state.limits.body_max.0).await?;
    let asked = Asked {
        caller: Caller(caller),
        topic,
        query,
        headers: parts.headers,
        body,
    };
    match Key::of(&asked.headers, &asked.caller, &asked.topic)? {
        None => publish_once(&state, &asked).await,
        Some(key) => publish_by_key(&state, asked, key).await,
    }
}

/// A request that is allowed and was read.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) topic: String,
    pub(super) query: PublishQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Without a key: what is sent twice is there twice.
async fn publish_once(state: &State, asked: &Asked) -> Result<Response, Problem> {
    let mark = fresh_mark()?;
    let events = asked.events(state, mark)?;
    asked.check(state, &events)?;
    let records = asked.records(&events)?;
    let places = state.bus.publish(records).await?;
    Ok(answer(&events, places, false))
}

/// With a key: what is sent twice is there once, and answered twice.
async fn publish_by_key(state: &State, asked: Asked, key: Key) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let held = state.idempotency.hold(&key)?;
    let digest = asked.digest();
    let found = state.idempotency.find(&key, now).await?;
    if found.as_ref().is_some_and(|found| found.digest != digest) {
        let detail = "the Idempotency-Key was used within 24 hours for another request to this topic; \
                      send a new key with a new request, and the same request with the same key";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let mark = match &found {
        Some(found) => found.mark,
        None => fresh_mark()?,
    };
    let events = asked.events(state, mark)?;
    if let Some(places) = found.as_ref().and_then(|found| found.places(&asked.topic)) {
        return Ok(answer(&events, places, true));
    }
    asked.check(state, &events)?;
    let mut records = asked.records(&events)?;
    for (index, record) in records.iter_mut().enumerate() {
        let header = idempotency::header(mark, index);
        record.headers.push(Header::text(IDEMPOTENCY, header));
    }
    let began = match &found {
        Some(Found { began, .. }) => Some(*began),
        None => {
            state.idempotency.begin(&key, mark, digest, now).await?;
            None
        }
    };
    let work = Work {
        state: state.clone(),
        held,
        key,
        mark,
        began,
        records,
    };
    // Not given up when the client goes: what is half done would have to be looked for.
    let (done, outcome) = oneshot::channel();
    state.tasks.spawn("publish", async move {
        let _ = done.send(work.run().await);
    });
    let (places, replayed) = outcome.await.map_err(|_| stopping())??;
    Ok(answer(&events, places, replayed))
}

/// The part of a publication with a key that runs to its end.
struct Work {
    state: State,
    /// The key is busy until this is dropped.
    held: Held,
    key: Key,
    mark: Uuid,
    /// When an earlier request with the key began, of which nobody knows how it ended.
    began: Option<Timestamp>,
    records: Vec<NewRecord>,
}

impl Work {
    /// Where the records are, and whether all were there before.
    async fn run(self) -> Result<(Vec<Place>, bool), Problem> {
        let bus = self.state.bus.as_ref();
        let mut places = vec![None; self.records.len()];
        if let Some(began) = self.began {
            let topic = &self.key.topic;
            idempotency::search(bus, topic, self.mark, began, &mut places).await?;
        }
        let replayed = self.began.is_some() && places.iter().all(Option::is_some);
        let places = publish_missing(bus, self.records, places).await?;
        self.state.idempotency.finish(&self.key, &places).await?;
        drop(self.held);
        Ok((places, replayed))
    }
}

async fn publish_missing(
    bus: &dyn Bus,
    records: Vec<NewRecord>,
    places: Vec<Option<Place>>,
) -> Result<Vec<Place>, BusError> {
    let missing = records.into_iter().zip(&places);
    let missing: Vec<_> = missing
        .filter(|(_, place)| place.is_none())
        .map(|(record, _)| record)
        .collect();
    let mut published = Vec::new();
    if !missing.is_empty() {
        published = bus.publish(missing).await?;
    }
    let mut published = published.into_iter();
    let places = places.into_iter();
    Ok(places
        .filter_map(|place| place.or_else(|| published.next()))
        .collect())
}

impl Asked {
    pub(super) fn events(&self, state: &State, mark: Uuid) -> Result<Vec<Event>, Problem> {
        let about = About {
            topic: &self.topic,
            caller: &self.caller.0,
            mark,
            now: Timestamp::now(),
        };
        incoming::events(&self.headers, &self.body, about, state.limits)
    }

    /// The schema of the topic, for all before any is published.
    pub(super) fn check(&self, state: &State, events: &[Event]) -> Result<(), Problem> {
        for (index, event) in events.iter().enumerate() {
            let kind = event.datacontenttype.as_deref();
            let checked = state.rights.check(&self.topic, event.data.as_ref(), kind);
            checked.map_err(|why| {
                let topic = &self.topic;
                let which = match events.len() {
                    1 => "the event".to_owned(),
                    _ => format!("event {index} (from 0)"),
                };
                let detail = format!(
                    "{which} does not match the schema of '{topic}', and nothing was published: {why}"
                );
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            })?;
        }
        Ok(())
    }

    pub(super) fn records(&self, events: &[Event]) -> Result<Vec<NewRecord>, Problem> {
        let added = incoming::added(&self.headers, &self.query, Timestamp::now())?;
        let key = self.query.key.as_deref().filter(|key| !key.is_empty());
        Ok(incoming::records(events, &self.topic, key, &added))
    }

    /// What makes two requests the same: all that says what is to be published.
    pub(super) fn digest(&self) -> Vec<u8> {
        let mut context = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        };
        part(format!("{:?}", self.query).as_bytes());
        let telling = |name: &str| name == "content-type" || name.starts_with("ce-");
        let headers = self.headers.iter();
        let mut headers: Vec<_> = headers.filter(|(name, _)| telling(name.as_str())).collect();
        headers.sort_by_key(|(name, value)| (name.as_str(), value.as_bytes()));
        for (name, value) in headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        part(&self.body);
        context.finish().as_ref().to_vec()
    }
}

pub(super) async fn read_body(body: Body, max: u64) -> Result<Bytes, Problem> {
    let limit = usize::try_from(max).unwrap_or(usize::MAX);
    let read = Limited::new(body, limit).collect().await;
    read.map(http_body_util::Collected::to_bytes)
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                let detail = format!(
                    "the body is larger than {max} bytes; send several requests, or put large data \
                     elsewhere and send where they are"
                );
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail);
            }
            Problem::bad(format!("the body broke off: {error}"))
        })
}

fn answer(events: &[Event], places: Vec<Place>, replayed: bool) -> Response {
    let records = events
        .iter()
        .zip(places)
        .map(|(event, place)| PublishedRecord {
            id: event.id.clone(),
            topic: place.topic.as_ref().to_owned(),
            partition: place.partition,
            offset: place.offset,
        });
    let records = records.collect();
    let body = axum::Json(Published { records });
    let mut response = (StatusCode::CREATED, body).into_response();
    if replayed {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, yes);
    }
    response
}

/// A UUID of version 7: those of later requests are greater.
pub(super) fn fresh_mark() -> Result<Uuid, Problem> {
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random).map_err(|_| {
        let detail = "the system gives no random numbers; try again";
        Problem::later(StatusCode::SERVICE_UNAVAILABLE, 1, detail)
    })?;
    let millis = clock::Timestamp::now().as_micros() / 1000;
    let millis = u64::try_from(millis).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

pub(super) fn unknown_caller() -> Problem {
    let detail =
        "it is not known which service calls; use the EVENTS_URL that the service was given";
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

fn stopping() -> Problem {
    let detail = "the node stops; send the same again with the same Idempotency-Key";
    Problem::later(StatusCode::SERVICE_UNAVAILABLE, 1, detail)
}
