//! The examples of the specification, what it forbids, and round trips of random events.

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::record::{Header, NewRecord, Place, Record};

const LIMITS: Limits = Limits {
    events_max: 3,
    depth_max: 64,
};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::try_from(*name).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn one(pairs: &[(&str, &str)], body: &'static str) -> Result<Event, Invalid> {
    match decode(
        &headers(pairs),
        &Bytes::from_static(body.as_bytes()),
        LIMITS,
    )? {
        Content::One(event) => Ok(*event),
        other => panic!("{other:?}"),
    }
}

fn structured(body: &'static str) -> Result<Event, Invalid> {
    one(
        &[(
            "content-type",
            "application/cloudevents+json; charset=utf-8",
        )],
        body,
    )
}

fn record(new: NewRecord) -> Record {
    Record {
        place: Place {
            topic: new.topic,
            partition: 3,
            offset: 7_000_000_000,
        },
        time: new.time.unwrap_or(1_700_000_000_123),
        key: new.key,
        value: new.value,
        headers: new.headers,
    }
}

fn plain(value: &'static [u8]) -> NewRecord {
    NewRecord {
        value: Some(Bytes::from_static(value)),
        ..NewRecord::new("orders.placed")
    }
}

const MANDATORY: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-type", "com.example.someevent"),
    ("ce-id", "1234-1234-1234"),
    ("ce-source", "/mycontext/subcontext"),
];

#[test]
fn the_example_of_binary_mode_is_read_and_written_as_it_was() {
    let mut sent = MANDATORY.to_vec();
    sent.push(("ce-time", "2018-04-05T03:56:24Z"));
    sent.push(("ce-comexampleothervalue", "5"));
    sent.push(("content-type", "application/json; charset=utf-8"));
    let event = one(&sent, "{ }").unwrap();
    assert_eq!(event.kind, "com.example.someevent");
    assert_eq!(event.time.as_deref(), Some("2018-04-05T03:56:24Z"));
    assert_eq!(event.extension("comexampleothervalue"), Some(&"5".into()));
    assert_eq!(event.data.as_deref(), Some(&b"{ }"[..]));
    assert_eq!(event.to_binary().headers, headers(&sent));
    assert_eq!(event.to_binary().body, "{ }");
}

#[test]
fn header_values_are_unquoted_and_then_percent_decoded_once() {
    for (sent, subject) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Euro%20%e2%82%ac", "Euro €"),
        ("%41%2541", "A%41"),
        (r#""a \"b\" \\ %20c""#, r#"a "b" \  c"#),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        (r#"a"b"#, r#"a"b"#),
        ("Größe", "Größe"),
    ] {
        let mut pairs = MANDATORY.to_vec();
        pairs.push(("ce-subject", sent));
        let event = one(&pairs, "").unwrap();
        assert_eq!(event.subject.as_deref(), Some(subject), "{sent}");
        assert_eq!(event.data, None);
    }
    let mut event = Event::new("1", "/a", "t");
    event.subject = Some("Euro € 😀\"%".to_owned());
    let written = event.to_binary().headers;
    assert_eq!(
        written["ce-subject"],
        "Euro%20%E2%82%AC%20%F0%9F%98%80%22%25"
    );
}

