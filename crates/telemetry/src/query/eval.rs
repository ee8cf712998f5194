//! Runs a filter over columns: a mask with a bit for each row.
//!
//! What is null fits no test; so it fits every test with a `NOT` before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int32Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, RecordBatch, StringArray,
};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use atoll_base::TraceId;

use super::filter::NameTest;
use super::{Cheap, Filter, Node, Test};
use crate::columns::names_of;
use crate::schema::{self, Kind, span};

/// Columns of some rows; those that nobody asked for are not there.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    kind: Kind,
    rows: usize,
    columns: Vec<Option<ArrayRef>>,
}

impl Columns {
    /// `batch` has these columns, in this order.
    pub(crate) fn new(kind: Kind, batch: &RecordBatch, numbers: &[usize]) -> Self {
        let mut columns = Self::none(kind, batch.num_rows());
        columns.add(batch, numbers);
        columns
    }

    /// So many rows, of which nothing has been asked yet.
    pub(crate) fn none(kind: Kind, rows: usize) -> Self {
        Self {
            kind,
            rows,
            columns: vec![None; kind.schema().fields().len()],
        }
    }

    /// Adds columns of the same rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch, numbers: &[usize]) {
        for (number, column) in numbers.iter().zip(batch.columns()) {
            self.columns[*number] = Some(Arc::clone(column));
        }
    }

    /// Whether a column is there.
    pub(crate) fn has(&self, column: usize) -> bool {
        self.columns[column].is_some()
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// A column that was asked for.
    pub(crate) fn get(&self, column: usize) -> &ArrayRef {
        self.columns[column]
            .as_ref()
            .expect("it is among those that the filter or the search has named")
    }
}

impl Filter {
    /// The columns that the first stage needs, and those of the second.
    pub(crate) fn columns(&self) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let (cheap, dear) = self.stages();
        let of = |nodes: Vec<&Node>| {
            let mut columns = BTreeSet::new();
            nodes
                .iter()
                .for_each(|node| node.columns(self.kind, &mut columns));
            columns
        };
        (of(cheap), of(dear))
    }

    /// The rows that pass the conditions on small columns.
    pub(crate) fn first(&self, columns: &Columns) -> BooleanBuffer {
        every(self.stages().0, columns)
    }

    /// The rows that pass the other conditions.
    pub(crate) fn second(&self, columns: &Columns) -> BooleanBuffer {
        every(self.stages().1, columns)
    }
}

fn every<'a>(nodes: impl IntoIterator<Item = &'a Node>, columns: &Columns) -> BooleanBuffer {
    let mut mask = BooleanBuffer::new_set(columns.rows);
    for node in nodes {
        mask = &mask & &eval(node, columns);
        if mask.count_set_bits() == 0 {
            break;
        }
    }
    mask
}

fn eval(node: &Node, columns: &Columns) -> BooleanBuffer {
    match node {
        Node::All(nodes) => every(nodes, columns),
        Node::Any(nodes) => {
            let mut mask = BooleanBuffer::new_unset(columns.rows);
            for node in nodes {
                mask = &mask | &eval(node, columns);
            }
            mask
        }
        Node::Not(node) => !&eval(node, columns),
        Node::Test(Test::Cheap(test)) => cheap(test, columns),
        Node::Test(Test::Text(pattern)) => {
            let texts = columns.get(columns.kind.text());
            rows_of(texts, |texts, mask| pattern.mark(texts, mask))
        }
        Node::Test(Test::Attribute(test)) => {
            let attributes = columns.get(schema::ATTRIBUTES);
            let mask = rows_of(attributes, |texts, mask| test.mark(texts, mask));
            if columns.kind == Kind::Spans {
                return mask;
            }
            let lines = columns.get(columns.kind.text());
            &mask | &rows_of(lines, |texts, mask| test.mark(texts, mask))
        }
    }
}

