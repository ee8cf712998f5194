//! Looks for text in a column of texts.
//!
//! A column is one piece of memory with all texts behind each other. Words are looked for in that as a
//! whole, not row by row: the search runs at the speed of the memory, and costs nothing for rows
//! without a hit. A hit that spans two rows is none. Expressions of a person's own are run row by row, because
//! `^` and `$` mean ends of a row.

use std::ops::Range;

use arrow_array::{Array, StringArray};
use arrow_buffer::BooleanBufferBuilder;
use memchr::memmem::Finder;

use crate::words;

/// A piece shorter than this is in any text.
const PIECE_BYTES_MIN: usize = 2;

/// A longer phrase is found by an expression, whose time does not grow with its length, whatever the text.
const PHRASE_BYTES_MAX: usize = 256;

/// What is looked for.
#[derive(Debug)]
pub(super) enum Pattern {
    /// These words, whatever their case.
    Words {
        phrase: Phrase,
        /// What each text that contains them has; see [`words::needed`].
        needed: Vec<u64>,
    },
    /// Rows that match.
    Regex(regex::Regex),
}

/// Text, and how it is found whatever the case of its letters.
#[derive(Debug)]
pub(super) enum Phrase {
    /// By a piece of it without letters, which has no case: a number, what stands between two words. That is looked for
    /// as it is, which is several times as fast.
    Piece {
        text: Vec<u8>,
        /// Where the piece begins in it.
        at: usize,
        piece: Box<Finder<'static>>,
    },
    /// By an expression.
    Regex(regex::bytes::Regex),
}

impl Phrase {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let pieces = bytes.split(u8::is_ascii_alphabetic).map(<[u8]>::len);
        let pieces = pieces.scan(0, |at, length| {
            let begun = *at;
            *at += length + 1;
            Some(begun..begun + length)
        });
        // Outside ASCII there are other rules of case. Of pieces of one length the last: names come before values.
        let longest = pieces.max_by_key(Range::len);
        let is_plain = text.is_ascii() && text.len() <= PHRASE_BYTES_MAX;
        match longest.filter(|piece| is_plain && piece.len() >= PIECE_BYTES_MIN) {
            Some(piece) => Self::Piece {
                text: bytes.to_vec(),
                at: piece.start,
                piece: Box::new(Finder::new(&bytes[piece]).into_owned()),
            },
            None => {
                let flags = if text.is_ascii() { "(?i-u)" } else { "(?i)" };
                let regex = regex::bytes::Regex::new(&format!("{flags}{}", regex::escape(text)));
                Self::Regex(regex.expect("an escaped text of some thousand bytes is a pattern"))
            }
        }
    }

    /// Where it is in `within` first, at `from` or behind it.
    fn find_at(&self, within: &[u8], from: usize) -> Option<Range<usize>> {
        let (text, at, piece) = match self {
            Self::Regex(regex) => return regex.find_at(within, from).map(|found| found.range()),
            Self::Piece { text, at, piece } => (text, at, piece),
        };
        let mut begin = from;
        loop {
            begin += piece.find(within.get(begin + at..)?)?;
            let whole = begin..begin + text.len();
            if within.get(whole.clone())?.eq_ignore_ascii_case(text) {
                return Some(whole);
            }
            begin += 1;
        }
    }
}

impl Pattern {
    /// Text that is contained, whatever its case.
    pub(super) fn words(text: &str) -> Self {
        Self::Words {
            phrase: Phrase::new(text),
            needed: words::needed(text),
        }
    }

    /// What each text that fits has among its numbers.
    pub(super) fn needed(&self) -> &[u64] {
        match self {
            Self::Words { needed, .. } => needed,
            Self::Regex(_) => &[],
        }
    }

    pub(super) fn regex(regex: regex::Regex) -> Self {
        Self::Regex(regex)
    }

    /// Marks the rows of `texts` that contain it.
    pub(super) fn mark(&self, texts: &StringArray, found: &mut BooleanBufferBuilder) {
        match self {
            Self::Words { phrase, .. } => {
                let find = |text: &[u8], from| phrase.find_at(text, from);
                rows_with(find, texts, &mut |row, _| {
                    found.set_bit(row, true);
                    true
                });
            }
            Self::Regex(regex) => {
                for row in 0..texts.len() {
                    if texts.is_valid(row) && regex.is_match(texts.value(row)) {
                        found.set_bit(row, true);
                    }
                }
            }
        }
    }
}

/// Calls `hit` with the row and the place in it of what `find` finds in a text from a place on; once for a row, if it
/// answers `true`.
pub(super) fn rows_with(
    find: impl Fn(&[u8], usize) -> Option<Range<usize>>,
    texts: &StringArray,
    hit: &mut dyn FnMut(usize, usize) -> bool,
) {
    let offsets = texts.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return;
    };
    let place = |offset: &i32| usize::try_from(*offset).unwrap_or(0);
    let text = &texts.value_data()[..place(last)];
    let (mut at, mut row) = (place(first), 0);
    while let Some(found) = find(text, at) {
        // Rows end where the next begin: the first end behind the start of the hit is that of its row.
        row += offsets[row + 1..].partition_point(|end| place(end) <= found.start);
        let Some(end) = offsets.get(row + 1).map(place) else {
            return;
        };
        let whole = found.end <= end && texts.is_valid(row);
        let enough = whole && hit(row, found.start - place(&offsets[row]));
        at = if enough { end } else { found.start + 1 };
        if at > text.len() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_no_case_is_looked_for_as_it_is() {
        let piece = |text: &str| match Phrase::new(text) {
            Phrase::Piece { at, piece, .. } => Some((at, piece.needle().to_vec())),
            Phrase::Regex(_) => None,
        };
        assert_eq!(piece("order 4711 of"), Some((5, b" 4711 ".to_vec())));
        assert_eq!(piece("a-17b-18"), Some((5, b"-18".to_vec())));
        assert_eq!(piece("17"), Some((0, b"17".to_vec())));
        for text in [
            "",
            "refused",
            "two words",
            "7",
            "straße 17",
            &"17 ".repeat(100),
        ] {
            assert_eq!(piece(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_phrase_is_found_where_an_expression_finds_it(
            phrase in "[aAb1_é]{1,6}", text in "[aAbB1_é]{0,40}", from in 0..50_usize,
        ) {
            let flags = if phrase.is_ascii() { "(?i-u)" } else { "(?i)" };
            let regex = regex::bytes::Regex::new(&format!("{flags}{phrase}")).unwrap();
            let from = from.min(text.len());
            let wanted = regex.find_at(text.as_bytes(), from).map(|found| found.range());
            prop_assert_eq!(Phrase::new(&phrase).find_at(text.as_bytes(), from), wanted);
        }
    }
}
