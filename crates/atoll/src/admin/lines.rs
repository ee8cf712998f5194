//! Answers that come line by line (`application/x-ndjson`): one JSON object on each.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines as they come.
pub(super) fn ndjson(queue: mpsc::Receiver<Bytes>) -> Response {
    let stream = futures_util::stream::unfold(queue, |mut queue| async move {
        let bytes = queue.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), queue))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(stream)).into_response()
}

/// A line with this value.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
