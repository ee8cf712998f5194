//! A Parquet file as searches see it: what its footer says is in memory, the rest is read when asked for.
//!
//! A file that is not wanted any more is removed when the last search that may read it is over.

use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use atoll_base::TraceId;
use atoll_store::log::Disk;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

use super::Name;
use super::io::Source;
use super::words;
use super::write::GROUP_ROWS_MAX;
use crate::Error;
use crate::columns::fix_ids;
use crate::schema::{self, BYTES_KEY, FORMAT, FORMAT_BEFORE, FORMAT_KEY, Kind, SERVICES_KEY};

/// So many times as large as in its file a row is in memory, where that is not told.
const PACKED: u64 = 10;

/// What is known of rows without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The times of the oldest and the newest.
    pub(crate) times: (i64, i64),
    /// The lowest and the highest number.
    pub(crate) numbers: (u64, u64),
    /// How many there are.
    pub(crate) rows: usize,
}

/// A file.
#[derive(Debug)]
pub(crate) struct ColdFile {
    disk: Arc<dyn Disk>,
    kind: Kind,
    path: PathBuf,
    name: Name,
    metadata: ArrowReaderMetadata,
    extent: Extent,
    groups: Vec<Extent>,
    services: Vec<String>,
    /// Where the filters of words are, by row group.
    words: Vec<Option<words::Place>>,
    bytes: u64,
    memory_bytes: u64,
    unwanted: AtomicBool,
    /// It was found damaged, and that was told.
    broken: AtomicBool,
}

