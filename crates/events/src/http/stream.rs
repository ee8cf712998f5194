//! Server-Sent Events: the same events, one by one, for as long as the reader stays.
//!
//! Nothing runs ahead of the reader: the next events are read when the last were sent. The id of an
//! event is the cursor after it, so a reader that comes back with `Last-Event-ID` goes on there.

use std::convert::Infallible;
use std::time::Duration;

use atoll_base::Tasks;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::time::Instant;

use super::Problem;
use super::cursor::Cursor;
use super::read::{Reading, event};
use crate::record::Record;

/// How long nothing is sent at most: proxies close what seems dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many events are read at once.
const EVENTS_AT_ONCE: usize = 100;

struct Stream {
    reading: Reading,
    tasks: Tasks,
    /// What was read before the answer began.
    ready: Option<String>,
    ended: bool,
}

/// The stream. What is wrong before its first event is an answer of its own.
pub(super) async fn answer(mut reading: Reading, tasks: Tasks) -> Result<Response, Problem> {
    let told = reading.cursor.clone();
    let first = reading.next(EVENTS_AT_ONCE, Instant::now()).await?;
    // The comment makes the head of the answer go out, also if no event comes for a while.
    let hello = format!(": from {told}\n\n");
    let ready = hello + &lines(&first, told);
    let stream = Stream {
        reading,
        tasks,
        ready: Some(ready),
        ended: false,
    };
    let stream = unfold(stream, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

impl Stream {
    async fn next(&mut self) -> Option<String> {
        if let Some(ready) = self.ready.take() {
            return Some(ready);
        }
        if self.ended {
            return None;
        }
        let told = self.reading.cursor.clone();
        let heartbeat = Instant::now() + HEARTBEAT;
        let read = tokio::select! {
            read = self.reading.next(EVENTS_AT_ONCE, heartbeat) => read,
            () = self.tasks.stopping() => return None,
        };
        match read {
            Ok(records) if records.is_empty() => Some(": still here\n\n".to_owned()),
            Ok(records) => Some(lines(&records, told)),
            Err(problem) => {
                self.ended = true;
                let problem = serde_json::to_string(&problem).unwrap_or_default();
                Some(format!("event: problem\ndata: {problem}\n\n"))
            }
        }
    }
}

/// The events, each with the cursor after it.
fn lines(records: &[Record], mut told: Cursor) -> String {
    let mut lines = String::new();
    for record in records {
        told.set(record.place.partition, record.place.offset + 1);
        lines.push_str(&format!("id: {told}\n"));
        let event = event(record);
        let event = String::from_utf8_lossy(&event);
        // Line breaks in JSON are space between its parts; each line needs its own name.
        for line in event.split(['\r', '\n']) {
            lines.push_str(&format!("data: {line}\n"));
        }
        lines.push('\n');
    }
    lines
}
