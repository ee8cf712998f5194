//! Keywords without schemas in them: bounds, lengths, patterns, formats.
//!
//! Each asks whether the facts say at least as much. Numbers are compared exactly or not at all.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::facts::Facts;
use super::kinds::Kinds;

/// Whether a keyword of the reader is met.
pub(super) enum Answer {
    /// By every document.
    Met,
    /// Not by all, and why.
    Broken(String),
    /// It is not a keyword of this page.
    Unknown,
}

/// Whether what is known meets a keyword of the reader.
pub(super) fn meets(keyword: &str, wanted: &Value, facts: &Facts<'_>, same_draft: bool) -> Answer {
    let (kinds, met) = match keyword {
        "type" => return kinds_meet(wanted, facts),
        "minimum" => (Kinds::NUMBER, above(facts, wanted, true)),
        "exclusiveMinimum" => (Kinds::NUMBER, above(facts, wanted, false)),
        "maximum" => (Kinds::NUMBER, below(facts, wanted, true)),
        "exclusiveMaximum" => (Kinds::NUMBER, below(facts, wanted, false)),
        "multipleOf" => (Kinds::NUMBER, multiple(facts, wanted)),
        "minLength" => (Kinds::STRING, at_least(facts, keyword, wanted)),
        "maxLength" => (Kinds::STRING, at_most(facts, keyword, wanted)),
        "minItems" => (Kinds::ARRAY, at_least(facts, keyword, wanted)),
        "maxItems" => (Kinds::ARRAY, at_most(facts, keyword, wanted)),
        "maxProperties" => (Kinds::OBJECT, at_most(facts, keyword, wanted)),
        "minProperties" => {
            let required = u64::try_from(required(facts).len()).ok();
            let enough = required >= wanted.as_u64() && wanted.is_u64();
            (Kinds::OBJECT, enough || at_least(facts, keyword, wanted))
        }
        "uniqueItems" => {
            let few = at_most(facts, "maxItems", &Value::from(1));
            let unique = same(facts, keyword, wanted) || few;
            (Kinds::ARRAY, *wanted == Value::Bool(false) || unique)
        }
        "pattern" => (Kinds::STRING, same(facts, keyword, wanted)),
        // Which formats are known, and whether contents are looked at, depends on the draft.
        "format" | "contentEncoding" | "contentMediaType" => {
            let same = same_draft && same(facts, keyword, wanted);
            (Kinds::STRING, same)
        }
        "dependentRequired" => (Kinds::OBJECT, same_draft && depend(facts, wanted)),
        _ => return Answer::Unknown,
    };
    if met || !facts.kinds.meets(kinds) {
        return Answer::Met;
    }
    let written: Vec<_> = facts.each(keyword).map(Value::to_string).collect();
    let written = match written.as_slice() {
        [] => "and the publisher no longer promises it".to_owned(),
        written => format!("and the publisher now promises only {}", written.join(", ")),
    };
    Answer::Broken(format!("{keyword} {wanted} is relied on, {written}"))
}

/// Which of the names that the reader requires may be missing.
pub(super) fn missing<'v>(wanted: &'v Value, facts: &Facts<'_>) -> Vec<&'v str> {
    if !facts.kinds.meets(Kinds::OBJECT) {
        return Vec::new();
    }
    let required = required(facts);
    let wanted = wanted.as_array().into_iter().flatten();
    let wanted = wanted.filter_map(Value::as_str);
    wanted.filter(|name| !required.contains(name)).collect()
}

fn required<'a>(facts: &Facts<'a>) -> Vec<&'a str> {
    let lists = facts.each("required").filter_map(Value::as_array);
    let mut names: Vec<_> = lists.flatten().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn kinds_meet(wanted: &Value, facts: &Facts<'_>) -> Answer {
    let wanted = Kinds::of(wanted);
    if facts.kinds.within(wanted) {
        return Answer::Met;
    }
    let written = facts.kinds.names();
    let wanted = wanted.names();
    Answer::Broken(format!(
        "{wanted} is relied on, and the publisher may now write {written}"
    ))
}

