//! What can go wrong with the store, as far as an operator can tell the cases apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_base::{Code, Coded};

/// A failure of the telemetry store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it cannot be made, opened or read.
    #[error("cannot use {}: {source}", .path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A file holds something else than was written.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The store has stopped.
    #[error("the log store has stopped")]
    Closed,
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Unusable { .. } | Self::Damaged { .. } => Code("ATL0701"),
            Self::Closed => Code("ATL0702"),
        }
    }
}

impl Error {
    pub(crate) fn unusable(path: &Path, source: std::io::Error) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
