//! What the specification says of names and values, attribute by attribute.
//!
//! All checks are of the form, none looks anything up. They are strict: what is let in here goes to
//! services whose libraries refuse what breaks the rules, and then the sender is long gone.

use super::{Invalid, Value};

/// The attributes that are no extensions.
pub(super) const ATTRIBUTES: [&str; 8] = [
    "id",
    "source",
    "type",
    "specversion",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
];

/// How much of something wrong is shown.
const SHOWN_MAX: usize = 100;

/// The longest name: it becomes part of a header's name.
const NAME_LENGTH_MAX: usize = 100;

/// The first characters of a text: what is wrong may be long.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// Lowercase letters and digits. `data` is taken by the data itself.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed) && name != "data"
}

/// Whether the attribute of this name can have this value.
pub(super) fn check(name: &str, value: &Value) -> Result<(), Invalid> {
    check_text(name, value)?;
    if !ATTRIBUTES.contains(&name) {
        return Ok(());
    }
    let Value::Text(text) = value else {
        return Err(broken(name, "must be text; send a JSON string"));
    };
    if text.is_empty() {
        return Err(broken(
            name,
            "must not be empty; leave it out or give it a value",
        ));
    }
    let (sound, rule) = match name {
        "source" => (
            is_uri_reference(text),
            "must be a URI or a reference to one, such as /services/orders; percent-encode the rest",
        ),
        "dataschema" => (
            is_uri_reference(text) && has_scheme(text),
            "must be a URI with a scheme, such as https://example.com/schema.json",
        ),
        "time" => (
            is_time(text),
            "must be a time by RFC 3339, such as 2026-01-31T09:30:00Z",
        ),
        "datacontenttype" => (
            is_media_type(text),
            "must be a media type, such as application/json",
        ),
        _ => (true, ""),
    };
    if sound {
        Ok(())
    } else {
        Err(broken(name, rule))
    }
}

/// Whether text holds only characters that attributes may hold.
pub(super) fn check_text(name: &str, value: &Value) -> Result<(), Invalid> {
    let Value::Text(text) = value else {
        return Ok(());
    };
    let noncharacter = |c: u32| (0xFDD0..=0xFDEF).contains(&c) || c & 0xFFFE == 0xFFFE;
    let refused = |c: char| c.is_control() || noncharacter(u32::from(c));
    if text.chars().any(refused) {
        let rule = "must not hold control characters; put such text into the data";
        return Err(broken(name, rule));
    }
    Ok(())
}

fn broken(name: &str, rule: &'static str) -> Invalid {
    Invalid::Value {
        name: cut(name),
        rule,
    }
}

/// The characters of RFC 3986, with percent signs in order. What they mean is not looked at.
fn is_uri_reference(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let sound = |(at, byte): (usize, &u8)| match byte {
        b'%' => hex(at + 1) && hex(at + 2),
        byte => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
    };
    bytes.iter().enumerate().all(sound)
}

fn has_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else {
        return false;
    };
    let first = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    first && scheme.chars().all(rest)
}

/// `2026-01-31T09:30:00Z`, with any fraction and offset. jiff would take more than RFC 3339 allows.
pub(crate) fn is_time(text: &str) -> bool {
    let shape = |(at, byte): (usize, &u8)| match at {
        4 | 7 => *byte == b'-',
        10 => matches!(byte, b'T' | b't'),
        13 | 16 => *byte == b':',
        0..19 => byte.is_ascii_digit(),
        _ => byte.is_ascii_digit() || b".Zz+-:".contains(byte),
    };
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !bytes.iter().enumerate().all(shape) {
        return false;
    }
    // The offset: `Z`, or hours and minutes with a colon.
    let zulu = bytes.ends_with(b"Z") || bytes.ends_with(b"z");
    let offset = text.get(text.len() - 6..).is_some_and(|offset| {
        offset.starts_with(['+', '-']) && offset.as_bytes().get(3) == Some(&b':')
    });
    (zulu || offset) && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let token = |token: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !token.is_empty() && token.bytes().all(allowed)
    };
    let halves = essence.split_once('/');
    let printable = text.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    printable && text.trim() == text && halves.is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// Whether the media type says that the data are JSON: `*/json` or `*/*+json`.
pub(crate) fn is_json(media_type: &str) -> bool {
    subtype(media_type).is_some_and(|sub| sub == "json" || sub.ends_with("+json"))
}

/// Whether data of this media type are text, which JSON can hold as it is.
pub(super) fn is_text(media_type: &str) -> bool {
    let text = media_type.to_ascii_lowercase().starts_with("text/");
    text || subtype(media_type).is_some_and(|sub| sub == "xml" || sub.ends_with("+xml"))
}

fn subtype(media_type: &str) -> Option<String> {
    let essence = media_type.split(';').next()?.trim();
    let (_, sub) = essence.split_once('/')?;
    Some(sub.to_ascii_lowercase())
}
