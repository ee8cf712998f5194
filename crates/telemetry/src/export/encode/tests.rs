//! What is sent on is what came.

use atoll_base::{RevisionNumber, ServiceName};

use super::*;
use prost::Message;

use crate::otlp::tests::{all_records, all_spans, traces_protobuf};
use crate::otlp::{Sender, decode};

fn sender() -> Sender {
    Sender {
        service: None,
        now: Timestamp::from_micros(1_763_690_400_000_000),
    }
}

fn spans_of(body: &[u8]) -> Vec<Span> {
    all_spans(&decode::traces(body, &sender()).unwrap().items)
}

#[test]
fn spans_go_on_as_they_came() {
    let first = spans_of(&traces_protobuf());
    let sent = traces(&first);
    let again = spans_of(&sent.encode_to_vec());
    // The keys of JSON objects may stand in another order.
    let canonical = |span: &Span| {
        let sorted = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        let parts = [&span.attributes, &span.events, &span.links].map(|text| sorted(text));
        let rest = Span {
            attributes: String::new(),
            events: String::new(),
            links: String::new(),
            ..span.clone()
        };
        (rest, parts)
    };
    let all = |spans: &[Span]| spans.iter().map(canonical).collect::<Vec<_>>();
    assert_eq!(all(&first), all(&again));
    let resource = sent.resource_spans[0].resource.as_ref().unwrap();
    let keys: Vec<&str> = resource
        .attributes
        .iter()
        .map(|own| own.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "service.name",
            "service.instance.id",
            "service.version",
            "host.name"
        ]
    );
    let scope = sent.resource_spans[0].scope_spans[0]
        .scope
        .as_ref()
        .unwrap();
    assert_eq!(
        (scope.name.as_str(), scope.version.as_str()),
        ("my.library", "1.0.0")
    );
}

#[test]
fn lines_of_services_go_on_as_records() {
    let record = |service: &str, message: &str| NewRecord {
        time: Timestamp::from_micros(5),
        service: ServiceName::new(service).unwrap(),
        instance: format!("{service}-r3-1"),
        revision: RevisionNumber(3),
        stream: Stream::Stderr,
        level: Some(Level::Error),
        trace: None,
        span: None,
        attributes: String::new(),
        continued: false,
        message: message.to_owned(),
    };
    let sent = logs(&[record("b", "1"), record("a", "2"), record("b", "3")]);
    assert_eq!(sent.resource_logs.len(), 2);
    let again = decode::logs(&sent.encode_to_vec(), &sender()).unwrap();
    assert!(again.notes.is_empty());
    let again = all_records(&again.items);
    let told: Vec<_> = again
        .iter()
        .map(|own| (own.service.as_str(), own.message.as_str()))
        .collect();
    assert_eq!(told, [("a", "2"), ("b", "1"), ("b", "3")]);
    assert_eq!(again[0].attributes, r#"{"log.iostream":"stderr"}"#);
    assert_eq!(
        (again[0].revision, again[0].level),
        (RevisionNumber(3), Some(Level::Error))
    );
}

#[test]
fn points_go_on_as_they_came() {
    use crate::metrics::{Buckets as Own, Exponential, Labels};
    let labels: Labels = [("service", "a"), ("instance", "a-1"), ("path", "/")]
        .into_iter()
        .collect();
    let point = |name: &str, value: Value| MetricPoint {
        name: name.into(),
        unit: "s".into(),
        help: "h".into(),
        labels: labels.clone(),
        start: Some(Timestamp::from_micros(1_000_000)),
        time: Timestamp::from_micros(2_000_000),
        value,
        exemplars: Vec::new(),
    };
    let exponential = Exponential {
        positive: Own::new(3, &[1, 0, 2]).unwrap(),
        zero: 4,
        sum: 9.0,
        max: Some(7.0),
        ..Exponential::empty(2)
    };
    let points = [
        point("g", Value::Gauge(1.5)),
        point("c", Value::Sum(2.0, Temporality::Cumulative)),
        point(
            "e",
            Value::Histogram(Histogram::Exponential(exponential), Temporality::Delta),
        ),
    ];
    let again = decode::metrics(&metrics(&points).encode_to_vec(), &sender()).unwrap();
    assert_eq!(again.items, points);
}
