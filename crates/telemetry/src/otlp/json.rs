//! OTLP in JSON, read as the specification says and as it is sent.
//!
//! `opentelemetry-proto` knows the special rules (ids in hex, 64-bit numbers as texts, enums as
//! numbers). It is stricter than protobuf's own JSON in a few places where senders are not: `null`
//! for what is absent, `{"arrayValue":{}}` for an empty list. These are set right before it reads.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads a request.
///
/// # Errors
/// What is wrong with it, in words, with the place where it is not JSON at all.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if !value.is_object() {
        return Err("a request is a JSON object".to_owned());
    }
    mend(&mut value);
    serde_json::from_value(value).map_err(|error| error.to_string())
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
