//! Large bodies, one way and the other: the cost of moving bytes.

use std::fs;

use super::Bench;
use super::app::{Setup, Upstream};
use super::contest::{self, NO_WORSE_THAN_NGINX};
use super::haproxy::Haproxy;
use super::load::Wrk;
use super::nginx::Nginx;

/// Answers of 100 kB, from a file.
pub(super) fn download(bench: &Bench) -> anyhow::Result<()> {
    let stand = Setup::default().up(bench)?;
    let peers = [
        stand.atoll()?,
        Nginx::default().start(&stand)?,
        Haproxy::default().start(&stand)?,
    ];
    let wrk = Wrk {
        path: "/100k",
        ..Wrk::default()
    };
    let title = "Answers of 100 kB, 64 kept connections";
    let load = |address: &str, seconds| wrk.run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)
}

/// Uploads of 1 MiB, passed on as they come.
pub(super) fn upload(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup {
        upstream: Upstream::Own("sink"),
        ..Setup::default()
    };
    let stand = setup.up(bench)?;
    let nginx = Nginx {
        location: "proxy_request_buffering off; client_max_body_size 10m;".to_owned(),
        ..Nginx::default()
    };
    let peers = [
        stand.atoll()?,
        nginx.start(&stand)?,
        Haproxy::default().start(&stand)?,
    ];
    let script = stand.home("wrk")?.join("upload.lua");
    fs::write(
        &script,
        "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", 1048576)\n",
    )?;
    let wrk = Wrk {
        // More would only wait for one another, each with a megabyte.
        connections: 16,
        script: Some(script),
        ..Wrk::default()
    };
    let title = "Streamed uploads of 1 MiB, 16 kept connections";
    let load = |address: &str, seconds| wrk.run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)
}
