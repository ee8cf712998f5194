//! The cells of one series at one resolution: the newest in the open, the rest packed into bits.
//!
//! A slot stays open for a while, because points come late: an exporter that was held up, a retry.
//! What comes later still is added to the oldest open slot where sums must hold, and is refused for a
//! gauge, of which nobody asks for a sum.

use std::collections::VecDeque;

use super::cell::Cell;
use super::coding::{Before, BitReader, BitWriter};
use super::point::Kind;

/// Cells of a packed chunk. Larger ones pack better, and are read for less.
const CHUNK_CELLS: u32 = 120;

/// How fine, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Seconds of a slot.
    pub(super) seconds: i64,
    /// Slots that are kept.
    pub(super) slots: i64,
    /// Slots that stay open, the present one among them.
    pub(super) open: i64,
}

impl Resolution {
    /// The slot of a time.
    pub(super) const fn slot(self, micros: i64) -> i64 {
        micros.div_euclid(self.seconds * 1_000_000)
    }

    /// When a slot begins, in microseconds.
    pub(super) const fn begin(self, slot: i64) -> i64 {
        slot * self.seconds * 1_000_000
    }
}

/// Cells in bits, in order.
#[derive(Debug, Clone, Default)]
struct Chunk {
    bits: BitWriter,
    before: Before,
    count: u32,
    last: i64,
}

/// The cells of one series at one resolution.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    resolution: Resolution,
    kind: Kind,
    packed: VecDeque<Chunk>,
    /// By slot, growing.
    open: Vec<(i64, Cell)>,
    /// Up to here slots are packed.
    packed_until: i64,
}

impl Ring {
    pub(super) const fn new(resolution: Resolution, kind: Kind) -> Self {
        Self {
            resolution,
            kind,
            packed: VecDeque::new(),
            open: Vec::new(),
            packed_until: i64::MIN,
        }
    }

    /// Adds a cell at a time; false if that is too long ago, or the cell does not fit.
    pub(super) fn add(&mut self, micros: i64, cell: &Cell) -> bool {
        let mut slot = self.resolution.slot(micros);
        if slot <= self.packed_until {
            if self.kind == Kind::Gauge {
                return false;
            }
            slot = self.packed_until + 1;
        }
        let taken = match self.open.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => self.open[at].1.add(cell),
            Err(at) => {
                self.open.insert(at, (slot, cell.clone()));
                true
            }
        };
        self.pack();
        taken
    }

    /// Packs what is past, and lets go of what is too old.
    fn pack(&mut self) {
        let Some(newest) = self.open.last().map(|(slot, _)| *slot) else {
            return;
        };
        let past = newest - self.resolution.open;
        let ready = self.open.partition_point(|(slot, _)| *slot <= past);
        for (slot, cell) in self.open.drain(..ready) {
            if self
                .packed
                .back()
                .is_none_or(|chunk| chunk.count >= CHUNK_CELLS)
            {
                if let Some(full) = self.packed.back_mut() {
                    full.bits.shrink();
                }
                self.packed.push_back(Chunk::default());
            }
            if let Some(chunk) = self.packed.back_mut() {
                chunk.bits.cell(slot, &cell, &mut chunk.before);
                chunk.count += 1;
                chunk.last = slot;
            }
            self.packed_until = slot;
        }
        self.forget(newest);
    }

    /// Lets go of what is too old at a slot.
    fn forget(&mut self, now: i64) {
        let oldest = now - self.resolution.slots;
        while self.packed.front().is_some_and(|chunk| chunk.last < oldest) {
            self.packed.pop_front();
        }
    }

    /// Whether nothing is left of the times that are kept.
    pub(super) fn is_past(&self, micros: i64) -> bool {
        let oldest = self.resolution.slot(micros) - self.resolution.slots;
        let newest = self
            .open
            .last()
            .map_or(self.packed_until, |(slot, _)| *slot);
        newest < oldest
    }

    /// Calls `found` with the cells whose slots begin in a span of time, oldest first.
    pub(super) fn read<F>(&self, since: i64, until: i64, mut found: F)
    where
        F: FnMut(i64, &Cell),
    {
        let resolution = self.resolution;
        let wanted = |slot: i64| (since..until).contains(&resolution.begin(slot));
        let first = resolution.slot(since);
        for chunk in self.packed.iter().filter(|chunk| chunk.last >= first) {
            let (mut reader, mut before) = (BitReader::new(chunk.bits.bytes()), Before::default());
            for _ in 0..chunk.count {
                let Some((slot, cell)) = reader.cell(self.kind, &mut before) else {
                    break;
                };
                if wanted(slot) {
                    found(resolution.begin(slot), &cell);
                }
            }
        }
        for (slot, cell) in self.open.iter().filter(|(slot, _)| wanted(*slot)) {
            found(resolution.begin(*slot), cell);
        }
    }

    /// Bytes of memory that the packed cells use.
    pub(super) fn packed_bytes(&self) -> usize {
        let chunks = self.packed.iter();
        chunks.map(|chunk| chunk.bits.bytes().len()).sum()
    }
}
