//! What the tests stand on: an application in a folder, the command line, a small HTTP client.

mod app;
mod http;
mod load;
mod process;
mod server;
mod service;

use std::time::Duration;

use atoll_base::clock;

pub(crate) use atoll_testkit::{Ability, lacking};

pub(crate) use app::{App, atoll};
pub(crate) use http::{Answer, Connection};
pub(crate) use load::{Load, get, get_and_close, post};
pub(crate) use process::{Said, called, command, freeze, kill, run};
pub(crate) use server::{Certificates, SECRET, Server, free_port};
pub(crate) use service::Service;

/// How long a test waits for something before it fails. Only a broken product takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

/// Looks until there is something to see; `Err` tells what is seen instead.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = clock::monotonic() + PATIENCE;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(seen) => {
                assert!(
                    clock::monotonic() < deadline,
                    "in vain waited for {what}; seen: {seen}"
                );
            }
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// As [`eventually`], for something that is either so or not.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || {
        if is_so() {
            Ok(())
        } else {
            Err("not so".to_owned())
        }
    });
}

/// `text` holds `part`.
#[track_caller]
pub(crate) fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

/// `text` does not hold `part`.
#[track_caller]
pub(crate) fn lacks(text: &str, part: &str) {
    assert!(!text.contains(part), "{part:?} is in:\n{text}");
}
