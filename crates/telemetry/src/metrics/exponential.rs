//! Histograms whose buckets grow by a factor, after OpenTelemetry's data model.
//!
//! Bucket `i` at scale `s` holds what is above `b^i` up to `b^(i+1)`, where `b` is 2 to the power of
//! `2^-s`. One scale less halves the buckets exactly: two become one. So any two histograms can be
//! added without a loss, at the finest scale that both have and that keeps the buckets few. The
//! order in which many are added does not matter.
//! <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram>

/// Buckets on each side of zero, as OpenTelemetry's SDKs have it.
pub(super) const BUCKETS_MAX: usize = 160;

/// Scales that OpenTelemetry's SDKs use.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// The least number has 2 to the power of -1074, the greatest of 1024.
const EXPONENT_MAX: f64 = 1080.0;

/// Counts in buckets that follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    /// The index of the first; 0 if there is none.
    offset: i32,
    /// Neither the first nor the last is 0.
    counts: Vec<u64>,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Exponential {
    /// How fine the buckets are.
    pub scale: i32,
    /// Values that count as 0.
    pub zero: u64,
    /// Up to here, by their size.
    pub zero_threshold: f64,
    /// Values above it.
    pub positive: Buckets,
    /// Values below it, by their size.
    pub negative: Buckets,
    /// All values together.
    pub sum: f64,
    /// The least value, if it is known.
    pub min: Option<f64>,
    /// The greatest value, if it is known.
    pub max: Option<f64>,
}

impl Buckets {
    /// Buckets from `offset` on; none if there are far too many, or an index would not fit.
    pub fn new(offset: i32, counts: &[u64]) -> Option<Self> {
        let first = counts.iter().position(|count| *count > 0);
        let Some(first) = first else {
            return Some(Self::default());
        };
        let last = counts.iter().rposition(|count| *count > 0).unwrap_or(first);
        offset.checked_add(i32::try_from(last).ok()?)?;
        Some(Self {
            offset: offset + i32::try_from(first).ok()?,
            counts: counts[first..=last].to_vec(),
        })
    }

    /// The index of the first bucket, and the counts from there on.
    pub fn parts(&self) -> (i32, &[u64]) {
        (self.offset, &self.counts)
    }

