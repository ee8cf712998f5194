//! The codec against RFC 9112: what is taken, what is refused, and that no cut of the input and no
//! garbage changes that.

use proptest::prelude::*;

use super::chunk::Piece;
use super::field::storage;
use super::{BadChunk, Body, ChunkDecoder, Refusal, Version, request, response};

const REQUEST: &str = "POST /orders?x=1 HTTP/1.1\r\nHost: shop.example:80\r\n\
                       Content-Length: 5\r\nConnection: x-hop, close\r\nX-Hop: 1\r\n\
                       Accept:  */*  \r\nX-Empty:\r\ntraceparent: t\r\n\r\n";

#[test]
fn a_request_is_taken_apart() {
    let mut storage = storage();
    let head = request::parse(REQUEST.as_bytes(), &mut storage)
        .unwrap()
        .unwrap();
    assert_eq!(
        (head.method, head.target, head.version),
        ("POST", "/orders?x=1", Version::Http11)
    );
    assert_eq!(head.length, REQUEST.len());
    let facts = head.facts().unwrap();
    assert_eq!(facts.host, Some(&b"shop.example:80"[..]));
    assert_eq!(facts.body, Body::Length(5));
    assert!(facts.close && !facts.upgrade && !facts.expects_continue);
    assert_eq!(facts.traceparent, Some(&b"t"[..]));
    let mut out = Vec::new();
    head.fields.copy(facts.hop, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "Host: shop.example:80\r\nContent-Length: 5\r\nAccept:  */*  \r\nX-Empty:\r\ntraceparent: t\r\n"
    );
}

fn facts_of(head: &str) -> Result<Body, Refusal> {
    let mut storage = storage();
    let head = request::parse(head.as_bytes(), &mut storage)?.expect("a whole head");
    head.facts().map(|facts| facts.body)
}

#[test]
fn framing_that_two_readers_could_differ_on_is_refused() {
    let length =
        |value: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\n");
    assert_eq!(facts_of(&length("5")), Ok(Body::Length(5)));
    assert_eq!(
        facts_of(&length("5\r\nContent-Length: 5")),
        Ok(Body::Length(5))
    );
    for bad in [
        "",
        "-1",
        "+1",
        "0x1",
        "1 1",
        "1,1",
        "5\r\nContent-Length: 6",
        "99999999999999999999",
    ] {
        assert_eq!(facts_of(&length(bad)).unwrap_err().status, 400, "{bad}");
    }
    let coding =
        |value: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n");
    for good in ["chunked", "Chunked", " chunked\t"] {
        assert!(
            matches!(facts_of(&coding(good)), Ok(Body::Chunked(_))),
            "{good}"
        );
    }
    for (bad, status) in [
        ("identity", 400),
        ("chunked, gzip", 400),
        ("", 400),
        ("xchunked", 400),
        ("chunked\r\nTransfer-Encoding: chunked", 400),
        ("chunked\r\nContent-Length: 1", 400),
        ("gzip, chunked", 501),
        ("chunked, chunked", 501),
    ] {
        assert_eq!(facts_of(&coding(bad)).unwrap_err().status, status, "{bad}");
    }
}

#[test]
fn only_websocket_upgrades_a_get() {
    let upgrade = |method: &str, connection: &str, protocol: &str| {
        let head = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\nUpgrade: {protocol}\r\n\r\n"
        );
        let mut storage = storage();
        let head = request::parse(head.as_bytes(), &mut storage)
            .unwrap()
            .unwrap();
        head.facts().unwrap().upgrade
    };
    assert!(upgrade("GET", "keep-alive, Upgrade", "WebSocket"));
    assert!(!upgrade("POST", "upgrade", "websocket"));
    assert!(!upgrade("GET", "close", "websocket"));
    assert!(!upgrade("GET", "upgrade", "h2c"));
}

#[test]
fn runs_of_fields_are_copied_whatever_is_left_out() {
    let text = "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n";
    let mut storage = storage();
    let head = request::parse(text.as_bytes(), &mut storage)
        .unwrap()
        .unwrap();
    for without in 0..16u128 {
        let mut out = Vec::new();
        head.fields.copy(without, &mut out);
        let expected: String = ["A: 1\r\n", "B: 2\r\n", "C: 3\r\n", "D: 4\r\n"]
            .iter()
            .enumerate()
            .filter(|(at, _)| without & (1 << at) == 0)
            .map(|(_, line)| *line)
            .collect();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{without:b}");
    }
}

#[test]
fn hosts_are_checked() {
    for good in [
        "a",
        "a.example",
        "a.example:80",
        "10.0.0.1",
        "[::1]",
        "[::1]:80",
        "a_b",
        "a:",
    ] {
        assert!(request::check_host(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "", ":80", "a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "[x]", "[::1]x", "[]", "a\"b",
        "ä",
    ] {
        assert!(request::check_host(bad.as_bytes()).is_err(), "{bad}");
    }
}

fn body_of(head: &str, to_head: bool) -> Option<Body> {
    let mut storage = storage();
    let head = response::parse(head.as_bytes(), &mut storage).ok()??;
    head.facts(to_head).ok().map(|facts| facts.body)
}

#[test]
fn the_length_of_an_answer_follows_the_rfc() {
    let chunked = Some(Body::Chunked(ChunkDecoder::new()));
    for (head, to_head, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            false,
            Some(Body::Length(7)),
        ),
        (
            "HTTP/1.1 200\r\nContent-Length: 7\r\n\r\n",
            false,
            Some(Body::Length(7)),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            true,
            Some(Body::NONE),
        ),
        (
            "HTTP/1.1 204 OK\r\nContent-Length: 7\r\n\r\n",
            false,
            Some(Body::NONE),
        ),
        (
            "HTTP/1.1 304 OK\r\nContent-Length: 7\r\n\r\n",
            false,
            Some(Body::NONE),
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", false, Some(Body::UntilClose)),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
            chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            false,
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n",
            false,
            None,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
            None,
        ),
        ("HTTP/1.1 099 No\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\n\n", false, None),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", false, None),
    ] {
        assert_eq!(body_of(head, to_head), body, "{head}");
    }
}

/// Payload and the number of bytes used, or the error.
fn decode(parts: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), BadChunk> {
    let mut decoder = ChunkDecoder::new();
    let (mut payload, mut used) = (Vec::new(), 0);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() && !decoder.is_done() {
            let length = match decoder.next(rest)? {
                Piece::Framing(length) => length,
                Piece::Payload(length) => {
                    payload.extend_from_slice(&rest[..length]);
                    length
                }
            };
            used += length;
            rest = &rest[length..];
        }
    }
    Ok((payload, used, decoder.is_done()))
}

