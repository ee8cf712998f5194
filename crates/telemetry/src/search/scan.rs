//! Runs a filter over the pieces of a snapshot.
//!
//! What time, numbers, services, traces and words leave out is not read. Of the rest the small columns that the filter
//! asks are read first, the large ones only where rows are left, and what else the search needs only of pieces with
//! rows that fit. Where there are several files, two threads share them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::{ArrowError, Field, Schema};
use arrow_select::filter::filter_record_batch;

use crate::Error;
use crate::cold::{ColdFile, Extent};
use crate::columns::unfold_column;
use crate::query::{Bounds, Columns, Filter};
use crate::schema;
use crate::shelf::{HotBatch, Unit};

/// Threads of one search.
const THREADS: usize = 2;

/// Files that one thread reads before another one pays.
const FILES_ALONE_MAX: usize = 2;

/// Rows whose texts are unpacked at once: of ordinary lines a page.
const SEARCHED_ROWS: usize = 2 << 10;

/// Rows that fit, in one piece of a unit.
#[derive(Debug)]
pub(crate) struct Match {
    /// The place of the unit.
    pub(crate) unit: usize,
    /// The piece of it.
    pub(crate) part: usize,
    /// The columns that the search has named, of all rows of the piece.
    pub(crate) columns: Columns,
    /// The rows that fit.
    pub(crate) mask: BooleanBuffer,
}

/// A search at work.
pub(crate) struct Scan<'a> {
    pub(crate) units: &'a [Unit],
    pub(crate) filter: &'a Filter,
    /// The columns that the search needs of rows that fit.
    pub(crate) wanted: &'a [usize],
    /// Rows older than this are not wanted any more. Rises while a search finds newer ones.
    pub(crate) cutoff: &'a AtomicI64,
}

struct Plan {
    bounds: Bounds,
    numbers: (u64, u64),
    /// Columns of the first stage.
    first: Vec<usize>,
    second: Vec<usize>,
}

