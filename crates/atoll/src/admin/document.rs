//! The OpenAPI document, and what is true of all operations alike.
//!
//! Handlers say what is their own. That a stranger gets 401, that what cannot be read gets 400, and
//! that every mistake is `application/problem+json`, is decided for all at the door and in
//! [`super::extract`], so it is added here, once, instead of forty times by hand. Done on JSON: the
//! builders of utoipa would take three times the lines.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use utoipa::OpenApi;

/// Where the schema of problems is.
const PROBLEM: &str = "#/components/schemas/Problem";

/// Answers that leave out what they have not. All others write null.
const SPARSE: [&str; 5] = ["BreakerView", "Facts", "LeftOutView", "Mistake", "Problem"];

/// The document of all routes, also of those of the console's door.
pub(super) fn document() -> Value {
    let mut document = super::Document::openapi();
    document.merge(atoll_console::Document::openapi());
    // It is made of maps with texts as keys: nothing in it cannot be JSON.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    complete(&mut document);
    document
}

fn complete(document: &mut Value) {
    document["components"]["securitySchemes"] =
        json!({"token": {"type": "http", "scheme": "bearer"}});
    document["security"] = json!([{"token": []}]);
    let paths = document["paths"].as_object_mut();
    for (path, operations) in paths.into_iter().flatten() {
        let operations = operations.as_object_mut();
        for (method, operation) in operations.into_iter().flatten() {
            operation["operationId"] = name(method, path).into();
            refusals(operation);
        }
    }
    let asked = asked(document);
    let schemas = document["components"]["schemas"].as_object_mut();
    for (schema, own) in schemas.into_iter().flatten() {
        if !asked.contains(schema) {
            nulls(own, SPARSE.contains(&schema.as_str()));
        }
    }
    unsigned(document);
    problems(document);
}

/// A name that no other operation has: handlers of different modules are called alike.
fn name(method: &str, path: &str) -> String {
    let words = path.split(|own: char| !own.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty() && *word != "v1");
    words.fold(method.to_owned(), |name, word| name + "_" + word)
}

/// The schemas of what is sent to the node, with all within them.
fn asked(document: &Value) -> BTreeSet<String> {
    let operations = document["paths"].as_object().into_iter().flatten();
    let operations = operations.filter_map(|(_, operations)| operations.as_object());
    let bodies = operations.flatten().map(|(_, own)| &own["requestBody"]);
    let mut found = BTreeSet::new();
    let mut left: Vec<&Value> = bodies.collect();
    while let Some(value) = left.pop() {
        let schema = value["$ref"]
            .as_str()
            .and_then(|own| own.rsplit('/').next());
        if let Some(schema) = schema
            && found.insert(schema.to_owned())
        {
            left.push(&document["components"]["schemas"][schema]);
        }
        match value {
            Value::Object(map) => left.extend(map.values()),
            Value::Array(list) => left.extend(list),
            _ => {}
        }
    }
    found
}

/// Says of members that may be null that they are there, or of `sparse` schemas that they are not null.
/// utoipa takes every `Option` for both.
fn nulls(schema: &mut Value, sparse: bool) {
    let may_be_null = |own: &Value| {
        let listed =
            |key: &str, null: &Value| own[key].as_array().is_some_and(|all| all.contains(null));
        listed("type", &json!("null")) || listed("oneOf", &json!({"type": "null"}))
    };
    if let Some(own) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let null = own.iter_mut().filter(|(_, own)| may_be_null(own));
        let names: Vec<Value> = null
            .map(|(name, own)| {
                if sparse && let Some(all) = own.get_mut("oneOf") {
                    *own = all[0].take();
                } else if sparse {
                    own["type"] = own["type"][0].take();
                }
                json!(name)
            })
            .collect();
        if !sparse && !names.is_empty() {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            schema["required"] = required.into_iter().chain(names).collect();
        }
    }
    let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        nulls(part, sparse);
    }
}

/// Adds how an operation is refused before its handler sees it.
fn refusals(operation: &mut Value) {
    let parameters = operation["parameters"].as_array();
    let takes = |place| parameters.is_some_and(|all| all.iter().any(|own| own["in"] == place));
    let has_body = operation.get("requestBody").is_some();
    let mut more = vec![
        ("401", "Nobody that is known"),
        ("403", "The role does not allow it"),
    ];
    if takes("query") || has_body {
        more.push(("400", "It cannot be read"));
    }
    if takes("query") || takes("path") || has_body {
        more.push(("422", "It can be read, and means nothing"));
    }
    if takes("path") {
        more.push(("404", "There is no such thing"));
    }
    if has_body {
        more.push(("413", "The body is too long"));
        more.push(("415", "The body is not said to be JSON"));
    }
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    for (status, description) in more {
        let schema = json!({"schema": {"$ref": PROBLEM}});
        let response = json!({"description": description, "content": {"application/json": schema}});
        responses.entry(status).or_insert(response);
    }
    let bare = responses
        .iter_mut()
        .filter(|(status, own)| status.as_str() >= "400" && own.get("content").is_none());
    for (_, response) in bare {
        response["content"] = json!({"application/json": {"schema": {"$ref": PROBLEM}}});
    }
}

