//! A filter of words for each row group of logs: it tells which groups cannot hold what is searched.
//!
//! A word that is nowhere, or an id that is in a few lines, is found without unpacking all the others. The filters are
//! split-block Bloom filters, as Parquet has them for whole values, and stand behind the row groups; the
//! footer says where. Other readers pass over them.

use arrow_array::StringArray;
use bytes::Bytes;
use parquet::bloom_filter::Sbbf;

use crate::words;

/// The key of where the filters are, in the metadata of a file.
pub(super) const KEY: &str = "atoll.words";

/// The size of a filter before it is folded, in bytes: enough for half a million words.
const BYTES_MAX: usize = 512 << 10;

/// How often a filter says that a word may be there which is not, if there is room for that.
const MISTAKES: f64 = 0.1;

/// A filter that is wrong more often is not worth reading.
const MISTAKES_MAX: f64 = 0.5;

/// Most words were seen a moment ago; so many are remembered.
const RECENT: usize = 1024;

/// Where a filter is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: usize,
    /// CRC-32C of its bytes.
    sum: u32,
}

/// Filters on their way into a file, one after the other.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) bytes: Vec<u8>,
    /// Where they will be, from the beginning of the first; none of a group that has none.
    places: Vec<Option<Place>>,
}

impl Filters {
    /// Adds the filter of a row group with these texts.
    pub(super) fn push(&mut self, texts: &StringArray) {
        self.keep(&filter(texts));
    }

    fn keep(&mut self, filter: &Sbbf) {
        let offset = self.bytes.len();
        let useful = filter.estimated_fpp() <= MISTAKES_MAX;
        // Nothing fails that writes to a vector.
        let place = (useful && filter.write(&mut self.bytes).is_ok()).then(|| Place {
            offset: offset as u64,
            length: self.bytes.len() - offset,
            sum: crc32c::crc32c(&self.bytes[offset..]),
        });
        self.places.push(place);
    }

    /// What the footer says of them, if the first begins at `offset`.
    pub(super) fn places(&self, offset: u64) -> String {
        let places = self.places.iter().map(|place| match place {
            Some(own) => format!("{}+{}:{:08x}", offset + own.offset, own.length, own.sum),
            None => "-".to_owned(),
        });
        places.collect::<Vec<_>>().join(",")
    }
}

/// Reads what the footer of a file of so many bytes says of `groups` filters. Of a file without them, or with nonsense,
/// there are none.
pub(super) fn places(told: &str, groups: usize, bytes: u64) -> Vec<Option<Place>> {
    let within = |own: &Place| own.offset.saturating_add(own.length as u64) <= bytes;
    let mut places: Vec<Option<Place>> = told
        .split(',')
        .map(|told| place(told).filter(within))
        .collect();
    places.resize(groups, None);
    places
}

fn place(told: &str) -> Option<Place> {
    let (offset, rest) = told.split_once('+')?;
    let (length, sum) = rest.split_once(':')?;
    let length = length
        .parse()
        .ok()
        .filter(|length| *length <= 2 * BYTES_MAX)?;
    Some(Place {
        offset: offset.parse().ok()?,
        length,
        sum: u32::from_str_radix(sum, 16).ok()?,
    })
}

/// Whether texts may hold all of `needed`, by the bytes of their filter; always, if these were damaged.
pub(super) fn may_hold(place: Place, filter: &Bytes, needed: &[u64]) -> bool {
    if crc32c::crc32c(filter) != place.sum {
        return true;
    }
    let Ok(filter) = Sbbf::from_bytes(filter) else {
        return true;
    };
    needed.iter().all(|word| filter.check(&word.cast_signed()))
}

fn filter(texts: &StringArray) -> Sbbf {
    let mut filter = Sbbf::new_with_num_of_bytes(BYTES_MAX);
    let mut recent = vec![0; RECENT];
    for text in texts.iter().flatten() {
        words::held(text.as_bytes(), &mut |word| {
            let last = &mut recent[usize::try_from(word).unwrap_or(0) % RECENT];
            // 0 is there from the beginning.
            let seen = *last == word && word != 0;
            if !seen {
                *last = word;
                filter.insert(&word.cast_signed());
            }
            seen
        });
    }
    filter.fold_to_target_fpp(MISTAKES);
    filter
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(from: u32, to: u32) -> StringArray {
        (from..to)
            .map(|n| Some(format!("order {n} of ada was placed")))
            .collect()
    }

    fn found(filters: &Filters, group: usize, searched: &str) -> bool {
        let place = places(&filters.places(0), 2, 1 << 30)[group].unwrap();
        let from = usize::try_from(place.offset).unwrap();
        let bytes = filters.bytes[from..from + place.length].to_vec();
        may_hold(place, &bytes.into(), &words::needed(searched))
    }

    #[test]
    fn groups_are_told_apart_by_their_words() {
        let mut filters = Filters::default();
        filters.push(&lines(0, 5000));
        filters.push(&lines(5000, 10_000));
        let of = |group, from: u32| {
            let hits =
                (from..from + 5000).filter(|n| found(&filters, group, &format!("order {n} of")));
            hits.count()
        };
        assert_eq!((of(0, 0), of(1, 5000)), (5000, 5000));
        assert!(
            of(0, 5000) < 1000 && of(1, 0) < 1000,
            "{} {}",
            of(0, 5000),
            of(1, 0)
        );
        assert!(!found(&filters, 0, "nobody said this"));
    }

    #[test]
    fn a_damaged_filter_says_nothing() {
        let mut filters = Filters::default();
        filters.push(&lines(0, 10));
        filters.bytes[20] ^= 1;
        assert!(found(&filters, 0, "nobody said this"));
    }

    #[test]
    fn a_filter_that_is_full_is_left_out() {
        let mut full = Sbbf::new_with_num_of_bytes(32);
        (0..1000_i64).for_each(|word| full.insert(&word));
        let mut filters = Filters::default();
        filters.keep(&full);
        assert_eq!(places(&filters.places(4), 1, 1 << 30), [None]);
        assert!(filters.bytes.is_empty());
    }

    #[test]
    fn what_a_footer_tells_is_read_back() {
        let mut filters = Filters::default();
        filters.push(&lines(0, 10));
        let told = filters.places(4);
        assert_eq!(places(&told, 2, 1 << 30)[0].unwrap().offset, 4);
        for nonsense in [
            "",
            "-",
            "4",
            "4+5",
            "4+99999999999:00000000",
            "1073741824+64:00000000",
            "x+5:0",
            "4+5:zz",
        ] {
            assert_eq!(places(nonsense, 1, 1 << 30), [None], "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn what_one_of_many_texts_holds_is_never_missed(
            texts in prop::collection::vec("[abAB]{4,12} [ab1]{0,16}", 1..20),
            which: prop::sample::Index, from in 0..29_usize, length in 0..29_usize,
        ) {
            let part: String = which.get(&texts).chars().skip(from).take(length).collect();
            let filter = filter(&texts.iter().map(Some).collect());
            for word in words::needed(&part) {
                prop_assert!(filter.check(&word.cast_signed()), "{texts:?} {part:?}");
            }
        }
    }
}
