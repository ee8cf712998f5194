//! Builds the console's pages (`ui/`, TypeScript) with npm, so that `cargo build` alone makes a whole
//! binary. Without Node.js a page is put in their place that says what to do: everything else works.
//!
//! Nothing is done again unless a file of `ui/` has changed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What makes the pages, and nothing that making them leaves behind.
const SOURCES: [&str; 8] = [
    "src",
    "public",
    "index.html",
    "openapi.json",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
];

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("ui");
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let ui = own.join("../../ui");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", ui.join(source).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).expect("the folder for output can be written");
    if let Err(why) = build(&ui, &out) {
        println!("cargo::warning=the console has no pages: {why}");
        let page = include_str!("src/no_pages.html").replace("{why}", &escaped(&why));
        std::fs::write(out.join("index.html"), page).expect("the output can be written");
    }
}

fn build(ui: &Path, out: &Path) -> Result<(), String> {
    if !ui.join("node_modules/.package-lock.json").exists() || is_older(ui) {
        npm(ui, &["ci", "--no-audit", "--no-fund"])?;
    }
    let out = out.to_string_lossy();
    npm(
        ui,
        &["run", "build", "--", "--outDir", &out, "--emptyOutDir"],
    )
}

/// Whether what is installed is older than what is locked.
fn is_older(ui: &Path) -> bool {
    let age = |path: &str| std::fs::metadata(ui.join(path)).and_then(|own| own.modified());
    match (
        age("node_modules/.package-lock.json"),
        age("package-lock.json"),
    ) {
        (Ok(installed), Ok(locked)) => installed < locked,
        _ => true,
    }
}

fn npm(ui: &Path, arguments: &[&str]) -> Result<(), String> {
    let what = arguments.first().copied().unwrap_or_default();
    let ran = Command::new("npm").args(arguments).current_dir(ui).output();
    let ran = ran.map_err(|error| format!("npm cannot be run ({error}); install Node.js 20"))?;
    if ran.status.success() {
        return Ok(());
    }
    // Compilers tell on their output what is wrong, npm on the other.
    let said = [ran.stderr, ran.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().map(str::trim).filter(|line| {
        let is_advice = line.starts_with("npm warn") || line.starts_with('>');
        !line.is_empty() && !is_advice
    });
    let mut said: Vec<&str> = said.collect();
    if said.iter().any(|line| line.contains("error")) {
        said.retain(|line| line.contains("error"));
    }
    let last = said.get(said.len().saturating_sub(5)..).unwrap_or_default();
    Err(format!("`npm {what}` failed: {}", last.join(" | ")))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
