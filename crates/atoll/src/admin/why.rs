//! What may be the matter: the errors of a service or of a request, what began them, and what changed before; and
//! where the time went, if there are none.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp, TraceId};
use atoll_telemetry::{
    Calls, ErrorGroup, Fault, Filter, Kind, LogRecord, PageQuery, Span, SpanStatus, TraceOrder,
    TraceQuery, TraceView, errors, own_times, spike,
};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::derived::{ErrorView, TimelineEvent, grave, platform};
use super::extract::{Json, Path};
use super::log_search::between;
use super::logs::filter;
use super::types::Problem;
use crate::node::Node;

/// Errors that are looked at: the newest.
const ERRORS_MAX: usize = 5_000;
/// Requests whose other errors are looked at: the newest.
const REQUESTS_MAX: usize = 200;
/// Requests whose spans are looked at where the log tells of no cause: the newest.
const TRACES_MAX: usize = 20;
/// Changes that are told: the newest.
const CHANGES_MAX: usize = 200;
/// What changed so long before errors began may be their cause.
const BEFORE: Duration = Duration::from_secs(15 * 60);
/// How far back it is looked for where they began.
const LOOKED_BACK: Duration = Duration::from_secs(3600);
/// So many times the errors that are looked at are read for when they began.
const PAGES_MAX: usize = 20;
/// Where there are still more, all of the service are counted, in steps of this.
const STEP: Duration = Duration::from_secs(10);

/// What may be the matter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// In a sentence or two; without errors, where the time goes.
    pub summary: String,
    /// The errors, what others follow from first.
    pub errors: Vec<ErrorView>,
    /// What changed in the 15 minutes before the first of them began to come, or to come more often than before,
    /// the newest first; none if they have come as often for an hour. Without errors: before the request, or now.
    pub changes: Vec<TimelineEvent>,
}

/// Who is asked about.
enum Subject {
    Request(TraceId),
    Service(ServiceName),
}

/// What may be the matter with a service in the last hour, or with a request: its errors and those of the same
/// requests, what began them first, and what changed before them. Without errors: where the time went.
#[utoipa::path(
    get, path = "/v1/why/{subject}", params(("subject" = String, Path)),
    responses((status = 200, body = WhyView), (status = 404, body = Problem))
)]
pub async fn why(
    State(node): State<Arc<Node>>,
    Path(subject): Path<String>,
) -> Result<Json<WhyView>, Problem> {
    let subject = known(&node, &subject).await?;
    let records = logged(&node, subject.errors()?).await?;
    let is_full = records.len() >= ERRORS_MAX;
    let records = with_their_requests(&node, records).await?;
    let mut faults: Vec<Fault> = records.iter().map(Fault::from).collect();
    faults.extend(told_by_spans(&node, &subject, &faults).await?);
    faults.sort_by_key(|own| Reverse(own.time));
    let groups = with_cause_first(errors::causes(&faults));
    let Some(cause) = groups.first() else {
        return Ok(Json(without_errors(&node, &subject).await?));
    };
    let began = began(&node, cause, &faults).await?;
    let changes = match began {
        Some(began) => changes_before(&node, began).await?,
        None => Vec::new(),
    };
    let mut summary = summary(&subject, &groups, is_full, &changes);
    if began.is_none() {
        summary.push_str(" That has come for more than an hour, as often as now.");
    }
    Ok(Json(WhyView {
        summary,
        errors: groups.into_iter().map(ErrorView::from).collect(),
        changes,
    }))
}

