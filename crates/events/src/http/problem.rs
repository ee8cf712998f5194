//! Refusals: `application/problem+json` (RFC 9457), with a detail that says what to do.

use atoll_base::ServiceName;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::cursor::Cursor;
use crate::bus::BusError;
use crate::cloudevents::Invalid;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The name of the status.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong, and what to do.
    pub detail: String,
    /// Where reading can begin anew, if that is what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Seconds after which it is worth trying again.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A refusal with this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            cursor: None,
            retry_after: None,
        }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn later(status: StatusCode, seconds: u32, detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(status, detail)
        }
    }

    pub(super) fn not_declared(caller: &ServiceName, does: &str, manifest: &str) -> Self {
        let detail = format!(
            "{caller} does not {does}; if it should, add this to its service.toml: {manifest}"
        );
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn expired(earliest: &Cursor) -> Self {
        let detail = "records behind the cursor were deleted before they were read; \
                      go on with the cursor given here, which is the earliest, or with ?from=latest";
        Self {
            cursor: Some(earliest.to_string()),
            ..Self::new(StatusCode::GONE, detail)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after.map(HeaderValue::from);
        let mut response = (status, axum::Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        let text = error.to_string();
        match error {
            BusError::NoTopic(_) => Self::new(
                StatusCode::NOT_FOUND,
                format!("{text}; a topic exists when a service declares that it publishes to it"),
            ),
            BusError::NoPartition { .. } => Self::bad(text),
            BusError::Gone { .. } => Self::new(StatusCode::GONE, text),
            BusError::Refused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text),
            BusError::Unavailable(_) => Self::later(
                StatusCode::SERVICE_UNAVAILABLE,
                1,
                format!(
                    "{text}; try again, with an Idempotency-Key if nothing may be published twice"
                ),
            ),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(error: Invalid) -> Self {
        let status = match &error {
            Invalid::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Invalid::Format(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<atoll_store::Error> for Problem {
    fn from(error: atoll_store::Error) -> Self {
        tracing::warn!(%error, "an idempotency key cannot be kept");
        let detail = "the state of the node cannot be written, so the Idempotency-Key cannot be kept; \
                      nothing more is published for it until that works again";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, 10, detail)
    }
}

impl From<QueryRejection> for Problem {
    fn from(error: QueryRejection) -> Self {
        Self::bad(error.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(error: PathRejection) -> Self {
        Self::bad(error.body_text())
    }
}

pub(super) async fn no_path(uri: Uri) -> Problem {
    let detail = format!(
        "there is no {}; publish and read at /topics/NAME, and ask for work at /jobs/QUEUE",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

pub(super) async fn wrong_method(method: Method) -> Problem {
    let detail = format!("{method} does nothing here; POST publishes or asks for work, GET reads");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
