//! Gathers a column of texts of which many are alike: each is kept once.
//!
//! Neighbours are mostly alike, so the last text is compared before a table is asked. Where nearly no text comes
//! again, the table is asked no more: it would cost more than it saves.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use hashbrown::{DefaultHashBuilder, HashTable};

/// After so many different texts it is asked whether any came again.
const TRIAL: usize = 512;

#[derive(Debug)]
pub(super) struct Names {
    keys: Vec<i32>,
    nulls: NullBufferBuilder,
    /// The different texts, one behind the other.
    texts: String,
    /// Where each begins, and where the last ends.
    offsets: Vec<i32>,
    /// Their numbers, by what they are.
    known: HashTable<i32>,
    hasher: DefaultHashBuilder,
    last: i32,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            keys: Vec::new(),
            nulls: NullBufferBuilder::new(0),
            texts: String::new(),
            offsets: vec![0],
            known: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            last: 0,
        }
    }

    pub(super) fn push(&mut self, name: &str) {
        if self.count() == 0 || !equal(text(&self.texts, &self.offsets, self.last), name) {
            self.last = self.number(name);
        }
        self.keys.push(self.last);
        self.nulls.append_non_null();
    }

    pub(super) fn push_opt(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.push(name),
            None => {
                self.keys.push(0);
                self.nulls.append_null();
            }
        }
    }

    /// How many different texts there are.
    fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    fn number(&mut self, name: &str) -> i32 {
        let count = self.count();
        if count >= TRIAL && count > self.keys.len() / 4 * 3 {
            return self.add(name);
        }
        let hash = self.hasher.hash_one(name);
        let (texts, offsets) = (&self.texts, &self.offsets);
        let found = self
            .known
            .find(hash, |key| equal(text(texts, offsets, *key), name));
        if let Some(key) = found {
            return *key;
        }
        let key = self.add(name);
        let (texts, offsets, hasher) = (&self.texts, &self.offsets, &self.hasher);
        let again = |key: &i32| hasher.hash_one(text(texts, offsets, *key));
        self.known.insert_unique(hash, key, again);
        key
    }

    fn add(&mut self, name: &str) -> i32 {
        let key = i32::try_from(self.count()).expect("a batch has some thousand rows");
        self.texts.push_str(name);
        let end = i32::try_from(self.texts.len());
        self.offsets
            .push(end.expect("a batch has some thousand rows of 64 KiB"));
        key
    }

    /// The column; begins anew.
    pub(super) fn finish(&mut self) -> ArrayRef {
        if self.count() == 0 {
            // The keys of nulls point here.
            self.add("");
        }
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let texts = std::mem::take(&mut self.texts).into_bytes();
        let texts = StringArray::new(OffsetBuffer::new(offsets.into()), texts.into(), None);
        let keys = std::mem::take(&mut self.keys).into();
        let keys = PrimitiveArray::<Int32Type>::new(keys, self.nulls.finish());
        self.known.clear();
        self.last = 0;
        let names = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(texts));
        Arc::new(names.expect("every key is the place of a text"))
    }
}

/// The text of this number.
fn text<'a>(texts: &'a str, offsets: &[i32], key: i32) -> &'a str {
    let place = |key: usize| usize::try_from(offsets[key]).unwrap_or(0);
    let key = usize::try_from(key).unwrap_or(0);
    &texts[place(key)..place(key + 1)]
}

/// Whether two texts are the same. Most are short, and are compared in registers: the C library looks at 32 bytes of
/// them through a mask, which took 40 ns each in a profile.
fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    one.len() == other.len()
        && match one.len() {
            0..4 => one.iter().eq(other),
            4..8 => ends::<4>(one) == ends(other),
            8..16 => ends::<8>(one) == ends(other),
            16..=32 => ends::<16>(one) == ends(other),
            _ => one == other,
        }
}

/// The first and the last bytes, which may be the same in part.
fn ends<const N: usize>(text: &[u8]) -> Option<([u8; N], [u8; N])> {
    Some((*text.first_chunk()?, *text.last_chunk()?))
}

#[cfg(test)]
mod tests {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray;

    use super::*;
    use crate::columns::Texts;

    fn column(names: &mut Names, all: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
        all.into_iter()
            .for_each(|name| names.push_opt(name.as_deref()));
        names.finish()
    }

    fn kept(column: &ArrayRef) -> usize {
        column.as_dictionary::<Int32Type>().values().len()
    }

    #[test]
    fn equal_texts_are_kept_once() {
        let mut names = Names::new();
        let some = |name: &str| Some(name.to_owned());
        let given = [some("a"), None, some("b"), some("a"), some(""), some("b")];
        let told = column(&mut names, given.clone());
        assert_eq!(kept(&told), 3);
        for (row, name) in given.iter().enumerate() {
            assert_eq!(Texts::of(&told).get(row), name.as_deref());
        }
        let next = column(&mut names, [None, some("c")]);
        assert_eq!((kept(&next), Texts::of(&next).get(1)), (1, Some("c")));
        assert_eq!(column(&mut names, [None]).null_count(), 1);
    }

    #[test]
    fn texts_of_any_length_are_told_apart_by_any_byte() {
        for length in 0..70 {
            let one = "a".repeat(length);
            assert!(equal(&one, &one.clone()), "{length}");
            assert!(!equal(&one, &"a".repeat(length + 1)), "{length}");
            for at in 0..length {
                let mut other = one.clone();
                other.replace_range(at..=at, "b");
                assert!(!equal(&one, &other), "{length}: {at}");
            }
        }
    }

    #[test]
    fn what_never_comes_again_is_not_looked_for() {
        let mut names = Names::new();
        let all: Vec<_> = (0..5000).map(|n| Some(format!("n{}", n % 4000))).collect();
        let told = column(&mut names, all.clone());
        // The trial was over when the first came again.
        assert_eq!(kept(&told), 5000);
        for (row, name) in all.iter().enumerate() {
            assert_eq!(Texts::of(&told).get(row), name.as_deref());
        }
        // The next batch has a trial of its own.
        let few = column(&mut names, (0..5000).map(|n| Some(format!("n{}", n % 40))));
        assert_eq!(kept(&few), 40);
    }
}
