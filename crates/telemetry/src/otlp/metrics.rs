//! Metric points of a request.
//!
//! A summary, which OpenTelemetry keeps for old programs only, becomes what Prometheus makes of it: a
//! count, a sum, and a gauge for each quantile. A sum that may fall and counts from the beginning is
//! a gauge: nobody asks for its rate.

use std::borrow::Cow;
use std::sync::Arc;

use atoll_base::Timestamp;

use super::attributes::{bounded, plain, text};
use super::batch::ITEMS_MAX;
use super::decode::{Decoded, Sender, Unfit, span_id, trace_id};
use super::message::{
    self, ExponentialHistogramDataPoint, ExportMetricsServiceRequest, HistogramDataPoint, KeyValue,
    Metric, NumberDataPoint, SummaryDataPoint,
};
use super::notes::{Note, Notes};
use super::resource::Origin;
use super::wire::{Malformed, Message as _, Repeated};
use crate::metrics::{
    Buckets, Exemplar, Explicit, Exponential, Histogram, Labels, MetricPoint, Temporality, Value,
};

/// A metric's name and unit, a label's key and value take at most this many bytes. What is longer is
/// refused: cut names would make one series of two.
const NAME_BYTES_MAX: usize = 255;
const UNIT_BYTES_MAX: usize = 63;
const LABEL_BYTES_MAX: usize = 256;

/// What a metric means, for a person.
const HELP_BYTES_MAX: usize = 1 << 10;

/// Labels of a series.
const LABELS_MAX: usize = 32;

/// Exemplars that are kept of one point.
const EXEMPLARS_MAX: usize = 4;

/// Buckets that an exponential histogram may come with; OpenTelemetry's SDKs send 160.
const BUCKETS_SENT_MAX: usize = 4096;

/// The points of one request take at most this many bytes, and what the last of them takes: each quantile of a
/// summary becomes a point, with all labels.
const POINTS_BYTES_MAX: usize = 64 << 20;

/// A point that says that there is nothing.
const NO_VALUE: u32 = 1;

/// `AggregationTemporality`
const DELTA: u32 = 1;
const CUMULATIVE: u32 = 2;

/// What all points of one metric have in common.
struct Common<'a> {
    name: Arc<str>,
    unit: Arc<str>,
    help: Arc<str>,
    origin: &'a Origin,
    sender: &'a Sender,
}

/// When a point was, and since when it counts.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    time: u64,
}

/// The points so far.
#[derive(Default)]
struct Points {
    points: Vec<MetricPoint>,
    notes: Notes,
    /// What they take in memory, about.
    bytes: usize,
}

/// The points of a request.
///
/// # Errors
/// When it cannot be read; nothing of it should be taken then.
pub fn decode(body: &[u8], sender: &Sender) -> Result<Decoded<Vec<MetricPoint>>, Malformed> {
    let mut out = Points::default();
    for resource in ExportMetricsServiceRequest::read(body)?
        .resource_metrics
        .iter()
    {
        let resource = resource?;
        let told = &resource.resource;
        let (origin, _) = Origin::read(told, sender, &mut String::new(), &mut out.notes)?;
        for scope in resource.scope_metrics.iter() {
            for own in scope?.metrics.iter() {
                metric(&own?, &origin, sender, &mut out)?;
            }
        }
    }
    let Points {
        points: items,
        notes,
        ..
    } = out;
    Ok(Decoded { items, notes })
}

