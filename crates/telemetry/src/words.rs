//! What a text holds, as numbers, so that a filter can tell which rows cannot hold what is searched.
//!
//! Searches look for substrings, whatever their case. A word (a run of ASCII letters and digits) that stands
//! within the searched text, with something else on both sides, must be a whole word of any row that holds
//! it. A long word at an end of the searched text may be a part of a longer one; of such, some pieces are chosen
//! by what is in them and not by where they stand: in each window of [`WINDOW`] neighbouring pieces the one with
//! the smallest number (winnowing: Schleimer, Wilkerson, Aiken, SIGMOD 2003). A window that lies in both texts
//! chooses the same in both, so a part has no piece that the whole has not.
//!
//! Refused: pieces of all texts at all places, whose filter would be as large as the text.

/// The bytes of a piece.
const PIECE: usize = 5;

/// Of so many neighbouring pieces one is chosen.
const WINDOW: usize = 4;

/// Shorter words are in all rows or so, and are left out.
const SHORT: usize = 3;

/// Words of at least this length have pieces.
const LONG: usize = PIECE + WINDOW - 1;

/// Calls `take` with the number of each word of `text`, and of each chosen piece of long ones.
pub(crate) fn held(text: &[u8], take: &mut impl FnMut(u64)) {
    words(text, |from, to| {
        if to - from >= SHORT {
            take(number(text, from, to));
            chosen(text, from, to, take);
        }
    });
}

/// Numbers that any text has among its own that contains `searched`, whatever the case.
pub(crate) fn needed(searched: &str) -> Vec<u64> {
    if !searched.is_ascii() {
        // Case has other rules there: the Kelvin sign is a `k`.
        return Vec::new();
    }
    let text = searched.as_bytes();
    let mut all = Vec::new();
    words(text, |from, to| {
        if from > 0 && to < text.len() {
            all.extend((to - from >= SHORT).then(|| number(text, from, to)));
        } else {
            chosen(text, from, to, &mut |piece| all.push(piece));
        }
    });
    all.sort_unstable();
    all.dedup();
    all
}

/// Calls `found` with the places where words begin and end. Every line that is kept passes here: 64 bytes become one
/// mask of bits, and the processor counts from edge to edge.
fn words(text: &[u8], mut found: impl FnMut(usize, usize)) {
    let mut begun = None;
    let mut before = 0;
    for (block, bytes) in text.chunks(64).enumerate() {
        let mask = letters_and_digits(bytes);
        let mut edges = mask ^ (mask << 1 | before);
        before = mask >> 63;
        while edges != 0 {
            let at = block * 64 + edges.trailing_zeros() as usize;
            edges &= edges - 1;
            begun = match begun {
                Some(from) => {
                    found(from, at);
                    None
                }
                None => Some(at),
            };
        }
    }
    if let Some(from) = begun {
        found(from, text.len());
    }
}

/// A bit for each of at most 64 bytes: whether it is an ASCII letter or a digit.
fn letters_and_digits(bytes: &[u8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    // The top bit of each of eight bytes without top bits that is in a range.
    let within = |eight: u64, range: (u8, u8)| {
        let not_below = eight + ONES * u64::from(0x80 - range.0);
        let above = eight + ONES * u64::from(0x7f - range.1);
        not_below & !above
    };
    let mut mask = 0;
    for (place, eight) in bytes.chunks(8).enumerate() {
        let eight = match eight.try_into() {
            Ok(eight) => u64::from_le_bytes(eight),
            Err(_) => short(eight),
        };
        let (plain, lower) = (eight & !TOPS, (eight | LOWER) & !TOPS);
        let either = within(plain, (b'0', b'9')) | within(lower, (b'a', b'z'));
        let tops = either & !eight & TOPS;
        // Gathers the eight bits in the last byte.
        let bits = (tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (place * 8);
    }
    mask
}

/// Calls `take` with the chosen pieces of a word.
fn chosen(text: &[u8], from: usize, to: usize, take: &mut impl FnMut(u64)) {
    if to - from < LONG {
        return;
    }
    let mut pieces = (from..=to - PIECE).map(|at| number(text, at, at + PIECE));
    let mut window = [0; WINDOW];
    for place in &mut window[1..] {
        *place = pieces.next().unwrap_or(u64::MAX);
    }
    let mut last = None;
    for piece in pieces {
        window.rotate_left(1);
        window[WINDOW - 1] = piece;
        let least = window.into_iter().min();
        if least != last {
            least.into_iter().for_each(&mut *take);
            last = least;
        }
    }
}

/// Of letters and digits, this bit is that of the case, or always there.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// A number of a word or a piece of one, the same whatever the case.
fn number(text: &[u8], from: usize, to: usize) -> u64 {
    let mut number = (to - from) as u64;
    let mut at = from;
    while at < to {
        let eight = match text.get(at..at + 8).map(TryInto::try_into) {
            Some(Ok(eight)) => u64::from_le_bytes(eight),
            _ => short(&text[at..]),
        };
        let beyond = 64_usize.saturating_sub((to - at) * 8);
        let bytes = (eight | LOWER) << beyond;
        // An odd constant with bits all over: the golden ratio, as Knuth's multiplicative hashing has it.
        number = (number.rotate_left(23) ^ bytes).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        number ^= number >> 32;
        at += 8;
    }
    number
}

/// Less than eight bytes, and zeros.
fn short(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<u64> {
        let mut found = Vec::new();
        held(text.as_bytes(), &mut |number| found.push(number));
        found
    }

    fn may_hold(text: &str, searched: &str) -> bool {
        let held = all(text);
        needed(searched).iter().all(|number| held.contains(number))
    }

    #[test]
    fn what_is_not_there_is_known() {
        let line =
            "ERROR order 4711 of 550e8400-e29b-41d4-a716-446655440000 refused: card_declined";
        for absent in ["nobody said this", "order 4712 of", "750f8401", " refuse: "] {
            assert!(!may_hold(line, absent), "{absent}");
        }
        for present in [
            "order 4711 of",
            "550E8400-e29b",
            "6655440000",
            "refus",
            "D_DECLINED",
            "ä",
            "",
            "550e8400",
        ] {
            assert!(may_hold(line, present), "{present}");
        }
    }

    #[test]
    fn an_ordinary_line_has_few_numbers() {
        assert_eq!(all("GET /orders/17 200 in 4 ms").len(), 3);
        let long = all("4bf92f3577b34da6a3ce929d0e0e4736").len();
        assert!((8..=20).contains(&long), "{long}");
    }

    proptest! {
        #[test]
        fn words_are_runs_of_letters_and_digits(text in "[a-zA-Z0-9@\\[`{/:é \u{0}\u{7f}]{0,200}") {
            let mut found = Vec::new();
            words(text.as_bytes(), |from, to| found.push(&text[from..to]));
            let wanted = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            prop_assert_eq!(found, wanted.collect::<Vec<_>>());
        }

        #[test]
        fn what_is_there_is_never_missed(
            text in "[a-cA-C0-2 _\u{212a}é]{0,60}", from in 0..60_usize, length in 0..60_usize, upper: bool,
        ) {
            let part: String = text.chars().skip(from).take(length).collect();
            let part = if upper { part.to_ascii_uppercase() } else { part };
            prop_assert!(may_hold(&text, &part), "{text:?} {part:?}");
        }
    }
}
