//! From a request to events, purely: what it holds, what they are called, what is added.
//!
//! Events that come without an id get one that is derived from the mark of the request. The mark is
//! kept with an idempotency key, so a request that is sent again makes the same ids again.

use std::time::Duration;

use atoll_base::{HumanDuration, ServiceName, Timestamp};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use uuid::Uuid;

use super::{DELIVER_AT, Limits, Problem};
use crate::cloudevents::{self, Content, Event, Invalid};
use crate::record::{Header, NewRecord};

/// The farthest that a delivery can be put off.
const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The longest `tracestate` that is sent on; W3C asks for at least 512 characters.
const TRACESTATE_LENGTH_MAX: usize = 1024;

/// How a publication is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishQuery {
    /// The key of the events that have no `partitionkey`.
    pub(super) key: Option<String>,
    /// When subscriptions get them.
    at: Option<String>,
    /// After how long subscriptions get them.
    delay: Option<String>,
}

/// What a request is about, apart from what it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) topic: &'a str,
    pub(super) caller: &'a ServiceName,
    /// Tells it from all other requests.
    pub(super) mark: Uuid,
    /// The time of events that come without any attribute.
    pub(super) now: Timestamp,
}

/// The events of a request, in its order.
pub(super) fn events(
    headers: &HeaderMap,
    body: &Bytes,
    about: About<'_>,
    limits: Limits,
) -> Result<Vec<Event>, Problem> {
    let bounds = cloudevents::Limits {
        events_max: limits.events_max,
        depth_max: limits.depth_max,
    };
    match cloudevents::decode(headers, body, bounds)? {
        Content::One(event) => Ok(vec![*event]),
        Content::Batch(events) => Ok(events),
        Content::Plain => plain(headers, body, about, bounds),
    }
}

fn plain(
    headers: &HeaderMap,
    body: &Bytes,
    about: About<'_>,
    bounds: cloudevents::Limits,
) -> Result<Vec<Event>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next());
    if essence.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-ndjson")) {
        return lines(body, about, bounds);
    }
    let event = as_it_is(headers, body, about)?;
    if event
        .datacontenttype
        .as_deref()
        .is_some_and(cloudevents::is_json)
    {
        json(body, bounds, "the body")?;
    }
    Ok(vec![event])
}

/// The body as the data of one event, whatever it is.
pub(super) fn as_it_is(
    headers: &HeaderMap,
    body: &Bytes,
    about: About<'_>,
) -> Result<Event, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let mut event = fresh(0, about);
    event.datacontenttype =
        kind.or_else(|| (!body.is_empty()).then(|| cloudevents::guess(body).to_owned()));
    event.data = (!body.is_empty()).then(|| body.clone());
    event.check()?;
    Ok(event)
}

/// One value of JSON in each line; empty lines are none.
fn lines(
    body: &Bytes,
    about: About<'_>,
    bounds: cloudevents::Limits,
) -> Result<Vec<Event>, Problem> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.enumerate().filter(|(_, line)| !line.is_empty());
    let mut events = Vec::new();
    for (number, line) in lines {
        if events.len() == bounds.events_max {
            let count = body.split(|byte| *byte == b'\n');
            let count = count.filter(|line| !line.trim_ascii().is_empty()).count();
            let max = bounds.events_max;
            return Err(Invalid::TooMany { count, max }.into());
        }
        json(line, bounds, &format!("line {}", number + 1))?;
        let mut event = fresh(events.len(), about);
        event.datacontenttype = Some("application/json".to_owned());
        event.data = Some(body.slice_ref(line));
        events.push(event);
    }
    Ok(events)
}

fn json(text: &[u8], bounds: cloudevents::Limits, which: &str) -> Result<(), Problem> {
    cloudevents::depth(text, bounds.depth_max)?;
    let sound: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(text);
    sound.map(drop).map_err(|error| {
        let detail = format!("{which} is not the JSON that its content-type says: {error}");
        Problem::bad(detail)
    })
}

fn fresh(index: usize, about: About<'_>) -> Event {
    let id = match index {
        0 => about.mark,
        index => derived(about.mark, index),
    };
    let source = format!("/services/{}", about.caller);
    let mut event = Event::new(id.to_string(), source, about.topic);
    event.time = Some(about.now.to_string());
    event
}

fn derived(mark: Uuid, index: usize) -> Uuid {
    let mut seed = mark.as_bytes().to_vec();
    seed.extend_from_slice(&index.to_be_bytes());
    let mut bytes = [0; 16];
    let digest = digest(&SHA256, &seed);
    bytes
        .iter_mut()
        .zip(digest.as_ref())
        .for_each(|(byte, own)| *byte = *own);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The records of the events, with what the request adds to each.
pub(super) fn records(
    events: &[Event],
    topic: &str,
    key: Option<&str>,
    added: &[Header],
) -> Vec<NewRecord> {
    let record = |event: &Event| {
        let mut record = event.to_record(topic);
        if record.key.is_none() {
            record.key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        }
        record.headers.extend_from_slice(added);
        record
    };
    events.iter().map(record).collect()
}

/// What the request adds to each record: when it is delivered, and the trace it belongs to.
pub(super) fn added(
    headers: &HeaderMap,
    query: &PublishQuery,
    now: Timestamp,
) -> Result<Vec<Header>, Problem> {
    // What is not UTF-8 was made into this character: different keys would become one.
    if query
        .key
        .as_ref()
        .is_some_and(|key| key.contains('\u{FFFD}'))
    {
        return Err(Problem::bad("'key' must be UTF-8, percent-encoded"));
    }
    let mut added = Vec::new();
    if let Some(at) = query.deliver_at(now)? {
        added.push(Header::text(DELIVER_AT, at.to_string()));
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(parent) = text("traceparent").filter(|parent| is_traceparent(parent)) {
        added.push(Header::text("traceparent", parent));
        let state = text("tracestate").filter(|state| state.len() <= TRACESTATE_LENGTH_MAX);
        added.extend(state.map(|state| Header::text("tracestate", state)));
    }
    Ok(added)
}

/// The shape that W3C Trace Context has given it; later versions may be longer.
fn is_traceparent(text: &str) -> bool {
    let lengths = text.split('-').take(4).map(str::len);
    let hex = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
    lengths.eq([2, 32, 16, 2]) && text.len() <= 128 && text.chars().all(hex)
}

impl PublishQuery {
    fn deliver_at(&self, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let at = match (&self.at, &self.delay) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(Problem::bad(
                    "there are both 'at' and 'delay'; send one of them",
                ));
            }
            (Some(at), None) if cloudevents::is_time(at) => at.parse().ok(),
            (Some(_), None) => None,
            (None, Some(delay)) => {
                let delay: Result<HumanDuration, _> = delay.parse();
                let delay = delay.map_err(|e| Problem::bad(format!("'delay': {e}")))?;
                Some(now.after(delay.0))
            }
        };
        let Some(at) = at else {
            let detail = "'at' is not a time by RFC 3339; send one such as 2026-01-31T09:30:00Z \
                          (percent-encode a '+')";
            return Err(Problem::bad(detail));
        };
        if at.since(now) > DELAY_MAX {
            let detail = "a delivery can be put off by 366 days at most; publish later";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Ok(Some(at))
    }
}
