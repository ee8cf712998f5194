//! `cargo xtask bench`: measures, and prints tables for `BENCHMARKS.md`.
//!
//! Peers run in the same run, in turn, so that a slow moment of the machine is a slow moment of
//! all. What counts is the ratio of medians; throughput on a shared machine wanders.

mod events;
mod ingest;
mod kill;
mod memory;
mod proxy;
mod pushes;
mod start;
mod telemetry;

use anyhow::bail;

use crate::install;

type Bench = fn() -> anyhow::Result<()>;

/// All but `proxy`, which has scenarios. What telemetry costs the proxy is one of those, `proxy:telemetry`.
const BENCHES: &[(&str, Bench)] = &[
    ("start", start::run),
    ("memory", memory::run),
    ("kill", kill::run),
    ("pushes", pushes::run),
    ("events", events::run),
    ("telemetry", telemetry::run),
    ("ingest", ingest::run),
];

/// Runs the named benches, or all. `proxy:NAME` is one scenario of `proxy`.
pub(crate) fn run(names: &[&str]) -> anyhow::Result<()> {
    let mut scenarios = Vec::new();
    for name in names {
        if let Some(scenario) = name.strip_prefix("proxy:") {
            if !proxy::knows(scenario) {
                let known = proxy::names().join(", ");
                bail!("`proxy` has no scenario `{scenario}`; it has {known}");
            }
            scenarios.push(scenario);
        } else if *name != "proxy" && !BENCHES.iter().any(|(known, _)| known == name) {
            bail!("there is no bench `{name}`");
        }
    }
    install::for_benches()?;
    if names.is_empty() || names.contains(&"proxy") {
        proxy::run(&[])?;
    } else if !scenarios.is_empty() {
        proxy::run(&scenarios)?;
    }
    for (name, bench) in BENCHES {
        if names.is_empty() || names.contains(name) {
            bench()?;
        }
    }
    Ok(())
}

/// The middle one; of an even number, the mean of the middle two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        f64::NAN
    } else if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}
