//! Cells as bits: what follows each other is alike, and only the difference is written.
//!
//! After Gorilla (Pelkonen et al., VLDB 2015): of times the change of their distance, which is mostly
//! nothing; of numbers the bits that differ from the one before. Histograms are written as counts of
//! variable length, their bounds only where they change. Reading never fails loudly: bits that mean
//! nothing end the list.

use std::sync::Arc;

use super::cell::Cell;
use super::exponential::{BUCKETS_MAX, Buckets, Exponential};
use super::histogram::{BOUNDS_MAX, Explicit, Histogram};
use super::point::Kind;

/// Writes bits.
#[derive(Debug, Clone, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not used.
    free: u32,
}

/// Reads bits.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What the next cell is written as a difference to. The same for writing and reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    slot: i64,
    distance: i64,
    /// One for each number that a cell may have.
    numbers: [Number; 3],
    bounds: Option<Arc<[f64]>>,
}

/// The number before, and which of its bits differed.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    bits: u64,
    leading: u32,
    length: u32,
}

/// Distances of times by how often they come: the bits that tell the class, how many, and the bits
/// of the distance itself.
const CLASSES: [(u64, u32, u32); 3] = [(0b10, 2, 7), (0b110, 3, 12), (0b1110, 4, 20)];

impl BitWriter {
    fn bits(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = count.min(self.free);
            let part = (value >> (count - take)) & ((1 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::try_from(part << (self.free - take)).expect("at most eight bits");
            }
            self.free -= take;
            count -= take;
        }
    }

    fn flag(&mut self, truth: bool) {
        self.bits(truth.into(), 1);
    }

    /// Four bits at a time: counts are mostly small.
    fn count(&mut self, mut value: u64) {
        loop {
            let (low, rest) = (value & 7, value >> 3);
            self.bits(low | u64::from(rest > 0) << 3, 4);
            if rest == 0 {
                return;
            }
            value = rest;
        }
    }

    fn signed(&mut self, value: i64) {
        self.count(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn number(&mut self, value: f64, before: &mut Number) {
        let differs = value.to_bits() ^ before.bits;
        before.bits = value.to_bits();
        if differs == 0 {
            self.flag(false);
            return;
        }
        self.flag(true);
        let (leading, trailing) = (differs.leading_zeros(), differs.trailing_zeros());
        let end = 64 - before.leading - before.length;
        if before.length > 0 && leading >= before.leading && trailing >= end {
            self.flag(false);
            self.bits(differs >> end, before.length);
            return;
        }
        let length = 64 - leading - trailing;
        self.flag(true);
        self.bits(leading.into(), 6);
        self.bits(u64::from(length - 1), 6);
        self.bits(differs >> trailing, length);
        (before.leading, before.length) = (leading, length);
    }

    fn maybe(&mut self, value: Option<f64>) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.bits(value.to_bits(), 64);
        }
    }

    fn buckets(&mut self, buckets: &Buckets) {
        let (first, counts) = buckets.parts();
        self.count(counts.len() as u64);
        if !counts.is_empty() {
            self.signed(first.into());
        }
        counts.iter().for_each(|count| self.count(*count));
    }

    /// A cell and its slot.
    pub(super) fn cell(&mut self, slot: i64, cell: &Cell, before: &mut Before) {
        let distance = slot.wrapping_sub(before.slot);
        let change = distance.wrapping_sub(before.distance);
        (before.slot, before.distance) = (slot, distance);
        let fits = |bits: u32| (-(1 << (bits - 1))..1 << (bits - 1)).contains(&change);
        match CLASSES.iter().find(|(_, _, bits)| fits(*bits)) {
            _ if change == 0 => self.flag(false),
            Some((class, length, bits)) => {
                self.bits(*class, *length);
                self.bits(change.cast_unsigned() & ((1 << bits) - 1), *bits);
            }
            None => {
                self.bits(0b1111, 4);
                self.bits(change.cast_unsigned(), 64);
            }
        }
        match cell {
            Cell::Gauge {
                count,
                sum,
                min,
                max,
            } => {
                self.count(*count);
                self.number(*sum, &mut before.numbers[0]);
                if *count != 1 {
                    self.number(*min, &mut before.numbers[1]);
                    self.number(*max, &mut before.numbers[2]);
                }
            }
            Cell::Counter(value) => self.number(*value, &mut before.numbers[0]),
            Cell::Histogram(Histogram::Explicit(own)) => self.explicit(own, before),
            Cell::Histogram(Histogram::Exponential(own)) => self.exponential(own, before),
        }
    }

    fn explicit(&mut self, own: &Explicit, before: &mut Before) {
        self.flag(false);
        let is_same = before.bounds.as_deref() == Some(&own.bounds);
        self.flag(is_same);
        if !is_same {
            self.count(own.bounds.len() as u64);
            let bounds = own.bounds.iter();
            bounds.for_each(|bound| self.bits(bound.to_bits(), 64));
            before.bounds = Some(Arc::clone(&own.bounds));
        }
        own.counts.iter().for_each(|count| self.count(*count));
        self.number(own.sum, &mut before.numbers[0]);
        self.maybe(own.min);
        self.maybe(own.max);
    }