impl Scan<'_> {
    /// Calls `visit` with what fits, in any order and from several threads. Answers how many rows were looked at.
    pub(crate) fn run(&self, visit: &(dyn Fn(Match) + Sync)) -> u64 {
        let (first, second) = self.filter.columns();
        let plan = Plan {
            bounds: self.filter.bounds(),
            numbers: self.filter.numbers(),
            first: first.into_iter().collect(),
            second: second.into_iter().collect(),
        };
        let scanned = AtomicU64::new(0);
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(unit) = self.units.get(at) else {
                    return;
                };
                if self.may_fit(&plan, unit.extent()) {
                    let rows = self.unit(&plan, at, unit, visit);
                    scanned.fetch_add(rows, Ordering::Relaxed);
                }
            }
        };
        let files = self
            .units
            .iter()
            .filter(|unit| matches!(unit, Unit::Cold(_)) && self.may_fit(&plan, unit.extent()));
        if files.count() > FILES_ALONE_MAX {
            std::thread::scope(|scope| {
                for _ in 1..THREADS {
                    scope.spawn(work);
                }
                work();
            });
        } else {
            work();
        }
        scanned.into_inner()
    }

    fn may_fit(&self, plan: &Plan, extent: &Extent) -> bool {
        let (oldest, newest) = extent.times;
        plan.bounds.since.is_none_or(|since| newest >= since)
            && plan.bounds.until.is_none_or(|until| oldest <= until)
            && self.cutoff().is_none_or(|cutoff| newest >= cutoff)
            && extent.numbers.1 >= plan.numbers.0
            && extent.numbers.0 <= plan.numbers.1
    }

    fn unit(&self, plan: &Plan, at: usize, unit: &Unit, visit: &(dyn Fn(Match) + Sync)) -> u64 {
        match unit {
            Unit::Hot(batch) => {
                self.hot(plan, at, batch, visit);
                batch.extent.rows as u64
            }
            Unit::Cold(file) => match self.cold(plan, at, file, visit) {
                Ok(rows) => rows,
                Err(error) => {
                    if file.found_broken() {
                        tracing::warn!(%error, "a file of telemetry is skipped");
                    }
                    0
                }
            },
        }
    }

    fn hot(&self, plan: &Plan, at: usize, hot: &HotBatch, visit: &(dyn Fn(Match) + Sync)) {
        let all = self.filter.kind().all_columns();
        let columns = Columns::new(self.filter.kind(), &hot.batch, &all);
        let mask = self.first(&columns, self.cutoff());
        let left = mask.count_set_bits();
        if left == 0 {
            return;
        }
        let mask = if plan.second.is_empty() {
            mask
        } else if left * 4 > columns.rows() {
            &mask & &self.filter.second(&columns)
        } else {
            let rows = BooleanArray::new(mask.clone(), None);
            let some = hot.batch.project(&plan.second);
            let some = some.and_then(|some| filter_record_batch(&some, &rows));
            let Ok(some) = some.and_then(|some| own_texts(&some)) else {
                return;
            };
            self.second(plan, &mask, &some)
        };
        if mask.count_set_bits() > 0 {
            visit(Match {
                unit: at,
                part: 0,
                columns,
                mask,
            });
        }
    }

    fn cold(
        &self,
        plan: &Plan,
        at: usize,
        file: &ColdFile,
        visit: &(dyn Fn(Match) + Sync),
    ) -> Result<u64, Error> {
        let of_services = |fits: &dyn Fn(&str) -> bool| match &plan.bounds.services {
            Some(names) => names.iter().any(|name| fits(name)),
            None => true,
        };
        if !of_services(&|name| file.has_service(name)) {
            return Ok(0);
        }
        let groups = match &plan.bounds.traces {
            Some(traces) => file.groups_with(traces)?,
            None => (0..file.groups().len()).collect(),
        };
        let mut scanned = 0;
        for group in groups {
            let extent = &file.groups()[group];
            if !self.may_fit(plan, extent)
                || !of_services(&|name| file.group_has_service(group, name))
                || !file.group_may_hold(group, &plan.bounds.words)
            {
                continue;
            }
            scanned += extent.rows as u64;
            let mut columns = Columns::none(file.kind(), extent.rows);
            let cutoff = self.cutoff();
            let times = cutoff.map(|_| schema::TIME);
            let first = plan.first.iter().copied().chain(times);
            add(&mut columns, file, group, first)?;
            let mask = self.first(&columns, cutoff);
            let mask = self.second_in(plan, file, group, &mask)?;
            if mask.count_set_bits() > 0 {
                add(&mut columns, file, group, self.wanted.iter().copied())?;
                visit(Match {
                    unit: at,
                    part: group,
                    columns,
                    mask,
                });
            }
        }
        Ok(scanned)
    }

    /// What is too old, as far as is known by now.
    fn cutoff(&self) -> Option<i64> {
        let cutoff = self.cutoff.load(Ordering::Relaxed);
        (cutoff != i64::MIN).then_some(cutoff)
    }

    /// The second stage on the rows of a group that `mask` marks. A page after the other: what was just unpacked is
    /// mostly still in the processor's cache when it is searched.
    fn second_in(
        &self,
        plan: &Plan,
        file: &ColdFile,
        group: usize,
        mask: &BooleanBuffer,
    ) -> Result<BooleanBuffer, Error> {
        let left = mask.count_set_bits();
        if plan.second.is_empty() || left == 0 {
            return Ok(mask.clone());
        }
        let some = (left < mask.len()).then(|| mask.clone());
        let mut rows = mask.set_indices();
        let mut whole = unset(mask.len());
        file.read_each(group, &plan.second, some, SEARCHED_ROWS, |page| {
            let columns = Columns::new(self.filter.kind(), &page, &plan.second);
            mark(&self.filter.second(&columns), &mut rows, &mut whole);
        })?;
        Ok(whole.finish())
    }

    /// The first stage, and what is older than `cutoff`.
    fn first(&self, columns: &Columns, cutoff: Option<i64>) -> BooleanBuffer {
        let mask = self.filter.first(columns);
        let Some(cutoff) = cutoff else {
            return mask;
        };
        let times = columns.get(schema::TIME);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        &mask & &BooleanBuffer::collect_bool(times.len(), |row| times[row] >= cutoff)
    }

    /// The second stage: `some` are the rows that `mask` marks.
    fn second(&self, plan: &Plan, mask: &BooleanBuffer, some: &RecordBatch) -> BooleanBuffer {
        let columns = Columns::new(self.filter.kind(), some, &plan.second);
        let mut whole = unset(mask.len());
        mark(
            &self.filter.second(&columns),
            &mut mask.set_indices(),
            &mut whole,
        );
        whole.finish()
    }
}

/// Reads those of `wanted` that are not there yet.
fn add(
    columns: &mut Columns,
    file: &ColdFile,
    group: usize,
    wanted: impl Iterator<Item = usize>,
) -> Result<(), Error> {
    // Each once, and in the order of the file.
    let missing: BTreeSet<usize> = wanted.filter(|own| !columns.has(*own)).collect();
    if !missing.is_empty() {
        let missing: Vec<usize> = missing.into_iter().collect();
        columns.add(&file.read(group, &missing, None)?, &missing);
    }
    Ok(())
}

/// The same rows with the texts that are theirs: their dictionaries have those of all others too.
fn own_texts(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(unfold_column);
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let fields = batch
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::clone(field).with_data_type(column.data_type().clone()))
        .collect::<Vec<_>>();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn unset(rows: usize) -> BooleanBufferBuilder {
    let mut mask = BooleanBufferBuilder::new(rows);
    mask.append_n(rows, false);
    mask
}

/// Marks those of the next `rows` that fit.
fn mark(
    fit: &BooleanBuffer,
    rows: &mut impl Iterator<Item = usize>,
    marked: &mut BooleanBufferBuilder,
) {
    for (fits, row) in fit.iter().zip(rows) {
        if fits {
            marked.set_bit(row, true);
        }
    }
}
