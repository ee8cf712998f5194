//! Rows that fit, gathered by what they have in common.
//!
//! Within a piece rows are told apart by the numbers of their names, and text is made once for each
//! group: a million calls of a hundred routes cost a hundred texts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;

use super::count::scan;
use crate::columns::names_of;
use crate::query::{Columns, Filter};
use crate::shelf::Snapshot;

/// The most groups of one question: names that somebody made up must not fill the memory. What
/// comes beyond them is left out.
const GROUPS_MAX: usize = 20_000;

/// What is gathered of a group.
pub(super) trait Gathered: Default + Send {
    /// Takes in what another piece had of the same group.
    fn add(&mut self, other: &Self);
}

/// Takes a row into its group.
pub(super) type Take<'a, T> = Box<dyn Fn(usize, &mut T) + 'a>;

/// The names in one column of a piece, by number.
enum Names<'a> {
    Numbered(&'a DictionaryArray<Int32Type>),
    Text {
        /// Of each row, if it fits.
        numbers: Vec<Option<usize>>,
        texts: Vec<&'a str>,
    },
}

impl<'a> Names<'a> {
    fn of(column: &'a ArrayRef, mask: &BooleanBuffer) -> Self {
        if *column.data_type() != DataType::Utf8 {
            return Self::Numbered(column.as_dictionary());
        }
        let column = column.as_string::<i32>();
        let (mut numbers, mut texts) = (vec![None; column.len()], Vec::new());
        let mut known = HashMap::new();
        for row in mask.set_indices().filter(|row| column.is_valid(*row)) {
            let text = column.value(row);
            let number = *known.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            });
            numbers[row] = Some(number);
        }
        Self::Text { numbers, texts }
    }

    fn number(&self, row: usize) -> Option<usize> {
        match self {
            Self::Numbered(column) => column.key(row),
            Self::Text { numbers, .. } => numbers[row],
        }
    }

    fn name(&self, number: usize) -> &str {
        match self {
            Self::Numbered(column) => names_of(column).value(number),
            Self::Text { texts, .. } => texts[number],
        }
    }
}

/// Gathers the rows that fit by the names in the columns `by`; those that lack one are left out.
/// `take` is given the columns of a piece, `more` among them.
pub(super) fn group<const N: usize, T: Gathered>(
    snapshot: &Snapshot,
    filter: &Filter,
    by: [usize; N],
    more: &[usize],
    take: impl for<'a> Fn(&'a Columns) -> Take<'a, T> + Sync,
) -> BTreeMap<[String; N], T> {
    let all = Mutex::new(BTreeMap::<[String; N], T>::new());
    let wanted: Vec<usize> = by.into_iter().chain(more.iter().copied()).collect();
    scan(snapshot, filter, &wanted, &|found| {
        let names = by.map(|column| Names::of(found.columns.get(column), &found.mask));
        let take = take(&found.columns);
        let mut by_number = HashMap::<[usize; N], T>::new();
        for row in found.mask.set_indices() {
            let mut numbers = [0; N];
            let known = numbers.iter_mut().zip(&names).all(|(number, names)| {
                let found = names.number(row);
                *number = found.unwrap_or_default();
                found.is_some()
            });
            if known {
                take(row, by_number.entry(numbers).or_default());
            }
        }
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        for (numbers, gathered) in by_number {
            let key = std::array::from_fn(|at| names[at].name(numbers[at]).to_owned());
            if all.len() < GROUPS_MAX || all.contains_key(&key) {
                all.entry(key).or_default().add(&gathered);
            }
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}
