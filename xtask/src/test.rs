//! `cargo xtask test`, and parts of it: `cargo xtask tour`, `cargo xtask compat`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::app::App;
use crate::compat;
use crate::install;
use crate::run::{self, atoll, cargo, has, root};
use crate::ui;

/// Everything: the crates, the documentation's examples, the market's own tests, the tour, its
/// console, real clients.
pub(crate) fn all() -> anyhow::Result<()> {
    install::for_tests()?;
    // nextest gives each test a process and a time limit; without it the same tests run all the
    // same.
    if has("cargo-nextest") {
        run::run(cargo().args(["nextest", "run", "--workspace"]))?;
        run::run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    } else {
        run::run(cargo().args(["test", "--workspace"]))?;
    }
    ui::check()?;
    run::run(Command::new("bash").arg(root().join("examples/market/test.sh")))?;
    let atoll = run::tested();
    walk(&atoll)?;
    console(&atoll)?;
    compat::suites(&atoll, &[])?;
    eprintln!("all tests have passed");
    Ok(())
}

/// Only the tour, with the release build.
pub(crate) fn tour() -> anyhow::Result<()> {
    install::for_tests()?;
    walk(&atoll(true)?)
}

/// Only the console of a market, with the release build.
pub(crate) fn pages() -> anyhow::Result<()> {
    install::for_tests()?;
    ui::installed()?;
    console(&atoll(true)?)
}

/// Only the real clients.
pub(crate) fn compat(suites: &[&str]) -> anyhow::Result<()> {
    install::for_tests()?;
    compat::suites(&atoll(false)?, suites)
}

/// A copy of the market, on free ports.
fn market(name: &str) -> anyhow::Result<App> {
    let app = App::new(name)?;
    copy(&root().join("examples/market"), app.dir())?;
    let manifest = app.dir().join("atoll.toml");
    let text = fs::read_to_string(&manifest).context("the market's atoll.toml")?;
    fs::write(&manifest, with_free_ports(&text))?;
    Ok(app)
}

/// Starts a market and has a browser do everything that its console can. It has a queue beside its services: a shop
/// of this size has no jobs.
fn console(atoll: &Path) -> anyhow::Result<()> {
    let app = market("console")?;
    let chores = app.dir().join("services/chores");
    copy(&root().join("ui/market/chores"), &chores)?;
    app.up(atoll)?;
    let tried = ui::market(atoll, app.dir());
    if tried.is_err() {
        app.show_logs(atoll);
    }
    tried
}

/// Starts a market and walks through it.
fn walk(atoll: &Path) -> anyhow::Result<()> {
    let app = market("market")?;
    let edge = app.up(atoll)?;
    let mut tour = Command::new("bash");
    tour.arg(app.dir().join("tour.sh"))
        .arg("--no-pause")
        .env("EDGE", edge)
        .env("ATOLL", atoll);
    let walked = run::run(&mut tour);
    if walked.is_err() {
        app.show_logs(atoll);
    }
    walked
}

/// The same manifest, on ports that the system chooses.
pub(crate) fn with_free_ports(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("listen") {
            "listen = \"127.0.0.1:0\""
        } else {
            line
        }
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    text.push_str("\n[mesh]\nport = 0\n[telemetry]\notlp_grpc = \"off\"\notlp_http = \"off\"\n");
    text
}

/// Copies the sources, and the build folders too, which save a minute.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("cp");
    command.arg("--archive").arg(from.join(".")).arg(to);
    run::run(&mut command)?;
    let state = to.join(".atoll");
    if state.exists() {
        fs::remove_dir_all(state)?;
    }
    Ok(())
}
