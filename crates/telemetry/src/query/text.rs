//! Looks for text in a column of texts.
//!
//! A column is one piece of memory with all texts behind each other. Words are looked for in that as a
//! whole, not row by row: the search runs at the speed of the memory, and costs nothing for rows
//! without a hit. A hit that spans two rows is none. Expressions of a person's own are run row by row, because
//! `^` and `$` mean ends of a row.

use arrow_array::{Array, StringArray};
use arrow_buffer::BooleanBufferBuilder;

use crate::words;

/// What is looked for.
#[derive(Debug)]
pub(super) enum Pattern {
    /// These words, whatever their case.
    Words {
        regex: regex::bytes::Regex,
        /// What each text that contains them has; see [`words::needed`].
        needed: Vec<u64>,
    },
    /// Rows that match.
    Regex(regex::Regex),
}

impl Pattern {
    /// Text that is contained, whatever its case.
    pub(super) fn words(text: &str) -> Self {
        let flags = if text.is_ascii() { "(?i-u)" } else { "(?i)" };
        let pattern = format!("{flags}{}", regex::escape(text));
        let regex = regex::bytes::Regex::new(&pattern);
        Self::Words {
            regex: regex.expect("an escaped text of some thousand bytes is a pattern"),
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
            Self::Words { regex, .. } => rows_with(regex, texts, &mut |row, _| {
                found.set_bit(row, true);
                true
            }),
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

/// Calls `hit` with the row and the place in it of what matches; once for a row, if it answers `true`.
pub(super) fn rows_with(
    regex: &regex::bytes::Regex,
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
    while let Some(found) = regex.find_at(text, at) {
        // Rows end where the next begin: the first end behind the start of the hit is that of its row.
        row += offsets[row + 1..].partition_point(|end| place(end) <= found.start());
        let Some(end) = offsets.get(row + 1).map(place) else {
            return;
        };
        let whole = found.end() <= end && texts.is_valid(row);
        let enough = whole && hit(row, found.start() - place(&offsets[row]));
        at = if enough { end } else { found.start() + 1 };
        if at > text.len() {
            return;
        }
    }
}