/// The same keyword with the same value, which must not depend on anything around it.
pub(super) fn same(facts: &Facts<'_>, keyword: &str, wanted: &Value) -> bool {
    facts.each(keyword).any(|own| own == wanted)
}

fn above(facts: &Facts<'_>, wanted: &Value, inclusive: bool) -> bool {
    let reaches = |keyword, least| {
        facts
            .each(keyword)
            .any(|own| compare(own, wanted).is_some_and(|own| own >= least))
    };
    let least = if inclusive {
        Ordering::Equal
    } else {
        Ordering::Greater
    };
    reaches("minimum", least) || reaches("exclusiveMinimum", Ordering::Equal)
}

fn below(facts: &Facts<'_>, wanted: &Value, inclusive: bool) -> bool {
    let reaches = |keyword, most| {
        facts
            .each(keyword)
            .any(|own| compare(own, wanted).is_some_and(|own| own <= most))
    };
    let most = if inclusive {
        Ordering::Equal
    } else {
        Ordering::Less
    };
    reaches("maximum", most) || reaches("exclusiveMaximum", Ordering::Equal)
}

fn at_least(facts: &Facts<'_>, keyword: &str, wanted: &Value) -> bool {
    let zero = compare(wanted, &Value::from(0)) == Some(Ordering::Equal);
    let reaches = |own| compare(own, wanted).is_some_and(Ordering::is_ge);
    zero || facts.each(keyword).any(reaches)
}

fn at_most(facts: &Facts<'_>, keyword: &str, wanted: &Value) -> bool {
    let reaches = |own| compare(own, wanted).is_some_and(Ordering::is_le);
    facts.each(keyword).any(reaches)
}

fn multiple(facts: &Facts<'_>, wanted: &Value) -> bool {
    let whole = facts.kinds.and(Kinds::NUMBER).within(Kinds::INTEGER);
    let divides = |own: &Value| match (own.as_u64(), wanted.as_u64()) {
        (Some(own), Some(wanted)) => wanted > 0 && own % wanted == 0,
        _ => own == wanted,
    };
    let one = wanted.as_u64() == Some(1);
    (one && whole) || facts.each("multipleOf").any(divides)
}

fn depend(facts: &Facts<'_>, wanted: &Value) -> bool {
    let required = required(facts);
    let Some(wanted) = wanted.as_object() else {
        return false;
    };
    let named = |(name, needs): (&String, &Value)| {
        let own = facts
            .each("dependentRequired")
            .filter_map(|own| own.get(name));
        let own: Vec<_> = own.filter_map(Value::as_array).flatten().collect();
        let needs = needs.as_array().into_iter().flatten();
        let mut needs = needs.map(|need| {
            own.contains(&need) || need.as_str().is_some_and(|need| required.contains(&need))
        });
        needs.all(|met| met)
    };
    wanted.iter().all(named)
}

/// None where rounding could decide.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    let whole = |value: &Value| {
        let signed = value.as_i64().map(i128::from);
        signed.or_else(|| value.as_u64().map(i128::from))
    };
    if let (Some(left), Some(right)) = (whole(left), whole(right)) {
        return Some(left.cmp(&right));
    }
    let exact = 2_f64.powi(53);
    let real = |value: &Value| {
        value
            .as_f64()
            .filter(|own| own.abs() < exact || value.is_f64())
    };
    real(left)?.partial_cmp(&real(right)?)
}

/// Whether a keyword alone, without schemas in it, takes all values that there can be. None if it
/// cannot be told by them.
pub(super) fn takes(keyword: &str, wanted: &Value, facts: &Facts<'_>) -> Option<bool> {
    const ALONE: [&str; 18] = [
        "const",
        "enum",
        "type",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "required",
    ];
    let values = facts.values.as_ref()?;
    if !ALONE.contains(&keyword) {
        return None;
    }
    let schema = Map::from_iter([(keyword.to_owned(), wanted.clone())]);
    let options = jsonschema::options()
        .should_validate_formats(true)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .offline();
    let validator = options.build(&Value::Object(schema)).ok()?;
    Some(values.iter().all(|value| validator.is_valid(value)))
}