/// utoipa calls what has no sign `int32` or `int64`, which ends at half of what is taken.
fn unsigned(value: &mut Value) {
    if let Value::Object(map) = value {
        let max = match map.get("format").and_then(Value::as_str) {
            Some("int32") => u64::from(u32::MAX),
            Some("int64") => u64::MAX,
            _ => 0,
        };
        if max > 0 && map.get("minimum").and_then(Value::as_u64) == Some(0) {
            map.remove("format");
            map.entry("maximum").or_insert(max.into());
        }
    }
    below(value).for_each(unsigned);
}

/// A body that is a problem is said to be one.
fn problems(value: &mut Value) {
    if let Some(content) = value.get_mut("content").and_then(Value::as_object_mut)
        && content
            .get("application/json")
            .is_some_and(|own| own["schema"]["$ref"] == PROBLEM)
        && let Some(schema) = content.remove("application/json")
    {
        content.insert("application/problem+json".to_owned(), schema);
    }
    below(value).for_each(problems);
}

fn below(value: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match value {
        Value::Object(map) => Box::new(map.values_mut()),
        Value::Array(list) => Box::new(list.iter_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_says_how_it_is_refused() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                for status in ["401", "403"] {
                    assert!(responses.contains_key(status), "{method} {path}: {status}");
                }
                for (status, response) in responses
                    .iter()
                    .filter(|(status, _)| status.as_str() >= "400")
                {
                    let content = response["content"].as_object().unwrap();
                    let kinds: Vec<&String> = content.keys().collect();
                    assert_eq!(
                        kinds,
                        ["application/problem+json"],
                        "{method} {path}: {status}"
                    );
                }
            }
        }
        let refused = &document["paths"]["/v1/keys"]["post"]["responses"];
        assert!(refused["415"].is_object() && refused["404"].is_null());
    }

    /// The console's types are made of the copy: who changes an answer sees what pages make of it.
    #[test]
    fn the_copy_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui/openapi.json");
        let now = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("ATOLL_WRITE_OPENAPI").is_some() {
            return std::fs::write(path, now).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == now,
            "the API is not what ui/openapi.json says; write it, and the console's types, anew: cargo xtask openapi"
        );
    }

    #[test]
    fn parameters_of_a_path_stand_in_it() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        for (path, operations) in paths {
            for operation in operations.as_object().unwrap().values() {
                let parameters = operation["parameters"].as_array();
                for own in parameters.into_iter().flatten() {
                    let name = format!("{{{}}}", own["name"].as_str().unwrap());
                    assert_eq!(own["in"] == "path", path.contains(&name), "{path}: {own}");
                }
            }
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let mut seen = BTreeSet::new();
        for operation in paths
            .values()
            .flat_map(|own| own.as_object().unwrap().values())
        {
            let name = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(name.to_owned()), "{name}");
        }
        assert!(seen.contains("get_services_service_history"), "{seen:?}");
    }

    #[test]
    fn every_member_says_what_it_is() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let parts = schemas.iter().flat_map(|(name, own)| {
            let parts = own["allOf"].as_array().into_iter().flatten();
            parts.chain([own]).map(move |part| (name, part))
        });
        let mut members = 0;
        for (name, part) in parts {
            for (member, own) in part["properties"].as_object().into_iter().flatten() {
                let told = [own, &own["oneOf"][0]].map(|own| own["description"].is_string());
                assert!(told.contains(&true), "{name}.{member}: {own}");
                members += 1;
            }
        }
        assert!(members > 100, "{members}");
    }

    #[test]
    fn answers_write_null_and_requests_need_not() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let has = |schema: &str, member| {
            let required = schemas[schema]["required"].as_array();
            required.is_some_and(|all| all.contains(&json!(member)))
        };
        assert!(has("JobView", "answer") && has("DeploymentView", "ended"));
        assert!(!has("NewKey", "expires") && !has("Problem", "code"));
        assert_eq!(schemas["Problem"]["properties"]["code"]["type"], "string");
    }

    #[test]
    fn what_has_no_sign_goes_to_its_end() {
        let mut document =
            json!({"limit": {"format": "int32", "minimum": 0}, "at": [{"format": "int64"}]});
        unsigned(&mut document);
        let wanted = json!({"limit": {"minimum": 0, "maximum": 4_294_967_295_u64}, "at": [{"format": "int64"}]});
        assert_eq!(document, wanted);
    }
}
