//! A request of OTLP, as protobuf and as JSON: no panic, no memory for what is not there, and all that
//! is made of attributes is JSON.
#![no_main]

use atoll_base::Timestamp;
use atoll_telemetry::otlp::{Sender, Signal, decode, json, weigh};
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::de::DeserializeOwned;

// The first byte says which signal, in which encoding; the rest is the body.
fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else {
        return;
    };
    let sender = Sender {
        service: None,
        now: Timestamp::from_micros(1_763_690_400_000_000),
    };
    let is_json = kind & 4 != 0;
    match kind & 3 {
        0 => {
            let request = read::<ExportTraceServiceRequest>(Signal::Traces, is_json, body);
            for span in request.map_or(Vec::new(), |own| decode::traces(&own, &sender).items) {
                sound(&span.attributes);
                sound(&span.events);
                sound(&span.links);
            }
        }
        1 => {
            let request = read::<ExportLogsServiceRequest>(Signal::Logs, is_json, body);
            for record in request.map_or(Vec::new(), |own| decode::logs(&own, &sender).items) {
                sound(&record.attributes);
            }
        }
        _ => {
            let request = read::<ExportMetricsServiceRequest>(Signal::Metrics, is_json, body);
            if let Some(request) = request {
                let decoded = decode::metrics(&request, &sender);
                assert!(decoded.items.iter().all(|point| !point.name.is_empty()));
            }
        }
    }
});

fn read<T: Message + Default + DeserializeOwned>(
    signal: Signal,
    is_json: bool,
    body: &[u8],
) -> Option<T> {
    if is_json {
        weigh::json(body).ok()?;
        return json::read(body).ok();
    }
    weigh::protobuf(signal, body).ok()?;
    T::decode(body).ok()
}

fn sound(text: &str) {
    assert!(text.is_empty() || serde_json::from_str::<serde_json::Value>(text).is_ok());
}
