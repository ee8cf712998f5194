//! `atoll explain`: the pages of `docs/errors`, carried in the binary.

use super::Failure;
use super::output::{Output, STRONG, table};

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
