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
use crate::columns::{Gather, loosen_ids, names_of, unfold};
use crate::schema::{self, BYTES_KEY, FORMAT, FORMAT_KEY, Kind, SERVICES_KEY};

/// Rows in a row group: what is decoded at once, and what statistics are about.
pub(super) const GROUP_ROWS_MAX: usize = 128 << 10;

/// Rows in a page: what is decoded at least, to see one row. Of spans some are looked at, of lines mostly all.
const fn page_rows(kind: Kind) -> usize {
    match kind {
        Kind::Logs => 8 << 10,
        Kind::Spans => 2 << 10,
    }
}

/// From about this size on a page ends, in bytes: of ordinary lines after 2,048 rows. Fewer are unpacked to see one, and
/// they pack as well as in larger pages.
const PAGE_BYTES: usize = 256 << 10;

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
    let (min, max) = time_range(&batches);
    let name = Name {
        min: min.max(0),
        max: max.max(0),
        first,
        last,
    };
    let services = services(&batches);
    let rows = Rows {
        kind,
        order: order(&batches, &services),
        gather: Gather::new(&batches).map_err(|error| Error::damaged(dir, error))?,
        services,
    };
    drop(batches);
    let (folder, path) = (name.folder(dir), name.path(dir));
    let temporary = path.with_extension("parquet.tmp");
    let failed = |error| Error::unusable(&path, error);
    disk.create_dir(&folder).map_err(failed)?;
    let written = content(disk.as_ref(), &temporary, &rows);
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

/// What is to be written.
struct Rows {
    kind: Kind,
    gather: Gather,
    /// By service, time and number.
    order: Vec<(usize, usize)>,
    /// Of whom they are, in the order of their names.
    services: Vec<String>,
}

fn content(disk: &dyn Disk, path: &Path, rows: &Rows) -> std::io::Result<()> {
    let kind = rows.kind;
    let file = disk.open(path, true)?;
    file.set_len(0)?;
    let sink = Sink::new(Arc::clone(&file));
    let properties = Some(properties(rows));
    let mut writer = ArrowWriter::try_new(sink, Arc::clone(kind.file_schema()), properties)?;
    let (mut filters, mut bytes) = (Filters::default(), 0);
    for group in rows.order.chunks(GROUP_ROWS_MAX) {
        let group = rows.gather.rows(group).map_err(std::io::Error::other)?;
        // A page after the other: unfolded, rows may be many times as large, and what a small piece becomes on its
        // way stays near the processor.
        for from in (0..group.num_rows()).step_by(page_rows(kind)) {
            let page = group.slice(from, page_rows(kind).min(group.num_rows() - from));
            let page = unfold(kind, &page).map_err(std::io::Error::other)?;
            bytes += memory_bytes(&page);
            writer.write(&loosen_ids(kind, &page).map_err(std::io::Error::other)?)?;
        }
        if kind == Kind::Logs {
            // Not page by page: what writes a page would take the filter's place there.
            filters.push(group.column(schema::log::MESSAGE).as_string());
        }
    }
    if kind == Kind::Logs {
        write_filters(&mut writer, &filters)?;
    }
    writer.append_key_value_metadata(KeyValue::new(BYTES_KEY.to_owned(), bytes.to_string()));
    let mut sink = writer.into_inner()?;
    std::io::Write::flush(&mut sink)?;
    file.set_len(sink.length())?;
    file.sync()
}

fn write_filters(writer: &mut ArrowWriter<Sink>, filters: &Filters) -> std::io::Result<()> {
    // What has been written so far are the groups; nothing may come between two of them that readers do not skip.
    writer.flush()?;
    let offset = writer.bytes_written() as u64;
    writer.write_all(&filters.bytes)?;
    let places = filters.places(offset);
    writer.append_key_value_metadata(KeyValue::new(words::KEY.to_owned(), places));
    Ok(())
}

/// What rows take in memory, without what else their columns may hold.
fn memory_bytes(rows: &RecordBatch) -> usize {
    let columns = rows.columns().iter();
    columns
        .filter_map(|column| column.to_data().get_slice_memory_size().ok())
        .sum()
}

