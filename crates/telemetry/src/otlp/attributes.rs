//! Attributes as one JSON object, written by hand: they are looked at rarely and come often.
//!
//! It is written where it stays: at the end of the texts of all items of a request.
//!
//! Every value is bounded: a text by its bytes, a value within values by its depth, all together by
//! their bytes and their number. What does not fit is left out and counted; only bytes that are no
//! protobuf fail.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::message::{AnyValue, KeyValue};
use super::notes::{Note, Notes};
use super::wire::{Malformed, Message, Repeated};

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

/// A piece of the texts of a request.
pub(super) type Piece = Range<usize>;

/// The members of a JSON object that is being written.
#[derive(Debug)]
pub(super) struct Members<'t> {
    out: &'t mut String,
    /// Where the object begins.
    start: usize,
    count: usize,
}

/// Members that several objects have, where they stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    piece: Piece,
    count: usize,
}

impl<'t> Members<'t> {
    /// Begins an object at the end of `out`, with what is `shared`.
    pub(super) fn begin(out: &'t mut String, shared: &Shared) -> Self {
        let start = out.len();
        out.push('{');
        out.extend_from_within(shared.piece.clone());
        let count = shared.count;
        Self { out, start, count }
    }

    /// Adds those of `list` that are `wanted`; `prefix` goes before each key.
    pub(super) fn extend<'a>(
        &mut self,
        prefix: &str,
        list: Repeated<'a, KeyValue<'a>>,
        notes: &mut Notes,
        mut wanted: impl FnMut(&KeyValue<'a>) -> bool,
    ) -> Result<(), Malformed> {
        for (at, pair) in list.iter().enumerate() {
            if self.count >= MEMBERS_MAX {
                notes.add(Note::Attributes, (list.len() - at) as u64);
                break;
            }
            let pair = pair?;
            if wanted(&pair) {
                self.pair(prefix, &pair, notes)?;
            }
        }
        Ok(())
    }

    fn pair(
        &mut self,
        prefix: &str,
        pair: &KeyValue<'_>,
        notes: &mut Notes,
    ) -> Result<(), Malformed> {
        let before = self.key(prefix, &text(pair.key, notes), notes);
        any(&pair.value, 0, self.out, notes)?;
        self.end(before, notes);
        Ok(())
    }

    /// Adds one text, if it is not empty.
    pub(super) fn text(&mut self, key: &str, value: &[u8], notes: &mut Notes) {
        if !value.is_empty() {
            let before = self.key("", key, notes);
            quoted(value, self.out, notes);
            self.end(before, notes);
        }
    }

    /// Adds one number, if it is not 0.
    pub(super) fn count(&mut self, key: &str, value: u32, notes: &mut Notes) {
        if value > 0 {
            let before = self.key("", key, notes);
            number(value, self.out);
            self.end(before, notes);
        }
    }

    fn is_empty(&self) -> bool {
        self.out.len() == self.start + 1
    }

    /// Writes the key of a member; answers where it begins.
    fn key(&mut self, prefix: &str, key: &str, notes: &mut Notes) -> usize {
        let before = self.out.len();
        if !self.is_empty() {
            self.out.push(',');
        }
        self.out.push('"');
        escaped(prefix, self.out);
        let short = cut(key, KEY_BYTES_MAX);
        if short.len() < key.len() {
            notes.add(Note::LongText, 1);
        }
        escaped(short, self.out);
        self.out.push_str("\":");
        before
    }

    /// Ends a member, or takes it back if that makes the object too long.
    fn end(&mut self, before: usize, notes: &mut Notes) {
        if self.out.len() - self.start - 1 > MEMBERS_BYTES_MAX {
            self.out.truncate(before);
            notes.add(Note::Attributes, 1);
        } else {
            self.count += 1;
        }
    }

    /// The members as they are, for other objects.
    pub(super) fn share(self) -> Shared {
        Shared {
            piece: self.start + 1..self.out.len(),
            count: self.count,
        }
    }

    /// The object; nothing if it has no members.
    pub(super) fn finish(self) -> Piece {
        if self.is_empty() {
            self.out.truncate(self.start);
        } else {
            self.out.push('}');
        }
        self.start..self.out.len()
    }
}

