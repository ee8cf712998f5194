//! `atoll up`

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atoll_store::StateDir;
use atoll_telemetry::{Level, LogRecord, Stream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{FAINT, GOOD, Output, WARN};
use super::{Client, Failure, UpArgs, application_dir, live, watch};
use crate::admin;
use crate::manifest;
use crate::node::{Node, STATE_FOLDER};

/// What a detached node says beside its log.
const DETACHED_OUTPUT: &str = "node.out";

/// What a detached node prints as data: with `--json`, why it did not come up.
const DETACHED_DATA: &str = "node.json";

/// A last word waits so long for a terminal that stands still.
const SAY_WITHIN: Duration = Duration::from_millis(200);

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
        return runtime.block_on(detached(&dir, &args, &client, out));
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
    // The services must not end because nobody reads, or because the disk is full that takes the output.
    let out = &out.that_stays();
    let mut signals = Signals::new().context("signals cannot be received")?;
    let socket = admin::path(&application.dir);
    let node = Node::open(application).await?;
    let ran = start(&node, &socket, args, out).await;
    let why = match ran {
        Ok(()) => {
            talk_beside(client, args.background, *out);
            tokio::select! {
                why = node.stop_requested() => why,
                () = signals.next() => Ok(()),
            }
        }
        Err(error) => Err(error),
    };
    say_beside(
        *out,
        format!("{FAINT}stopping; once more Ctrl-C does not wait{FAINT:#}"),
    );
    tokio::select! {
        () = node.stop() => {}
        // The services die with this process; the next start looks for what is left.
        () = signals.next() => return Err(anyhow::anyhow!("stopped without waiting").into()),
    }
    // The lock on the folder guards the socket still.
    let _ = std::fs::remove_file(&socket);
    why?;
    say_beside(*out, format!("{GOOD}✓{GOOD:#} down"));
    Ok(())
}

/// Everything that can fail comes before the first service starts.
async fn start(node: &Arc<Node>, socket: &Path, args: &UpArgs, out: &Output) -> anyhow::Result<()> {
    let listener =
        admin::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    if args.watch {
        watch::spawn(node, *out).context("the folders cannot be watched")?;
    }
    // Who asks meanwhile waits: otherwise a service would be seen whose deployment has not begun, and
    // taken for one that is over.
    node.start_services(args.build).await?;
    node.tasks()
        .spawn("admin", admin::serve(listener, Arc::clone(node)));
    Ok(())
}

/// The signals that end the node.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Talks on a thread of its own: whoever reads may be slow or stand still, and the node must not.
fn talk_beside(client: &Client, background: bool, out: Output) {
    let client = client.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        if let Err(failure) = runtime.block_on(talk(&client, background, &out)) {
            // Whether the command fails is told at its end, not here.
            out.say_failure(&failure);
        }
    });
}

/// Says one line, and goes on after a moment even if nobody reads it.
fn say_beside(out: Output, line: String) {
    let (said, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        out.say(line);
        // Nobody waits any more if it took too long.
        let _ = said.send(());
    });
    // Time is up, or it was said: the same to us.
    let _ = waiting.recv_timeout(SAY_WITHIN);
}

/// Shows the start, then whatever goes wrong with services. Single requests that fail are in the
/// log; there may be thousands. In the background all of it is in the log alone.
async fn talk(client: &Client, background: bool, out: &Output) -> Result<(), Failure> {
    live::show(client, None, out).await?;
    if background {
        return Ok(());
    }
    out.say(format!(
        "{FAINT}`atoll ps`, `atoll logs --follow`; Ctrl-C stops{FAINT:#}"
    ));
    let mut lines = client.lines("/v1/logs?follow=true&tail=0").await?;
    while let Some(line) = lines.next().await? {
        let Ok(record) = serde_json::from_slice::<LogRecord>(&line) else {
            continue;
        };
        let grave = record.level.is_some_and(|level| level >= Level::Warn);
        if record.stream == Stream::Platform && grave && record.trace.is_none() {
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
async fn detached(dir: &Path, args: &UpArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let patience = live::Patience::from_now(args.timeout.0);
    let state = dir.join(STATE_FOLDER);
    StateDir::make(&state).map_err(anyhow::Error::from)?;
    let output = state.join(DETACHED_OUTPUT);
    let mut command = Command::new(std::env::current_exe().context("where is atoll?")?);
    command
        .arg("--color=never")
        .arg("-C")
        .arg(dir)
        .args(["up", "--background"]);
    if args.build {
        command.arg("--build");
    }
    let data = state.join(DETACHED_DATA);
    if out.json {
        command.arg("--json");
    }
    command
        .stdin(Stdio::null())
        .stdout(own_file(&data)?)
        .stderr(own_file(&output)?);
    // A group of its own: Ctrl-C at this terminal is not for it.
    let mut child = command
        .process_group(0)
        .spawn()
        .context("the node cannot be started")?;
    while !client.is_running().await {
        if let Some(status) = child.try_wait().context("the node cannot be watched")? {
            return Err(refused(status, &output, &data, out));
        }
        if patience.is_over() {
            return Err(anyhow::Error::from(live::Late(patience.span)).into());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    let ended = live::show(client, Some(patience), out).await?;
    out.say(format!(
        "{FAINT}`atoll ps`, `atoll logs --follow`, `atoll down`{FAINT:#}"
    ));
    if ended.all_ready {
        Ok(())
    } else {
        Err(Failure::Told)
    }
}

/// Hands on what a node said that ended before it was up.
fn refused(status: ExitStatus, output: &Path, data: &Path, out: &Output) -> Failure {
    let said = std::fs::read_to_string(output).unwrap_or_default();
    out.say(said.trim_end());
    let document = std::fs::read_to_string(data).unwrap_or_default();
    match status.code() {
        Some(1..=4) if !out.json => Failure::Told,
        Some(1..=4) if !document.is_empty() => {
            out.data(document.trim_end());
            Failure::Told
        }
        _ => anyhow::anyhow!("the node ended: {status}").into(),
    }
}

/// An empty file that only its owner may read.
fn own_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}
