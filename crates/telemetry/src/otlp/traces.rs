//! Spans of a request.

use std::fmt::Write as _;

use atoll_base::{Timestamp, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind as Kind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as proto, Status};

use super::attributes::{MEMBERS_BYTES_MAX, Members, bounded, list, quoted};
use super::decode::{Decoded, Sender, span_id, trace_id};
use super::notes::{Note, Notes};
use super::resource::{Origin, value_of};
use crate::span::{Span, SpanKind, SpanStatus};

/// A span's name and what it says of its status take at most this many bytes each.
const NAME_BYTES_MAX: usize = 1 << 10;
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Events, and links, of one span.
const MOMENTS_MAX: usize = 256;

/// A span of a known attribute is about this long; saves growing.
const MEMBERS_BYTES_USUAL: usize = 384;

/// The spans of `request`.
pub fn decode(request: &ExportTraceServiceRequest, sender: &Sender) -> Decoded<Span> {
    let mut decoded = Decoded::new();
    for resource in &request.resource_spans {
        let origin = Origin::read(resource.resource.as_ref(), sender, &mut decoded.notes);
        for scope in &resource.scope_spans {
            let members = origin.scope(scope.scope.as_ref(), &mut decoded.notes);
            decoded
                .items
                .reserve(scope.spans.len().min(super::decode::ITEMS_MAX));
            for own in &scope.spans {
                let item = span(own, &origin, &members, sender, &mut decoded.notes);
                decoded.take(item);
            }
        }
    }
    decoded
}

fn span(
    own: &proto::Span,
    origin: &Origin,
    shared: &Members,
    sender: &Sender,
    notes: &mut Notes,
) -> Result<Span, Note> {
    let trace = trace_id(&own.trace_id).ok_or(Note::BadId)?;
    let id = span_id(&own.span_id).ok_or(Note::BadId)?;
    let parent = parent(&own.parent_span_id)?;
    let end = sender.time(own.end_time_unix_nano).unwrap_or(sender.now);
    let start = sender.time(own.start_time_unix_nano).unwrap_or(end);
    if sender.is_future(start) || sender.is_future(end) {
        return Err(Note::Future);
    }
    let mut members = shared.fork(MEMBERS_BYTES_USUAL);
    members.extend("", &own.attributes, notes);
    members.count(
        "otel.dropped_attributes_count",
        own.dropped_attributes_count,
        notes,
    );
    members.count("otel.dropped_events_count", own.dropped_events_count, notes);
    members.count("otel.dropped_links_count", own.dropped_links_count, notes);
    if !own.trace_state.is_empty() {
        members.text("otel.trace_state", &own.trace_state, notes);
    }
    let (status, message) = status(own.status.as_ref(), notes);
    Ok(Span {
        trace,
        span: id,
        parent,
        start,
        duration: end.since(start),
        service: origin.service.clone(),
        instance: origin.instance.clone(),
        revision: origin.revision,
        name: bounded(&own.name, NAME_BYTES_MAX, notes),
        kind: kind(own.kind()),
        status,
        message,
        caller: None,
        http_status: http_status(&own.attributes),
        inferred: false,
        attributes: members.finish(),
        events: events(&own.events, notes),
        links: links(&own.links, trace, notes),
    })
}

/// None is told by no bytes, by some also by zeros.
fn parent(bytes: &[u8]) -> Result<Option<atoll_base::SpanId>, Note> {
    match span_id(bytes) {
        Some(id) => Ok(Some(id)),
        None if bytes.is_empty() || bytes == [0; 8] => Ok(None),
        None => Err(Note::BadId),
    }
}

const fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Unspecified | Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

fn status(status: Option<&Status>, notes: &mut Notes) -> (SpanStatus, String) {
    let Some(status) = status else {
        return (SpanStatus::Unset, String::new());
    };
    let code = match status.code() {
        StatusCode::Unset => SpanStatus::Unset,
        StatusCode::Ok => SpanStatus::Ok,
        StatusCode::Error => SpanStatus::Error,
    };
    (code, bounded(&status.message, MESSAGE_BYTES_MAX, notes))
}

/// By the present name, and by the one before it.
fn http_status(list: &[KeyValue]) -> Option<u16> {
    let names = ["http.response.status_code", "http.status_code"];
    let value = names.iter().find_map(|name| value_of(list, name))?;
    let number = match value {
        Value::IntValue(number) => u16::try_from(*number).ok(),
        Value::StringValue(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number| (100..600).contains(number))
}

fn events(events: &[Event], notes: &mut Notes) -> String {
    array(events, notes, |event, out, notes| {
        let micros = i64::try_from(event.time_unix_nano / 1000).unwrap_or(i64::MAX);
        let time = Timestamp::from_micros(micros);
        let _ = write!(out, "{{\"time\":\"{time}\",\"name\":");
        quoted(&event.name, out, notes);
        rest(
            &event.attributes,
            event.dropped_attributes_count,
            out,
            notes,
        );
    })
}

fn links(links: &[Link], own: TraceId, notes: &mut Notes) -> String {
    array(links, notes, |link, out, notes| {
        // A link without a sound id leads nowhere, but its attributes may still tell something.
        let trace = trace_id(&link.trace_id).unwrap_or(own);
        let _ = write!(out, "{{\"trace\":\"{trace}\",\"span\":");
        let _ = match span_id(&link.span_id) {
            Some(span) => write!(out, "\"{span}\""),
            None => write!(out, "null"),
        };
        rest(&link.attributes, link.dropped_attributes_count, out, notes);
    })
}

/// `,"attributes":{…}}`
fn rest(attributes: &[KeyValue], dropped: u32, out: &mut String, notes: &mut Notes) {
    let mut members = Members::default();
    members.extend("", attributes, notes);
    members.count("otel.dropped_attributes_count", dropped, notes);
    let object = members.finish();
    out.push_str(",\"attributes\":");
    out.push_str(if object.is_empty() { "{}" } else { &object });
    out.push('}');
}

/// The array; empty if there are no items. Bounded in items and bytes.
fn array<T, F>(items: &[T], notes: &mut Notes, mut write: F) -> String
where
    F: FnMut(&T, &mut String, &mut Notes),
{
    if items.is_empty() {
        return String::new();
    }
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for item in items.iter().take(MOMENTS_MAX) {
        let mut part = String::new();
        write(item, &mut part, notes);
        bytes += part.len() + 1;
        if bytes > MEMBERS_BYTES_MAX {
            break;
        }
        parts.push(part);
    }
    notes.add(Note::Attributes, (items.len() - parts.len()) as u64);
    let mut out = String::with_capacity(bytes + 2);
    list(&parts, ['[', ']'], &mut out, |part, out| out.push_str(part));
    out
}
