//! API keys, over the API.

use std::sync::Arc;

use atoll_base::{Coded as _, Timestamp};
use atoll_console::Note;
use atoll_proxy::auth::ApiKey;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Json, Path};
use super::types::Problem;
use crate::node::{KeyRingError, Node};

/// A key that is wanted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Who will have it: services see it as the subject. Several keys may have one name.
    pub name: String,
    /// What it allows.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// From when on it is refused (RFC 3339). Default: never.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// What is known of a key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// The part of the key that is no secret.
    pub id: String,
    /// Who has it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// From when on it is refused (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// When it was taken back (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked: Option<Timestamp>,
}

/// A key that was made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key itself. It is told this once.
    pub key: String,
    /// What is known of it.
    #[serde(flatten)]
    pub view: KeyView,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created: key.created,
            expires: key.expires,
            revoked: key.revoked,
        }
    }
}

impl From<KeyRingError> for Problem {
    fn from(error: KeyRingError) -> Self {
        let status = match &error {
            KeyRingError::Name(_) | KeyRingError::Scope(_) | KeyRingError::Over(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            KeyRingError::Unknown(_) => StatusCode::NOT_FOUND,
            KeyRingError::NoRandomness(_) | KeyRingError::Store(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let code = match &error {
            KeyRingError::Store(error) => Some(error.code().to_string()),
            _ => None,
        };
        Self {
            code,
            ..Self::new(status, error.to_string())
        }
    }
}

/// All keys, the oldest first.
#[utoipa::path(get, path = "/v1/keys", responses((status = 200, body = Vec<KeyView>)))]
pub async fn list(State(node): State<Arc<Node>>) -> Result<Json<Vec<KeyView>>, Problem> {
    let keys = node.api_keys().list().await.map_err(KeyRingError::from)?;
    Ok(Json(keys.into_iter().map(KeyView::from).collect()))
}

/// Makes a key. It is in use when this is answered.
#[utoipa::path(
    post, path = "/v1/keys", request_body = NewKey,
    responses((status = 201, body = CreatedKey), (status = 422, body = Problem))
)]
pub async fn create(
    State(node): State<Arc<Node>>,
    Extension(note): Extension<Note>,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    let scopes = match new.scopes.join(", ") {
        none if none.is_empty() => "without scopes".to_owned(),
        some => format!("scopes {some}"),
    };
    note.write(&format!("make a key for {}, {scopes}", new.name));
    let made = node.api_keys().create(&new.name, new.scopes, new.expires);
    let (key, stored) = made.await?;
    let view = stored.into();
    Ok((StatusCode::CREATED, Json(CreatedKey { key, view })))
}

/// Takes a key back. It is refused when this is answered.
#[utoipa::path(
    post, path = "/v1/keys/{id}/revoke", params(("id" = String, Path)),
    responses((status = 200, body = KeyView), (status = 404, body = Problem))
)]
pub async fn revoke(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    Extension(note): Extension<Note>,
) -> Result<Json<KeyView>, Problem> {
    let revoked = node.api_keys().revoke(&id).await?;
    note.write(&format!("take back the key of {}", revoked.name));
    Ok(Json(revoked.into()))
}
