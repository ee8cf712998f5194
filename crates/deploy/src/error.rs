//! Why a deployment did not begin or did not succeed.

use std::path::PathBuf;
use std::sync::Arc;

use atoll_base::{Code, Coded, RevisionNumber, ServiceName};

/// A failure of a deployment.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The service is not known to the node.
    #[error("there is no service '{0}' here")]
    NoService(ServiceName),
    /// Another deployment of the same service runs.
    #[error(
        "{service} is being deployed already (deployment {deployment}); try again when it is done"
    )]
    Busy {
        /// The service.
        service: ServiceName,
        /// The one that runs.
        deployment: i64,
    },
    /// The build command failed.
    #[error("the build of {service} failed: {reason}")]
    Build {
        /// The service.
        service: ServiceName,
        /// How it ended, and its last lines.
        reason: String,
    },
    /// The artifact cannot be copied or read.
    #[error("the artifact of {service} cannot be made: {}: {source}", .path.display())]
    Artifact {
        /// The service.
        service: ServiceName,
        /// The file in question.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The new revision did not become ready, or failed soon after; the old one serves.
    #[error("{revision} of {service} did not take over: {reason}")]
    RolledBack {
        /// The service.
        service: ServiceName,
        /// The revision that failed.
        revision: RevisionNumber,
        /// What was wrong with it.
        reason: String,
    },
    /// There is no such revision to go back to.
    #[error("{service} has no {}", wanted(.revision))]
    NoRevision {
        /// The service.
        service: ServiceName,
        /// The one asked for; none if simply "the one before".
        revision: Option<RevisionNumber>,
    },
    /// The revision's artifact was removed to save space.
    #[error("the files of {service} {revision} are no longer kept")]
    Pruned {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: RevisionNumber,
    },
    /// The wanted number of instances is outside of what the manifest allows.
    #[error("{service} may run {least} to {most} instances, not {wanted}")]
    Scale {
        /// The service.
        service: ServiceName,
        /// What was asked for.
        wanted: u32,
        /// `[scale] min`.
        least: u32,
        /// `[scale] max`.
        most: u32,
    },
    /// Instances that were asked for are not ready. They go on trying.
    #[error("{service} has fewer instances than were asked for: {reason}")]
    Late {
        /// The service.
        service: ServiceName,
        /// Which, and since when.
        reason: String,
    },
    /// The state cannot be read or written.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::NoService(_) => Code("ATL0301"),
            Self::Busy { .. } => Code("ATL0302"),
            Self::Build { .. } => Code("ATL0303"),
            Self::Artifact { .. } => Code("ATL0304"),
            Self::RolledBack { .. } => Code("ATL0305"),
            Self::NoRevision { .. } => Code("ATL0306"),
            Self::Pruned { .. } => Code("ATL0307"),
            Self::Scale { .. } => Code("ATL0308"),
            Self::Store(error) => error.code(),
            Self::Stopping => Code("ATL0309"),
            Self::Late { .. } => Code("ATL0310"),
        }
    }
}

fn wanted(revision: &Option<RevisionNumber>) -> String {
    match revision {
        Some(revision) => format!("revision {revision}"),
        None => "earlier revision that has served".to_owned(),
    }
}
