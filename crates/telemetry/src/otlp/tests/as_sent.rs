//! Requests as others write them, with a value of its own in each field: every one is found in its place.

use std::time::Duration;

use atoll_base::{RevisionNumber, SpanId, Timestamp, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use serde_json::{Value as Json, json};

use super::{all_records, all_spans};
use crate::metrics::{self, MetricPoint, Temporality, Value};
use crate::otlp::{Sender, decode};
use crate::record::Level;
use crate::span::{SpanKind, SpanStatus};

const SECOND: u64 = 1_000_000_000;

fn sender() -> Sender {
    Sender {
        service: None,
        now: Timestamp::from_micros(1_763_690_400_000_000),
    }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![
            pair("service.name", Any::StringValue("orders".into())),
            pair("service.instance.id", Any::StringValue("orders-1".into())),
            pair("atoll.revision", Any::IntValue(3)),
            pair("host.name", Any::StringValue("h".into())),
        ],
        dropped_attributes_count: 99,
        ..Resource::default()
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "library".into(),
        version: "1.2".into(),
        attributes: vec![pair("s", Any::BoolValue(true))],
        dropped_attributes_count: 98,
    })
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn span() -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "vendor=1".into(),
        parent_span_id: vec![3; 8],
        flags: 0x101,
        name: "work".into(),
        kind: 4,
        start_time_unix_nano: 5 * SECOND,
        end_time_unix_nano: 7 * SECOND,
        attributes: vec![
            pair("http.status_code", Any::IntValue(418)),
            pair("real", Any::DoubleValue(-1.5)),
            pair("bytes", Any::BytesValue(vec![1, 2])),
        ],
        dropped_attributes_count: 4,
        events: vec![Event {
            time_unix_nano: 6 * SECOND,
            name: "happened".into(),
            attributes: vec![pair("e", Any::IntValue(-1))],
            dropped_attributes_count: 5,
        }],
        dropped_events_count: 6,
        links: vec![Link {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            trace_state: "no".into(),
            attributes: vec![pair("l", Any::IntValue(9))],
            dropped_attributes_count: 10,
            flags: 0x100,
        }],
        dropped_links_count: 11,
        status: Some(Status {
            message: "why".into(),
            code: 2,
        }),
    }
}

#[test]
fn a_span_with_all_fields() {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(),
            scope_spans: vec![ScopeSpans {
                scope: scope(),
                spans: vec![span()],
                schema_url: "https://a".into(),
            }],
            schema_url: "https://b".into(),
        }],
    };
    let decoded = decode::traces(&request.encode_to_vec(), &sender()).unwrap();
    assert!(decoded.notes.is_empty());
    let all = all_spans(&decoded.items);
    let own = &all[0];
    assert_eq!(
        own.trace,
        TraceId::new(u128::from_be_bytes([1; 16])).unwrap()
    );
    assert_eq!(own.span, SpanId::new(u64::from_be_bytes([2; 8])).unwrap());
    assert_eq!(own.parent, SpanId::new(u64::from_be_bytes([3; 8])));
    assert_eq!(
        (own.start, own.duration),
        (time(5_000_000), Duration::from_secs(2))
    );
    let who = (own.service.as_str(), own.instance.as_str(), own.revision);
    assert_eq!(who, ("orders", "orders-1", RevisionNumber(3)));
    assert_eq!((own.name.as_str(), own.kind), ("work", SpanKind::Producer));
    assert_eq!(
        (own.message.as_str(), own.status),
        ("why", SpanStatus::Error)
    );
    assert_eq!((own.http_status, own.inferred), (Some(418), false));
    let attributes = json!({
        "resource.host.name": "h", "otel.scope.name": "library", "otel.scope.version": "1.2", "otel.scope.s": true,
        "http.status_code": 418, "real": -1.5, "bytes": "AQI=", "otel.trace_state": "vendor=1",
        "otel.dropped_attributes_count": 4, "otel.dropped_events_count": 6, "otel.dropped_links_count": 11,
    });
    assert_eq!(json(&own.attributes), attributes);
    let events = json!([{"time": "1970-01-01T00:00:06.000000Z", "name": "happened",
        "attributes": {"e": -1, "otel.dropped_attributes_count": 5}}]);
    assert_eq!(json(&own.events), events);
    let links = json!([{"trace": "07070707070707070707070707070707", "span": "0808080808080808",
        "attributes": {"l": 9, "otel.dropped_attributes_count": 10}}]);
    assert_eq!(json(&own.links), links);
}

