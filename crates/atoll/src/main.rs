//! Atoll: a microservice platform in one binary.
//!
//! This crate reads the manifests, introduces the subsystems to each other ([`node`]), serves the
//! admin API ([`admin`]) and is the command line ([`cli`]) that talks to it.

#![allow(unreachable_pub, reason = "nothing is outside of a binary; `pub` is what a module offers")]

mod admin;
mod cli;
mod database;
mod manifest;
mod node;

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// What Atoll itself logs to stderr, in the form of `RUST_LOG`. Default: warnings and errors.
const LOG_VARIABLE: &str = "ATOLL_LOG";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    cli::run()
}

/// Who asks: the person at the terminal.
fn who() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
