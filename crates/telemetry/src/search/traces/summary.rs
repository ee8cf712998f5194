//! Summaries of traces, made of all of their spans.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use atoll_base::{Timestamp, TraceId};

use super::{Match, Pick, TraceCursor, TraceSummary, fetch, scan, span_id, trace_id};
use crate::SpanStatus;
use crate::columns::{names_of, span_of};
use crate::query::Filter;
use crate::schema::{self, Kind, span};
use crate::shelf::Unit;

const COLUMNS: [usize; 6] = [
    schema::TIME,
    schema::TRACE,
    schema::SERVICE,
    span::PARENT,
    span::DURATION,
    span::STATUS,
];

struct Gathered {
    start: i64,
    end: i64,
    spans: u64,
    errors: u64,
    services: BTreeSet<String>,
    /// The root so far: whether it has a parent, its start, and where it is.
    root: (bool, i64, Pick),
}

/// The summaries of these traces, in this order.
pub(super) fn summaries(units: &[Unit], places: &[TraceCursor]) -> Vec<TraceSummary> {
    if places.is_empty() {
        return Vec::new();
    }
    let filter = Filter::all(Kind::Spans).of_traces(places.iter().map(|place| place.trace));
    let gathered = Mutex::new(HashMap::new());
    scan(
        units,
        &filter,
        &COLUMNS,
        &AtomicI64::new(i64::MIN),
        &|found| {
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gather(&found, &mut gathered);
        },
    );
    let gathered = gathered
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let mut roots = HashMap::new();
    let picks = gathered.values().map(|one| one.root.2).collect();
    fetch(units, picks, |row| {
        if let Some(root) = span_of(row) {
            roots.insert(root.trace, root);
        }
    });
    let summary = |place: &TraceCursor| {
        let one = gathered.get(&place.trace)?;
        let root = roots.get(&place.trace)?;
        let micros = u64::try_from(one.end.saturating_sub(one.start)).unwrap_or(0);
        Some(TraceSummary {
            trace: place.trace,
            root_service: root.service.to_string(),
            root_name: root.name.clone(),
            start: Timestamp::from_micros(one.start),
            duration: Duration::from_micros(micros),
            spans: one.spans,
            errors: one.errors,
            services: one.services.iter().cloned().collect(),
        })
    };
    places.iter().filter_map(summary).collect()
}

fn gather(found: &Match, gathered: &mut HashMap<TraceId, Gathered>) {
    let columns = &found.columns;
    let traces = columns.get(schema::TRACE).as_fixed_size_binary();
    let parents = columns.get(span::PARENT).as_fixed_size_binary();
    let starts = columns.get(schema::TIME);
    let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
    let durations = columns.get(span::DURATION);
    let durations = durations.as_primitive::<Int64Type>().values();
    let services = columns.get(schema::SERVICE).as_dictionary::<Int32Type>();
    let statuses = columns.get(span::STATUS).as_dictionary::<Int32Type>();
    for row in found.mask.set_indices() {
        let Some(trace) = trace_id(traces.value(row)) else {
            continue;
        };
        let start = starts[row];
        let end = start.saturating_add(durations[row]);
        let has_parent = parents.is_valid(row) && span_id(parents.value(row)).is_some();
        let (unit, part) = (found.unit, found.part);
        let root = (has_parent, start, Pick { unit, part, row });
        let one = gathered.entry(trace).or_insert_with(|| Gathered {
            start,
            end,
            spans: 0,
            errors: 0,
            services: BTreeSet::new(),
            root,
        });
        one.start = one.start.min(start);
        one.end = one.end.max(end);
        one.root = one.root.min(root);
        one.spans += 1;
        let status = statuses.key(row).map(|key| names_of(statuses).value(key));
        one.errors += u64::from(status == Some(SpanStatus::Error.as_str()));
        if let Some(key) = services.key(row) {
            let service = names_of(services).value(key);
            if !one.services.contains(service) {
                one.services.insert(service.to_owned());
            }
        }
    }
}
