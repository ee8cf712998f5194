//! If no break is found between two random schemas, no random document tells them apart.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::super::*;

fn scalar() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(1.0),
        json!(1.5),
        json!(-3),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("2026-01-31"),
    ])
}

fn document() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            btree_map(name(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn simple() -> impl Strategy<Value = (String, Value)> {
    let types = vec![
        "null", "boolean", "object", "array", "string", "integer", "number",
    ];
    let count = 0..3_u64;
    prop_oneof![
        4 => subsequence(types, 1..4).prop_map(|own| ("type".to_owned(), json!(own))),
        2 => subsequence(vec!["a", "b", "c"], 1..3).prop_map(|own| ("required".to_owned(), json!(own))),
        2 => vec(scalar(), 1..4).prop_map(|mut own| {
            own.dedup();
            ("enum".to_owned(), json!([own[0]]))
        }),
        1 => scalar().prop_map(|own| ("const".to_owned(), own)),
        2 => (select(vec!["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), -1..3_i32)
            .prop_map(|(key, own)| (key.to_owned(), json!(own))),
        2 => (select(vec!["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]), count)
            .prop_map(|(key, own)| (key.to_owned(), json!(own))),
        1 => select(vec![("multipleOf", json!(2)), ("multipleOf", json!(0.5)), ("uniqueItems", json!(true)),
            ("pattern", json!("^a")), ("format", json!("date")),
            ("dependentRequired", json!({"a": ["b"]}))])
            .prop_map(|(key, own)| (key.to_owned(), own)),
    ]
}

fn object(entries: Vec<(String, Value)>) -> Value {
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}

fn schema_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => vec(simple(), 0..3).prop_map(object),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => select(vec![json!({"$ref": "#/$defs/p"}), json!({"$ref": "#/$defs/q"})]),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let properties = btree_map(name(), inner.clone(), 1..3);
        let list = vec(inner.clone(), 1..3);
        let complex = prop_oneof![
            4 => properties.prop_map(|own| ("properties".to_owned(), json!(own))),
            2 => inner.clone().prop_map(|own| ("additionalProperties".to_owned(), own)),
            1 => inner.clone().prop_map(|own| ("patternProperties".to_owned(), json!({"^[ab]": own}))),
            2 => inner.clone().prop_map(|own| ("items".to_owned(), own)),
            1 => list.clone().prop_map(|own| ("prefixItems".to_owned(), json!(own))),
            3 => (select(vec!["allOf", "anyOf", "oneOf"]), list)
                .prop_map(|(key, own)| (key.to_owned(), json!(own))),
            1 => (select(vec!["not", "contains", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "if", "then", "else"]), inner)
                .prop_map(|(key, own)| (key.to_owned(), own)),
        ];
        (vec(simple(), 0..2), vec(complex, 1..3)).prop_map(|(mut own, more)| {
            own.extend(more);
            object(own)
        })
    })
}

/// Definitions that may refer to each other, deeper in the document.
fn whole() -> impl Strategy<Value = Value> {
    let deeper = select(vec![
        json!({"$ref": "#/$defs/q"}),
        json!({"$ref": "#"}),
        json!({"type": "string"}),
    ]);
    (schema_value(), simple(), simple(), deeper, any::<bool>()).prop_map(
        |(mut root, p, q, deeper, old)| {
            if let Value::Object(members) = &mut root {
                let p = object(vec![p, ("properties".to_owned(), json!({"a": deeper}))]);
                let q = object(vec![q, ("items".to_owned(), json!({"$ref": "#/$defs/p"}))]);
                members.insert("$defs".to_owned(), json!({"p": p, "q": q}));
                if old {
                    let draft = json!("http://json-schema.org/draft-07/schema#");
                    members.insert("$schema".to_owned(), draft);
                }
            }
            root
        },
    )
}

/// Removes, adds or replaces something somewhere: schemas that have nothing in common tell little.
fn change(value: &mut Value, path: &[usize], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            let key = members.keys().nth(first % members.len()).cloned().unwrap();
            if rest.is_empty() || key == "$schema" {
                members.remove(&key);
                if let (Value::Object(with), true) = (with, key != "$defs") {
                    members.extend(
                        with.iter()
                            .take(1)
                            .map(|(key, own)| (key.clone(), own.clone())),
                    );
                }
            } else {
                change(&mut members[&key], rest, with);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let index = first % items.len();
            change(&mut items[index], rest, with);
        }
        _ => {}
    }
}

fn parse(value: &Value) -> Option<Schema> {
    Schema::parse(&value.to_string(), "random").ok()
}

fn holds(written: &Schema, read: &Schema, documents: &[Value]) -> Result<bool, TestCaseError> {
    let found = breaks(written, read);
    for document in documents {
        let bytes = document.to_string();
        let told_apart =
            written.check(bytes.as_bytes()).is_ok() && read.check(bytes.as_bytes()).is_err();
        let message = format!(
            "{document} is valid by {:?} and not by {:?}",
            written.value, read.value
        );
        prop_assert!(!(told_apart && found.is_empty()), "{}", message);
    }
    Ok(found.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_overlooked(
        one in whole(),
        path in vec(0..4_usize, 1..6),
        with in vec(simple(), 0..2).prop_map(object),
        documents in vec(document(), 40),
    ) {
        let mut other = one.clone();
        change(&mut other, &path, &with);
        if let (Some(one), Some(other)) = (parse(&one), parse(&other)) {
            holds(&one, &other, &documents)?;
            holds(&other, &one, &documents)?;
        }
    }

    #[test]
    fn nothing_is_overlooked_between_strangers(
        one in schema_value(),
        other in schema_value(),
        documents in vec(document(), 40),
    ) {
        let with = |own: Value| match own {
            Value::Object(mut members) => {
                members.insert("$defs".to_owned(), json!({"p": {"type": "string"}, "q": {"minimum": 1}}));
                Value::Object(members)
            }
            own => own,
        };
        if let (Some(one), Some(other)) = (parse(&with(one)), parse(&with(other))) {
            holds(&one, &other, &documents)?;
        }
    }
}
