//! Holds a parsed file against its JSON Schema and finds everything that does not fit.
//!
//! serde stops at its first error; a person wants all of them. So this walk covers what the types
//! demand: keys, kinds of values, ranges and the written forms of quantities. It knows the part of
//! JSON Schema that schemars makes of our types, and no more; a test holds every schema against
//! that.

use std::ops::Range;
use std::sync::Arc;

use atoll_base::{ByteCount, Code, HumanDuration, ServiceName};
use atoll_telemetry::objective::Share;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::finding::{Finding, Place, Report, SourceFile};

const UNKNOWN_KEY: Code = Code("ATL0102");
const MISSING_KEY: Code = Code("ATL0103");
const WRONG_VALUE: Code = Code("ATL0104");

/// Walks one file.
pub(super) struct Walk<'a> {
    pub(super) source: &'a Arc<SourceFile>,
    pub(super) report: &'a mut Report,
}

/// The closest of `known` to what was written, if it is close enough to be meant.
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let best = known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&written.to_lowercase(), name),
                name,
            )
        })
        .min()?;
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    (best.0 <= allowed).then_some(best.1)
}

/// `a`, `b` and `c`
pub(super) fn listed<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

impl Walk<'_> {
    /// Holds a table against an object schema; `at` names it for messages, such as `health`.
    pub(super) fn table(
        &mut self,
        table: &DeTable<'_>,
        span: &Range<usize>,
        schema: &Value,
        at: &str,
    ) {
        let properties = schema["properties"].as_object();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match properties.and_then(|properties| properties.get(name)) {
                Some(wanted) => self.value(value, wanted, &join(at, name)),
                None if schema["additionalProperties"].is_object() => {
                    self.value(value, &schema["additionalProperties"], &join(at, name));
                }
                None => self.unknown_key(name, key.span(), schema, at),
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let Some(name) = required.as_str() else {
                continue;
            };
            if !table.contains_key(name) {
                self.missing_key(name, span, schema, at);
            }
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, schema: &Value, at: &str) {
        let schema = without_null(schema);
        match (value.get_ref(), kind(schema)) {
            (DeValue::Table(table), "object") => {
                // The span of a table written as `[a]` is that of its header.
                self.table(table, &value.span(), schema, at);
            }
            (DeValue::Array(array), "array") => self.array(array, &value.span(), schema, at),
            (DeValue::String(text), "string") => self.text(text, value.span(), schema, at),
            (DeValue::Boolean(_), "boolean") => {}
            (DeValue::Integer(number), "integer" | "number") => {
                self.number(parse(number.as_str()), value.span(), schema, at);
            }
            (DeValue::Float(number), "number") => {
                self.number(parse(number.as_str()), value.span(), schema, at);
            }
            (found, wanted) => self.wrong_kind(found, wanted, value.span(), schema, at),
        }
    }

    fn array(&mut self, array: &DeArray<'_>, span: &Range<usize>, schema: &Value, at: &str) {
        if array.is_empty() && schema["minItems"].as_u64() > Some(0) {
            self.wrong(
                span.clone(),
                format!("`{at}` is empty"),
                "needs at least one",
                describe(schema),
            );
        }
        for item in array {
            self.value(item, &schema["items"], at);
        }
    }

    fn text(&mut self, text: &str, span: Range<usize>, schema: &Value, at: &str) {
        if let Some(names) = enumerated(schema) {
            if !names.contains(&text) {
                let meant = nearest(text, names.iter().copied());
                let help = match meant {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => format!("one of {}", listed(names.iter().copied())),
                };
                self.wrong(
                    span,
                    format!("`{at}` cannot be \"{text}\""),
                    "not known",
                    help,
                );
            }
            return;
        }
        let error = match schema["format"].as_str() {
            Some("byte-count") => text.parse::<ByteCount>().err().map(|e| e.to_string()),
            Some("duration") => text.parse::<HumanDuration>().err().map(|e| e.to_string()),
            Some("share") => text.parse::<Share>().err(),
            Some("service-name") => ServiceName::new(text).err().map(|e| e.to_string()),
            _ => None,
        };
        if let Some(error) = error {
            let help = schema["examples"][0]
                .as_str()
                .map(|e| format!("for example \"{e}\""));
            let help = help.unwrap_or_else(|| describe(schema));
            self.wrong(
                span,
                format!("`{at}` cannot be \"{text}\": {error}"),
                "here",
                help,
            );
        }
    }

    fn number(&mut self, number: f64, span: Range<usize>, schema: &Value, at: &str) {
        let below = schema["minimum"].as_f64().filter(|least| number < *least);
        let above = schema["maximum"].as_f64().filter(|most| number > *most);
        let (limit, word) = match (below, above) {
            (Some(least), _) => (least, "at least"),
            (None, Some(most)) => (most, "at most"),
            (None, None) => return,
        };
        let message = format!("`{at}` must be {word} {limit}");
        self.wrong(span, message, "out of range", describe(schema));
    }

    fn unknown_key(&mut self, name: &str, span: Range<usize>, schema: &Value, at: &str) {
        let known: Vec<&str> = keys(schema);
        let place = if at.is_empty() {
            "here".to_owned()
        } else {
            format!("in `{at}`")
        };
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys {place} are {}", listed(known)),
        };
        let finding = Finding {
            code: UNKNOWN_KEY,
            message: format!("`{}` is no key that Atoll knows", join(at, name)),
            place: Some(self.place(span)),
            label: "unknown key".to_owned(),
            help,
        };
        self.report.push(finding);
    }

    fn missing_key(&mut self, name: &str, span: &Range<usize>, schema: &Value, at: &str) {
        let place = if at.is_empty() {
            "the file".to_owned()
        } else {
            format!("`{at}`")
        };
        // Of a whole file, the first line is enough.
        let end = if at.is_empty() {
            self.first_line_end()
        } else {
            span.end
        };
        let finding = Finding {
            code: MISSING_KEY,
            message: format!("{place} needs the key `{name}`"),
            place: Some(self.place(span.start.min(end)..end)),
            label: format!("`{name}` is missing"),
            help: format!("{name}: {}", describe(&schema["properties"][name])),
        };
        self.report.push(finding);
    }

    fn wrong_kind(
        &mut self,
        found: &DeValue<'_>,
        wanted: &str,
        span: Range<usize>,
        schema: &Value,
        at: &str,
    ) {
        let wanted = match (wanted, schema["format"].as_str()) {
            (_, Some("duration")) => "a text with a number and a unit, such as \"10s\"",
            (_, Some("byte-count")) => "a text with a number and a unit, such as \"256MiB\"",
            ("string", _) => "a text in quotes",
            ("array", _) => "a list in brackets",
            ("object", _) => "a table",
            ("integer", _) => "a whole number",
            ("number", _) => "a number",
            ("boolean", _) => "true or false",
            (other, _) => other,
        };
        let message = format!("`{at}` must be {wanted}, not {}", article(found.type_str()));
        self.wrong(span, message, "here", describe(schema));
    }

    fn wrong(&mut self, span: Range<usize>, message: String, label: &str, help: String) {
        let place = Some(self.place(span));
        let label = label.to_owned();
        self.report.push(Finding {
            code: WRONG_VALUE,
            message,
            place,
            label,
            help,
        });
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place {
            source: Arc::clone(self.source),
            span,
        }
    }

    fn first_line_end(&self) -> usize {
        self.source
            .text
            .find('\n')
            .unwrap_or(self.source.text.len())
    }
}

/// The keys of an object schema.
pub(super) fn keys(schema: &Value) -> Vec<&str> {
    let properties = schema["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect()
}

/// The values of an enumeration: `enum`, or `oneOf` constants that each have a description.
fn enumerated(schema: &Value) -> Option<Vec<&str>> {
    if let Some(names) = schema["enum"].as_array() {
        return Some(names.iter().filter_map(Value::as_str).collect());
    }
    let variants = schema["oneOf"].as_array()?;
    Some(
        variants
            .iter()
            .filter_map(|variant| variant["const"].as_str())
            .collect(),
    )
}

/// The schema of what is inside an `Option`.
fn without_null(schema: &Value) -> &Value {
    let variants = schema["anyOf"].as_array();
    let inner = variants.and_then(|variants| variants.iter().find(|v| v["type"] != "null"));
    inner.unwrap_or(schema)
}

/// The JSON type that a schema demands.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or("any"),
        _ if enumerated(schema).is_some() => "string",
        _ => "any",
    }
}

fn describe(schema: &Value) -> String {
    let text = schema["description"]
        .as_str()
        .unwrap_or("see `atoll schema`");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn parse(number: &str) -> f64 {
    number.replace('_', "").parse().unwrap_or(f64::NAN)
}