fn services(batches: &[RecordBatch]) -> Vec<String> {
    let names = batches.iter().flat_map(|batch| {
        let services = batch.column(schema::SERVICE).as_dictionary::<Int32Type>();
        names_of(services).iter().flatten()
    });
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

fn time_range(batches: &[RecordBatch]) -> (i64, i64) {
    let times = batches.iter().flat_map(|batch| {
        let times = batch.column(schema::TIME);
        times.as_primitive::<TimestampMicrosecondType>().values()
    });
    let ends = times.clone().min().zip(times.max());
    ends.map_or((0, 0), |(min, max)| (*min, *max))
}

/// Time and number of a row, and its place: in memory while all are sorted, so a small one.
type Sorted = (i64, u64, (u32, u32));

/// All rows by service, time and number: each by the place of its batch, and its own in there.
fn order(batches: &[RecordBatch], services: &[String]) -> Vec<(usize, usize)> {
    let mut by_service: Vec<Vec<Sorted>> = vec![Vec::new(); services.len().max(1)];
    for (place, batch) in (0..).zip(batches) {
        let own = batch.column(schema::SERVICE).as_dictionary::<Int32Type>();
        let rank = |name: Option<&str>| {
            let name = name.unwrap_or_default();
            services.binary_search_by(|known| known.as_str().cmp(name))
        };
        let ranks = names_of(own).iter().map(|name| rank(name).unwrap_or(0));
        let ranks: Vec<usize> = ranks.collect();
        let times = batch.column(schema::TIME);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let numbers = batch.column(schema::NUMBER);
        let numbers = numbers.as_primitive::<UInt64Type>().values();
        let rows = (0..).zip(own.keys().values().iter().zip(times).zip(numbers));
        for (row, ((key, time), number)) in rows {
            let rank = usize::try_from(*key).ok().and_then(|key| ranks.get(key));
            by_service[rank.copied().unwrap_or(0)].push((*time, *number, (place, row)));
        }
    }
    let place = |at: u32| usize::try_from(at).expect("as wide at least");
    let mut order = Vec::with_capacity(by_service.iter().map(Vec::len).sum());
    for mut rows in by_service {
        // Not `sort_unstable`: this one makes use of runs that are in order, as most rows of a service are.
        rows.sort();
        let places = rows.into_iter();
        order.extend(places.map(|(.., (batch, row))| (place(batch), place(row))));
    }
    order
}

fn properties(rows: &Rows) -> WriterProperties {
    let kind = rows.kind;
    let metadata = vec![
        KeyValue::new(FORMAT_KEY.to_owned(), FORMAT.to_owned()),
        KeyValue::new(SERVICES_KEY.to_owned(), rows.services.join(",")),
    ];
    let sorting = [schema::SERVICE, schema::TIME].map(|column| SortingColumn {
        column_idx: i32::try_from(column).expect("there are few columns"),
        descending: false,
        nulls_first: false,
    });
    let mut properties = WriterProperties::builder()
        .set_created_by("atoll".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_data_page_row_count_limit(page_rows(kind))
        .set_data_page_size_limit(PAGE_BYTES)
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
        .set_column_bloom_filter_fpp(trace, TRACE_MISTAKES);
    let zstd = ZstdLevel::try_new(1).expect("1 is a level of zstd");
    for column in packed(kind) {
        properties =
            properties.set_column_compression(path(kind, *column), Compression::ZSTD(zstd));
    }
    for (column, encoding) in encodings(kind) {
        let repeats = kind.folded().contains(&column);
        properties = properties
            .set_column_dictionary_enabled(path(kind, column), repeats)
            .set_column_encoding(path(kind, column), encoding);
    }
    properties.build()
}

/// The columns that zstd makes smaller: texts, and the ids of logs, of which many have the same. Of numbers and of few
/// names the encoding leaves a byte or two of a row, not worth the time; the ids of spans are random.
fn packed(kind: Kind) -> &'static [usize] {
    match kind {
        Kind::Logs => &[
            schema::INSTANCE,
            schema::TRACE,
            schema::SPAN,
            schema::ATTRIBUTES,
            schema::log::MESSAGE,
        ],
        Kind::Spans => &[
            schema::INSTANCE,
            schema::ATTRIBUTES,
            schema::span::NAME,
            schema::span::MESSAGE,
            schema::span::EVENTS,
            schema::span::LINKS,
        ],
    }
}

/// Columns whose values hardly repeat, and how they are written; of those that may, when they do not.
fn encodings(kind: Kind) -> Vec<(usize, Encoding)> {
    let mut all = vec![
        (schema::NUMBER, Encoding::DELTA_BINARY_PACKED),
        (schema::TIME, Encoding::DELTA_BINARY_PACKED),
        (schema::TRACE, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        (schema::SPAN, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        (schema::ATTRIBUTES, Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ];
    match kind {
        Kind::Logs => all.push((schema::log::MESSAGE, Encoding::DELTA_LENGTH_BYTE_ARRAY)),
        Kind::Spans => all.extend([
            (schema::span::PARENT, Encoding::DELTA_LENGTH_BYTE_ARRAY),
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
