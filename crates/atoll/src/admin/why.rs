//! What may be the matter: the errors of a service or of a request, what began them, and what changed before; and
//! where the time went, if there are none.

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp, TraceId};
use atoll_telemetry::{
    ErrorGroup, Fault, Filter, Kind, PageQuery, Span, SpanStatus, TraceOrder, TraceQuery,
    TraceView, errors, own_times, spike,
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
/// Where there are more errors than are looked at, they are counted in steps of this.
const STEP: Duration = Duration::from_secs(10);

/// What may be the matter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// In a sentence or two; without errors, where the time goes.
    pub summary: String,
    /// The errors, what others follow from first.
    pub errors: Vec<ErrorView>,
    /// What changed in the 15 minutes before the first of them began to come, or to come more often than before,
    /// the newest first. Without errors: before the request, or now.
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
    let mut faults = logged(&node, subject.errors()?).await?;
    with_their_requests(&node, &mut faults).await?;
    if faults.iter().all(|own| own.is_symptom) {
        faults.extend(told_by_spans(&node, &subject).await?);
        faults.sort_by_key(|own| std::cmp::Reverse(own.time));
    }
    let groups = errors::causes(&faults);
    let Some(cause) = groups.first() else {
        return Ok(Json(without_errors(&node, &subject).await?));
    };
    let began = began(&node, cause, &faults).await?;
    let changes = changes_before(&node, began).await?;
    Ok(Json(WhyView {
        summary: summary(&subject, &groups, &changes),
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
async fn logged(node: &Node, filter: Filter) -> Result<Vec<Fault>, Problem> {
    let page = PageQuery {
        filter,
        limit: ERRORS_MAX,
        before: None,
    };
    let records = node.telemetry().search(page).await?.records;
    Ok(records.iter().map(Fault::from).collect())
}

/// Adds all errors of the same requests, of whichever service: there the cause may be.
async fn with_their_requests(node: &Node, faults: &mut Vec<Fault>) -> Result<(), Problem> {
    let mut traces = BTreeSet::new();
    for trace in faults.iter().filter_map(|own| own.trace) {
        if traces.len() < REQUESTS_MAX {
            traces.insert(trace);
        }
    }
    if traces.is_empty() {
        return Ok(());
    }
    // What is of these requests is asked for again, with what others said of them.
    faults.retain(|own| own.trace.is_none_or(|trace| !traces.contains(&trace)));
    faults.extend(logged(node, grave()?.of_traces(traces)).await?);
    faults.sort_by_key(|own| std::cmp::Reverse(own.time));
    Ok(())
}

/// What spans of services say where the log does not: an SDK notes an exception there.
async fn told_by_spans(node: &Node, subject: &Subject) -> Result<Vec<Fault>, Problem> {
    let traces = match subject {
        Subject::Request(trace) => vec![*trace],
        Subject::Service(name) => {
            let failed = in_the_last_hour(filter(Kind::Spans, "status:error")?)?;
            let wanted = TraceQuery {
                filter: failed.of_services(slice::from_ref(name)),
                limit: TRACES_MAX,
                order: TraceOrder::Time,
                before: None,
            };
            let found = node.telemetry().search_traces(wanted).await?.traces;
            found.into_iter().map(|own| own.trace).collect()
        }
    };
    let mut faults = Vec::new();
    for trace in traces {
        let spans = node.telemetry().trace(trace).await?.spans;
        // Hops of the proxy have a caller; what failed there is in the log.
        let own = |span: &&Span| span.status == SpanStatus::Error && span.caller.is_none();
        faults.extend(spans.iter().filter(own).map(Fault::from));
    }
    Ok(faults)
}

/// When the errors of a group began to come, or to come more often than before. `faults`: those that are known
/// already, the newest first.
async fn began(node: &Node, cause: &ErrorGroup, faults: &[Fault]) -> Result<Timestamp, Problem> {
    let since = cause.last.before(LOOKED_BACK);
    let service = ServiceName::new(&cause.service)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let filter = grave()?
        .of_services(slice::from_ref(&service))
        .since(since)
        .until(cause.last);
    // All of its service: those that are known are of some requests alone.
    let all = logged(node, filter.clone()).await?;
    if all.len() >= ERRORS_MAX {
        let steps = (LOOKED_BACK.as_secs() / STEP.as_secs()) as usize;
        let between = (since, cause.last);
        let counted = node.telemetry().histogram(filter, between, steps).await?;
        let counted = counted.buckets.iter().map(|own| (own.time, own.total));
        let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
        // Whatever changed within the step may be why.
        let began = spike::began(&counted, since).map(|own| own.after(STEP));
        return Ok(began.unwrap_or(cause.first));
    }
    let same = all
        .iter()
        .filter(|own| own.fingerprint() == cause.fingerprint);
    let mut times: Vec<_> = same.map(|own| (own.time, 1)).collect();
    if times.is_empty() {
        // Its errors stand in spans.
        let same = faults
            .iter()
            .filter(|own| own.fingerprint() == cause.fingerprint);
        times = same.map(|own| (own.time, 1)).collect();
    }
    times.reverse();
    Ok(spike::began(&times, since).unwrap_or(cause.first))
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

fn summary(of: &Subject, groups: &[ErrorGroup], changes: &[TimelineEvent]) -> String {
    let cause = &groups[0];
    let count: u64 = groups.iter().map(|group| group.count).sum();
    let errors = if count == 1 { "error" } else { "errors" };
    let (service, message) = (&cause.service, &cause.message);
    let mut told = format!("{count} {errors} of {of}. It begins with {service}: {message}.");
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
    let p95 = |micros: u64| short(Duration::from_micros(micros));
    let slowest = |edge: &&atoll_telemetry::Edge| edge.p95_us;
    let to_it = calls.iter().filter(|edge| edge.to == name.as_str());
    let Some(to_it) = to_it.max_by_key(slowest) else {
        return Ok("Nobody has asked it for anything in the last hour.".to_owned());
    };
    let caller = if to_it.from == "edge" {
        "clients"
    } else {
        &to_it.from
    };
    let mut told = format!(
        "95 in 100 answers to {caller} took no longer than {} in the last hour.",
        p95(to_it.p95_us)
    );
    let by_it = calls.iter().filter(|edge| edge.from == name.as_str());
    if let Some(slow) = by_it.max_by_key(slowest) {
        let (service, took) = (&slow.to, p95(slow.p95_us));
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
