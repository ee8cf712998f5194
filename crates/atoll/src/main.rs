//! Atoll: a microservice platform in one binary.
//!
//! This crate reads the manifests, introduces the subsystems to each other ([`node`]), serves the
//! admin API ([`admin`]) and is the command line ([`cli`]) that talks to it.

#![allow(
    unreachable_pub,
    reason = "nothing is outside of a binary; `pub` is what a module offers"
)]

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
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // That stderr takes nothing, as a full disk behind it, is no reason to panic.
        .log_internal_errors(false)
        .init();
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    cli::run()
}

/// Every connection takes a file descriptor, and the soft limit is 1024 by custom, for the sake of
/// programs that use `select`. This one does not; it takes what the hard limit allows.
fn raise_descriptor_limit() -> std::io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Who asks: the person behind `sudo` if there is one, else the user of this process, by name where
/// the system knows it.
fn who() -> String {
    if let Ok(person) = std::env::var("SUDO_USER") {
        return person;
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let found = users.find(|fields| fields.get(2) == Some(&uid.as_str()));
    found
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
        .unwrap_or(uid)
}
