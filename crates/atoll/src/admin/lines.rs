//! Answers that come piece by piece: JSON objects on lines (`application/x-ndjson`), or Server-Sent Events.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines as they come.
pub(super) fn ndjson(queue: mpsc::Receiver<Bytes>) -> Response {
    stream("application/x-ndjson", queue)
}

/// Events as they come.
pub(super) fn events(queue: mpsc::Receiver<Bytes>) -> Response {
    stream("text/event-stream", queue)
}

fn stream(kind: &'static str, queue: mpsc::Receiver<Bytes>) -> Response {
    let stream = futures_util::stream::unfold(queue, |mut queue| async move {
        let bytes = queue.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), queue))
    });
    let kind = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (kind, Body::from_stream(stream)).into_response()
}

/// A line with this value.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// An event with this value. JSON has no line breaks, so one line of data holds it.
pub(super) fn event(name: &str, value: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(value).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
