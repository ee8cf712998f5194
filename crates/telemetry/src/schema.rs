//! The columns of logs and of spans: one definition for memory, write-ahead log and Parquet.
//!
//! The first columns are the same for both kinds, so that what is common (time, service, trace) is
//! searched by the same code. Names repeat, so they are dictionaries. Ids are fixed bytes, not digits:
//! random bytes do not compress, 16 are half of 32, and comparing them is one comparison of numbers. In
//! files they are bytes of any length, which are written faster.
//! What is looked at seldom is JSON text as it came.
//!
//! Some texts repeat from row to row or never do: what a route is called, what a request's attributes are. In memory
//! and in the write-ahead log these are dictionaries, so that a thousand equal requests are copied once; in files
//! they are plain texts, which Parquet makes dictionaries of by itself.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

/// The version of the format, in each file.
pub(crate) const FORMAT: &str = "2";

/// The version before: its ids are fixed bytes.
pub(crate) const FORMAT_BEFORE: &str = "1";

/// The key of [`FORMAT`] in the metadata of a Parquet file.
pub(crate) const FORMAT_KEY: &str = "atoll.format";

/// The key of the services' names, separated by commas, in the metadata of a Parquet file.
pub(crate) const SERVICES_KEY: &str = "atoll.services";

/// The key of what the rows take in memory, in bytes, about, in the metadata of a Parquet file.
pub(crate) const BYTES_KEY: &str = "atoll.bytes";

/// The number of a row: grows by one, in the order in which rows came.
pub(crate) const NUMBER: usize = 0;
/// When: of a span, its start.
pub(crate) const TIME: usize = 1;
pub(crate) const SERVICE: usize = 2;
pub(crate) const INSTANCE: usize = 3;
pub(crate) const REVISION: usize = 4;
pub(crate) const TRACE: usize = 5;
pub(crate) const SPAN: usize = 6;
pub(crate) const ATTRIBUTES: usize = 7;

/// Columns that only logs have.
pub(crate) mod log {
    pub(crate) const STREAM: usize = 8;
    pub(crate) const LEVEL: usize = 9;
    pub(crate) const CONTINUED: usize = 10;
    pub(crate) const MESSAGE: usize = 11;
}

/// Columns that only spans have.
pub(crate) mod span {
    pub(crate) const PARENT: usize = 8;
    pub(crate) const DURATION: usize = 9;
    pub(crate) const NAME: usize = 10;
    pub(crate) const KIND: usize = 11;
    pub(crate) const STATUS: usize = 12;
    pub(crate) const MESSAGE: usize = 13;
    pub(crate) const CALLER: usize = 14;
    pub(crate) const HTTP_STATUS: usize = 15;
    pub(crate) const INFERRED: usize = 16;
    pub(crate) const EVENTS: usize = 17;
    pub(crate) const LINKS: usize = 18;
}

/// What rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Log records.
    Logs,
    /// Spans.
    Spans,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Logs, Self::Spans];

    /// The name of its folder, and the beginning of the names of its write-ahead logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Spans => "spans",
        }
    }

    /// Its columns in memory.
    pub(crate) fn schema(self) -> &'static SchemaRef {
        match self {
            Self::Logs => &LOGS,
            Self::Spans => &SPANS,
        }
    }

    /// Its columns with plain texts, on the way between the two: those of files of [`FORMAT_BEFORE`].
    pub(crate) fn plain_schema(self) -> &'static SchemaRef {
        match self {
            Self::Logs => &PLAIN_LOGS,
            Self::Spans => &PLAIN_SPANS,
        }
    }

    /// Its columns in files.
    pub(crate) fn file_schema(self) -> &'static SchemaRef {
        match self {
            Self::Logs => &LOG_FILES,
            Self::Spans => &SPAN_FILES,
        }
    }

    /// The columns that are dictionaries in memory and texts in files.
    pub(crate) fn folded(self) -> &'static [usize] {
        match self {
            Self::Logs => &[ATTRIBUTES],
            Self::Spans => &[ATTRIBUTES, span::NAME, span::MESSAGE],
        }
    }

    /// The columns that are fixed bytes in memory and bytes of any length in files.
    pub(crate) fn ids(self) -> &'static [usize] {
        match self {
            Self::Logs => &[TRACE, SPAN],
            Self::Spans => &[TRACE, SPAN, span::PARENT],
        }
    }

    /// The column that words are looked for in.
    pub(crate) fn text(self) -> usize {
        match self {
            Self::Logs => log::MESSAGE,
            Self::Spans => span::NAME,
        }
    }

    /// The numbers of all columns.
    pub(crate) fn all_columns(self) -> Vec<usize> {
        (0..self.schema().fields().len()).collect()
    }
}

static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = common("time");
    fields.extend([
        name("stream", false),
        name("level", true),
        Field::new("continued", DataType::Boolean, false),
        Field::new("message", DataType::Utf8, false),
    ]);
    Arc::new(Schema::new(fields))
});

static SPANS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = common("start");
    fields.extend([
        Field::new("parent", DataType::FixedSizeBinary(8), true),
        Field::new("duration_us", DataType::Int64, false),
        name("name", false),
        name("kind", false),
        name("status", false),
        name("message", true),
        name("caller", true),
        Field::new("http_status", DataType::UInt16, true),
        Field::new("inferred", DataType::Boolean, false),
        Field::new("events", DataType::Utf8, true),
        Field::new("links", DataType::Utf8, true),
    ]);
    Arc::new(Schema::new(fields))
});

static PLAIN_LOGS: LazyLock<SchemaRef> = LazyLock::new(|| unfolded(Kind::Logs));

static PLAIN_SPANS: LazyLock<SchemaRef> = LazyLock::new(|| unfolded(Kind::Spans));

static LOG_FILES: LazyLock<SchemaRef> = LazyLock::new(|| loosened(Kind::Logs));

static SPAN_FILES: LazyLock<SchemaRef> = LazyLock::new(|| loosened(Kind::Spans));

fn common(time: &str) -> Vec<Field> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![
        Field::new("number", DataType::UInt64, false),
        Field::new(time, micros, false),
        name("service", false),
        name("instance", false),
        Field::new("revision", DataType::UInt32, false),
        Field::new("trace", DataType::FixedSizeBinary(16), true),
        Field::new("span", DataType::FixedSizeBinary(8), true),
        name("attributes", true),
    ]
}

fn unfolded(kind: Kind) -> SchemaRef {
    retyped(kind.schema(), kind.folded(), &DataType::Utf8)
}

fn loosened(kind: Kind) -> SchemaRef {
    retyped(kind.plain_schema(), kind.ids(), &DataType::Binary)
}

/// The same columns, of which some are of another type.
fn retyped(schema: &Schema, columns: &[usize], to: &DataType) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    for column in columns {
        let field = Field::clone(&fields[*column]).with_data_type(to.clone());
        fields[*column] = Arc::new(field);
    }
    Arc::new(Schema::new(fields))
}

fn name(name: &str, nullable: bool) -> Field {
    let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Field::new(name, names, nullable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_columns_are_those_of_the_schemas() {
        let position = |kind: Kind, name: &str| kind.schema().index_of(name).unwrap();
        for kind in Kind::ALL {
            assert_eq!(position(kind, "service"), SERVICE);
            assert_eq!(position(kind, "attributes"), ATTRIBUTES);
        }
        assert_eq!(position(Kind::Logs, "message"), log::MESSAGE);
        assert_eq!(position(Kind::Spans, "links"), span::LINKS);
        assert_eq!(position(Kind::Spans, "http_status"), span::HTTP_STATUS);
    }
}
