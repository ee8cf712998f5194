//! From messages to spans, records and points.

use std::time::Duration;

use atoll_base::{RevisionNumber, ServiceName, Timestamp};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use super::TRACES_JSON;
use crate::metrics::{Histogram, Temporality, Value};
use crate::otlp::notes::Note;
use crate::otlp::weigh;
use crate::otlp::{Sender, Signal, decode, json};
use crate::record::{Level, Stream};
use crate::span::{SpanKind, SpanStatus};

fn sender() -> Sender {
    Sender {
        service: None,
        now: Timestamp::from_micros(1_763_690_400_000_000),
    }
}

#[test]
fn a_span_of_json_has_everything_in_its_place() {
    let request: ExportTraceServiceRequest = json::read(TRACES_JSON.as_bytes()).unwrap();
    let decoded = decode::traces(&request, &sender());
    assert_eq!(decoded.notes.count(Note::BadId), 1);
    assert_eq!(decoded.notes.refused(), 1);
    let [span] = decoded.items.as_slice() else {
        panic!("one span: {:?}", decoded.items)
    };
    assert_eq!(span.trace.to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(span.span.to_string(), "eee19b7ec3c1b174");
    assert_eq!(span.parent.unwrap().to_string(), "eee19b7ec3c1b173");
    assert_eq!(span.start.as_micros(), 1_544_712_660_000_000);
    assert_eq!(span.duration, Duration::from_millis(1500));
    assert_eq!(span.service.as_str(), "my-service");
    assert_eq!(
        (span.instance.as_str(), span.revision),
        ("my-1", RevisionNumber(7))
    );
    assert_eq!(
        (span.kind, span.status),
        (SpanKind::Server, SpanStatus::Error)
    );
    assert_eq!((span.name.as_str(), span.message.as_str()), ("GET /", "no"));
    assert_eq!(span.http_status, Some(503));
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let attributes = json!({
        "resource.service.name": "My.Service", "resource.host.name": "h",
        "otel.scope.name": "my.library", "otel.scope.version": "1.0.0",
        "http.response.status_code": 503, "list": [], "nothing": null, "bytes": "AQI=", "real": "NaN",
    });
    assert_eq!(value(&span.attributes), attributes);
    let events = json!([{"time": "2018-12-13T14:51:00.300000Z", "name": "exception",
        "attributes": {"exception.message": "a \"b\""}}]);
    assert_eq!(value(&span.events), events);
    let links = json!([{"trace": "5b8efff798038103d269b633813fc60d", "span": "eee19b7ec3c1b175",
        "attributes": {}}]);
    assert_eq!(value(&span.links), links);
}

#[test]
fn who_comes_through_a_door_of_its_own_is_nobody_else() {
    let request: ExportTraceServiceRequest = json::read(TRACES_JSON.as_bytes()).unwrap();
    let known = Sender {
        service: Some(ServiceName::new("orders").unwrap()),
        ..sender()
    };
    let span = &decode::traces(&request, &known).items[0];
    assert_eq!(span.service.as_str(), "orders");
    assert!(
        span.attributes
            .contains(r#""resource.service.name":"My.Service""#)
    );
}

#[test]
fn times_far_ahead_are_refused_and_missing_ones_are_now() {
    let text = TRACES_JSON.replace("1544712661500000000", "4102444800000000000");
    let request: ExportTraceServiceRequest = json::read(text.as_bytes()).unwrap();
    let decoded = decode::traces(&request, &sender());
    assert_eq!(decoded.notes.count(Note::Future), 1);
    let record = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}).to_string();
    let request: ExportLogsServiceRequest = json::read(record.as_bytes()).unwrap();
    assert_eq!(
        decode::logs(&request, &sender()).items[0].time,
        sender().now
    );
}

#[test]
fn records_have_a_level_a_trace_and_a_text_of_any_body() {
    let record = |more: serde_json::Value| {
        let mut record = json!({"timeUnixNano": "1544712660300000000"});
        record
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        record
    };
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
        record(json!({"severityNumber": 10, "severityText": "Information", "body": {"stringValue": "hello"},
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
            "attributes": [{"key": "a", "value": {"boolValue": true}}]})),
        record(json!({"severityText": "WARNING", "body": {"kvlistValue": {"values": [
            {"key": "n", "value": {"intValue": "-9223372036854775808"}}]}}})),
        record(json!({"severityNumber": 24, "eventName": "device.crashed"})),
        record(json!({"traceId": "", "spanId": "EEE19B7EC3C1B174", "body": {"doubleValue": 1.5}})),
    ]}]}]});
    let request: ExportLogsServiceRequest = json::read(logs.to_string().as_bytes()).unwrap();
    let decoded = decode::logs(&request, &sender());
    assert!(decoded.notes.is_empty());
    let told: Vec<_> = decoded
        .items
        .iter()
        .map(|own| {
            (
                own.level,
                own.message.as_str(),
                own.trace.is_some(),
                own.span.is_some(),
            )
        })
        .collect();
    let wanted = [
        (Some(Level::Info), "hello", true, true),
        (
            Some(Level::Warn),
            r#"{"n":-9223372036854775808}"#,
            false,
            false,
        ),
        (Some(Level::Fatal), "device.crashed", false, false),
        (None, "1.5", false, false),
    ];
    assert_eq!(told, wanted);
    assert_eq!(decoded.items[0].attributes, r#"{"a":true}"#);
    assert_eq!(
        decoded.items[2].attributes,
        r#"{"event.name":"device.crashed"}"#
    );
    assert_eq!(decoded.items[0].stream, Stream::Otlp);
    assert_eq!(decoded.items[0].service.as_str(), "unknown-service");
}

