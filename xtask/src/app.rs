//! An application in a temporary folder, up for as long as the value lives.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use crate::run::output;

/// No listeners for OTLP: their ports are the same in every application.
pub(crate) const NO_OTLP: &str = "[telemetry]\notlp_grpc = \"off\"\notlp_http = \"off\"\n";

/// The application. Dropping it takes it down.
pub(crate) struct App {
    dir: tempfile::TempDir,
    atoll: std::cell::OnceCell<PathBuf>,
    is_up: Cell<bool>,
}

impl App {
    /// A folder that has `name` as its last part.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(name)
            .tempdir()
            .context("no temporary folder")?;
        Ok(Self {
            dir,
            atoll: std::cell::OnceCell::new(),
            is_up: Cell::new(false),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Describes it: on free ports of this machine, and as `more` says.
    pub(crate) fn describe(&self, more: &str) -> anyhow::Result<()> {
        let manifest = format!(
            "name = \"bench\"\nmembers = [\"services/*\"]\n[edge]\nlisten = \"127.0.0.1:0\"\n[mesh]\nport = 0\n{more}"
        );
        let file = self.dir().join("atoll.toml");
        std::fs::write(&file, manifest)
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    /// Adds a service that runs this program with an argument.
    pub(crate) fn own_service(&self, name: &str, argument: &str, more: &str) -> anyhow::Result<()> {
        let program = std::env::current_exe()?;
        let program = program.display();
        self.service(name, &format!("[\"{program}\", \"{argument}\"]"), more)
    }

    /// Adds a service that runs a command, as its manifest has it.
    pub(crate) fn service(&self, name: &str, command: &str, more: &str) -> anyhow::Result<()> {
        let dir = self.dir().join("services").join(name);
        std::fs::create_dir_all(&dir)?;
        let manifest = format!("name = \"{name}\"\nrun = {command}\n{more}");
        std::fs::write(dir.join("service.toml"), manifest).context("service.toml cannot be written")
    }

    /// Brings it up; answers the edge's address.
    pub(crate) fn up(&self, atoll: &Path) -> anyhow::Result<String> {
        self.up_with(&mut Command::new(atoll), atoll)
    }

    /// Brings it up with a command that leads to atoll (`taskset … atoll`).
    pub(crate) fn up_with(&self, command: &mut Command, atoll: &Path) -> anyhow::Result<String> {
        // Known before the attempt: what a failed start left must go, too.
        let _ = self.atoll.set(atoll.to_owned());
        self.is_up.set(true);
        command
            .arg("-C")
            .arg(self.dir())
            .args(["up", "--detach"])
            .stderr(Stdio::inherit());
        let told = output(command)?;
        Ok(told.lines().last().unwrap_or_default().to_owned())
    }

    /// Takes it down.
    pub(crate) fn down(&self) -> anyhow::Result<()> {
        let Some(atoll) = self.atoll.get().filter(|_| self.is_up.replace(false)) else {
            return Ok(());
        };
        output(Command::new(atoll).arg("-C").arg(self.dir()).arg("down")).map(drop)
    }

    /// What `atoll ps --json` tells.
    pub(crate) fn services(&self) -> anyhow::Result<Vec<Value>> {
        let atoll = self.atoll.get().context("it is not up")?;
        let text = output(
            Command::new(atoll)
                .arg("-C")
                .arg(self.dir())
                .args(["ps", "--json"]),
        )?;
        let mut told: Value = serde_json::from_str(&text).context("what ps printed")?;
        serde_json::from_value(told["services"].take()).context("what ps printed")
    }

    /// The processor time that the node has used, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        crate::run::cpu_seconds(self.pid()?)
    }

    /// The process of the node.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.dir().join(".atoll/lock"))?;
        text.trim().parse().context("the lock holds no process id")
    }

    /// The last lines of everything, for a person who looks into a failure.
    pub(crate) fn show_logs(&self, atoll: &Path) {
        // It is help for a failure that is told anyway.
        let _ = Command::new(atoll)
            .arg("-C")
            .arg(self.dir())
            .args(["logs", "-n", "60"])
            .status();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("{error:#}");
        }
    }
}
