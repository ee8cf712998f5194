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

/// Calls `take` with the number of each word of `text`, and of each chosen piece of long ones. Of a word that `take`
/// answers to have had before, it has had the pieces too.
pub(crate) fn held(text: &[u8], take: &mut impl FnMut(u64) -> bool) {
    words(text, |from, to| {
        if to - from >= SHORT && !take(number(text, from, to)) {
            chosen(text, from, to, &mut |piece| {
                take(piece);
            });
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
    // Where the word begins that reaches into the block.
    let mut begun = None;
    let (blocks, rest) = text.as_chunks();
    let mut block = |at: usize, bytes: &[u8; 64]| {
        let mask = letters_and_digits(bytes);
        let before = u64::from(begun.is_some());
        let edges = mask ^ (mask << 1 | before);
        let mut begins = edges & mask;
        let mut ends = edges & !mask;
        if ends == 0 {
            begun = begun.or((begins != 0).then(|| at + begins.trailing_zeros() as usize));
            return;
        }
        if let Some(from) = begun.take() {
            found(from, at + ends.trailing_zeros() as usize);
            ends &= ends - 1;
        }
        while ends != 0 {
            found(
                at + begins.trailing_zeros() as usize,
                at + ends.trailing_zeros() as usize,
            );
            begins &= begins - 1;
            ends &= ends - 1;
        }
        begun = (begins != 0).then(|| at + begins.trailing_zeros() as usize);
    };
    for (number, bytes) in blocks.iter().enumerate() {
        block(64 * number, bytes);
    }
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    // Its last byte is none of the text's: whatever word there is ends here.
    block(64 * blocks.len(), &last);
}

/// A bit for each byte: whether it is an ASCII letter or a digit.
fn letters_and_digits(bytes: &[u8; 64]) -> u64 {
    // The compiler looks at sixteen at once.
    let ones = bytes.map(|byte| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        u8::from(is_letter | (byte.wrapping_sub(b'0') < 10))
    });
    let (eights, _) = ones.as_chunks();
    let bits = eights.iter().enumerate().map(|(place, eight)| {
        // Gathers the eight bits in the last byte.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits << (place * 8)
    });
    bits.fold(0, |mask, bits| mask | bits)
}

/// Calls `take` with the chosen pieces of a word.
#[inline]
fn chosen(text: &[u8], from: usize, to: usize, take: &mut impl FnMut(u64)) {
    if to - from < LONG {
        return;
    }
    let piece = |at| mixed(PIECE as u64, eight(text, at), PIECE);
    let mut before = piece(from);
    // The smaller of two neighbours, for the last two places.
    let mut pairs = [u64::MAX; WINDOW - 2];
    let mut last = None;
    for at in from + 1..=to - PIECE {
        let piece = piece(at);
        let pair = before.min(piece);
        let least = pairs[0].min(pair);
        if at - from >= WINDOW - 1 && last != Some(least) {
            take(least);
            last = Some(least);
        }
        pairs = [pairs[1], pair];
        before = piece;
    }
}

/// Of letters and digits, this bit is that of the case, or always there.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// A number of a word or a piece of one, the same whatever the case.
#[inline]
fn number(text: &[u8], from: usize, to: usize) -> u64 {
    let number = mixed((to - from) as u64, eight(text, from), to - from);
    // Most words are short.
    if to - from <= 8 {
        number
    } else {
        number_with(number, text, from + 8, to)
    }
}

/// A number with the rest of a word mixed in.
fn number_with(mut number: u64, text: &[u8], mut at: usize, to: usize) -> u64 {
    while at < to {
        number = mixed(number, eight(text, at), to - at);
        at += 8;
    }
    number
}

/// A number with so many of the first of eight bytes mixed in.
#[inline]
fn mixed(number: u64, eight: u64, bytes: usize) -> u64 {
    let beyond = 64_usize.saturating_sub(bytes * 8);
    let bytes = (eight | LOWER) << beyond;
    // An odd constant with bits all over: the golden ratio, as Knuth's multiplicative hashing has it.
    let number = (number.rotate_left(23) ^ bytes).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ number >> 32
}

/// Eight bytes from this place; behind the end of the text there are zeros.
#[inline]
fn eight(text: &[u8], at: usize) -> u64 {
    match text[at..].first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => match text.last_chunk() {
            Some(last) => u64::from_le_bytes(*last) >> (8 * (at + 8 - text.len())),
            None => text[at..]
                .iter()
                .rev()
                .fold(0, |eight, byte| eight << 8 | u64::from(*byte)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<u64> {
        let mut found = Vec::new();
        held(text.as_bytes(), &mut |number| {
            found.push(number);
            false
        });
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

    /// Files of earlier days have filters of these numbers: others would hide what is there.
    #[test]
    fn the_numbers_stay_what_they_are() {
        let told = all("GET /Orders/4711 of 4bf92f35a3ce gone");
        let wanted: &[u64] = &[
            0x0674_62ba_19f4_62ba,
            0x7504_d345_671f_d345,
            0x13cd_4c3c_39cd_4c3c,
            0xa329_7a03_9f7c_6e86,
            0x203a_3974_58ba_3974,
            0x3841_69f0_d9c1_69f0,
            0x0e28_d8db_83a8_d8db,
            0x8fc9_9c6b_a5c9_9c6b,
        ];
        assert_eq!(told, wanted);
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