impl ColdFile {
    /// Reads the footer.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        kind: Kind,
        name: Name,
        path: PathBuf,
    ) -> Result<Self, Error> {
        let source = source(disk.as_ref(), &path)?;
        let bytes = parquet::file::reader::Length::len(&source);
        let options = ArrowReaderOptions::new()
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = decoded(|| ArrowReaderMetadata::load(&source, options))
            .map_err(|reason| Error::damaged(&path, reason))?;
        check(kind, &metadata).map_err(|reason| Error::damaged(&path, reason))?;
        let groups: Option<Vec<Extent>> = metadata
            .metadata()
            .row_groups()
            .iter()
            .map(extent)
            .collect();
        let groups = groups
            .filter(|groups| !groups.is_empty())
            .ok_or_else(|| Error::damaged(&path, "it has no sound statistics"))?;
        let extent = whole(&groups);
        let services = value(&metadata, SERVICES_KEY).unwrap_or_default();
        let memory = value(&metadata, BYTES_KEY).and_then(|told| told.parse().ok());
        let words = value(&metadata, words::KEY).unwrap_or_default();
        Ok(Self {
            disk: Arc::clone(disk),
            kind,
            name,
            services: services.split(',').map(str::to_owned).collect(),
            words: words::places(&words, groups.len(), bytes),
            path,
            metadata,
            extent,
            groups,
            bytes,
            memory_bytes: memory.unwrap_or(bytes * PACKED),
            unwanted: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Its row groups.
    pub(crate) fn groups(&self) -> &[Extent] {
        &self.groups
    }

    /// Its length on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What its rows take in memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Who it holds rows of.
    pub(crate) fn has_service(&self, service: &str) -> bool {
        self.services.iter().any(|known| known == service)
    }

    /// Whether a row group may hold rows of a service.
    pub(crate) fn group_has_service(&self, group: usize, service: &str) -> bool {
        let column = self.metadata.metadata().row_group(group);
        let Some(Statistics::ByteArray(values)) = column.column(schema::SERVICE).statistics()
        else {
            return true;
        };
        let least = values
            .min_opt()
            .is_none_or(|least| least.data() <= service.as_bytes());
        let most = values
            .max_opt()
            .is_none_or(|most| most.data() >= service.as_bytes());
        least && most
    }

    /// The row groups that may hold rows of one of `traces`.
    pub(crate) fn groups_with(&self, traces: &[TraceId]) -> Result<Vec<usize>, Error> {
        let reader = self.reader()?;
        let mut found = Vec::new();
        for group in 0..self.groups.len() {
            let filter = decoded(|| reader.get_row_group_column_bloom_filter(group, schema::TRACE))
                .map_err(|reason| Error::damaged(&self.path, reason))?;
            let may = filter.is_none_or(|filter| {
                let mut ids = traces.iter().map(|trace| trace.get().to_be_bytes());
                ids.any(|id| filter.check(&id[..]))
            });
            if may {
                found.push(group);
            }
        }
        Ok(found)
    }

    /// Whether a row group may hold texts with all of `needed`; see [`crate::words::needed`].
    pub(crate) fn group_may_hold(&self, group: usize, needed: &[u64]) -> bool {
        let Some(place) = self.words[group].filter(|_| !needed.is_empty()) else {
            return true;
        };
        // The rows may be sound where their filter cannot be read.
        let filter = source(self.disk.as_ref(), &self.path)
            .ok()
            .and_then(|source| source.get_bytes(place.offset, place.length).ok());
        filter.is_none_or(|filter| words::may_hold(place, &filter, needed))
    }

    /// Reads columns of a row group, in their order: of all rows, or of those in `rows`.
    pub(crate) fn read(
        &self,
        group: usize,
        columns: &[usize],
        rows: Option<BooleanBuffer>,
    ) -> Result<RecordBatch, Error> {
        let mut found = Vec::new();
        let count = self.groups[group].rows;
        self.read_each(group, columns, rows, count, |batch| found.push(batch))?;
        let one = match found.len() {
            1 => found.pop(),
            _ => None,
        };
        match one {
            Some(batch) => Ok(batch),
            None => {
                let all = concat_batches(&self.schema(columns)?, &found);
                all.map_err(|error| Error::damaged(&self.path, error))
            }
        }
    }

    /// The same in pieces of at most `count` rows, one after the other. A file that has not as many rows as it says is
    /// damaged, which is known only at the end.
    pub(crate) fn read_each(
        &self,
        group: usize,
        columns: &[usize],
        rows: Option<BooleanBuffer>,
        count: usize,
        mut take: impl FnMut(RecordBatch),
    ) -> Result<(), Error> {
        let projection =
            ProjectionMask::roots(self.metadata.parquet_schema(), columns.iter().copied());
        let mut reader = self
            .reader()?
            .with_row_groups(vec![group])
            .with_projection(projection)
            .with_batch_size(count);
        let all = self.groups[group].rows;
        let wanted = rows.as_ref().map_or(all, BooleanBuffer::count_set_bits);
        if let Some(rows) = rows {
            reader = reader.with_row_selection(RowSelection::from_boolean_buffer(rows));
        }
        let damaged = |reason: String| Error::damaged(&self.path, reason);
        let schema = self.schema(columns)?;
        let mut batches = decoded(|| reader.build()).map_err(damaged)?;
        let mut read = 0;
        while let Some(batch) = decoded(|| batches.next().transpose()).map_err(damaged)? {
            let batch = fix_ids(&batch, &schema).map_err(|error| damaged(error.to_string()))?;
            read += batch.num_rows();
            take(batch);
        }
        if read == wanted {
            Ok(())
        } else {
            Err(damaged("it has not as many rows as it says".to_owned()))
        }
    }

    /// What columns are like when they have been read, whatever the format.
    fn schema(&self, columns: &[usize]) -> Result<SchemaRef, Error> {
        let schema = self.kind.plain_schema().project(columns);
        schema
            .map(Arc::new)
            .map_err(|error| Error::damaged(&self.path, error))
    }

    /// Has the file removed when nobody reads it any more.
    pub(crate) fn discard(&self) {
        self.unwanted.store(true, Ordering::Release);
    }

    /// Whether it was found damaged.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether this is the first time that it is found damaged.
    pub(crate) fn found_broken(&self) -> bool {
        !self.broken.swap(true, Ordering::Relaxed)
    }

    fn reader(&self) -> Result<ParquetRecordBatchReaderBuilder<Source>, Error> {
        let source = source(self.disk.as_ref(), &self.path)?;
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(
            source,
            self.metadata.clone(),
        ))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl Drop for ColdFile {
    fn drop(&mut self) {
        if *self.unwanted.get_mut()
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "old telemetry cannot be removed");
        }
    }
}

fn source(disk: &dyn Disk, path: &Path) -> Result<Source, Error> {
    let source = disk.open(path, false).and_then(Source::new);
    source.map_err(|error| Error::unusable(path, error))
}

/// What decodes a file expects sound bytes in places, and panics about others: that is a damaged file, no more.
fn decoded<T, E: Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("its bytes make no sense".to_owned()),
    }
}

