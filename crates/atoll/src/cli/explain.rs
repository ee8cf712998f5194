//! `atoll explain`: the pages of `docs/errors`, carried in the binary.

use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, table};
use super::{Client, Failure};
use crate::admin::resilience::{BreakerState, ResilienceView};

/// The pages, by file name.
#[derive(rust_embed::RustEmbed)]
#[folder = "../../docs/errors"]
#[include = "*.md"]
struct Pages;

pub(super) fn run(code: Option<&str>, out: &Output) -> Result<(), Failure> {
    let Some(code) = code else { return list(out) };
    let code = code.to_ascii_uppercase();
    let Some(page) = page(&code) else {
        return Err(
            anyhow::anyhow!("there is no code {code}; `atoll explain` lists them all").into(),
        );
    };
    if out.json {
        out.json(&serde_json::json!({ "code": code, "page": page }));
    } else {
        out.data(page.trim_end());
    }
    Ok(())
}

/// Why calls are refused and instances left out, now.
pub(super) async fn breaker(client: &Client, out: &Output) -> Result<(), Failure> {
    let view: ResilienceView = client.get("/v1/resilience").await?;
    if out.json {
        out.json(&view);
        return Ok(());
    }
    for breaker in &view.breakers {
        let caller = breaker.caller.as_deref().unwrap_or("edge");
        let (callee, why) = (&breaker.callee, &breaker.why);
        let (style, state) = match breaker.state {
            BreakerState::Open => (BAD, "open"),
            BreakerState::HalfOpen => (WARN, "half open"),
        };
        out.data(format!(
            "{style}breaker {state}{style:#}  {caller} -> {callee}: {why}"
        ));
    }
    for instance in &view.instances {
        let (id, state) = (&instance.instance, instance.state.word());
        let why = instance.why.as_deref().unwrap_or("it was left out before");
        out.data(format!("{BAD}{state}{BAD:#}  {id}: {why}"));
    }
    if view.breakers.is_empty() && view.instances.is_empty() {
        out.data(format!(
            "{GOOD}all is well{GOOD:#}: no breaker is open, no instance is left out"
        ));
    } else {
        out.say(format!(
            "{FAINT}Single requests are let through from time to time; if they succeed, all of them are. \
             docs/resilience.md tells the rules.{FAINT:#}"
        ));
    }
    Ok(())
}

fn list(out: &Output) -> Result<(), Failure> {
    let mut names: Vec<_> = Pages::iter().collect();
    names.sort();
    let titles: Vec<(String, String)> = names
        .iter()
        .filter_map(|name| {
            let code = name.strip_suffix(".md")?;
            let text = page(code)?;
            let title = text.lines().next()?.trim_start_matches("# ").to_owned();
            let title = title
                .split_once(": ")
                .map(|(_, title)| title.to_owned())
                .unwrap_or(title);
            Some((code.to_owned(), title))
        })
        .collect();
    if out.json {
        let pages: Vec<_> = titles
            .iter()
            .map(|(code, title)| serde_json::json!({ "code": code, "title": title }))
            .collect();
        out.json(&pages);
        return Ok(());
    }
    let mut rows = vec![vec!["CODE".to_owned(), "MEANING".to_owned()]];
    rows.extend(
        titles
            .into_iter()
            .map(|(code, title)| vec![format!("{STRONG}{code}{STRONG:#}"), title]),
    );
    out.data(table(&rows));
    Ok(())
}

fn page(code: &str) -> Option<String> {
    let file = Pages::get(&format!("{code}.md"))?;
    Some(String::from_utf8_lossy(&file.data).into_owned())
}
