//! What waits for the writer: bounded in bytes, filled by anybody without waiting, emptied as a whole.
//!
//! A list under a lock, not a channel: a message of a channel costs more than the copy of a line, and
//! the writer wants many at once. It is woken when there is a batch's worth, when the first has waited long
//! enough, or when somebody asks; so a quiet node wakes it a few times a second at most.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_base::clock;
use tokio::sync::oneshot;

use crate::{NewRecord, Span, Spans};

/// A row waits so long at most before it is written and can be found.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Rows that are written at once, at most.
pub(crate) const BATCH_ROWS: usize = 8 << 10;

/// Bytes of rows that may wait. Beyond it, rows are dropped and counted.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// What a row takes beside its texts.
pub(crate) const ROW_BYTES: usize = 160;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    work: Work,
    bytes: usize,
    /// When the first row came that waits.
    first_at: Option<Instant>,
}

/// What was waiting.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) records: Vec<NewRecord>,
    pub(crate) spans: Vec<Span>,
    /// Spans in forms of others.
    pub(crate) batches: Vec<Box<dyn Spans>>,
    /// Spans in these.
    batch_rows: usize,
    /// Who wants to know when all of it can be found.
    pub(crate) flushes: Vec<oneshot::Sender<()>>,
    /// Records and spans that found no room.
    pub(crate) dropped: (u64, u64),
    /// Nothing more will come.
    pub(crate) closed: bool,
}

impl Work {
    fn rows(&self) -> usize {
        self.records.len() + self.spans.len() + self.batch_rows
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records; answers how many found no room.
    pub(crate) fn put_records(&self, records: impl IntoIterator<Item = NewRecord>) -> u64 {
        let mut state = self.lock();
        let before = state.work.rows();
        let mut dropped = 0;
        for record in records {
            let texts = record.message.len() + record.attributes.len() + record.instance.len();
            if state.has_room(texts) {
                state.work.records.push(record);
            } else {
                dropped += 1;
            }
        }
        state.work.dropped.0 += dropped;
        self.wake(state, before);
        dropped
    }

    /// Adds spans; answers how many found no room.
    pub(crate) fn put_spans(&self, spans: impl IntoIterator<Item = Span>) -> u64 {
        let mut state = self.lock();
        let before = state.work.rows();
        let mut dropped = 0;
        for span in spans {
            let texts = span.name.len() + span.attributes.len() + span.events.len();
            if state.has_room(texts + span.links.len() + span.message.len()) {
                state.work.spans.push(span);
            } else {
                dropped += 1;
            }
        }
        state.work.dropped.1 += dropped;
        self.wake(state, before);
        dropped
    }

    /// Adds spans as they are, all or none; answers how many found no room.
    pub(crate) fn put_batch(&self, batch: Box<dyn Spans>) -> u64 {
        let mut state = self.lock();
        let before = state.work.rows();
        let (rows, bytes) = (batch.count(), batch.bytes());
        let dropped = if state.bytes + bytes <= QUEUE_BYTES_MAX {
            state.bytes += bytes;
            state.work.batch_rows += rows;
            state.work.batches.push(batch);
            0
        } else {
            rows as u64
        };
        state.work.dropped.1 += dropped;
        self.wake(state, before);
        dropped
    }

    /// Asks to be told when what waits now can be found; not if nothing is taken any more.
    pub(crate) fn flush(&self, done: oneshot::Sender<()>) {
        let mut state = self.lock();
        if !state.work.closed {
            state.work.flushes.push(done);
            self.came.notify_one();
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().work.closed = true;
        self.came.notify_one();
    }

    /// Whether it is more than half full.
    pub(crate) fn is_busy(&self) -> bool {
        self.lock().bytes > QUEUE_BYTES_MAX / 2
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, before: usize) {
        let now = state.work.rows();
        let begins = before == 0 && now > 0;
        if begins {
            state.first_at = Some(clock::monotonic());
        }
        drop(state);
        if begins || (before < BATCH_ROWS && now >= BATCH_ROWS) {
            self.came.notify_one();
        }
    }

    /// Waits until there is something to do, at most until `tick`, and exchanges what waits with `work`, which is
    /// empty. `full`: rows are left where they are, because nobody can take them.
    pub(crate) fn take(&self, work: &mut Work, tick: Instant, full: bool) {
        let mut state = self.lock();
        loop {
            let now = clock::monotonic();
            let asked = state.work.closed || !state.work.flushes.is_empty();
            let due = state.first_at.map(|first| first + FLUSH_INTERVAL);
            let ready = state.work.rows() >= BATCH_ROWS || due.is_some_and(|due| now >= due);
            if asked || (ready && !full) || now >= tick {
                break;
            }
            let until = due.filter(|_| !full).map_or(tick, |due| due.min(tick));
            let waited = self.came.wait_timeout(state, until - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        work.closed = state.work.closed;
        std::mem::swap(&mut work.flushes, &mut state.work.flushes);
        if !full || work.closed {
            std::mem::swap(&mut work.records, &mut state.work.records);
            std::mem::swap(&mut work.spans, &mut state.work.spans);
            std::mem::swap(&mut work.batches, &mut state.work.batches);
            state.work.batch_rows = 0;
            work.dropped = std::mem::take(&mut state.work.dropped);
            state.bytes = 0;
            state.first_at = None;
        }
    }
}

impl State {
    fn has_room(&mut self, texts: usize) -> bool {
        let fits = self.bytes + texts + ROW_BYTES <= QUEUE_BYTES_MAX;
        if fits {
            self.bytes += texts + ROW_BYTES;
        }
        fits
    }
}
