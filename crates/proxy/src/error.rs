//! Why the proxy cannot start. Once it runs, failures belong to single requests and are answered
//! there; see [`crate::ErrorKind`].

use std::io;
use std::net::SocketAddr;

use atoll_base::{Code, Coded};

use crate::policy::PolicyError;
use crate::tls::TlsError;

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting of the edge is not understood.
    #[error("a setting of [edge] is not understood: {source}")]
    Setting {
        /// What is wrong with it.
        #[from]
        source: PolicyError,
    },
    /// A certificate cannot be used.
    #[error("HTTPS cannot be offered: {source}")]
    Tls {
        /// What is wrong with it.
        #[from]
        source: TlsError,
    },
    /// An address of the edge is taken by another program, or cannot be had.
    #[error("the edge cannot listen on {addr}: {}; set another with `listen` in [edge]", reason(.source))]
    Edge {
        /// The address from `[edge] listen` or `[edge.tls] listen`.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The mesh's port is taken by another program, or cannot be had.
    #[error("the mesh cannot listen on port {port}: {}; set another with `port` in [mesh]", reason(.source))]
    Mesh {
        /// The port from `[mesh] port`.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The mesh's listener cannot be confined to the loopback device.
    #[error(
        "the mesh listener cannot be confined to the loopback device; Linux 5.7 or later or CAP_NET_RAW is needed"
    )]
    Loopback {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A worker thread or its event loop cannot be made.
    #[error("a proxy worker cannot be started")]
    Worker {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Edge { .. } => Code("ATL0401"),
            Self::Mesh { .. } => Code("ATL0402"),
            Self::Loopback { .. } => Code("ATL0403"),
            Self::Worker { .. } => Code("ATL0404"),
            Self::Setting { .. } => Code("ATL0405"),
            Self::Tls { .. } => Code("ATL0406"),
        }
    }
}

fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => "this user may not take a port below 1024",
        _ => "the system refused",
    }
}
