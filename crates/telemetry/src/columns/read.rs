//! Rows out of columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int32Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch, StringArray};
use atoll_base::{RevisionNumber, ServiceName, SpanId, Timestamp, TraceId};

use crate::schema::{self, log, span};
use crate::{Level, LogRecord, Span, SpanKind, SpanStatus, Stream};

/// One row of a batch that has all columns of its kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) batch: &'a RecordBatch,
    pub(crate) row: usize,
}

impl<'a> Row<'a> {
    fn has(self, column: usize) -> bool {
        self.batch.column(column).is_valid(self.row)
    }

    /// A text; empty if there is none.
    fn text(self, column: usize) -> &'a str {
        let texts = Texts::of(self.batch.column(column));
        texts.get(self.row).unwrap_or_default()
    }

    fn name(self, column: usize) -> Option<&'a str> {
        Texts::of(self.batch.column(column)).get(self.row)
    }

    fn bytes(self, column: usize) -> Option<&'a [u8]> {
        let ids = self.batch.column(column).as_fixed_size_binary();
        self.has(column).then(|| ids.value(self.row))
    }

    fn flag(self, column: usize) -> bool {
        self.batch.column(column).as_boolean().value(self.row)
    }

    fn span(self, column: usize) -> Option<SpanId> {
        let bytes = self.bytes(column)?.try_into().ok()?;
        SpanId::new(u64::from_be_bytes(bytes))
    }

    fn trace(self) -> Option<TraceId> {
        let bytes = self.bytes(schema::TRACE)?.try_into().ok()?;
        TraceId::new(u128::from_be_bytes(bytes))
    }

    pub(crate) fn number(self) -> u64 {
        let numbers = self.batch.column(schema::NUMBER);
        numbers.as_primitive::<UInt64Type>().value(self.row)
    }

    fn time(self) -> Timestamp {
        let times = self.batch.column(schema::TIME);
        Timestamp::from_micros(
            times
                .as_primitive::<TimestampMicrosecondType>()
                .value(self.row),
        )
    }

    fn service(self) -> ServiceName {
        let name = self.name(schema::SERVICE).unwrap_or_default();
        // A file that somebody else has written may name services as it likes.
        ServiceName::new(name).unwrap_or_else(|_| ServiceName::new("unknown").expect("a name"))
    }

    fn revision(self) -> RevisionNumber {
        let revisions = self.batch.column(schema::REVISION);
        RevisionNumber(revisions.as_primitive::<UInt32Type>().value(self.row))
    }

    fn instance(self) -> String {
        self.name(schema::INSTANCE).unwrap_or_default().to_owned()
    }
}

/// A column of texts, of which some are dictionaries in memory and plain in files.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Texts<'a> {
    Folded(&'a DictionaryArray<Int32Type>),
    Plain(&'a StringArray),
}

impl<'a> Texts<'a> {
    pub(crate) fn of(column: &'a ArrayRef) -> Self {
        match column.as_string_opt() {
            Some(plain) => Self::Plain(plain),
            None => Self::Folded(column.as_dictionary()),
        }
    }

    /// The text of a row, if it has one.
    pub(crate) fn get(self, row: usize) -> Option<&'a str> {
        match self {
            Self::Folded(names) => names.key(row).map(|key| names_of(names).value(key)),
            Self::Plain(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }
}

/// The names that the keys of a dictionary stand for.
pub(crate) fn names_of(names: &DictionaryArray<Int32Type>) -> &StringArray {
    names.values().as_string::<i32>()
}

/// The log record in a row.
pub(crate) fn log_record(row: Row<'_>) -> LogRecord {
    LogRecord {
        number: row.number(),
        time: row.time(),
        service: row.service(),
        instance: row.instance(),
        revision: row.revision(),
        stream: row
            .name(log::STREAM)
            .and_then(Stream::named)
            .unwrap_or(Stream::Platform),
        level: row.name(log::LEVEL).and_then(Level::named),
        trace: row.trace(),
        span: row.span(schema::SPAN),
        attributes: row.text(schema::ATTRIBUTES).to_owned(),
        continued: row.flag(log::CONTINUED),
        message: row.text(log::MESSAGE).to_owned(),
    }
}

/// The span in a row; none if it has no ids, which only a foreign hand can bring about.
pub(crate) fn span_of(row: Row<'_>) -> Option<Span> {
    let durations = row.batch.column(span::DURATION);
    let micros = durations.as_primitive::<Int64Type>().value(row.row);
    let statuses = row.batch.column(span::HTTP_STATUS);
    let statuses = statuses.as_primitive::<UInt16Type>();
    Some(Span {
        trace: row.trace()?,
        span: row.span(schema::SPAN)?,
        parent: row.span(span::PARENT),
        start: row.time(),
        duration: std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
        service: row.service(),
        instance: row.instance(),
        revision: row.revision(),
        name: row.text(span::NAME).to_owned(),
        kind: row
            .name(span::KIND)
            .and_then(SpanKind::named)
            .unwrap_or_default(),
        status: row
            .name(span::STATUS)
            .and_then(SpanStatus::named)
            .unwrap_or_default(),
        message: row.text(span::MESSAGE).to_owned(),
        caller: row.name(span::CALLER).map(str::to_owned),
        http_status: row.has(span::HTTP_STATUS).then(|| statuses.value(row.row)),
        inferred: row.flag(span::INFERRED),
        attributes: row.text(schema::ATTRIBUTES).to_owned(),
        events: row.text(span::EVENTS).to_owned(),
        links: row.text(span::LINKS).to_owned(),
    })
}
