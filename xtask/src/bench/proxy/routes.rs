//! Many routes: finding one, keeping them, applying them. Measured by an example of the proxy's crate.

use anyhow::Context;

use super::Bench;
use super::contest::print_goal;
use crate::run::{cargo, output};

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for _ in 0..bench.rounds {
        let mut command = cargo();
        command.args(["run", "--quiet", "--release"]);
        command.args(["--package", "atoll-proxy", "--example", "routes"]);
        texts.push(output(&mut command)?);
    }
    println!("\n### Routes (medians of {})\n", bench.rounds);
    println!("| what | is |\n|---|---|");
    let few = shown(&texts, "lookup among 10 routes", "10 routes: ", " ns")?;
    let many = shown(
        &texts,
        "lookup among 10,000 routes",
        "10000 routes: ",
        " ns",
    )?;
    let built = shown(
        &texts,
        "10,000 routes, 1,000 services built",
        "built in ",
        " ms",
    )?;
    let kept = shown(&texts, "memory per route", " ms, ", " B")?;
    let applied = shown(
        &texts,
        "until a request is answered by it",
        "applied in ",
        " ms",
    )?;
    println!();
    print_goal("Memory per route", kept / 1024.0, 2.0, " KiB");
    print_goal("Built and applied", built + applied, 50.0, " ms");
    println!(
        "- Lookup among 10,000 over that among 10: {:.2}",
        many / few
    );
    Ok(())
}

/// The median of the numbers between two texts, printed as a row.
fn shown(texts: &[String], what: &str, before: &str, unit: &str) -> anyhow::Result<f64> {
    let number = |text: &String| -> Option<f64> {
        let (_, rest) = text.split_once(before)?;
        rest.split_once(unit)?.0.parse().ok()
    };
    let numbers: Option<Vec<f64>> = texts.iter().map(number).collect();
    let numbers = numbers.with_context(|| format!("`{before}` is not in {texts:?}"))?;
    let median = crate::bench::median(&numbers);
    println!("| {what} | {median:.1}{unit} |");
    Ok(median)
}
