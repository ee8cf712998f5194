//! The ways to tell somebody: a webhook, a command, a topic. One attempt each; when to try again is decided
//! in [`super::delivery`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use atoll_events::{Bus, BusError};
use atoll_telemetry::objective::AlertsConfig;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::delivery::Outcome;
use super::message::Message;
use crate::node::post::Place;

/// Of what a command says, so much is read, and as many bytes of its end are told.
const SAID_BYTES_MAX: u64 = 64 << 10;
const SAID_BYTES_TOLD: usize = 300;
/// A command that has ended is heard for so long.
const HEAR_MAX: Duration = Duration::from_millis(500);

/// What a command has of the node's own environment.
const INHERITED: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// A way to tell somebody.
pub(super) enum Way {
    Webhook(Place),
    Command { command: Vec<String>, dir: PathBuf },
    Topic { topic: Arc<str>, bus: Arc<dyn Bus> },
}

impl Way {
    /// The ways of a configuration. `dir` is the application's folder; a topic needs a `bus`.
    pub(super) fn all(config: &AlertsConfig, dir: &Path, bus: Option<&Arc<dyn Bus>>) -> Vec<Self> {
        let webhook = config.webhook.as_ref().map(|url| {
            let headers = config.webhook_headers.as_ref();
            let ca = config.webhook_ca.as_ref();
            Self::Webhook(Place::new(url, dir, headers, ca))
        });
        let command = (!config.command.is_empty()).then(|| Self::Command {
            command: config.command.clone(),
            dir: dir.to_owned(),
        });
        let topic = config
            .topic
            .as_deref()
            .zip(bus)
            .map(|(topic, bus)| Self::Topic {
                topic: topic.into(),
                bus: Arc::clone(bus),
            });
        webhook.into_iter().chain(command).chain(topic).collect()
    }

    /// Its name, in the state and in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Command { .. } => "command",
            Self::Topic { .. } => "topic",
        }
    }

    /// Whether it can be used at all.
    ///
    /// # Errors
    /// When the headers or the certificates cannot be read.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Webhook(place) => place.check(),
            Self::Command { .. } | Self::Topic { .. } => Ok(()),
        }
    }

    /// One attempt.
    pub(super) async fn tell(&self, message: &Message, timeout: Duration) -> Outcome {
        let attempt = async {
            match self {
                Self::Webhook(place) => webhook(place, message).await,
                Self::Command { command, dir } => run(command, dir, message).await,
                Self::Topic { topic, bus } => publish(bus, topic, message).await,
            }
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("no end within {} s", timeout.as_secs()), None),
        }
    }
}

async fn webhook(place: &Place, message: &Message) -> Outcome {
    let sent = async {
        let mut headers = place.headers()?;
        let json = HeaderValue::from_static("application/json");
        headers.entry(CONTENT_TYPE).or_insert(json);
        place.post("", headers, message.json().into()).await
    };
    match sent.await {
        Ok(answer) => Outcome::answered(answer.status, answer.retry_after),
        Err(error) => Outcome::Failed(format!("{error:#}"), None),
    }
}

async fn publish(bus: &Arc<dyn Bus>, topic: &Arc<str>, message: &Message) -> Outcome {
    match bus.publish(vec![message.record(Arc::clone(topic))]).await {
        Ok(_) => Outcome::Taken,
        Err(BusError::Refused(why)) => Outcome::Refused(why),
        Err(error) => Outcome::Failed(error.to_string(), None),
    }
}

/// Runs the command to its end. It leads a process group of its own, which ends with it: also if nobody
/// waits any more.
async fn run(command: &[String], dir: &Path, message: &Message) -> Outcome {
    let Some((program, arguments)) = command.split_first() else {
        return Outcome::Refused("there is no command".to_owned());
    };
    let failed = |what: &str, error: std::io::Error| {
        Outcome::Failed(format!("{program}: {what}: {error}"), None)
    };
    let own = INHERITED
        .iter()
        .filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(own)
        .envs(message.variables())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return failed("it cannot be started", error),
    };
    let mut group = Group(child.id());
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // Who does not read it may have the variables.
            let _ = stdin.write_all(message.json().as_bytes()).await;
        }
    };
    let hear = async {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said).await;
        }
        String::from_utf8_lossy(&said).trim().to_owned()
    };
    let talk = async { tokio::join!(give, hear).1 };
    tokio::pin!(talk);
    let (ended, said) = tokio::select! {
        ended = child.wait() => {
            // Something that it has left running may hold the pipe open.
            let said = tokio::time::timeout(HEAR_MAX, talk).await;
            (ended, said.unwrap_or_default())
        }
        said = &mut talk => (child.wait().await, said),
    };
    group.0 = None;
    match ended {
        Ok(status) if status.success() => Outcome::Taken,
        Ok(status) => {
            let mut from = said.len().saturating_sub(SAID_BYTES_TOLD);
            while !said.is_char_boundary(from) {
                from += 1;
            }
            Outcome::Failed(format!("{program}: {status}: {}", &said[from..]), None)
        }
        Err(error) => failed("its end is not known", error),
    }
}

/// A process group that is killed when this goes out of scope before its leader has ended.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // It may just have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        serde_json::from_value(serde_json::json!({
            "id": "a-latency-page-1", "alert": "a-latency-page", "application": "shop", "service": "a",
            "objective": "latency", "severity": "page", "state": "firing",
            "since": "2025-11-21T02:00:00.000000Z", "message": "slow", "target": "99% within 300ms",
            "window": "30d", "budget_left": 0.5, "burn_1h": 20.0, "burn_6h": 3.0
        }))
        .unwrap()
    }

    async fn sh(script: &str, timeout: Duration) -> (Outcome, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let way = Way::Command {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            dir: dir.path().to_owned(),
        };
        (way.tell(&message(), timeout).await, dir)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_command_gets_the_alert_in_both_forms() {
        let (outcome, dir) = sh("cat >got; echo \"$ALERT_STATE $ALERT_SERVICE\" >>got", LONG).await;
        assert_eq!(outcome, Outcome::Taken);
        let got = std::fs::read_to_string(dir.path().join("got")).unwrap();
        assert_eq!(got, format!("{}firing a\n", message().json()));
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_with_what_it_said() {
        let (outcome, _dir) = sh("echo no mail >&2; exit 3", LONG).await;
        let Outcome::Failed(why, None) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(why.contains("exit status: 3: no mail"), "{why}");
        let way = Way::Command {
            command: vec!["/nowhere/at-all".to_owned()],
            dir: std::env::temp_dir(),
        };
        let outcome = way.tell(&message(), LONG).await;
        assert!(matches!(outcome, Outcome::Failed(..)), "{outcome:?}");
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_does_not_hold_it_up() {
        let (outcome, _dir) = sh("sleep 2 & exit 0", LONG).await;
        assert_eq!(outcome, Outcome::Taken);
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_all_that_it_began() {
        let script = "(trap '' TERM; echo $$ >pid; sleep 1000) & sleep 1000";
        let (outcome, dir) = sh(script, Duration::from_millis(500)).await;
        assert!(matches!(outcome, Outcome::Failed(..)), "{outcome:?}");
        let group = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        let group = Pid::from_raw(group.trim().parse().unwrap()).unwrap();
        while rustix::process::test_kill_process_group(group).is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