#[test]
fn what_breaks_the_rules_in_headers_is_refused_with_the_attribute() {
    for (name, value, says) in [
        ("ce-subject", "%C0%A0", "'subject' must be UTF-8"),
        ("ce-subject", "\"open", "'subject' begins with a quote"),
        ("ce-subject", "\"a\"b", "'subject' begins with a quote"),
        ("ce-subject", "", "'subject' must not be empty"),
        ("ce-subject", "a%0Ab", "'subject' must not hold control"),
        ("ce-time", "2018-04-05 03:56:24Z", "'time' must be"),
        ("ce-time", "2018-04-05T03:56:24", "'time' must be"),
        ("ce-time", "2018-04-05T03:56:24+02", "'time' must be"),
        ("ce-time", "2018-02-30T03:56:24Z", "'time' must be"),
        ("ce-dataschema", "/relative", "'dataschema' must be"),
        ("ce-some-thing", "1", "'some-thing' cannot be the name"),
        ("ce-some_thing", "1", "'some_thing' cannot be the name"),
        ("ce-data", "1", "'data' cannot be the name"),
        ("ce-datacontenttype", "a/b", "as the header content-type"),
        ("ce-id", "again", "'id' comes twice"),
        ("content-type", "nonsense", "must be a media type"),
        (
            "content-type",
            "application/cloudevents+avro",
            "not known; send",
        ),
    ] {
        let mut pairs = MANDATORY.to_vec();
        pairs.push((name, value));
        let refused = one(&pairs, "").unwrap_err().to_string();
        assert!(refused.contains(says), "{name}: {value}: {refused}");
    }
    for (index, (name, _)) in MANDATORY.iter().enumerate() {
        let mut pairs = MANDATORY.to_vec();
        pairs.remove(index);
        let refused = one(&pairs, "").unwrap_err().to_string();
        let missing = format!("'{}' is missing", &name[3..]);
        assert!(refused.contains(&missing), "{refused}");
    }
    let old = [
        ("ce-specversion", "0.3"),
        MANDATORY[1],
        MANDATORY[2],
        MANDATORY[3],
    ];
    assert_eq!(one(&old, ""), Err(Invalid::Version("0.3".to_owned())));
}

#[test]
fn a_request_without_any_sign_of_an_event_is_plain() {
    let body = Bytes::from_static(b"{}");
    for pairs in [
        &[][..],
        &[("content-type", "application/json")],
        &[("ce-subject", "only")],
    ] {
        assert_eq!(decode(&headers(pairs), &body, LIMITS), Ok(Content::Plain));
    }
}

#[test]
fn times_are_taken_as_rfc_3339_has_them_and_kept_as_they_are() {
    for time in [
        "2018-04-05T17:31:00Z",
        "2018-04-05t17:31:00.123456789z",
        "2018-04-05T17:31:00-11:30",
        "2016-12-31T23:59:60Z",
    ] {
        let mut pairs = MANDATORY.to_vec();
        pairs.push(("ce-time", time));
        assert_eq!(one(&pairs, "").unwrap().time.as_deref(), Some(time));
    }
}

