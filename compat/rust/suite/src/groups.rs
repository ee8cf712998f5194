//! A group whose members die: each is a process of its own, killed with SIGKILL.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
};
use rdkafka::message::Message as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::client::{PATIENCE, config, name, publish, topic};

const PARTITIONS: i32 = 6;

/// What a member has told: its number, and a line.
type Line = (usize, String);

/// What is known of all members.
#[derive(Default)]
struct Known {
    shares: HashMap<usize, BTreeSet<i32>>,
    read: HashMap<String, usize>,
}

impl Known {
    fn note(&mut self, (member, line): Line) {
        match line.split_once(' ') {
            Some(("partitions", list)) => {
                let list = list.split(',').filter_map(|one| one.parse().ok());
                self.shares.insert(member, list.collect());
            }
            Some(("record", value)) => *self.read.entry(value.to_owned()).or_default() += 1,
            _ => {}
        }
    }

    /// Whether each has some, together all, and nobody what another has.
    fn settled(&self, living: usize) -> bool {
        let all: BTreeSet<i32> = self.shares.values().flatten().copied().collect();
        let sum: usize = self.shares.values().map(BTreeSet::len).sum();
        self.shares.values().filter(|own| !own.is_empty()).count() == living
            && all == (0..PARTITIONS).collect()
            && sum == all.len()
    }
}

pub(crate) async fn go_on_when_members_die(address: &str) -> anyhow::Result<()> {
    let (own, group) = (topic(address, PARTITIONS).await?, name("group"));
    let (tell, mut told) = mpsc::channel(100);
    let mut members: Vec<(usize, Child)> = Vec::new();
    for number in 0..3 {
        members.push((
            number,
            start(number, [address, &group, &own], tell.clone())?,
        ));
    }
    let mut known = Known::default();
    let mut wanted = Vec::new();
    while !members.is_empty() {
        until(&mut told, &mut known, |known| known.settled(members.len())).await?;
        let values: Vec<_> = (0..30)
            .map(|number| format!("{}-{number}", members.len()))
            .collect();
        publish(address, &own, &values, 6, &[]).await?;
        wanted.extend(values);
        until(&mut told, &mut known, |known| {
            wanted.iter().all(|one| known.read.contains_key(one))
        })
        .await?;
        let (number, mut victim) = members.remove(0);
        victim.kill().await?;
        known.shares.remove(&number);
    }
    let often = known.read.values().filter(|times| **times > 2).count();
    ensure!(often == 0, "{often} records were read three times or more");
    Ok(())
}

async fn until(
    told: &mut mpsc::Receiver<Line>,
    known: &mut Known,
    is_so: impl Fn(&Known) -> bool,
) -> anyhow::Result<()> {
    while !is_so(known) {
        let line = tokio::time::timeout(PATIENCE, told.recv()).await;
        let line =
            line.with_context(|| format!("in vain waited for the group: {:?}", known.shares))?;
        known.note(line.context("all members have ended")?);
    }
    Ok(())
}

fn start(number: usize, given: [&str; 3], tell: mpsc::Sender<Line>) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("member")
        .args(given)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let out = child.stdout.take().context("its output")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(out).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if tell.send((number, line)).await.is_err() {
                return;
            }
        }
    });
    Ok(child)
}

/// Tells which partitions it has.
struct Told;

impl ClientContext for Told {}

impl ConsumerContext for Told {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        let places = consumer
            .assignment()
            .map(|list| list.elements().iter().map(|own| own.partition()).collect());
        let places: Vec<i32> = places.unwrap_or_default();
        let places: Vec<_> = places.iter().map(i32::to_string).collect();
        say(&format!("partitions {}", places.join(",")));
    }
}

/// A member of the group, until it is killed.
pub(crate) async fn member(address: &str, group: &str, topic: &str) -> ExitCode {
    let times = [
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "300"),
    ];
    let mut config = config(address, &times);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    let consumer: StreamConsumer<Told> = match config.create_with_context(Told) {
        Ok(consumer) => consumer,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = consumer.subscribe(&[topic]) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    loop {
        let Ok(message) = consumer.recv().await else {
            continue;
        };
        // Refused in a rebalance: then somebody else reads it again.
        let _ = consumer.commit_message(&message, CommitMode::Sync);
        let value = String::from_utf8_lossy(message.payload().unwrap_or(b"")).into_owned();
        say(&format!("record {value}"));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who does not listen any more will kill this.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
