//! Schemas that are none, values that do not match, and what breaks whom.

mod random;

use serde_json::{Value, json};

use super::*;

fn schema(value: &Value) -> Schema {
    Schema::parse(&value.to_string(), "orders.json").unwrap_or_else(|e| panic!("{value}: {e}"))
}

fn refused(text: &str) -> String {
    Schema::parse(text, "orders.json").unwrap_err().to_string()
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    for (text, says) in [
        (
            "{\n  \"type\": }",
            "orders.json is not JSON: expected value at line 2",
        ),
        (r#"{"type": "text"}"#, "orders.json: /type: "),
        (
            r#"{"properties": {"a": {"minLength": -1}}}"#,
            "/properties/a/minLength: ",
        ),
        (r#"{"pattern": "("}"#, "/pattern"),
        (r#"{"pattern": "(?=a)"}"#, "/pattern"),
        (
            r#"{"$schema": "http://json-schema.org/draft-04/schema#"}"#,
            "'http://json-schema.org/draft-04/schema#'; write",
        ),
        (
            r#"{"properties": {"a": {"$ref": "https://example.com/a.json"}}}"#,
            "/properties/a refers to 'https://example.com/a.json'",
        ),
        (r#"{"$ref": "other.json#/a"}"#, "put it into $defs"),
        (r##"{"$ref": "#/$defs/no"}"##, "/ refers to '#/$defs/no'"),
        (r##"{"$ref": "#"}"##, "refers to itself"),
        (
            r##"{"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}"##,
            "refers to itself",
        ),
        (
            r##"{"properties": {"default": {"$ref": "#/properties/default"}}}"##,
            "refers to itself",
        ),
        (
            r##"{"$defs": {"a": {"$id": "x", "$ref": "#"}}}"##,
            "$id is not taken",
        ),
        (
            r##"{"items": {"$dynamicRef": "#a"}}"##,
            "$dynamicRef is not taken",
        ),
        (&"{\"not\":".repeat(110), "not JSON"),
        (
            &format!("{}true{}", "{\"not\":".repeat(105), "}".repeat(105)),
            "deeper than 100",
        ),
    ] {
        let refused = refused(text);
        assert!(refused.contains(says), "{text}: {refused}");
    }
}

#[test]
fn what_refers_to_itself_deeper_in_the_document_is_taken() {
    let tree = schema(&json!({
        "type": "object",
        "properties": {"$ref": {"const": 1}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "default": {"$ref": "#/nowhere"}
    }));
    assert_eq!(tree.check(br#"{"next":{"next":null}}"#), Ok(()));
    assert!(tree.check(br#"{"next":{"next":5}}"#).is_err());
}

#[test]
fn mismatches_are_told_one_a_line_with_their_places() {
    let orders = schema(&json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "lines": {"type": "array", "items": {"type": "integer"}},
        }
    }));
    assert_eq!(
        orders.check(br#"{"id":"01a1fe9f-9f8a-7eaf-8166-78880ee18705"}"#),
        Ok(())
    );
    assert!(
        orders
            .check(b"{")
            .unwrap_err()
            .starts_with("it is not JSON: EOF")
    );
    assert_eq!(
        orders.check(b"[]").unwrap_err(),
        "/: [] is not of type \"object\""
    );
    let many = orders
        .check(br#"{"id":"x","lines":["a","b\nc","d",1,"e","f"]}"#)
        .unwrap_err();
    let lines: Vec<_> = many.lines().collect();
    assert_eq!(lines.len(), 5, "{many}");
    assert!(
        many.contains("/lines/0: \"a\" is not of type \"integer\""),
        "{many}"
    );
    let long = format!("\"{}\"", "x".repeat(10_000));
    assert!(orders.check(long.as_bytes()).unwrap_err().len() < 400);
}

/// One change a line: what is written now, what is relied on, and where that breaks, if it does.
const CHANGES: &str = include_str!("../../tests/fixtures/schema-breaks.ndjson");

#[test]
fn changes_break_where_something_relied_on_is_gone_and_nowhere_else() {
    let changes: Vec<Value> = CHANGES
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(changes.len() > 90);
    for change in changes {
        let found = breaks(&schema(&change["written"]), &schema(&change["read"]));
        let mut pointers = found.iter().map(|own| own.pointer.as_str());
        match change.get("at").and_then(Value::as_str) {
            None => assert_eq!(found, [], "{change}"),
            Some(at) => assert!(pointers.any(|own| own == at), "{change}: {found:?}"),
        }
    }
}

#[test]
fn reasons_say_what_has_changed() {
    let written = schema(&json!({
        "properties": {"state": {"enum": ["new", "held"]}, "sum": {"type": ["integer", "string"]}},
    }));
    let read = schema(&json!({
        "properties": {"state": {"enum": ["new"]}, "sum": {"type": "integer"}},
        "required": ["id"],
    }));
    let mut found = breaks(&written, &read);
    found.sort_by(|a, b| a.pointer.cmp(&b.pointer));
    let found: Vec<_> = found
        .iter()
        .map(|own| format!("{}: {}", own.pointer, own.reason))
        .collect();
    assert_eq!(
        found,
        [
            "/id: it is relied on, and the publisher may now leave it out",
            "/state: only \"new\" is relied on, and the publisher may now write \"held\"",
            "/sum: integer is relied on, and the publisher may now write string, integer",
        ]
    );
}

#[test]
fn large_schemas_end() {
    let twice = |next: usize| json!({"allOf": [{"$ref": format!("#/$defs/{next}")}, {"$ref": format!("#/$defs/{next}")}]});
    let mut defs: serde_json::Map<_, _> = (0..20)
        .map(|own| (own.to_string(), twice(own + 1)))
        .collect();
    defs.insert("20".to_owned(), json!({"type": "string"}));
    let many = json!({"$ref": "#/$defs/0", "$defs": defs});
    assert_eq!(
        breaks(&schema(&many), &schema(&json!({"type": "string"}))),
        []
    );
    let branch = |depth: usize| {
        (0..depth).fold(json!({"type": ["string", "null"]}), |inner, _| {
            json!({"anyOf": [{"properties": {"a": inner, "b": inner}}, {"type": "array", "items": inner}]})
        })
    };
    let other = branch(6).to_string().replace("null", "integer");
    let other: Value = serde_json::from_str(&other).unwrap();
    assert!(!breaks(&schema(&branch(6)), &schema(&other)).is_empty());
    let deep = (0..45).fold(
        json!({"type": "string"}),
        |inner, _| json!({"properties": {"a": inner}}),
    );
    let deeper = json!({"properties": {"a": deep, "z": {}}});
    let same = json!({"properties": {"a": deep}});
    assert_eq!(breaks(&schema(&deeper), &schema(&same)), []);
}