    fn total(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// First and last index.
    fn range(&self) -> Option<(i64, i64)> {
        let length = i64::try_from(self.counts.len()).ok()?;
        let first = i64::from(self.offset);
        (length > 0).then_some((first, first + length - 1))
    }

    /// `shift` scales coarser.
    fn coarser(&self, shift: u32) -> Self {
        let Some((first, last)) = self.range().filter(|_| shift > 0) else {
            return self.clone();
        };
        let low = first >> shift.min(62);
        let mut counts = vec![0_u64; place((last >> shift.min(62)) - low) + 1];
        for (index, count) in (first..).zip(&self.counts) {
            let at = &mut counts[place((index >> shift.min(62)) - low)];
            *at = at.saturating_add(*count);
        }
        Self {
            offset: i32::try_from(low).expect("nearer to 0 than it was"),
            counts,
        }
    }

    /// Adds `other`, which is of the same scale and near.
    fn add(&mut self, other: &Self) {
        let Some((first, last)) = other.range() else {
            return;
        };
        let Some((own_first, own_last)) = self.range() else {
            *self = other.clone();
            return;
        };
        let (low, high) = (own_first.min(first), own_last.max(last));
        let mut counts = vec![0_u64; place(high - low) + 1];
        for (from, list) in [(own_first, &self.counts), (first, &other.counts)] {
            for (at, count) in counts[place(from - low)..].iter_mut().zip(list) {
                *at = at.saturating_add(*count);
            }
        }
        self.offset = i32::try_from(low).expect("one of the two offsets");
        self.counts = counts;
    }

    /// Without `earlier`, which is of the same scale; none if that had more in any bucket.
    fn without(&self, earlier: &Self) -> Option<Self> {
        let Some((first, last)) = earlier.range() else {
            return Some(self.clone());
        };
        let (own_first, own_last) = self.range()?;
        if first < own_first || last > own_last {
            return None;
        }
        let mut counts = self.counts.clone();
        let from = place(first - own_first);
        for (at, count) in counts[from..].iter_mut().zip(&earlier.counts) {
            *at = at.checked_sub(*count)?;
        }
        Self::new(self.offset, &counts)
    }
}

/// A distance between two indexes, of which the first is the lesser.
fn place(distance: i64) -> usize {
    usize::try_from(distance).expect("from the least index on")
}

/// By how many scales two ranges together must be coarser, to have no more than `BUCKETS_MAX`.
fn shift_needed(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> u32 {
    let (first, last) = match (a, b) {
        (Some(a), Some(b)) => (a.0.min(b.0), a.1.max(b.1)),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return 0,
    };
    let fits = |shift: &u32| (last >> shift) - (first >> shift) < BUCKETS_MAX as i64;
    (0..62).find(fits).unwrap_or(62)
}

impl Exponential {
    /// A histogram without values.
    pub fn empty(scale: i32) -> Self {
        Self {
            scale,
            zero: 0,
            zero_threshold: 0.0,
            positive: Buckets::default(),
            negative: Buckets::default(),
            sum: 0.0,
            min: None,
            max: None,
        }
    }

    /// Whether its numbers mean something: no bucket holds what no number can be.
    pub fn is_sound(&self) -> bool {
        let sides = [self.positive.range(), self.negative.range()];
        let reach = f64::from(self.scale).exp2() * EXPONENT_MAX;
        let within = |index: i64| (index as f64).abs() <= reach;
        let mut ends = sides.into_iter().flatten();
        SCALES.contains(&self.scale)
            && ends.all(|(first, last)| within(first) && within(last))
            && self.sum.is_finite()
            && self.zero_threshold.is_finite()
            && self.zero_threshold >= 0.0
    }

    /// As coarse as it needs to be to have no more than `BUCKETS_MAX` buckets on each side.
    pub fn fit(&mut self) {
        let needed = shift_needed(self.positive.range(), None);
        let shift = needed.max(shift_needed(self.negative.range(), None));
        *self = self.coarser(shift);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        let sides = self.positive.total().saturating_add(self.negative.total());
        self.zero.saturating_add(sides)
    }

    /// Adds another, of any scale. Values between the two thresholds of zero stay where they are.
    pub fn merge(&mut self, other: &Self) {
        let scale = self.scale.min(other.scale);
        let (mut own, other) = (self.at(scale), other.at(scale));
        let sides = [
            shift_needed(own.positive.range(), other.positive.range()),
            shift_needed(own.negative.range(), other.negative.range()),
        ];
        let shift = sides[0].max(sides[1]);
        own = own.coarser(shift);
        let other = other.coarser(shift);
        own.positive.add(&other.positive);
        own.negative.add(&other.negative);
        own.zero = own.zero.saturating_add(other.zero);
        own.zero_threshold = own.zero_threshold.max(other.zero_threshold);
        own.sum += other.sum;
        own.min = least(own.min, other.min);
        own.max = greatest(own.max, other.max);
        *self = own;
    }

    /// What was added since `earlier`; none if something was lost, so that it began anew.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        // A series gets coarser while it lasts, never finer.
        let before = (earlier.scale >= self.scale).then(|| earlier.at(self.scale))?;
        Some(Self {
            scale: self.scale,
            zero: self.zero.checked_sub(before.zero)?,
            zero_threshold: self.zero_threshold,
            positive: self.positive.without(&before.positive)?,
            negative: self.negative.without(&before.negative)?,
            sum: self.sum - before.sum,
            min: None,
            max: None,
        })
    }

    /// The value below which the part `q` (0 to 1) of all values lies; none if there are none.
    /// Off by no more than a bucket is wide: 2 % at scale 5, 4 % at scale 4.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let mut left = q.clamp(0.0, 1.0) * total as f64;
        let (first, counts) = self.negative.parts();
        for (at, count) in counts.iter().enumerate().rev().filter(|(_, c)| **c > 0) {
            if left <= *count as f64 {
                let part = 1.0 - left / *count as f64;
                return Some(self.bounded(-self.within(first, at, part)));
            }
            left -= *count as f64;
        }
        if left <= self.zero as f64 && self.zero > 0 {
            return Some(self.bounded(0.0));
        }
        left -= self.zero as f64;
        let (first, counts) = self.positive.parts();
        let mut last = 0.0;
        for (at, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            if left <= *count as f64 {
                let part = left.max(0.0) / *count as f64;
                return Some(self.bounded(self.within(first, at, part)));
            }
            left -= *count as f64;
            last = self.within(first, at, 1.0);
        }
        Some(self.bounded(last))
    }

    /// Values at or below `bound`, about: a bucket that `bound` lies in counts by its part.
    pub fn count_up_to(&self, bound: f64) -> f64 {
        let side = |buckets: &Buckets, size: f64| {
            let (first, counts) = buckets.parts();
            let place = size.log2() * f64::from(self.scale).exp2() - f64::from(first);
            let parts = counts.iter().enumerate();
            let parts =
                parts.map(|(at, count)| (place - at as f64).clamp(0.0, 1.0) * *count as f64);
            parts.sum::<f64>()
        };
        if bound < 0.0 {
            return self.negative.total() as f64 - side(&self.negative, -bound);
        }
        let below = self.negative.total().saturating_add(self.zero) as f64;
        if bound == 0.0 {
            below
        } else {
            below + side(&self.positive, bound)
        }
    }

    /// A value within a bucket, by the part of it that lies below.
    fn within(&self, first: i32, at: usize, part: f64) -> f64 {
        let index = f64::from(first) + at as f64 + part;
        (index * (-f64::from(self.scale)).exp2()).exp2()
    }

    fn bounded(&self, value: f64) -> f64 {
        let value = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(value, |max| value.min(max))
    }

    /// At a scale that is not finer than its own.
    fn at(&self, scale: i32) -> Self {
        self.coarser(u32::try_from(self.scale.saturating_sub(scale)).unwrap_or(0))
    }

    fn coarser(&self, shift: u32) -> Self {
        Self {
            scale: self.scale.saturating_sub_unsigned(shift),
            positive: self.positive.coarser(shift),
            negative: self.negative.coarser(shift),
            ..*self
        }
    }
}

pub(super) fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

pub(super) fn greatest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (one, other) => one.or(other),
    }
}
