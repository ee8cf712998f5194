//! The head of a request: never a panic, and what is taken has one meaning.
#![no_main]

use atoll_proxy::http::field::storage;
use atoll_proxy::http::request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut storage = storage();
    let Ok(Some(head)) = request::parse(input, &mut storage) else {
        return;
    };
    assert!(head.length <= input.len());
    let head_bytes = &input[..head.length];
    // No line feed without its carriage return: the classic of request smuggling.
    for at in memory_positions(head_bytes, b'\n') {
        assert!(at > 0 && head_bytes[at - 1] == b'\r');
    }
    assert!(!head_bytes.contains(&0));
    if let Ok(facts) = head.facts() {
        let mut all = Vec::new();
        head.fields.copy(0, &mut all);
        assert!(head_bytes.ends_with(&[&all[..], b"\r\n"].concat()));
        let mut passed = Vec::new();
        head.fields.copy(facts.hop, &mut passed);
        let passed = String::from_utf8_lossy(&passed).to_ascii_lowercase();
        assert!(!passed.contains("\r\ntransfer-encoding:"));
        assert!(!passed.contains("\r\nconnection:"));
    }
    // Cut short, it is incomplete: nothing that follows could have changed its meaning.
    let mut storage = atoll_proxy::http::field::storage();
    let shorter = request::parse(&input[..head.length - 1], &mut storage);
    assert!(matches!(shorter, Ok(None)));
});

fn memory_positions(bytes: &[u8], wanted: u8) -> impl Iterator<Item = usize> {
    let found = move |(at, byte): (usize, &u8)| (*byte == wanted).then_some(at);
    bytes.iter().enumerate().filter_map(found)
}
