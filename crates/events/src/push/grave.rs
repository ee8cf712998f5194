//! Dead letters: records that a subscription has given up.
//!
//! Each subscription has a topic for its own. A dead letter is the record as it was, key, value and
//! headers, and beside that why it died: so it can be looked at with any client of Kafka, and be
//! published again as it is.

use atoll_base::{ServiceName, Timestamp};

use crate::courier::Ending;
use crate::record::{Header, NewRecord, Record};

/// Of an answer and of a reason, so many bytes are kept.
const ANSWER_BYTES_MAX: usize = 1024;
/// The beginning of all headers that say why a record died.
pub(crate) const PREFIX: &str = "atoll-dead-";

/// Why a record died.
#[derive(Debug)]
pub(super) struct Death<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) path: &'a str,
    pub(super) attempts: u32,
    pub(super) reason: &'a str,
    pub(super) ending: &'a Ending,
    pub(super) trace: &'a str,
    pub(super) time: Timestamp,
}

/// The topic of the dead letters of a subscription.
pub fn dead_topic(service: &ServiceName, topic: &str) -> String {
    format!("dead.{service}.{topic}")
}

/// The dead letter of a record.
pub(super) fn letter(record: &Record, death: &Death<'_>) -> NewRecord {
    let place = &record.place;
    let mut headers: Vec<Header> = record
        .headers
        .iter()
        .filter(|header| !header.name.starts_with(PREFIX))
        .cloned()
        .collect();
    let mut say =
        |name: &str, value: String| headers.push(Header::text(format!("{PREFIX}{name}"), value));
    say("service", death.service.to_string());
    say("topic", place.topic.to_string());
    say("partition", place.partition.to_string());
    say("offset", place.offset.to_string());
    say("published", record.time.to_string());
    say("path", death.path.to_owned());
    say("attempts", death.attempts.to_string());
    let reason = death.reason.as_bytes();
    let reason = reason.get(..ANSWER_BYTES_MAX).unwrap_or(reason);
    say("reason", String::from_utf8_lossy(reason).into_owned());
    say("trace", death.trace.to_owned());
    if let Ending::Answer(answer) = death.ending {
        say("status", answer.status().as_u16().to_string());
        let body = answer.body();
        let start = body.get(..ANSWER_BYTES_MAX).unwrap_or(body);
        say("answer", String::from_utf8_lossy(start).into_owned());
    }
    NewRecord {
        topic: dead_topic(death.service, &place.topic).into(),
        partition: Some(0),
        time: Some(death.time.as_micros() / 1000),
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Place;

    #[test]
    fn a_dead_letter_is_the_record_and_why_it_died() {
        let record = Record {
            place: Place {
                topic: "paid".into(),
                partition: 1,
                offset: 9,
            },
            time: 5,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers: vec![
                Header::text("a", "b"),
                Header::text("atoll-dead-reason", "of old"),
            ],
        };
        let long = "x".repeat(2000);
        let answer = http::Response::builder()
            .status(500)
            .body(Bytes::from(long))
            .unwrap();
        let service = ServiceName::new("points").unwrap();
        let death = Death {
            service: &service,
            path: "/p",
            attempts: 10,
            reason: "answered 500",
            ending: &Ending::Answer(answer),
            trace: "abc",
            time: Timestamp::from_micros(7000),
        };
        let dead = letter(&record, &death);
        assert_eq!(&*dead.topic, "dead.points.paid");
        assert_eq!(
            (dead.key.clone(), dead.value.clone()),
            (record.key, record.value)
        );
        let said = |name: &str| {
            dead.header(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(said("a").as_deref(), Some("b"));
        let reasons = dead
            .headers
            .iter()
            .filter(|own| own.name == "atoll-dead-reason");
        assert_eq!(reasons.count(), 1, "the one of old is gone");
        assert_eq!(said("atoll-dead-reason").as_deref(), Some("answered 500"));
        assert_eq!(said("atoll-dead-status").as_deref(), Some("500"));
        assert_eq!(said("atoll-dead-answer").unwrap().len(), 1024);
        assert_eq!(said("atoll-dead-offset").as_deref(), Some("9"));
    }
}
