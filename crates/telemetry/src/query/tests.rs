//! The parser, and the evaluator against one that looks at a row at a time.

use atoll_base::{RevisionNumber, ServiceName, SpanId, Timestamp, TraceId};
use proptest::prelude::*;

use super::lexer::Op;
use super::parser::{Expr, Field, parse};
use super::{Columns, Filter};
use crate::columns::LogColumns;
use crate::schema::Kind;
use crate::{Level, NewRecord, Stream};

fn mistake(text: &str) -> (usize, String) {
    let error = Filter::parse(Kind::Logs, text).unwrap_err();
    (error.at, error.message)
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, at) in [
        ("a )", 3),
        ("(a", 1),
        ("a AND", 6),
        ("OR a", 1),
        ("ä \"x", 3),
        ("level:bad", 1),
        ("a level>=bad", 3),
        ("/[/", 1),
        ("trace:12", 1),
        ("x revision:>y", 3),
        ("service>a", 1),
        ("status:>x", 1),
    ] {
        assert_eq!(mistake(text).0, at, "{text}: {}", mistake(text).1);
    }
    assert!(mistake(&"(".repeat(40)).1.contains("nested"));
    assert!(mistake(&"a ".repeat(101)).1.contains("100"));
    assert!(mistake(&"a".repeat(5000)).1.contains("4096"));
}

