//! Attributes as one JSON object, written by hand: they are looked at rarely and come often.
//!
//! Every value is bounded: a text by its bytes, a value within values by its depth, all together by
//! their bytes and their number. What does not fit is left out and counted; nothing fails.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::notes::{Note, Notes};

/// One text within attributes takes at most this many bytes.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// A key takes at most this many bytes.
const KEY_BYTES_MAX: usize = 256;

/// All attributes of an item together take at most this many bytes, as JSON.
pub(super) const MEMBERS_BYTES_MAX: usize = 64 << 10;

/// Attributes of an item.
const MEMBERS_MAX: usize = 256;

/// Values within values.
const DEPTH_MAX: usize = 8;

/// What comes after a text that was cut.
const CUT: &str = "…";

/// The members of a JSON object that is being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    text: String,
    count: usize,
}

impl Members {
    /// Goes on where `self` is, in a text of its own.
    pub(super) fn fork(&self, more: usize) -> Self {
        let mut text = String::with_capacity(self.text.len() + more + 2);
        text.push_str(&self.text);
        Self {
            text,
            count: self.count,
        }
    }

    /// Adds `list`; `prefix` goes before each key.
    pub(super) fn extend(&mut self, prefix: &str, list: &[KeyValue], notes: &mut Notes) {
        for (at, pair) in list.iter().enumerate() {
            if self.count >= MEMBERS_MAX {
                notes.add(Note::Attributes, (list.len() - at) as u64);
                return;
            }
            let value = pair.value.as_ref();
            self.member(prefix, &pair.key, notes, |text, notes| {
                any(value, 0, text, notes);
            });
        }
    }

    /// Adds one text.
    pub(super) fn text(&mut self, key: &str, value: &str, notes: &mut Notes) {
        self.member("", key, notes, |text, notes| quoted(value, text, notes));
    }

    /// Adds one number, if it is not 0.
    pub(super) fn count(&mut self, key: &str, value: u32, notes: &mut Notes) {
        if value > 0 {
            self.member("", key, notes, |text, _| number(value, text));
        }
    }

    fn member<F>(&mut self, prefix: &str, key: &str, notes: &mut Notes, write: F)
    where
        F: FnOnce(&mut String, &mut Notes),
    {
        let before = self.text.len();
        if before > 0 {
            self.text.push(',');
        }
        self.text.push('"');
        escaped(prefix, &mut self.text);
        let short = cut(key, KEY_BYTES_MAX);
        if short.len() < key.len() {
            notes.add(Note::LongText, 1);
        }
        escaped(short, &mut self.text);
        self.text.push_str("\":");
        write(&mut self.text, notes);
        if self.text.len() > MEMBERS_BYTES_MAX {
            self.text.truncate(before);
            notes.add(Note::Attributes, 1);
        } else {
            self.count += 1;
        }
    }

    /// The object; empty if it has no members.
    pub(super) fn finish(mut self) -> String {
        if !self.text.is_empty() {
            self.text.insert(0, '{');
            self.text.push('}');
        }
        self.text
    }
}

/// A value as a text for a person: a text as it is, everything else as JSON.
pub(super) fn plain(value: Option<&AnyValue>, bytes_max: usize, notes: &mut Notes) -> String {
    let text = match value.and_then(|any| any.value.as_ref()) {
        None => return String::new(),
        Some(Value::StringValue(text)) => text.as_str(),
        Some(_) => {
            let mut json = String::new();
            any(value, 0, &mut json, notes);
            return bounded(&json, bytes_max, notes);
        }
    };
    bounded(text, bytes_max, notes)
}

/// A text of its own, cut where it is too long.
pub(super) fn bounded(text: &str, bytes_max: usize, notes: &mut Notes) -> String {
    let short = cut(text, bytes_max);
    if short.len() == text.len() {
        return text.to_owned();
    }
    notes.add(Note::LongText, 1);
    format!("{short}{CUT}")
}

