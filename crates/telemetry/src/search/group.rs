//! Spans that fit, gathered by what they have in common.
//!
//! Within a piece rows are told apart by the numbers of their names, and text is made once for each
//! group: a million calls of a hundred routes cost a hundred texts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, DictionaryArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use atoll_base::TraceId;

use super::calls;
use super::count::scan;
use crate::columns::names_of;
use crate::query::{Columns, Filter};
use crate::sample::{Rules, Weighed, Weights};
use crate::schema;
use crate::shelf::Snapshot;

/// The most groups of one question: names that somebody made up must not fill the memory. What
/// comes beyond them is left out.
const GROUPS_MAX: usize = 20_000;

/// What is gathered of a group.
pub(super) trait Gathered: Default + Send {
    /// Takes in what another piece had of the same group.
    fn add(&mut self, other: &Self);
}

/// Takes a row into its group, with the number of spans that it stands for.
pub(super) type Take<'a, T> = Box<dyn Fn(usize, f64, &mut T) + 'a>;

/// What the weight of a span follows from.
const WEIGHED: [usize; 4] = [
    schema::TIME,
    schema::TRACE,
    schema::span::DURATION,
    schema::span::STATUS,
];

/// Spans that are kept, and what is known of those that are not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans<'a> {
    pub(crate) kept: &'a Snapshot,
    pub(crate) rules: &'a Rules,
}

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
    spans: Spans<'_>,
    filter: &Filter,
    by: [usize; N],
    more: &[usize],
    take: impl for<'a> Fn(&'a Columns) -> Take<'a, T> + Sync,
) -> BTreeMap<[String; N], T> {
    let all = Mutex::new(BTreeMap::<[String; N], T>::new());
    let weights = spans.rules.weights();
    let mut wanted: Vec<usize> = by.into_iter().chain(more.iter().copied()).collect();
    if weights.is_some() {
        wanted.extend(WEIGHED);
    }
    scan(spans.kept, filter, &wanted, &|found| {
        let names = by.map(|column| Names::of(found.columns.get(column), &found.mask));
        let take = take(&found.columns);
        let weight = weights.as_ref().map(|own| weigh(own, &found.columns));
        let mut by_number = HashMap::<[usize; N], T>::new();
        for row in found.mask.set_indices() {
            let mut numbers = [0; N];
            let known = numbers.iter_mut().zip(&names).all(|(number, names)| {
                let found = names.number(row);
                *number = found.unwrap_or_default();
                found.is_some()
            });
            if known {
                let weight = weight.as_ref().map_or(1.0, |of| of(row));
                take(row, weight, by_number.entry(numbers).or_default());
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

/// How many spans each row of a piece stands for.
fn weigh<'a>(weights: &'a Weights, columns: &'a Columns) -> impl Fn(usize) -> f64 + 'a {
    let starts = columns.get(schema::TIME);
    let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
    let durations = columns.get(schema::span::DURATION);
    let durations = durations.as_primitive::<Int64Type>().values();
    let traces = columns.get(schema::TRACE).as_fixed_size_binary();
    let statuses = columns.get(schema::span::STATUS);
    let statuses = statuses.as_dictionary::<Int32Type>();
    let failures = calls::failures(statuses);
    move |row| {
        let trace: Option<[u8; 16]> = traces.value(row).try_into().ok();
        weights.of(Weighed {
            start: starts[row],
            trace: trace.map(u128::from_be_bytes).and_then(TraceId::new),
            failed: statuses.key(row).is_some_and(|key| failures[key]),
            micros: u64::try_from(durations[row]).unwrap_or(0),
        })
    }
}