async fn known(node: &Node, subject: &str) -> Result<Subject, Problem> {
    if let Some(trace) = TraceId::parse(subject.as_bytes()) {
        return Ok(Subject::Request(trace));
    }
    let services = node.services().await;
    let name = ServiceName::new(subject).ok();
    let name = name.filter(|name| services.iter().any(|own| own.name == *name));
    name.map(Subject::Service).ok_or_else(|| {
        let detail = format!("there is no service and no trace '{subject}'");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

impl Subject {
    fn errors(&self) -> Result<Filter, Problem> {
        Ok(match self {
            Self::Request(trace) => grave()?.of_traces([*trace]),
            Self::Service(name) => in_the_last_hour(grave()?)?.of_services(slice::from_ref(name)),
        })
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(trace) => write!(out, "the request {trace}"),
            Self::Service(name) => write!(out, "{name}"),
        }
    }
}

fn in_the_last_hour(filter: Filter) -> Result<Filter, Problem> {
    let (since, until) = between(None, None)?;
    Ok(filter.since(since).until(until))
}

/// The newest of the errors in the log that fit, the newest first.
async fn logged(node: &Node, filter: Filter) -> Result<Vec<LogRecord>, Problem> {
    let page = PageQuery {
        filter,
        limit: ERRORS_MAX,
        before: None,
    };
    Ok(node.telemetry().search(page).await?.records)
}

/// Beside these errors, all others of the same requests, of whichever service: there the cause may be.
async fn with_their_requests(
    node: &Node,
    mut records: Vec<LogRecord>,
) -> Result<Vec<LogRecord>, Problem> {
    let traces = newest(records.iter().filter_map(|own| own.trace), REQUESTS_MAX);
    if !traces.is_empty() {
        records.extend(logged(node, grave()?.of_traces(traces)).await?);
        records.sort_unstable_by_key(|own| Reverse((own.time, own.number)));
        records.dedup_by_key(|own| own.number);
    }
    Ok(records)
}

/// The first so many that differ.
fn newest(traces: impl Iterator<Item = TraceId>, count: usize) -> Vec<TraceId> {
    let mut seen = BTreeSet::new();
    traces.filter(|own| seen.insert(*own)).take(count).collect()
}

/// What spans say where the log does not say why: an SDK notes an exception there. `faults`: what the log says, the
/// newest first.
async fn told_by_spans(
    node: &Node,
    subject: &Subject,
    faults: &[Fault],
) -> Result<Vec<Fault>, Problem> {
    let told = faults.iter().filter(|own| !own.is_symptom);
    let told: BTreeSet<TraceId> = told.filter_map(|own| own.trace).collect();
    let silent = faults.iter().filter_map(|own| own.trace);
    let mut traces = newest(silent.filter(|own| !told.contains(own)), TRACES_MAX);
    match subject {
        Subject::Request(trace) if faults.is_empty() => traces.push(*trace),
        Subject::Service(name) if faults.is_empty() => traces = failed(node, name).await?,
        _ => {}
    }
    let mut found = Vec::new();
    for trace in traces {
        let spans = node.telemetry().trace(trace).await?.spans;
        let wrong = spans.iter().filter(|span| span.status == SpanStatus::Error);
        let wrong = wrong.map(Fault::from);
        // Of many failed requests in a second the log tells some; a hop tells of each.
        found.extend(wrong.filter(|own| faults.is_empty() || !own.is_symptom));
    }
    Ok(found)
}

/// The newest requests in which something of this service failed.
async fn failed(node: &Node, name: &ServiceName) -> Result<Vec<TraceId>, Problem> {
    let failed = in_the_last_hour(filter(Kind::Spans, "status:error")?)?;
    let wanted = TraceQuery {
        filter: failed.of_services(slice::from_ref(name)),
        limit: TRACES_MAX,
        order: TraceOrder::Time,
        before: None,
    };
    let found = node.telemetry().search_traces(wanted).await?.traces;
    Ok(found.into_iter().map(|own| own.trace).collect())
}

/// The cause in front: what requests began to fail with. If no request is known to have begun so, a line that stands
/// for itself is one, unless there are far more failed requests than such lines.
fn with_cause_first(mut groups: Vec<ErrorGroup>) -> Vec<ErrorGroup> {
    const FAR_MORE: u64 = 10;
    let own = groups
        .iter()
        .filter(|own| !own.is_symptom)
        .map(|own| own.count);
    let own = own.max().unwrap_or_default();
    if groups.iter().all(|own| own.began == 0)
        && let Some(at) = groups
            .iter()
            .position(|group| group.is_symptom && group.count > FAR_MORE * own)
    {
        groups[..=at].rotate_right(1);
    }
    groups
}

/// When the errors of a group began to come, or to come more often than before; None if they came before it was
/// looked for that. `faults`: those that are known already, the newest first.
async fn began(
    node: &Node,
    cause: &ErrorGroup,
    faults: &[Fault],
) -> Result<Option<Timestamp>, Problem> {
    let since = cause.last.before(LOOKED_BACK);
    let service = ServiceName::new(&cause.service)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let filter = grave()?
        .of_services(slice::from_ref(&service))
        .since(since)
        .until(cause.last);
    // All of its service: those that are known are of some requests alone.
    let (mut same, mut all, mut before) = (Vec::new(), Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let page = PageQuery {
            filter: filter.clone(),
            limit: ERRORS_MAX,
            before,
        };
        let page = node.telemetry().search(page).await?;
        for fault in page.records.iter().map(Fault::from) {
            all.push((fault.time, 1));
            if fault.fingerprint() == cause.fingerprint {
                same.push((fault.time, 1));
            }
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    if before.is_some() {
        let steps = (LOOKED_BACK.as_secs() / STEP.as_secs()) as usize;
        let between = (since, cause.last);
        let counted = node.telemetry().histogram(filter, between, steps).await?;
        let counted = counted.buckets.iter().map(|own| (own.time, own.total));
        let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
        // Whatever changed within the step may be why.
        return Ok(spike::began(&counted, since).map(|own| own.after(STEP)));
    }
    if same.is_empty() {
        // It stands in spans, of which some were looked at: when requests failed is in the log.
        same = all;
    }
    if same.is_empty() {
        let own = faults
            .iter()
            .filter(|own| own.fingerprint() == cause.fingerprint);
        same = own.map(|own| (own.time, 1)).collect();
    }
    same.reverse();
    Ok(spike::began(&same, since))
}

async fn changes_before(node: &Node, moment: Timestamp) -> Result<Vec<TimelineEvent>, Problem> {
    let page = PageQuery {
        filter: platform(None)?.since(moment.before(BEFORE)).until(moment),
        limit: CHANGES_MAX,
        before: None,
    };
    let found = node.telemetry().search(page).await?.records;
    Ok(found.into_iter().map(TimelineEvent::from).collect())
}

fn summary(
    of: &Subject,
    groups: &[ErrorGroup],
    is_full: bool,
    changes: &[TimelineEvent],
) -> String {
    let cause = &groups[0];
    let count: u64 = groups.iter().map(|group| group.count).sum();
    let errors = if count == 1 { "error" } else { "errors" };
    let more = if is_full { "More than " } else { "" };
    let (service, message) = (&cause.service, &cause.message);
    let mut told = format!("{more}{count} {errors} of {of}. It begins with {service}: {message}.");
    // A deployment of its own is the first suspect; the end of anybody's instance the next.
    let deploy = changes
        .iter()
        .find(|event| event.kind == "deploy" && event.service == *service);
    let exit = changes.iter().find(|event| event.kind == "exit");
    let before = deploy.into_iter().chain(exit);
    for (event, what) in before.zip(["Before that", "Also before that"]) {
        let (service, message) = (&event.service, &event.message);
        told.push_str(&format!(" {what}, {service}: {message}."));
    }
    told
}

/// Where the time goes of what does not fail.
async fn without_errors(node: &Node, subject: &Subject) -> Result<WhyView, Problem> {
    let (time, moment) = match subject {
        Subject::Request(trace) => {
            let view = node.telemetry().trace(*trace).await?;
            let Some(began) = first(&view) else {
                let detail = format!(
                    "nothing is kept of the request {trace}: it may be older than what the node keeps, or left out \
                     by sampling; of one that has just ended, ask again in a moment"
                );
                return Err(Problem::new(StatusCode::NOT_FOUND, detail));
            };
            (time_of(&view.spans), began)
        }
        Subject::Service(name) => (time_spent(node, name).await?, Timestamp::now()),
    };
    Ok(WhyView {
        summary: format!("No errors of {subject} are kept. {time}")
            .trim_end()
            .to_owned(),
        errors: Vec::new(),
        changes: changes_before(node, moment).await?,
    })
}

fn first(view: &TraceView) -> Option<Timestamp> {
    let spans = view.spans.iter().map(|span| span.start);
    spans.chain(view.logs.iter().map(|own| own.time)).min()
}

/// What a request waited for longest.
fn time_of(spans: &[Span]) -> String {
    let times = own_times(spans);
    let whole: Duration = times.iter().map(|(_, own)| *own).sum();
    let longest = times.iter().max_by_key(|(_, own)| *own);
    let Some((longest, own)) = longest else {
        return String::new();
    };
    let (service, name) = (&longest.service, &longest.name);
    let (whole, own) = (short(whole), short(*own));
    format!("It took {whole}, {own} of them in {service} itself: {name}.")
}

/// How long a service takes, and those that it waits for, in the last hour.
async fn time_spent(node: &Node, name: &ServiceName) -> Result<String, Problem> {
    let calls = in_the_last_hour(filter(Kind::Spans, "kind:server")?)?;
    let calls = node.telemetry().edges(calls).await?;
    let p95 = |calls: &Calls| short(Duration::from_micros(calls.percentile(95)));
    let to_it = calls.iter().filter(|edge| edge.to == name.as_str());
    let to_it = Calls::sum(to_it.map(|edge| &edge.calls));
    if to_it.count() == 0 {
        return Ok("No call to it is kept of the last hour.".to_owned());
    }
    let mut told = format!(
        "Of the calls that are kept of the last hour, 95 in 100 took no longer than {}.",
        p95(&to_it)
    );
    let by_it = calls.iter().filter(|edge| edge.from == name.as_str());
    if let Some(slow) = by_it.max_by_key(|edge| edge.calls.percentile(95)) {
        let (service, took) = (&slow.to, p95(&slow.calls));
        told.push_str(&format!(" The slowest that it calls is {service}: {took}."));
    }
    Ok(told)
}

/// With as many digits as say something.
fn short(span: Duration) -> String {
    if span.as_secs() > 0 {
        return format!("{:.2} s", span.as_secs_f64());
    }
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}
