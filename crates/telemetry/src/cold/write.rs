//! Makes a Parquet file of batches.
//!
//! Rows are sorted by service, then time: what one service printed stands together, compresses better,
//! and row groups of other services are left out by their statistics. The file gets its name when it is
//! on disk, whole. Behind the row groups of logs stand filters of their words.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::ArrowError;
use atoll_store::log::Disk;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::io::Sink;
use super::words::{self, Filters};
use super::{ColdFile, Name};
use crate::Error;
use crate::columns::{gather, names_of, unfold, unfolded_bytes};
use crate::schema::{self, BYTES_KEY, FORMAT, FORMAT_KEY, Kind, SERVICES_KEY};

/// Rows in a row group: what is decoded at once, and what statistics are about.
const GROUP_ROWS_MAX: usize = 128 << 10;

/// Rows in a page: what is decoded at least, to see one row. Of spans some are looked at, of lines mostly all.
pub(crate) const fn page_rows(kind: Kind) -> usize {
    match kind {
        Kind::Logs => 8 << 10,
        Kind::Spans => 2 << 10,
    }
}

/// What a dictionary of a column takes at most; it is decoded whenever a row is. Beyond it, values are written plain.
const DICTIONARY_BYTES_MAX: usize = 64 << 10;

/// How often the filter of traces says that a row group may have a trace which is not in it: seldom, because a
/// search asks all groups, and to look into one costs as much as to read the filters of a hundred.
const TRACE_MISTAKES: f64 = 0.001;

/// Writes the rows of `batches` to a file below `dir`, for generations `first` to `last`.
pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    kind: Kind,
    (first, last): (u64, u64),
    batches: Vec<RecordBatch>,
) -> Result<ColdFile, Error> {
    let rows = sorted(&batches).map_err(|error| Error::damaged(dir, error))?;
    drop(batches);
    let (min, max) = time_range(&rows);
    let name = Name {
        min: min.max(0),
        max: max.max(0),
        first,
        last,
    };
    let (folder, path) = (name.folder(dir), name.path(dir));
    let temporary = path.with_extension("parquet.tmp");
    let failed = |error| Error::unusable(&path, error);
    disk.create_dir(&folder).map_err(failed)?;
    let written = content(disk.as_ref(), kind, &temporary, &rows);
    let named = written.and_then(|()| {
        disk.rename(&temporary, &path)?;
        disk.sync_dir(&folder)?;
        disk.sync_dir(dir)
    });
    if let Err(error) = named {
        // What is there of it takes room that others need; whether it goes changes nothing else.
        let _ = disk.remove(&temporary);
        return Err(failed(error));
    }
    ColdFile::open(disk, kind, name, path)
}

fn content(disk: &dyn Disk, kind: Kind, path: &Path, rows: &RecordBatch) -> std::io::Result<()> {
    let file = disk.open(path, true)?;
    file.set_len(0)?;
    let sink = Sink::new(Arc::clone(&file));
    let mut writer = ArrowWriter::try_new(
        sink,
        Arc::clone(kind.file_schema()),
        Some(properties(kind, rows)),
    )?;
    // A row group after the other: unfolded, rows may be many times as large.
    for from in (0..rows.num_rows()).step_by(GROUP_ROWS_MAX) {
        let group = rows.slice(from, GROUP_ROWS_MAX.min(rows.num_rows() - from));
        writer.write(&unfold(kind, &group).map_err(std::io::Error::other)?)?;
    }
    if kind == Kind::Logs {
        write_filters(&mut writer, rows)?;
    }
    let mut sink = writer.into_inner()?;
    std::io::Write::flush(&mut sink)?;
    file.set_len(sink.length())?;
    file.sync()
}

fn write_filters(writer: &mut ArrowWriter<Sink>, batch: &RecordBatch) -> std::io::Result<()> {
    let texts = batch.column(schema::log::MESSAGE).as_string();
    let mut filters = Filters::default();
    for from in (0..texts.len()).step_by(GROUP_ROWS_MAX) {
        filters.push(&texts.slice(from, GROUP_ROWS_MAX.min(texts.len() - from)));
    }
    // What has been written so far are the groups; nothing may come between two of them that readers do not skip.
    writer.flush()?;
    let offset = writer.bytes_written() as u64;
    writer.write_all(&filters.bytes)?;
    let places = filters.places(offset);
    writer.append_key_value_metadata(KeyValue::new(words::KEY.to_owned(), places));
    Ok(())
}

fn time_range(batch: &RecordBatch) -> (i64, i64) {
    let times = batch.column(schema::TIME);
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let ends = times.iter().min().zip(times.iter().max());
    ends.map_or((0, 0), |(min, max)| (*min, *max))
}

