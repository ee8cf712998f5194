//! `atoll deploy`, `rollback`, `scale`, `restart` and `history`: orders, and watching them.

use std::time::Duration;

use atoll_base::{RevisionNumber, ServiceName};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::output::{BAD, FAINT, GOOD, Output, table};
use super::refusal::{ErrorView, explained};
use super::{Client, Command, Failure};
use crate::admin::types::{Accepted, DeploymentView, NewDeployment, OrderKind};
use crate::node::{DeployStep, ServiceView};

/// Seconds that one question for the end of a deployment waits.
const WAIT_SECONDS: u32 = 1;

/// The state of a service is asked this often while a picture is shown.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What `--json` prints at the end.
#[derive(Serialize)]
struct EndedJson<'a> {
    #[serde(flatten)]
    ended: &'a DeploymentView,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
}

pub(super) async fn run(client: &Client, command: Command, out: &Output) -> Result<(), Failure> {
    let (service, order, message) = match command {
        Command::Deploy(args) => {
            let dir = match args.folder {
                Some(folder) => {
                    let found = folder.canonicalize();
                    let found = found.map_err(|error| {
                        anyhow::anyhow!("{} cannot be used: {error}", folder.display())
                    })?;
                    Some(found.display().to_string())
                }
                None => None,
            };
            (args.service, OrderKind::Deploy { dir }, args.message)
        }
        Command::Rollback(args) => {
            let revision = args.revision.map(RevisionNumber);
            (args.service, OrderKind::Rollback { revision }, args.message)
        }
        Command::Scale(args) => (
            args.service,
            OrderKind::Scale {
                instances: args.instances,
            },
            args.message,
        ),
        Command::Restart(args) => (args.service, OrderKind::Restart, args.message),
        _ => return Ok(()),
    };
    let new = NewDeployment {
        order,
        who: Some(crate::who()),
        why: message,
    };
    let path = format!("/v1/services/{service}/deployments");
    let accepted: Accepted = client.post(&path, &new).await?;
    let ended = watch(client, &service, accepted.deployment, out).await?;
    let serving = client
        .get::<ServiceView>(&format!("/v1/services/{service}"))
        .await;
    tell(&ended, serving.is_ok_and(|view| view.serving > 0), out)
}

/// Waits for the end; on a terminal, with a picture of where it stands.
async fn watch(
    client: &Client,
    service: &ServiceName,
    deployment: i64,
    out: &Output,
) -> Result<DeploymentView, Failure> {
    let bar = if out.is_live() && !out.json {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(LOOK_INTERVAL);
    let look = async {
        loop {
            if let Ok(view) = client
                .get::<ServiceView>(&format!("/v1/services/{service}"))
                .await
            {
                let step = view.step.map_or("", DeployStep::word);
                let ready = format!("{} of {} ready", view.serving, view.wanted);
                bar.set_message(format!("{service}: {step} ({ready})"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let end = async {
        loop {
            let path = format!("/v1/deployments/{deployment}?wait={WAIT_SECONDS}");
            let view: DeploymentView = client.get(&path).await?;
            if view.outcome.is_some() {
                return Ok::<_, Failure>(view);
            }
        }
    };
    let ended = tokio::select! {
        ended = end => ended,
        never = look => never,
    };
    bar.finish_and_clear();
    ended
}

fn tell(ended: &DeploymentView, serving: bool, out: &Output) -> Result<(), Failure> {
    if out.json {
        return tell_json(ended, out);
    }
    let service = &ended.service;
    if ended.outcome.as_deref() != Some("succeeded") {
        out.say(format!("{BAD}✗{BAD:#} {}", ended.detail));
        match ended.previous.filter(|_| serving) {
            Some(previous) => out.say(format!("  {service} r{previous} goes on serving")),
            None => out.say(format!("  nothing of {service} serves now")),
        }
        if ended.code.as_deref() == Some("ATL0305") {
            out.say(format!("  `atoll logs {service}` tells more"));
        }
        if let Some(code) = &ended.code {
            out.say(format!("{FAINT}{}{FAINT:#}", explained(code)));
        }
        return Err(Failure::Told);
    }
    let took = Duration::from_millis(ended.took_ms.unwrap_or_default());
    let revision = ended
        .revision
        .map_or_else(|| "?".to_owned(), |number| format!("r{number}"));
    let what = match (ended.kind.as_str(), ended.previous) {
        ("scale", _) => ended.detail.clone(),
        ("restart", _) => format!("{revision} has new instances"),
        (_, Some(previous)) => format!("{revision} serves; it was r{previous}"),
        (_, None) => format!("{revision} serves"),
    };
    out.say(format!(
        "{GOOD}✓{GOOD:#} {service}: {what} {FAINT}({:.1}s){FAINT:#}",
        took.as_secs_f64()
    ));
    Ok(())
}

/// The deployment, with `error` if it did not succeed.
fn tell_json(ended: &DeploymentView, out: &Output) -> Result<(), Failure> {
    let failed = ended.outcome.as_deref() != Some("succeeded");
    let error = failed.then(|| ErrorView::new(ended.code.clone(), ended.detail.trim_end()));
    out.json(&EndedJson { ended, error });
    if failed { Err(Failure::Told) } else { Ok(()) }
}

pub(super) async fn history(
    client: &Client,
    service: &ServiceName,
    limit: u32,
    before: Option<i64>,
    out: &Output,
) -> Result<(), Failure> {
    let mut path = format!("/v1/services/{service}/history?limit={limit}");
    if let Some(before) = before {
        path.push_str(&format!("&before={before}"));
    }
    let entries: Vec<DeploymentView> = client.get(&path).await?;
    if out.json {
        out.json(&entries);
        return Ok(());
    }
    let head = [
        "ID", "WHEN", "WHAT", "REVISION", "OUTCOME", "TOOK", "WHO", "DIGEST", "WHY",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let outcome = match entry.outcome.as_deref() {
            Some("succeeded") => format!("{GOOD}succeeded{GOOD:#}"),
            Some(other) => format!("{BAD}{other}{BAD:#}"),
            None => "runs".to_owned(),
        };
        let digest = entry.digest.as_deref().and_then(|digest| digest.get(..12));
        let first_line = entry.detail.lines().next().unwrap_or_default();
        let why = [entry.why.as_str(), first_line];
        let why: Vec<&str> = why.into_iter().filter(|text| !text.is_empty()).collect();
        vec![
            entry.id.to_string(),
            entry
                .started
                .get(..19)
                .unwrap_or(&entry.started)
                .replace('T', " "),
            entry.kind.clone(),
            entry
                .revision
                .map_or_else(|| "-".to_owned(), |revision| format!("r{revision}")),
            outcome,
            entry
                .took_ms
                .map_or_else(|| "-".to_owned(), |ms| format!("{:.1}s", ms as f64 / 1e3)),
            entry.who.clone(),
            digest.unwrap_or("-").to_owned(),
            why.join(": "),
        ]
    }));
    out.data(table(&rows));
    if let Some(last) = entries.last().filter(|_| entries.len() == limit as usize) {
        out.more(last.id);
    }
    Ok(())
}
