//! Texts as dictionaries, and dictionaries as texts: see [`crate::schema`].

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, PrimitiveArray, RecordBatch, StringArray, UInt64Array,
};
use arrow_buffer::{Buffer, NullBufferBuilder};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::interleave::interleave;
use arrow_select::take::take;

use super::names::Names;
use super::names_of;
use crate::schema::Kind;

/// A batch with plain texts as one with the columns of memory.
pub(crate) fn fold(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    for column in kind.folded() {
        if let Some(texts) = columns[*column].as_string_opt::<i32>() {
            let mut names = Names::new();
            texts.iter().for_each(|text| names.push_opt(text));
            columns[*column] = names.finish();
        }
    }
    RecordBatch::try_new(Arc::clone(kind.schema()), columns)
}

/// A batch with the columns of memory as one with plain texts, which it may already have.
pub(crate) fn unfold(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    for column in kind.folded() {
        columns[*column] = unfold_column(&columns[*column])?;
    }
    RecordBatch::try_new(Arc::clone(kind.plain_schema()), columns)
}

/// The texts of a dictionary, one for each row; what is no dictionary, as it is.
pub(crate) fn unfold_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.as_dictionary_opt::<Int32Type>() {
        Some(texts) => take(texts.values(), texts.keys(), None),
        None => Ok(Arc::clone(column)),
    }
}

/// The bytes of the texts that a batch has as dictionaries, once for each row: what [`unfold`] makes of them.
pub(crate) fn unfolded_bytes(kind: Kind, batch: &RecordBatch) -> usize {
    let columns = kind.folded().iter().map(|column| batch.column(*column));
    let dictionaries = columns.filter_map(|column| column.as_dictionary_opt::<Int32Type>());
    let bytes = dictionaries.map(|texts| {
        let all = names_of(texts);
        let lengths = texts
            .keys()
            .iter()
            .flatten()
            .filter_map(|key| usize::try_from(key).ok());
        lengths
            .map(|key| usize::try_from(all.value_length(key)).unwrap_or(0))
            .sum::<usize>()
    });
    bytes.sum()
}

/// One batch of all rows of `batches`, of which there is one at least, and which have the same columns.
pub(crate) fn concat(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let columns = columns_of(batches).map(|parts| concat_column(&parts));
    let columns = columns.collect::<Result<_, _>>()?;
    RecordBatch::try_new(batches[0].schema(), columns)
}

/// Batches whose rows are asked for in another order, a part of them at a time: of texts, which are long, no more than
/// that is in memory twice.
pub(crate) struct Gather {
    schema: SchemaRef,
    columns: Vec<Source>,
    /// Where the rows of each batch are when all stand behind each other.
    starts: Vec<usize>,
}

/// A column of all batches.
enum Source {
    /// As they are: texts are long, and are copied once.
    Texts(Vec<ArrayRef>),
    /// Behind each other.
    Whole(ArrayRef),
}

impl Gather {
    /// Of `batches`, there is one at least, and they have the same columns.
    pub(crate) fn new(batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let columns = columns_of(batches).map(|parts| {
            if parts[0].as_string_opt::<i32>().is_some() {
                Ok(Source::Texts(parts.into_iter().cloned().collect()))
            } else {
                concat_column(&parts).map(Source::Whole)
            }
        });
        let mut next = 0;
        let starts = batches.iter().map(|batch| {
            let start = next;
            next += batch.num_rows();
            start
        });
        Ok(Self {
            schema: batches[0].schema(),
            columns: columns.collect::<Result<_, _>>()?,
            starts: starts.collect(),
        })
    }

    /// Rows in this order: each by the place of its batch, and its own in there.
    pub(crate) fn rows(&self, order: &[(usize, usize)]) -> Result<RecordBatch, ArrowError> {
        let places = order.iter().map(|(batch, row)| self.starts[*batch] + row);
        let places = UInt64Array::from_iter_values(places.map(|place| place as u64));
        let columns = self.columns.iter().map(|column| match column {
            Source::Texts(parts) => interleave(&arrays(parts), order),
            Source::Whole(all) => take(all, &places, None),
        });
        let columns = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// Each column, as it is in all `batches`.
fn columns_of(batches: &[RecordBatch]) -> impl Iterator<Item = Vec<&ArrayRef>> {
    let columns = 0..batches[0].num_columns();
    columns.map(|column| batches.iter().map(|batch| batch.column(column)).collect())
}

fn concat_column(parts: &[&ArrayRef]) -> Result<ArrayRef, ArrowError> {
    match parts[0].as_dictionary_opt::<Int32Type>() {
        Some(_) => concat_names(parts),
        None => arrow_select::concat::concat(&arrays(parts.iter().copied())),
    }
}

fn arrays<'a>(parts: impl IntoIterator<Item = &'a ArrayRef>) -> Vec<&'a dyn Array> {
    parts.into_iter().map(AsRef::as_ref).collect()
}

