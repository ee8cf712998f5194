//! The plain load over TLS 1.3, connections kept: the cost of encryption, not of handshakes.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Bench;
use super::app::Setup;
use super::contest::{self, NO_WORSE_THAN_NGINX};
use super::haproxy::Haproxy;
use super::load::Wrk;
use super::nginx::Nginx;
use super::peer::free_port;
use crate::app::App;
use crate::run::output;

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let app = App::new("bench-proxy")?;
    certificate(app.dir())?;
    let shown = app.dir().display().to_string();
    let port = free_port()?;
    let setup = Setup {
        tables: format!(
            "[edge.tls]\nlisten = \"127.0.0.1:{port}\"\nmin_version = \"1.3\"\n\
             certificates = [{{ cert = \"{shown}/cert.pem\", key = \"{shown}/key.pem\" }}]\n"
        ),
        ..Setup::default()
    };
    let stand = setup.up_in(app, bench)?;
    let nginx = Nginx {
        listen: " ssl",
        server: format!(
            "ssl_certificate {shown}/cert.pem; ssl_certificate_key {shown}/key.pem;
             ssl_protocols TLSv1.3;"
        ),
        ..Nginx::default()
    };
    let haproxy = Haproxy {
        bind: format!("ssl crt {shown}/both.pem ssl-min-ver TLSv1.3"),
        ..Haproxy::default()
    };
    let peers = [
        stand.atoll_at(format!("127.0.0.1:{port}"))?,
        nginx.start(&stand)?,
        haproxy.start(&stand)?,
    ];
    let wrk = Wrk {
        scheme: "https",
        ..Wrk::default()
    };
    let title = "TLS 1.3: 64 kept connections, 120 bytes of JSON";
    let load = |address: &str, seconds| wrk.run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)
}

/// A certificate of its own signature for localhost; `both.pem` is how HAProxy wants it.
fn certificate(dir: &Path) -> anyhow::Result<()> {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "7"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir);
    output(&mut openssl)?;
    let cert = fs::read_to_string(dir.join("cert.pem"))?;
    let key = fs::read_to_string(dir.join("key.pem"))?;
    fs::write(dir.join("both.pem"), cert + &key)?;
    Ok(())
}
