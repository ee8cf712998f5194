//! What the name of a Parquet file says: `1795400000000000-1795400599999999-7-7.parquet` holds rows of
//! that time, of generations 7 to 7.
//!
//! A file that was made of several covers the generations of all of them. So a start knows without any
//! list what a crash has left behind: a file whose generations another one has too is a part of that, and
//! a write-ahead log up to the last generation on disk is in a file already.

use std::path::{Path, PathBuf};

use atoll_base::Timestamp;

/// The name of a file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    /// The time of the oldest row, in microseconds since 1970; 0 at least.
    pub(crate) min: i64,
    /// The time of the newest row.
    pub(crate) max: i64,
    /// The first generation in it.
    pub(crate) first: u64,
    /// The last generation in it.
    pub(crate) last: u64,
}

impl Name {
    /// Reads a file's name; none if it is another kind of file.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.split('-');
        let name = Self {
            min: parts.next()?.parse().ok()?,
            max: parts.next()?.parse().ok()?,
            first: parts.next()?.parse().ok()?,
            last: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && name.first <= name.last).then_some(name)
    }

    /// Whether all that is in `self` is in `other` too.
    pub(crate) fn is_part_of(&self, other: &Self) -> bool {
        let same = (self.first, self.last) == (other.first, other.last);
        !same && other.first <= self.first && self.last <= other.last
    }

    /// The folder of its day, in UTC.
    pub(crate) fn folder(&self, dir: &Path) -> PathBuf {
        let text = Timestamp::from_micros(self.min).to_string();
        dir.join(text.split('T').next().unwrap_or("1970-01-01"))
    }

    /// Where it is below the folder of its kind.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        self.folder(dir).join(format!(
            "{:016}-{:016}-{}-{}.parquet",
            self.min, self.max, self.first, self.last
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let name = Name {
            min: 1_795_400_000_000_000,
            max: 1_795_400_599_999_999,
            first: 7,
            last: 9,
        };
        let path = name.path(Path::new("/t/logs"));
        assert_eq!(path.parent().unwrap(), Path::new("/t/logs/2026-11-23"));
        let text = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(Name::parse(text), Some(name));
        for other in [
            "",
            "1-2-3.parquet",
            "1-2-4-3.parquet",
            "1-2-3-4.parquet.tmp",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_part_is_known_by_its_generations() {
        let of = |first, last| Name {
            min: 0,
            max: 0,
            first,
            last,
        };
        assert!(of(2, 2).is_part_of(&of(1, 3)));
        assert!(!of(1, 3).is_part_of(&of(1, 3)));
        assert!(!of(3, 4).is_part_of(&of(1, 3)));
    }
}
