//! Looks for text in a column of texts.
//!
//! A column is one piece of memory with all texts behind each other. Words are looked for in that as a
//! whole, not row by row: the search runs at the speed of the memory, and costs nearly nothing for
//! rows without a hit. A hit that spans two rows is none. Expressions of a person's own are run row by row, because
//! `^` and `$` mean ends of a row.

use std::ops::Range;

use arrow_array::{Array, StringArray};
use arrow_buffer::BooleanBufferBuilder;
use memchr::memmem::Finder;

use crate::words;

/// A piece shorter than this is in any text.
const PIECE_BYTES_MIN: usize = 2;

/// In a longer phrase no piece is looked for: what is around it would be compared for long.
const PHRASE_BYTES_MAX: usize = 256;

/// So often a piece may be where the phrase is not.
const MISSES_MAX: usize = 16;

/// And once more for so many bytes that were looked at: beyond it, the expression is as fast.
const BYTES_OF_A_MISS: usize = 32;

/// What is looked for.
#[derive(Debug)]
pub(super) enum Pattern {
    /// These words, whatever their case.
    Words {
        phrase: Box<Phrase>,
        /// What each text that contains them has; see [`words::needed`].
        needed: Vec<u64>,
    },
    /// Rows that match.
    Regex(regex::Regex),
}

/// Text, and how it is found whatever the case of its letters.
#[derive(Debug)]
pub(super) struct Phrase {
    regex: regex::bytes::Regex,
    /// A piece of it without letters, which has no case: a number, what stands between two words. That is looked for as
    /// it is, which takes less time as long as it is rare.
    piece: Option<Piece>,
}

#[derive(Debug)]
struct Piece {
    /// The whole phrase.
    phrase: Vec<u8>,
    /// Where the piece begins in it.
    at: usize,
    finder: Finder<'static>,
}

impl Phrase {
    fn new(text: &str) -> Self {
        let flags = if text.is_ascii() { "(?i-u)" } else { "(?i)" };
        let regex = regex::bytes::Regex::new(&format!("{flags}{}", regex::escape(text)));
        Self {
            regex: regex.expect("an escaped text of some thousand bytes is a pattern"),
            piece: Piece::of(text),
        }
    }

    /// Where it is in `text` first, at `from` or behind it.
    fn find_at(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let mut begin = from;
        if let Some(piece) = &self.piece {
            for misses in 0.. {
                if misses > MISSES_MAX + (begin - from) / BYTES_OF_A_MISS {
                    break;
                }
                begin += piece.finder.find(text.get(begin + piece.at..)?)?;
                let whole = begin..begin + piece.phrase.len();
                if text.get(whole.clone())?.eq_ignore_ascii_case(&piece.phrase) {
                    return Some(whole);
                }
                begin += 1;
            }
        }
        self.regex.find_at(text, begin).map(|found| found.range())
    }
}

impl Piece {
    /// The longest of this text, if there is one that is worth it.
    fn of(text: &str) -> Option<Self> {
        // Outside ASCII there are other rules of case.
        if !text.is_ascii() || text.len() > PHRASE_BYTES_MAX {
            return None;
        }
        let phrase = text.as_bytes();
        let lengths = phrase.split(u8::is_ascii_alphabetic).map(<[u8]>::len);
        let pieces = lengths.scan(0, |at, length| {
            let begin = *at;
            *at += length + 1;
            Some(begin..begin + length)
        });
        // Of several of one length the last: names come before values.
        let longest = pieces.max_by_key(Range::len)?;
        (longest.len() >= PIECE_BYTES_MIN).then(|| Self {
            at: longest.start,
            finder: Finder::new(&phrase[longest]).into_owned(),
            phrase: phrase.to_vec(),
        })
    }
}

impl Pattern {
    /// Text that is contained, whatever its case.
    pub(super) fn words(text: &str) -> Self {
        Self::Words {
            phrase: Box::new(Phrase::new(text)),
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
        let piece = |text: &str| {
            let piece = Piece::of(text)?;
            Some((piece.at, piece.finder.needle().to_vec()))
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

    #[test]
    fn a_piece_that_is_everywhere_hides_nothing() {
        let text = format!("{}b-11", "a-11 ".repeat(100));
        let found = Phrase::new("B-11").find_at(text.as_bytes(), 0);
        assert_eq!(found, Some(500..504));
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

        #[test]
        fn rows_are_marked_as_an_expression_marks_each(
            phrase in "[aA1-]{1,4}", rows in prop::collection::vec("[aA1-]{0,6}", 0..40), skipped in 0..4_usize,
        ) {
            let regex = regex::Regex::new(&format!("(?i){}", regex::escape(&phrase))).unwrap();
            let texts: StringArray = rows.iter().map(Some).collect();
            let skipped = skipped.min(rows.len());
            let texts = texts.slice(skipped, rows.len() - skipped);
            let mut found = BooleanBufferBuilder::new(0);
            found.append_n(texts.len(), false);
            Pattern::words(&phrase).mark(&texts, &mut found);
            for (row, text) in rows[skipped..].iter().enumerate() {
                prop_assert_eq!(found.get_bit(row), regex.is_match(text), "{} in {}", phrase, text);
            }
        }
    }
}