fn metric(
    own: &Metric<'_>,
    origin: &Origin,
    sender: &Sender,
    out: &mut Points,
) -> Result<(), Malformed> {
    let is_named = !own.name.is_empty() && own.name.len() <= NAME_BYTES_MAX;
    if !is_named || own.unit.len() > UNIT_BYTES_MAX {
        out.notes.add(Note::Unsound, length(own));
        return Ok(());
    }
    let mut help = String::new();
    bounded(own.description, HELP_BYTES_MAX, &mut help, &mut out.notes);
    let common = Common {
        name: text(own.name, &mut out.notes).into(),
        unit: text(own.unit, &mut out.notes).into(),
        help: help.into(),
        origin,
        sender,
    };
    if let Some(gauge) = &own.gauge {
        for point in gauge.data_points.iter() {
            number(&common, &point?, Value::Gauge, out)?;
        }
    }
    if let Some(sum) = &own.sum {
        sums(&common, sum, out)?;
    }
    if let Some(own) = &own.histogram {
        let temporality = temporality(own.aggregation_temporality);
        for point in own.data_points.iter() {
            explicit(&common, &point?, temporality, out)?;
        }
    }
    if let Some(own) = &own.exponential_histogram {
        let temporality = temporality(own.aggregation_temporality);
        for point in own.data_points.iter() {
            exponential(&common, &point?, temporality, out)?;
        }
    }
    if let Some(own) = &own.summary {
        for point in own.data_points.iter() {
            summary(&common, &point?, out)?;
        }
    }
    Ok(())
}

fn length(own: &Metric<'_>) -> u64 {
    let lengths = [
        own.gauge.as_ref().map(|own| own.data_points.len()),
        own.sum.as_ref().map(|own| own.data_points.len()),
        own.histogram.as_ref().map(|own| own.data_points.len()),
        own.exponential_histogram
            .as_ref()
            .map(|own| own.data_points.len()),
        own.summary.as_ref().map(|own| own.data_points.len()),
    ];
    lengths.iter().flatten().sum::<usize>() as u64
}

const fn temporality(told: u32) -> Option<Temporality> {
    match told {
        DELTA => Some(Temporality::Delta),
        CUMULATIVE => Some(Temporality::Cumulative),
        _ => None,
    }
}

fn sums(common: &Common<'_>, sum: &message::Sum<'_>, out: &mut Points) -> Result<(), Malformed> {
    let Some(temporality) = temporality(sum.aggregation_temporality) else {
        out.notes.add(Note::Unsound, sum.data_points.len() as u64);
        return Ok(());
    };
    let is_level = !sum.is_monotonic && temporality == Temporality::Cumulative;
    for point in sum.data_points.iter() {
        let value = |value| {
            if is_level {
                Value::Gauge(value)
            } else {
                Value::Sum(value, temporality)
            }
        };
        number(common, &point?, value, out)?;
    }
    Ok(())
}

fn number(
    common: &Common<'_>,
    point: &NumberDataPoint<'_>,
    value: impl Fn(f64) -> Value,
    out: &mut Points,
) -> Result<(), Malformed> {
    if point.flags & NO_VALUE != 0 {
        return Ok(());
    }
    let told = finite(point.as_double, point.as_int);
    let times = Times {
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
    };
    let value = told.map(value).ok_or(Note::Unsound);
    out.add(common, point.attributes, times, value, point.exemplars)
}

/// The number that was told in one of two forms, if it is one.
fn finite(real: Option<f64>, whole: Option<i64>) -> Option<f64> {
    let told = real.or_else(|| whole.map(|whole| whole as f64));
    told.filter(|told| told.is_finite())
}

fn explicit(
    common: &Common<'_>,
    point: &HistogramDataPoint<'_>,
    temporality: Option<Temporality>,
    out: &mut Points,
) -> Result<(), Malformed> {
    if point.flags & NO_VALUE != 0 {
        return Ok(());
    }
    let mut counts = point.bucket_counts.clone();
    if counts.is_empty() && point.explicit_bounds.is_empty() {
        counts.push(point.count);
    }
    let own = Explicit {
        bounds: point.explicit_bounds.as_slice().into(),
        counts,
        sum: point.sum.unwrap_or(0.0),
        min: point.min.filter(|min| min.is_finite()),
        max: point.max.filter(|max| max.is_finite()),
    };
    let value = temporality.filter(|_| own.is_sound());
    let value = value.map(|temporality| Value::Histogram(Histogram::Explicit(own), temporality));
    let times = Times {
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
    };
    let value = value.ok_or(Note::Unsound);
    out.add(common, point.attributes, times, value, point.exemplars)
}

