//! What crosses the wire of the admin API, beside the node's own views.

use atoll_base::RevisionNumber;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::words;
use crate::manifest::Mistake;

/// What is to be done with a service.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OrderKind {
    /// Build the folder and let the new revision take over.
    Deploy {
        /// A folder on the node's machine; the service's own if absent.
        dir: Option<String>,
    },
    /// Bring an earlier revision back.
    Rollback {
        /// Which; if absent, the newest one before the current that has served.
        #[schema(value_type = Option<u32>)]
        revision: Option<RevisionNumber>,
    },
    /// New instances of the current revision.
    Restart,
    /// Change the number of instances.
    Scale {
        /// So many.
        instances: u32,
    },
}

impl OrderKind {
    /// For the audit log.
    pub fn words(&self) -> String {
        match self {
            Self::Deploy { dir: None } => "deploy".to_owned(),
            Self::Deploy { dir: Some(dir) } => format!("deploy {dir}"),
            Self::Rollback { revision: None } => "roll back".to_owned(),
            Self::Rollback {
                revision: Some(revision),
            } => format!("roll back to revision {revision}"),
            Self::Restart => "restart".to_owned(),
            Self::Scale { instances: 1 } => "scale to 1 instance".to_owned(),
            Self::Scale { instances } => format!("scale to {instances} instances"),
        }
    }
}

/// An order, with its author and its reason, for the history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NewDeployment {
    /// What is to be done.
    #[serde(flatten, deserialize_with = "named")]
    pub order: OrderKind,
    /// Who asks, for the history. Over the Unix socket only; who comes with a token or a session is known.
    #[serde(default)]
    pub who: Option<String>,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// An order whose kind is said by name: serde takes its place among the kinds, a number, as well.
fn named<'de, D: Deserializer<'de>>(from: D) -> Result<OrderKind, D::Error> {
    use serde::de::Error;
    let body = serde_json::Map::deserialize(from)?;
    if body.get("kind").is_some_and(|kind| !kind.is_string()) {
        return Err(D::Error::custom(
            "`kind` must be a string: deploy, rollback, restart or scale",
        ));
    }
    OrderKind::deserialize(serde_json::Value::Object(body)).map_err(D::Error::custom)
}

/// A deployment that has begun.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Its id.
    pub deployment: i64,
}

/// A deployment, in the history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// Its id.
    pub id: i64,
    /// Of which service.
    pub service: String,
    /// up, deploy, rollback, restart or scale.
    #[schema(schema_with = words::deployment_kind)]
    pub kind: String,
    /// The revision that was to serve.
    pub revision: Option<u32>,
    /// The one that served before.
    pub previous: Option<u32>,
    /// The SHA-256 of the revision's files.
    pub digest: Option<String>,
    /// Who asked.
    pub who: String,
    /// Why.
    pub why: String,
    /// When it began (RFC 3339).
    #[schema(format = DateTime)]
    pub started: String,
    /// When it ended (RFC 3339).
    #[schema(format = DateTime)]
    pub ended: Option<String>,
    /// succeeded, failed or interrupted; null while it runs.
    #[schema(schema_with = words::outcome)]
    pub outcome: Option<String>,
    /// What went wrong, or what changed.
    pub detail: String,
    /// The code of what went wrong, for `atoll explain`.
    pub code: Option<String>,
    /// Milliseconds from begin to end.
    pub took_ms: Option<u64>,
}

impl From<atoll_deploy::Deployment> for DeploymentView {
    fn from(entry: atoll_deploy::Deployment) -> Self {
        let took = entry
            .ended
            .map(|ended| ended.since(entry.started).as_millis());
        Self {
            id: entry.id,
            service: entry.service.to_string(),
            kind: entry.kind.as_str().to_owned(),
            revision: entry.revision.map(|revision| revision.0),
            previous: entry.previous.map(|revision| revision.0),
            digest: entry.digest,
            who: entry.who,
            why: entry.why,
            started: entry.started.to_string(),
            ended: entry.ended.map(|ended| ended.to_string()),
            outcome: entry.outcome.map(|outcome| outcome.as_str().to_owned()),
            detail: entry.detail,
            code: entry.code,
            took_ms: took.and_then(|millis| u64::try_from(millis).ok()),
        }
    }
}

/// An error, after RFC 9457.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// The code under which `atoll explain` tells more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The mistakes in the manifests, drawn for a terminal without colors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawing: Option<String>,
    /// The same mistakes, one by one.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Mistake>)]
    pub mistakes: Box<[Mistake]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_known_by_its_name() {
        let new: NewDeployment =
            serde_json::from_str(r#"{"why":"more","kind":"scale","instances":3}"#).unwrap();
        assert!(matches!(new.order, OrderKind::Scale { instances: 3 }));
        assert_eq!(new.why, "more");
        for wrong in [
            r#"{"kind":0}"#,
            r#"{"kind":null}"#,
            r#"{"kind":"bake"}"#,
            r#"{"kind":"scale"}"#,
            r#"{}"#,
        ] {
            assert!(
                serde_json::from_str::<NewDeployment>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
