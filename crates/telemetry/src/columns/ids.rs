//! Ids, which are fixed bytes in memory and bytes of any length in files.
//!
//! What writes fixed bytes to a file makes an object of each; other bytes it takes from where they lie. Their lengths, all
//! the same, take a few bytes of a hundred ids there.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::schema::Kind;

/// A batch with plain texts as it is written to a file.
pub(crate) fn loosen_ids(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    for column in kind.ids() {
        columns[*column] = loose(columns[*column].as_fixed_size_binary());
    }
    RecordBatch::try_new(Arc::clone(kind.file_schema()), columns)
}

/// What is read of a file, with columns as `schema` has them: ids fixed. An error if one has not its length.
pub(crate) fn fix_ids(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns =
        columns.map(
            |(column, field)| match (column.as_binary_opt(), field.data_type()) {
                (Some(ids), DataType::FixedSizeBinary(width)) => {
                    fixed(ids, *width).ok_or_else(|| {
                        let told =
                            format!("{} has an id that is too long or too short", field.name());
                        ArrowError::InvalidArgumentError(told)
                    })
                }
                _ => Ok(Arc::clone(column)),
            },
        );
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// The same bytes; also of a null, which has as many, which nobody looks at.
fn loose(ids: &FixedSizeBinaryArray) -> ArrayRef {
    let width = usize::try_from(ids.value_length()).unwrap_or(0);
    let offsets = OffsetBuffer::from_repeated_length(width, ids.len());
    let bytes = ids.values().clone();
    Arc::new(BinaryArray::new(offsets, bytes, ids.nulls().cloned()))
}

/// Ids of this width; none if one has another. Of a null there are no bytes in a file.
fn fixed(ids: &BinaryArray, width: i32) -> Option<ArrayRef> {
    let length = usize::try_from(width).ok()?;
    let bytes = match ids.nulls() {
        None => {
            let offsets = ids.value_offsets();
            let lengths = offsets.windows(2).map(|ends| ends[1] - ends[0]);
            let first = usize::try_from(offsets[0]).ok()?;
            let all = lengths.fold(true, |all, own| all & (own == width));
            all.then(|| ids.values().slice_with_length(first, length * ids.len()))?
        }
        Some(_) => {
            let mut bytes = vec![0; length * ids.len()];
            for (id, place) in ids.iter().zip(bytes.chunks_exact_mut(length)) {
                if let Some(id) = id {
                    (id.len() == length).then(|| place.copy_from_slice(id))?;
                }
            }
            Buffer::from(bytes)
        }
    };
    let ids = FixedSizeBinaryArray::try_new(width, bytes, ids.nulls().cloned());
    Some(Arc::new(ids.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(all: &[Option<&[u8]>]) -> ArrayRef {
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(all.iter().copied(), 2);
        Arc::new(ids.unwrap())
    }

    #[test]
    fn ids_are_the_same_there_and_back_also_of_a_part() {
        let gaps: &[Option<&[u8]>] = &[Some(b"ab"), None, Some(b"cd"), Some(b"ef")];
        let none: &[Option<&[u8]>] = &[None, None, None, None];
        let all: &[Option<&[u8]>] = &[Some(b"ab"), Some(b"cd"), Some(b"ef"), Some(b"gh")];
        for rows in [gaps, none, all] {
            let whole = ids(rows);
            for (from, length) in [(0, 4), (1, 3), (2, 1), (3, 0)] {
                let part = whole.slice(from, length);
                let loose = loose(part.as_fixed_size_binary());
                let told: Vec<Option<&[u8]>> = loose.as_binary::<i32>().iter().collect();
                assert_eq!(told, rows[from..from + length]);
                assert_eq!(&fixed(loose.as_binary(), 2).unwrap(), &part);
                let rest = loose.slice(length / 2, length - length / 2);
                let wanted = part.slice(length / 2, length - length / 2);
                assert_eq!(&fixed(rest.as_binary(), 2).unwrap(), &wanted);
            }
        }
    }

    #[test]
    fn an_id_of_another_length_is_told() {
        // Together as long as they should be.
        let odd: [Option<&[u8]>; 2] = [Some(b"a"), Some(b"bcd")];
        let gap: [Option<&[u8]>; 3] = [Some(b"a"), Some(b"bcd"), None];
        for ids in [&odd[..], &gap] {
            assert!(fixed(&ids.iter().copied().collect(), 2).is_none());
        }
        // A null may have bytes that nobody looks at.
        let hidden = BinaryArray::new(
            OffsetBuffer::from_lengths([2, 3, 2]),
            Buffer::from(b"abxyzcd"),
            Some(vec![true, false, true].into()),
        );
        let wanted = ids(&[Some(b"ab"), None, Some(b"cd")]);
        assert_eq!(&fixed(&hidden, 2).unwrap(), &wanted);
    }
}
