//! TLS at the edge: certificates by name, read again when they change, and clients that have some
//! of their own.
//!
//! The protocol is `rustls` with `ring`. What is decided here: which files, which certificate for
//! which name, and that a broken file never takes a working certificate away. New connections get
//! the newest certificates; those that are open keep theirs.

mod client;
mod load;
mod names;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

pub use self::client::ClientIdentity;
use crate::config::TlsConfig;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("'{}' cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file without what it should have.
    #[error("'{}' has no {what} in PEM form (-----BEGIN …-----)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A certificate and a key that do not belong together, or that are of no use to a server.
    #[error("the certificate '{}' and its key cannot be used: {source}", path.display())]
    Pair {
        /// The file with the certificate.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The issuers of clients' certificates cannot be used.
    #[error("'{}' cannot be used to check clients: {reason}", path.display())]
    Issuers {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `[edge.tls]` without a certificate.
    #[error(
        "[edge.tls] has no certificates: add `certificates = [{{ cert = \"…\", key = \"…\" }}]`, or make one for this machine with `atoll cert dev`"
    )]
    None,
}

/// The certificates in use.
pub(crate) struct Certificates {
    config: TlsConfig,
    current: ArcSwap<ServerConfig>,
    /// When the files were last changed, as of the last reading.
    read: Mutex<Vec<Option<SystemTime>>>,
}

impl Certificates {
    /// Reads all files.
    pub(crate) fn load(config: TlsConfig) -> Result<Self, TlsError> {
        let read = Mutex::new(changes(&config));
        let current = ArcSwap::from(load::server(&config)?);
        Ok(Self {
            config,
            current,
            read,
        })
    }

    /// For a new connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again if one of them has changed since they were last read; tells whether it
    /// did. If they cannot be used, what was in use stays, and they are tried again only when they
    /// change again.
    pub(crate) fn refresh(&self) -> Result<bool, TlsError> {
        let now = changes(&self.config);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read == now {
            return Ok(false);
        }
        *read = now;
        self.current.store(load::server(&self.config)?);
        Ok(true)
    }
}

/// When each file was changed.
fn changes(config: &TlsConfig) -> Vec<Option<SystemTime>> {
    let files = config
        .certificates
        .iter()
        .flat_map(|pair| [&pair.cert, &pair.key]);
    files
        .chain(&config.client_ca)
        .map(|path| path.metadata().ok()?.modified().ok())
        .collect()
}
