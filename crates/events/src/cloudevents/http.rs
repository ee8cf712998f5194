//! The HTTP binding: attributes in `ce-` headers with the data as the body, or all in the body.

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::json::{self, Limits};
use super::{BATCH, Draft, Event, Invalid, PREFIX, STRUCTURED, Value, rules};

/// What the body and headers of a request hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An event.
    One(Box<Event>),
    /// Events, perhaps none.
    Batch(Vec<Event>),
    /// Nothing that calls itself an event.
    Plain,
}

/// An event on its way over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `content-type`, and the attributes in binary mode.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Reads the events of a request or an answer. It is plain when neither its `content-type` nor one
/// of the headers that every event has says else.
///
/// # Errors
/// When it says that it is an event, and is not.
pub fn decode(headers: &HeaderMap, body: &Bytes, limits: Limits) -> Result<Content, Invalid> {
    let kind = text_of(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(STRUCTURED) {
        return Ok(Content::One(Box::new(json::decode(body, limits)?)));
    }
    if essence.eq_ignore_ascii_case(BATCH) {
        return Ok(Content::Batch(json::decode_batch(body, limits)?));
    }
    if essence.to_ascii_lowercase().starts_with(PREFIX) {
        return Err(Invalid::Format(rules::cut(essence)));
    }
    let mandatory = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
    if !mandatory.iter().any(|name| headers.contains_key(*name)) {
        return Ok(Content::Plain);
    }
    binary(headers, kind, body).map(|event| Content::One(Box::new(event)))
}

impl Event {
    /// The event with its attributes in headers. What breaks the rules ([`Event::check`]) and is no
    /// header for that is left out.
    pub fn to_binary(&self) -> Message {
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
        for (name, value) in self.context() {
            let name = HeaderName::try_from(format!("ce-{name}"));
            let value = HeaderValue::try_from(percent_encode(&value.to_string()));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
        let kind = self.datacontenttype.as_ref();
        if let Some(Ok(kind)) = kind.map(|kind| HeaderValue::from_str(kind)) {
            headers.insert(CONTENT_TYPE, kind);
        }
        Message {
            headers,
            body: self.data.clone().unwrap_or_default(),
        }
    }

    /// The event as one JSON object.
    pub fn to_structured(&self) -> Message {
        Message::new(STRUCTURED, self.to_json())
    }

    /// The JSON object that an event is in structured mode.
    pub fn to_json(&self) -> Bytes {
        let mut body = Vec::new();
        json::encode(self, &mut body);
        body.into()
    }
}

/// Several events as one message.
pub fn encode_batch(events: &[Event]) -> Message {
    let mut body = vec![b'['];
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        json::encode(event, &mut body);
    }
    body.push(b']');
    Message::new(BATCH, body.into())
}

impl Message {
    fn new(kind: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Self { headers, body }
    }
}

fn binary(headers: &HeaderMap, kind: &str, body: &Bytes) -> Result<Event, Invalid> {
    let mut draft = Draft::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        if name == "datacontenttype" {
            return Err(Invalid::Value {
                name: name.to_owned(),
                rule: "comes as the header content-type, not as ce-datacontenttype",
            });
        }
        draft.put(name, Value::Text(header_text(name, value)?))?;
    }
    if !kind.is_empty() {
        draft.put("datacontenttype", Value::Text(kind.to_owned()))?;
    }
    draft.data = (!body.is_empty()).then(|| body.clone());
    draft.event()
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Invalid> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Invalid::Twice(name.as_str().to_owned()));
    }
    let text = first.map(|value| value.to_str()).transpose();
    text.map_err(|_| Invalid::Value {
        name: name.as_str().to_owned(),
        rule: "must be of printable ASCII characters",
    })
}

/// Quotes are undone, then percent signs, each once, in this order.
fn header_text(name: &str, value: &HeaderValue) -> Result<String, Invalid> {
    let broken = |rule| Invalid::Value {
        name: rules::cut(name),
        rule,
    };
    let bytes = value.as_bytes().trim_ascii();
    let bytes = match bytes.strip_prefix(b"\"") {
        Some(quoted) => {
            unquote(quoted).ok_or_else(|| broken("begins with a quote that does not end it"))?
        }
        None => bytes.to_vec(),
    };
    String::from_utf8(percent_decode(&bytes))
        .map_err(|_| broken("must be UTF-8, with percent signs undone"))
}

fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.as_slice().is_empty().then_some(text),
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
}

/// A percent sign without two digits stands for itself: senders of old did not encode it.
fn percent_decode(mut bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        let digits = (*first == b'%').then(|| rest.split_first_chunk()).flatten();
        let decoded =
            digits.and_then(|([high, low], rest)| Some((digit(*high)? << 4 | digit(*low)?, rest)));
        let (byte, rest) = decoded.unwrap_or((*first, rest));
        text.push(byte);
        bytes = rest;
    }
    text
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' | 0..=0x20 | 0x7F.. => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(digit), 16);
                    encoded.extend(digit.map(|digit| digit.to_ascii_uppercase()));
                }
            }
            byte => encoded.push(char::from(byte)),
        }
    }
    encoded
}