const CHUNKS: &[u8] = b"5;a=\"b c\"\r\nhello\r\n0006\r\n world\r\n0;z\r\nX-A: b\r\nY:\r\n\r\nGET /";

#[test]
fn chunks_may_be_cut_anywhere() {
    let end = CHUNKS.len() - 5;
    let expected = Ok((b"hello world".to_vec(), end, true));
    assert_eq!(decode(&[CHUNKS]), expected);
    for one in 0..CHUNKS.len() {
        for two in one..CHUNKS.len() {
            let parts = [&CHUNKS[..one], &CHUNKS[one..two], &CHUNKS[two..]];
            assert_eq!(decode(&parts), expected, "{one} {two}");
        }
    }
}

#[test]
fn bad_chunks_are_refused() {
    for bad in [
        "g\r\n",
        ";\r\n",
        "\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\n",
        "5\r\rhello",
        "0x5\r\n",
        "1234567890abcdef\r\n",
        "5\r\nhellox\r\n",
        "5\r\nhello\n",
        "5\r\nhello\r5",
        "1;\x7f\r\n",
        "1;\0\r\n",
        "0\r\n\n",
        "0\r\nx\r\n",
        "0\r\n: x\r\n",
        "0\r\nX: \x01\r\n",
        "0\r\nHost: a\r\n",
        "0\r\nTRANSFER-encoding: chunked\r\n",
        "0\r\n X: folded\r\n",
        "0\r\nX: y\nZ",
    ] {
        assert!(decode(&[bad.as_bytes()]).is_err(), "{bad:?}");
    }
    let long = format!("1;{}\r\n", "x".repeat(20_000));
    assert_eq!(decode(&[long.as_bytes()]), Err(BadChunk::Extension));
    let many = format!("0\r\n{}", "X: y\r\n".repeat(20_000));
    assert_eq!(decode(&[many.as_bytes()]), Err(BadChunk::Trailer));
}

#[test]
fn a_chunk_counts_before_it_arrives() {
    let mut decoder = ChunkDecoder::new();
    decoder.advance(b"a\r\n0123456789\r\nff\r\n").unwrap();
    assert_eq!(decoder.announced(), 10 + 255);
}

proptest! {
    /// Whatever comes, in whatever pieces, is judged the same.
    #[test]
    fn chunks_are_judged_the_same_in_any_pieces(
        input in "([0-9a-f]{1,2}(;x)?\r\n|hello|\r\n|0\r\n|X: y\r\n){0,8}",
        cuts in proptest::collection::vec(0usize..60, 0..4),
    ) {
        let bytes = input.as_bytes();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for cut in cuts {
            parts.push(&bytes[from..cut]);
            from = cut;
        }
        parts.push(&bytes[from..]);
        prop_assert_eq!(decode(&parts), decode(&[bytes]));
    }

    /// A head that is cut short is incomplete, never wrong and never shorter.
    #[test]
    fn a_head_is_judged_only_when_it_is_whole(cut in 0usize..REQUEST.len()) {
        let mut storage = storage();
        let parsed = request::parse(&REQUEST.as_bytes()[..cut], &mut storage);
        prop_assert!(matches!(parsed, Ok(None)), "{:?}", parsed.map(|head| head.map(|head| head.length)));
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>, tail in "[ -~\r\n:]{0,80}") {
        let start: [&[u8]; 4] = [b"", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"0\r\n"];
        for start in start {
            let input = [start, &bytes, tail.as_bytes(), b"\r\n\r\n"].concat();
            let mut storage_one = storage();
            if let Ok(Some(head)) = request::parse(&input, &mut storage_one) {
                let _ = head.facts();
                prop_assert!(head.length <= input.len());
            }
            let mut storage_two = storage();
            if let Ok(Some(head)) = response::parse(&input, &mut storage_two) {
                let _ = head.facts(false);
                prop_assert!(head.length <= input.len());
            }
            let _ = decode(&[&input]);
        }
    }
}

#[test]
fn a_stream_of_events_is_known_by_its_media_type() {
    for (value, expected) in [
        ("text/event-stream", true),
        ("Text/Event-Stream ; charset=utf-8", true),
        ("text/event-streams", false),
        ("text/plain; x=text/event-stream", false),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\n\r\n");
        let mut storage = storage();
        let head = response::parse(head.as_bytes(), &mut storage)
            .unwrap()
            .unwrap();
        assert_eq!(head.facts(false).unwrap().event_stream, expected, "{value}");
    }
}
