//! Metric points of a request.
//!
//! A summary, which OpenTelemetry keeps for old programs only, becomes what Prometheus makes of it: a
//! count, a sum, and a gauge for each quantile. A sum that may fall and counts from the beginning is
//! a gauge: nobody asks for its rate.

use std::sync::Arc;

use atoll_base::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1 as proto;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as ProtoBuckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{exemplar, number_data_point};

use super::attributes::{bounded, plain};
use super::decode::{Decoded, Sender, span_id, trace_id};
use super::notes::{Note, Notes};
use super::resource::Origin;
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

/// A point that says that there is nothing.
const NO_VALUE: u32 = 1;

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

/// The points of `request`.
pub fn decode(request: &ExportMetricsServiceRequest, sender: &Sender) -> Decoded<MetricPoint> {
    let mut decoded = Decoded::new();
    for resource in &request.resource_metrics {
        let origin = Origin::read(resource.resource.as_ref(), sender, &mut decoded.notes);
        for scope in &resource.scope_metrics {
            for own in &scope.metrics {
                metric(own, &origin, sender, &mut decoded);
            }
        }
    }
    decoded
}

fn metric(own: &proto::Metric, origin: &Origin, sender: &Sender, out: &mut Decoded<MetricPoint>) {
    let Some(data) = &own.data else { return };
    let is_named = !own.name.is_empty() && own.name.len() <= NAME_BYTES_MAX;
    if !is_named || own.unit.len() > UNIT_BYTES_MAX {
        out.notes.add(Note::Unsound, length(data));
        return;
    }
    let common = Common {
        name: own.name.as_str().into(),
        unit: own.unit.as_str().into(),
        help: bounded(&own.description, HELP_BYTES_MAX, &mut out.notes).into(),
        origin,
        sender,
    };
    match data {
        Data::Gauge(gauge) => {
            for point in &gauge.data_points {
                number(&common, point, Value::Gauge, out);
            }
        }
        Data::Sum(sum) => sums(&common, sum, out),
        Data::Histogram(own) => {
            let temporality = temporality(own.aggregation_temporality());
            for point in own.data_points.iter().filter(|p| p.flags & NO_VALUE == 0) {
                explicit(&common, point, temporality, out);
            }
        }
        Data::ExponentialHistogram(own) => {
            let temporality = temporality(own.aggregation_temporality());
            for point in own.data_points.iter().filter(|p| p.flags & NO_VALUE == 0) {
                exponential(&common, point, temporality, out);
            }
        }
        Data::Summary(own) => {
            for point in own.data_points.iter().filter(|p| p.flags & NO_VALUE == 0) {
                summary(&common, point, out);
            }
        }
    }
}

fn length(data: &Data) -> u64 {
    let length = match data {
        Data::Gauge(own) => own.data_points.len(),
        Data::Sum(own) => own.data_points.len(),
        Data::Histogram(own) => own.data_points.len(),
        Data::ExponentialHistogram(own) => own.data_points.len(),
        Data::Summary(own) => own.data_points.len(),
    };
    length as u64
}

fn temporality(told: proto::AggregationTemporality) -> Option<Temporality> {
    match told {
        proto::AggregationTemporality::Unspecified => None,
        proto::AggregationTemporality::Delta => Some(Temporality::Delta),
        proto::AggregationTemporality::Cumulative => Some(Temporality::Cumulative),
    }
}

fn sums(common: &Common<'_>, sum: &proto::Sum, out: &mut Decoded<MetricPoint>) {
    let Some(temporality) = temporality(sum.aggregation_temporality()) else {
        out.notes.add(Note::Unsound, sum.data_points.len() as u64);
        return;
    };
    let is_level = !sum.is_monotonic && temporality == Temporality::Cumulative;
    for point in &sum.data_points {
        let value = |value| {
            if is_level {
                Value::Gauge(value)
            } else {
                Value::Sum(value, temporality)
            }
        };
        number(common, point, value, out);
    }
}

fn number<F>(
    common: &Common<'_>,
    point: &proto::NumberDataPoint,
    value: F,
    out: &mut Decoded<MetricPoint>,
) where
    F: Fn(f64) -> Value,
{
    if point.flags & NO_VALUE != 0 {
        return;
    }
    let told = match point.value {
        Some(number_data_point::Value::AsDouble(real)) => real,
        Some(number_data_point::Value::AsInt(whole)) => whole as f64,
        None => f64::NAN,
    };
    let times = Times {
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
    };
    let value = told.is_finite().then(|| value(told)).ok_or(Note::Unsound);
    let item = common.point(&point.attributes, times, value, &mut out.notes);
    out.take(item.map(|item| with_exemplars(item, &point.exemplars, common.sender)));
}

