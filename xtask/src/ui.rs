//! The pages of the console: their types, their style, their decisions, and a browser that goes
//! through all of them: against a node that is made up, which has everything that can go wrong, and
//! against a running market, which is real. What it has seen of the market stays in
//! `target/screenshots`, for people.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{cargo, root, run};

/// Checks the sources, then every page and action in Chromium.
pub(crate) fn check() -> anyhow::Result<()> {
    installed()?;
    run(&mut npm(&["run", "check"]))?;
    run(&mut npm(&["run", "build"]))?;
    run(&mut npm(&["run", "e2e"]))
}

/// Writes `ui/openapi.json` anew: the description of the admin API, of which the pages' types are made.
pub(crate) fn openapi() -> anyhow::Result<()> {
    let test = "the_copy_in_the_repository_is_this_one";
    let mut cargo = cargo();
    cargo.args(["test", "--package", "atoll", "--bin", "atoll", test]);
    run(cargo.env("ATOLL_WRITE_OPENAPI", "1"))
}

/// Everything that the console of this market can do, in Chromium.
pub(crate) fn market(atoll: &Path, market: &Path) -> anyhow::Result<()> {
    let pictures = root().join("target/screenshots");
    if pictures.exists() {
        fs::remove_dir_all(&pictures)?;
    }
    run(npm(&["run", "market"])
        .env("ATOLL", atoll)
        .env("MARKET", market)
        .env("SHOTS", pictures))
}

/// Makes sure that what the pages and their tests need is there.
pub(crate) fn installed() -> anyhow::Result<()> {
    // The build of the console has installed them, unless it was kept from an earlier one.
    if root().join("ui/node_modules").exists() {
        return Ok(());
    }
    run(&mut npm(&["ci", "--no-audit", "--no-fund"]))
}

fn npm(arguments: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.args(arguments).current_dir(root().join("ui"));
    npm
}