fn value(metadata: &ArrowReaderMetadata, key: &str) -> Option<String> {
    let file = metadata.metadata().file_metadata();
    let found = file
        .key_value_metadata()?
        .iter()
        .find(|pair| pair.key == key)?;
    found.value.clone()
}

/// Whether the file is one of ours.
fn check(kind: Kind, metadata: &ArrowReaderMetadata) -> Result<(), String> {
    let schema = match value(metadata, FORMAT_KEY).unwrap_or_default().as_str() {
        FORMAT => kind.file_schema(),
        FORMAT_BEFORE => kind.plain_schema(),
        other => return Err(format!("its format is `{other}`, not `{FORMAT}`")),
    };
    if metadata.schema().fields() == schema.fields() {
        Ok(())
    } else {
        Err("it has other columns".to_owned())
    }
}

fn extent(group: &RowGroupMetaData) -> Option<Extent> {
    let Some(Statistics::Int64(times)) = group.column(schema::TIME).statistics() else {
        return None;
    };
    let Some(Statistics::Int64(numbers)) = group.column(schema::NUMBER).statistics() else {
        return None;
    };
    let number = |value: &i64| u64::try_from(*value).ok();
    Some(Extent {
        times: (*times.min_opt()?, *times.max_opt()?),
        numbers: (number(numbers.min_opt()?)?, number(numbers.max_opt()?)?),
        // A footer that lies must not ask for all the memory.
        rows: usize::try_from(group.num_rows())
            .ok()
            .filter(|rows| *rows <= GROUP_ROWS_MAX)?,
    })
}

fn whole(groups: &[Extent]) -> Extent {
    let mut whole = groups[0].clone();
    for group in &groups[1..] {
        whole.times.0 = whole.times.0.min(group.times.0);
        whole.times.1 = whole.times.1.max(group.times.1);
        whole.numbers.0 = whole.numbers.0.min(group.numbers.0);
        whole.numbers.1 = whole.numbers.1.max(group.numbers.1);
        whole.rows += group.rows;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::tests::written;
    use super::*;

    #[test]
    fn a_file_that_has_not_as_many_rows_as_it_says_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (_disk, mut file) = written(dir.path(), 100);
        let read = |file: &ColdFile, rows| {
            let each = file.read_each(0, &[schema::TIME], rows, 30, |_| {});
            each.map_err(|error| error.to_string())
        };
        read(&file, None).unwrap();
        for rows in [99, 101] {
            file.groups[0].rows = rows;
            let error = read(&file, None).unwrap_err();
            assert!(error.contains("not as many rows as it says"), "{error}");
        }
    }

    #[test]
    fn a_footer_that_lies_does_not_ask_for_all_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (_disk, file) = written(dir.path(), 100);
        let group = file.metadata.metadata().row_group(0).clone();
        assert_eq!(extent(&group).unwrap().rows, 100);
        let lying = group.into_builder().set_num_rows(1 << 45).build().unwrap();
        assert_eq!(extent(&lying), None);
    }
}
