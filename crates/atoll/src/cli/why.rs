//! `atoll why`: the errors of a service or of a request, and what changed before them.

use super::logs::clock_time;
use super::output::{BAD, FAINT, Output, STRONG, WARN, inert, table};
use super::{Client, Failure, trace_id};
use crate::admin::client::escape;
use crate::admin::why::WhyView;

/// Errors and changes that are shown; `--json` has them all.
const SHOWN: usize = 10;

pub(super) async fn run(client: &Client, subject: &str, out: &Output) -> Result<(), Failure> {
    // A whole traceparent is as good as the id within it.
    let subject = trace_id(subject).map_or_else(|_| subject.to_owned(), |own| own.to_string());
    let why: WhyView = client.get(&format!("/v1/why/{}", escape(&subject))).await?;
    if out.json {
        out.json(&why);
        return Ok(());
    }
    out.data(format!("{STRONG}{}{STRONG:#}", inert(&why.summary)));
    if !why.errors.is_empty() {
        let head = ["ERRORS", "FIRST", "LAST", "SERVICE", "WHAT", "FOR EXAMPLE"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(why.errors.iter().take(SHOWN).map(|error| {
            vec![
                format!("{BAD}{}{BAD:#}", error.count),
                clock_time(error.first),
                clock_time(error.last),
                error.service.clone(),
                shortened(&error.message),
                error.trace.clone().unwrap_or_default(),
            ]
        }));
        out.data(format!("\n{}", table(&rows)));
    }
    if !why.changes.is_empty() {
        let head = ["CHANGED BEFORE", "SERVICE", "KIND", "WHAT"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(why.changes.iter().take(SHOWN).map(|event| {
            let style = match event.level.as_deref() {
                Some("error" | "fatal") => BAD,
                Some("warn") => WARN,
                _ => anstyle::Style::new(),
            };
            vec![
                clock_time(event.time),
                event
                    .instance
                    .clone()
                    .unwrap_or_else(|| event.service.clone()),
                event.kind.clone(),
                format!("{style}{}{style:#}", shortened(&event.message)),
            ]
        }));
        out.data(format!("\n{}", table(&rows)));
    }
    if let Some(trace) = why.errors.iter().find_map(|error| error.trace.as_ref()) {
        out.say(format!(
            "{FAINT}the whole request: atoll trace {trace}{FAINT:#}"
        ));
    }
    Ok(())
}

/// The first line, as far as a row has room for it.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 72;
    let line = inert(text.lines().next().unwrap_or_default());
    if line.chars().count() <= WIDTH {
        return line.into_owned();
    }
    let start: String = line.chars().take(WIDTH - 1).collect();
    format!("{start}…")
}
