//! Reads the trace id and the level out of a line, without any help from the service.
//!
//! Two forms are understood. A JSON object, as structured loggers print it: the keys are those of
//! OpenTelemetry (`trace_id`, `severity_text`), ECS (`trace.id`, `log.level`), pino, zap, slog,
//! logback and their kind. And any other text that contains a `traceparent` as the service got it
//! (W3C Trace Context, section 3.2), or `trace_id=` before 32 digits.
//!
//! A line that is neither costs one search for a byte, not a JSON parser's start.

use std::sync::LazyLock;

use atoll_base::TraceId;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::record::Level;

/// Lines longer than this are not parsed as JSON: they are data, not log records.
const JSON_BYTES_MAX: usize = 16 << 10;

/// What a line tells of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extract {
    /// The trace it belongs to.
    pub trace: Option<TraceId>,
    /// Its level.
    pub level: Option<Level>,
}

/// Reads `line`.
pub fn extract(line: &str) -> Extract {
    let trimmed = line.trim_start();
    if trimmed.starts_with('{')
        && trimmed.len() <= JSON_BYTES_MAX
        && let Ok(Fields(found)) = serde_json::from_str(trimmed)
    {
        return found;
    }
    Extract {
        trace: trace_in_text(line.as_bytes()),
        level: level_in_text(line),
    }
}

/// Finds `00-<trace>-<span>-<flags>` or a key such as `trace_id=<trace>`.
fn trace_in_text(line: &[u8]) -> Option<TraceId> {
    traceparent_in(line).or_else(|| trace_after_key(line))
}

/// Made once: to make one takes as long as to search a line.
static TRACEPARENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("00-"));

/// What all keys of traces begin with.
static TRACE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("trace"));

/// What comes behind it.
const TRACE_KEY_ENDINGS: [&[u8]; 4] = [b"_id", b"Id", b".id", b"id"];

/// Where something is in a line. Mostly it is not, and an iterator of the library would be copied for nothing.
fn places(finder: &Finder<'_>, line: &[u8]) -> impl Iterator<Item = usize> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + finder.find(&line[from..])?;
        from = at + finder.needle().len();
        Some(at)
    })
}

fn traceparent_in(line: &[u8]) -> Option<TraceId> {
    places(&TRACEPARENT, line).find_map(|start| {
        let text = line.get(start..start + 55)?;
        let dashes = text[35] == b'-' && text[52] == b'-';
        let lonely = start == 0 || !line[start - 1].is_ascii_hexdigit();
        if dashes && lonely {
            TraceId::parse(&text[3..35])
        } else {
            None
        }
    })
}

fn trace_after_key(line: &[u8]) -> Option<TraceId> {
    places(&TRACE_KEY, line).find_map(|start| {
        let rest = &line[start + TRACE_KEY.needle().len()..];
        let rest = TRACE_KEY_ENDINGS
            .iter()
            .find_map(|ending| rest.strip_prefix(*ending))?;
        let skipped = rest
            .iter()
            .take_while(|b| matches!(b, b'=' | b':' | b'"' | b' '))
            .count();
        let digits = rest.get(skipped..skipped + 32)?;
        let whole = rest
            .get(skipped + 32)
            .is_none_or(|b| !b.is_ascii_hexdigit());
        if skipped > 0 && whole {
            TraceId::parse(digits)
        } else {
            None
        }
    })
}

/// The first word in capitals that names a level, as in `2026-11-21 ERROR cannot …` or `[WARN]`.
fn level_in_text(line: &str) -> Option<Level> {
    let words = line
        .as_bytes()
        .split(|byte| !byte.is_ascii_alphabetic())
        .filter(|word| !word.is_empty());
    words.take(6).find_map(|word| match word {
        b"TRACE" => Some(Level::Trace),
        b"DEBUG" => Some(Level::Debug),
        b"INFO" => Some(Level::Info),
        b"WARN" | b"WARNING" => Some(Level::Warn),
        b"ERROR" | b"CRITICAL" | b"FATAL" | b"PANIC" => Some(Level::Error),
        _ => None,
    })
}