/// All rows, by service, time and number.
fn sorted(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let services = |batch: &RecordBatch| {
        let services = batch.column(schema::SERVICE).as_dictionary::<Int32Type>();
        (services.keys().clone(), names_of(services).clone())
    };
    let services: Vec<_> = batches.iter().map(services).collect();
    let all = services
        .iter()
        .flat_map(|(_, names)| names.iter().flatten());
    let mut known: Vec<&str> = all.collect();
    known.sort_unstable();
    known.dedup();
    let count = batches.iter().map(RecordBatch::num_rows).sum();
    let mut order: Vec<(usize, i64, u64, (u32, u32))> = Vec::with_capacity(count);
    for (place, (batch, (keys, names))) in (0..).zip(batches.iter().zip(&services)) {
        let rank = |name: Option<&str>| known.binary_search(&name.unwrap_or_default());
        let ranks: Vec<usize> = names.iter().map(|name| rank(name).unwrap_or(0)).collect();
        let times = batch.column(schema::TIME);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let numbers = batch.column(schema::NUMBER);
        let numbers = numbers.as_primitive::<UInt64Type>().values();
        let rows = (0..).zip(keys.values().iter().zip(times).zip(numbers));
        order.extend(rows.map(|(row, ((key, time), number))| {
            let rank = usize::try_from(*key).ok().and_then(|key| ranks.get(key));
            (rank.copied().unwrap_or(0), *time, *number, (place, row))
        }));
    }
    // Not `sort_unstable`: this one makes use of runs that are in order, such as the rows of a file.
    order.sort();
    let place = |at: u32| usize::try_from(at).expect("as wide at least");
    let order: Vec<(usize, usize)> = order
        .into_iter()
        .map(|(.., (batch, row))| (place(batch), place(row)))
        .collect();
    gather(batches, &order)
}

fn properties(kind: Kind, batch: &RecordBatch) -> WriterProperties {
    let services = batch.column(schema::SERVICE).as_dictionary::<Int32Type>();
    let mut names: Vec<&str> = names_of(services).iter().flatten().collect();
    names.sort_unstable();
    names.dedup();
    let bytes = batch.get_array_memory_size() + unfolded_bytes(kind, batch);
    let metadata = vec![
        KeyValue::new(FORMAT_KEY.to_owned(), FORMAT.to_owned()),
        KeyValue::new(SERVICES_KEY.to_owned(), names.join(",")),
        KeyValue::new(BYTES_KEY.to_owned(), bytes.to_string()),
    ];
    let sorting = [schema::SERVICE, schema::TIME].map(|column| SortingColumn {
        column_idx: i32::try_from(column).expect("there are few columns"),
        descending: false,
        nulls_first: false,
    });
    let mut properties = WriterProperties::builder()
        .set_created_by("atoll".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(
            ZstdLevel::try_new(1).expect("1 is a level of zstd"),
        ))
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_data_page_row_count_limit(page_rows(kind))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_write_batch_size(1024)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_key_value_metadata(Some(metadata))
        .set_sorting_columns(Some(sorting.to_vec()));
    for column in [schema::NUMBER, schema::TIME, schema::SERVICE] {
        properties =
            properties.set_column_statistics_enabled(path(kind, column), EnabledStatistics::Chunk);
    }
    let trace = path(kind, schema::TRACE);
    properties = properties
        .set_column_bloom_filter_enabled(trace.clone(), true)
        .set_column_bloom_filter_fpp(trace.clone(), TRACE_MISTAKES);
    if kind == Kind::Spans {
        // Random bytes, which searches for a trace look through: there is little to pack, and much to unpack.
        properties = properties.set_column_compression(trace, Compression::UNCOMPRESSED);
    }
    for (column, encoding) in encodings(kind) {
        let repeats = kind.folded().contains(&column);
        properties = properties
            .set_column_dictionary_enabled(path(kind, column), repeats)
            .set_column_encoding(path(kind, column), encoding);
    }
    properties.build()
}

/// Columns whose values hardly repeat, and how they are written; of those that may, when they do not.
fn encodings(kind: Kind) -> Vec<(usize, Encoding)> {
    let mut all = vec![
        (schema::NUMBER, Encoding::DELTA_BINARY_PACKED),
        (schema::TIME, Encoding::DELTA_BINARY_PACKED),
        (schema::TRACE, Encoding::PLAIN),
        (schema::SPAN, Encoding::PLAIN),
        (schema::ATTRIBUTES, Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ];
    match kind {
        Kind::Logs => all.push((schema::log::MESSAGE, Encoding::DELTA_LENGTH_BYTE_ARRAY)),
        Kind::Spans => all.extend([
            (schema::span::PARENT, Encoding::PLAIN),
            (schema::span::DURATION, Encoding::DELTA_BINARY_PACKED),
            (schema::span::NAME, Encoding::DELTA_LENGTH_BYTE_ARRAY),
            (schema::span::EVENTS, Encoding::DELTA_LENGTH_BYTE_ARRAY),
            (schema::span::LINKS, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ]),
    }
    all
}

fn path(kind: Kind, column: usize) -> ColumnPath {
    ColumnPath::from(kind.schema().field(column).name().as_str())
}