/// Bytes that should be UTF-8, as a text. What is not becomes U+FFFD: nobody loses a request for it.
pub(super) fn text<'a>(bytes: &'a [u8], notes: &mut Notes) -> Cow<'a, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            notes.add(Note::BadText, 1);
            String::from_utf8_lossy(bytes)
        }
    }
}

/// Writes a value as a text for a person: a text as it is, everything else as JSON.
pub(super) fn plain(
    value: &AnyValue<'_>,
    bytes_max: usize,
    out: &mut String,
    notes: &mut Notes,
) -> Result<Piece, Malformed> {
    let start = out.len();
    match value {
        AnyValue::Empty => {}
        AnyValue::Text(text) => return Ok(bounded(text, bytes_max, out, notes)),
        _ => any(value, 0, out, notes)?,
    }
    let length = cut(&out[start..], bytes_max).len();
    if start + length < out.len() {
        out.truncate(start + length);
        out.push_str(CUT);
        notes.add(Note::LongText, 1);
    }
    Ok(start..out.len())
}

/// Writes a text, cut where it is too long.
pub(super) fn bounded(
    bytes: &[u8],
    bytes_max: usize,
    out: &mut String,
    notes: &mut Notes,
) -> Piece {
    let start = out.len();
    let text = text(bytes, notes);
    let short = cut(&text, bytes_max);
    out.push_str(short);
    if short.len() < text.len() {
        out.push_str(CUT);
        notes.add(Note::LongText, 1);
    }
    start..out.len()
}

fn any(
    value: &AnyValue<'_>,
    depth: usize,
    out: &mut String,
    notes: &mut Notes,
) -> Result<(), Malformed> {
    match value {
        AnyValue::Empty => out.push_str("null"),
        AnyValue::Text(text) => quoted(text, out, notes),
        AnyValue::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        AnyValue::Int(whole) | AnyValue::Index(whole) => number(whole, out),
        AnyValue::Double(real) => double(*real, out),
        AnyValue::Bytes(bytes) => quoted(STANDARD.encode(bytes).as_bytes(), out, notes),
        AnyValue::Array(_) | AnyValue::Pairs(_) if depth >= DEPTH_MAX => {
            notes.add(Note::Depth, 1);
            out.push_str("null");
        }
        AnyValue::Array(array) => {
            return list(array.values, ['[', ']'], out, |item, out| {
                any(&item, depth + 1, out, notes)
            });
        }
        AnyValue::Pairs(pairs) => {
            return list(pairs.values, ['{', '}'], out, |pair, out| {
                quoted(pair.key, out, notes);
                out.push(':');
                any(&pair.value, depth + 1, out, notes)
            });
        }
    }
    Ok(())
}

/// `[a,b]` or `{a,b}`.
fn list<'a, M, F>(
    items: Repeated<'a, M>,
    [open, close]: [char; 2],
    out: &mut String,
    mut write: F,
) -> Result<(), Malformed>
where
    M: Message<'a>,
    F: FnMut(M, &mut String) -> Result<(), Malformed>,
{
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(item?, out)?;
    }
    out.push(close);
    Ok(())
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

/// Writes a JSON text.
pub(super) fn quoted(bytes: &[u8], out: &mut String, notes: &mut Notes) {
    let text = text(bytes, notes);
    let short = cut(&text, TEXT_BYTES_MAX);
    out.push('"');
    escaped(short, out);
    if short.len() < text.len() {
        notes.add(Note::LongText, 1);
        out.push_str(CUT);
    }
    out.push('"');
}

fn escaped(text: &str, out: &mut String) {
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    // Without an early end, the processor looks at many bytes at once.
    let is_clean = !text
        .as_bytes()
        .iter()
        .fold(false, |found, b| found | special(b));
    if is_clean {
        out.push_str(text);
        return;
    }
    let mut rest = text;
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
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message as _;

    use crate::otlp::message;

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            key_strindex: 0,
        }
    }

    fn written(list: &[KeyValue]) -> (String, Notes) {
        let resource = Resource {
            attributes: list.to_vec(),
            ..Resource::default()
        };
        let bytes = resource.encode_to_vec();
        let resource = message::Resource::read(&bytes).unwrap();
        let (mut out, mut notes) = ("before".to_owned(), Notes::default());
        let mut members = Members::begin(&mut out, &Shared::default());
        let list = resource.attributes;
        members.extend("", list, &mut notes, |_| true).unwrap();
        let piece = members.finish();
        (out[piece].to_owned(), notes)
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
