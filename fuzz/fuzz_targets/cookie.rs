//! One cookie among all: never a panic, and found exactly where a plain reading finds it.
#![no_main]

use atoll_proxy::auth::cookie::{Cookie, find};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for name in ["a", "session", "__Host-session"] {
        let mut expected = Vec::new();
        for pair in input.split(|byte| *byte == b';') {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let (Some(own), Some(value)) = (halves.next(), halves.next()) else {
                continue;
            };
            if trim(own) == name.as_bytes() {
                expected.push(trim(value));
            }
        }
        match find(input, name) {
            Cookie::None => assert!(expected.is_empty()),
            Cookie::One(value) => assert_eq!(expected, [value]),
            Cookie::Several => assert!(expected.len() > 1),
        }
    }
});

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
