//! The proxy against nginx and HAProxy: what a request costs, what it is delayed, what is kept.
//!
//! Every scenario is a file below: it sets up one application with an upstream, starts the peers before
//! the same upstream, and prints a table with its goals. The proxy under test has CPU 0 for itself, with
//! one worker; load and upstream share CPU 1. A scenario that fails does not keep the others from
//! running. One more is a file and a line in [`SCENARIOS`].

mod app;
mod auth;
mod body;
mod cache;
mod contest;
mod h2;
mod haproxy;
mod idle;
mod latency;
mod load;
mod nginx;
mod peer;
mod plain;
mod routes;
mod telemetry;
mod tls;
mod token;

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::run::built;

/// What all scenarios of a run share.
#[derive(Clone)]
struct Bench {
    /// The release build of Atoll.
    atoll: PathBuf,
    /// The release build of this program, for upstreams and load.
    xtask: PathBuf,
    /// Rounds; in each, every peer has its turn.
    rounds: usize,
    /// Seconds of one turn.
    seconds: u32,
}

type Scenario = fn(&Bench) -> anyhow::Result<()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("plain", plain::run),
    ("auth", auth::run),
    ("tls", tls::run),
    ("body-100k", body::download),
    ("upload-1m", body::upload),
    ("idle-5000", idle::run),
    ("h2", h2::http2),
    ("grpc", h2::grpc),
    ("cache", cache::run),
    ("latency", latency::run),
    ("routes", routes::run),
    ("telemetry", telemetry::run),
];

/// Whether there is a scenario of this name.
pub(super) fn knows(name: &str) -> bool {
    SCENARIOS.iter().any(|(known, _)| *known == name)
}

/// The names of all scenarios.
pub(super) fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|(name, _)| *name).collect()
}

/// Runs the named scenarios, or all.
pub(super) fn run(names: &[&str]) -> anyhow::Result<()> {
    // Before anything is built, to tell mistakes at once.
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let seconds = setting("BENCH_SECONDS", 4)?;
    let bench = Bench {
        atoll: built("atoll", true)?,
        xtask: built("xtask", true)?,
        rounds,
        seconds,
    };
    peer::raise_file_limit()?;
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        eprintln!("proxy:{name}");
        if let Err(error) = scenario(&bench) {
            eprintln!("proxy:{name} failed: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("scenarios failed: {}", failed.join(", "));
    }
    Ok(())
}

/// A positive number from the environment.
fn setting<N>(name: &str, default: N) -> anyhow::Result<N>
where
    N: std::str::FromStr + PartialOrd + From<u8>,
{
    let Ok(text) = std::env::var(name) else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|number| *number >= N::from(1));
    number.with_context(|| format!("{name}={text}: it must be a number, at least 1"))
}
