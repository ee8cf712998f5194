//! What both transports do with the bytes of a request: decode, hand over, tell what became of it.
//!
//! The bytes of all requests together are bounded. Beyond it a sender is asked to come again, as it is
//! when the store has no room: OTLP's senders keep what they have and know how to wait. Large
//! requests are decoded on a thread for it, so that one sender does not hold up the others.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1 as logs;
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::trace::v1 as trace;
use prost::Message;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::decode::{self, Decoded, Sender};
use super::intake::{Intake, Taken};
use super::json;
use super::notes::{Note, Notes};
use super::wire;

/// One request takes at most this many bytes, before and after it is inflated.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;

/// All requests under way together.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// Bodies beyond this size are decoded on a thread of their own; about 2 ms of work.
const LARGE_BYTES: usize = 512 << 10;

/// A sender that finds no room is asked to come again after this time.
pub(super) const COME_AGAIN: Duration = Duration::from_secs(1);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metric points.
    Metrics,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// It is larger than may be, or would become so.
    #[error("{0}")]
    TooLarge(String),
    /// There is no room at present.
    #[error("telemetry comes faster than it can be kept; come again")]
    Busy,
}

/// How many items came, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Items that were taken.
    pub taken: u64,
    /// Items that were refused for what they are.
    pub refused: u64,
    /// Requests that were asked to come again.
    pub busy: u64,
}

/// Takes requests; a cheap clone.
#[derive(Clone)]
pub struct Door {
    intake: Arc<dyn Intake>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    taken: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
}

/// Room for the bytes of a request, as long as it is held.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl From<wire::Malformed> for Refusal {
    fn from(malformed: wire::Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Door {
    /// Hands everything to `intake`.
    pub fn new(intake: Arc<dyn Intake>) -> Self {
        Self {
            intake,
            room: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
            counters: Arc::default(),
        }
    }

    /// What has come since the start.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            taken: read(&self.counters.taken),
            refused: read(&self.counters.refused),
            busy: read(&self.counters.busy),
        }
    }

    /// Room for a body of so many bytes.
    ///
    /// # Errors
    /// When too many are under way.
    pub fn room(&self, bytes: usize) -> Result<Room, Refusal> {
        let bytes = u32::try_from(bytes.clamp(1, BODIES_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        permit.map(Room).map_err(|_| self.busy())
    }

    /// Takes a request and answers it, in its own encoding. `room` is held until it is decoded, also when nobody
    /// waits for the answer any more. `caller`: whose door it came through.
    ///
    /// # Errors
    /// When nothing of it was taken.
    pub async fn take(
        &self,
        signal: Signal,
        encoding: Encoding,
        (body, room): (Bytes, Room),
        caller: Option<ServiceName>,
    ) -> Result<Vec<u8>, Refusal> {
        let sender = Sender {
            service: caller,
            now: Timestamp::now(),
        };
        if body.len() <= LARGE_BYTES {
            return self.take_now(signal, encoding, &body, &sender);
        }
        let own = self.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let _room = room;
            own.take_now(signal, encoding, &body, &sender)
        });
        let failed = |_| Refusal::Malformed("the request could not be decoded".to_owned());
        taken.await.map_err(failed)?
    }

    fn take_now(
        &self,
        signal: Signal,
        encoding: Encoding,
        body: &[u8],
        sender: &Sender,
    ) -> Result<Vec<u8>, Refusal> {
        let body = match encoding {
            Encoding::Protobuf => Cow::Borrowed(body),
            Encoding::Json => Cow::Owned(json::to_protobuf(signal, body)?),
        };
        match signal {
            Signal::Traces => self.answer(
                encoding,
                decode::traces(&body, sender)?,
                |spans| spans.rows.len(),
                |spans| self.intake.spans(Box::new(spans)),
                |(rejected_spans, error_message)| trace::ExportTraceServiceResponse {
                    partial_success: Some(trace::ExportTracePartialSuccess {
                        rejected_spans,
                        error_message,
                    }),
                },
            ),
            Signal::Logs => self.answer(
                encoding,
                decode::logs(&body, sender)?,
                |records| records.rows.len(),
                |records| self.intake.logs(Box::new(records)),
                |(rejected_log_records, error_message)| logs::ExportLogsServiceResponse {
                    partial_success: Some(logs::ExportLogsPartialSuccess {
                        rejected_log_records,
                        error_message,
                    }),
                },
            ),
            Signal::Metrics => self.answer(
                encoding,
                decode::metrics(&body, sender)?,
                Vec::len,
                |points| self.intake.metrics(points),
                |(rejected_data_points, error_message)| metrics::ExportMetricsServiceResponse {
                    partial_success: Some(metrics::ExportMetricsPartialSuccess {
                        rejected_data_points,
                        error_message,
                    }),
                },
            ),
        }
    }

    /// Hands over what was sent, and says what became of it: nothing if all was taken, else what `partly`
    /// makes of it.
    fn answer<T, A>(
        &self,
        encoding: Encoding,
        decoded: Decoded<T>,
        count: impl FnOnce(&T) -> usize,
        give: impl FnOnce(T) -> Taken,
        partly: impl FnOnce((i64, String)) -> A,
    ) -> Result<Vec<u8>, Refusal>
    where
        A: Message + Serialize + Default + PartialEq,
    {
        let count = count(&decoded.items) as u64;
        let told = self.hand_over(decoded, count, give)?;
        Ok(write(encoding, &told.map(partly).unwrap_or_default()))
    }

    /// What is to be told of it: how many were refused, and why something was refused or cut.
    fn hand_over<T>(
        &self,
        decoded: Decoded<T>,
        count: u64,
        give: impl FnOnce(T) -> Taken,
    ) -> Result<Option<(i64, String)>, Refusal> {
        let Decoded { items, mut notes } = decoded;
        let taken = if count == 0 { Taken::All } else { give(items) };
        let mut reason = "";
        match taken {
            Taken::All => {}
            Taken::Except(refused, why) => {
                notes.add(Note::Refused, refused.min(count));
                reason = why;
            }
            Taken::Busy => return Err(self.busy()),
        }
        let refused = notes.refused();
        let kept = count - notes.count(Note::Refused);
        self.counters.taken.fetch_add(kept, Ordering::Relaxed);
        self.counters.refused.fetch_add(refused, Ordering::Relaxed);
        Ok(told(&notes, reason))
    }

    fn busy(&self) -> Refusal {
        self.counters.busy.fetch_add(1, Ordering::Relaxed);
        Refusal::Busy
    }
}

fn told(notes: &Notes, reason: &str) -> Option<(i64, String)> {
    if notes.is_empty() {
        return None;
    }
    let mut text = notes.to_string();
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    Some((i64::try_from(notes.refused()).unwrap_or(i64::MAX), text))
}

/// An answer; of a full success nothing is said.
fn write<T: Message + Serialize + Default + PartialEq>(encoding: Encoding, answer: &T) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => answer.encode_to_vec(),
        Encoding::Json if *answer == T::default() => b"{}".to_vec(),
        Encoding::Json => serde_json::to_vec(answer).expect("texts and numbers become JSON"),
    }
}
