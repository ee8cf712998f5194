//! `cargo xtask bench`: measures, and prints tables for `BENCHMARKS.md`.
//!
//! Peers run in the same run, in turn, so that a slow moment of the machine is a slow moment of
//! all. What counts is the ratio of medians; throughput on a shared machine wanders.

mod kill;
mod memory;
mod proxy;
mod start;

use anyhow::bail;

use crate::install;

type Bench = fn() -> anyhow::Result<()>;

const BENCHES: &[(&str, Bench)] = &[
    ("proxy", proxy::run),
    ("start", start::run),
    ("memory", memory::run),
    ("kill", kill::run),
];

/// Runs the named benches, or all.
pub(crate) fn run(names: &[&str]) -> anyhow::Result<()> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !BENCHES.iter().any(|(known, _)| known == *name))
    {
        bail!("there is no bench `{unknown}`");
    }
    install::for_benches()?;
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