fn exponential(
    common: &Common<'_>,
    point: &ExponentialHistogramDataPoint<'_>,
    temporality: Option<Temporality>,
    out: &mut Points,
) -> Result<(), Malformed> {
    if point.flags & NO_VALUE != 0 {
        return Ok(());
    }
    let own = temporality.and_then(|temporality| {
        let mut own = Exponential {
            zero: point.zero_count,
            zero_threshold: point.zero_threshold,
            positive: buckets(&point.positive)?,
            negative: buckets(&point.negative)?,
            sum: point.sum.unwrap_or(0.0),
            min: point.min.filter(|min| min.is_finite()),
            max: point.max.filter(|max| max.is_finite()),
            ..Exponential::empty(point.scale)
        };
        if !own.is_sound() {
            return None;
        }
        own.fit();
        let own = Histogram::Exponential(own);
        Some(Value::Histogram(own, temporality))
    });
    let times = Times {
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
    };
    let value = own.ok_or(Note::Unsound);
    out.add(common, point.attributes, times, value, point.exemplars)
}

fn buckets(sent: &message::Buckets) -> Option<Buckets> {
    let counts = &sent.bucket_counts.0;
    let few = counts.len() <= BUCKETS_SENT_MAX;
    few.then(|| Buckets::new(sent.offset, counts))?
}

fn summary(
    common: &Common<'_>,
    point: &SummaryDataPoint<'_>,
    out: &mut Points,
) -> Result<(), Malformed> {
    if point.flags & NO_VALUE != 0 {
        return Ok(());
    }
    let times = Times {
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
    };
    let sum = if point.sum.is_finite() {
        point.sum
    } else {
        0.0
    };
    let count = Ok(Value::Gauge(point.count as f64));
    // Once for all: there may be many quantiles, and many labels.
    let read = common.point(point.attributes, times, count, &mut out.notes);
    let like = match read {
        Ok(like) => like,
        Err(Unfit::Item(note)) => {
            out.notes.add(note, 2 + point.quantile_values.len() as u64);
            return Ok(());
        }
        Err(Unfit::Request(malformed)) => return Err(malformed),
    };
    for (ending, value) in [("_count", point.count as f64), ("_sum", sum)] {
        out.take(Ok(MetricPoint {
            name: format!("{}{ending}", common.name).into(),
            value: Value::Sum(value, Temporality::Cumulative),
            ..like.clone()
        }))?;
    }
    for (at, own) in point.quantile_values.iter().enumerate() {
        if !out.has_room(point.quantile_values.len() - at) {
            break;
        }
        let own = own?;
        if own.value.is_finite() {
            let labels = like.labels.iter();
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let quantile = ("quantile".to_owned(), own.quantile.to_string());
            out.take(Ok(MetricPoint {
                labels: labels.chain([quantile]).collect(),
                value: Value::Gauge(own.value),
                ..like.clone()
            }))?;
        }
    }
    Ok(())
}

impl Points {
    /// Whether one more point is taken; if not, all `left` are counted as refused.
    fn has_room(&mut self, left: usize) -> bool {
        let has_room = self.points.len() < ITEMS_MAX && self.bytes < POINTS_BYTES_MAX;
        if !has_room {
            self.notes.add(Note::TooMany, left as u64);
        }
        has_room
    }

