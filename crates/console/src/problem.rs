//! Errors as problems (RFC 9457), in the shape that the whole admin API has.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::Error;

/// An error on its way to whoever asked.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        answer(self.status, &self)
    }
}

/// A problem as an answer: `application/problem+json` with a status. One that is no status of HTTP is 500.
pub fn answer(status: u16, problem: &impl Serialize) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(problem)).into_response();
    let kind = header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

// What cannot be read is a problem like all others, in axum's words, which name the place.
impl From<QueryRejection> for Problem {
    fn from(error: QueryRejection) -> Self {
        let detail = format!("the query: {}", error.body_text());
        Self::new(StatusCode::BAD_REQUEST, detail)
    }
}

impl From<JsonRejection> for Problem {
    fn from(error: JsonRejection) -> Self {
        Self::new(error.status(), format!("the body: {}", error.body_text()))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Name(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::NoToken(_) => StatusCode::NOT_FOUND,
            Error::Listen { .. } | Error::NoRandomness | Error::Store(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}
