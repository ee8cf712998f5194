//! The request that carries a record to a service, and what its answer becomes.
//!
//! One record is a CloudEvent in binary mode: the value is the body as it is. Several are an array of
//! structured events. The trace goes on from the one that published the record; what else the
//! publisher's request had (its deadline above all) concerns nobody any more.

use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::cloudevents::{self, Event};
use crate::config::SubscribeConfig;
use crate::courier::Topic;
use crate::record::{DELIVER_AT, Header, NewRecord, Record};

const TRACEPARENT: &str = "traceparent";

/// What is known of a request after it was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The trace, as `traceparent` has it: 32 digits.
    pub(super) trace: String,
    /// All of `traceparent`.
    pub(super) traceparent: String,
}

/// The request for these records, and what there is to know about it. `dice`: a random
/// number.
pub(super) fn write(
    config: &SubscribeConfig,
    service: &ServiceName,
    records: &[Record],
    attempt: u32,
    dice: u64,
) -> (http::Request<Bytes>, Facts) {
    let message = match records {
        [one] if config.batch <= 1 => Event::of_record(one).with_place(one).to_binary(),
        several => {
            let events = several
                .iter()
                .map(|record| Event::of_record(record).with_place(record));
            cloudevents::encode_batch(&events.collect::<Vec<_>>())
        }
    };
    let facts = facts(records, dice);
    let mut request = http::Request::new(message.body);
    *request.method_mut() = http::Method::POST;
    let path = config.path.as_deref().unwrap_or("/");
    // The manifest was checked; a path that is none all the same is told by the service's 404.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    *headers = message.headers;
    if let Ok(host) = HeaderValue::from_str(service.as_str()) {
        headers.insert(http::header::HOST, host);
    }
    headers.insert(
        HeaderName::from_static("ce-attempt"),
        HeaderValue::from(attempt),
    );
    if let Ok(parent) = HeaderValue::from_str(&facts.traceparent) {
        headers.insert(HeaderName::from_static(TRACEPARENT), parent);
    }
    if let Some(first) = records.first() {
        let topic = first.place.topic.to_string();
        request.extensions_mut().insert(Topic(topic));
    }
    (request, facts)
}

/// The trace of the record. One that has none gets its own, the same for all attempts.
fn facts(records: &[Record], parent: u64) -> Facts {
    let known = match records {
        [record] => record.text(TRACEPARENT).filter(|text| is_traceparent(text)),
        _ => None,
    };
    let traceparent = known.map_or_else(
        || {
            let trace = records.first().map_or(1, trace_of).max(1);
            format!("00-{trace:032x}-{:016x}-01", parent.max(1))
        },
        str::to_owned,
    );
    let trace = traceparent.get(3..35).unwrap_or_default().to_owned();
    Facts { trace, traceparent }
}

/// A number that no other record is likely to have.
fn trace_of(record: &Record) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt);
        hasher.write(record.place.topic.as_bytes());
        hasher.write_i32(record.place.partition);
        hasher.write_i64(record.place.offset);
        hasher.write_i64(record.time);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// Version 00 of the W3C's text: `00-TRACE-PARENT-FLAGS`.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length| {
        let digits = part
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        part.len() == length && digits
    };
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    match parts[..] {
        ["00", trace, parent, flags] => {
            hex(trace, 32) && !zero(trace) && hex(parent, 16) && !zero(parent) && hex(flags, 2)
        }
        _ => false,
    }
}

/// How long the record must wait.
pub(super) fn due(record: &Record, now: Timestamp) -> Option<Duration> {
    let at: jiff::Timestamp = record.text(DELIVER_AT)?.trim().parse().ok()?;
    let micros = at.as_microsecond().saturating_sub(now.as_micros());
    u64::try_from(micros).ok().map(Duration::from_micros)
}

/// Keys by which order is kept.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

