//! The thread that takes what waits, writes it ahead, and puts it where searches find it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use atoll_base::{ServiceName, Timestamp, clock};

use crate::columns::{LogColumns, SpanColumns};
use crate::config::HOT_AGE_MAX;
use crate::extract::extract;
use crate::queue::{BATCH_ROWS, Logged, ROW_BYTES, Work};
use crate::sample::Sampler;
use crate::service::{Shared, Trouble};
use crate::shelf::{HotBatch, Shelf};
use crate::wal::Wal;
use crate::{Level, NewRecord, RecordRow, Span, SpanRow, Spans, Stream};

/// A disk that refuses is tried again this often.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Generations that wait to become files; beyond it, nothing more is taken, so that memory is bounded.
const SEALED_MAX: usize = 3;

/// So many times what memory holds of rows may become in a file, at most: equal texts are in memory once.
const UNFOLDED_MAX: usize = 4;

/// How often the age of what is in memory is looked at.
const TICK: Duration = Duration::from_secs(5);

/// The same while nothing can be taken.
const TICK_FULL: Duration = Duration::from_millis(20);

/// One kind of rows on its way to the disk.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) wal: Wal,
    /// The number of the next row.
    pub(crate) next: u64,
    /// About what the rows take that are not yet in a batch.
    pending_bytes: usize,
    /// When what is in memory began.
    since: Option<Instant>,
    /// Rows that the disk refused, since that was told last.
    lost: u64,
    /// When the disk is tried again, while it refuses.
    retry_at: Option<Instant>,
    hot_bytes_max: usize,
}

/// What is to be sent on, until it has been written here.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    records: Vec<NewRecord>,
    spans: Vec<Span>,
}

/// The thread's own.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) logs: Lane,
    pub(crate) spans: Lane,
    pub(crate) log_columns: LogColumns,
    pub(crate) span_columns: SpanColumns,
    /// Chooses the spans that are kept, if not all are.
    pub(crate) sampler: Option<Sampler>,
    pub(crate) outgoing: Outgoing,
    /// Wakes the thread that makes files.
    pub(crate) sealed: SyncSender<()>,
}

impl Lane {
    pub(crate) fn new(shelf: Arc<Shelf>, wal: Wal, next: u64, hot_bytes_max: usize) -> Self {
        Self {
            shelf,
            wal,
            next,
            pending_bytes: 0,
            since: None,
            lost: 0,
            retry_at: None,
            hot_bytes_max,
        }
    }

    /// Gives a row its number. `texts`: the bytes of its texts.
    fn number(&mut self, texts: usize) -> u64 {
        self.next += 1;
        self.pending_bytes += texts + ROW_BYTES;
        self.next - 1
    }

    /// Whether what is not yet in a batch is enough for one: a batch is a small part of a file.
    fn has_enough(&self, rows: usize) -> bool {
        rows >= BATCH_ROWS || self.pending_bytes >= self.hot_bytes_max / 2
    }

    /// Writes a batch and shows it to searches; none if the disk refuses it.
    fn commit(&mut self, batch: RecordBatch, trouble: &Trouble) -> Option<Arc<HotBatch>> {
        self.pending_bytes = 0;
        let now = clock::monotonic();
        let rows = batch.num_rows() as u64;
        if self.retry_at.is_some_and(|at| now < at) {
            self.lost += rows;
            return None;
        }
        let name = self.shelf.kind().name();
        if let Err(error) = self.wal.append(&batch) {
            self.lost += rows;
            self.retry_at = Some(now + RETRY_INTERVAL);
            if trouble.set(name, Some(error.to_string())) {
                tracing::error!(%error, "{name} cannot be written and are being lost");
            }
            return None;
        }
        self.retry_at = None;
        trouble.set(name, None);
        let batch = Arc::new(HotBatch::new(self.shelf.kind(), batch));
        self.shelf.add(Arc::clone(&batch));
        self.since = self.since.or(Some(now));
        Some(batch)
    }

    /// Sets aside what is in memory, if it is time for that; answers whether it did.
    fn seal(&mut self, at_once: bool) -> bool {
        let (bytes, unfolded) = self.shelf.snapshot().active_bytes();
        let full = bytes >= self.hot_bytes_max || unfolded >= UNFOLDED_MAX * self.hot_bytes_max;
        let old = self
            .since
            .is_some_and(|since| clock::monotonic() >= since + HOT_AGE_MAX);
        if !(full || old || at_once) || self.shelf.seal(self.wal.sequence()).is_none() {
            return false;
        }
        self.wal.advance();
        self.since = None;
        true
    }

    fn is_full(&self) -> bool {
        self.shelf.snapshot().sealed.len() >= SEALED_MAX
    }

    /// Rows lost since the last call, if writing works again.
    fn take_lost(&mut self) -> u64 {
        match self.retry_at {
            Some(_) => 0,
            None => std::mem::take(&mut self.lost),
        }
    }
}

