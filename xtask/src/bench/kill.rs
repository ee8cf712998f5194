//! An instance killed under load: which requests fail, and when.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::app::App;
use crate::client::{Outcome, load};
use crate::run::atoll;

/// Kills in one run.
const KILLS: usize = 10;
/// Connections for each method.
const CONNECTIONS: usize = 8;
/// Requests per second and connection.
const RATE: u32 = 125;

pub(super) fn run() -> anyhow::Result<()> {
    let atoll = atoll(true)?;
    let app = application()?;
    let edge = app.up(&atoll)?.trim_start_matches("http://").to_owned();
    let stop = AtomicBool::new(false);
    let mut kills = Vec::new();
    let (gets, posts) = std::thread::scope(|scope| {
        let start = |method: &'static str| -> Vec<_> {
            (0..CONNECTIONS)
                .map(|_| scope.spawn(|| load(&edge, method, RATE, &stop)))
                .collect()
        };
        let (gets, posts) = (start("GET"), start("POST"));
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis(1500));
            kills.extend(kill_one(&app));
        }
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
        let join = |threads: Vec<std::thread::ScopedJoinHandle<'_, Vec<Outcome>>>| -> Vec<Outcome> {
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_default())
                .collect()
        };
        (join(gets), join(posts))
    });
    println!(
        "\n| {} kills (SIGKILL) of one of two instances | requests | failed | failed later than 100 ms after a kill |",
        kills.len()
    );
    println!("|---|---|---|---|");
    for (name, outcomes) in [("GET (idempotent)", gets), ("POST", posts)] {
        let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.ok).collect();
        let late = failed.iter().filter(|outcome| {
            let before = kills.iter().filter(|kill| **kill <= outcome.begun).max();
            before.is_none_or(|kill| outcome.begun - *kill > Duration::from_millis(100))
        });
        println!(
            "| {name} | {} | {} | {} |",
            outcomes.len(),
            failed.len(),
            late.count()
        );
    }
    Ok(())
}

fn application() -> anyhow::Result<App> {
    let serve = format!("[\"{}\", \"serve\"]", std::env::current_exe()?.display());
    let app = super::start::application(1, &serve)?;
    let file = app.dir().join("services/s1/service.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(
        file,
        format!("{text}[scale]\nmin = 2\n[[route]]\npath = \"/**\"\n"),
    )?;
    Ok(app)
}

/// Kills an instance that serves, if two do; tells when, as seen before the kill.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]
fn kill_one(app: &App) -> anyhow::Result<Instant> {
    let services = app.services()?;
    let instances = services[0]["instances"]
        .as_array()
        .context("no instances")?;
    let serving: Vec<u64> = instances
        .iter()
        .filter(|instance| instance["serving"] == true)
        .filter_map(|instance| instance["pid"].as_u64())
        .collect();
    let [first, _] = serving.as_slice() else {
        anyhow::bail!("not both serve")
    };
    let moment = Instant::now();
    Command::new("kill")
        .args(["-KILL", &first.to_string()])
        .status()?;
    Ok(moment)
}
