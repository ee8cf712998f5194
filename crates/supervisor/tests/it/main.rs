//! The supervisor from outside: real processes, of `sh` and `python3` only.
#![expect(clippy::unwrap_used, reason = "a test, and what helps it, may fail")]

mod bed;
mod exits;
mod isolation;
mod limits;
mod output;
mod programs;
mod readiness;
mod recovery;
mod run;
mod stopping;
