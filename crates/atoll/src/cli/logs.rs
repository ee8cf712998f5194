//! `atoll logs`

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use atoll_base::{ServiceName, Timestamp, TraceId};
use atoll_telemetry::{Level, LogRecord, Stream};
use serde::Serialize;

use super::output::{BAD, FAINT, Output, WARN, inert};
use super::{Client, Failure, LogsArgs, moment};
use crate::admin::client::escape;
use crate::admin::traces::{SpanView, TraceDetail};
use crate::manifest::nearest;
use crate::node::ServiceView;

/// Lines shown when nothing narrows the question.
const TAIL_DEFAULT: usize = 100;

/// A hop: a span that the proxy has made, in the form that `--json` prints.
#[derive(Debug, Serialize)]
struct HopView {
    time: Timestamp,
    duration: Duration,
    caller: String,
    callee: Option<String>,
    instance: Option<String>,
    method: String,
    path: String,
    status: u64,
    error: Option<String>,
}

pub(super) async fn run(client: &Client, args: LogsArgs, out: &Output) -> Result<(), Failure> {
    if let Some(grep) = &args.grep {
        regex::Regex::new(grep).map_err(anyhow::Error::from)?;
    }
    let mut found = false;
    let mut hops = match args.trace {
        Some(trace) => hops(client, trace).await?,
        None => Vec::new(),
    };
    if out.json {
        for hop in &hops {
            found = true;
            out.data(serde_json::json!({ "hop": hop }));
        }
    }
    hops.reverse();
    let sorts = args.trace.is_some() && !args.follow && !out.json;
    let mut records = Vec::new();
    let mut lines = client.lines(&question(&args)?).await?;
    while let Some(line) = lines.next().await? {
        found = true;
        if out.json {
            out.data(String::from_utf8_lossy(&line));
            continue;
        }
        let record: LogRecord = serde_json::from_slice(&line).map_err(anyhow::Error::from)?;
        if sorts {
            records.push(record);
            continue;
        }
        show(&record, out);
    }
    if !out.json {
        found |= !hops.is_empty();
        show_way(records, &mut hops, out);
        while let Some(hop) = hops.pop() {
            show_hop(&hop, out);
        }
    }
    if found {
        return Ok(());
    }
    no_such_service(client, &asked(&args).0, out).await;
    nothing(&args, out)
}

/// A trace, in the order of time. The record of a failed request is not shown beside its hop; it is
/// for the time when the hops are forgotten.
fn show_way(mut records: Vec<LogRecord>, hops: &mut Vec<HopView>, out: &Output) {
    let ends: Vec<(Option<String>, Timestamp)> = hops
        .iter()
        .map(|hop| (hop.instance.clone(), hop.end()))
        .collect();
    records.sort_by_key(|record| record.time);
    records.retain(|record| {
        let told = ends.iter().any(|(instance, end)| {
            instance.as_deref().unwrap_or_default() == record.instance && *end == record.time
        });
        !(told && record.stream == Stream::Platform)
    });
    for record in records {
        while let Some(hop) = hops.pop_if(|hop| hop.time <= record.time) {
            show_hop(&hop, out);
        }
        show(&record, out);
    }
}

impl HopView {
    /// The hop in a span; none if a service has made it.
    fn of(span: SpanView) -> Option<Self> {
        let text = |key: &str| span.attributes[key].as_str().unwrap_or_default().to_owned();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Some(Self {
            time: span.start,
            duration: Duration::from_micros(span.duration_us),
            caller: span.caller?,
            method: text("http.request.method"),
            path: text("url.path"),
            status: span.attributes["http.response.status_code"]
                .as_u64()
                .unwrap_or(0),
            callee: some(span.service).filter(|service| service != "atoll"),
            instance: some(span.instance),
            error: some(span.status_message),
        })
    }

    /// When it was over, as the record of its failure has it.
    fn end(&self) -> Timestamp {
        let micros = i64::try_from(self.duration.as_micros()).unwrap_or(0);
        Timestamp::from_micros(self.time.as_micros() + micros)
    }
}

/// A service that is not there was perhaps meant to be another.
async fn no_such_service(client: &Client, services: &[ServiceName], out: &Output) {
    let Ok(views) = client.get::<Vec<ServiceView>>("/v1/services").await else {
        return;
    };
    for name in services {
        let known = || views.iter().map(|view| view.name.as_str());
        if known().any(|known| known == name.as_str()) || name.as_str() == "atoll" {
            continue;
        }
        let meant = nearest(name.as_str(), known());
        let meant = meant
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        out.say(format!("there is no service called {name}{meant}"));
    }
}