    fn add<'a>(
        &mut self,
        common: &Common<'_>,
        attributes: Repeated<'a, KeyValue<'a>>,
        times: Times,
        value: Result<Value, Note>,
        exemplars: Repeated<'a, message::Exemplar<'a>>,
    ) -> Result<(), Malformed> {
        let item = common.point(attributes, times, value, &mut self.notes);
        let item = item.and_then(|item| Ok(with_exemplars(item, exemplars, common.sender)?));
        self.take(item)
    }

    /// Takes a point, or counts why not.
    fn take(&mut self, item: Result<MetricPoint, Unfit>) -> Result<(), Malformed> {
        match item {
            Ok(point) if self.has_room(1) => {
                self.bytes += memory(&point);
                self.points.push(point);
            }
            Ok(_) => {}
            Err(Unfit::Item(note)) => self.notes.add(note, 1),
            Err(Unfit::Request(malformed)) => return Err(malformed),
        }
        Ok(())
    }
}

/// What a point takes, about.
fn memory(point: &MetricPoint) -> usize {
    let labels = point.labels.iter();
    let labels = labels.map(|(key, value)| key.len() + value.len() + size_of::<[String; 2]>());
    let numbers = match &point.value {
        Value::Histogram(Histogram::Explicit(own), _) => 2 * own.counts.len(),
        Value::Histogram(Histogram::Exponential(own), _) => {
            own.positive.parts().1.len() + own.negative.parts().1.len()
        }
        _ => 0,
    };
    size_of::<MetricPoint>() + labels.sum::<usize>() + numbers * size_of::<u64>()
}

impl Common<'_> {
    fn point<'a>(
        &self,
        attributes: Repeated<'a, KeyValue<'a>>,
        times: Times,
        value: Result<Value, Note>,
        notes: &mut Notes,
    ) -> Result<MetricPoint, Unfit> {
        let time = self.sender.time(times.time).unwrap_or(self.sender.now);
        if self.sender.is_future(time) {
            return Err(Note::Future.into());
        }
        let start = self.sender.time(times.start).filter(|start| *start <= time);
        Ok(MetricPoint {
            name: Arc::clone(&self.name),
            unit: Arc::clone(&self.unit),
            help: Arc::clone(&self.help),
            labels: self.labels(attributes, notes)?,
            start,
            time,
            value: value?,
            exemplars: Vec::new(),
        })
    }

    fn labels<'a>(
        &self,
        attributes: Repeated<'a, KeyValue<'a>>,
        notes: &mut Notes,
    ) -> Result<Labels, Unfit> {
        if attributes.len() > LABELS_MAX {
            return Err(Note::Labels.into());
        }
        let mut pairs = Vec::with_capacity(attributes.len() + 2);
        for pair in attributes.iter() {
            let pair = pair?;
            let mut value = String::new();
            plain(&pair.value, LABEL_BYTES_MAX + 1, &mut value, notes)?;
            if pair.key.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
                return Err(Note::Labels.into());
            }
            // The names by which Prometheus moves a label aside that it needs itself.
            let key = match pair.key {
                b"service" => Cow::Borrowed("exported_service"),
                b"instance" => Cow::Borrowed("exported_instance"),
                key => text(key, notes),
            };
            pairs.push((key.into_owned(), value));
        }
        pairs.push(("service".to_owned(), self.origin.service.to_string()));
        if !self.origin.instance.is_empty() {
            pairs.push(("instance".to_owned(), self.origin.instance.clone()));
        }
        Ok(pairs.into_iter().collect())
    }
}

fn with_exemplars<'a>(
    mut point: MetricPoint,
    sent: Repeated<'a, message::Exemplar<'a>>,
    sender: &Sender,
) -> Result<MetricPoint, Malformed> {
    for own in sent.iter() {
        let own = own?;
        let time: Timestamp = sender.time(own.time_unix_nano).unwrap_or(point.time);
        let value = finite(own.as_double, own.as_int);
        let (Some(value), Some(trace)) = (value, trace_id(own.trace_id)) else {
            continue;
        };
        if !sender.is_future(time) && point.exemplars.len() < EXEMPLARS_MAX {
            point.exemplars.push(Exemplar {
                time,
                value,
                trace,
                span: span_id(own.span_id),
            });
        }
    }
    Ok(point)
}
