//! One call over gRPC, as its bytes: a body that waits on disk is sent as it is.
//!
//! A client of a library would pack a message anew that is packed already. What is left is small: five bytes
//! before the message, and the status in what comes after the answer.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use tonic::Status;

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

/// What an answer means: its status of HTTP, its fields, its body, and the fields after it.
pub fn outcome(status: u16, head: &HeaderMap, answer: &[u8], trailers: &HeaderMap) -> Outcome {
    // An answer without a message has the status of the call among its first fields.
    let called = Status::from_header_map(trailers).or_else(|| Status::from_header_map(head));
    match called {
        Some(called) => Outcome::Called {
            code: called.code(),
            retry_after: grpc::retry_after(called.details()),
            rejected: rejected(answer.get(PREFIX..).unwrap_or_default()),
        },
        None if status == 200 => {
            Outcome::Unreached("the answer ended without a status of gRPC".to_owned())
        }
        // Someone on the way has answered, who does not speak gRPC.
        None => Outcome::Answered {
            status,
            retry_after: None,
            rejected: 0,
        },
    }
}

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
            outcome(200, &none, b"", &fields("14")),
            outcome(200, &fields("14"), b"", &none),
        ];
        for way in ways {
            let Outcome::Called { code, .. } = way else {
                panic!("{way:?}")
            };
            assert_eq!(code, tonic::Code::Unavailable);
        }
        let cut = outcome(200, &none, b"", &none);
        assert!(matches!(cut, Outcome::Unreached(_)), "{cut:?}");
        let by_another = outcome(503, &none, b"not gRPC", &none);
        assert!(
            matches!(by_another, Outcome::Answered { status: 503, .. }),
            "{by_another:?}"
        );
    }

    #[test]
    fn what_was_refused_of_a_batch_is_counted() {
        // partial_success (1) with rejected_spans (1) = 7
        let answer = b"\0\0\0\0\x04\x0a\x02\x08\x07";
        let taken = outcome(200, &HeaderMap::new(), answer, &fields("0"));
        let Outcome::Called { rejected, .. } = taken else {
            panic!("{taken:?}")
        };
        assert_eq!(rejected, 7);
    }
}
