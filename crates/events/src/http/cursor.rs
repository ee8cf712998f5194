//! How far a reader has come in a topic: `0:12,1:40` is the next offset in each partition.
//!
//! Readers keep it as it is. That a person can read it is on purpose; that it names every partition
//! makes it work without anything kept here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// More partitions than any topic has; a longer cursor is none.
const PARTITIONS_MAX: usize = 10_000;

/// The next offset of each partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cursor(pub(super) BTreeMap<i32, i64>);

/// Why a text is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one that this API gave; leave it out to begin anew")]
pub(super) struct BadCursor;

impl Cursor {
    pub(super) fn set(&mut self, partition: i32, offset: i64) {
        self.0.insert(partition, offset);
    }

    /// The partitions in the order in which they get their turn. It changes as reading goes on, so
    /// that none is left behind when an answer has no place for all.
    pub(super) fn turns(&self) -> Vec<i32> {
        let mut partitions: Vec<i32> = self.0.keys().copied().collect();
        let read: i128 = self.0.values().map(|offset| i128::from(*offset)).sum();
        let count = i128::try_from(partitions.len()).unwrap_or(1).max(1);
        let first = usize::try_from(read.rem_euclid(count)).unwrap_or(0);
        partitions.rotate_left(first);
        partitions
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut offsets = BTreeMap::new();
        for part in text.split(',') {
            let (partition, offset) = part.split_once(':').ok_or(BadCursor)?;
            let partition: i32 = number(partition)?;
            let offset: i64 = number(offset)?;
            let before = offsets.insert(partition, offset);
            if before.is_some() || offsets.len() > PARTITIONS_MAX {
                return Err(BadCursor);
            }
        }
        Ok(Self(offsets))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (partition, offset)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{partition}:{offset}")?;
        }
        Ok(())
    }
}

/// Digits only: `+1` would be another text for the same place.
fn number<T: FromStr>(text: &str) -> Result<T, BadCursor> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or(BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let cursor: Cursor = "0:12,1:9223372036854775807".parse().unwrap();
        assert_eq!(cursor.to_string(), "0:12,1:9223372036854775807");
        let long = (0..=PARTITIONS_MAX).map(|own| format!("{own}:0"));
        let long = long.collect::<Vec<_>>().join(",");
        for bad in [
            "",
            "0",
            "0:",
            ":0",
            "0:-1",
            "-1:0",
            "0:1,",
            "0:1,0:2",
            "0:+1",
            "0: 1",
            "x:1",
            "2147483648:0",
            "0:9223372036854775808",
            &long,
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad}");
        }
    }

    #[test]
    fn every_partition_gets_its_turn() {
        for (count, each) in [(2, 1), (6, 3), (4, 4)] {
            let mut cursor = Cursor::default();
            (0..count).for_each(|partition| cursor.set(partition, 0));
            for _ in 0..count {
                for partition in cursor.turns().into_iter().take(each) {
                    *cursor.0.get_mut(&partition).unwrap() += 1;
                }
            }
            let least = cursor.0.values().min().unwrap();
            assert!(*least > 0, "{count} partitions, {each} at once: {cursor}");
        }
    }
}
