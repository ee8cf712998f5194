//! From the bytes of a request to items of our own: pure and bounded. An item that is at fault is left out and
//! counted; only what is no OTLP fails as a whole.

use atoll_base::{ServiceName, SpanId, Timestamp, TraceId};

use super::attributes::Shared;
use super::batch::Batch;
use super::message::InstrumentationScope;
use super::notes::{Note, Notes};
use super::resource::scope;
use super::wire::{Malformed, Message, Repeated};

pub use super::logs::decode as logs;
pub use super::metrics::decode as metrics;
pub use super::resource::service_name;
pub use super::traces::decode as traces;

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
    pub items: T,
    /// What was refused or cut.
    pub notes: Notes,
}

/// Why an item is not taken.
pub(super) enum Unfit {
    /// It alone is at fault.
    Item(Note),
    /// Nothing of the request can be read.
    Request(Malformed),
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

impl<R> Decoded<Batch<R>> {
    pub(super) fn new(body: &[u8]) -> Self {
        Self {
            items: Batch::new(body.len()),
            notes: Notes::default(),
        }
    }

    /// Takes the items of a scope, as `row` reads them. `whole`: what those of its resource have in common.
    pub(super) fn take_all<'a, M: Message<'a>>(
        &mut self,
        own: Repeated<'a, M>,
        whose: &InstrumentationScope<'a>,
        whole: &Shared,
        mut row: impl FnMut(&M, &Shared, &mut Self) -> Result<R, Unfit>,
    ) -> Result<(), Malformed> {
        if own.is_empty() || !self.has_room(own.len()) {
            return Ok(());
        }
        let shared = scope(whose, whole, &mut self.items.texts, &mut self.notes)?;
        for (at, item) in own.iter().enumerate() {
            let left = own.len() - at;
            if !self.has_room(left) {
                break;
            }
            let row = row(&item?, &shared, self);
            self.take(row, left)?;
        }
        Ok(())
    }

    /// Whether one more item is taken; if not, all `left` are counted as refused.
    fn has_room(&mut self, left: usize) -> bool {
        let has_room = self.items.has_room();
        if !has_room {
            self.notes.add(Note::TooMany, left as u64);
        }
        has_room
    }

    /// Takes an item, or counts why not. `left`: how many there are from this one on.
    fn take(&mut self, item: Result<R, Unfit>, left: usize) -> Result<(), Malformed> {
        match item {
            Ok(item) => self.items.push(item, left),
            Err(Unfit::Item(note)) => self.notes.add(note, 1),
            Err(Unfit::Request(malformed)) => return Err(malformed),
        }
        Ok(())
    }
}

impl From<Note> for Unfit {
    fn from(note: Note) -> Self {
        Self::Item(note)
    }
}

impl From<Malformed> for Unfit {
    fn from(malformed: Malformed) -> Self {
        Self::Request(malformed)
    }
}

pub(super) fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    TraceId::new(u128::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn span_id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::new(u64::from_be_bytes(bytes.try_into().ok()?))
}
