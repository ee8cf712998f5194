//! What is asked, taken apart; what cannot be is a problem like all others.
//!
//! axum's own extractors answer mistakes in plain text. Here the same mistakes become problems (RFC
//! 9457) with axum's words, which name the field and the place.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::Problem;

/// A body of JSON, asked or answered.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query of the path.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The parts of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let body = Bytes::from_request(Request::from_parts(head.clone(), body), state).await;
        let body = body.map_err(|error: BytesRejection| {
            Problem::new(error.status(), format!("the body: {}", error.body_text()))
        })?;
        if body.trim_ascii_start().starts_with(b"[") {
            // serde takes a list for an object whose members stand in their order. Nobody means that.
            let detail = "the body: a list, where an object is wanted";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        let read = axum::Json::from_request(Request::from_parts(head, body.into()), state).await;
        let read = read.map_err(|error: JsonRejection| {
            Problem::new(error.status(), format!("the body: {}", error.body_text()))
        });
        read.map(|axum::Json(own)| Self(own))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        let read = read.map_err(|error: QueryRejection| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the query: {}", error.body_text()),
            )
        });
        read.map(|axum::extract::Query(own)| Self(own))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let uri: Uri = parts.uri.clone();
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        let read = read.map_err(|error: PathRejection| {
            // What cannot be a name names nothing.
            let detail = format!("there is no {}: {}", uri.path(), error.body_text());
            Problem::new(StatusCode::NOT_FOUND, detail)
        });
        read.map(|axum::extract::Path(own)| Self(own))
    }
}
