//! What can go wrong with durable state, as far as an operator can tell the cases apart.

use std::path::PathBuf;
use std::sync::Arc;

use atoll_base::{Code, Coded};

/// A failure of the state folder or of the SQL state.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another node holds the folder.
    #[error("the state folder {} is in use by another node{}", .dir.display(), holder(.pid))]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Its holder's process id, where the lock file tells it.
        pid: Option<u32>,
    },
    /// The folder or a file in it cannot be made, opened or written.
    #[error("cannot use {}: {source}", .path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The state was written by a newer Atoll.
    #[error(
        "the state in {} has version {found} of '{subsystem}', newer than {known}, the last one this atoll knows",
        .path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Whose tables.
        subsystem: &'static str,
        /// The version in the file.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The database refuses a statement; the state is as before.
    #[error("the state database refused: {0}")]
    Sql(#[source] Arc<rusqlite::Error>),
    /// An earlier write failed; nothing is accepted until the node is started again.
    #[error("the state is read-only since a write failed: {0}")]
    Poisoned(Arc<str>),
    /// The state was closed.
    #[error("the state is closed")]
    Closed,
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::InUse { .. } => Code("ATL0801"),
            Self::Unusable { .. } => Code("ATL0802"),
            Self::TooNew { .. } => Code("ATL0803"),
            Self::Sql(_) | Self::Closed => Code("ATL0804"),
            Self::Poisoned(_) => Code("ATL0805"),
        }
    }
}

impl Error {
    pub(crate) fn unusable(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}
