//! The store of telemetry: what a row costs, what it takes on the disk, how fast it is found.
//!
//! The figures come from `crates/telemetry/examples/load.rs`, which makes ten million lines and as many
//! spans; beside them stands what `zstd -3` makes of the same lines.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Context as _;

use crate::run::{output, root};

/// Millions of lines, and of spans.
const MILLIONS: u32 = 10;

/// The goal of a figure.
enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// What is told, the figure, its goal and its unit.
const TOLD: &[(&str, &str, Goal, &str)] = &[
    (
        "log lines in a second, made and on disk",
        "logs_per_second",
        Goal::AtLeast(500_000.0),
        "",
    ),
    (
        "CPU of a log line, with its Parquet",
        "logs_cpu_us",
        Goal::AtMost(2.0),
        " µs",
    ),
    ("log lines dropped", "logs_dropped", Goal::AtMost(0.0), ""),
    (
        "spans in a second",
        "spans_per_second",
        Goal::AtLeast(300_000.0),
        "",
    ),
    ("CPU of a span", "spans_cpu_us", Goal::AtMost(3.0), " µs"),
    ("spans dropped", "spans_dropped", Goal::AtMost(0.0), ""),
    (
        "disk of a million lines",
        "logs_mb_per_million",
        Goal::AtMost(32.0),
        " MB",
    ),
    (
        "a substring in all lines, no hit, p95",
        "substring_none_p95_ms",
        Goal::AtMost(1000.0),
        " ms",
    ),
    (
        "the same, of words that are everywhere, p95",
        "substring_through_p95_ms",
        Goal::AtMost(1000.0),
        " ms",
    ),
    (
        "a substring in all lines, one hit, p95",
        "substring_one_p95_ms",
        Goal::AtMost(1000.0),
        " ms",
    ),
    (
        "a substring, a service and an hour, p95",
        "substring_service_hour_p95_ms",
        Goal::AtMost(100.0),
        " ms",
    ),
    (
        "a trace by its id, p95",
        "trace_p95_ms",
        Goal::AtMost(20.0),
        " ms",
    ),
];

pub(super) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lines = folder.path().join("lines");
    let mut load = Command::new("cargo");
    load.args([
        "run",
        "--release",
        "--package",
        "atoll-telemetry",
        "--example",
        "load",
        "--",
    ])
    .arg(MILLIONS.to_string())
    .arg(&lines)
    .current_dir(root());
    let told = output(&mut load)?;
    let figures: BTreeMap<&str, f64> = told
        .lines()
        .filter_map(|line| {
            let (name, number) = line.split_once(' ')?;
            Some((name, number.parse().ok()?))
        })
        .collect();
    let figure = |name: &str| {
        let found = figures.get(name).copied();
        found.with_context(|| format!("the load tells no `{name}`"))
    };
    println!(
        "\n### {MILLIONS} million log lines and as many spans\n\n| what | goal | is | |\n|---|---|---|---|"
    );
    for (what, name, goal, unit) in TOLD {
        let is = figure(name)?;
        let (sign, bound, met) = match goal {
            Goal::AtLeast(bound) => ("≥", *bound, is >= *bound),
            Goal::AtMost(bound) => ("≤", *bound, is <= *bound),
        };
        let verdict = if met { "met" } else { "**missed**" };
        println!(
            "| {what} | {sign} {} | {} | {verdict} |",
            number(bound, unit),
            number(is, unit)
        );
    }
    let raw = std::fs::metadata(&lines)?.len() as f64 / 1e6;
    output(Command::new("zstd").args(["-3", "-q", "-f"]).arg(&lines))?;
    let packed = std::fs::metadata(lines.with_extension("zst"))?.len() as f64 / 1e6;
    println!("| a million lines as they are / by `zstd -3` | | {raw:.1} / {packed:.1} MB | |");
    println!(
        "| memory at most, written / searched | | {:.0} / {:.0} MiB | |",
        figure("peak_mib")?,
        figure("peak_search_mib")?
    );
    Ok(())
}

fn number(value: f64, unit: &str) -> String {
    if value >= 1000.0 && unit.is_empty() {
        let digits = format!("{value:.0}").into_bytes();
        let groups = digits.rchunks(3).rev().map(String::from_utf8_lossy);
        return groups.collect::<Vec<_>>().join(",");
    }
    let digits = if value.fract() == 0.0 || value >= 100.0 {
        0
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}
