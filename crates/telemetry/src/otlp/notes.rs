//! What was refused or cut while a request was decoded, counted by its reason.
//!
//! OTLP answers such a request with success and a `partial_success`: how many items were not taken,
//! and one text for a person. The text is made here, so that it is the same on all transports.

use std::fmt;

/// Why something was refused or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A trace or span id that is all zero or has a wrong length. Refused.
    BadId,
    /// A time more than a day ahead. Refused.
    Future,
    /// More labels, or longer ones, than a series may have. Refused.
    Labels,
    /// A number, name, histogram or temporality that means nothing. Refused.
    Unsound,
    /// More items, or more text, than one request may have. Refused.
    TooMany,
    /// The store had no room for it. Refused.
    Refused,
    /// A text that was longer than it may be. Cut.
    LongText,
    /// A text with bytes that are not UTF-8. They were replaced.
    BadText,
    /// Attributes, events or links beyond their bounds. Cut.
    Attributes,
    /// Values within values, too deep. Cut.
    Depth,
}

const ALL: [(Note, &str); 10] = [
    (Note::BadId, "with an id that is not valid"),
    (Note::Future, "with a time more than a day ahead"),
    (Note::Labels, "with too many or too long labels"),
    (Note::Unsound, "that mean nothing"),
    (Note::TooMany, "beyond what one request may hold"),
    (Note::Refused, "for which there was no room"),
    (Note::LongText, "texts cut to their longest"),
    (Note::BadText, "texts mended that were not UTF-8"),
    (Note::Attributes, "attributes, events or links left out"),
    (Note::Depth, "values left out that lay too deep"),
];

/// Counts by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    counts: [u64; ALL.len()],
}

impl Notes {
    /// `count` more for this reason.
    pub fn add(&mut self, note: Note, count: u64) {
        let at = &mut self.counts[note as usize];
        *at = at.saturating_add(count);
    }

    /// How many for this reason.
    pub fn count(&self, note: Note) -> u64 {
        self.counts[note as usize]
    }

    /// How many items were not taken at all.
    pub fn refused(&self) -> u64 {
        let kinds = ALL.iter().zip(self.counts);
        let refused = kinds.filter(|((note, _), _)| note.refuses());
        refused.fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Whether everything was taken as it came.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

impl Note {
    const fn refuses(self) -> bool {
        !matches!(
            self,
            Self::LongText | Self::BadText | Self::Attributes | Self::Depth
        )
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = ALL.iter().zip(self.counts).filter(|(_, count)| *count > 0);
        for (at, ((note, text), count)) in told.enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            let items = if note.refuses() { " items" } else { "" };
            write!(f, "{gap}{count}{items} {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_reasons() {
        for (at, (note, _)) in ALL.iter().enumerate() {
            assert_eq!(*note as usize, at);
        }
    }

    #[test]
    fn only_refusals_count_as_refused_and_all_is_told() {
        let mut notes = Notes::default();
        assert!(notes.is_empty());
        notes.add(Note::BadId, 2);
        notes.add(Note::LongText, 3);
        assert_eq!(notes.refused(), 2);
        let told = "2 items with an id that is not valid; 3 texts cut to their longest";
        assert_eq!(notes.to_string(), told);
    }
}
