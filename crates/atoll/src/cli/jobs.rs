//! `atoll events jobs` and `atoll events outboxes`

use clap::Subcommand;

use super::events::plain;
use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, table};
use super::{Client, Failure};
use crate::admin::client::escape;
use crate::admin::jobs::{JobState, JobView, OutboxView};

#[derive(Debug, Subcommand)]
pub(super) enum Jobs {
    /// Show jobs, the newest first.
    List {
        /// Those of this queue.
        #[arg(long)]
        queue: Option<String>,
        /// Those that stand so.
        #[arg(long)]
        state: Option<JobState>,
        /// So many at most, up to 10000.
        #[arg(short = 'n', long, default_value_t = 100, value_name = "COUNT",
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Those that were asked for before this one.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Show one job: attempts, the last failure, the answer.
    Show {
        /// As `list` shows it.
        id: String,
    },
    /// Call a job off: one that waits is never delivered, the call of one that runs is dropped.
    Cancel {
        /// As `list` shows it.
        id: String,
    },
    /// Try a job anew that has failed or was cancelled.
    Retry {
        /// As `list` shows it.
        id: String,
    },
}

pub(super) async fn run(client: &Client, what: Jobs, out: &Output) -> Result<(), Failure> {
    match what {
        Jobs::List {
            queue,
            state,
            limit,
            before,
        } => {
            let mut url = format!("/v1/jobs?limit={limit}");
            let state = state.map(|state| state.as_str().to_owned());
            for (name, value) in [("queue", queue), ("state", state), ("before", before)] {
                if let Some(value) = value {
                    url.push_str(&format!("&{name}={}", escape(&value)));
                }
            }
            let jobs: Vec<JobView> = client.get(&url).await?;
            list(&jobs, limit, out);
            Ok(())
        }
        Jobs::Show { id } => {
            let job: JobView = client.get(&path(&id)).await?;
            show(&job, out);
            Ok(())
        }
        Jobs::Cancel { id } => order(client, &id, "cancel", "is called off", out).await,
        Jobs::Retry { id } => order(client, &id, "retry", "is queued again", out).await,
    }
}

fn list(jobs: &[JobView], limit: u32, out: &Output) {
    if out.json {
        out.json(&jobs);
        return;
    }
    if jobs.is_empty() {
        out.say("No jobs.");
        return;
    }
    let head = [
        "ID", "QUEUE", "SERVICE", "STATE", "ATTEMPTS", "CREATED", "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(jobs.iter().map(|job| {
        vec![
            job.id.clone(),
            job.queue.clone(),
            job.service.clone(),
            colored(job.state),
            job.attempts.to_string(),
            job.created.to_string(),
            job.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    out.data(table(&rows));
    if let Some(last) = jobs.last().filter(|_| jobs.len() == limit as usize) {
        out.more(&last.id);
    }
}

fn show(job: &JobView, out: &Output) {
    if out.json {
        out.json(job);
        return;
    }
    out.data(format!(
        "{STRONG}{}{STRONG:#}  {}",
        job.id,
        colored(job.state)
    ));
    out.data(format!(
        "  {} asked {} for it in {}",
        job.caller, job.service, job.queue
    ));
    out.data(format!("  attempts  {}", job.attempts));
    let times = [
        ("created", Some(job.created)),
        ("due", job.due),
        ("started", job.started),
        ("finished", job.finished),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            out.data(format!("  {name:<8}  {at}"));
        }
    }
    if let Some(reason) = &job.reason {
        out.data(format!("  {BAD}{reason}{BAD:#}"));
    }
    if let Some(answer) = &job.answer {
        let kind = answer.content_type.as_deref().unwrap_or("no content type");
        let cut = if answer.cut { ", cut" } else { "" };
        out.data(format!("  answered {}, {kind}{cut}:", answer.status));
        out.data(plain(&answer.body));
    }
}

async fn order(
    client: &Client,
    id: &str,
    what: &str,
    done: &str,
    out: &Output,
) -> Result<(), Failure> {
    let url = format!("{}/{what}", path(id));
    let job: JobView = client.post(&url, &()).await?;
    if out.json {
        out.json(&job);
    } else {
        out.say(format!("{GOOD}✓{GOOD:#} {} {done}", job.id));
    }
    Ok(())
}

pub(super) async fn outboxes(client: &Client, out: &Output) -> Result<(), Failure> {
    let views: Vec<OutboxView> = client.get("/v1/outboxes").await?;
    if out.json {
        out.json(&views);
        return Ok(());
    }
    if views.is_empty() {
        out.say("No service that runs has an outbox. `[outbox]` in a service.toml makes one.");
        return Ok(());
    }
    let head = ["SERVICE", "TABLE", "PUBLISHED", "REFUSED", "WAITING"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(views.iter().map(|view| {
        vec![
            view.service.clone(),
            view.table.clone(),
            view.published.to_string(),
            view.refused.to_string(),
            view.waiting.to_string(),
        ]
    }));
    out.data(table(&rows));
    for view in &views {
        if let (Some(trouble), Some(since)) = (&view.trouble, view.trouble_since) {
            out.say(format!(
                "{FAINT}{since}{FAINT:#} {}: {trouble}",
                view.service
            ));
        }
    }
    Ok(())
}

fn colored(state: JobState) -> String {
    let word = state.as_str();
    match state {
        JobState::Queued | JobState::Cancelled => word.to_owned(),
        JobState::Running => format!("{WARN}{word}{WARN:#}"),
        JobState::Done => format!("{GOOD}{word}{GOOD:#}"),
        JobState::Failed => format!("{BAD}{word}{BAD:#}"),
    }
}

/// Where the API has it.
fn path(id: &str) -> String {
    format!("/v1/jobs/{}", escape(id))
}
