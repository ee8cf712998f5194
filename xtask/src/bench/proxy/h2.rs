//! HTTP/2 with 100 streams a connection, to services of HTTP/1.1 and of gRPC.
//!
//! By prior knowledge: what is compared is framing, not encryption, which has a scenario of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use super::Bench;
use super::app::{Setup, Stand, Upstream};
use super::contest::{self, NO_WORSE_THAN_NGINX};
use super::haproxy::Haproxy;
use super::load::H2load;
use super::nginx::Nginx;
use super::peer::Peer;
use crate::run::output;

/// gRPC's own fields.
const FIELDS: &[&str] = &["content-type: application/grpc", "te: trailers"];

const METHOD: &str = "/bench.Echo/Say";

/// To a service of HTTP/1.1.
pub(super) fn http2(bench: &Bench) -> anyhow::Result<()> {
    let stand = Setup::default().up(bench)?;
    let peers = peers(&stand, false)?;
    let h2load = H2load {
        path: "/",
        ..H2load::default()
    };
    let title = "HTTP/2: 4 connections of 100 streams, 120 bytes of JSON, HTTP/1.1 behind";
    let load = |address: &str, seconds| h2load.run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)
}

/// Unary calls.
pub(super) fn grpc(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup {
        upstream: Upstream::Own("grpc"),
        service: "protocol = \"grpc\"",
        ..Setup::default()
    };
    let stand = setup.up(bench)?;
    let peers = peers(&stand, true)?;
    let message = stand.home("grpc")?.join("message");
    // Not compressed, 7 bytes: the first field of a message, "bench".
    fs::write(&message, b"\0\0\0\0\x07\x0a\x05bench")?;
    for peer in &peers {
        check(peer, &message)?;
    }
    let h2load = H2load {
        path: METHOD,
        headers: FIELDS,
        data: Some(message),
    };
    let title = "gRPC: unary calls, 4 connections of 100 streams";
    let load = |address: &str, seconds| h2load.run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)
}

fn peers(stand: &Stand, grpc: bool) -> anyhow::Result<[Peer; 3]> {
    let nginx = Nginx {
        listen: " http2",
        // Its default of 128 would do for 100 streams; this is no limit in the way.
        server: "http2_max_concurrent_streams 256;".to_owned(),
        grpc,
        ..Nginx::default()
    };
    let haproxy = Haproxy {
        bind: "proto h2".to_owned(),
        server: if grpc { "proto h2" } else { "" },
    };
    Ok([stand.atoll()?, nginx.start(stand)?, haproxy.start(stand)?])
}

/// h2load does not look at trailers: a call that fails would count as a fast one.
fn check(peer: &Peer, message: &Path) -> anyhow::Result<()> {
    let mut nghttp = Command::new("nghttp");
    nghttp.args(["-v", "-d"]).arg(message);
    for field in FIELDS {
        nghttp.args(["-H", field]);
    }
    let text = output(nghttp.arg(format!("http://{}{METHOD}", peer.address)))?;
    if !text.contains("grpc-status: 0") {
        bail!("{} does not answer a call:\n{text}", peer.name);
    }
    Ok(())
}