/// The rows of a column of texts that `mark` marks. Of a dictionary, each text is looked at once.
fn rows_of(
    column: &ArrayRef,
    mark: impl Fn(&StringArray, &mut BooleanBufferBuilder),
) -> BooleanBuffer {
    let marked = |texts: &StringArray| {
        let mut mask = BooleanBufferBuilder::new(texts.len());
        mask.append_n(texts.len(), false);
        mark(texts, &mut mask);
        mask.finish()
    };
    match column.as_dictionary_opt::<Int32Type>() {
        Some(folded) => of_keys(folded, &marked(names_of(folded))),
        None => marked(column.as_string()),
    }
}

/// The rows whose name is one of those that fit.
fn of_keys(names: &DictionaryArray<Int32Type>, fits: &BooleanBuffer) -> BooleanBuffer {
    let keys = names.keys();
    let mask = BooleanBuffer::collect_bool(keys.len(), |row| {
        // The key of a row without a name may be any.
        usize::try_from(keys.value(row)).is_ok_and(|key| key < fits.len() && fits.value(key))
    });
    without_nulls(mask, keys)
}

fn cheap(test: &Cheap, columns: &Columns) -> BooleanBuffer {
    match test {
        Cheap::Names(column, test) => names(columns.get(*column), test),
        Cheap::Range(column, from, to) => {
            range(*column, columns.kind, columns.get(*column), *from, *to)
        }
        Cheap::Traces(traces) => {
            let wanted: Vec<u128> = traces.iter().copied().map(TraceId::get).collect();
            let ids = columns.get(schema::TRACE).as_fixed_size_binary();
            ids_in(ids, |id: [u8; 16]| {
                wanted.binary_search(&u128::from_be_bytes(id)).is_ok()
            })
        }
        Cheap::Span(column, wanted) => {
            let ids = columns.get(*column).as_fixed_size_binary();
            ids_in(ids, |id: [u8; 8]| u64::from_be_bytes(id) == *wanted)
        }
    }
}

fn ids_in<const N: usize>(
    ids: &FixedSizeBinaryArray,
    fits: impl Fn([u8; N]) -> bool,
) -> BooleanBuffer {
    let mask =
        BooleanBuffer::collect_bool(ids.len(), |row| ids.value(row).try_into().is_ok_and(&fits));
    without_nulls(mask, ids)
}

fn without_nulls(mask: BooleanBuffer, array: &dyn Array) -> BooleanBuffer {
    match array.nulls() {
        Some(nulls) => &mask & nulls.inner(),
        None => mask,
    }
}

fn names(column: &ArrayRef, test: &NameTest) -> BooleanBuffer {
    let dictionary = column.as_dictionary::<Int32Type>();
    let fits = names_of(dictionary).iter().map(|name| {
        name.is_some_and(|name| match test {
            NameTest::OneOf(names) => names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)),
            NameTest::Like(regex) => regex.is_match(name),
        })
    });
    of_keys(dictionary, &fits.collect())
}

fn range(number: usize, kind: Kind, column: &ArrayRef, from: i64, to: i64) -> BooleanBuffer {
    macro_rules! within {
        ($type:ty, $read:expr) => {{
            let values = column.as_primitive::<$type>().values();
            BooleanBuffer::collect_bool(values.len(), |row| {
                let value: i64 = $read(values[row]);
                from <= value && value <= to
            })
        }};
    }
    let mask = match (kind, number) {
        (_, schema::NUMBER) => {
            within!(UInt64Type, |value| i64::try_from(value).unwrap_or(i64::MAX))
        }
        (_, schema::REVISION) => within!(UInt32Type, i64::from),
        (Kind::Spans, span::HTTP_STATUS) => within!(UInt16Type, i64::from),
        (Kind::Spans, span::DURATION) => within!(Int64Type, |value| value),
        _ => within!(TimestampMicrosecondType, |value| value),
    };
    without_nulls(mask, column.as_ref())
}
