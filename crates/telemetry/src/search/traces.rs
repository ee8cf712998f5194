//! Traces: one of them whole, and those that have a span of a certain kind, as summaries.

mod best;
mod path;
mod summary;

use std::collections::HashSet;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use atoll_base::{SpanId, Timestamp, TraceId};

use super::pick::{Pick, fetch};
use super::scan::{Match, Scan};
use crate::columns::{log_record, span_of};
use crate::query::Filter;
use crate::schema::{self, Kind};
use crate::shelf::{Snapshot, Unit};
use crate::{LogRecord, Span};

use best::Best;

pub use path::{critical_path, own_times};

/// The most spans and the most records of one trace that are given.
const TRACE_ROWS_MAX: usize = 20_000;

/// A page is looked for so often: a trace that an earlier page had may take the place of another.
const ROUNDS_MAX: usize = 8;

/// All that is kept of a trace.
#[derive(Debug, Clone, Default)]
pub struct TraceView {
    /// Its spans, by start; at most 20,000.
    pub spans: Vec<Span>,
    /// Its log records, by time; at most 20,000.
    pub logs: Vec<LogRecord>,
}

/// Which traces.
#[derive(Debug, Clone)]
pub struct TraceQuery {
    /// A trace is wanted if one of its spans is.
    pub filter: Filter,
    /// How many at most.
    pub limit: usize,
    /// In which order.
    pub order: TraceOrder,
    /// Only what comes after this place, which an earlier page has told.
    pub before: Option<TraceCursor>,
}

/// The order of traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TraceOrder {
    /// By the start of their last wanted span, the newest first.
    #[default]
    Time,
    /// By the duration of their longest wanted span, the slowest first.
    Duration,
}

/// A place in the order of traces. As text: `<microseconds>-<trace>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceCursor {
    key: i64,
    trace: TraceId,
}

/// Traces, in their order.
#[derive(Debug, Clone, Default)]
pub struct TracePage {
    /// The traces.
    pub traces: Vec<TraceSummary>,
    /// Where the next page begins, if there is one.
    pub next: Option<TraceCursor>,
}

/// A trace in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSummary {
    /// The trace.
    pub trace: TraceId,
    /// Whose span is its root: the first without a parent, or the first of all.
    pub root_service: String,
    /// The name of that span.
    pub root_name: String,
    /// When its first span began.
    pub start: Timestamp,
    /// From then to the end of its last.
    pub duration: std::time::Duration,
    /// How many spans there are.
    pub spans: u64,
    /// How many of them ended with an error.
    pub errors: u64,
    /// Who took part, in the order of the alphabet.
    pub services: Vec<String>,
}

impl std::fmt::Display for TraceCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.key, self.trace)
    }
}

impl std::str::FromStr for TraceCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.rsplit_once('-').and_then(|(key, trace)| {
            Some(Self {
                key: key.parse().ok()?,
                trace: TraceId::parse(trace.as_bytes())?,
            })
        });
        parsed.ok_or("a cursor is what an earlier page has told as `next`")
    }
}

/// All that is kept of a trace.
pub(crate) fn trace(spans: &Snapshot, logs: &Snapshot, trace: TraceId) -> TraceView {
    let mut view = TraceView::default();
    let units = spans.units();
    let picks = rows_of(&units, Kind::Spans, trace);
    fetch(&units, picks, |row| view.spans.extend(span_of(row)));
    view.spans.sort_by_key(|span| (span.start, span.span));
    let units = logs.units();
    let picks = rows_of(&units, Kind::Logs, trace);
    fetch(&units, picks, |row| view.logs.push(log_record(row)));
    view.logs.sort_by_key(|record| (record.time, record.number));
    view
}

fn rows_of(units: &[Unit], kind: Kind, trace: TraceId) -> Vec<Pick> {
    let picks = Mutex::new(Vec::new());
    let filter = Filter::all(kind).of_traces([trace]);
    scan(units, &filter, &[], &AtomicI64::new(i64::MIN), &|found| {
        let (unit, part) = (found.unit, found.part);
        let rows = found.mask.set_indices();
        let mut picks = picks.lock().unwrap_or_else(PoisonError::into_inner);
        let room = TRACE_ROWS_MAX.saturating_sub(picks.len());
        picks.extend(rows.take(room).map(|row| Pick { unit, part, row }));
    });
    picks.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn scan(
    units: &[Unit],
    filter: &Filter,
    wanted: &[usize],
    cutoff: &AtomicI64,
    visit: &(dyn Fn(Match) + Sync),
) {
    let scan = Scan {
        units,
        filter,
        wanted,
        cutoff,
    };
    scan.run(visit);
}

/// A page of traces.
pub(crate) fn traces(snapshot: &Snapshot, query: TraceQuery) -> TracePage {
    let units = snapshot.units();
    let limit = query.limit.max(1);
    let mut places: Vec<TraceCursor> = Vec::new();
    let mut from = query.before;
    for _ in 0..ROUNDS_MAX {
        let found = Best::find(&units, &query, from, limit + 1);
        let full = found.len() > limit;
        from = found.last().copied().or(from);
        let shown = match query.before {
            Some(before) => shown_before(&units, &query, before, &found),
            None => HashSet::new(),
        };
        for place in found {
            let known = places.iter().any(|known| known.trace == place.trace);
            if !known && !shown.contains(&place.trace) {
                places.push(place);
            }
        }
        if !full || places.len() > limit {
            break;
        }
    }
    let more = places.len() > limit;
    places.truncate(limit);
    TracePage {
        next: places.last().filter(|_| more).copied(),
        traces: summary::summaries(&units, &places),
    }
}

/// Those of `places` that an earlier page had: they have a wanted span in front of `before` too.
fn shown_before(
    units: &[Unit],
    query: &TraceQuery,
    before: TraceCursor,
    places: &[TraceCursor],
) -> HashSet<TraceId> {
    let shown = Mutex::new(HashSet::new());
    let traces = places.iter().map(|place| place.trace);
    let filter = query.filter.clone().of_traces(traces);
    let column = best::column(query.order);
    let wanted = [schema::TRACE, column];
    scan(
        units,
        &filter,
        &wanted,
        &AtomicI64::new(i64::MIN),
        &|found| {
            let keys = best::keys(&found, column);
            let ids = found.columns.get(schema::TRACE).as_fixed_size_binary();
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            for row in found.mask.set_indices() {
                if let Some(trace) = trace_id(ids.value(row))
                    && (TraceCursor {
                        key: keys[row],
                        trace,
                    }) >= before
                {
                    shown.insert(trace);
                }
            }
        },
    );
    shown.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    TraceId::new(u128::from_be_bytes(bytes.try_into().ok()?))
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::new(u64::from_be_bytes(bytes.try_into().ok()?))
}
