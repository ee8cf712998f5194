//! `atoll up`

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atoll_store::StateDir;
use atoll_telemetry::{Level, LogRecord, Stream};
use tokio::signal::unix::{SignalKind, signal};

use super::output::{FAINT, GOOD, Output, WARN};
use super::{Client, Failure, UpArgs, application_dir, live, watch};
use crate::admin;
use crate::manifest;
use crate::node::{Node, STATE_FOLDER};

/// What a detached node says beside its log.
const DETACHED_OUTPUT: &str = "node.out";

/// How often it is asked whether a detached node answers.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

pub(super) fn run(dir: Option<&Path>, args: UpArgs, out: &Output) -> Result<(), Failure> {
    let dir = application_dir(args.dir.as_deref().or(dir));
    let application = manifest::load(&dir).map_err(Failure::Manifest)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let client = Client::new(&dir);
    if runtime.block_on(client.is_running()) {
        let message = format!(
            "{} is up already; `atoll ps` shows it",
            application.file.name
        );
        return Err(anyhow::anyhow!(message).into());
    }
    let report = manifest::preflight(&application, true);
    if !report.is_empty() {
        return Err(Failure::Manifest(report));
    }
    if args.detach {
        return runtime.block_on(detached(&dir, args.build, &client, out));
    }
    let outcome = runtime.block_on(attached(application, &args, &client, out));
    // What still runs by now (a search of the log, a build) is of no use to anybody.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The node in this process, until somebody stops it.
async fn attached(
    application: manifest::Application,
    args: &UpArgs,
    client: &Client,
    out: &Output,
) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("no signals")?;
    let socket = admin::path(&application.dir);
    let node = Node::open(application).await?;
    let listener =
        admin::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    node.tasks()
        .spawn("admin", admin::serve(listener, Arc::clone(&node)));
    if let Err(error) = node.start_services(args.build).await {
        node.stop().await;
        return Err(error.into());
    }
    if args.watch {
        watch::spawn(&node, *out)?;
    }
    let picture = async {
        if let Err(failure) = talk(client, out).await {
            out.failure(&failure);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = picture => {}
        () = node.stop_requested() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    out.say(format!(
        "{FAINT}stopping; once more Ctrl-C does not wait{FAINT:#}"
    ));
    tokio::select! {
        () = node.stop() => {}
        // The services die with this process; the next start looks for what is left.
        _ = interrupt.recv() => return Err(anyhow::anyhow!("stopped without waiting").into()),
    }
    // The lock on the folder guards the socket still.
    let _ = std::fs::remove_file(&socket);
    out.say(format!("{GOOD}✓{GOOD:#} down"));
    Ok(())
}

/// Shows the start, then whatever goes wrong.
async fn talk(client: &Client, out: &Output) -> Result<(), Failure> {
    live::show(client, out).await?;
    out.say(format!(
        "{FAINT}`atoll ps`, `atoll logs --follow`; Ctrl-C stops{FAINT:#}"
    ));
    let mut lines = client.lines("/v1/logs?follow=true&tail=0").await?;
    while let Some(line) = lines.next().await? {
        let Ok(record) = serde_json::from_slice::<LogRecord>(&line) else {
            continue;
        };
        let grave = record.level.is_some_and(|level| level >= Level::Warn);
        if record.stream == Stream::Platform && grave {
            let origin = if record.instance.is_empty() {
                record.service.as_str()
            } else {
                record.instance.as_str()
            };
            out.say(format!("{WARN}!{WARN:#} {origin}: {}", record.message));
        }
    }
    Ok(())
}

/// The node in a process of its own, which outlives this one.
async fn detached(dir: &Path, build: bool, client: &Client, out: &Output) -> Result<(), Failure> {
    let state = dir.join(STATE_FOLDER);
    StateDir::make(&state).map_err(anyhow::Error::from)?;
    let output = state.join(DETACHED_OUTPUT);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&output)
        .with_context(|| format!("cannot write {}", output.display()))?;
    let mut command = Command::new(std::env::current_exe().context("where is atoll?")?);
    command.arg("--color=never").arg("-C").arg(dir).arg("up");
    if build {
        command.arg("--build");
    }
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("no file")?)
        .stderr(file);
    // A group of its own: Ctrl-C at this terminal is not for it.
    let mut child = command
        .process_group(0)
        .spawn()
        .context("the node cannot be started")?;
    while !client.is_running().await {
        if let Some(status) = child.try_wait().context("the node cannot be watched")? {
            let said = std::fs::read_to_string(&output).unwrap_or_default();
            out.say(said.trim_end());
            return Err(match status.code() {
                Some(1..=4) => Failure::Told,
                _ => anyhow::anyhow!("the node ended: {status}").into(),
            });
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    let ended = live::show(client, out).await?;
    out.say(format!(
        "{FAINT}`atoll ps`, `atoll logs --follow`, `atoll down`{FAINT:#}"
    ));
    if ended.all_ready {
        Ok(())
    } else {
        Err(Failure::Told)
    }
}
