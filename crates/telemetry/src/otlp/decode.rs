//! From the messages of OTLP to our own: pure, bounded, and nothing fails as a whole.

use atoll_base::{ServiceName, SpanId, Timestamp, TraceId};

use super::notes::{Note, Notes};

pub use super::logs::decode as logs;
pub use super::metrics::decode as metrics;
pub use super::resource::service_name;
pub use super::traces::decode as traces;

/// Items of one request. A collector sends 8,192 at once.
pub const ITEMS_MAX: usize = 100_000;

/// A time further ahead than this is a mistake, and would keep its file for as long.
const AHEAD_MAX_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Who sends, as far as it is known without asking them.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The service whose door this came through; none on the open ports.
    pub service: Option<ServiceName>,
    /// When it came.
    pub now: Timestamp,
}

/// What a request held.
#[derive(Debug, Clone)]
pub struct Decoded<T> {
    /// What may be taken.
    pub items: Vec<T>,
    /// What was refused or cut.
    pub notes: Notes,
}

impl Sender {
    /// A time in nanoseconds since 1970; none if it was not told.
    pub(super) fn time(&self, nanos: u64) -> Option<Timestamp> {
        let micros = i64::try_from(nanos / 1000).expect("a thousandth of 64 bits fits 63");
        (nanos > 0).then(|| Timestamp::from_micros(micros))
    }

    pub(super) fn is_future(&self, time: Timestamp) -> bool {
        time.as_micros() > self.now.as_micros().saturating_add(AHEAD_MAX_MICROS)
    }
}

impl<T> Decoded<T> {
    pub(super) fn new() -> Self {
        Self {
            items: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Takes an item, or counts why not.
    pub(super) fn take(&mut self, item: Result<T, Note>) {
        match item {
            Ok(_) if self.items.len() >= ITEMS_MAX => self.notes.add(Note::TooMany, 1),
            Ok(item) => self.items.push(item),
            Err(note) => self.notes.add(note, 1),
        }
    }
}

pub(super) fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    TraceId::new(u128::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn span_id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::new(u64::from_be_bytes(bytes.try_into().ok()?))
}
