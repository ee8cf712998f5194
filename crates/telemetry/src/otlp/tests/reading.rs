//! From messages to spans, records and points.

use std::time::Duration;

use atoll_base::{RevisionNumber, ServiceName, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::{TRACES_JSON, all_records, all_spans, traces_protobuf};
use crate::metrics::{Histogram, Temporality, Value};
use crate::otlp::notes::{Note, Notes};
use crate::otlp::{Malformed, Sender, Signal, decode, json};
use crate::record::{Level, Stream};
use crate::span::{SpanKind, SpanStatus};
use crate::{NewRecord, Span};

fn sender() -> Sender {
    Sender {
        service: None,
        now: Timestamp::from_micros(1_763_690_400_000_000),
    }
}

fn spans(body: &[u8], sender: &Sender) -> (Vec<Span>, Notes) {
    let decoded = decode::traces(body, sender).unwrap();
    (all_spans(&decoded.items), decoded.notes)
}

fn records(body: &[u8]) -> (Vec<NewRecord>, Notes) {
    let decoded = decode::logs(body, &sender()).unwrap();
    (all_records(&decoded.items), decoded.notes)
}

fn protobuf(signal: Signal, json: &str) -> Vec<u8> {
    json::to_protobuf(signal, json.as_bytes()).unwrap()
}

#[test]
fn a_span_of_json_has_everything_in_its_place() {
    let (spans, notes) = spans(&traces_protobuf(), &sender());
    assert_eq!(notes.count(Note::BadId), 1);
    assert_eq!(notes.refused(), 1);
    let [span] = spans.as_slice() else {
        panic!("one span: {spans:?}")
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
    let known = Sender {
        service: Some(ServiceName::new("orders").unwrap()),
        ..sender()
    };
    let span = &spans(&traces_protobuf(), &known).0[0];
    assert_eq!(span.service.as_str(), "orders");
    assert!(
        span.attributes
            .contains(r#""resource.service.name":"My.Service""#)
    );
}

#[test]
fn times_far_ahead_are_refused_and_missing_ones_are_now() {
    let text = TRACES_JSON.replace("1544712661500000000", "4102444800000000000");
    let (_, notes) = spans(&protobuf(Signal::Traces, &text), &sender());
    assert_eq!(notes.count(Note::Future), 1);
    let record = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}).to_string();
    let (records, _) = records(&protobuf(Signal::Logs, &record));
    assert_eq!(records[0].time, sender().now);
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
    let (records, notes) = records(&protobuf(Signal::Logs, &logs.to_string()));
    assert!(notes.is_empty());
    let told: Vec<_> = records
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
    assert_eq!(records[0].attributes, r#"{"a":true}"#);
    assert_eq!(records[2].attributes, r#"{"event.name":"device.crashed"}"#);
    assert_eq!(records[0].stream, Stream::Otlp);
    assert_eq!(records[0].service.as_str(), "unknown-service");
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
    let body = protobuf(Signal::Metrics, &metrics.to_string());
    let decoded = decode::metrics(&body, &sender()).unwrap();
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
        1_u8..16,
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
        prop::collection::vec((1_u8..16, inner), 1..4).prop_map(|parts| {
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
        let sound = |text: &str| text.is_empty() || serde_json::from_str::<serde_json::Value>(text).is_ok();
        if let Ok(decoded) = decode::traces(&body, &sender()) {
            for span in all_spans(&decoded.items) {
                prop_assert!(sound(&span.attributes) && sound(&span.events) && sound(&span.links));
            }
        }
        if let Ok(decoded) = decode::logs(&body, &sender()) {
            for record in all_records(&decoded.items) {
                prop_assert!(sound(&record.attributes));
            }
        }
        if let Ok(decoded) = decode::metrics(&body, &sender()) {
            for point in decoded.items {
                prop_assert!(!point.name.is_empty());
            }
        }
    }

    #[test]
    fn numbers_and_names_come_through_as_they_are(
        name in "[a-z]{1,9}", nanos in 1_u64..1 << 60, whole in any::<i64>()
    ) {
        let text = TRACES_JSON.replace("GET /", &name).replace("503", &whole.to_string())
            .replace("1544712660000000000", &nanos.to_string());
        let (spans, _) = spans(&protobuf(Signal::Traces, &text), &sender());
        prop_assert_eq!(&spans[0].name, &name);
        prop_assert_eq!(spans[0].start.as_micros() as u64, nanos / 1000);
        let attributes: serde_json::Value = serde_json::from_str(&spans[0].attributes).unwrap();
        prop_assert_eq!(&attributes["http.response.status_code"], &json!(whole));
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    out.extend(bytes);
    out
}

/// `bytes` within fields of these numbers, the first outermost.
fn within(path: &[u8], bytes: Vec<u8>) -> Vec<u8> {
    path.iter()
        .rev()
        .fold(bytes, |own, number| field(*number, &own))
}

#[test]
fn requests_behind_each_other_are_one() {
    let more = TRACES_JSON.replace("My.Service", "other");
    let both = [traces_protobuf(), protobuf(Signal::Traces, &more)].concat();
    let (spans, notes) = spans(&both, &sender());
    let services: Vec<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, ["my-service", "other"]);
    assert_eq!(notes.count(Note::BadId), 2);
}

#[test]
fn a_flood_of_empty_items_takes_little_memory() {
    let empty = within(&[1, 2], field(2, &[]).repeat(1_000_000));
    let decoded = decode::logs(&empty, &sender()).unwrap();
    assert_eq!(decoded.items.rows.len(), 100_000);
    assert_eq!(decoded.notes.count(Note::TooMany), 900_000);
    assert!(decoded.items.rows.capacity() <= 100_000 && decoded.items.texts.capacity() < 1 << 20);
    let decoded = decode::traces(&empty, &sender()).unwrap();
    assert_eq!(decoded.items.rows.capacity(), 0);
    assert_eq!(decoded.notes.count(Note::BadId), 1_000_000);
    let json = format!("{{\"resourceLogs\":[{}{{}}]}}", "{},".repeat(1_000_000));
    let refusal = json::to_protobuf(Signal::Logs, json.as_bytes()).unwrap_err();
    assert!(
        refusal.to_string().contains("send smaller batches"),
        "{refusal}"
    );
}

#[test]
fn what_all_items_have_in_common_does_not_become_too_much() {
    let attribute = |key: &[u8], text: Vec<u8>| {
        let value = field(2, &field(1, &text));
        field(1, &[field(1, key), value].concat())
    };
    let resource: Vec<u8> = (b'a'..b'd')
        .flat_map(|key| attribute(&[key], vec![b'x'; 16 << 10]))
        .collect();
    let items = field(2, &field(2, &[]).repeat(50_000));
    let body = field(1, &[field(1, &resource), items].concat());
    let decoded = decode::logs(&body, &sender()).unwrap();
    let (taken, refused) = (decoded.items.rows.len(), decoded.notes.count(Note::TooMany));
    assert_eq!(taken as u64 + refused, 50_000);
    assert!(
        taken > 1000 && decoded.items.texts.len() < 65 << 20,
        "{taken}"
    );
    assert!(all_records(&decoded.items)[taken - 1].attributes.len() > 48 << 10);

    // Many who tell much and send nothing of use: of them nothing stays.
    let attributes = field(1, &[]).repeat(200);
    let resource = [field(1, &attributes), within(&[2], field(2, &[]))].concat();
    let decoded = decode::traces(&field(1, &resource).repeat(20_000), &sender()).unwrap();
    assert_eq!(decoded.notes.count(Note::BadId), 20_000);
    assert!(
        decoded.items.texts.capacity() < 16 << 20,
        "{}",
        decoded.items.texts.capacity()
    );
    assert!(decoded.items.origins.is_empty());

    // Each quantile of a summary becomes a point with all labels.
    let label = |at: u8| {
        let value = field(2, &field(1, &[b'x'; 250]));
        field(7, &[field(1, &[at; 200]), value].concat())
    };
    let labels: Vec<u8> = (b'A'..=b'Y').flat_map(label).collect();
    let point = [labels, field(6, &[]).repeat(90_000)].concat();
    let metric = [field(1, b"s"), field(11, &field(1, &point))].concat();
    let decoded = decode::metrics(&within(&[1, 2, 2], metric), &sender()).unwrap();
    let (taken, refused) = (decoded.items.len(), decoded.notes.count(Note::TooMany));
    assert_eq!(taken as u64 + refused, 90_002);
    assert!((1000..10_000).contains(&taken), "{taken}");

    // Labels are read once for all quantiles, whatever lies between them.
    let long = field(7, &field(1, &[b'k'; 257]));
    let point = [field(7, &[]), field(6, &[]).repeat(300_000), long].concat();
    let metric = [field(1, b"s"), field(11, &field(1, &point))].concat();
    let decoded = decode::metrics(&within(&[1, 2, 2], metric), &sender()).unwrap();
    assert_eq!(decoded.notes.count(Note::Labels), 300_002);
}

#[test]
fn what_is_no_protobuf_or_not_of_otlp_is_refused_as_a_whole() {
    let mut cut = traces_protobuf();
    cut.pop();
    let refused = |body: &[u8]| decode::traces(body, &sender()).unwrap_err();
    assert_eq!(refused(&cut), Malformed::Cut);
    let within = |bytes: &[u8]| within(&[1, 2, 2], bytes.to_vec());
    assert_eq!(refused(&within(&[1 << 3, 7])), Malformed::WrongType(1));
    assert_eq!(refused(&within(&[20 << 3, 0x80])), Malformed::Cut);
    assert_eq!(refused(&within(&[0, 0])), Malformed::UnknownField);
    assert_eq!(refused(&within(&[1 << 3 | 3])), Malformed::UnknownField);
    assert_eq!(refused(&within(&[0xff; 11])), Malformed::LongNumber);
    // Fields that nobody knows are passed over, of each type: a varint, eight bytes, four, and any number.
    let unknown: [&[u8]; 4] = [
        &[0xf8, 6, 1],
        &[0xf9, 6, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xfd, 6, 1, 2, 3, 4],
        &[0xfa, 6, 1, 0],
    ];
    let (spans, _) = spans(
        &[&unknown.concat(), &traces_protobuf()[..]].concat(),
        &sender(),
    );
    assert_eq!(spans.len(), 1);
}

#[test]
fn values_that_lie_too_deep_are_left_out() {
    let deep = within(&[5, 1].repeat(40), field(1, b"x"));
    let attribute = [field(1, b"deep"), field(2, &deep)].concat();
    let (records, notes) = records(&within(&[1, 2, 2, 6], attribute));
    assert_eq!(records[0].attributes, r#"{"deep":[[[[[[[[null]]]]]]]]}"#);
    assert_eq!(notes.count(Note::Depth), 1);
}

#[test]
fn a_text_that_is_not_utf_8_is_mended() {
    let record = field(5, &field(1, b"caf\xe9"));
    let (records, notes) = records(&within(&[1, 2, 2], record));
    assert_eq!(records[0].message, "caf\u{fffd}");
    assert_eq!((notes.count(Note::BadText), notes.refused()), (1, 0));
}

#[test]
fn numbers_may_be_packed_or_come_one_by_one() {
    let eights: [[u8; 8]; 2] = [1_u64.to_le_bytes(), 2_u64.to_le_bytes()];
    let bound = 0.5_f64.to_le_bytes();
    let temporality = vec![2 << 3, 1];
    let metric = |point: Vec<u8>| {
        let data = field(9, &[field(1, &point), temporality.clone()].concat());
        within(&[1, 2, 2], [field(1, b"h"), data].concat())
    };
    let packed = [field(6, &eights.concat()), field(7, &bound)].concat();
    let single = |number: u8, bytes: &[u8]| [&[number << 3 | 1], bytes].concat();
    let single = [
        single(6, &eights[0]),
        single(7, &bound),
        single(6, &eights[1]),
    ]
    .concat();
    let read = |body: Vec<u8>| decode::metrics(&body, &sender()).unwrap().items;
    let points = read(metric(packed));
    assert!(
        matches!(&points[0].value, Value::Histogram(Histogram::Explicit(own), Temporality::Delta)
        if own.counts == [1, 2] && own.bounds.as_ref() == [0.5])
    );
    assert_eq!(read(metric(single)), points);
}
