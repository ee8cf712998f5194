//! What there is to search of one kind: Parquet files, and batches in memory that are not yet in one.
//!
//! A search takes a snapshot and keeps it to its end. Rows that become a file leave the memory in the
//! same step, so no snapshot has them twice or not at all.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};

use crate::cold::{ColdFile, Extent};
use crate::columns::{concat, unfolded_bytes};
use crate::schema::{self, Kind};

/// Small batches are put together until they have so many rows.
const BATCH_ROWS_MAX: usize = 8 << 10;

/// A batch in memory.
#[derive(Debug)]
pub(crate) struct HotBatch {
    pub(crate) batch: RecordBatch,
    pub(crate) extent: Extent,
    /// What it takes in memory.
    pub(crate) bytes: usize,
    /// What it would take with a text of its own for each row, as in a file.
    pub(crate) unfolded: usize,
}

/// Batches that wait to become a file.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Their generation: the number of their write-ahead log.
    pub(crate) sequence: u64,
    pub(crate) batches: Vec<Arc<HotBatch>>,
}

/// What a search sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// By generation, the oldest first.
    pub(crate) cold: Vec<Arc<ColdFile>>,
    pub(crate) sealed: Vec<Arc<Sealed>>,
    pub(crate) active: Vec<Arc<HotBatch>>,
}

/// The current snapshot of one kind.
#[derive(Debug)]
pub(crate) struct Shelf {
    kind: Kind,
    current: Mutex<Arc<Snapshot>>,
}

/// A piece of a snapshot that is searched by itself.
#[derive(Debug, Clone)]
pub(crate) enum Unit {
    Cold(Arc<ColdFile>),
    Hot(Arc<HotBatch>),
}

impl HotBatch {
    pub(crate) fn new(kind: Kind, batch: RecordBatch) -> Self {
        let bytes = batch.get_array_memory_size();
        Self {
            extent: extent(&batch),
            unfolded: bytes + unfolded_bytes(kind, &batch),
            batch,
            bytes,
        }
    }
}

/// What is known of a batch; of one without rows, nothing that fits anything.
pub(crate) fn extent(batch: &RecordBatch) -> Extent {
    let times = batch.column(schema::TIME);
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let numbers = batch.column(schema::NUMBER);
    let numbers = numbers.as_primitive::<UInt64Type>().values();
    Extent {
        times: ends(times).unwrap_or((i64::MAX, i64::MIN)),
        numbers: ends(numbers).unwrap_or((u64::MAX, 0)),
        rows: batch.num_rows(),
    }
}

fn ends<T: Copy + Ord>(values: &[T]) -> Option<(T, T)> {
    let (min, max) = values.iter().min().zip(values.iter().max())?;
    Some((*min, *max))
}

impl Shelf {
    pub(crate) fn new(kind: Kind, snapshot: Snapshot) -> Self {
        Self {
            kind,
            current: Mutex::new(Arc::new(snapshot)),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what the next searches see.
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.as_ref().clone();
        change(&mut next);
        *current = Arc::new(next);
    }

    /// Adds a batch.
    pub(crate) fn add(&self, batch: Arc<HotBatch>) {
        self.change(|next| {
            next.active.push(batch);
            merge_last(self.kind, &mut next.active);
        });
    }

    /// Sets aside what is in memory, to become a file; none if there is nothing.
    pub(crate) fn seal(&self, sequence: u64) -> Option<Arc<Sealed>> {
        let mut sealed = None;
        self.change(|next| {
            if !next.active.is_empty() {
                let batches = std::mem::take(&mut next.active);
                let new = Arc::new(Sealed { sequence, batches });
                next.sealed.push(Arc::clone(&new));
                sealed = Some(new);
            }
        });
        sealed
    }

    /// What was sealed is in `file` now.
    pub(crate) fn stored(&self, sequence: u64, file: ColdFile) {
        self.change(|next| {
            next.sealed.retain(|sealed| sealed.sequence != sequence);
            next.cold.push(Arc::new(file));
            next.cold.sort_by_key(|file| file.name().first);
        });
    }

    /// Puts `new`, if there is one, in the place of `old`, which are removed from the disk when nobody reads them any more.
    pub(crate) fn replace(&self, old: &[Arc<ColdFile>], new: Option<ColdFile>) {
        self.change(|next| {
            next.cold
                .retain(|file| !old.iter().any(|old| Arc::ptr_eq(file, old)));
            next.cold.extend(new.map(Arc::new));
            next.cold.sort_by_key(|file| file.name().first);
        });
        for file in old {
            file.discard();
        }
    }
}

/// Puts small batches together, each with one of about its size, so that a row is moved a few times at
/// most and few batches are left.
fn merge_last(kind: Kind, batches: &mut Vec<Arc<HotBatch>>) {
    while let [.., before, last] = batches.as_slice() {
        let (more, less) = (before.batch.num_rows(), last.batch.num_rows());
        if more > 2 * less || more + less > BATCH_ROWS_MAX {
            return;
        }
        let Ok(both) = concat(&[before.batch.clone(), last.batch.clone()]) else {
            return;
        };
        batches.truncate(batches.len() - 2);
        batches.push(Arc::new(HotBatch::new(kind, both)));
    }
}

impl Snapshot {
    /// All of it, in the order of numbers.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let cold = self.cold.iter().cloned().map(Unit::Cold);
        let sealed = self.sealed.iter().flat_map(|sealed| sealed.batches.iter());
        let hot = sealed.chain(&self.active).cloned().map(Unit::Hot);
        cold.chain(hot).collect()
    }

    /// Bytes that are not sealed yet, in memory and unfolded.
    pub(crate) fn active_bytes(&self) -> (usize, usize) {
        let sum = |bytes: fn(&HotBatch) -> usize| self.active.iter().map(|own| bytes(own)).sum();
        (sum(|own| own.bytes), sum(|own| own.unfolded))
    }
}

impl Unit {
    pub(crate) fn extent(&self) -> &Extent {
        match self {
            Self::Cold(file) => file.extent(),
            Self::Hot(batch) => &batch.extent,
        }
    }
}
