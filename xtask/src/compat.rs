//! `cargo xtask compat [SUITE...]`: real clients, unmodified and pinned, against `atoll up`.
//!
//! They come from where their users get them: PyPI, npm, crates.io, Debian. What is fetched and built
//! stays in `target/compat`, and is made anew only when the list of versions changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::run::{cargo, root, run};

/// Runs these suites against this atoll; all if none is named.
pub(crate) fn suites(atoll: &Path, names: &[&str]) -> anyhow::Result<()> {
    let python = python()?;
    let rdkafka = built("rdkafka-suite")?;
    node()?;
    let mut suites = Command::new(python);
    suites
        .arg(root().join("compat/run.py"))
        .args(names)
        .env("ATOLL", atoll)
        .env("RDKAFKA", rdkafka);
    run(&mut suites)
}

/// A Python that has the clients.
fn python() -> anyhow::Result<PathBuf> {
    let wanted = root().join("compat/requirements.txt");
    let home = root().join("target/compat/python");
    let (python, have) = (home.join("bin/python"), home.join("requirements.txt"));
    let text = fs::read_to_string(&wanted).context("the versions of the clients")?;
    if fs::read_to_string(&have).is_ok_and(|have| have == text) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    run(install.args(["--no-deps", "--requirement"]).arg(&wanted))?;
    fs::write(have, text)?;
    Ok(python)
}

/// The clients for Node, as the lock file has them; none needs a script of its own to be installed.
fn node() -> anyhow::Result<()> {
    let home = root().join("compat/node");
    let (wanted, have) = (
        home.join("package-lock.json"),
        home.join("node_modules/installed.json"),
    );
    let text = fs::read_to_string(&wanted).context("the versions of the clients for Node")?;
    if fs::read_to_string(&have).is_ok_and(|have| have == text) {
        return Ok(());
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(install.current_dir(&home))?;
    fs::write(have, text)?;
    Ok(())
}

/// A program of the workspace of Rust clients, which is optimized: they are not what is measured.
pub(crate) fn built(package: &str) -> anyhow::Result<PathBuf> {
    let home = root().join("compat/rust");
    let target = root().join("target/compat/rust");
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--package", package])
        .arg("--manifest-path")
        .arg(home.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    run(&mut build)?;
    Ok(target.join("release").join(package))
}