#[test]
fn a_record_with_all_fields() {
    let record = LogRecord {
        time_unix_nano: 5 * SECOND,
        observed_time_unix_nano: 6 * SECOND,
        severity_number: 14,
        severity_text: "ERROR".into(),
        body: Some(AnyValue {
            value: Some(Any::StringValue("hello".into())),
        }),
        attributes: vec![pair("a", Any::IntValue(1))],
        dropped_attributes_count: 2,
        flags: 1,
        trace_id: vec![3; 16],
        span_id: vec![4; 8],
        event_name: "named".into(),
    };
    let later = LogRecord {
        time_unix_nano: 0,
        severity_number: 0,
        ..record.clone()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(),
            scope_logs: vec![ScopeLogs {
                scope: scope(),
                log_records: vec![record, later],
                schema_url: "https://a".into(),
            }],
            schema_url: "https://b".into(),
        }],
    };
    let decoded = decode::logs(&request.encode_to_vec(), &sender()).unwrap();
    assert!(decoded.notes.is_empty());
    let all = all_records(&decoded.items);
    let own = &all[0];
    assert_eq!((own.time, own.level), (time(5_000_000), Some(Level::Warn)));
    assert_eq!(
        (all[1].time, all[1].level),
        (time(6_000_000), Some(Level::Error))
    );
    assert_eq!(own.trace, TraceId::new(u128::from_be_bytes([3; 16])));
    assert_eq!(own.span, SpanId::new(u64::from_be_bytes([4; 8])));
    assert_eq!(
        (own.message.as_str(), own.instance.as_str()),
        ("hello", "orders-1")
    );
    let attributes = json!({
        "resource.host.name": "h", "otel.scope.name": "library", "otel.scope.version": "1.2", "otel.scope.s": true,
        "event.name": "named", "a": 1, "otel.dropped_attributes_count": 2,
    });
    assert_eq!(json(&own.attributes), attributes);
}

fn points(data: Data) -> Vec<MetricPoint> {
    let metric = Metric {
        name: "m".into(),
        description: "what it is".into(),
        unit: "By".into(),
        metadata: vec![pair("x", Any::IntValue(1))],
        data: Some(data),
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: vec![metric],
                schema_url: "https://a".into(),
            }],
            schema_url: "https://b".into(),
        }],
    };
    let decoded = decode::metrics(&request.encode_to_vec(), &sender()).unwrap();
    assert!(decoded.notes.is_empty());
    for point in &decoded.items {
        assert_eq!(
            (point.unit.as_ref(), point.help.as_ref()),
            ("By", "what it is")
        );
        assert_eq!(
            (point.start, point.time),
            (Some(time(1_000_000)), time(2_000_000))
        );
        let labels: Vec<_> = point
            .labels
            .iter()
            .filter(|(key, _)| *key != "quantile")
            .collect();
        assert_eq!(
            labels,
            [
                ("instance", "orders-1"),
                ("path", "/"),
                ("service", "orders")
            ]
        );
    }
    decoded.items
}

fn labels() -> Vec<KeyValue> {
    vec![pair("path", Any::StringValue("/".into()))]
}

fn exemplars() -> Vec<Exemplar> {
    vec![Exemplar {
        filtered_attributes: vec![pair("f", Any::IntValue(1))],
        time_unix_nano: 3 * SECOND,
        span_id: vec![5; 8],
        trace_id: vec![6; 16],
        value: Some(exemplar::Value::AsInt(-7)),
    }]
}

fn has_exemplar(point: &MetricPoint) {
    let own = metrics::Exemplar {
        time: time(3_000_000),
        value: -7.0,
        trace: TraceId::new(u128::from_be_bytes([6; 16])).unwrap(),
        span: SpanId::new(u64::from_be_bytes([5; 8])),
    };
    assert_eq!(point.exemplars, [own]);
}

fn number(value: number_data_point::Value, flags: u32) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 2 * SECOND,
        exemplars: exemplars(),
        flags,
        value: Some(value),
    }
}

