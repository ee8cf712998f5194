//! The Kafka binding: attributes in `ce_` headers with the data as the value, or all in the value.
//!
//! The key of a record and the extension `partitionkey` are the same thing. A record that is no event,
//! or a bad one, becomes one all the same: it is there, and somebody waits for it.

use std::sync::Arc;

use bytes::Bytes;

use super::json::{self, Limits};
use super::{Draft, Event, Invalid, PREFIX, STRUCTURED, Value, rules};
use crate::record::{Header, NewRecord, Record};

/// The header that says what a value is.
const CONTENT_TYPE: &str = "content-type";

/// Headers of the tracing of others, by the names of W3C Trace Context: they become the extensions
/// of CloudEvents of the same names.
const TRACING: [&str; 2] = ["traceparent", "tracestate"];

/// Records were bounded when they were taken.
const LIMITS: Limits = Limits {
    events_max: 1,
    depth_max: 128,
};

impl Event {
    /// Reads the event that a record says it is.
    ///
    /// # Errors
    /// When it is none by the Kafka binding.
    pub fn from_record(record: &Record) -> Result<Self, Invalid> {
        let kind = record.text(CONTENT_TYPE).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(STRUCTURED) {
            let value = record.value.as_ref().map_or(&[][..], |value| value);
            return json::decode(value, LIMITS);
        }
        if essence.to_ascii_lowercase().starts_with(PREFIX) {
            return Err(Invalid::Format(rules::cut(essence)));
        }
        let mut draft = Draft::default();
        for header in &record.headers {
            let (Some(name), Some(value)) = (header.name.strip_prefix("ce_"), &header.value) else {
                continue;
            };
            let text = String::from_utf8(value.to_vec()).map_err(|_| Invalid::Value {
                name: rules::cut(name),
                rule: "must be UTF-8",
            })?;
            draft.put(name, Value::Text(text))?;
        }
        if !kind.is_empty() {
            draft.put("datacontenttype", Value::Text(kind.to_owned()))?;
        }
        draft.data.clone_from(&record.value);
        draft.event()
    }

    /// The event of any record: the one it says it is, or one that is made of its place, its time,
    /// its key and its value. The key becomes the extension `partitionkey`, and the headers
    /// `traceparent` and `tracestate` the extensions of these names, where the event has none.
    pub fn of_record(record: &Record) -> Self {
        let mut event = Self::from_record(record).unwrap_or_else(|_| Self::made_of(record));
        let key = record
            .key
            .as_ref()
            .and_then(|key| std::str::from_utf8(key).ok());
        let key = key.filter(|key| !key.is_empty());
        let tracing = TRACING.map(|name| (name, record.text(name)));
        for (name, value) in [("partitionkey", key)].into_iter().chain(tracing) {
            if let (Some(value), None) = (value, event.extension(name)) {
                // A key that no attribute can hold, with a line break, is not shown.
                let _ = event.extend(name, value);
            }
        }
        event
    }

    /// Adds where the record stands, as every event has it that is delivered or read: the extensions
    /// `topic`, `partition` (a number) and `offset` (text, as it may need more than 32 bits).
    pub fn with_place(mut self, record: &Record) -> Self {
        let place = &record.place;
        let extensions = [
            ("topic", Value::from(place.topic.as_ref())),
            ("partition", Value::from(place.partition)),
            ("offset", Value::from(place.offset.to_string())),
        ];
        for (name, value) in extensions {
            self.extensions.insert(name.to_owned(), value);
        }
        self
    }

    /// The event as a record in binary mode, with the extension `partitionkey` as its key. Without
    /// data it has no value: in a compacted topic that deletes the key.
    pub fn to_record(&self, topic: impl Into<Arc<str>>) -> NewRecord {
        let mut record = NewRecord::new(topic);
        record.headers.push(Header::text("ce_specversion", "1.0"));
        for (name, value) in self.context() {
            let header = Header::text(format!("ce_{name}"), value.to_string());
            record.headers.push(header);
        }
        if let Some(kind) = &self.datacontenttype {
            record.headers.push(Header::text(CONTENT_TYPE, kind));
        }
        record.key = self.partition_key().map(Bytes::from);
        record.value.clone_from(&self.data);
        record
    }

    /// The event as a record in structured mode, with the extension `partitionkey` as its key.
    pub fn to_structured_record(&self, topic: impl Into<Arc<str>>) -> NewRecord {
        let mut record = NewRecord::new(topic);
        record.headers.push(Header::text(CONTENT_TYPE, STRUCTURED));
        record.key = self.partition_key().map(Bytes::from);
        record.value = Some(self.to_json());
        record
    }

    fn made_of(record: &Record) -> Self {
        let place = &record.place;
        let topic = place.topic.as_ref();
        let id = format!("{topic}-{}-{}", place.partition, place.offset);
        let mut event = Self::new(id, format!("/topics/{topic}"), topic);
        let time = jiff::Timestamp::from_millisecond(record.time).ok();
        event.time = time
            .filter(|_| record.time >= 0)
            .map(|time| format!("{time:.3}"));
        event.data.clone_from(&record.value);
        event.datacontenttype = record.value.as_ref().map(|value| media_type(record, value));
        event
    }
}

/// What a value is. One that failed to be an event is not called one again: whoever gets it would
/// take it for one.
fn media_type(record: &Record, value: &[u8]) -> String {
    let said = record.text(CONTENT_TYPE).filter(|kind| {
        let kind = Value::from(*kind);
        rules::check("datacontenttype", &kind).is_ok()
    });
    let said = said.filter(|kind| !kind.to_ascii_lowercase().starts_with(PREFIX));
    said.map_or_else(|| guess(value).to_owned(), str::to_owned)
}

/// What a value is that nobody has said anything of.
pub(crate) fn guess(value: &[u8]) -> &'static str {
    match serde_json::from_slice::<serde::de::IgnoredAny>(value) {
        Ok(_) => "application/json",
        Err(_) => "application/octet-stream",
    }
}
