//! What the revision that serves was told, and what it was not told and goes by all the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use atoll_base::{RevisionNumber, ServiceName};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::{Json, Path};
use super::types::Problem;
use crate::manifest::ServiceFile;
use crate::node::Node;

/// The table whose values nobody is told: they may be secrets.
const SECRET: &str = "env.";

/// The settings of a service.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettingsView {
    /// Whose.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// The revision that serves; they are its own, whatever its folder says by now.
    #[schema(value_type = u32)]
    pub revision: RevisionNumber,
    /// Each setting, by its key.
    pub settings: Vec<SettingView>,
}

/// A setting.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettingView {
    /// As in `service.toml`, with the tables it is in: `resources.memory`, `route[0].path`.
    pub key: String,
    /// Its value; none of a variable of the environment, which may be a secret.
    pub value: Option<String>,
    /// Whether `service.toml` says it; otherwise it is the default.
    pub given: bool,
}

/// What holds for the revision that serves: all that its `service.toml` says, and the defaults of the rest.
#[utoipa::path(
    get, path = "/v1/services/{service}/settings", params(("service" = String, Path)),
    responses((status = 200, body = SettingsView), (status = 404, body = Problem))
)]
pub async fn settings(
    State(node): State<Arc<Node>>,
    Path(service): Path<ServiceName>,
) -> Result<Json<SettingsView>, Problem> {
    let (current, _) = node.deployments().history().current(&service).await?;
    let Some(revision) = current else {
        let detail = format!("no revision of {service} serves, or there is no such service");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let file = crate::node::file_of(&revision)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(Json(SettingsView {
        service,
        revision: revision.number,
        settings: in_force(&file, revision.manifest.text()),
    }))
}

fn in_force(file: &ServiceFile, text: &str) -> Vec<SettingView> {
    let mut given = BTreeSet::new();
    // It was sound when the revision was made.
    let said = toml::from_str::<Value>(text).unwrap_or_default();
    walk(String::new(), &said, &mut |key, _| {
        given.insert(key);
    });
    let mut settings = Vec::new();
    let all = serde_json::to_value(file).unwrap_or_default();
    walk(String::new(), &all, &mut |key, value| {
        let hidden = key.starts_with(SECRET);
        settings.push(SettingView {
            given: given.contains(&key),
            value: (!hidden).then(|| written(value)),
            key,
        });
    });
    settings
}

/// Calls `each` with every value that is no table, and its key.
fn walk(key: String, value: &Value, each: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Object(table) => {
            let dot = if key.is_empty() { "" } else { "." };
            for (name, value) in table {
                walk(format!("{key}{dot}{name}"), value, each);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                walk(format!("{key}[{at}]"), item, each);
            }
        }
        // What is neither said nor has a default.
        Value::Null => {}
        value => each(key, value),
    }
}

/// As a person would write it: texts as they are, lists with commas.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(written).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "orders"
run = ["orders", "--fast"]
needs = ["catalog"]
request_timeout = "5s"
env = { BANK_KEY = "very secret" }
[[route]]
path = "/orders"
"#;

    #[test]
    fn what_is_said_and_what_is_default_are_told_and_no_secret() {
        let file = toml::from_str(TEXT).unwrap();
        let settings = in_force(&file, TEXT);
        let of = |key: &str| {
            let found = settings.iter().find(|own| own.key == key);
            let found = found.unwrap_or_else(|| panic!("no {key} in {settings:?}"));
            (found.value.as_deref(), found.given)
        };
        assert_eq!(of("run"), (Some("orders, --fast"), true));
        assert_eq!(of("needs"), (Some("catalog"), true));
        assert_eq!(of("request_timeout"), (Some("5s"), true));
        assert_eq!(of("stop_timeout"), (Some("10s"), false));
        assert_eq!(of("route[0].path"), (Some("/orders"), true));
        assert_eq!(of("env.BANK_KEY"), (None, true));
        assert!(settings.iter().any(|own| own.key.starts_with("scale.")));
    }
}
