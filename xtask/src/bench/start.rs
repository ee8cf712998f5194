//! How long `atoll up` takes with 20 services that are built, compared with one alone.

use std::path::Path;
use std::time::Instant;

use super::median;
use crate::app::{App, NO_OTLP};
use crate::run::atoll;

const SERVICES: usize = 20;
const ROUNDS: usize = 5;

pub(super) fn run() -> anyhow::Result<()> {
    let atoll = atoll(true)?;
    println!("\n| {SERVICES} services already built | one alone, s | all, s | difference, s |");
    println!("|---|---|---|---|");
    let serve = format!("[\"{}\", \"serve\"]", std::env::current_exe()?.display());
    let python = "[\"python3\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\"]".to_owned();
    for (name, command) in [
        ("a Rust program that starts in 1 ms", serve),
        ("`python3 -m http.server`", python),
    ] {
        let one = measure(&atoll, 1, &command)?;
        let all = measure(&atoll, SERVICES, &command)?;
        println!("| {name} | {one:.2} | {all:.2} | {:.2} |", all - one);
    }
    Ok(())
}

/// The median seconds of `atoll up --detach`, with everything built before.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]
fn measure(atoll: &Path, services: usize, command: &str) -> anyhow::Result<f64> {
    let app = application(services, command)?;
    app.up(atoll)?;
    app.down()?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        app.up(atoll)?;
        times.push(begun.elapsed().as_secs_f64());
        app.down()?;
    }
    Ok(median(&times))
}

/// `count` services that run `command`; python's server takes its port as the last argument.
pub(super) fn application(count: usize, command: &str) -> anyhow::Result<App> {
    let app = App::new("bench-start")?;
    app.describe(NO_OTLP)?;
    for number in 1..=count {
        let run = if command.contains("python3") {
            "[\"sh\", \"-c\", \"exec python3 -m http.server --bind 127.0.0.1 $PORT\"]"
        } else {
            command
        };
        app.service(&format!("s{number}"), run, "[health]\npath = \"/\"\n")?;
    }
    Ok(app)
}
