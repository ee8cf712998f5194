//! What is published, and what is refused.

use atoll_base::Timestamp;
use axum::body::Body;

use super::*;
use crate::bus::BusError;
use crate::cloudevents::Event;

const CE: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "7"),
    ("ce-source", "/shop"),
    ("ce-type", "placed"),
    ("content-type", "application/json"),
];

#[tokio::test]
async fn an_event_in_binary_mode_is_there_with_all_its_attributes() {
    let world = World::new();
    let mut headers = CE.to_vec();
    headers.push(("ce-partitionkey", "M%C3%BCller"));
    headers.push((
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ));
    headers.push(("tracestate", "a=b"));
    let answer = world.post("/topics/orders", &headers, "{\"n\":1.10}").await;
    let records = answer.is_published(1);
    let expected = serde_json::json!({"id":"7","topic":"orders","partition":0,"offset":0});
    assert_eq!(records[0], expected);
    let record = &world.bus.records("orders")[0];
    assert_eq!(record.key.as_deref(), Some("Müller".as_bytes()));
    assert_eq!(record.text("ce_partitionkey"), Some("Müller"));
    assert_eq!(record.text("content-type"), Some("application/json"));
    assert_eq!(record.text("tracestate"), Some("a=b"));
    assert!(record.text("traceparent").unwrap().starts_with("00-4bf9"));
    assert_eq!(record.value.as_deref(), Some(&b"{\"n\":1.10}"[..]));
    let event = Event::of_record(record);
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("7", "placed"));
}

#[tokio::test]
async fn a_plain_body_becomes_an_event_of_the_caller() {
    let world = World::new();
    let png = [("content-type", "image/png")];
    world
        .post("/topics/orders?key=k1", &png, &b"\x89PNG"[..])
        .await
        .is_published(1);
    world
        .post("/topics/orders", &[], "{}")
        .await
        .is_published(1);
    world.post("/topics/orders", &[], "").await.is_published(1);
    let records = world.bus.records("orders");
    assert_eq!(records[0].key.as_deref(), Some(&b"k1"[..]));
    let event = Event::from_record(&records[0]).unwrap();
    assert_eq!(event.source, "/services/shop");
    assert_eq!(event.kind, "orders");
    let time: Timestamp = event.time.unwrap().parse().unwrap();
    assert!(Timestamp::now().since(time).as_secs() < 60);
    assert_eq!(event.datacontenttype.as_deref(), Some("image/png"));
    let id: uuid::Uuid = event.id.parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    let guessed = Event::from_record(&records[1]).unwrap();
    assert_eq!(guessed.datacontenttype.as_deref(), Some("application/json"));
    assert_ne!(guessed.id, event.id);
    assert_eq!(records[2].value, None);
}

#[tokio::test]
async fn many_are_published_in_their_order() {
    let world = World::new();
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let body = r#"[{"specversion":"1.0","id":"a","source":"/s","type":"t","data":1},
                   {"specversion":"1.0","id":"b","source":"/s","type":"t","partitionkey":"x"}]"#;
    let records = world
        .post("/topics/orders?key=k", &batch, body)
        .await
        .is_published(2);
    assert_eq!(
        (&records[0]["id"], &records[1]["offset"]),
        (&"a".into(), &1.into())
    );
    assert_eq!(
        world.bus.records("orders")[0].key.as_deref(),
        Some(&b"k"[..])
    );
    assert_eq!(
        world.bus.records("orders")[1].key.as_deref(),
        Some(&b"x"[..])
    );

    let lines = [("content-type", "application/x-ndjson")];
    let body = "{\"n\":1}\r\n\n  [2]\n\"three\"";
    let records = world
        .post("/topics/orders", &lines, body)
        .await
        .is_published(3);
    let mut ids: Vec<_> = records.iter().map(|own| own["id"].to_string()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let values = world.bus.records("orders").into_iter().skip(2);
    let values: Vec<_> = values.map(|own| own.value.unwrap()).collect();
    assert_eq!(values, ["{\"n\":1}", "[2]", "\"three\""]);
    world
        .post("/topics/orders", &batch, "[]")
        .await
        .is_published(0);
}