#[test]
fn points_of_every_kind_are_read() {
    let times =
        json!({"startTimeUnixNano": "1544712660000000000", "timeUnixNano": "1544712660300000000"});
    let point = |more: serde_json::Value| {
        let mut point = times.clone();
        point
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        point
    };
    let exemplar = json!({"timeUnixNano": "1544712660200000000", "asDouble": 0.4,
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"});
    let label = json!([{"key": "service", "value": {"stringValue": "x"}}]);
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "g", "unit": "1", "gauge": {"dataPoints": [point(json!({"asInt": "-3", "attributes": label})),
            point(json!({"flags": 1})), point(json!({}))]}},
        {"name": "c", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [point(json!({"asDouble": 2.5}))]}},
        {"name": "level", "sum": {"aggregationTemporality": 2, "dataPoints": [point(json!({"asInt": 4}))]}},
        {"name": "unsaid", "sum": {"dataPoints": [point(json!({"asInt": 4}))]}},
        {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [point(json!({"count": "3",
            "sum": 1.2, "bucketCounts": ["1", "2"], "explicitBounds": [0.5], "exemplars": [exemplar]})),
            point(json!({"bucketCounts": ["1"], "explicitBounds": [0.5]}))]}},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [point(json!({
            "count": 5, "sum": 9, "scale": 1, "zeroCount": "1", "positive": {"offset": -1, "bucketCounts": ["0", "4"]}}))]}},
        {"name": "s", "summary": {"dataPoints": [point(json!({"count": "2", "sum": 3.5,
            "quantileValues": [{"quantile": 0.5, "value": 1.5}]}))]}},
    ]}]}]});
    let request: ExportMetricsServiceRequest = json::read(metrics.to_string().as_bytes()).unwrap();
    let decoded = decode::metrics(&request, &sender());
    assert_eq!(decoded.notes.count(Note::Unsound), 3, "{}", decoded.notes);
    let names: Vec<&str> = decoded
        .items
        .iter()
        .map(|point| point.name.as_ref())
        .collect();
    assert_eq!(
        names,
        ["g", "c", "level", "h", "e", "s_count", "s_sum", "s"]
    );
    let values: Vec<&Value> = decoded.items.iter().map(|point| &point.value).collect();
    assert_eq!(values[0], &Value::Gauge(-3.0));
    assert_eq!(values[1], &Value::Sum(2.5, Temporality::Cumulative));
    assert_eq!(values[2], &Value::Gauge(4.0));
    assert!(
        matches!(values[3], Value::Histogram(Histogram::Explicit(own), Temporality::Delta)
        if own.counts == [1, 2] && own.sum == 1.2)
    );
    assert!(
        matches!(values[4], Value::Histogram(Histogram::Exponential(own), _)
        if own.count() == 5 && own.positive.parts() == (0, &[4][..]))
    );
    assert_eq!(decoded.items[3].exemplars.len(), 1);
    assert_eq!(decoded.items[7].labels.get("quantile"), Some("0.5"));
    assert_eq!(decoded.items[0].labels.get("exported_service"), Some("x"));
    assert_eq!(
        decoded.items[0].labels.get("service"),
        Some("unknown-service")
    );
}

/// Bytes that are nearly a request: keys with few fields, and lengths that may or may not fit.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let field = (
        1_u8..14,
        prop::sample::select(vec![0_u8, 1, 2, 5]),
        prop::collection::vec(any::<u8>(), 0..12),
    );
    let leaf = prop::collection::vec(field, 0..8).prop_map(|fields| {
        let mut out = Vec::new();
        for (field, wire, bytes) in fields {
            out.push(field << 3 | wire);
            if wire == 2 {
                out.push(bytes.len() as u8);
            }
            out.extend(bytes);
        }
        out
    });
    leaf.prop_recursive(6, 64, 4, |inner| {
        prop::collection::vec((1_u8..14, inner), 1..4).prop_map(|parts| {
            let mut out = Vec::new();
            for (field, part) in parts.into_iter().filter(|(_, part)| part.len() < 128) {
                out.extend([field << 3 | 2, part.len() as u8]);
                out.extend(part);
            }
            out
        })
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_comes_out_is_json(body in nearly()) {
        for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
            let _ = weigh::protobuf(signal, &body);
        }
        let sound = |text: &str| text.is_empty() || serde_json::from_str::<serde_json::Value>(text).is_ok();
        if let Ok(request) = ExportTraceServiceRequest::decode(body.as_slice()) {
            for span in decode::traces(&request, &sender()).items {
                prop_assert!(sound(&span.attributes) && sound(&span.events) && sound(&span.links));
            }
        }
        if let Ok(request) = ExportLogsServiceRequest::decode(body.as_slice()) {
            for record in decode::logs(&request, &sender()).items {
                prop_assert!(sound(&record.attributes));
            }
        }
        if let Ok(request) = ExportMetricsServiceRequest::decode(body.as_slice()) {
            for point in decode::metrics(&request, &sender()).items {
                prop_assert!(!point.name.is_empty());
            }
        }
    }

    #[test]
    fn json_and_protobuf_say_the_same(name in "[a-z]{1,9}", nanos in 1_u64..1 << 60, whole in any::<i64>()) {
        let text = TRACES_JSON.replace("GET /", &name).replace("503", &whole.to_string())
            .replace("1544712660000000000", &nanos.to_string());
        let request: ExportTraceServiceRequest = json::read(text.as_bytes()).unwrap();
        let bytes = request.encode_to_vec();
        let again = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        let (first, second) = (decode::traces(&request, &sender()), decode::traces(&again, &sender()));
        prop_assert_eq!(first.items, second.items);
        let written = serde_json::to_vec(&again).unwrap();
        let third: ExportTraceServiceRequest = json::read(&written).unwrap();
        prop_assert_eq!(third, again);
    }
}
