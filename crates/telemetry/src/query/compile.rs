//! An expression as a tree of tests: which column a field means, and what its values are.

use atoll_base::{SpanId, Timestamp, TraceId};

use super::attribute::AttributeTest;
use super::filter::NameTest;
use super::lexer::Op;
use super::parser::{Expr, Field};
use super::text::Pattern;
use super::{Cheap, Node, QueryError, Test};
use crate::Level;
use crate::schema::{self, Kind, log, span};

pub(super) fn compile(kind: Kind, expr: Expr) -> Result<Node, QueryError> {
    let all = |exprs: Vec<Expr>| -> Result<Vec<Node>, QueryError> {
        exprs.into_iter().map(|expr| compile(kind, expr)).collect()
    };
    Ok(match expr {
        Expr::And(exprs) => Node::All(all(exprs)?),
        Expr::Or(exprs) => Node::Any(all(exprs)?),
        Expr::Not(expr) => Node::Not(Box::new(compile(kind, *expr)?)),
        Expr::Text(text) => Node::Test(Test::Text(Pattern::words(&text))),
        Expr::Regex { at, pattern } => {
            let regex = regex::RegexBuilder::new(&pattern)
                .size_limit(1 << 20)
                .build();
            let regex = regex.map_err(|error| QueryError {
                at,
                message: error.to_string(),
            })?;
            Node::Test(Test::Text(Pattern::regex(regex)))
        }
        Expr::Field(field) => Node::Test(test(kind, &field)?),
    })
}

fn test(kind: Kind, field: &Field) -> Result<Test, QueryError> {
    let key = field.key.to_ascii_lowercase();
    let cheap = match (kind, key.as_str()) {
        (_, "service") => names(schema::SERVICE, field)?,
        (_, "instance") => names(schema::INSTANCE, field)?,
        (_, "revision") => range(schema::REVISION, field, number)?,
        (_, "trace") => Cheap::Traces(vec![id(field, TraceId::parse, "32")?]),
        (_, "span") => Cheap::Span(schema::SPAN, id(field, SpanId::parse, "16")?.get()),
        (_, "time") => range(schema::TIME, field, moment)?,
        (Kind::Logs, "stream") => names(log::STREAM, field)?,
        (Kind::Logs, "level") => levels(field)?,
        (Kind::Spans, "parent") => Cheap::Span(span::PARENT, id(field, SpanId::parse, "16")?.get()),
        (Kind::Spans, "kind") => names(span::KIND, field)?,
        (Kind::Spans, "caller") => names(span::CALLER, field)?,
        (Kind::Spans, "duration") => range(span::DURATION, field, duration)?,
        (Kind::Spans, "status") if is_word(field) => names(span::STATUS, field)?,
        (Kind::Spans, "status") => range(span::HTTP_STATUS, field, number)?,
        (Kind::Spans, "name") => {
            let pattern = like(field)?;
            return Ok(Test::Text(pattern));
        }
        _ => return Ok(Test::Attribute(AttributeTest::new(field)?)),
    };
    Ok(Test::Cheap(cheap))
}

pub(super) fn mistake(field: &Field, message: String) -> QueryError {
    QueryError {
        at: field.at,
        message,
    }
}

fn is_word(field: &Field) -> bool {
    field.op == Op::Is
        && field
            .value
            .text
            .starts_with(|c: char| c.is_ascii_alphabetic())
}

/// A pattern with `*`; without one, the whole must be equal. Case does not matter.
pub(super) fn wildcard(field: &Field) -> Option<String> {
    let text = &field.value.text;
    if field.value.quoted || !text.contains('*') {
        return None;
    }
    let parts: Vec<String> = text.split('*').map(regex::escape).collect();
    Some(format!("^(?is:{})$", parts.join(".*")))
}

fn like(field: &Field) -> Result<Pattern, QueryError> {
    only_is(field)?;
    let whole = || format!("^(?is:{})$", regex::escape(&field.value.text));
    let pattern = wildcard(field).unwrap_or_else(whole);
    let regex = regex::Regex::new(&pattern);
    let regex = regex.map_err(|error| mistake(field, error.to_string()))?;
    Ok(Pattern::regex(regex))
}

fn only_is(field: &Field) -> Result<(), QueryError> {
    if field.op == Op::Is {
        Ok(())
    } else {
        let key = &field.key;
        Err(mistake(
            field,
            format!("`{key}` has no order; ask with `{key}:`"),
        ))
    }
}

fn names(column: usize, field: &Field) -> Result<Cheap, QueryError> {
    only_is(field)?;
    let test = match wildcard(field) {
        Some(pattern) => {
            let regex = regex::Regex::new(&pattern);
            NameTest::Like(regex.map_err(|error| mistake(field, error.to_string()))?)
        }
        None => NameTest::OneOf(vec![field.value.text.to_ascii_lowercase()]),
    };
    Ok(Cheap::Names(column, test))
}

fn levels(field: &Field) -> Result<Cheap, QueryError> {
    let name = field.value.text.to_ascii_lowercase();
    let name = if name == "warning" { "warn" } else { &name };
    let Some(wanted) = Level::named(name) else {
        let all: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
        let message = format!("`{name}` is no level; there are {}", all.join(", "));
        return Err(mistake(field, message));
    };
    let fits = |level: &Level| match field.op {
        Op::Is => *level == wanted,
        Op::Less => *level < wanted,
        Op::LessOrIs => *level <= wanted,
        Op::More => *level > wanted,
        Op::MoreOrIs => *level >= wanted,
    };
    let levels = Level::ALL.into_iter().filter(fits);
    let names = levels.map(|level| level.as_str().to_owned()).collect();
    Ok(Cheap::Names(log::LEVEL, NameTest::OneOf(names)))
}

fn id<T>(field: &Field, parse: fn(&[u8]) -> Option<T>, digits: &str) -> Result<T, QueryError> {
    only_is(field)?;
    let text = field.value.text.to_ascii_lowercase();
    parse(text.as_bytes()).ok_or_else(|| {
        let key = &field.key;
        mistake(
            field,
            format!("the id of a {key} has {digits} hexadecimal digits"),
        )
    })
}

fn range(column: usize, field: &Field, read: fn(&str) -> Option<i64>) -> Result<Cheap, QueryError> {
    let read = |text: &str| {
        let key = &field.key;
        read(text).ok_or_else(|| mistake(field, format!("`{text}` does not fit `{key}`")))
    };
    let text = &field.value.text;
    let (from, to) = match (field.op, text.split_once("..")) {
        (Op::Is, Some((from, to))) if !field.value.quoted => (read(from)?, read(to)?),
        (Op::Is, _) => (read(text)?, read(text)?),
        (Op::Less, _) => (i64::MIN, read(text)?.saturating_sub(1)),
        (Op::LessOrIs, _) => (i64::MIN, read(text)?),
        (Op::More, _) => (read(text)?.saturating_add(1), i64::MAX),
        (Op::MoreOrIs, _) => (read(text)?, i64::MAX),
    };
    Ok(Cheap::Range(column, from, to))
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn moment(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_micros)
}

/// Microseconds of `100ms`, `1.5s`, `2m`, `50us`.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] = [
        ("us", 1.0),
        ("µs", 1.0),
        ("ms", 1e3),
        ("s", 1e6),
        ("m", 60e6),
        ("h", 3600e6),
    ];
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (count, unit) = text.split_at(split);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let micros = count.parse::<f64>().ok()? * factor;
    // Beyond the range of the type it stops at its ends, which is meant.
    Some(micros.round() as i64)
}