#[tokio::test]
async fn a_delivery_can_be_put_off() {
    let world = World::new();
    let at = "/topics/orders?at=2027-01-31T09:30:00%2B01:00";
    if Timestamp::now() < "2027-01-31T00:00:00Z".parse().unwrap() {
        world.post(at, &[], "1").await.is_published(1);
        let record = &world.bus.records("orders")[0];
        assert_eq!(record.text(DELIVER_AT), Some("2027-01-31T08:30:00.000000Z"));
    }
    let before = Timestamp::now();
    world
        .post("/topics/wide?delay=10s", &[], "1")
        .await
        .is_published(1);
    let record = &world.bus.records("wide")[0];
    let at: Timestamp = record.text(DELIVER_AT).unwrap().parse().unwrap();
    let delay = at.since(before).as_secs();
    assert!((10..=20).contains(&delay), "{delay}");
    for (query, status, says) in [
        ("at=tomorrow", 400, "'at' is not a time"),
        ("at=2027-01-31", 400, "'at' is not a time"),
        ("delay=10", 400, "needs a unit"),
        ("delay=1s&at=2027-01-31T09:30:00Z", 400, "both"),
        ("delay=9000h", 422, "366 days"),
        ("dely=1s", 400, "unknown field"),
    ] {
        let answer = world
            .post(&format!("/topics/orders?{query}"), &[], "1")
            .await;
        answer.is_problem(status, says);
    }
}

#[tokio::test]
async fn who_may_not_publish_is_told_the_line_of_the_manifest() {
    let mut world = World::new();
    world.caller = "stranger";
    let answer = world.post("/topics/orders", &[], "1").await;
    answer.is_problem(403, "[publish] topics = [\"orders\"]");
    let mut nobody = world.request("POST", "/topics/orders", &[], Body::from("1"));
    nobody.extensions_mut().clear();
    world.send(nobody).await.is_problem(401, "EVENTS_URL");
    assert!(world.bus.records("orders").is_empty());
}

type Wrong = (
    &'static str,
    (&'static str, &'static str),
    &'static str,
    u16,
    &'static str,
);

const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
const AVRO: (&str, &str) = ("content-type", "application/cloudevents+avro");
const ORDERS: &str = "/topics/orders";

/// Path, header, body; status, what the problem says.
#[rustfmt::skip]
const WRONG: [Wrong; 16] = [
    ("/topics/nothing", JSON, "1", 404, "no topic 'nothing'"),
    ("/elsewhere", JSON, "1", 404, "/topics/NAME"),
    (ORDERS, JSON, "\"1234567890123456789012345678901234567890\"", 413, "larger than 40 bytes"),
    (ORDERS, LINES, "1\n2\n3\n4", 413, "4 events"),
    (ORDERS, BATCH, "[0,0,0]", 413, "3 events"),
    (ORDERS, JSON, "[[[[[[]]]]]]", 400, "deeper than 5"),
    (ORDERS, LINES, "1\n[[[[[[]]]]]]", 400, "deeper than 5"),
    (ORDERS, JSON, "{", 400, "the body is not the JSON"),
    (ORDERS, LINES, "1\n{", 400, "line 2 is not the JSON"),
    (ORDERS, ("content-type", "what"), "1", 400, "media type"),
    (ORDERS, ("ce-id", "1"), "1", 400, "'specversion' is missing"),
    (ORDERS, AVRO, "1", 415, "not known"),
    ("/topics/orders?key=%ff", JSON, "1", 400, "'key' must be UTF-8"),
    ("/topics/%ff", JSON, "1", 400, "UTF-8"),
    ("/topics/strict", LINES, "{}\n1", 422, "event 1 (from 0) does not match the schema of 'strict'"),
    ("/topics/strict", JSON, "1", 422, "/: it is no object"),
];

#[tokio::test]
async fn what_is_wrong_is_refused_whole_and_says_what_to_do() {
    let mut world = World::new();
    world.limits.body_max = atoll_base::ByteCount(40);
    world.limits.events_max = 2;
    world.limits.depth_max = 5;
    for (path, header, body, status, says) in WRONG {
        world
            .post(path, &[header], body)
            .await
            .is_problem(status, says);
    }
    let put = world.request("PUT", "/topics/orders", &[], Body::empty());
    world.send(put).await.is_problem(405, "POST publishes");
    for topic in ["orders", "strict"] {
        assert!(world.bus.records(topic).is_empty());
    }
}

#[tokio::test]
async fn a_bus_that_is_away_is_said_to_be_with_when_to_try_again() {
    let world = World::new();
    world
        .bus
        .fail(Some(BusError::Unavailable("the broker is full".to_owned())));
    let answer = world.post("/topics/orders", &[], "1").await;
    answer.is_problem(503, "the broker is full; try again");
    assert_eq!(answer.headers["retry-after"], "1");
}