/// Dictionaries behind each other, with the texts of all: a text may then have several keys. To look for equal ones,
/// as arrow does it, would cost more than they take: it is done once, when a file is written.
fn concat_names(parts: &[&ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let parts: Vec<&DictionaryArray<Int32Type>> =
        parts.iter().map(|part| part.as_dictionary()).collect();
    let rows = parts.iter().map(|part| part.len()).sum();
    let (mut keys, mut nulls) = (Vec::with_capacity(rows), NullBufferBuilder::new(rows));
    let mut first = 0;
    for part in &parts {
        // The key of a null may be any.
        keys.extend(
            part.keys()
                .values()
                .iter()
                .map(|key| key.wrapping_add(first)),
        );
        match part.nulls() {
            Some(own) => nulls.append_buffer(own),
            None => nulls.append_n_non_nulls(part.len()),
        }
        let next = i32::try_from(part.values().len())
            .ok()
            .and_then(|more| first.checked_add(more));
        first = next.ok_or(ArrowError::DictionaryKeyOverflowError)?;
    }
    let values = arrays(parts.iter().map(|part| part.values()));
    let values = somewhere(arrow_select::concat::concat(&values)?);
    let keys = PrimitiveArray::<Int32Type>::new(keys.into(), nulls.finish());
    Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
}

/// The same texts; if all of them are empty, at an address that there is. Whoever makes a dictionary of a file compares
/// each row's text, and to compare even nothing at an address that is none takes the C library 100 ns: the
/// processor has to find out that nothing was read there.
fn somewhere(texts: ArrayRef) -> ArrayRef {
    match texts.as_string_opt::<i32>() {
        Some(own) if own.value_data().is_empty() => {
            let (offsets, _, nulls) = own.clone().into_parts();
            Arc::new(StringArray::new(offsets, Buffer::from(b" "), nulls))
        }
        _ => texts,
    }
}

#[cfg(test)]
mod tests {
    use atoll_base::{SpanId, TraceId};

    use super::*;
    use crate::columns::{LogColumns, Texts};
    use crate::schema::ATTRIBUTES;

    fn column(texts: &[Option<&str>]) -> ArrayRef {
        let mut names = Names::new();
        texts.iter().for_each(|text| names.push_opt(*text));
        names.finish()
    }

    #[test]
    fn columns_behind_each_other_keep_their_texts_and_their_gaps() {
        let some: [&[Option<&str>]; 5] = [
            &[Some("a"), Some("b"), Some("a")],
            &[None, None],
            &[Some("b"), None, Some("")],
            &[],
            &[Some("c")],
        ];
        let empty: [&[Option<&str>]; 2] = [&[Some("")], &[None, Some("")]];
        for parts in [&some[..], &empty[..]] {
            let columns: Vec<ArrayRef> = parts.iter().map(|part| column(part)).collect();
            let all = concat_names(&columns.iter().collect::<Vec<_>>()).unwrap();
            let told: Vec<Option<&str>> =
                (0..all.len()).map(|row| Texts::of(&all).get(row)).collect();
            assert_eq!(told, parts.concat());
            let plain = unfold_column(&all).unwrap();
            let told: Vec<Option<&str>> = plain.as_string::<i32>().iter().collect();
            assert_eq!(told, parts.concat());
            assert!(!names_of(all.as_dictionary()).value_data().is_empty());
        }
    }

    #[test]
    fn rows_of_several_batches_are_gathered_in_any_order() {
        let mut columns = LogColumns::new();
        let mut batch = |from: u64, to: u64| {
            for number in from..to {
                let mut record = crate::record::tests::line("orders", &format!("line {number}"));
                record.instance = format!("orders-{}", number % 3);
                if number % 2 == 0 {
                    record.trace = TraceId::parse(format!("{:032x}", number + 1).as_bytes());
                    record.span = SpanId::parse(format!("{:016x}", number + 7).as_bytes());
                    record.attributes = format!("{{\"n\":{number}}}");
                }
                columns.push(number, &record.row());
            }
            columns.finish()
        };
        let batches = [batch(0, 4), batch(4, 5), batch(5, 9)];
        // The last first, and one twice.
        let order = [(2, 3), (0, 0), (1, 0), (0, 3), (2, 0), (0, 3)];
        let gather = |batches: &[RecordBatch]| {
            let gather = Gather::new(batches).unwrap();
            let pieces: Vec<RecordBatch> = order
                .chunks(4)
                .map(|piece| gather.rows(piece).unwrap())
                .collect();
            concat(&pieces).unwrap()
        };
        let all = gather(&batches);
        let one_by_one: Vec<RecordBatch> = order
            .iter()
            .map(|(batch, row)| batches[*batch].slice(*row, 1))
            .collect();
        let wanted = concat(&one_by_one).unwrap();
        let plain = |batch: &RecordBatch| unfold(Kind::Logs, batch).unwrap();
        assert_eq!(plain(&all), plain(&wanted));
        // As they come from files that are put together.
        let files = batches.map(|batch| plain(&batch));
        assert_eq!(gather(&files), plain(&wanted));
    }

    #[test]
    fn what_is_unfolded_and_folded_is_the_same_and_its_size_is_known() {
        let mut columns = LogColumns::new();
        for number in 0..40_000 {
            let mut record = crate::record::tests::line("orders", "x");
            record.attributes = if number % 2 == 0 {
                "y".repeat(500)
            } else {
                String::new()
            };
            columns.push(number, &record.row());
        }
        let batch = columns.finish();
        assert!(batch.get_array_memory_size() < 20_000_000);
        assert_eq!(unfolded_bytes(Kind::Logs, &batch), 20_000 * 500);
        let file = unfold(Kind::Logs, &batch).unwrap();
        assert_eq!(file.column(ATTRIBUTES).null_count(), 20_000);
        assert_eq!(unfolded_bytes(Kind::Logs, &file), 0);
        assert_eq!(unfold(Kind::Logs, &file).unwrap(), file);
        assert_eq!(fold(Kind::Logs, &file).unwrap(), batch);
    }
}
