//! The messages of OTLP, as parts of the bytes they came in: for each field its number, name and type.
//!
//! Fields that nobody looks at are left out, and texts are bytes until they are written. The names are
//! those of OpenTelemetry's own files.
//! <https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>

use super::wire::{Field, Fields, Malformed, Message, Part, Repeated, Varints};

/// Declares messages.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident$(<$bytes:lifetime>)? { $($number:literal $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name$(<$bytes>)? {
            $(pub(super) $field: $kind,)*
        }

        impl<'a> Message<'a> for $name$(<$bytes>)? {
            #[inline]
            fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
                let mut own = Self::default();
                for field in Fields(bytes) {
                    let field = field?;
                    match field.number {
                        $($number => own.$field.set(field)?,)*
                        _ => {}
                    }
                }
                Ok(own)
            }
        }

        impl<'a> Part<'a> for $name$(<$bytes>)? {
            #[inline]
            fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
                *self = Self::read(field.bytes()?)?;
                Ok(())
            }
        }
    )*};
}

// What all signals have.
messages! {
    /// Who sends.
    Resource<'a> {
        1 attributes: Repeated<'a, KeyValue<'a>>,
    }
    /// Which library of theirs.
    InstrumentationScope<'a> {
        1 name: &'a [u8],
        2 version: &'a [u8],
        3 attributes: Repeated<'a, KeyValue<'a>>,
    }
    /// An attribute.
    KeyValue<'a> {
        1 key: &'a [u8],
        2 value: AnyValue<'a>,
    }
    ArrayValue<'a> {
        1 values: Repeated<'a, AnyValue<'a>>,
    }
    KeyValueList<'a> {
        1 values: Repeated<'a, KeyValue<'a>>,
    }
}

/// The value of an attribute, or the body of a record.
#[derive(Debug, Clone, Default)]
pub(super) enum AnyValue<'a> {
    #[default]
    Empty,
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(ArrayValue<'a>),
    Pairs(KeyValueList<'a>),
    Bytes(&'a [u8]),
    /// An index into a table that only profiles have.
    Index(i64),
}

impl<'a> Message<'a> for AnyValue<'a> {
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut own = Self::Empty;
        for field in Fields(bytes) {
            let field = field?;
            own = match field.number {
                1 => Self::Text(field.bytes()?),
                2 => Self::Bool(field.varint()? != 0),
                3 => Self::Int(field.varint()?.cast_signed()),
                4 => Self::Double(f64::from_bits(field.fixed64()?)),
                5 => Self::Array(ArrayValue::read(field.bytes()?)?),
                6 => Self::Pairs(KeyValueList::read(field.bytes()?)?),
                7 => Self::Bytes(field.bytes()?),
                8 => Self::Index(field.varint()?.cast_signed()),
                _ => own,
            };
        }
        Ok(own)
    }
}

impl<'a> Part<'a> for AnyValue<'a> {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = Self::read(field.bytes()?)?;
        Ok(())
    }
}

// Traces.
messages! {
    ExportTraceServiceRequest<'a> {
        1 resource_spans: Repeated<'a, ResourceSpans<'a>>,
    }
    ResourceSpans<'a> {
        1 resource: Resource<'a>,
        2 scope_spans: Repeated<'a, ScopeSpans<'a>>,
    }
    ScopeSpans<'a> {
        1 scope: InstrumentationScope<'a>,
        2 spans: Repeated<'a, Span<'a>>,
    }
    Span<'a> {
        1 trace_id: &'a [u8],
        2 span_id: &'a [u8],
        3 trace_state: &'a [u8],
        4 parent_span_id: &'a [u8],
        5 name: &'a [u8],
        6 kind: u32,
        7 start_time_unix_nano: u64,
        8 end_time_unix_nano: u64,
        9 attributes: Repeated<'a, KeyValue<'a>>,
        10 dropped_attributes_count: u32,
        11 events: Repeated<'a, Event<'a>>,
        12 dropped_events_count: u32,
        13 links: Repeated<'a, Link<'a>>,
        14 dropped_links_count: u32,
        15 status: Status<'a>,
    }
    Event<'a> {
        1 time_unix_nano: u64,
        2 name: &'a [u8],
        3 attributes: Repeated<'a, KeyValue<'a>>,
        4 dropped_attributes_count: u32,
    }
    Link<'a> {
        1 trace_id: &'a [u8],
        2 span_id: &'a [u8],
        4 attributes: Repeated<'a, KeyValue<'a>>,
        5 dropped_attributes_count: u32,
    }
    Status<'a> {
        2 message: &'a [u8],
        3 code: u32,
    }
}