/// The answer to a record as a record of the next topic; none if there is nothing in it. An answer
/// that is a CloudEvent itself is taken as it is; else it gets the key of the record. The error is
/// for a person.
pub(super) fn output(
    topic: &str,
    record: &Record,
    answer: &http::Response<Bytes>,
    facts: &Facts,
) -> Option<Result<NewRecord, String>> {
    if answer.body().is_empty() {
        return None;
    }
    let headers = answer.headers();
    let structured = headers.get(CONTENT_TYPE);
    let structured =
        structured.is_some_and(|kind| kind.as_bytes().starts_with(b"application/cloudevents"));
    let mut next = if structured || headers.contains_key("ce-specversion") {
        let limits = cloudevents::Limits {
            events_max: 1,
            depth_max: 64,
        };
        match cloudevents::decode(headers, answer.body(), limits) {
            Ok(cloudevents::Content::One(event)) => event.to_record(topic),
            Ok(_) => return Some(Err("it is a batch of events, and must be one".to_owned())),
            Err(error) => return Some(Err(format!("it is no valid CloudEvent: {error}"))),
        }
    } else {
        let place = &record.place;
        let id = format!("{}-{}-{}", place.topic, place.partition, place.offset);
        let mut event = Event::new(id, format!("/topics/{}", place.topic), topic);
        event.datacontenttype = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .map(str::to_owned);
        event.data = Some(answer.body().clone());
        event.to_record(topic)
    };
    if next.key.is_none() {
        next.key = record.key.clone();
    }
    if !facts.traceparent.is_empty() && next.header(TRACEPARENT).is_none() {
        next.headers
            .push(Header::text(TRACEPARENT, facts.traceparent.clone()));
    }
    Some(Ok(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Place;

    fn record(headers: Vec<Header>) -> Record {
        Record {
            place: Place {
                topic: "orders.placed".into(),
                partition: 2,
                offset: 7,
            },
            time: 1_700_000_000_000,
            key: Some(Bytes::from_static(b"k1")),
            value: Some(Bytes::from_static(b"{\"id\":1}")),
            headers,
        }
    }

    fn points() -> ServiceName {
        ServiceName::new("points").unwrap()
    }

    #[test]
    fn one_record_is_a_request_in_binary_mode() {
        let config = SubscribeConfig::new("orders.placed", Some("/events/placed?a=1".to_owned()));
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let record = record(vec![Header::text("traceparent", parent)]);
        let (request, facts) = write(&config, &points(), &[record], 3, 1);
        let field = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(request.uri(), "/events/placed?a=1");
        assert_eq!(request.body(), "{\"id\":1}");
        assert_eq!(field("content-type"), "application/json");
        assert_eq!(field("ce-id"), "orders.placed-2-7");
        assert_eq!(field("ce-partitionkey"), "k1");
        assert_eq!(field("ce-offset"), "7");
        assert_eq!(field("host"), "points");
        assert_eq!(field("ce-attempt"), "3");
        assert_eq!(field("traceparent"), parent);
        assert_eq!(facts.trace, "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn a_record_without_a_trace_begins_one() {
        let config = SubscribeConfig::new("orders.placed", Some("/".to_owned()));
        let mut traces = std::collections::BTreeSet::new();
        for bad in [
            "",
            "x",
            "00-0-0-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            let record = record(vec![Header::text("traceparent", bad)]);
            let (_, facts) = write(&config, &points(), &[record], 1, 0);
            traces.insert(facts.trace);
            assert!(is_traceparent(&facts.traceparent), "{}", facts.traceparent);
        }
        assert_eq!(traces.len(), 1, "all attempts are one trace");
    }

    #[test]
    fn where_batches_are_wanted_even_one_record_is_an_array() {
        let mut config = SubscribeConfig::new("orders.placed", Some("/".to_owned()));
        config.batch = 10;
        let (request, _) = write(&config, &points(), &[record(Vec::new())], 1, 1);
        let kind = request.headers().get("content-type").unwrap();
        assert!(kind.to_str().unwrap().starts_with(cloudevents::BATCH));
        let events: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(events[0]["data"]["id"], 1);
    }

    #[test]
    fn a_record_may_ask_for_a_later_time() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let later = record(vec![Header::text(DELIVER_AT, "2023-11-14T22:13:30Z")]);
        assert_eq!(due(&later, now), Some(Duration::from_secs(10)));
        for text in ["2023-11-14T22:13:19Z", "soon"] {
            assert_eq!(
                due(&record(vec![Header::text(DELIVER_AT, text)]), now),
                None
            );
        }
    }

    fn answer(headers: &[(&str, &str)], body: &'static str) -> http::Response<Bytes> {
        let mut answer = http::Response::builder();
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn an_answer_is_the_next_record() {
        let facts = Facts {
            traceparent: "00-x".to_owned(),
            ..Facts::default()
        };
        let of = |answer| output("paid", &record(Vec::new()), &answer, &facts);
        assert_eq!(of(answer(&[], "")), None);
        let plain = of(answer(&[("content-type", "text/plain")], "hi"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (&*plain.topic, plain.key),
            ("paid", Some(Bytes::from_static(b"k1")))
        );
        let event = [
            ("ce-specversion", "1.0"),
            ("ce-id", "9"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-partitionkey", "other"),
        ];
        let event = of(answer(&event, "hi")).unwrap().unwrap();
        assert_eq!(event.key, Some(Bytes::from_static(b"other")));
        assert_eq!(event.header("ce_id").unwrap(), "9");
        assert_eq!(event.header("traceparent").unwrap(), "00-x");
        assert!(
            of(answer(&[("ce-specversion", "1.0")], "hi"))
                .unwrap()
                .is_err()
        );
    }
}
