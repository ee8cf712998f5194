//! What can go wrong before the admin API is asked.

use std::net::SocketAddr;

/// A failure of the console's door.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is not to be had.
    #[error(
        "the console cannot listen on {addr}: {source}; choose another: `[console] listen = \"127.0.0.1:8485\"`"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No such name.
    #[error("'{0}' is no name: it has 1 to 100 characters, none of them a control character")]
    Name(String),
    /// There is no such token.
    #[error("there is no token with the id '{0}'; `atoll token list` shows them")]
    NoToken(String),
    /// There is nothing to make tokens of.
    #[error("the system gave no random bytes")]
    NoRandomness,
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}