fn any(value: Option<&AnyValue>, depth: usize, out: &mut String, notes: &mut Notes) {
    let Some(value) = value.and_then(|any| any.value.as_ref()) else {
        out.push_str("null");
        return;
    };
    match value {
        Value::StringValue(text) => quoted(text, out, notes),
        Value::BoolValue(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::IntValue(whole) => number(whole, out),
        Value::DoubleValue(real) => double(*real, out),
        Value::BytesValue(bytes) => quoted(&STANDARD.encode(bytes), out, notes),
        // An index into a table that only profiles have.
        Value::StringValueStrindex(index) => number(index, out),
        Value::ArrayValue(_) | Value::KvlistValue(_) if depth >= DEPTH_MAX => {
            notes.add(Note::Depth, 1);
            out.push_str("null");
        }
        Value::ArrayValue(array) => {
            list(&array.values, ['[', ']'], out, |item, out| {
                any(Some(item), depth + 1, out, notes);
            });
        }
        Value::KvlistValue(pairs) => {
            list(&pairs.values, ['{', '}'], out, |pair, out| {
                quoted(&pair.key, out, notes);
                out.push(':');
                any(pair.value.as_ref(), depth + 1, out, notes);
            });
        }
    }
}

/// `[a,b]` or `{a,b}`.
pub(super) fn list<T, F>(items: &[T], [open, close]: [char; 2], out: &mut String, mut write: F)
where
    F: FnMut(&T, &mut String),
{
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

fn number(value: impl std::fmt::Display, out: &mut String) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

/// JSON has no word for what is not a number.
fn double(real: f64, out: &mut String) {
    let _ = if real.is_finite() {
        write!(out, "{real:?}")
    } else {
        write!(out, "\"{real}\"")
    };
}

/// A JSON text.
pub(super) fn quoted(text: &str, out: &mut String, notes: &mut Notes) {
    let short = cut(text, TEXT_BYTES_MAX);
    out.push('"');
    escaped(short, out);
    if short.len() < text.len() {
        notes.add(Note::LongText, 1);
        out.push_str(CUT);
    }
    out.push('"');
}

fn escaped(text: &str, out: &mut String) {
    let mut rest = text;
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    while let Some(at) = rest.as_bytes().iter().position(special) {
        let (clean, from) = rest.split_at(at);
        out.push_str(clean);
        match from.as_bytes()[0] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            other => {
                let _ = write!(out, "\\u{other:04x}");
            }
        }
        rest = &from[1..];
    }
    out.push_str(rest);
}

fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
    use proptest::prelude::*;

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            key_strindex: 0,
        }
    }

    fn written(list: &[KeyValue]) -> (String, Notes) {
        let (mut members, mut notes) = (Members::default(), Notes::default());
        members.extend("", list, &mut notes);
        (members.finish(), notes)
    }

    #[test]
    fn every_kind_of_value_is_written() {
        let list = [
            pair("text", Value::StringValue("a\"\\\n\u{1}é".to_owned())),
            pair("truth", Value::BoolValue(true)),
            pair("whole", Value::IntValue(i64::MIN)),
            pair("real", Value::DoubleValue(1e300)),
            pair("not", Value::DoubleValue(f64::NAN)),
            pair("bytes", Value::BytesValue(vec![255, 0])),
        ];
        let nested = pair(
            "nested",
            Value::KvlistValue(KeyValueList {
                values: list[..1].to_vec(),
            }),
        );
        let (text, notes) = written(&[list.to_vec(), vec![nested]].concat());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let wanted = serde_json::json!({
            "text": "a\"\\\n\u{1}é", "truth": true, "whole": i64::MIN, "real": 1e300,
            "not": "NaN", "bytes": "/wA=", "nested": {"text": "a\"\\\n\u{1}é"},
        });
        assert_eq!(value, wanted);
        assert!(notes.is_empty());
        assert_eq!(written(&[]).0, "");
    }

    #[test]
    fn what_is_too_long_too_many_or_too_deep_is_left_out_and_counted() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let (text, notes) = written(&[pair("a", Value::StringValue(long.clone()))]);
        assert!(text.len() < TEXT_BYTES_MAX + 20 && text.ends_with("…\"}"));
        assert_eq!(notes.count(Note::LongText), 1);

        let many = vec![pair("a", Value::BoolValue(true)); MEMBERS_MAX + 5];
        assert_eq!(written(&many).1.count(Note::Attributes), 5);

        let big = vec![pair("a", Value::StringValue(long)); 6];
        let (text, notes) = written(&big);
        assert!(text.len() <= MEMBERS_BYTES_MAX + 2);
        assert_eq!(notes.count(Note::Attributes), 3);

        let mut deep = Value::BoolValue(true);
        for _ in 0..DEPTH_MAX + 1 {
            let values = vec![AnyValue { value: Some(deep) }];
            deep = Value::ArrayValue(ArrayValue { values });
        }
        let (text, notes) = written(&[pair("a", deep)]);
        assert_eq!(text, r#"{"a":[[[[[[[[null]]]]]]]]}"#);
        assert_eq!(notes.count(Note::Depth), 1);
    }

    proptest! {
        #[test]
        fn it_is_json_whatever_the_texts_are(key in "\\PC{0,20}|[\\x00-\\x7f]{0,9}", value in ".{0,40}") {
            let (text, _) = written(&[pair(&key, Value::StringValue(value.clone()))]);
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read[key].as_str(), Some(value.as_str()));
        }
    }
}
