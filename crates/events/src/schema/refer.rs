//! References within a schema: what they name, and that they lead on.
//!
//! Only `#` and `#/…` are taken, which is what generators write. Anchors, ids below the root and
//! dynamic references are refused: whoever compares two schemas would have to guess what they mean.

use std::collections::HashSet;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::{SchemaError, cut, place};

/// Schemas within schemas; what is deeper is refused before it is compiled.
const DEPTH_MAX: usize = 100;

/// Keywords whose schemas are held against the same value.
const SAME_VALUE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];

/// Keywords whose value is data, where `$ref` is a word like any other.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// Keywords whose members have names of their own, and are schemas.
const NAMED: [&str; 6] = [
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// What a local reference names: `#`, or `#/` and a JSON pointer.
pub(super) fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    let plain = !pointer.contains('%') && (pointer.is_empty() || pointer.starts_with('/'));
    plain.then(|| root.pointer(pointer)).flatten()
}

/// Whether a reference stands for the whole schema it is in: so it is before 2019-09.
pub(super) fn replaces(schema: &Map<String, Value>, draft: Draft) -> bool {
    draft == Draft::Draft7 && schema.contains_key("$ref")
}

/// Checks that every reference leads to something in the schema, and that none runs in a circle.
pub(super) fn check(root: &Value, draft: Draft, name: &str) -> Result<(), SchemaError> {
    let mut walk = Walk {
        root,
        draft,
        name,
        sound: HashSet::new(),
    };
    walk.schema(root, "", 0)
}

struct Walk<'a> {
    root: &'a Value,
    draft: Draft,
    name: &'a str,
    /// From which no circle can be reached: each is looked at once, however many refer to it.
    sound: HashSet<*const Value>,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, value: &'a Value, pointer: &str, depth: usize) -> Result<(), SchemaError> {
        if depth > DEPTH_MAX {
            let why = format!("it is nested deeper than {DEPTH_MAX} levels");
            return Err(self.invalid(pointer, why));
        }
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.schema(item, &format!("{pointer}/{index}"), depth + 1)?;
                }
            }
            Value::Object(members) => {
                self.references(value, members, pointer)?;
                for (keyword, value) in members {
                    let pointer = below(pointer, keyword);
                    let named = value
                        .as_object()
                        .filter(|_| NAMED.contains(&keyword.as_str()));
                    if let Some(named) = named {
                        for (name, value) in named {
                            self.schema(value, &below(&pointer, name), depth + 1)?;
                        }
                    } else if !DATA.contains(&keyword.as_str()) {
                        self.schema(value, &pointer, depth + 1)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn references(
        &mut self,
        schema: &'a Value,
        members: &Map<String, Value>,
        pointer: &str,
    ) -> Result<(), SchemaError> {
        for keyword in ["$dynamicRef", "$recursiveRef", "$id"] {
            let root = keyword == "$id" && pointer.is_empty();
            if !root && members.get(keyword).is_some_and(Value::is_string) {
                let why =
                    format!("{keyword} is not taken here; refer by \"$ref\": \"#/$defs/NAME\"");
                return Err(self.invalid(pointer, why));
            }
        }
        let Some(target) = members.get("$ref").and_then(Value::as_str) else {
            return Ok(());
        };
        if resolve(self.root, target).is_none() {
            return Err(SchemaError::Reference {
                name: self.name.to_owned(),
                pointer: place(pointer),
                target: cut(target),
            });
        }
        self.leads_on(schema, pointer, &mut Vec::new())
    }

    fn leads_on(
        &mut self,
        schema: &'a Value,
        pointer: &str,
        way: &mut Vec<&'a Value>,
    ) -> Result<(), SchemaError> {
        if way.iter().any(|own| std::ptr::eq(*own, schema)) {
            return Err(SchemaError::Circle {
                name: self.name.to_owned(),
                pointer: place(pointer),
            });
        }
        let own = std::ptr::from_ref(schema);
        let Some(members) = schema.as_object().filter(|_| !self.sound.contains(&own)) else {
            return Ok(());
        };
        way.push(schema);
        let target = members.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|target| resolve(self.root, target));
        let mut next: Vec<&Value> = target.into_iter().collect();
        if !replaces(members, self.draft) {
            for value in SAME_VALUE.iter().filter_map(|key| members.get(*key)) {
                match value {
                    Value::Array(schemas) => next.extend(schemas),
                    schema => next.push(schema),
                }
            }
        }
        for schema in next {
            self.leads_on(schema, pointer, way)?;
        }
        way.pop();
        self.sound.insert(own);
        Ok(())
    }

    fn invalid(&self, pointer: &str, why: String) -> SchemaError {
        SchemaError::Invalid {
            name: self.name.to_owned(),
            pointer: place(&cut(pointer)),
            why,
        }
    }
}

fn below(pointer: &str, name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{name}")
}
