//! Items of one request as they wait for the store: their texts stand behind each other in one piece of
//! memory, and a row tells where. So an item costs no memory of its own to get and give back.

use atoll_base::{SpanId, Timestamp, TraceId};

use super::attributes::Piece;
use super::resource::Origin;
use crate::record::{Level, Stream};
use crate::span::{SpanKind, SpanStatus};
use crate::{RecordRow, Records, SpanRow, Spans};

/// Items of one request. A collector sends 8,192 at once.
pub(super) const ITEMS_MAX: usize = 100_000;

/// An item that is sent for a reason has more bytes; for one that has not, no room is made in advance.
const ITEM_BYTES_MIN: usize = 50;

/// Their texts take at most this many bytes, and those of one item and its resource: what a resource tells stands in
/// each of its items, so a small request may become large.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// The items of a request that were taken, as rows of kind `R`.
#[derive(Debug, Clone)]
pub struct Batch<R> {
    pub(super) texts: String,
    pub(super) origins: Vec<Origin>,
    /// How many rows are of these origins, and how much text; what is behind them is of the next.
    settled: (usize, usize),
    pub(super) rows: Vec<R>,
}

/// Log records of one request.
pub type RecordBatch = Batch<LogRow>;

/// Spans of one request.
pub type SpanBatch = Batch<TraceRow>;

/// A log record; see [`crate::NewRecord`].
#[derive(Debug, Clone)]
pub struct LogRow {
    /// Its place among the origins.
    pub(super) origin: usize,
    pub(super) time: Timestamp,
    pub(super) level: Option<Level>,
    pub(super) trace: Option<TraceId>,
    pub(super) span: Option<SpanId>,
    pub(super) attributes: Piece,
    pub(super) message: Piece,
}

/// A span; see [`crate::Span`].
#[derive(Debug, Clone)]
pub struct TraceRow {
    /// Its place among the origins.
    pub(super) origin: usize,
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) name: Piece,
    pub(super) kind: SpanKind,
    pub(super) status: SpanStatus,
    pub(super) message: Piece,
    pub(super) http_status: Option<u16>,
    pub(super) attributes: Piece,
    pub(super) events: Piece,
    pub(super) links: Piece,
}

impl<R> Batch<R> {
    /// For the items of a body of so many bytes.
    pub(super) fn new(body_bytes: usize) -> Self {
        Self {
            texts: String::with_capacity(body_bytes),
            origins: Vec::new(),
            settled: (0, 0),
            rows: Vec::new(),
        }
    }

    /// Adds an item, the first of `left`. Where there is no room, it is made for all of them, if the request is large
    /// enough for so many.
    pub(super) fn push(&mut self, item: R, left: usize) {
        let rows = self.rows.len();
        if rows == self.rows.capacity() {
            let told = left.min(self.texts.capacity() / ITEM_BYTES_MIN);
            // Twice as much each time, at least: many scopes may have a few items each.
            let more = told.max(rows).min(ITEMS_MAX - rows);
            self.rows.reserve_exact(more);
        }
        self.rows.push(item);
    }

    /// Whether one more item is taken.
    pub(super) fn has_room(&self) -> bool {
        self.rows.len() < ITEMS_MAX && self.texts.len() < TEXT_BYTES_MAX
    }

    /// Who sent the rows since the last call. If there are none, what was written for them goes.
    pub(super) fn settle(&mut self, origin: Origin) {
        let (rows, texts) = self.settled;
        if self.rows.len() > rows {
            self.origins.push(origin);
            self.settled = (self.rows.len(), self.texts.len());
        } else {
            self.texts.truncate(texts);
        }
    }

    /// Gives back what was reckoned too much, if that is much.
    pub(super) fn fit(&mut self) {
        if self.texts.capacity() / 2 > self.texts.len() {
            self.texts.shrink_to_fit();
        }
        if self.rows.capacity() / 2 > self.rows.len() {
            self.rows.shrink_to_fit();
        }
    }

    fn text(&self, piece: &Piece) -> &str {
        &self.texts[piece.clone()]
    }

    fn text_bytes(&self) -> usize {
        let instances = self.origins.iter().map(|origin| origin.instance.len());
        self.texts.capacity() + instances.sum::<usize>()
    }
}

impl Records for RecordBatch {
    fn count(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.text_bytes()
    }

    fn each(&self, take: &mut dyn FnMut(RecordRow<'_>)) {
        for row in &self.rows {
            let origin = &self.origins[row.origin];
            take(RecordRow {
                time: row.time,
                service: &origin.service,
                instance: &origin.instance,
                revision: origin.revision,
                stream: Stream::Otlp,
                level: row.level,
                trace: row.trace,
                span: row.span,
                attributes: self.text(&row.attributes),
                continued: false,
                message: self.text(&row.message),
            });
        }
    }
}

impl Spans for SpanBatch {
    fn count(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.text_bytes() + self.rows.len() * size_of::<TraceRow>()
    }

    fn each(&self, take: &mut dyn FnMut(SpanRow<'_>)) {
        for row in &self.rows {
            let origin = &self.origins[row.origin];
            take(SpanRow {
                trace: row.trace,
                span: row.span,
                parent: row.parent,
                start: row.start,
                duration: row.end.since(row.start),
                service: &origin.service,
                instance: &origin.instance,
                revision: origin.revision,
                name: self.text(&row.name),
                kind: row.kind,
                status: row.status,
                message: self.text(&row.message),
                caller: None,
                http_status: row.http_status,
                inferred: false,
                attributes: self.text(&row.attributes),
                events: self.text(&row.events),
                links: self.text(&row.links),
            });
        }
    }
}
