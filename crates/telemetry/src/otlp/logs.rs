//! Log records of a request.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1 as proto;

use super::attributes::{Members, bounded, plain};
use super::decode::{Decoded, Sender, span_id, trace_id};
use super::notes::{Note, Notes};
use super::resource::Origin;
use crate::NewRecord;
use crate::record::{Level, Stream};

/// A body takes at most this many bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The log records of `request`.
pub fn decode(request: &ExportLogsServiceRequest, sender: &Sender) -> Decoded<NewRecord> {
    let mut decoded = Decoded::new();
    for resource in &request.resource_logs {
        let origin = Origin::read(resource.resource.as_ref(), sender, &mut decoded.notes);
        for scope in &resource.scope_logs {
            let members = origin.scope(scope.scope.as_ref(), &mut decoded.notes);
            for own in &scope.log_records {
                let item = record(own, &origin, &members, sender, &mut decoded.notes);
                decoded.take(item);
            }
        }
    }
    decoded
}

fn record(
    own: &proto::LogRecord,
    origin: &Origin,
    shared: &Members,
    sender: &Sender,
    notes: &mut Notes,
) -> Result<NewRecord, Note> {
    let told = sender.time(own.time_unix_nano);
    let observed = || sender.time(own.observed_time_unix_nano);
    let time = told.or_else(observed).unwrap_or(sender.now);
    if sender.is_future(time) {
        return Err(Note::Future);
    }
    // A record belongs to no trace far more often than to a broken one; it is kept in both cases.
    let trace = trace_id(&own.trace_id);
    let mut members = shared.fork(128);
    if !own.event_name.is_empty() {
        members.text("event.name", &own.event_name, notes);
    }
    members.extend("", &own.attributes, notes);
    members.count(
        "otel.dropped_attributes_count",
        own.dropped_attributes_count,
        notes,
    );
    let mut message = plain(own.body.as_ref(), BODY_BYTES_MAX, notes);
    if message.is_empty() {
        message = bounded(&own.event_name, BODY_BYTES_MAX, notes);
    }
    Ok(NewRecord {
        time,
        service: origin.service.clone(),
        instance: origin.instance.clone(),
        revision: origin.revision,
        stream: Stream::Otlp,
        level: level(own.severity_number, &own.severity_text),
        trace,
        span: trace.and_then(|_| span_id(&own.span_id)),
        attributes: members.finish(),
        continued: false,
        message,
    })
}

/// By the number; by the text where there is none.
fn level(number: i32, text: &str) -> Option<Level> {
    const NAMES: [(&str, Level); 7] = [
        ("trace", Level::Trace),
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("err", Level::Error),
        ("crit", Level::Error),
        ("fatal", Level::Fatal),
    ];
    match number {
        1..=4 => Some(Level::Trace),
        5..=8 => Some(Level::Debug),
        9..=12 => Some(Level::Info),
        13..=16 => Some(Level::Warn),
        17..=20 => Some(Level::Error),
        21..=24 => Some(Level::Fatal),
        _ => {
            let begins = |name: &str| {
                let head = text.as_bytes().get(..name.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()))
            };
            let found = NAMES.iter().find(|(name, _)| begins(name));
            found.map(|(_, level)| *level)
        }
    }
}
