//! The JSON event format: one event as an object, several as an array.
//!
//! Members are read one by one and the data are kept as the bytes they were, so nothing is lost in
//! numbers and nothing is printed anew. Two members of one name are refused: readers differ in which
//! of them they believe.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Draft, Event, Invalid, Value, rules};

/// How much is taken from the network at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events in one request.
    pub events_max: usize,
    /// Arrays and objects within each other. What reads JSON recursively breaks beyond some depth.
    pub depth_max: usize,
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

/// Reads an event from an object of JSON.
pub(super) fn decode(body: &[u8], limits: Limits) -> Result<Event, Invalid> {
    depth(body, limits.depth_max)?;
    let wanted = "an event as a JSON object";
    let members: Members<'_> = serde_json::from_slice(body).map_err(|e| bad(wanted, &e))?;
    let mut draft = Draft::default();
    let mut plain = None;
    let mut coded = None;
    for (name, value) in members.0 {
        match name.as_str() {
            "data" => once("data", &mut plain, value)?,
            // Null is as good as left out, but for `data`, where it is a value.
            _ if value.get() == "null" => {}
            "data_base64" => once("data_base64", &mut coded, value)?,
            name => draft.put(name, attribute(name, value)?)?,
        }
    }
    let mut event = draft.event()?;
    event.data = match (plain, coded) {
        (Some(_), Some(_)) => return Err(Invalid::BothData),
        (Some(value), None) => Some(data(&mut event, value)?),
        (None, Some(value)) => Some(from_base64(value)?),
        (None, None) => None,
    };
    Ok(event)
}

/// Reads the events of a batch.
pub(super) fn decode_batch(body: &[u8], limits: Limits) -> Result<Vec<Event>, Invalid> {
    depth(body, limits.depth_max)?;
    let wanted = "events as a JSON array";
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(|e| bad(wanted, &e))?;
    if events.len() > limits.events_max {
        return Err(Invalid::TooMany {
            count: events.len(),
            max: limits.events_max,
        });
    }
    let one = |(index, event): (usize, &RawValue)| {
        decode(event.get().as_bytes(), limits).map_err(|why| Invalid::InBatch {
            index,
            why: Box::new(why),
        })
    };
    events.into_iter().enumerate().map(one).collect()
}

/// Writes an event as an object of JSON.
pub(super) fn encode(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    for (name, value) in event.attributes() {
        out.push(b',');
        text(name, out);
        out.push(b':');
        match value {
            Value::Text(value) => text(&value, out),
            number_or_boolean => out.extend_from_slice(number_or_boolean.to_string().as_bytes()),
        }
    }
    if let Some(data) = &event.data {
        encode_data(event.datacontenttype.as_deref(), data, out);
    }
    out.push(b'}');
}

fn encode_data(media_type: Option<&str>, data: &Bytes, out: &mut Vec<u8>) {
    // What says nothing of its type counts as JSON.
    let json = media_type.is_none_or(rules::is_json);
    if json && serde_json::from_slice::<&RawValue>(data).is_ok() {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
        return;
    }
    let readable = media_type.is_some_and(rules::is_text);
    match std::str::from_utf8(data) {
        Ok(data) if readable && !json => {
            out.extend_from_slice(br#","data":"#);
            text(data, out);
        }
        _ => {
            out.extend_from_slice(br#","data_base64":"#);
            text(&STANDARD.encode(data), out);
        }
    }
}

/// Whether the arrays and objects of a text of JSON are not nested too deep. It need not be JSON.
pub(crate) fn depth(body: &[u8], max: usize) -> Result<(), Invalid> {
    let mut depth = 0_usize;
    let mut quoted = false;
    let mut escaped = false;
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return Err(Invalid::TooDeep(max));
        }
    }
    Ok(())
}

fn attribute(name: &str, value: &RawValue) -> Result<Value, Invalid> {
    let wrong = || Invalid::Value {
        name: rules::cut(name),
        rule: "must be text, true, false, or a whole number of 32 bits; send others as text",
    };
    match serde_json::from_str(value.get()).map_err(|_| wrong())? {
        serde_json::Value::String(text) => Ok(Value::Text(text)),
        serde_json::Value::Bool(value) => Ok(Value::Boolean(value)),
        serde_json::Value::Number(number) => {
            let number = number
                .as_i64()
                .and_then(|number| i32::try_from(number).ok());
            number.map(Value::Integer).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn data(event: &mut Event, value: &RawValue) -> Result<Bytes, Invalid> {
    let media_type = event
        .datacontenttype
        .get_or_insert_with(|| "application/json".to_owned());
    if rules::is_json(media_type) {
        return Ok(Bytes::copy_from_slice(value.get().as_bytes()));
    }
    let text: String = serde_json::from_str(value.get()).map_err(|_| Invalid::Value {
        name: "data".to_owned(),
        rule: "must be a string, as datacontenttype says that it is not JSON",
    })?;
    Ok(text.into())
}

fn from_base64(value: &RawValue) -> Result<Bytes, Invalid> {
    let text: Option<String> = serde_json::from_str(value.get()).ok();
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    bytes.map(Bytes::from).ok_or_else(|| Invalid::Value {
        name: "data_base64".to_owned(),
        rule: "must be a string of base64 with padding (RFC 4648, section 4)",
    })
}

fn once<'a>(
    name: &str,
    place: &mut Option<&'a RawValue>,
    value: &'a RawValue,
) -> Result<(), Invalid> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Invalid::Twice(name.to_owned())),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is written to memory, which does not fail");
}

fn bad(wanted: &'static str, error: &serde_json::Error) -> Invalid {
    Invalid::Json {
        wanted,
        why: error.to_string(),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}
