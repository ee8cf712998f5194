//! From our own to the messages of OTLP: the way back of [`crate::otlp::decode`].
//!
//! What came over OTLP goes on as it came, as far as we kept it: attributes of a resource and the
//! name of a scope, which were written among the attributes, go back to their places.

use std::collections::BTreeMap;

use atoll_base::{RevisionNumber, ServiceName, Timestamp};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{self as proto, exemplar, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind as ProtoKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan, Status};
use serde_json::{Map, Value as Json};

use crate::NewRecord;
use crate::metrics::{self, Histogram, MetricPoint, Temporality, Value};
use crate::record::{Level, Stream};
use crate::span::{Span, SpanKind, SpanStatus};

/// What items of one resource and scope have in common; as texts, so that they can be grouped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    service: ServiceName,
    instance: String,
    revision: RevisionNumber,
    /// Attributes of the resource, as JSON.
    resource: String,
    scope: String,
    scope_version: String,
}

/// Spans as a request.
pub fn traces(spans: &[Span]) -> ExportTraceServiceRequest {
    let mut groups: BTreeMap<Group, Vec<ProtoSpan>> = BTreeMap::new();
    for span in spans {
        let of = (&span.service, span.instance.as_str(), span.revision);
        let (group, attributes) = group(of, &span.attributes);
        groups
            .entry(group)
            .or_default()
            .push(one_span(span, attributes));
    }
    let resource_spans = groups.into_iter().map(|(group, spans)| ResourceSpans {
        resource: Some(group.resource()),
        scope_spans: vec![ScopeSpans {
            scope: group.scope(),
            spans,
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

/// Log records as a request.
pub fn logs(records: &[NewRecord]) -> ExportLogsServiceRequest {
    let mut groups: BTreeMap<Group, Vec<LogRecord>> = BTreeMap::new();
    for record in records {
        let of = (&record.service, record.instance.as_str(), record.revision);
        let (group, attributes) = group(of, &record.attributes);
        groups
            .entry(group)
            .or_default()
            .push(one_record(record, attributes));
    }
    let resource_logs = groups.into_iter().map(|(group, log_records)| ResourceLogs {
        resource: Some(group.resource()),
        scope_logs: vec![ScopeLogs {
            scope: group.scope(),
            log_records,
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    });
    ExportLogsServiceRequest {
        resource_logs: resource_logs.collect(),
    }
}

/// Metric points as a request. Their labels say whose they are; as a resource, the service does.
pub fn metrics(points: &[MetricPoint]) -> ExportMetricsServiceRequest {
    let mut services: BTreeMap<(&str, &str), Vec<proto::Metric>> = BTreeMap::new();
    for point in points {
        let label = |key| point.labels.get(key).unwrap_or_default();
        let whose = (label("service"), label("instance"));
        services.entry(whose).or_default().push(one_metric(point));
    }
    let resource_metrics = services.into_iter().map(|((service, instance), metrics)| {
        let mut attributes = vec![text("service.name", service)];
        if !instance.is_empty() {
            attributes.push(text("service.instance.id", instance));
        }
        proto::ResourceMetrics {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_metrics: vec![proto::ScopeMetrics {
                metrics,
                ..proto::ScopeMetrics::default()
            }],
            schema_url: String::new(),
        }
    });
    ExportMetricsServiceRequest {
        resource_metrics: resource_metrics.collect(),
    }
}

fn group(
    (service, instance, revision): (&ServiceName, &str, RevisionNumber),
    attributes: &str,
) -> (Group, Vec<KeyValue>) {
    let mut own = object(attributes);
    let mut take = |key: &str| match own.remove(key) {
        Some(Json::String(text)) => text,
        _ => String::new(),
    };
    let (scope, scope_version) = (take("otel.scope.name"), take("otel.scope.version"));
    let mut resource = Map::new();
    // A name that was brought into our form stays beside it.
    own.retain(|key, value| match key.strip_prefix("resource.") {
        Some(key) if key != "service.name" => {
            resource.insert(key.to_owned(), value.take());
            false
        }
        _ => true,
    });
    let resource = if resource.is_empty() {
        String::new()
    } else {
        Json::Object(resource).to_string()
    };
    let group = Group {
        service: service.clone(),
        instance: instance.to_owned(),
        revision,
        resource,
        scope,
        scope_version,
    };
    (group, pairs(own))
}

impl Group {
    fn resource(&self) -> Resource {
        let mut attributes = vec![text("service.name", self.service.as_str())];
        if !self.instance.is_empty() {
            attributes.push(text("service.instance.id", &self.instance));
        }
        if self.revision.0 > 0 {
            attributes.push(text("service.version", &self.revision.to_string()));
        }
        attributes.extend(pairs(object(&self.resource)));
        Resource {
            attributes,
            ..Resource::default()
        }
    }

    fn scope(&self) -> Option<InstrumentationScope> {
        (!self.scope.is_empty()).then(|| InstrumentationScope {
            name: self.scope.clone(),
            version: self.scope_version.clone(),
            ..InstrumentationScope::default()
        })
    }
}

fn one_span(span: &Span, mut attributes: Vec<KeyValue>) -> ProtoSpan {
    if let Some(caller) = &span.caller {
        attributes.push(text("atoll.caller", caller));
    }
    let known = |list: &[KeyValue]| {
        list.iter()
            .any(|own| own.key == "http.response.status_code")
    };
    if let Some(status) = span.http_status.filter(|_| !known(&attributes)) {
        attributes.push(pair(
            "http.response.status_code",
            Kind::IntValue(status.into()),
        ));
    }
    if span.inferred {
        attributes.push(pair("atoll.inferred", Kind::BoolValue(true)));
    }
    let kind = match span.kind {
        SpanKind::Internal => ProtoKind::Internal,
        SpanKind::Server => ProtoKind::Server,
        SpanKind::Client => ProtoKind::Client,
        SpanKind::Producer => ProtoKind::Producer,
        SpanKind::Consumer => ProtoKind::Consumer,
    };
    let code = match span.status {
        SpanStatus::Unset => StatusCode::Unset,
        SpanStatus::Ok => StatusCode::Ok,
        SpanStatus::Error => StatusCode::Error,
    };
    ProtoSpan {
        trace_id: span.trace.get().to_be_bytes().to_vec(),
        span_id: span.span.get().to_be_bytes().to_vec(),
        parent_span_id: span
            .parent
            .map(|id| id.get().to_be_bytes().to_vec())
            .unwrap_or_default(),
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.start.after(span.duration)),
        attributes,
        events: array(&span.events).into_iter().map(event).collect(),
        links: array(&span.links).into_iter().filter_map(link).collect(),
        status: Some(Status {
            message: span.message.clone(),
            code: code.into(),
        }),
        ..ProtoSpan::default()
    }
}

fn event(mut event: Json) -> Event {
    let time = event["time"].as_str().and_then(|time| time.parse().ok());
    Event {
        time_unix_nano: time.map_or(0, nanos),
        name: event["name"].as_str().unwrap_or_default().to_owned(),
        attributes: attributes_of(&mut event),
        ..Event::default()
    }
}

fn link(mut link: Json) -> Option<Link> {
    let trace = atoll_base::TraceId::parse(link["trace"].as_str()?.as_bytes())?;
    let span = atoll_base::SpanId::parse(link["span"].as_str()?.as_bytes())?;
    Some(Link {
        trace_id: trace.get().to_be_bytes().to_vec(),
        span_id: span.get().to_be_bytes().to_vec(),
        attributes: attributes_of(&mut link),
        ..Link::default()
    })
}

fn attributes_of(item: &mut Json) -> Vec<KeyValue> {
    match item["attributes"].take() {
        Json::Object(own) => pairs(own),
        _ => Vec::new(),
    }
}

fn one_record(record: &NewRecord, mut attributes: Vec<KeyValue>) -> LogRecord {
    if record.stream != Stream::Otlp {
        attributes.push(text("log.iostream", record.stream.as_str()));
    }
    let number = match record.level {
        None => 0,
        Some(Level::Trace) => 1,
        Some(Level::Debug) => 5,
        Some(Level::Info) => 9,
        Some(Level::Warn) => 13,
        Some(Level::Error) => 17,
        Some(Level::Fatal) => 21,
    };
    let trace = record.trace.map(|id| id.get().to_be_bytes().to_vec());
    let span = record.span.map(|id| id.get().to_be_bytes().to_vec());
    LogRecord {
        time_unix_nano: nanos(record.time),
        observed_time_unix_nano: nanos(record.time),
        severity_number: number,
        severity_text: record.level.map_or("", Level::as_str).to_uppercase(),
        body: Some(AnyValue {
            value: Some(Kind::StringValue(record.message.clone())),
        }),
        attributes,
        trace_id: trace.unwrap_or_default(),
        span_id: span.unwrap_or_default(),
        ..LogRecord::default()
    }
}

fn one_metric(point: &MetricPoint) -> proto::Metric {
    let own = point.labels.iter();
    let own = own.filter(|(key, _)| !matches!(*key, "service" | "instance"));
    let attributes: Vec<KeyValue> = own.map(|(key, value)| text(key, value)).collect();
    let exemplars: Vec<proto::Exemplar> = point.exemplars.iter().map(one_exemplar).collect();
    let start = point.start.map_or(0, nanos);
    let number = |value: f64| proto::NumberDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano: start,
        time_unix_nano: nanos(point.time),
        exemplars: exemplars.clone(),
        flags: 0,
        value: Some(number_data_point::Value::AsDouble(value)),
    };
    let data = match &point.value {
        Value::Gauge(value) => Data::Gauge(proto::Gauge {
            data_points: vec![number(*value)],
        }),
        Value::Sum(value, counts) => Data::Sum(proto::Sum {
            data_points: vec![number(*value)],
            aggregation_temporality: temporality(*counts),
            is_monotonic: true,
        }),
        Value::Histogram(Histogram::Explicit(own), counts) => Data::Histogram(proto::Histogram {
            data_points: vec![proto::HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: nanos(point.time),
                count: own
                    .counts
                    .iter()
                    .fold(0, |sum, count| sum.saturating_add(*count)),
                sum: Some(own.sum),
                bucket_counts: own.counts.clone(),
                explicit_bounds: own.bounds.to_vec(),
                exemplars,
                flags: 0,
                min: own.min,
                max: own.max,
            }],
            aggregation_temporality: temporality(*counts),
        }),
        Value::Histogram(Histogram::Exponential(own), counts) => {
            Data::ExponentialHistogram(proto::ExponentialHistogram {
                data_points: vec![proto::ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano: start,
                    time_unix_nano: nanos(point.time),
                    count: own.count(),
                    sum: Some(own.sum),
                    scale: own.scale,
                    zero_count: own.zero,
                    positive: Some(buckets(&own.positive)),
                    negative: Some(buckets(&own.negative)),
                    flags: 0,
                    exemplars,
                    min: own.min,
                    max: own.max,
                    zero_threshold: own.zero_threshold,
                }],
                aggregation_temporality: temporality(*counts),
            })
        }
    };
    proto::Metric {
        name: point.name.to_string(),
        description: point.help.to_string(),
        unit: point.unit.to_string(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn one_exemplar(own: &metrics::Exemplar) -> proto::Exemplar {
    let span = own.span.map(|id| id.get().to_be_bytes().to_vec());
    proto::Exemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: nanos(own.time),
        span_id: span.unwrap_or_default(),
        trace_id: own.trace.get().to_be_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(own.value)),
    }
}

fn buckets(own: &metrics::Buckets) -> Buckets {
    let (offset, counts) = own.parts();
    Buckets {
        offset,
        bucket_counts: counts.to_vec(),
    }
}

fn temporality(counts: Temporality) -> i32 {
    let counts = match counts {
        Temporality::Delta => proto::AggregationTemporality::Delta,
        Temporality::Cumulative => proto::AggregationTemporality::Cumulative,
    };
    counts.into()
}

/// A time in nanoseconds since 1970.
fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros())
        .unwrap_or(0)
        .saturating_mul(1000)
}

/// An object that was written as text; empty where it is none.
fn object(text: &str) -> Map<String, Json> {
    serde_json::from_str(text).unwrap_or_default()
}

fn array(text: &str) -> Vec<Json> {
    serde_json::from_str(text).unwrap_or_default()
}

fn pairs(object: Map<String, Json>) -> Vec<KeyValue> {
    let pairs = object.into_iter();
    pairs
        .map(|(key, value)| KeyValue {
            key,
            value: Some(any(value)),
            key_strindex: 0,
        })
        .collect()
}

/// The depth is that of attributes that were taken: eight.
fn any(value: Json) -> AnyValue {
    let kind = match value {
        Json::Null => None,
        Json::Bool(truth) => Some(Kind::BoolValue(truth)),
        Json::Number(number) => Some(match number.as_i64() {
            Some(whole) => Kind::IntValue(whole),
            None => Kind::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Json::String(text) => Some(Kind::StringValue(text)),
        Json::Array(list) => Some(Kind::ArrayValue(ArrayValue {
            values: list.into_iter().map(any).collect(),
        })),
        Json::Object(own) => Some(Kind::KvlistValue(KeyValueList { values: pairs(own) })),
    };
    AnyValue { value: kind }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Kind::StringValue(value.to_owned()))
}

fn pair(key: &str, value: Kind) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

#[cfg(test)]
mod tests;
