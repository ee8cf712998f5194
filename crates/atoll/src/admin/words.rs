//! The words that answers may have, for the OpenAPI document: pages and clients get them as enums.
//!
//! The words belong to other crates, which know nothing of OpenAPI, and stand in answers as text. So a
//! schema of each is made here, of the words themselves wherever their owner lists them. It says what they
//! mean, too: what is written above the member of an answer does not get past a schema of one's own.

use atoll_deploy::{Kind, Outcome};
use atoll_telemetry::metrics::Kind as MetricKind;
use atoll_telemetry::objective::{Aim, AlertState, Severity};
use atoll_telemetry::{Level, SpanKind, SpanStatus, Stream};
use serde_json::{Value, json};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

/// One of these, which tell `what`.
fn words<const N: usize>(what: &str, all: [&str; N]) -> Object {
    ObjectBuilder::new()
        .description(Some(what))
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(all))
        .build()
}

/// One of these, which tell `what`, or null.
fn words_or_null<const N: usize>(what: &str, all: [&str; N]) -> Object {
    let all = all.map(|word| json!(word)).into_iter();
    ObjectBuilder::new()
        .description(Some(what))
        .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
        .enum_values(Some(all.chain([Value::Null])))
        .build()
}

pub(super) fn aim() -> Object {
    words(
        "What users may expect: `availability`, that requests do not fail; `latency`, that they are answered in time.",
        [Aim::Availability, Aim::Latency].map(Aim::as_str),
    )
}

pub(super) fn severity() -> Object {
    words(
        "`page`: somebody must look now; `ticket`: within days.",
        Severity::ALL.map(Severity::as_str),
    )
}

pub(super) fn alert_state() -> Object {
    let all = [
        AlertState::Pending,
        AlertState::Firing,
        AlertState::Resolved,
    ];
    words(
        "`pending`: it would fire, were there not too few requests to be sure; `firing`; `resolved`.",
        all.map(AlertState::as_str),
    )
}

pub(super) fn deployment_kind() -> Object {
    let all = [
        Kind::Up,
        Kind::Deploy,
        Kind::Rollback,
        Kind::Restart,
        Kind::Scale,
    ];
    words(
        "What was asked for; `up` is the start of the node.",
        all.map(Kind::as_str),
    )
}

pub(super) fn outcome() -> Object {
    let all = [Outcome::Succeeded, Outcome::Failed, Outcome::Interrupted];
    words_or_null(
        "How it ended; null while it runs.",
        all.map(Outcome::as_str),
    )
}

pub(super) fn known_level() -> Object {
    words("How grave, if it says.", Level::ALL.map(Level::as_str))
}

pub(super) fn level() -> Object {
    words_or_null("How grave, if it says.", Level::ALL.map(Level::as_str))
}

pub(super) fn stream() -> Object {
    let all = [
        Stream::Stdout,
        Stream::Stderr,
        Stream::Platform,
        Stream::Otlp,
    ];
    words(
        "Where it came from: `platform` is what Atoll says, `otlp` what was sent by OpenTelemetry.",
        all.map(Stream::as_str),
    )
}

pub(super) fn span_kind() -> Object {
    let all = [
        SpanKind::Internal,
        SpanKind::Server,
        SpanKind::Client,
        SpanKind::Producer,
        SpanKind::Consumer,
    ];
    words(
        "Which side of a call it is, or of a record on its way; `internal`: neither.",
        all.map(SpanKind::as_str),
    )
}

pub(super) fn span_status() -> Object {
    words(
        "How it ended; `unset`: nobody said that it failed.",
        [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error].map(SpanStatus::as_str),
    )
}

pub(super) fn metric_kind() -> Object {
    let all = [
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Histogram,
    ];
    words("What its numbers are.", all.map(MetricKind::as_str))
}

/// What a metric is asked for.
pub(super) fn stat() -> Object {
    words(
        "What is wanted of it. Default `value`.",
        ["rate", "value", "p50", "p95", "p99"],
    )
}

pub(super) fn node_kind() -> Object {
    words(
        "What it is: the edge, for clients outside, a service or a topic.",
        ["edge", "service", "topic"],
    )
}

pub(super) fn edge_kind() -> Object {
    words(
        "`http`, or `event` between a service and a topic: records that are published, pushed or read. Of a service that speaks the protocol of Kafka each record is one, and how long it took is not known.",
        ["http", "event"],
    )
}
