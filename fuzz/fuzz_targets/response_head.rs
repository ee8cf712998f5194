//! The head of an answer: never a panic, and framing that has one meaning.
#![no_main]

use atoll_proxy::http::field::storage;
use atoll_proxy::http::{Body, response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut storage = storage();
    let Ok(Some(head)) = response::parse(input, &mut storage) else {
        return;
    };
    assert!(head.length <= input.len() && (100..=999).contains(&head.status));
    assert!(!head.line.contains(&b'\r') && !head.line.contains(&b'\n'));
    if let Ok(facts) = head.facts(false) {
        let mut passed = b"\r\n".to_vec();
        head.fields.copy(facts.hop, &mut passed);
        let passed = String::from_utf8_lossy(&passed).to_ascii_lowercase();
        assert!(!passed.contains("\r\ntransfer-encoding:"));
        // One length at most, and none beside chunks.
        let lengths = passed.matches("\r\ncontent-length:").count();
        assert!(lengths <= 1);
        assert!(!(matches!(facts.body, Body::Chunked(_)) && lengths > 0));
    }
    assert_eq!(head.facts(true).is_ok(), head.facts(false).is_ok());
});
