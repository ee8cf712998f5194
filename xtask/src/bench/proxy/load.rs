//! The load: wrk for HTTP/1.1, h2load for HTTP/2, on CPU 1.
//!
//! A single failed request fails the turn: what a proxy refuses costs it little.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::output;

/// wrk, with one thread.
pub(super) struct Wrk {
    pub(super) scheme: &'static str,
    pub(super) path: &'static str,
    pub(super) connections: u32,
    /// A field for every request.
    pub(super) header: Option<String>,
    /// A script in Lua that makes the requests.
    pub(super) script: Option<PathBuf>,
}

/// h2load with 4 connections of 100 streams each, by prior knowledge.
#[derive(Default)]
pub(super) struct H2load {
    pub(super) path: &'static str,
    pub(super) headers: &'static [&'static str],
    /// A file that every request has as its body, by POST.
    pub(super) data: Option<PathBuf>,
}

impl Default for Wrk {
    fn default() -> Self {
        Self {
            scheme: "http",
            path: "/",
            connections: 64,
            header: None,
            script: None,
        }
    }
}

impl Wrk {
    /// Loads an address; tells how many requests were answered.
    pub(super) fn run(&self, address: &str, seconds: u32) -> anyhow::Result<f64> {
        let mut wrk = pinned("wrk");
        wrk.args(["-t1", "--timeout", "10s"])
            .arg(format!("-c{}", self.connections))
            .arg(format!("-d{seconds}s"));
        if let Some(header) = &self.header {
            wrk.args(["-H", header]);
        }
        if let Some(script) = &self.script {
            wrk.arg("-s").arg(script);
        }
        let text = output(wrk.arg(format!("{}://{address}{}", self.scheme, self.path)))?;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            bail!("requests to {address} failed:\n{text}");
        }
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "));
        requests
            .and_then(|(count, _)| count.parse().ok())
            .filter(|count| *count > 0.0)
            .with_context(|| format!("what wrk printed:\n{text}"))
    }
}

impl H2load {
    /// Loads an address; tells how many requests were answered.
    pub(super) fn run(&self, address: &str, seconds: u32) -> anyhow::Result<f64> {
        let mut h2load = pinned("h2load");
        h2load.args(["-c4", "-m100", &format!("-D{seconds}")]);
        for header in self.headers {
            h2load.args(["-H", header]);
        }
        if let Some(data) = &self.data {
            h2load.arg("-d").arg(data);
        }
        let text = output(h2load.arg(format!("http://{address}{}", self.path)))?;
        // "requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout"
        let count = |line: &str, what: &str| -> Option<f64> {
            let line = text.lines().find_map(|told| told.strip_prefix(line))?;
            let part = line.split(',').find(|part| part.ends_with(what))?;
            part.split_whitespace().next()?.parse().ok()
        };
        let succeeded = count("requests:", " succeeded").unwrap_or(0.0);
        // Those under way when the time is over are counted as neither.
        let good = count("status codes:", " 2xx").unwrap_or(0.0);
        let failed = count("requests:", " failed").unwrap_or(0.0);
        if succeeded < 1.0 || failed > 0.0 || good < succeeded {
            bail!("requests to {address} failed:\n{text}");
        }
        Ok(succeeded)
    }
}

fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", program]);
    command
}
