//! What a worker remembers of the requests it served, until it tells: spans and counts.
//!
//! Two readings of the clock per request and some plain stores; names are resolved to indexes that
//! stay valid for one batch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use atoll_base::Timestamp;
use atoll_base::clock::monotonic;

use crate::access::Entry;
use crate::limits::{SPAN_PATH_BYTES_MAX, SPANS_PER_BATCH};
use crate::local::{Known, Pattern};
use crate::meter::{Ended, Meter, Meters, Told};
use crate::pool::Pool;
use crate::span::{ErrorKind, NO_NAME, NameIndex, NewSpan, Side, SpanBatch, cut, is_failed};
use crate::trace::TraceContext;

/// The spans of one worker that were not yet told.
pub(crate) struct Recorder {
    batch: RefCell<SpanBatch>,
    /// The number of the batch, from 1; indexes of names are valid for one batch.
    number: Cell<u32>,
    /// One moment on both clocks.
    anchor: Cell<(Instant, Timestamp)>,
    told: Told,
    /// Spans of others are not made.
    failed_only: bool,
}

/// One request, from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) start: Instant,
    pub(crate) trace: TraceContext,
    pub(crate) side: Side,
    pub(crate) caller: Option<Rc<Known>>,
    pub(crate) service: Option<Rc<Known>>,
    pub(crate) pool: Option<Rc<Pool>>,
    pub(crate) status: u16,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) retries: u8,
    /// How many bytes the client had got on its connection when the answer's body began.
    pub(crate) body_at: u64,
    /// What counts it besides.
    pub(crate) meter: Option<Rc<Meter>>,
    /// Of the route that matched.
    pub(crate) route: Option<Rc<Pattern>>,
    /// Bytes of the request's body that came.
    pub(crate) received: u64,
}

/// Method and path of a request, copied out of the buffers. Reused by a connection.
#[derive(Debug, Default)]
pub(crate) struct Label {
    text: String,
    method_length: usize,
    /// Where the path ends and the topic begins.
    path_end: usize,
    /// What is read was HTTP/2 on the wire.
    pub(crate) over_http2: bool,
    /// For the access log, if there is one.
    pub(crate) entry: Option<Box<Entry>>,
}

impl Visit {
    /// One that begins now.
    pub(crate) fn begin(trace: TraceContext, side: Side) -> Self {
        Self {
            start: monotonic(),
            trace,
            side,
            caller: None,
            service: None,
            pool: None,
            status: 0,
            error: None,
            retries: 0,
            body_at: 0,
            meter: None,
            route: None,
            received: 0,
        }
    }
}

impl Label {
    /// Of a connection, which may be a stream of HTTP/2.
    pub(crate) fn over(http2: bool) -> Self {
        Self {
            over_http2: http2,
            ..Self::default()
        }
    }

    pub(crate) fn set(&mut self, method: &str, path: &str) {
        self.text.clear();
        self.text.push_str(method);
        self.method_length = method.len();
        self.text.push_str(cut(path, SPAN_PATH_BYTES_MAX));
        self.path_end = self.text.len();
        self.entry = None;
    }

    /// The topic of which the request carries a record.
    pub(crate) fn set_topic(&mut self, topic: &str) {
        self.text.truncate(self.path_end);
        self.text.push_str(topic);
    }

    pub(crate) fn clear(&mut self) {
        self.set("", "");
    }

    /// Method, path and topic.
    fn parts(&self) -> (&str, &str, &str) {
        let (rest, topic) = self.text.split_at(self.path_end);
        let (method, path) = rest.split_at(self.method_length);
        (method, path, topic)
    }
}

impl Recorder {
    pub(crate) fn new(failed_only: bool) -> Self {
        Self {
            failed_only,
            batch: RefCell::default(),
            number: Cell::new(1),
            anchor: Cell::new((monotonic(), Timestamp::now())),
            told: Told::default(),
        }
    }

    /// Reads both clocks together, so that spans follow a wall clock that was set.
    pub(crate) fn anchor(&self) {
        self.anchor.set((monotonic(), Timestamp::now()));
    }

    /// Takes down a finished request, whose answer's body had `sent` bytes. Tells whether the batch is
    /// full.
    pub(crate) fn record(&self, visit: &Visit, label: &Label, sent: u64) -> bool {
        let duration = monotonic().saturating_duration_since(visit.start);
        let failed = is_failed(visit.status, visit.error);
        if let Some(service) = &visit.service {
            service.delta.borrow_mut().record(duration, failed);
        }
        let start = self.wall_clock(visit.start);
        let has_span = !self.failed_only || failed;
        if let Some(meter) = &visit.meter {
            let ended = Ended {
                status: visit.status,
                error: visit.error,
                duration,
                traced: has_span.then(|| (visit.trace.trace, start.after(duration))),
            };
            self.told.record(meter, &ended);
        }
        if !has_span {
            return false;
        }
        let mut batch = self.batch.borrow_mut();
        let (method, path, topic) = label.parts();
        let span = NewSpan {
            trace: visit.trace.trace,
            span: visit.trace.span,
            parent: visit.trace.parent,
            start,
            duration,
            side: visit.side,
            caller: self.service(&mut batch, visit.caller.as_deref()),
            service: self.service(&mut batch, visit.service.as_deref()),
            instance: self.instance(&mut batch, visit.pool.as_deref()),
            route: self.route(&mut batch, visit.route.as_deref()),
            received: visit.received,
            sent,
            method,
            path,
            topic,
            status: visit.status,
            error: visit.error,
            retries: visit.retries,
            inferred: visit.trace.inferred,
        };
        batch.push(&span);
        batch.len() >= SPANS_PER_BATCH
    }

    /// Tells what was counted since it was last told.
    pub(crate) fn tell(&self, all: &Meters) {
        self.told.flush(all);
    }

    /// The batch so far; a new one begins.
    pub(crate) fn take(&self) -> Option<SpanBatch> {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            return None;
        }
        let next = SpanBatch::with_room_of(&batch);
        self.number.set(self.number.get().wrapping_add(1).max(1));
        Some(std::mem::replace(&mut batch, next))
    }

    fn service(&self, batch: &mut SpanBatch, known: Option<&Known>) -> NameIndex {
        known.map_or(NO_NAME, |known| {
            self.index(&known.span_name, || batch.add_service(&known.name))
        })
    }

    fn instance(&self, batch: &mut SpanBatch, pool: Option<&Pool>) -> NameIndex {
        pool.map_or(NO_NAME, |pool| {
            self.index(&pool.span_name, || {
                batch.add_instance(pool.endpoint.instance())
            })
        })
    }

    fn route(&self, batch: &mut SpanBatch, route: Option<&Pattern>) -> NameIndex {
        route.map_or(NO_NAME, |route| {
            self.index(&route.span_name, || batch.add_route(&route.path))
        })
    }

    fn index(&self, cell: &Cell<(u32, NameIndex)>, add: impl FnOnce() -> NameIndex) -> NameIndex {
        let number = self.number.get();
        let (of, index) = cell.get();
        if of == number {
            return index;
        }
        let index = add();
        cell.set((number, index));
        index
    }

    /// The same moment on the wall clock.
    pub(crate) fn wall_clock(&self, moment: Instant) -> Timestamp {
        let (anchor, timestamp) = self.anchor.get();
        match moment.checked_duration_since(anchor) {
            Some(later) => Timestamp::from_micros(timestamp.as_micros() + micros(later)),
            None => timestamp.before(anchor.saturating_duration_since(moment)),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
