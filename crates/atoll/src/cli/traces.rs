//! `atoll trace` and `atoll traces`

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use anstyle::Style;
use atoll_base::TraceId;
use serde_json::Value;

use super::logs::{clock_time, tint};
use super::output::{BAD, FAINT, Output, STRONG, WARN, inert, micros, table};
use super::{Client, Failure, TracesArgs, moment};
use crate::admin::client::escape;
use crate::admin::traces::{SpanView, TraceDetail, TracesPage};

/// The width of the whole time in a waterfall, in characters.
const BAR_WIDTH: usize = 32;

/// The widest name in a waterfall.
const NAME_WIDTH_MAX: usize = 60;

/// Spans within each other are shown so deep; what is below stands as deep as that.
const DEPTH_MAX: usize = 24;

pub(super) async fn list(client: &Client, args: &TracesArgs, out: &Output) -> Result<(), Failure> {
    let mut conditions: Vec<String> = args.wanted.iter().map(|text| format!("({text})")).collect();
    if args.error {
        conditions.push("status:error".to_owned());
    }
    if let Some(service) = &args.service {
        conditions.push(format!("service:{service}"));
    }
    let order = if args.slow { "duration" } else { "time" };
    let question = format!(
        "/v1/traces?q={}&since={}&limit={}&order={order}",
        escape(&conditions.join(" ")),
        escape(&moment(&args.since)?.to_string()),
        args.limit
    );
    let page: TracesPage = client.get(&question).await?;
    if out.json {
        page.traces.iter().for_each(|trace| out.json_line(trace));
        return Ok(());
    }
    if page.traces.is_empty() {
        out.say("no traces");
        return Ok(());
    }
    let head = [
        "TRACE", "STARTED", "TOOK", "SPANS", "FAILED", "WHAT", "WHERE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for trace in &page.traces {
        rows.push(vec![
            trace.trace.clone(),
            clock_time(trace.start),
            micros(trace.duration_us),
            trace.spans.to_string(),
            trace.errors.to_string(),
            inert(&trace.root_name).into_owned(),
            trace.services.join(" "),
        ]);
    }
    out.data(table(&rows));
    Ok(())
}

pub(super) async fn one(client: &Client, trace: TraceId, out: &Output) -> Result<(), Failure> {
    let detail: TraceDetail = client.get(&format!("/v1/traces/{trace}")).await?;
    if out.json {
        out.json(&detail);
        return Ok(());
    }
    if detail.spans.is_empty() && detail.logs.is_empty() {
        out.say("nothing of this trace is kept; is it a trace id of this application?");
        return Err(Failure::Told);
    }
    let lines = waterfall(&detail);
    lines.iter().for_each(|line| out.data(line));
    for record in &detail.logs {
        let time = clock_time(record.time);
        let style = match record.level.as_deref() {
            Some("error" | "fatal") => BAD,
            Some("warn") => WARN,
            _ => Style::new(),
        };
        let tint = tint(&record.service);
        let origin = Some(&record.instance).filter(|instance| !instance.is_empty());
        let origin = inert(origin.unwrap_or(&record.service));
        out.data(format!(
            "{FAINT}{time}{FAINT:#} {tint}{origin:<16}{tint:#} {style}{}{style:#}",
            inert(&record.message)
        ));
    }
    Ok(())
}

/// A line for each span, those that it caused below it.
fn waterfall(detail: &TraceDetail) -> Vec<String> {
    let begin = detail.spans.iter().map(|span| span.start.as_micros()).min();
    let end = detail.spans.iter().map(end).max();
    let (Some(begin), Some(end)) = (begin, end) else {
        return Vec::new();
    };
    let critical: HashSet<&str> = detail.critical_path.iter().map(String::as_str).collect();
    let ordered = in_order(&detail.spans);
    let name = |(depth, span): &(usize, &SpanView)| {
        let text = format!("{}{}", "  ".repeat(*depth), inert(&title(span)));
        text.chars().take(NAME_WIDTH_MAX).collect::<String>()
    };
    let width = ordered.iter().map(|one| name(one).chars().count()).max();
    let width = width.unwrap_or(0);
    let line = |one: &(usize, &SpanView)| {
        let span = one.1;
        let style = if span.status == "error" {
            BAD
        } else if critical.contains(span.span.as_str()) {
            STRONG
        } else {
            Style::new()
        };
        let bar = bar((begin, end), (span.start.as_micros(), self::end(span)));
        let tint = tint(&span.service);
        let origin = Some(&span.instance).filter(|instance| !instance.is_empty());
        let origin = inert(origin.unwrap_or(&span.service));
        let inferred = if span.inferred { " (inferred)" } else { "" };
        let trouble = Some(&span.status_message).filter(|message| !message.is_empty());
        let trouble = trouble.map(|message| format!(" {}", inert(message)));
        format!(
            "{style}{:<width$}{style:#}  {tint}{origin:<16}{tint:#} {FAINT}│{FAINT:#}{style}{bar}{style:#}{FAINT}│{FAINT:#} {:>9}{inferred}{BAD}{}{BAD:#}",
            name(one),
            micros(span.duration_us),
            trouble.unwrap_or_default()
        )
    };
    ordered.iter().map(line).collect()
}

