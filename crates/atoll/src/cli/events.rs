//! `atoll events`

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use atoll_base::{ByteCount, HumanDuration, ServiceName, Timestamp};
use clap::{Args, Subcommand};

use super::dead::{self, Dead};
use super::jobs::{self, Jobs};
use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, table};
use super::{Client, Failure, moment};
use crate::admin::client::escape;
use crate::admin::events::{
    NewRecordView, PlaceView, ReaderView, RecordView, ReplayOrder, Replayed, Text, TopicView,
};

/// `atoll events`
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    pub(super) what: Events,
}

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Show all topics.
    Topics,
    /// Publish a record.
    Publish(PublishArgs),
    /// Show records of a topic.
    Tail(TailArgs),
    /// Show who reads what, and how far behind they are.
    Lag,
    /// Deliver records again to one subscription.
    Replay {
        /// The service.
        service: ServiceName,
        /// The topic that it subscribes to.
        topic: String,
        /// Those published since: a time span (10m) or a moment (RFC 3339).
        #[arg(long, value_name = "WHEN")]
        from: String,
    },
    /// Look after jobs: work that services have asked for.
    Jobs {
        #[command(subcommand)]
        what: Jobs,
    },
    /// Show the outboxes of services, and what is wrong with them.
    Outboxes,
    /// Look after dead letters: records that a subscription has given up.
    Dead {
        #[command(subcommand)]
        what: Dead,
    },
}

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// The topic.
    topic: String,
    /// The value; "-" or nothing: what comes on stdin.
    value: Option<String>,
    /// The key: records of one key are delivered in order.
    #[arg(short, long)]
    key: Option<String>,
    /// A header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Subscriptions get it after this time.
    #[arg(long, value_name = "SPAN")]
    delay: Option<HumanDuration>,
}

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// The topic.
    topic: String,
    /// Those published since: a time span (10m) or a moment (RFC 3339).
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// The last so many of each partition. Default: 10, or all if a time is given.
    #[arg(short = 'n', long, value_name = "COUNT")]
    tail: Option<i64>,
    /// Stay, and show records as they come.
    #[arg(short, long)]
    follow: bool,
    /// Show headers too.
    #[arg(long)]
    headers: bool,
}

pub(super) async fn run(client: &Client, what: Events, out: &Output) -> Result<(), Failure> {
    match what {
        Events::Topics => topics(client, out).await,
        Events::Publish(args) => publish(client, args, out).await,
        Events::Tail(args) => tail(client, args, out).await,
        Events::Lag => lag(client, out).await,
        Events::Replay {
            service,
            topic,
            from,
        } => replay(client, &service, &topic, &from, out).await,
        Events::Jobs { what } => jobs::run(client, what, out).await,
        Events::Outboxes => jobs::outboxes(client, out).await,
        Events::Dead { what } => dead::run(client, what, out).await,
    }
}