#[test]
fn words_that_look_like_fields_are_words() {
    for text in ["http://x/y", "error:", "12:30", "/orders/7", "-", "a:)"] {
        let found = parse(text.trim_end_matches(')')).unwrap();
        assert!(matches!(found, Expr::Text(_)), "{text}: {found:?}");
    }
    assert!(matches!(parse("/a b/").unwrap(), Expr::Regex { .. }));
    assert!(matches!(parse("-a").unwrap(), Expr::Not(_)));
    assert_eq!(parse("  ").unwrap(), Expr::And(Vec::new()));
    let both = Expr::And(vec![Expr::Text("a".into()), Expr::Text("b".into())]);
    assert_eq!(parse("a b").unwrap(), both);
    assert_eq!(parse("a AND b").unwrap(), both);
    assert_eq!(parse(r#""q \"x\"""#).unwrap(), Expr::Text("q \"x\"".into()));
}

#[test]
fn spans_are_asked_by_duration_status_and_name() {
    for text in [
        "duration:>100ms",
        "duration:1ms..1.5s",
        "status:>=500",
        "status:error",
        "name:GET*",
        "kind:server caller:edge parent:00f067aa0ba902b7",
        "http.request.method:GET",
        "time:>=2026-11-21T03:00:00Z",
    ] {
        Filter::parse(Kind::Spans, text).unwrap();
    }
    Filter::parse(Kind::Spans, "duration:>100").unwrap_err();
}

/// What a row says, for the evaluator that looks at rows.
fn naive(expr: &Expr, row: &NewRecord) -> bool {
    match expr {
        Expr::And(all) => all.iter().all(|expr| naive(expr, row)),
        Expr::Or(any) => any.iter().any(|expr| naive(expr, row)),
        Expr::Not(expr) => !naive(expr, row),
        Expr::Text(text) => row.message.to_lowercase().contains(&text.to_lowercase()),
        Expr::Regex { pattern, .. } => regex::Regex::new(pattern).unwrap().is_match(&row.message),
        Expr::Field(field) => naive_field(field, row),
    }
}

fn naive_field(field: &Field, row: &NewRecord) -> bool {
    let value = field.value.text.as_str();
    match field.key.as_str() {
        "service" => match value.strip_suffix('*') {
            Some(start) => row.service.as_str().starts_with(start),
            None => row.service.as_str() == value,
        },
        "instance" => row.instance == value,
        "stream" => row.stream.as_str() == value,
        "trace" => row.trace.is_some_and(|trace| trace.to_string() == value),
        "span" => row.span.is_some_and(|span| span.to_string() == value),
        "level" => {
            let wanted = Level::named(value).unwrap();
            row.level
                .is_some_and(|level| compare(field.op, level.cmp(&wanted)))
        }
        "revision" => compare(field.op, row.revision.0.cmp(&value.parse().unwrap())),
        key => [&row.attributes, &row.message].into_iter().any(|json| {
            let object: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
            match (&object[key], field.op) {
                (serde_json::Value::Number(number), Op::Is) => number.to_string() == value,
                (serde_json::Value::String(text), Op::Is) => text == value,
                (serde_json::Value::Number(number), op) => {
                    let wanted: f64 = value.parse().unwrap();
                    compare(op, number.as_f64().unwrap().total_cmp(&wanted))
                }
                _ => false,
            }
        }),
    }
}

fn compare(op: Op, order: std::cmp::Ordering) -> bool {
    match op {
        Op::Is => order.is_eq(),
        Op::Less => order.is_lt(),
        Op::LessOrIs => order.is_le(),
        Op::More => order.is_gt(),
        Op::MoreOrIs => order.is_ge(),
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn query() -> impl Strategy<Value = String> {
    let test = prop_oneof![
        "[abA1 -]{1,3}".prop_map(|text| format!("\"{text}\"")),
        "[abäÄ]{1,2}",
        "/(\\^a|b\\$|a\\.b|\\^\\$)/",
        "service:(orders|pay|o\\*)",
        "instance:(orders-1|x)",
        "stream:(stdout|stderr)",
        "level:(<|<=|>|>=|)(info|warn|error)",
        "revision:(<|<=|>|>=|)[0-3]",
        "n:(<|<=|>|>=|)[0-3]",
        "m:[ab]",
        Just(format!("trace:{TRACE}")),
        Just("span:00f067aa0ba902b7".to_owned()),
    ];
    test.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.clone().prop_map(|a| format!("NOT {a}")),
            inner.prop_map(|a| format!("-{a}")),
        ]
    })
}

fn record() -> impl Strategy<Value = NewRecord> {
    let message = prop_oneof![
        "[abABäÄ1 -]{0,6}",
        "[ab]{0,2}\n[ab]{0,2}",
        "\\{\"n\":[0-4],\"m\":\"[ab]\"\\}",
    ];
    let attributes = prop_oneof![Just(String::new()), "\\{\"m\":\"[ab]\",\"n\":[0-4]\\}"];
    let level = proptest::sample::select(vec![
        None,
        Some(Level::Info),
        Some(Level::Warn),
        Some(Level::Error),
    ]);
    let service = proptest::sample::select(vec!["orders", "pay"]);
    (
        message,
        attributes,
        level,
        service,
        0..4u32,
        any::<(bool, bool, bool)>(),
    )
        .prop_map(
            |(message, attributes, level, service, revision, (stdout, trace, span))| NewRecord {
                time: Timestamp::from_micros(i64::from(revision)),
                service: ServiceName::new(service).unwrap(),
                instance: format!("{service}-1"),
                revision: RevisionNumber(revision),
                stream: if stdout {
                    Stream::Stdout
                } else {
                    Stream::Stderr
                },
                level,
                trace: trace.then(|| TraceId::parse(TRACE.as_bytes()).unwrap()),
                span: span.then(|| SpanId::new(0x00f0_67aa_0ba9_02b7).unwrap()),
                attributes,
                continued: false,
                message,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_query_makes_it_panic(text in "\\PC{0,80}") {
        let _ = Filter::parse(Kind::Logs, &text);
        let _ = Filter::parse(Kind::Spans, &text);
    }

    #[test]
    fn no_text_near_a_query_makes_it_panic(text in "[a:<>=/\"\\\\()*. ANDORT0-9s-]{0,60}") {
        let _ = Filter::parse(Kind::Logs, &text);
        let _ = Filter::parse(Kind::Spans, &text);
    }

    #[test]
    fn columns_answer_as_rows_do(text in query(), rows in prop::collection::vec(record(), 0..12)) {
        let expr = parse(&text).unwrap();
        let filter = Filter::parse(Kind::Logs, &text).unwrap();
        let mut columns = LogColumns::new();
        for (number, row) in (1..).zip(&rows) {
            columns.push(number, &row.row());
        }
        let batch = columns.finish();
        let columns = Columns::new(Kind::Logs, &batch, &Kind::Logs.all_columns());
        let found = &filter.first(&columns) & &filter.second(&columns);
        for (place, row) in rows.iter().enumerate() {
            prop_assert_eq!(found.value(place), naive(&expr, row), "{}: {:?}", text, row);
        }
    }
}
