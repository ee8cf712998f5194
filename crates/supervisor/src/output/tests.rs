//! Lines out of bytes, however they are cut.

use proptest::prelude::*;

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Timestamp};

use super::*;
use crate::event::{Printed, Stream};

fn nothing() -> Printed {
    let instance = InstanceId::new(ServiceName::new("a").unwrap(), RevisionNumber(1), 1);
    Printed::new(instance, Stream::Stdout, Timestamp::from_micros(0), 0)
}

fn cut(chunks: &[&[u8]]) -> Vec<(String, bool)> {
    let mut seen = nothing();
    let mut lines = Lines::default();
    let mut take = |text: &str, continued| seen.push(text, continued);
    for chunk in chunks {
        lines.push(chunk, &mut take);
    }
    lines.finish(&mut take);
    let lines = seen.lines();
    lines
        .map(|line| (line.text.to_owned(), line.continued))
        .collect()
}

fn line(text: &str) -> (String, bool) {
    (text.to_owned(), false)
}

#[test]
fn lines_are_cut_at_their_ends_whatever_the_chunks() {
    assert_eq!(cut(&[b"a\nb\r\n\nc"]), ["a", "b", "", "c"].map(line));
    assert_eq!(cut(&[b"a", b"b\n", b"c", b""]), ["ab", "c"].map(line));
    assert_eq!(cut(&[b""]), []);
    assert_eq!(cut(&[b"a\n"]), [line("a")]);
    assert_eq!(cut(&[b"a\r", b"\n"]), [line("a")]);
}

#[test]
fn what_is_no_utf8_is_replaced() {
    assert_eq!(cut(&[b"a\xFFb\xC3\n"]), [line("a\u{FFFD}b\u{FFFD}")]);
}

#[test]
fn a_long_line_comes_in_pieces_and_no_character_is_cut() {
    let long = "ä".repeat(LINE_LENGTH_MAX);
    let chunks: Vec<&[u8]> = long.as_bytes().chunks(777).collect();
    let pieces = cut(&chunks);
    assert_eq!(pieces.len(), 2);
    assert!(pieces[0].1 && !pieces[1].1);
    let odd = format!("x{long}\nnext");
    let pieces = cut(&[odd.as_bytes()]);
    assert!(pieces.iter().all(|(text, _)| !text.contains('\u{FFFD}')));
    assert!(pieces.iter().all(|(text, _)| text.len() <= LINE_LENGTH_MAX));
    assert_eq!(pieces.last(), Some(&line("next")));
    let joined: String = pieces[..3].iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(joined, odd[..odd.len() - 5]);
}

proptest! {
    #[test]
    fn chunks_do_not_matter(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(0xC3), Just(0xA4)], 0..200),
        size in 1usize..50,
    ) {
        let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(cut(&chunks), cut(&[&bytes]));
    }

    #[test]
    fn the_tail_of_many_is_that_of_one_after_the_other(
        batches in proptest::collection::vec(proptest::collection::vec((0..300_usize, proptest::bool::weighted(0.3)), 0..150), 1..4),
    ) {
        let (mut at_once, mut singly) = (Tail::default(), Tail::default());
        for (number, batch) in batches.into_iter().enumerate() {
            let mut printed = nothing();
            for (place, (length, continued)) in batch.into_iter().enumerate() {
                let text = format!("{number} {place} {}", "x".repeat(length));
                printed.push(&text, continued);
                singly.push(&text, continued);
            }
            at_once.push_all(&printed);
            prop_assert_eq!(at_once.lines(), singly.lines());
            prop_assert_eq!((at_once.bytes, at_once.open), (singly.bytes, singly.open));
        }
    }
}

#[test]
fn the_tail_is_bounded_in_lines_and_bytes() {
    let mut tail = Tail::default();
    for number in 0..100 {
        tail.push(&format!("line {number}"), false);
    }
    let lines = tail.lines();
    assert_eq!((lines.len(), lines[0].as_str()), (40, "line 60"));
    for _ in 0..100 {
        tail.push(&"x".repeat(5000), true);
        tail.push("rest", false);
    }
    let bytes: usize = tail.lines().iter().map(String::len).sum();
    assert!(bytes <= TAIL_BYTES_MAX, "{bytes}");
    assert!(tail.lines().iter().all(|line| line.starts_with('x')));
}
