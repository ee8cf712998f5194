//! `cargo xtask fuzz`: each decoder that reads the network, for a bounded time.
//!
//! libFuzzer needs to see which branches were taken. The compiler's pass for that can be asked for
//! on stable; only the sanitizers cannot, and this code has no `unsafe` for them to watch. So no
//! other toolchain and no cargo-fuzz have to be installed. What is found stays in
//! `target/fuzz/found`; the committed corpus is only read.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::{cargo, root, run};

/// What makes the compiler record branches, as cargo-fuzz asks for it, but for the sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on";

/// Fuzzes every target for so many seconds.
pub(crate) fn all(seconds: u32) -> anyhow::Result<()> {
    let home = root().join("fuzz");
    let target = root().join("target/fuzz");
    let host = host()?;
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(home.join("Cargo.toml"))
        // With a target named, build scripts and macros are built without the flags.
        .args(["--target", &host, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", FLAGS);
    run(&mut build)?;
    let mut failed = Vec::new();
    let names = names(&home)?;
    for name in &names {
        let found = target.join("found").join(name);
        let fresh = target.join("corpus").join(name);
        std::fs::create_dir_all(&found)?;
        std::fs::create_dir_all(&fresh)?;
        let mut fuzz = Command::new(target.join(&host).join("release").join(name));
        fuzz.arg(format!("-max_total_time={seconds}"))
            .args([
                "-timeout=5",
                "-rss_limit_mb=2048",
                "-verbosity=0",
                "-print_final_stats=1",
            ])
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(fresh)
            .arg(home.join("corpus").join(name));
        if let Err(error) = run(&mut fuzz) {
            eprintln!("{error:#}");
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        let found = target.join("found");
        bail!(
            "inputs that break {}: see {}",
            failed.join(", "),
            found.display()
        );
    }
    eprintln!(
        "{} decoders took everything for {seconds} s each",
        names.len()
    );
    Ok(())
}

/// The targets: each is a file.
fn names(home: &Path) -> anyhow::Result<Vec<String>> {
    let files = std::fs::read_dir(home.join("fuzz_targets"))?;
    let stem = |file: std::fs::DirEntry| file.path().file_stem()?.to_str().map(str::to_owned);
    let mut names: Vec<_> = files.flatten().filter_map(stem).collect();
    names.sort();
    Ok(names)
}

/// What this machine is to the compiler.
fn host() -> anyhow::Result<String> {
    let told = crate::run::output(Command::new("rustc").arg("-vV"))?;
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc names no host")
}