impl Writer {
    /// Works until the queue is closed; then everything is in the hands of who makes files.
    pub(crate) fn run(mut self) {
        let mut work = Work::default();
        loop {
            let full = self.logs.is_full() || self.spans.is_full();
            let tick = clock::monotonic() + if full { TICK_FULL } else { TICK };
            self.shared.queue.take(&mut work, tick, full);
            let closed = work.closed;
            self.write(&mut work);
            self.seal(closed);
            if closed {
                return;
            }
        }
    }

    /// Sets aside what it is time for, and wakes who makes files of it.
    fn seal(&mut self, at_once: bool) {
        let logs = self.logs.seal(at_once);
        if self.spans.seal(at_once) || logs {
            // If there is no room, the other thread has been woken already.
            let _ = self.sealed.try_send(());
        }
    }

    /// Takes what there is; called once in a while also when there is nothing.
    pub(crate) fn write(&mut self, work: &mut Work) {
        self.tell_of_losses(work.dropped);
        work.dropped = (0, 0);
        for logged in work.records.drain(..) {
            match logged {
                Logged::One(record) => self.take_record(record.row()),
                Logged::Many(records) => records.each(&mut |row| self.take_record(row)),
            }
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.tick(clock::monotonic());
        }
        for spans in work.spans.drain(..) {
            // One after the other: unpacked, they are larger.
            if self.sampler.is_some() {
                let kept = self.sample(spans.as_ref());
                kept.iter().for_each(|span| self.take_span(span.row()));
            } else {
                spans.each(&mut |row| self.take_span(row));
            }
            self.send_on();
        }
        if let Some(sampler) = &mut self.sampler {
            self.shared.count_left_out(sampler.take_left_out());
        }
        self.commit_logs();
        self.commit_spans();
        self.send_on();
        for done in work.flushes.drain(..) {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }

    /// Those spans that are to be kept by now, some of which may have come before.
    fn sample(&mut self, spans: &dyn Spans) -> Vec<Span> {
        let mut kept = Vec::new();
        if let Some(sampler) = &mut self.sampler {
            let now = clock::monotonic();
            spans.each(&mut |row| sampler.apply(row.into(), now, &mut kept));
        }
        kept
    }

    fn send_on(&mut self) {
        if let Some(outlet) = self.shared.outlet.get() {
            outlet.logs(std::mem::take(&mut self.outgoing.records));
            outlet.spans(std::mem::take(&mut self.outgoing.spans));
        }
    }

    fn take_record(&mut self, mut record: RecordRow<'_>) {
        let texts = record.message.len() + record.attributes.len();
        let number = self.logs.number(texts);
        if record.level.is_none() || record.trace.is_none() {
            let told = extract(record.message);
            record.level = record.level.or(told.level);
            record.trace = record.trace.or(told.trace);
        }
        self.log_columns.push(number, &record);
        if self.shared.outlet.get().is_some() {
            self.outgoing.records.push(record.into());
        }
        if self.logs.has_enough(self.log_columns.len()) {
            self.commit_logs();
        }
    }

    fn take_span(&mut self, span: SpanRow<'_>) {
        let texts = span.name.len() + span.attributes.len() + span.events.len();
        let number = self.spans.number(texts);
        self.span_columns.push(number, &span);
        if self.shared.outlet.get().is_some() {
            self.outgoing.spans.push(span.into());
        }
        if self.spans.has_enough(self.span_columns.len()) {
            self.commit_spans();
        }
    }

    fn commit_logs(&mut self) {
        let rows = self.log_columns.len() as u64;
        if rows == 0 {
            return;
        }
        let batch = self.log_columns.finish();
        match self.logs.commit(batch, &self.shared.trouble) {
            // Nobody may be following.
            Some(batch) => drop(self.shared.live.send(batch)),
            None => self.shared.count_dropped(rows, 0),
        }
        self.seal(false);
    }

    fn commit_spans(&mut self) {
        let rows = self.span_columns.len() as u64;
        if rows == 0 {
            return;
        }
        let batch = self.span_columns.finish();
        if self.spans.commit(batch, &self.shared.trouble).is_none() {
            self.shared.count_dropped(0, rows);
        }
        self.seal(false);
    }

    fn tell_of_losses(&mut self, (records, spans): (u64, u64)) {
        for (count, what) in [(records, "lines"), (spans, "spans")] {
            if count > 0 {
                self.tell(format!(
                    "{count} {what} were dropped: they came faster than the disk takes them"
                ));
            }
        }
        let lost = [
            (self.logs.take_lost(), "lines"),
            (self.spans.take_lost(), "spans"),
        ];
        for (count, what) in lost {
            if count > 0 {
                self.tell(format!(
                    "{count} {what} were lost while the disk refused them"
                ));
            }
        }
    }

    /// A record by the log, about itself.
    fn tell(&mut self, message: String) {
        let atoll = ServiceName::new("atoll").expect("a valid name");
        let mut record = NewRecord::new(Timestamp::now(), atoll, Stream::Platform, message);
        record.level = Some(Level::Warn);
        self.take_record(record.row());
    }
}
