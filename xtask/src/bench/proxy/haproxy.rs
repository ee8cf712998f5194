//! HAProxy as a peer: as a proxy of HTTP, and as a splice that only copies bytes.

use std::fs;

use super::app::Stand;
use super::peer::{Peer, free_port};

/// The name of the splice in tables and goals.
pub(super) const SPLICE: &str = "raw splice (HAProxy, mode tcp, splice-auto)";

/// What a scenario adds to the plain configuration.
#[derive(Default)]
pub(super) struct Haproxy {
    /// Words after the address of `bind`.
    pub(super) bind: String,
    /// Words after the address of the server.
    pub(super) server: &'static str,
}

impl Haproxy {
    pub(super) fn start(&self, stand: &Stand) -> anyhow::Result<Peer> {
        let mode =
            "  mode http\n  option forwardfor\n  http-reuse always\n  timeout http-keep-alive 1h\n";
        start("HAProxy", "haproxy", mode, self, stand)
    }
}

/// Bytes from here to there and back, nothing read.
pub(super) fn splice(stand: &Stand) -> anyhow::Result<Peer> {
    let mode = "  mode tcp\n  option splice-auto\n";
    start(SPLICE, "splice", mode, &Haproxy::default(), stand)
}

fn start(
    name: &'static str,
    folder: &str,
    mode: &str,
    words: &Haproxy,
    stand: &Stand,
) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let file = stand.home(folder)?.join("haproxy.cfg");
    // It wants two open files for each of maxconn, and unless told otherwise it keeps no connection
    // to the server once a quarter of them is in use.
    let config = format!(
        "global\n  nbthread 1\n  maxconn 6000\n  tune.pool-low-fd-ratio 80\n  tune.pool-high-fd-ratio 90\n\
         defaults\n{mode}  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend f\n  bind 127.0.0.1:{port} {}\n  default_backend b\n\
         backend b\n  server s {} {}\n",
        words.bind,
        stand.upstream(),
        words.server
    );
    fs::write(&file, config)?;
    Peer::start(name, port, &["haproxy", "-db", "-f"], &file)
}
