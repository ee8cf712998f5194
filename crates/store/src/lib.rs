//! Durable state: the state folder of a node, its lock, and the SQL state.
//!
//! The folder is `.atoll/` beside `atoll.toml`. One node at a time may hold it ([`StateDir`]).
//! What must survive a crash and be joined by keys (revisions, deployments, passwords) is in
//! `state.db` ([`Sql`]): SQLite in WAL mode with `synchronous=FULL`, so that what was committed is
//! on disk. A failed write poisons it: nothing is acknowledged after an error of the disk, because
//! after a failed `fsync` nobody can know what the disk holds
//! (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
//!
//! The records of the event broker are in the [`log`].

mod dir;
mod error;
pub mod log;
mod sql;

pub use dir::StateDir;
pub use error::Error;
pub use rusqlite;
pub use sql::{Migration, Sql};
