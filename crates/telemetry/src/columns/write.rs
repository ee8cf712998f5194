//! Rows on their way into columns.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, FixedSizeBinaryBuilder, PrimitiveBuilder, StringBuilder,
};
use arrow_array::types::UInt16Type;
use arrow_array::{
    ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use atoll_base::{SpanId, TraceId};

use super::names::Names;
use crate::schema::Kind;
use crate::{RecordRow, SpanRow};

/// The columns that both kinds have.
#[derive(Debug)]
struct Common {
    numbers: Vec<u64>,
    times: Vec<i64>,
    services: Names,
    instances: Names,
    revisions: Vec<u32>,
    traces: FixedSizeBinaryBuilder,
    spans: FixedSizeBinaryBuilder,
    attributes: Names,
}

/// Log records on their way into a batch.
#[derive(Debug)]
pub(crate) struct LogColumns {
    common: Common,
    streams: Names,
    levels: Names,
    continued: BooleanBuilder,
    messages: StringBuilder,
}

/// Spans on their way into a batch.
#[derive(Debug)]
pub(crate) struct SpanColumns {
    common: Common,
    parents: FixedSizeBinaryBuilder,
    durations: Vec<i64>,
    names: Names,
    kinds: Names,
    statuses: Names,
    messages: Names,
    callers: Names,
    http_statuses: PrimitiveBuilder<UInt16Type>,
    inferred: BooleanBuilder,
    events: StringBuilder,
    links: StringBuilder,
}

impl Common {
    fn new() -> Self {
        Self {
            numbers: Vec::new(),
            times: Vec::new(),
            services: Names::new(),
            instances: Names::new(),
            revisions: Vec::new(),
            traces: FixedSizeBinaryBuilder::new(16),
            spans: FixedSizeBinaryBuilder::new(8),
            attributes: Names::new(),
        }
    }

    fn ids(&mut self, trace: Option<TraceId>, span: Option<SpanId>) {
        match trace {
            Some(trace) => put(&mut self.traces, &trace.get().to_be_bytes()),
            None => self.traces.append_null(),
        }
        put_span(&mut self.spans, span);
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        let times = TimestampMicrosecondArray::from(std::mem::take(&mut self.times));
        vec![
            Arc::new(UInt64Array::from(std::mem::take(&mut self.numbers))),
            Arc::new(times.with_timezone("UTC")),
            self.services.finish(),
            self.instances.finish(),
            Arc::new(UInt32Array::from(std::mem::take(&mut self.revisions))),
            Arc::new(self.traces.finish()),
            Arc::new(self.spans.finish()),
            self.attributes.finish(),
        ]
    }
}

impl LogColumns {
    pub(crate) fn new() -> Self {
        Self {
            common: Common::new(),
            streams: Names::new(),
            levels: Names::new(),
            continued: BooleanBuilder::new(),
            messages: StringBuilder::new(),
        }
    }

    /// The number of rows so far.
    pub(crate) fn len(&self) -> usize {
        self.common.numbers.len()
    }

    /// Takes a record.
    pub(crate) fn push(&mut self, number: u64, record: &RecordRow<'_>) {
        let common = &mut self.common;
        common.numbers.push(number);
        common.times.push(record.time.as_micros());
        common.services.push(record.service.as_str());
        common.instances.push(record.instance);
        common.revisions.push(record.revision.0);
        common.ids(record.trace, record.span);
        common.attributes.push_opt(some(record.attributes));
        self.streams.push(record.stream.as_str());
        self.levels.push_opt(record.level.map(crate::Level::as_str));
        self.continued.append_value(record.continued);
        self.messages.append_value(record.message);
    }

    /// The rows as columns; begins anew.
    pub(crate) fn finish(&mut self) -> RecordBatch {
        let mut columns = self.common.finish();
        columns.extend([
            self.streams.finish(),
            self.levels.finish(),
            Arc::new(self.continued.finish()) as ArrayRef,
            Arc::new(self.messages.finish()),
        ]);
        batch(Kind::Logs, columns)
    }
}

impl SpanColumns {
    pub(crate) fn new() -> Self {
        Self {
            common: Common::new(),
            parents: FixedSizeBinaryBuilder::new(8),
            durations: Vec::new(),
            names: Names::new(),
            kinds: Names::new(),
            statuses: Names::new(),
            messages: Names::new(),
            callers: Names::new(),
            http_statuses: PrimitiveBuilder::new(),
            inferred: BooleanBuilder::new(),
            events: StringBuilder::new(),
            links: StringBuilder::new(),
        }
    }

    /// The number of rows so far.
    pub(crate) fn len(&self) -> usize {
        self.common.numbers.len()
    }

    /// Takes a span.
    pub(crate) fn push(&mut self, number: u64, span: &SpanRow<'_>) {
        let common = &mut self.common;
        common.numbers.push(number);
        common.times.push(span.start.as_micros());
        common.services.push(span.service.as_str());
        common.instances.push(span.instance);
        common.revisions.push(span.revision.0);
        common.ids(Some(span.trace), Some(span.span));
        common.attributes.push_opt(some(span.attributes));
        put_span(&mut self.parents, span.parent);
        let micros = i64::try_from(span.duration.as_micros()).unwrap_or(i64::MAX);
        self.durations.push(micros);
        self.names.push(span.name);
        self.kinds.push(span.kind.as_str());
        self.statuses.push(span.status.as_str());
        self.messages.push_opt(some(span.message));
        self.callers.push_opt(span.caller);
        self.http_statuses.append_option(span.http_status);
        self.inferred.append_value(span.inferred);
        self.events.append_option(some(span.events));
        self.links.append_option(some(span.links));
    }

    /// The rows as columns; begins anew.
    pub(crate) fn finish(&mut self) -> RecordBatch {
        let mut columns = self.common.finish();
        columns.extend([
            Arc::new(self.parents.finish()) as ArrayRef,
            Arc::new(Int64Array::from(std::mem::take(&mut self.durations))),
            self.names.finish(),
            self.kinds.finish(),
            self.statuses.finish(),
            self.messages.finish(),
            self.callers.finish(),
            Arc::new(self.http_statuses.finish()),
            Arc::new(self.inferred.finish()),
            Arc::new(self.events.finish()),
            Arc::new(self.links.finish()),
        ]);
        batch(Kind::Spans, columns)
    }
}

fn batch(kind: Kind, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(kind.schema()), columns)
        .expect("the columns are those of the schema, with as many rows each")
}

fn put(ids: &mut FixedSizeBinaryBuilder, bytes: &[u8]) {
    ids.append_value(bytes)
        .expect("the column is as wide as the id");
}

fn put_span(ids: &mut FixedSizeBinaryBuilder, id: Option<SpanId>) {
    match id {
        Some(id) => put(ids, &id.get().to_be_bytes()),
        None => ids.append_null(),
    }
}

/// Nothing is null in a file: that is what people ask for there.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
