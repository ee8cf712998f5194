//! One call over gRPC, as its bytes: a body that waits on disk is sent as it is.
//!
//! A client of a library would pack a message anew that is packed already. What is left is small: five bytes
//! before the message, and the status in what comes after the answer.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use tonic::Code;

use super::verdict::{Outcome, rejected};
use crate::otlp::Signal;
use crate::otlp::grpc;

/// Before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The fields that a call needs beside those of HTTP. Its message is compressed by gzip.
pub const FIELDS: [(&str, &str); 3] = [
    ("content-type", "application/grpc"),
    ("grpc-encoding", "gzip"),
    ("te", "trailers"),
];

/// The path of the method that takes `signal`.
pub fn method(signal: Signal) -> &'static str {
    grpc::method(signal)
}

/// The body of a call with a message that is compressed by gzip.
pub fn body(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a batch is far below 4 GiB");
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(1);
    body.put_u32(length);
    body.put_slice(message);
    body.freeze()
}

/// What an answer means: its status of HTTP and when that asks to come again, its fields, its body, and the
/// fields after it.
pub fn outcome(
    (status, retry_after): (u16, Option<Duration>),
    head: &HeaderMap,
    answer: &[u8],
    trailers: &HeaderMap,
) -> Outcome {
    // An answer without a message has the status of the call among its first fields.
    if let Some((code, retry_after)) = called(trailers).or_else(|| called(head)) {
        return Outcome::Called {
            code,
            retry_after,
            rejected: rejected(answer.get(PREFIX..).unwrap_or_default()),
        };
    }
    // Someone on the way has answered, who does not speak gRPC.
    match status {
        200..=299 => Outcome::Unreached("the answer ended without a status of gRPC".to_owned()),
        _ => Outcome::Answered {
            status,
            retry_after,
            rejected: 0,
        },
    }
}

/// The status of a call, and when it asks to come again. Details that cannot be read say nothing.
fn called(fields: &HeaderMap) -> Option<(Code, Option<Duration>)> {
    let code = Code::from_bytes(fields.get("grpc-status")?.as_bytes());
    let details = fields.get("grpc-status-details-bin");
    let details = details.and_then(|value| BASE64.decode(value.as_bytes()).ok());
    Some((
        code,
        details.and_then(|details| grpc::retry_after(&details)),
    ))
}

/// Binary fields come with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            HeaderValue::from_static(status),
        )])
    }

    #[test]
    fn a_message_has_its_length_before_it() {
        assert_eq!(body(b"abc").as_ref(), b"\x01\0\0\0\x03abc");
    }

    #[test]
    fn the_status_comes_after_the_answer_or_instead_of_it() {
        let none = HeaderMap::new();
        let ways = [
            outcome((200, None), &none, b"", &fields("14")),
            outcome((200, None), &fields("14"), b"", &none),
        ];
        for way in ways {
            let Outcome::Called { code, .. } = way else {
                panic!("{way:?}")
            };
            assert_eq!(code, Code::Unavailable);
        }
        for status in [200, 202, 204] {
            let cut = outcome((status, None), &none, b"", &none);
            assert!(matches!(cut, Outcome::Unreached(_)), "{cut:?}");
        }
        let by_another = outcome((503, None), &none, b"not gRPC", &none);
        assert!(
            matches!(by_another, Outcome::Answered { status: 503, .. }),
            "{by_another:?}"
        );
    }

    #[test]
    fn what_was_refused_of_a_batch_is_counted() {
        // partial_success (1) with rejected_spans (1) = 7
        let answer = b"\0\0\0\0\x04\x0a\x02\x08\x07";
        let taken = outcome((200, None), &HeaderMap::new(), answer, &fields("0"));
        let Outcome::Called { rejected, .. } = taken else {
            panic!("{taken:?}")
        };
        assert_eq!(rejected, 7);
    }

    #[test]
    fn details_tell_when_to_come_again_and_nonsense_tells_nothing() {
        // RetryInfo with a delay of seven seconds.
        let status = {
            let delay: &[u8] = b"\x0a\x02\x08\x07";
            let kind: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";
            let lengths = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
            let any = [&[0x0a, lengths(kind)], kind, &[0x12, lengths(delay)], delay].concat();
            [&[0x08, 8, 0x1a, lengths(&any)][..], &any].concat()
        };
        let asked = |details: &str| {
            let mut fields = fields("8");
            fields.insert("grpc-status-details-bin", details.parse().unwrap());
            match outcome((200, None), &HeaderMap::new(), b"", &fields) {
                Outcome::Called { retry_after, .. } => retry_after,
                other => panic!("{other:?}"),
            }
        };
        let padded = BASE64.encode(&status);
        for details in [padded.as_str(), padded.trim_end_matches('=')] {
            assert_eq!(asked(details), Some(Duration::from_secs(7)), "{details}");
        }
        for details in ["", "!!", "a,b", "AAAA"] {
            assert_eq!(asked(details), None, "{details}");
        }
    }
}