#[test]
fn the_examples_of_the_json_format_become_what_it_says() {
    let event = structured(
        r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","subject":null,
            "id":"D234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value",
            "comexampleothervalue":5,"flag":true,"data":"I'm just a string"}"#,
    )
    .unwrap();
    assert_eq!(event.subject, None);
    assert_eq!(event.extension("comexampleothervalue"), Some(&5.into()));
    assert_eq!(event.extension("flag"), Some(&Value::Boolean(true)));
    let message = event.to_binary();
    assert_eq!(message.headers[CONTENT_TYPE], "application/json");
    assert_eq!(message.headers["ce-comexampleothervalue"], "5");
    assert_eq!(message.headers["ce-flag"], "true");
    assert_eq!(message.body, "\"I'm just a string\"");

    let head = r#"{"specversion":"1.0","type":"t","source":"/s","id":"1","datacontenttype":"#;
    for (tail, data) in [
        (
            r#""application/xml","data":"<much wow=\"xml\"/>"}"#,
            "<much wow=\"xml\"/>",
        ),
        (
            r#""application/json","data":{ "n": 1.10, "n": 12345678901234567890 }}"#,
            r#"{ "n": 1.10, "n": 12345678901234567890 }"#,
        ),
        (r#""application/json","data":null}"#, "null"),
        (
            r#""application/octet-stream","data_base64":"AAEC/w=="}"#,
            "\u{0}\u{1}\u{2}ÿ",
        ),
        (r#"null,"data":[1]}"#, "[1]"),
    ] {
        let body = Bytes::from(format!("{head}{tail}"));
        let kind = headers(&[("content-type", "application/CloudEvents+JSON")]);
        let Ok(Content::One(event)) = decode(&kind, &body, LIMITS) else {
            panic!("{tail}");
        };
        let wanted: Vec<u8> = match tail.contains("base64") {
            true => vec![0, 1, 2, 255],
            false => data.into(),
        };
        assert_eq!(event.data.as_deref(), Some(&wanted[..]), "{tail}");
    }
}

#[test]
fn what_breaks_the_rules_in_json_is_refused_with_the_reason() {
    let head = r#"{"specversion":"1.0","type":"t","source":"/s","id":"1""#;
    for (tail, says) in [
        (
            r#","data":1,"data_base64":"AA=="}"#,
            "both 'data' and 'data_base64'",
        ),
        (r#","data_base64":"A"}"#, "base64"),
        (r#","data_base64":5}"#, "base64"),
        (
            r#","datacontenttype":"text/plain","data":{}}"#,
            "'data' must be a string",
        ),
        (r#","id":"2"}"#, "'id' comes twice"),
        (r#","data":2,"data":3}"#, "'data' comes twice"),
        (r#","big":2147483648}"#, "whole number of 32 bits"),
        (r#","real":1.5}"#, "whole number"),
        (r#","list":[]}"#, "'list' must be text"),
        (r#","Upper":"x"}"#, "'Upper' cannot be the name"),
        (r#","subject":5}"#, "'subject' must be text"),
        (r#","text":"a\u0007"}"#, "control characters"),
        (r#","text":"\ud800"}"#, "must be text"),
        (r#","source":"/x y"}"#, "'source' must be a URI"),
        ("", "not an event as a JSON object"),
    ] {
        let body = Bytes::from(format!("{head}{tail}"));
        let kind = headers(&[("content-type", STRUCTURED)]);
        let refused = decode(&kind, &body, LIMITS).unwrap_err().to_string();
        assert!(refused.contains(says), "{tail}: {refused}");
    }
    assert!(
        structured("[]")
            .unwrap_err()
            .to_string()
            .contains("JSON object")
    );
    let deep: &'static str = "[".repeat(100_000).leak();
    assert_eq!(structured(deep), Err(Invalid::TooDeep(64)));
}

#[test]
fn a_batch_is_taken_whole_or_refused_with_the_event_that_is_wrong() {
    let kind = headers(&[("content-type", BATCH)]);
    let batch = |body: &'static str| decode(&kind, &Bytes::from_static(body.as_bytes()), LIMITS);
    assert_eq!(batch("[]"), Ok(Content::Batch(Vec::new())));
    let events = vec![Event::new("1", "/s", "t"), Event::new("2", "/s", "t")];
    let message = encode_batch(&events);
    let read = decode(&message.headers, &message.body, LIMITS);
    assert_eq!(read, Ok(Content::Batch(events)));
    let refused = batch(r#"[{"specversion":"1.0","type":"t","source":"/s","id":"1"},{}]"#);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with("event 1 of the batch: the attribute 'specversion'"),
        "{refused}"
    );
    assert_eq!(
        batch("[0,0,0,0]"),
        Err(Invalid::TooMany { count: 4, max: 3 })
    );
}

#[test]
fn any_record_makes_an_event() {
    let made = Event::of_record(&record(plain(br#"{"a":1}"#)));
    assert_eq!(made.id, "orders.placed-3-7000000000");
    assert_eq!(made.source, "/topics/orders.placed");
    assert_eq!(made.kind, "orders.placed");
    assert_eq!(made.time.as_deref(), Some("2023-11-14T22:13:20.123Z"));
    assert_eq!(made.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(made.extensions().count(), 0);
    made.check().unwrap();

    let mut keyed = plain(b"\xff");
    keyed.key = Some("Müller".into());
    keyed.time = Some(-1);
    keyed
        .headers
        .push(Header::text("traceparent", "00-aa-bb-01"));
    let made = Event::of_record(&record(keyed.clone()));
    assert_eq!(
        made.datacontenttype.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(made.partition_key().as_deref(), Some("Müller"));
    assert_eq!(made.extension("traceparent"), Some(&"00-aa-bb-01".into()));
    assert_eq!(made.time, None);
    keyed.key = Some(Bytes::from_static(b"\xff"));
    assert_eq!(
        Event::of_record(&record(keyed.clone())).partition_key(),
        None
    );

    keyed.headers.push(Header::text("content-type", "text/csv"));
    keyed
        .headers
        .push(Header::text("ce_id", "but nothing else"));
    let made = Event::of_record(&record(keyed.clone()));
    assert_eq!(made.datacontenttype.as_deref(), Some("text/csv"));
    assert_eq!(made.id, "orders.placed-3-7000000000");

    // It calls itself an event and is none: nobody is told that it is one.
    keyed.headers.push(Header::text("content-type", STRUCTURED));
    let made = Event::of_record(&record(keyed));
    assert_eq!(
        made.datacontenttype.as_deref(),
        Some("application/octet-stream")
    );

    let tombstone = Event::of_record(&record(NewRecord::new("t")));
    assert_eq!((tombstone.data, tombstone.datacontenttype), (None, None));
}

#[test]
fn the_place_of_a_record_is_told_in_types_that_hold_it() {
    let mut sent = plain(b"1");
    sent.headers.push(Header::text("ce_topic", "a lie"));
    let record = record(sent);
    let event = Event::of_record(&record).with_place(&record);
    assert_eq!(event.extension("topic"), Some(&"orders.placed".into()));
    assert_eq!(event.extension("partition"), Some(&3.into()));
    assert_eq!(event.extension("offset"), Some(&"7000000000".into()));
    let json: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
    assert_eq!(json["partition"], 3);
    assert_eq!(json["offset"], "7000000000");
}

#[test]
fn extensions_follow_the_rules_when_they_are_set() {
    let mut event = Event::new("1", "/s", "t");
    assert_eq!(
        event.extend("Bad", "x"),
        Err(Invalid::Name("Bad".to_owned()))
    );
    assert_eq!(
        event.extend("subject", "x"),
        Err(Invalid::Name("subject".to_owned()))
    );
    assert!(event.extend("note", "a\nb").is_err());
    assert_eq!(event.extend("note", "ab"), Ok(()));
    event.source = String::new();
    assert!(event.check().is_err());
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß€😀%\"\\\\]{1,12}"
}

fn media_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/json".to_owned()),
        Just("application/geo+json; charset=utf-8".to_owned()),
        Just("text/plain".to_owned()),
        Just("application/atom+xml".to_owned()),
        Just("image/png".to_owned()),
    ]
}

/// Without spaces at its ends: around a value of JSON they mean nothing, and are not kept.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let any = prop_oneof![
        vec(any::<u8>(), 0..20),
        "[ -~ä\n]{0,20}".prop_map(String::into_bytes),
        Just(b"{\"a\": [1.10, null]}".to_vec()),
    ];
    any.prop_map(|data| data.trim_ascii().to_vec())
}

prop_compose! {
    fn event()(
        id in text(),
        source in "/[a-z0-9._~-]{1,9}(%20)?",
        kind in text(),
        subject in proptest::option::of(text()),
        time in proptest::option::of("20[0-9]{2}-0[1-9]-1[0-9]T0[0-9]:3[0-9]:4[0-9](\\.[0-9]{1,9})?(Z|\\+0[1-9]:30)"),
        datacontenttype in media_type(),
        extensions in btree_map("x[a-z0-9]{1,8}", text(), 0..4),
        key in proptest::option::of(text()),
        data in proptest::option::of(data()),
    ) -> Event {
        let mut event = Event::new(id, source, kind);
        event.subject = subject;
        event.time = time;
        event.data = data.map(Bytes::from);
        event.datacontenttype = Some(datacontenttype);
        for (name, value) in extensions {
            event.extend(&name, value).unwrap();
        }
        if let Some(key) = key {
            event.extend("partitionkey", key).unwrap();
        }
        event
    }
}

proptest! {
    #[test]
    fn events_come_back_as_they_went(event in event()) {
        event.check().unwrap();
        for message in [event.to_binary(), event.to_structured()] {
            let read = decode(&message.headers, &message.body, LIMITS).unwrap();
            let mut wanted = event.clone();
            if message.headers[CONTENT_TYPE] != STRUCTURED {
                // HTTP cannot tell an empty body from none.
                wanted.data = wanted.data.filter(|data| !data.is_empty());
            }
            prop_assert_eq!(read, Content::One(Box::new(wanted)));
        }
        for new in [event.to_record("t"), event.to_structured_record("t")] {
            prop_assert_eq!(new.key.clone(), event.partition_key().map(Bytes::from));
            prop_assert_eq!(&Event::from_record(&record(new.clone())).unwrap(), &event);
            prop_assert_eq!(&Event::of_record(&record(new)), &event);
        }
    }

    #[test]
    fn decoders_never_panic_and_what_they_take_is_sound(
        kind in prop_oneof![Just(STRUCTURED), Just(BATCH), Just("text/plain")],
        pairs in vec(("ce-(id|source|type|specversion|[a-z_-]{0,6})", vec(0x20_u8..=0xff, 0..9)), 0..8),
        body in prop_oneof![
            vec(any::<u8>(), 0..40),
            "\\[?\\{(\"(id|type|source|specversion|data|data_base64|x)\":(\"(1.0|/a|t|AA==|\\\\u0000)\"|1|null|\\{\\}),?){0,7}\\}?\\]?".prop_map(String::into_bytes),
        ],
    ) {
        let mut map = headers(&[("content-type", kind)]);
        for (name, value) in pairs {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
                map.append(name, value);
            }
        }
        let body = Bytes::from(body);
        let events = match decode(&map, &body, LIMITS) {
            Ok(Content::One(event)) => vec![*event],
            Ok(Content::Batch(events)) => events,
            Ok(Content::Plain) | Err(_) => Vec::new(),
        };
        for event in events {
            event.check().unwrap();
            let message = event.to_structured();
            prop_assert!(decode(&message.headers, &message.body, LIMITS).is_ok());
        }
        let mut new = NewRecord { value: Some(body), ..NewRecord::new("t") };
        for (name, value) in &map {
            let name = name.as_str().replace("ce-", "ce_");
            new.headers.push(Header { name, value: Some(Bytes::copy_from_slice(value.as_bytes())) });
        }
        Event::of_record(&record(new)).check().unwrap();
    }
}

/// What the package `cloudevents` 2.2.0 of PyPI sends, in all four forms.
const PYTHON: &str = include_str!("../../tests/fixtures/cloudevents-python-2.2.0.json");

#[test]
fn what_the_python_sdk_sends_is_read_as_it_was_meant() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let messages: Vec<serde_json::Value> = serde_json::from_str(PYTHON).unwrap();
    assert_eq!(messages.len(), 12);
    for message in messages {
        let mode = message["mode"].as_str().unwrap();
        let body = Bytes::from(base64.decode(message["body"].as_str().unwrap()).unwrap());
        let sent = message["headers"].as_array().unwrap().iter();
        let sent: Vec<(&str, &str)> = sent
            .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let event = if mode.starts_with("http") {
            let Ok(Content::One(event)) = decode(&headers(&sent), &body, LIMITS) else {
                panic!("{message}");
            };
            *event
        } else {
            let mut new = NewRecord::new("t");
            new.value = Some(body);
            let sent = sent.iter().map(|(name, value)| Header::text(*name, *value));
            new.headers.extend(sent);
            new.key = message["key"].as_str().map(|key| key.to_owned().into());
            Event::from_record(&record(new)).unwrap()
        };
        for (name, value) in message["attributes"].as_object().unwrap() {
            let found = event.attributes().find(|(own, _)| own == name);
            let (_, found) = found.unwrap_or_else(|| panic!("{mode}: {name}"));
            assert_eq!(found.to_string(), value.as_str().unwrap(), "{mode}: {name}");
        }
        let data = event.data.unwrap();
        match (&message["json"], message["data"].as_str()) {
            (serde_json::Value::Null, Some(text)) => {
                let bytes = base64.decode(text).unwrap_or_else(|_| text.into());
                assert_eq!(data, bytes, "{mode}");
            }
            (json, _) => {
                let data: serde_json::Value = serde_json::from_slice(&data).unwrap();
                assert_eq!(&data, json, "{mode}");
            }
        }
    }
}
