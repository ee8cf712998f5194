//! OTLP in JSON, read as the specification says and as it is sent.
//!
//! `opentelemetry-proto` knows the special rules (ids in hex, 64-bit numbers as texts, enums as
//! numbers). It is stricter than protobuf's own JSON in a few places where senders are not: `null`
//! for what is absent, `{"arrayValue":{}}` for an empty list. These are set right before it reads.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::door::{Refusal, Signal};

/// Objects, lists and commas of a request: each may become a message or a number, some 256 bytes large.
const PARTS_MAX: usize = (128 << 20) / 256;

/// A request as it would be in protobuf, which is what is decoded: JSON is for people and small programs.
///
/// # Errors
/// When it cannot be read, or would become too large.
pub fn to_protobuf(signal: Signal, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let parts = memchr::memchr3_iter(b'{', b',', b'[', body).take(PARTS_MAX + 1);
    if parts.count() > PARTS_MAX {
        let detail =
            format!("a request of JSON has at most {PARTS_MAX} parts; send smaller batches");
        return Err(Refusal::TooLarge(detail));
    }
    let written = match signal {
        Signal::Traces => read::<ExportTraceServiceRequest>(body)?.encode_to_vec(),
        Signal::Logs => read::<ExportLogsServiceRequest>(body)?.encode_to_vec(),
        Signal::Metrics => read::<ExportMetricsServiceRequest>(body)?.encode_to_vec(),
    };
    Ok(written)
}

/// What is wrong with it is told in words, with the place where it is not JSON at all.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let malformed = |error: serde_json::Error| Refusal::Malformed(error.to_string());
    let mut value: Value = serde_json::from_slice(body).map_err(malformed)?;
    if !value.is_object() {
        let detail = "a request is a JSON object".to_owned();
        return Err(Refusal::Malformed(detail));
    }
    mend(&mut value);
    serde_json::from_value(value).map_err(malformed)
}

/// The depth is bounded by that of the reader before it: 128.
fn mend(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            for (key, value) in object.iter_mut() {
                mend(value);
                if key == "arrayValue" || key == "kvlistValue" {
                    let list = || Value::Array(Vec::new());
                    let inner = value.as_object_mut();
                    inner.map(|inner| inner.entry("values").or_insert_with(list));
                }
            }
            number_in_words(object);
        }
        Value::Array(list) => list.iter_mut().for_each(mend),
        _ => {}
    }
}

/// `"doubleValue": "NaN"`: JSON has no number for it, so it stays a text.
fn number_in_words(object: &mut Map<String, Value>) {
    let Some(Value::String(text)) = object.get("doubleValue") else {
        return;
    };
    let number = text.parse().ok().and_then(serde_json::Number::from_f64);
    let (key, value) = match number {
        Some(number) => ("doubleValue", Value::Number(number)),
        None => ("stringValue", Value::String(text.clone())),
    };
    object.remove("doubleValue");
    object.insert(key.to_owned(), value);
}