    fn exponential(&mut self, own: &Exponential, before: &mut Before) {
        self.flag(true);
        self.signed(own.scale.into());
        self.count(own.zero);
        self.maybe((own.zero_threshold > 0.0).then_some(own.zero_threshold));
        self.buckets(&own.positive);
        self.buckets(&own.negative);
        self.number(own.sum, &mut before.numbers[0]);
        self.maybe(own.min);
        self.maybe(own.max);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives back the memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bits(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        let mut left = count as usize;
        while left > 0 {
            let byte = *self.bytes.get(self.at / 8)?;
            let here = 8 - self.at % 8;
            let take = left.min(here);
            let part = (byte >> (here - take)) & (0xff >> (8 - take));
            value = (value << take) | u64::from(part);
            self.at += take;
            left -= take;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.bits(1)? == 1)
    }

    fn count(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(3) {
            let part = self.bits(4)?;
            value |= (part & 7) << shift;
            if part & 8 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.count()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn number(&mut self, before: &mut Number) -> Option<f64> {
        if self.flag()? {
            if self.flag()? {
                before.leading = u32::try_from(self.bits(6)?).ok()?;
                before.length = u32::try_from(self.bits(6)?).ok()? + 1;
            }
            let end = 64_u32.checked_sub(before.leading + before.length)?;
            if before.length == 0 {
                return None;
            }
            before.bits ^= self.bits(before.length)? << end;
        }
        Some(f64::from_bits(before.bits))
    }

    fn maybe(&mut self) -> Option<Option<f64>> {
        if !self.flag()? {
            return Some(None);
        }
        Some(Some(f64::from_bits(self.bits(64)?)))
    }

    fn length(&mut self, max: usize) -> Option<usize> {
        let length = usize::try_from(self.count()?).ok()?;
        (length <= max).then_some(length)
    }

    fn buckets(&mut self) -> Option<Buckets> {
        let length = self.length(BUCKETS_MAX)?;
        if length == 0 {
            return Some(Buckets::default());
        }
        let first = i32::try_from(self.signed()?).ok()?;
        let counts: Option<Vec<u64>> = (0..length).map(|_| self.count()).collect();
        Buckets::new(first, &counts?)
    }

    /// The next cell and its slot; none if there is none.
    pub(super) fn cell(&mut self, kind: Kind, before: &mut Before) -> Option<(i64, Cell)> {
        let change = self.change()?;
        before.distance = before.distance.wrapping_add(change);
        before.slot = before.slot.wrapping_add(before.distance);
        let cell = match kind {
            Kind::Gauge => {
                let count = self.count()?;
                let sum = self.number(&mut before.numbers[0])?;
                let (min, max) = if count == 1 {
                    (sum, sum)
                } else {
                    let min = self.number(&mut before.numbers[1])?;
                    (min, self.number(&mut before.numbers[2])?)
                };
                Cell::Gauge {
                    count,
                    sum,
                    min,
                    max,
                }
            }
            Kind::Counter => Cell::Counter(self.number(&mut before.numbers[0])?),
            Kind::Histogram if self.flag()? => {
                let own = self.exponential(before)?;
                Cell::Histogram(Histogram::Exponential(own))
            }
            Kind::Histogram => Cell::Histogram(Histogram::Explicit(self.explicit(before)?)),
        };
        Some((before.slot, cell))
    }

    fn change(&mut self) -> Option<i64> {
        if !self.flag()? {
            return Some(0);
        }
        for (_, _, bits) in CLASSES {
            if !self.flag()? {
                let value = self.bits(bits)?.cast_signed();
                return Some((value << (64 - bits)) >> (64 - bits));
            }
        }
        Some(self.bits(64)?.cast_signed())
    }

    fn explicit(&mut self, before: &mut Before) -> Option<Explicit> {
        if !self.flag()? {
            let length = self.length(BOUNDS_MAX)?;
            let bounds: Option<Vec<f64>> = (0..length)
                .map(|_| Some(f64::from_bits(self.bits(64)?)))
                .collect();
            before.bounds = Some(bounds?.into());
        }
        let bounds = Arc::clone(before.bounds.as_ref()?);
        let counts: Option<Vec<u64>> = (0..=bounds.len()).map(|_| self.count()).collect();
        Some(Explicit {
            bounds,
            counts: counts?,
            sum: self.number(&mut before.numbers[0])?,
            min: self.maybe()?,
            max: self.maybe()?,
        })
    }

    fn exponential(&mut self, before: &mut Before) -> Option<Exponential> {
        let scale = i32::try_from(self.signed()?).ok()?;
        Some(Exponential {
            zero: self.count()?,
            zero_threshold: self.maybe()?.unwrap_or(0.0),
            positive: self.buckets()?,
            negative: self.buckets()?,
            sum: self.number(&mut before.numbers[0])?,
            min: self.maybe()?,
            max: self.maybe()?,
            ..Exponential::empty(scale)
        })
    }
}

#[cfg(test)]
mod tests;