async fn topics(client: &Client, out: &Output) -> Result<(), Failure> {
    let views: Vec<TopicView> = client.get("/v1/topics").await?;
    if out.json {
        out.json(&views);
        return Ok(());
    }
    if views.is_empty() {
        out.say("There are no topics. `[events]` in atoll.toml and `[publish] topics` in a service.toml make them.");
        return Ok(());
    }
    let head = [
        "TOPIC",
        "PARTITIONS",
        "RECORDS",
        "SIZE",
        "PUBLISHED BY",
        "READ BY",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(views.into_iter().map(|view| {
        vec![
            view.name,
            view.partitions.to_string(),
            view.records.to_string(),
            ByteCount(view.bytes).to_string(),
            names(&view.publishers),
            names(&view.readers),
        ]
    }));
    out.data(table(&rows));
    Ok(())
}

async fn publish(client: &Client, args: PublishArgs, out: &Output) -> Result<(), Failure> {
    let value = match args.value {
        Some(value) if value != "-" => Text::Plain(value),
        _ => Text::of(&stdin()?.into()),
    };
    let at = args.delay.map(|delay| Timestamp::now().after(delay.0));
    let new = NewRecordView {
        key: args.key.map(Text::Plain),
        value: Some(value),
        headers: args.headers,
        deliver_at: at.map(|at| at.to_string()),
    };
    let url = format!("/v1/topics/{}/records", escape(&args.topic));
    let place: PlaceView = client.post(&url, &new).await?;
    if out.json {
        out.json(&place);
    } else {
        let PlaceView {
            topic,
            partition,
            offset,
        } = place;
        out.say(format!(
            "{GOOD}✓{GOOD:#} {topic}: record {offset} of partition {partition}"
        ));
    }
    Ok(())
}

async fn tail(client: &Client, args: TailArgs, out: &Output) -> Result<(), Failure> {
    let mut url = format!(
        "/v1/topics/{}/records?follow={}",
        escape(&args.topic),
        args.follow
    );
    if let Some(from) = &args.from {
        url.push_str(&format!("&from={}", escape(&moment(from)?.to_string())));
    }
    if let Some(tail) = args.tail {
        url.push_str(&format!("&tail={tail}"));
    }
    let mut lines = client.lines(&url).await?;
    let mut found = false;
    while let Some(line) = lines.next().await? {
        found = true;
        if out.json {
            out.data(String::from_utf8_lossy(&line));
            continue;
        }
        let record: RecordView = serde_json::from_slice(&line).map_err(anyhow::Error::from)?;
        show(&record, args.headers, out);
    }
    if !found {
        out.say("no records");
    }
    Ok(())
}

fn show(record: &RecordView, headers: bool, out: &Output) {
    let time = record.time.as_deref().unwrap_or("-");
    let key = record.key.as_ref().map_or("-".to_owned(), plain);
    let value = record.value.as_ref().map_or("(no value)".to_owned(), plain);
    let place = format!("{}:{}", record.partition, record.offset);
    out.data(format!(
        "{FAINT}{time}{FAINT:#} {place:<8} {STRONG}{key}{STRONG:#} {value}"
    ));
    for (name, value) in record.headers.iter().filter(|_| headers) {
        let value = value.as_ref().map_or(String::new(), plain);
        out.data(format!("  {FAINT}{name}: {value}{FAINT:#}"));
    }
}

async fn lag(client: &Client, out: &Output) -> Result<(), Failure> {
    let views: Vec<ReaderView> = client.get("/v1/readers").await?;
    if out.json {
        out.json(&views);
        return Ok(());
    }
    if views.is_empty() {
        out.say("Nobody reads. `[[subscribe]]` in a service.toml makes a subscription.");
        return Ok(());
    }
    let head = [
        "READER",
        "TOPIC",
        "LAG",
        "UNDER WAY",
        "TAKEN",
        "FAILED",
        "DEAD",
        "STATE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(views.iter().map(|view| {
        let count = |count: u64| {
            if view.pushed {
                count.to_string()
            } else {
                "-".to_owned()
            }
        };
        vec![
            view.name.clone(),
            view.topic.clone(),
            view.lag.to_string(),
            count(view.in_flight as u64),
            count(view.taken),
            count(view.failed),
            count(view.dead),
            state(view),
        ]
    }));
    out.data(table(&rows));
    for view in &views {
        if let (Some(trouble), Some(at)) = (&view.trouble, &view.trouble_at) {
            out.say(format!(
                "{FAINT}{at}{FAINT:#} {} from {}: {trouble}",
                view.name, view.topic
            ));
        }
    }
    Ok(())
}

fn state(view: &ReaderView) -> String {
    match view {
        ReaderView { pushed: false, .. } => "consumer group".to_owned(),
        ReaderView {
            paused_until: Some(_),
            ..
        } => format!("{BAD}nobody answers{BAD:#}"),
        ReaderView { failing: 0, .. } => format!("{GOOD}delivers{GOOD:#}"),
        ReaderView { failing: 1, .. } => format!("{WARN}1 key fails{WARN:#}"),
        ReaderView { failing, .. } => format!("{WARN}{failing} keys fail{WARN:#}"),
    }
}

async fn replay(
    client: &Client,
    service: &ServiceName,
    topic: &str,
    from: &str,
    out: &Output,
) -> Result<(), Failure> {
    let order = ReplayOrder {
        from: moment(from)?.to_string(),
    };
    let url = format!("/v1/readers/{service}/{}/replay", escape(topic));
    let replayed: Replayed = client.post(&url, &order).await?;
    if out.json {
        out.json(&replayed);
    } else {
        let records = replayed.records;
        out.say(format!(
            "{GOOD}✓{GOOD:#} {records} records of {topic} go to {service} again"
        ));
    }
    Ok(())
}

/// Text as it is; bytes in base64.
pub(super) fn plain(text: &Text) -> String {
    match text {
        Text::Plain(text) => text.clone(),
        Text::Bytes { base64 } => format!("base64:{base64}"),
    }
}

pub(super) fn stdin() -> Result<Vec<u8>, anyhow::Error> {
    let mut value = Vec::new();
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        // Whoever forgot the value is not left in the dark.
        let _ = writeln!(std::io::stderr(), "the value, then Ctrl-D:");
    }
    let read = std::io::stdin().read_to_end(&mut value);
    read.context("stdin cannot be read")?;
    Ok(value)
}

fn names(all: &[String]) -> String {
    if all.is_empty() {
        "-".to_owned()
    } else {
        all.join(" ")
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=');
    let parts = parts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    parts.ok_or_else(|| format!("`{text}` has no '=': a header is NAME=VALUE"))
}