fn level_named(name: &str) -> Option<Level> {
    const NAMES: &[(&str, Level)] = &[
        ("trace", Level::Trace),
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("information", Level::Info),
        ("notice", Level::Info),
        ("warn", Level::Warn),
        ("warning", Level::Warn),
        ("error", Level::Error),
        ("err", Level::Error),
        ("critical", Level::Error),
        ("fatal", Level::Error),
        ("panic", Level::Error),
        ("emergency", Level::Error),
        ("alert", Level::Error),
    ];
    NAMES
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, level)| *level)
}

/// pino and bunyan count levels in tens.
fn level_numbered(number: u64) -> Option<Level> {
    match number {
        10 => Some(Level::Trace),
        20 => Some(Level::Debug),
        30 => Some(Level::Info),
        40 => Some(Level::Warn),
        50 | 60 => Some(Level::Error),
        _ => None,
    }
}

struct Fields(Extract);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a log record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut found = Extract::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match key.as_ref() {
                "trace_id" | "traceId" | "traceID" | "trace.id" | "TraceId" | "otelTraceID" => {
                    let value: Scalar = map.next_value()?;
                    found.trace = value.text().and_then(|t| TraceId::parse(t.as_bytes()));
                }
                "traceparent" => {
                    let value: Scalar = map.next_value()?;
                    found.trace = value.text().and_then(|t| traceparent_in(t.as_bytes()));
                }
                "level" | "severity" | "severity_text" | "SeverityText" | "log.level" | "lvl"
                | "levelname" => {
                    found.level = match map.next_value()? {
                        Scalar::Text(text) => level_named(&text),
                        Scalar::Number(number) => level_numbered(number),
                        Scalar::Other(_) => None,
                    };
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Fields(found))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(u64),
    Other(IgnoredAny),
}

impl Scalar {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn trace_of(line: &str) -> Option<String> {
        extract(line).trace.map(|t| t.to_string())
    }

    #[test]
    fn a_trace_is_found_however_it_is_logged() {
        for line in [
            format!(r#"{{"msg":"x","trace_id":"{TRACE}"}}"#),
            format!(r#"  {{"traceparent":"00-{TRACE}-00f067aa0ba902b7-01"}}"#),
            format!(r#"{{"trace.id":"{TRACE}","n":{{"trace_id":"no"}}}}"#),
            format!("ERROR no such order (00-{TRACE}-00f067aa0ba902b7-01)"),
            format!("time=1 level=info trace_id={TRACE} msg=x"),
            format!(r#"{{"broken json": "trace_id": "{TRACE}""#),
            format!("trace.id:{TRACE}"),
            format!("traceId = {TRACE},"),
            format!("no trace, trace_id=none, traceid={TRACE}"),
            format!("trace_id=none trace_id={TRACE}"),
        ] {
            assert_eq!(trace_of(&line).as_deref(), Some(TRACE), "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_a_trace_is_none() {
        for line in [
            "",
            "{",
            "order 00-1",
            r#"{"trace_id":"00000000000000000000000000000000"}"#,
            r#"{"trace_id":7}"#,
            "trace_id=4bf92f3577b34da6a3ce929d0e0e47361",
            "trace_id=4BF92F3577B34DA6A3CE929D0E0E4736",
        ] {
            assert_eq!(trace_of(line), None, "{line}");
        }
    }

    #[test]
    fn levels_are_read_in_the_forms_that_loggers_use() {
        for (line, level) in [
            (r#"{"level":"WARNING"}"#, Some(Level::Warn)),
            (r#"{"level":50}"#, Some(Level::Error)),
            (r#"{"severity_text":"Debug"}"#, Some(Level::Debug)),
            (r#"{"level":[1]}"#, None),
            ("2026-11-21 10:00:00 [ERROR] disk", Some(Level::Error)),
            ("all well", None),
        ] {
            assert_eq!(extract(line).level, level, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,200}") {
            extract(&line);
        }

        #[test]
        fn no_line_near_a_trace_makes_it_panic(line in "[00\\-a-f\"{}:=trace_id]{0,120}") {
            extract(&line);
        }
    }
}
