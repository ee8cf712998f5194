//! The real `atoll` from outside: one application in a folder of its own for each test.
//!
//! A test writes manifests, runs the binary as a person would, and looks at exit codes, at what was
//! printed, and at answers of the edge. Nothing in here uses a crate of Atoll for what it asserts.
//! Services are a few lines of `sh` or the one fixture `server.py`; ports are chosen by the system;
//! tests wait for a state, never for a time.
#![expect(clippy::unwrap_used, reason = "a test, and what helps it, may fail")]

mod auth;
mod bad_requests;
mod console;
mod costs;
mod databases;
mod deploying;
mod derived;
mod edge;
mod events;
mod faults;
mod full_disk;
mod house;
mod json;
mod killing;
mod life;
mod logs;
mod looking;
mod manifests;
mod named_servers;
mod objectives;
mod ordering;
mod otlp;
mod ports;
mod routing;
mod scaffold;
mod signals;
mod testkit;
mod traces;
mod watching;
mod zero_loss;