// Logs.
messages! {
    ExportLogsServiceRequest<'a> {
        1 resource_logs: Repeated<'a, ResourceLogs<'a>>,
    }
    ResourceLogs<'a> {
        1 resource: Resource<'a>,
        2 scope_logs: Repeated<'a, ScopeLogs<'a>>,
    }
    ScopeLogs<'a> {
        1 scope: InstrumentationScope<'a>,
        2 log_records: Repeated<'a, LogRecord<'a>>,
    }
    LogRecord<'a> {
        1 time_unix_nano: u64,
        2 severity_number: u32,
        3 severity_text: &'a [u8],
        5 body: AnyValue<'a>,
        6 attributes: Repeated<'a, KeyValue<'a>>,
        7 dropped_attributes_count: u32,
        9 trace_id: &'a [u8],
        10 span_id: &'a [u8],
        11 observed_time_unix_nano: u64,
        12 event_name: &'a [u8],
    }
}

// Metrics.
messages! {
    ExportMetricsServiceRequest<'a> {
        1 resource_metrics: Repeated<'a, ResourceMetrics<'a>>,
    }
    ResourceMetrics<'a> {
        1 resource: Resource<'a>,
        2 scope_metrics: Repeated<'a, ScopeMetrics<'a>>,
    }
    ScopeMetrics<'a> {
        2 metrics: Repeated<'a, Metric<'a>>,
    }
    Metric<'a> {
        1 name: &'a [u8],
        2 description: &'a [u8],
        3 unit: &'a [u8],
        5 gauge: Option<Gauge<'a>>,
        7 sum: Option<Sum<'a>>,
        9 histogram: Option<Histogram<'a>>,
        10 exponential_histogram: Option<ExponentialHistogram<'a>>,
        11 summary: Option<Summary<'a>>,
    }
    Gauge<'a> {
        1 data_points: Repeated<'a, NumberDataPoint<'a>>,
    }
    Sum<'a> {
        1 data_points: Repeated<'a, NumberDataPoint<'a>>,
        2 aggregation_temporality: u32,
        3 is_monotonic: bool,
    }
    Histogram<'a> {
        1 data_points: Repeated<'a, HistogramDataPoint<'a>>,
        2 aggregation_temporality: u32,
    }
    ExponentialHistogram<'a> {
        1 data_points: Repeated<'a, ExponentialHistogramDataPoint<'a>>,
        2 aggregation_temporality: u32,
    }
    Summary<'a> {
        1 data_points: Repeated<'a, SummaryDataPoint<'a>>,
    }
    NumberDataPoint<'a> {
        2 start_time_unix_nano: u64,
        3 time_unix_nano: u64,
        4 as_double: Option<f64>,
        5 exemplars: Repeated<'a, Exemplar<'a>>,
        6 as_int: Option<i64>,
        7 attributes: Repeated<'a, KeyValue<'a>>,
        8 flags: u32,
    }
    HistogramDataPoint<'a> {
        2 start_time_unix_nano: u64,
        3 time_unix_nano: u64,
        4 count: u64,
        5 sum: Option<f64>,
        6 bucket_counts: Vec<u64>,
        7 explicit_bounds: Vec<f64>,
        8 exemplars: Repeated<'a, Exemplar<'a>>,
        9 attributes: Repeated<'a, KeyValue<'a>>,
        10 flags: u32,
        11 min: Option<f64>,
        12 max: Option<f64>,
    }
    ExponentialHistogramDataPoint<'a> {
        1 attributes: Repeated<'a, KeyValue<'a>>,
        2 start_time_unix_nano: u64,
        3 time_unix_nano: u64,
        5 sum: Option<f64>,
        6 scale: i32,
        7 zero_count: u64,
        8 positive: Buckets,
        9 negative: Buckets,
        10 flags: u32,
        11 exemplars: Repeated<'a, Exemplar<'a>>,
        12 min: Option<f64>,
        13 max: Option<f64>,
        14 zero_threshold: f64,
    }
    SummaryDataPoint<'a> {
        2 start_time_unix_nano: u64,
        3 time_unix_nano: u64,
        4 count: u64,
        5 sum: f64,
        6 quantile_values: Repeated<'a, ValueAtQuantile>,
        7 attributes: Repeated<'a, KeyValue<'a>>,
        8 flags: u32,
    }
    ValueAtQuantile {
        1 quantile: f64,
        2 value: f64,
    }
    Buckets {
        1 offset: i32,
        2 bucket_counts: Varints,
    }
    Exemplar<'a> {
        2 time_unix_nano: u64,
        3 as_double: Option<f64>,
        4 span_id: &'a [u8],
        5 trace_id: &'a [u8],
        6 as_int: Option<i64>,
    }
}
