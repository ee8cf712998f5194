//! The query language of logs and spans, and what services print.
#![no_main]

use atoll_telemetry::{Filter, Kind, extract::extract};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    extract(input);
    for kind in [Kind::Logs, Kind::Spans] {
        match Filter::parse(kind, input) {
            Ok(_) => {}
            // A place to point at.
            Err(error) => {
                assert!(error.at >= 1 && error.at <= input.chars().count() + 1);
            }
        }
    }
});
