//! A request of OTLP, as protobuf and as JSON: no panic, no memory for what is not there, and all that
//! is made of attributes is JSON.
#![no_main]

use std::borrow::Cow;

use atoll_base::Timestamp;
use atoll_telemetry::otlp::{Sender, Signal, decode, json};
use atoll_telemetry::{Records, Spans};
use libfuzzer_sys::fuzz_target;

// The first byte says which signal, in which encoding; the rest is the body.
fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else {
        return;
    };
    let sender = Sender {
        service: None,
        now: Timestamp::from_micros(1_763_690_400_000_000),
    };
    let signal = match kind & 3 {
        0 => Signal::Traces,
        1 => Signal::Logs,
        _ => Signal::Metrics,
    };
    let body = if kind & 4 == 0 {
        Cow::Borrowed(body)
    } else {
        match json::to_protobuf(signal, body) {
            Ok(written) => Cow::Owned(written),
            Err(_) => return,
        }
    };
    match signal {
        Signal::Traces => {
            if let Ok(decoded) = decode::traces(&body, &sender) {
                decoded.items.each(&mut |span| {
                    sound(span.attributes);
                    sound(span.events);
                    sound(span.links);
                });
            }
        }
        Signal::Logs => {
            if let Ok(decoded) = decode::logs(&body, &sender) {
                decoded.items.each(&mut |record| sound(record.attributes));
            }
        }
        Signal::Metrics => {
            if let Ok(decoded) = decode::metrics(&body, &sender) {
                assert!(decoded.items.iter().all(|point| !point.name.is_empty()));
            }
        }
    }
});

fn sound(text: &str) {
    assert!(text.is_empty() || serde_json::from_str::<serde_json::Value>(text).is_ok());
}
