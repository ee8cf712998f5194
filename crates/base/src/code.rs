//! Codes of errors that a person can act on: `ATL0102`.
//!
//! Every code has a page, `docs/errors/ATL0102.md`, that tells the cause and the remedies and is
//! printed by `atoll explain ATL0102`. A test of the `atoll` crate checks that no code lacks its
//! page and no page lacks its code. The hundreds tell the part: 01 manifests, 02 supervisor,
//! 03 deploy, 04 proxy, 05 databases, 06 node and command line, 07 telemetry, 08 store.

use std::fmt;

use serde::Serialize;

/// A stable name of one kind of failure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error that has a code.
pub trait Coded: std::error::Error {
    /// The code under which `atoll explain` tells more.
    fn code(&self) -> Code;
}
