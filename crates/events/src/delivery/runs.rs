//! What is done beyond the offset of a mark, as text in the mark's metadata.
//!
//! `1:` and base64 of varints: how many offsets from the mark on are not done, how many then are, and
//! so on in turns. A few keys that fail take a few bytes, however far the others are. Where it would
//! become too long it ends early: then some records are delivered again after a crash, none is lost.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Kafka keeps 4096 bytes of metadata; base64 makes four of three.
const BYTES_MAX: usize = 3000;
const FORMAT: &str = "1:";

/// What is done between `base` and `next`, and further `ahead`.
pub(super) fn encode(
    base: i64,
    next: i64,
    outstanding: &BTreeSet<i64>,
    ahead: &[(i64, i64)],
) -> String {
    let mut bytes = Vec::new();
    let mut at = base;
    for (first, end) in done(base, next, outstanding).chain(ahead.iter().copied()) {
        if end <= first {
            continue;
        }
        let before = bytes.len();
        put(&mut bytes, first - at);
        put(&mut bytes, end - first);
        if bytes.len() > BYTES_MAX {
            bytes.truncate(before);
            break;
        }
        at = end;
    }
    if bytes.is_empty() {
        return String::new();
    }
    format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The done offsets beyond `base`, first and end. Nothing of what cannot be read: then it is
/// delivered again.
pub(super) fn decode(base: i64, metadata: &str) -> Vec<(i64, i64)> {
    let read = metadata.strip_prefix(FORMAT);
    let bytes = read.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes = bytes.unwrap_or_default();
    let mut rest = bytes.as_slice();
    let mut runs = Vec::new();
    let mut at = base;
    while let Some((gap, done)) = take(&mut rest).zip(take(&mut rest)) {
        let first = at.checked_add(gap);
        let end = first.and_then(|first| first.checked_add(done));
        let Some((first, end)) = first.zip(end).filter(|_| done > 0) else {
            break;
        };
        runs.push((first, end));
        at = end;
    }
    runs
}

/// The gaps between what is outstanding.
pub(super) fn done(
    base: i64,
    next: i64,
    outstanding: &BTreeSet<i64>,
) -> impl Iterator<Item = (i64, i64)> + '_ {
    let firsts = std::iter::once(base).chain(outstanding.iter().map(|offset| offset + 1));
    let ends = outstanding.iter().copied().chain(std::iter::once(next));
    firsts.zip(ends).filter(|(first, end)| first < end)
}

fn put(out: &mut Vec<u8>, value: i64) {
    let mut value = value.unsigned_abs();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_beyond_the_mark_takes_nothing() {
        assert_eq!(encode(7, 7, &BTreeSet::new(), &[]), "");
        let all = BTreeSet::from([7, 8, 9]);
        assert_eq!(encode(7, 10, &all, &[]), "");
    }

    #[test]
    fn one_record_that_waits_takes_a_few_bytes_however_far_the_others_are() {
        let text = encode(5, 10_000_000, &BTreeSet::from([5]), &[]);
        assert!(text.len() < 12, "{text}");
        assert_eq!(decode(5, &text), [(6, 10_000_000)]);
    }

    #[test]
    fn what_is_too_long_says_less_and_nothing_false() {
        let waiting: BTreeSet<i64> = (0..100_000).step_by(2).collect();
        let text = encode(0, 100_000, &waiting, &[]);
        assert!(text.len() <= 4096, "{}", text.len());
        let runs = decode(0, &text);
        assert!(runs.len() > 1000);
        assert!(
            runs.iter()
                .all(|(first, end)| first % 2 == 1 && *end == first + 1)
        );
    }

    #[test]
    fn metadata_of_others_says_nothing() {
        for text in [
            "",
            "x",
            "1:",
            "1:!!",
            "2:AAAA",
            "1:_________w",
            "1:gICAgICAgICAgIA",
        ] {
            assert_eq!(decode(3, text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            waiting in proptest::collection::btree_set(100_i64..1000, 0..50),
            more in 0_i64..50,
            ahead in proptest::option::of((1_i64..20, 1_i64..20)),
        ) {
            let next = waiting.last().map_or(100, |last| last + 1) + more;
            let base = waiting.first().copied().unwrap_or(next);
            let ahead: Vec<_> = ahead.map(|(gap, done)| (next + gap, next + gap + done)).into_iter().collect();
            let runs = decode(base, &encode(base, next, &waiting, &ahead));
            let is_done = |offset: i64| runs.iter().any(|(first, end)| (*first..*end).contains(&offset));
            for offset in base..next {
                prop_assert_eq!(is_done(offset), !waiting.contains(&offset));
            }
            for offset in next..next + 50 {
                let of_ahead = ahead.iter().any(|(first, end)| (*first..*end).contains(&offset));
                prop_assert_eq!(is_done(offset), of_ahead);
            }
        }

        #[test]
        fn no_text_breaks_it(text in "1:[A-Za-z0-9_-]{0,40}") {
            let runs = decode(0, &text);
            prop_assert!(runs.windows(2).all(|two| two[0].1 <= two[1].0));
        }
    }
}