/// What was done: of a request what was asked for, which tells more here than the pattern of its route.
fn title(span: &SpanView) -> Cow<'_, str> {
    let text = |key| span.attributes.get(key).and_then(Value::as_str);
    match (text("http.request.method"), text("url.path")) {
        (Some(method), Some(path)) if span.caller.is_some() => format!("{method} {path}").into(),
        _ => Cow::Borrowed(&span.name),
    }
}

fn end(span: &SpanView) -> i64 {
    let micros = i64::try_from(span.duration_us).unwrap_or(i64::MAX);
    span.start.as_micros().saturating_add(micros)
}

/// The spans with their depth, each behind what caused it; those by their start.
fn in_order(spans: &[SpanView]) -> Vec<(usize, &SpanView)> {
    let ids: HashSet<&str> = spans.iter().map(|span| span.span.as_str()).collect();
    let mut children: HashMap<&str, Vec<&SpanView>> = HashMap::new();
    let mut open = Vec::new();
    for span in spans {
        match span.parent.as_deref().filter(|parent| ids.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(span),
            None => open.push((0, span)),
        }
    }
    open.reverse();
    let mut ordered = Vec::new();
    while let Some((depth, span)) = open.pop() {
        ordered.push((depth, span));
        // Taken out: spans that name each other as their cause must not be walked in circles.
        let below = children.remove(span.span.as_str()).unwrap_or_default();
        let depth = (depth + 1).min(DEPTH_MAX);
        open.extend(below.into_iter().rev().map(|child| (depth, child)));
    }
    // What only points in a circle has no beginning; it is shown all the same.
    for span in children.into_values().flatten() {
        ordered.push((0, span));
    }
    ordered
}

/// Where a span lies in the whole.
fn bar(whole: (i64, i64), part: (i64, i64)) -> String {
    let length = (whole.1 - whole.0).max(1) as f64;
    let place = |moment: i64| {
        let share = (moment - whole.0) as f64 / length;
        // It is between 0 and the width.
        (share * BAR_WIDTH as f64) as usize
    };
    let from = place(part.0).min(BAR_WIDTH - 1);
    let to = place(part.1).clamp(from + 1, BAR_WIDTH);
    let mut bar = " ".repeat(from);
    bar.push_str(&"━".repeat(to - from));
    bar.push_str(&" ".repeat(BAR_WIDTH - to));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, start: i64, micros: u64) -> SpanView {
        SpanView {
            trace: "t".to_owned(),
            span: id.to_owned(),
            parent: parent.map(str::to_owned),
            service: "a".to_owned(),
            instance: String::new(),
            name: id.to_owned(),
            kind: "server".to_owned(),
            start: atoll_base::Timestamp::from_micros(start),
            duration_us: micros,
            status: "unset".to_owned(),
            status_message: String::new(),
            caller: None,
            inferred: false,
            attributes: serde_json::json!({}),
            events: serde_json::json!([]),
            links: serde_json::json!([]),
        }
    }

    #[test]
    fn spans_stand_below_what_caused_them_and_circles_end() {
        let spans = [
            span("root", None, 0, 100),
            span("late", Some("root"), 50, 10),
            span("below", Some("early"), 12, 1),
            span("early", Some("root"), 10, 10),
            span("x", Some("y"), 0, 1),
            span("y", Some("x"), 0, 1),
            span("lost", Some("gone"), 5, 1),
        ];
        let found: Vec<(usize, &str)> = in_order(&spans)
            .into_iter()
            .map(|(depth, span)| (depth, span.span.as_str()))
            .collect();
        assert_eq!(
            found[..5],
            [
                (0, "root"),
                (1, "late"),
                (1, "early"),
                (2, "below"),
                (0, "lost")
            ]
        );
        assert_eq!(found.len(), spans.len());
    }

    #[test]
    fn a_bar_lies_within_the_whole() {
        assert_eq!(bar((0, 100), (0, 100)), "━".repeat(BAR_WIDTH));
        for part in [(0, 0), (100, 100), (50, 51), (99, 200)] {
            let bar = bar((0, 100), part);
            assert_eq!(bar.chars().count(), BAR_WIDTH, "{part:?}");
            assert!(bar.contains('━'), "{part:?}");
        }
    }
}
