//! Spans of a request.

use std::fmt::Write as _;

use atoll_base::{SpanId, Timestamp, TraceId};

use super::attributes::{MEMBERS_BYTES_MAX, Members, Piece, Shared, bounded, quoted};
use super::batch::{SpanBatch, TraceRow};
use super::decode::{Decoded, Sender, Unfit, span_id, trace_id};
use super::message::{AnyValue, Event, ExportTraceServiceRequest, KeyValue, Link, Span};
use super::notes::{Note, Notes};
use super::resource::Origin;
use super::wire::{Malformed, Message, Repeated};
use crate::span::{SpanKind, SpanStatus};

/// A span's name and what it says of its status take at most this many bytes each.
const NAME_BYTES_MAX: usize = 1 << 10;
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Events, and links, of one span.
const MOMENTS_MAX: usize = 256;

/// The spans of a request.
///
/// # Errors
/// When it cannot be read; nothing of it should be taken then.
pub fn decode(body: &[u8], sender: &Sender) -> Result<Decoded<SpanBatch>, Malformed> {
    let mut decoded = Decoded::new(body);
    for resource in ExportTraceServiceRequest::read(body)?.resource_spans.iter() {
        let resource = resource?;
        let Decoded { items, notes } = &mut decoded;
        let read = Origin::read(&resource.resource, sender, &mut items.texts, notes);
        let (origin, whole) = read?;
        for within in resource.scope_spans.iter() {
            let within = within?;
            decoded.take_all(
                within.spans,
                &within.scope,
                &whole,
                |own, shared, decoded| row(own, shared, sender, decoded),
            )?;
        }
        decoded.items.settle(origin);
    }
    decoded.items.fit();
    Ok(decoded)
}

fn row(
    own: &Span<'_>,
    shared: &Shared,
    sender: &Sender,
    decoded: &mut Decoded<SpanBatch>,
) -> Result<TraceRow, Unfit> {
    let trace = trace_id(own.trace_id).ok_or(Note::BadId)?;
    let span = span_id(own.span_id).ok_or(Note::BadId)?;
    let parent = parent(own.parent_span_id)?;
    let end = sender.time(own.end_time_unix_nano).unwrap_or(sender.now);
    let start = sender.time(own.start_time_unix_nano).unwrap_or(end);
    if sender.is_future(start) || sender.is_future(end) {
        return Err(Note::Future.into());
    }
    let Decoded { items, notes } = decoded;
    let texts = &mut items.texts;
    let mut members = Members::begin(texts, shared);
    let mut http = HttpStatus::default();
    members.extend("", own.attributes, notes, |pair| {
        http.see(pair);
        true
    })?;
    for (key, count) in [
        (
            "otel.dropped_attributes_count",
            own.dropped_attributes_count,
        ),
        ("otel.dropped_events_count", own.dropped_events_count),
        ("otel.dropped_links_count", own.dropped_links_count),
    ] {
        members.count(key, count, notes);
    }
    members.text("otel.trace_state", own.trace_state, notes);
    let attributes = members.finish();
    Ok(TraceRow {
        origin: items.origins.len(),
        trace,
        span,
        parent,
        start,
        end,
        name: bounded(own.name, NAME_BYTES_MAX, texts, notes),
        kind: kind(own.kind),
        status: status(own.status.code),
        message: bounded(own.status.message, MESSAGE_BYTES_MAX, texts, notes),
        http_status: http.told(),
        attributes,
        events: array(own.events, texts, notes, event)?,
        links: array(own.links, texts, notes, |own, out, notes| {
            link(&own, trace, out, notes)
        })?,
    })
}

/// None is told by no bytes, by some also by zeros.
fn parent(bytes: &[u8]) -> Result<Option<SpanId>, Note> {
    match span_id(bytes) {
        Some(id) => Ok(Some(id)),
        None if bytes.is_empty() || bytes == [0; 8] => Ok(None),
        None => Err(Note::BadId),
    }
}

/// `SpanKind`
const fn kind(number: u32) -> SpanKind {
    match number {
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

/// `StatusCode`
const fn status(code: u32) -> SpanStatus {
    match code {
        1 => SpanStatus::Ok,
        2 => SpanStatus::Error,
        _ => SpanStatus::Unset,
    }
}

/// The status of an answer, by the present name of the attribute and by the one before it; of those attributes that
/// are kept.
#[derive(Default)]
struct HttpStatus {
    present: Option<u16>,
    former: Option<u16>,
}

impl HttpStatus {
    fn see(&mut self, pair: &KeyValue<'_>) {
        let place = match pair.key {
            b"http.response.status_code" => &mut self.present,
            b"http.status_code" => &mut self.former,
            _ => return,
        };
        let number = match &pair.value {
            AnyValue::Int(number) => u16::try_from(*number).ok(),
            AnyValue::Text(text) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()),
            _ => None,
        };
        *place = place.or(number.filter(|number| (100..600).contains(number)));
    }

    fn told(self) -> Option<u16> {
        self.present.or(self.former)
    }
}

fn event(own: Event<'_>, out: &mut String, notes: &mut Notes) -> Result<(), Malformed> {
    let micros = i64::try_from(own.time_unix_nano / 1000).unwrap_or(i64::MAX);
    let time = Timestamp::from_micros(micros);
    let _ = write!(out, "{{\"time\":\"{time}\",\"name\":");
    quoted(own.name, out, notes);
    rest(own.attributes, own.dropped_attributes_count, out, notes)
}

fn link(
    own: &Link<'_>,
    around: TraceId,
    out: &mut String,
    notes: &mut Notes,
) -> Result<(), Malformed> {
    // A link without a sound id leads nowhere, but its attributes may still tell something.
    let trace = trace_id(own.trace_id).unwrap_or(around);
    let _ = write!(out, "{{\"trace\":\"{trace}\",\"span\":");
    let _ = match span_id(own.span_id) {
        Some(span) => write!(out, "\"{span}\""),
        None => write!(out, "null"),
    };
    rest(own.attributes, own.dropped_attributes_count, out, notes)
}

/// `,"attributes":{…}}`
fn rest<'a>(
    attributes: Repeated<'a, KeyValue<'a>>,
    dropped: u32,
    out: &mut String,
    notes: &mut Notes,
) -> Result<(), Malformed> {
    out.push_str(",\"attributes\":");
    let mut members = Members::begin(out, &Shared::default());
    members.extend("", attributes, notes, |_| true)?;
    members.count("otel.dropped_attributes_count", dropped, notes);
    if members.finish().is_empty() {
        out.push_str("{}");
    }
    out.push('}');
    Ok(())
}

/// The array; nothing if there are no items. Bounded in items and bytes.
fn array<'a, M, F>(
    items: Repeated<'a, M>,
    out: &mut String,
    notes: &mut Notes,
    mut write: F,
) -> Result<Piece, Malformed>
where
    M: Message<'a>,
    F: FnMut(M, &mut String, &mut Notes) -> Result<(), Malformed>,
{
    let start = out.len();
    let mut written = 0;
    for item in items.iter().take(MOMENTS_MAX) {
        let before = out.len();
        out.push(if written == 0 { '[' } else { ',' });
        write(item?, out, notes)?;
        if out.len() - start > MEMBERS_BYTES_MAX {
            out.truncate(before);
            break;
        }
        written += 1;
    }
    notes.add(Note::Attributes, (items.len() - written) as u64);
    if written > 0 {
        out.push(']');
    }
    Ok(start..out.len())
}
