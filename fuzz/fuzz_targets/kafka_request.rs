//! A request of Kafka's protocol: never a panic, never more memory than its bytes are worth; and
//! what decodes is accepted again as it is written out, so the walk over the lengths and the decoder
//! agree on what a request is.
#![no_main]

use atoll_broker::wire::Request;
use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::RequestKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(request) = Request::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    assert!(request.kind.versions().contains(&request.version));
    let (key, version) = (request.kind.key, request.version);
    let Ok(decoded) = RequestKind::decode(key, &mut request.body.clone(), version) else {
        return;
    };
    // The library writes the count of unknown fields, but not those whose number is absurd.
    let shown = format!("{decoded:?}");
    let fields = |text: &str| shown.matches(text).count();
    if fields("unknown_tagged_fields: {") > fields("unknown_tagged_fields: {}") {
        return;
    }
    let mut again = BytesMut::new();
    again.put_i16(key as i16);
    again.put_i16(version);
    again.put_i32(request.correlation);
    again.put_i16(-1);
    if key.request_header_version(version) >= 2 {
        again.put_u8(0);
    }
    if decoded.encode(&mut again, version).is_ok() {
        let again = Request::parse(again.freeze()).expect("what was written is accepted");
        let decoded_again = RequestKind::decode(key, &mut again.body.clone(), version);
        assert_eq!(decoded_again.expect("what was written is read"), decoded);
    }
});