#[test]
fn numbers_with_all_fields() {
    let whole = number(number_data_point::Value::AsInt(i64::from(i32::MIN)), 0);
    let nothing = number(number_data_point::Value::AsInt(1), 1);
    let read = points(Data::Gauge(Gauge {
        data_points: vec![whole, nothing],
    }));
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].value, Value::Gauge(f64::from(i32::MIN)));
    has_exemplar(&read[0]);
    let read = points(Data::Sum(Sum {
        data_points: vec![number(number_data_point::Value::AsDouble(2.5), 0)],
        aggregation_temporality: 1,
        is_monotonic: true,
    }));
    assert_eq!(read[0].value, Value::Sum(2.5, Temporality::Delta));
}

#[test]
fn histograms_with_all_fields() {
    let point = HistogramDataPoint {
        attributes: labels(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 2 * SECOND,
        count: 7,
        sum: Some(30.5),
        bucket_counts: vec![3, 4],
        explicit_bounds: vec![4.5],
        exemplars: exemplars(),
        flags: 0,
        min: Some(0.5),
        max: Some(9.5),
    };
    let nothing = HistogramDataPoint {
        flags: 1,
        ..point.clone()
    };
    let read = points(Data::Histogram(Histogram {
        data_points: vec![point, nothing],
        aggregation_temporality: 2,
    }));
    assert_eq!(read.len(), 1);
    let own = metrics::Explicit {
        bounds: [4.5].as_slice().into(),
        counts: vec![3, 4],
        sum: 30.5,
        min: Some(0.5),
        max: Some(9.5),
    };
    let wanted = Value::Histogram(metrics::Histogram::Explicit(own), Temporality::Cumulative);
    assert_eq!(read[0].value, wanted);
    has_exemplar(&read[0]);
}

#[test]
fn exponential_histograms_with_all_fields() {
    let point = ExponentialHistogramDataPoint {
        attributes: labels(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 2 * SECOND,
        count: 12,
        sum: Some(8.5),
        scale: -2,
        zero_count: 3,
        positive: Some(Buckets {
            offset: -4,
            bucket_counts: vec![1, 300],
        }),
        negative: Some(Buckets {
            offset: 5,
            bucket_counts: vec![2],
        }),
        flags: 0,
        exemplars: exemplars(),
        min: Some(-6.5),
        max: Some(7.5),
        zero_threshold: 0.25,
    };
    let nothing = ExponentialHistogramDataPoint {
        flags: 1,
        ..point.clone()
    };
    let read = points(Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![point, nothing],
        aggregation_temporality: 1,
    }));
    assert_eq!(read.len(), 1);
    let own = metrics::Exponential {
        zero: 3,
        zero_threshold: 0.25,
        positive: metrics::Buckets::new(-4, &[1, 300]).unwrap(),
        negative: metrics::Buckets::new(5, &[2]).unwrap(),
        sum: 8.5,
        min: Some(-6.5),
        max: Some(7.5),
        ..metrics::Exponential::empty(-2)
    };
    let wanted = Value::Histogram(metrics::Histogram::Exponential(own), Temporality::Delta);
    assert_eq!(read[0].value, wanted);
    has_exemplar(&read[0]);
}

#[test]
fn a_summary_with_all_fields() {
    let point = SummaryDataPoint {
        attributes: labels(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 2 * SECOND,
        count: 4,
        sum: 5.5,
        quantile_values: vec![ValueAtQuantile {
            quantile: 0.75,
            value: 1.25,
        }],
        flags: 0,
    };
    let nothing = SummaryDataPoint {
        flags: 1,
        ..point.clone()
    };
    let read = points(Data::Summary(Summary {
        data_points: vec![point, nothing],
    }));
    let told: Vec<_> = read
        .iter()
        .map(|own| {
            (
                own.name.as_ref(),
                own.labels.get("quantile"),
                own.value.clone(),
            )
        })
        .collect();
    let sum = |value| Value::Sum(value, Temporality::Cumulative);
    let wanted = [
        ("m_count", None, sum(4.0)),
        ("m_sum", None, sum(5.5)),
        ("m", Some("0.75"), Value::Gauge(1.25)),
    ];
    assert_eq!(told, wanted);
}
