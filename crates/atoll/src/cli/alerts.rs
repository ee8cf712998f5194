//! `atoll alerts` and `atoll objectives`

use atoll_base::Timestamp;
use atoll_telemetry::objective::AlertState;
use clap::Subcommand;

use super::key::{minute, moment};
use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, inert, table};
use super::{Client, Failure};
use crate::admin::alerts::{AlertView, HistoryPage, ObjectiveView, Silence};
use crate::admin::client::escape;

#[derive(Debug, Subcommand)]
pub(super) enum Alerts {
    /// Tell nobody of an alert for a time. It is still shown, and told at the end if it still fires.
    #[command(group = clap::ArgGroup::new("how").required(true))]
    Silence {
        /// As `atoll alerts` shows it.
        id: String,
        /// How long (2h), or until when (RFC 3339).
        #[arg(long = "for", value_name = "WHEN", group = "how")]
        span: Option<String>,
        /// No longer.
        #[arg(long, group = "how")]
        end: bool,
    },
    /// Show when alerts fired and were resolved, the newest first.
    History {
        /// So many at most, up to 1000.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT",
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Those before this mark, which the page before has told.
        #[arg(long, value_name = "MARK")]
        before: Option<String>,
    },
}

pub(super) async fn run(
    client: &Client,
    what: Option<Alerts>,
    out: &Output,
) -> Result<(), Failure> {
    match what {
        None => list(client, out).await,
        Some(Alerts::History { limit, before }) => {
            history(client, limit, before.as_deref(), out).await
        }
        Some(Alerts::Silence { id, span, .. }) => {
            let until = span.as_deref().map(moment).transpose()?;
            silence(client, &id, until, out).await
        }
    }
}

async fn list(client: &Client, out: &Output) -> Result<(), Failure> {
    let alerts: Vec<AlertView> = client.get("/v1/alerts").await?;
    if out.json {
        out.json(&alerts);
        return Ok(());
    }
    if alerts.is_empty() {
        out.say(
            "No alerts: no budget burns too fast. `atoll objectives` shows what is left of them.",
        );
        return Ok(());
    }
    for alert in &alerts {
        out.data(format!(
            "{}  {STRONG}{}{STRONG:#}  {FAINT}since {}{FAINT:#}",
            colored(alert.state),
            alert.id,
            minute(alert.since)
        ));
        out.data(format!("  {}", inert(&alert.message)));
        if let Some(until) = alert.silenced_until {
            out.data(format!(
                "  {FAINT}nobody is told before {}{FAINT:#}",
                minute(until)
            ));
        }
    }
    Ok(())
}

async fn history(
    client: &Client,
    limit: u32,
    before: Option<&str>,
    out: &Output,
) -> Result<(), Failure> {
    let mut url = format!("/v1/alerts/history?limit={limit}");
    if let Some(before) = before {
        url.push_str(&format!("&before={}", escape(before)));
    }
    let page: HistoryPage = client.get(&url).await?;
    if out.json {
        out.json(&page.alerts);
        return Ok(());
    }
    if page.alerts.is_empty() {
        out.say("No alert has fired so far.");
        return Ok(());
    }
    let head = ["WHEN", "STATE", "ALERT", "MESSAGE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(page.alerts.iter().map(|change| {
        let AlertView {
            id,
            state,
            since,
            message,
            ..
        } = &change.alert;
        let silenced = if change.silenced { " (silenced)" } else { "" };
        let message = format!("{}{silenced}", inert(message));
        vec![minute(*since), colored(*state), id.clone(), message]
    }));
    out.data(table(&rows));
    if let Some(next) = &page.next {
        out.more(next);
    }
    Ok(())
}

async fn silence(
    client: &Client,
    id: &str,
    until: Option<Timestamp>,
    out: &Output,
) -> Result<(), Failure> {
    let url = format!("/v1/alerts/{}/silence", escape(id));
    client.order(&url, &Silence { until }).await?;
    match until {
        _ if out.json => out.json(&serde_json::json!({ "id": id, "silenced_until": until })),
        Some(until) => out.say(format!(
            "{GOOD}✓{GOOD:#} nobody is told of {id} before {}",
            minute(until)
        )),
        None => out.say(format!("{GOOD}✓{GOOD:#} {id} is told again")),
    }
    Ok(())
}

pub(super) async fn objectives(client: &Client, out: &Output) -> Result<(), Failure> {
    let all: Vec<ObjectiveView> = client.get("/v1/objectives").await?;
    if out.json {
        out.json(&all);
        return Ok(());
    }
    if all.is_empty() {
        out.say("No service has an objective. `[objective]` in a service.toml makes one.");
        return Ok(());
    }
    let head = [
        "SERVICE",
        "OBJECTIVE",
        "WINDOW",
        "BUDGET LEFT",
        "BURNS, 1h",
        "6h",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|own| {
        let left = format!("{:.1}%", own.budget_left * 100.0);
        let left = match own.budget_left {
            ..0.0 => format!("{BAD}{left}{BAD:#}"),
            ..0.2 => format!("{WARN}{left}{WARN:#}"),
            _ => left,
        };
        vec![
            own.service.clone(),
            format!("{} {}", own.kind.as_str(), own.target),
            own.window.clone(),
            left,
            format!("{:.1}×", own.burn_1h),
            format!("{:.1}×", own.burn_6h),
        ]
    }));
    out.data(table(&rows));
    Ok(())
}

fn colored(state: AlertState) -> String {
    let word = state.as_str();
    match state {
        AlertState::Pending => format!("{WARN}{word}{WARN:#}"),
        AlertState::Firing => format!("{BAD}{word}{BAD:#}"),
        AlertState::Resolved => format!("{GOOD}{word}{GOOD:#}"),
    }
}