fn explicit(
    common: &Common<'_>,
    point: &proto::HistogramDataPoint,
    temporality: Option<Temporality>,
    out: &mut Decoded<MetricPoint>,
) {
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
    let item = common.point(&point.attributes, times, value, &mut out.notes);
    out.take(item.map(|item| with_exemplars(item, &point.exemplars, common.sender)));
}

fn exponential(
    common: &Common<'_>,
    point: &proto::ExponentialHistogramDataPoint,
    temporality: Option<Temporality>,
    out: &mut Decoded<MetricPoint>,
) {
    let own = temporality.and_then(|temporality| {
        let mut own = Exponential {
            zero: point.zero_count,
            zero_threshold: point.zero_threshold,
            positive: buckets(point.positive.as_ref())?,
            negative: buckets(point.negative.as_ref())?,
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
    let item = common.point(&point.attributes, times, value, &mut out.notes);
    out.take(item.map(|item| with_exemplars(item, &point.exemplars, common.sender)));
}

fn buckets(sent: Option<&ProtoBuckets>) -> Option<Buckets> {
    let Some(sent) = sent else {
        return Some(Buckets::default());
    };
    let few = sent.bucket_counts.len() <= BUCKETS_SENT_MAX;
    few.then(|| Buckets::new(sent.offset, &sent.bucket_counts))?
}

fn summary(common: &Common<'_>, point: &proto::SummaryDataPoint, out: &mut Decoded<MetricPoint>) {
    let times = Times {
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
    };
    let sum = if point.sum.is_finite() {
        point.sum
    } else {
        0.0
    };
    for (ending, value) in [("_count", point.count as f64), ("_sum", sum)] {
        let value = Ok(Value::Sum(value, Temporality::Cumulative));
        let item = common.point(&point.attributes, times, value, &mut out.notes);
        out.take(item.map(|item| MetricPoint {
            name: format!("{}{ending}", common.name).into(),
            ..item
        }));
    }
    for own in point
        .quantile_values
        .iter()
        .filter(|own| own.value.is_finite())
    {
        let value = Ok(Value::Gauge(own.value));
        let item = common.point(&point.attributes, times, value, &mut out.notes);
        out.take(item.map(|item| {
            let labels = item
                .labels
                .iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()));
            let quantile = ("quantile".to_owned(), own.quantile.to_string());
            let labels = labels.chain([quantile]).collect();
            MetricPoint { labels, ..item }
        }));
    }
}

impl Common<'_> {
    fn point(
        &self,
        attributes: &[KeyValue],
        times: Times,
        value: Result<Value, Note>,
        notes: &mut Notes,
    ) -> Result<MetricPoint, Note> {
        let time = self.sender.time(times.time).unwrap_or(self.sender.now);
        if self.sender.is_future(time) {
            return Err(Note::Future);
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

    fn labels(&self, attributes: &[KeyValue], notes: &mut Notes) -> Result<Labels, Note> {
        if attributes.len() > LABELS_MAX {
            return Err(Note::Labels);
        }
        let mut pairs = Vec::with_capacity(attributes.len() + 2);
        for pair in attributes {
            let value = plain(pair.value.as_ref(), LABEL_BYTES_MAX + 1, notes);
            if pair.key.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
                return Err(Note::Labels);
            }
            // The names by which Prometheus moves a label aside that it needs itself.
            let key = match pair.key.as_str() {
                "service" => "exported_service",
                "instance" => "exported_instance",
                key => key,
            };
            pairs.push((key.to_owned(), value));
        }
        pairs.push(("service".to_owned(), self.origin.service.to_string()));
        if !self.origin.instance.is_empty() {
            pairs.push(("instance".to_owned(), self.origin.instance.clone()));
        }
        Ok(pairs.into_iter().collect())
    }
}

fn with_exemplars(
    mut point: MetricPoint,
    sent: &[proto::Exemplar],
    sender: &Sender,
) -> MetricPoint {
    let read = sent.iter().filter_map(|own| {
        let value = match own.value? {
            exemplar::Value::AsDouble(real) => real,
            exemplar::Value::AsInt(whole) => whole as f64,
        };
        let time: Timestamp = sender.time(own.time_unix_nano).unwrap_or(point.time);
        Some(Exemplar {
            time,
            value,
            trace: trace_id(&own.trace_id)?,
            span: span_id(&own.span_id),
        })
    });
    let sound = read.filter(|own| own.value.is_finite() && !sender.is_future(own.time));
    point.exemplars = sound.take(EXEMPLARS_MAX).collect();
    point
}
