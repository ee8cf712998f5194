//! Records that are on their way to Kafka, as they stand in the SQL state, and how they are known
//! again on the other side.

use atoll_base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::record::{Header, NewRecord};

/// The header by which records on their way are known again.
pub(super) const SETTLED: &str = "atoll-settled";

/// A record in the SQL state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    topic: String,
    partition: Option<i32>,
    time: Option<i64>,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

impl Kept {
    pub(super) fn of(record: &NewRecord) -> Self {
        let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|own| STANDARD.encode(own));
        let headers = record.headers.iter();
        Self {
            topic: record.topic.to_string(),
            partition: record.partition,
            time: record.time,
            key: text(&record.key),
            value: text(&record.value),
            headers: headers
                .map(|own| (own.name.clone(), text(&own.value)))
                .collect(),
        }
    }

    pub(super) fn record(self) -> NewRecord {
        let bytes = |text: Option<String>| {
            text.and_then(|text| STANDARD.decode(text).ok())
                .map(Bytes::from)
        };
        let headers = self.headers.into_iter();
        NewRecord {
            topic: self.topic.into(),
            partition: self.partition,
            time: self.time,
            key: bytes(self.key),
            value: bytes(self.value),
            headers: headers
                .map(|(name, value)| Header {
                    name,
                    value: bytes(value),
                })
                .collect(),
        }
    }
}

/// A mark that no other record has.
pub(super) fn fresh_mark() -> String {
    let mut random = [0; 10];
    // Without random numbers, the time alone tells marks of one group apart well enough.
    let _ = SystemRandom::new().fill(&mut random);
    let millis = u64::try_from(Timestamp::now().as_micros() / 1000).unwrap_or(0);
    let mark = uuid::Builder::from_unix_timestamp_millis(millis, &random);
    mark.into_uuid().to_string()
}

pub(super) fn with_mark(mut record: NewRecord, mark: &str) -> NewRecord {
    record.headers.push(Header::text(SETTLED, mark));
    record
}