/// Nothing found is an answer, but not the one hoped for: as with `grep`, exit code 1.
fn nothing(args: &LogsArgs, out: &Output) -> Result<(), Failure> {
    let message = if args.trace.is_some() {
        "nothing of this trace is kept; is it a trace id of this application?"
    } else {
        "no lines"
    };
    let failed = args.trace.is_some() || args.grep.is_some() || !asked(args).1.is_empty();
    if failed && out.json {
        return Err(anyhow::anyhow!(message).into());
    }
    out.say(message);
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// The hops of a trace, oldest first.
async fn hops(client: &Client, trace: TraceId) -> Result<Vec<HopView>, Failure> {
    let detail: TraceDetail = client.get(&format!("/v1/traces/{trace}")).await?;
    Ok(detail.spans.into_iter().filter_map(HopView::of).collect())
}

/// The services that are named, and what else is asked: a word that could be a service is one.
fn asked(args: &LogsArgs) -> (Vec<ServiceName>, String) {
    let mut services = Vec::new();
    let mut conditions = Vec::new();
    for text in &args.wanted {
        match ServiceName::new(text) {
            Ok(service) => services.push(service),
            Err(_) => conditions.push(format!("({text})")),
        }
    }
    (services, conditions.join(" "))
}

/// The query of the admin API.
fn question(args: &LogsArgs) -> Result<String, Failure> {
    let mut pairs = Vec::new();
    let (services, conditions) = asked(args);
    let names: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
    if !names.is_empty() {
        pairs.push(("services", names.join(",")));
    }
    if !conditions.is_empty() {
        pairs.push(("q", conditions.clone()));
    }
    if let Some(since) = &args.since {
        pairs.push(("since", moment(since)?.to_string()));
    }
    if let Some(until) = &args.until {
        pairs.push(("until", moment(until)?.to_string()));
    }
    if let Some(grep) = &args.grep {
        pairs.push(("grep", grep.clone()));
    }
    if let Some(trace) = args.trace {
        pairs.push(("trace", trace.to_string()));
    }
    let narrowed = args.since.is_some()
        || args.until.is_some()
        || args.grep.is_some()
        || args.trace.is_some()
        || !conditions.is_empty();
    let tail = args.tail.or((!narrowed).then_some(TAIL_DEFAULT));
    if let Some(tail) = tail {
        pairs.push(("tail", tail.to_string()));
    }
    pairs.push(("follow", args.follow.to_string()));
    let query: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={}", escape(&value)))
        .collect();
    Ok(format!("/v1/logs?{}", query.join("&")))
}

fn show(record: &LogRecord, out: &Output) {
    let origin = if record.instance.is_empty() {
        record.service.to_string()
    } else {
        record.instance.clone()
    };
    let tint = tint(record.service.as_str());
    let style = match (record.level, record.stream) {
        (Some(Level::Error), _) => BAD,
        (Some(Level::Warn), _) => WARN,
        (_, Stream::Platform) => FAINT,
        _ => Style::new(),
    };
    let mark = if record.stream == Stream::Platform {
        "· "
    } else {
        ""
    };
    let message = inert(&record.message);
    let time = clock_time(record.time);
    out.data(format!(
        "{FAINT}{time}{FAINT:#} {tint}{origin:<16}{tint:#} {mark}{style}{message}{style:#}"
    ));
}

fn show_hop(hop: &HopView, out: &Output) {
    let style = if hop.status >= 500 || hop.status == 0 {
        BAD
    } else {
        FAINT
    };
    let callee = hop
        .instance
        .as_deref()
        .or(hop.callee.as_deref())
        .unwrap_or("no route");
    let error = hop
        .error
        .as_deref()
        .map(|error| format!(" ({error})"))
        .unwrap_or_default();
    let millis = hop.duration.as_secs_f64() * 1e3;
    let time = clock_time(hop.time);
    out.data(format!(
        "{FAINT}{time}{FAINT:#} {style}→ {} to {callee}: {} {} {} in {millis:.1} ms{error}{style:#}",
        hop.caller,
        inert(&hop.method),
        inert(&hop.path),
        hop.status,
    ));
}

/// Date and time to the millisecond, UTC.
pub(super) fn clock_time(moment: Timestamp) -> String {
    let text = moment.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {}", time.get(..12).unwrap_or(time))
}

/// A color for each service, the same every time.
pub(super) fn tint(service: &str) -> Style {
    const TINTS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Green,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::Yellow,
        AnsiColor::BrightCyan,
    ];
    let sum: usize = service.bytes().map(usize::from).sum();
    TINTS[sum % TINTS.len()].on_default()
}
