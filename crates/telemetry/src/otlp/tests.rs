//! Requests as they come over both transports, and what becomes of them.

mod as_sent;
mod over_grpc;
mod over_http;
mod reading;

use std::sync::{Arc, Mutex};

use super::{Intake, Signal, Taken, json};
use crate::metrics::MetricPoint;
use crate::{NewRecord, Records, Span, Spans};

/// Keeps what it is given, and says what it was told to say.
struct Shelf {
    says: Taken,
    spans: Mutex<Vec<Span>>,
    logs: Mutex<Vec<NewRecord>>,
    points: Mutex<Vec<MetricPoint>>,
}

impl Shelf {
    fn saying(says: Taken) -> Arc<Self> {
        Arc::new(Self {
            says,
            spans: Mutex::default(),
            logs: Mutex::default(),
            points: Mutex::default(),
        })
    }
}

impl Intake for Shelf {
    fn spans(&self, spans: Box<dyn Spans>) -> Taken {
        self.spans.lock().unwrap().extend(all_spans(spans.as_ref()));
        self.says
    }

    fn logs(&self, records: Box<dyn Records>) -> Taken {
        self.logs
            .lock()
            .unwrap()
            .extend(all_records(records.as_ref()));
        self.says
    }

    fn metrics(&self, points: Vec<MetricPoint>) -> Taken {
        self.points.lock().unwrap().extend(points);
        self.says
    }
}

pub(crate) fn all_spans(batch: &dyn Spans) -> Vec<Span> {
    let mut all = Vec::new();
    batch.each(&mut |row| all.push(row.into()));
    assert_eq!(all.len(), batch.count());
    all
}

pub(crate) fn all_records(batch: &dyn Records) -> Vec<NewRecord> {
    let mut all = Vec::new();
    batch.each(&mut |row| all.push(row.into()));
    assert_eq!(all.len(), batch.count());
    all
}

/// [`TRACES_JSON`] in protobuf.
pub(crate) fn traces_protobuf() -> Vec<u8> {
    json::to_protobuf(Signal::Traces, TRACES_JSON.as_bytes()).unwrap()
}

/// A request with one sound span and one with a broken id, by the specification's own example.
const TRACES_JSON: &str = r#"{"resourceSpans":[{
    "resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"My.Service"}},
        {"key":"service.instance.id","value":{"stringValue":"my-1"}},
        {"key":"service.version","value":{"stringValue":"r7"}},
        {"key":"telemetry.sdk.name","value":{"stringValue":"x"}},
        {"key":"host.name","value":{"stringValue":"h"}}]},
    "scopeSpans":[{"scope":{"name":"my.library","version":"1.0.0"},"spans":[
        {"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","parentSpanId":"EEE19B7EC3C1B173",
         "name":"GET /","startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661500000000,"kind":2,
         "attributes":[{"key":"http.response.status_code","value":{"intValue":"503"}},
            {"key":"list","value":{"arrayValue":{}}},{"key":"nothing","value":null},
            {"key":"bytes","value":{"bytesValue":"AQI="}},{"key":"real","value":{"doubleValue":"NaN"}}],
         "events":[{"timeUnixNano":"1544712660300000000","name":"exception",
            "attributes":[{"key":"exception.message","value":{"stringValue":"a \"b\""}}]}],
         "links":[{"traceId":"5b8efff798038103d269b633813fc60d","spanId":"eee19b7ec3c1b175","attributes":null}],
         "status":{"code":2,"message":"no"},"someNewField":{"a":1}},
        {"traceId":"00000000000000000000000000000000","spanId":"EEE19B7EC3C1B174","name":"broken"}]}]}]}"#;
