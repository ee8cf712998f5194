//! Log records of a request.

use super::attributes::{Members, Shared, bounded, plain};
use super::batch::{LogRow, RecordBatch};
use super::decode::{Decoded, Sender, Unfit, span_id, trace_id};
use super::message::{ExportLogsServiceRequest, LogRecord};
use super::notes::Note;
use super::resource::Origin;
use super::wire::{Malformed, Message as _};
use crate::record::Level;

/// A body takes at most this many bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The log records of a request.
///
/// # Errors
/// When it cannot be read; nothing of it should be taken then.
pub fn decode(body: &[u8], sender: &Sender) -> Result<Decoded<RecordBatch>, Malformed> {
    let mut decoded = Decoded::new(body);
    for resource in ExportLogsServiceRequest::read(body)?.resource_logs.iter() {
        let resource = resource?;
        let Decoded { items, notes } = &mut decoded;
        let read = Origin::read(&resource.resource, sender, &mut items.texts, notes);
        let (origin, whole) = read?;
        for within in resource.scope_logs.iter() {
            let within = within?;
            decoded.take_all(
                within.log_records,
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
    own: &LogRecord<'_>,
    shared: &Shared,
    sender: &Sender,
    decoded: &mut Decoded<RecordBatch>,
) -> Result<LogRow, Unfit> {
    let told = sender.time(own.time_unix_nano);
    let observed = || sender.time(own.observed_time_unix_nano);
    let time = told.or_else(observed).unwrap_or(sender.now);
    if sender.is_future(time) {
        return Err(Note::Future.into());
    }
    // A record belongs to no trace far more often than to a broken one; it is kept in both cases.
    let trace = trace_id(own.trace_id);
    let Decoded { items, notes } = decoded;
    let texts = &mut items.texts;
    let mut members = Members::begin(texts, shared);
    members.text("event.name", own.event_name, notes);
    members.extend("", own.attributes, notes, |_| true)?;
    let dropped = own.dropped_attributes_count;
    members.count("otel.dropped_attributes_count", dropped, notes);
    let attributes = members.finish();
    let mut message = plain(&own.body, BODY_BYTES_MAX, texts, notes)?;
    if message.is_empty() {
        message = bounded(own.event_name, BODY_BYTES_MAX, texts, notes);
    }
    Ok(LogRow {
        origin: items.origins.len(),
        time,
        level: level(own.severity_number, own.severity_text),
        trace,
        span: trace.and_then(|_| span_id(own.span_id)),
        attributes,
        message,
    })
}

/// By the number; by the text where there is none.
fn level(number: u32, text: &[u8]) -> Option<Level> {
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
                let head = text.get(..name.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()))
            };
            let found = NAMES.iter().find(|(name, _)| begins(name));
            found.map(|(_, level)| *level)
        }
    }
}
