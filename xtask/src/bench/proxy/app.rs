//! The application that all peers of a scenario stand before: one service, which is their upstream.
//!
//! Atoll starts the upstream as it would any service; nginx and HAProxy are then pointed at the address
//! it got. So all of them talk to the very same process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::Bench;
use super::peer::{Peer, home};
use crate::app::App;

/// What answers behind the proxies, on CPU 1.
#[derive(Clone, Copy)]
pub(super) enum Upstream {
    /// An nginx: 120 bytes of JSON for every path but `/100k`, which is a file of 100 kB.
    Nginx,
    /// A command of this program: `sink` or `grpc`.
    Own(&'static str),
}

/// What a scenario says in the manifests.
pub(super) struct Setup {
    pub(super) upstream: Upstream,
    /// Keys of `[edge]`.
    pub(super) edge: String,
    /// Keys of `[telemetry]`.
    pub(super) telemetry: &'static str,
    /// Tables of `atoll.toml`.
    pub(super) tables: String,
    /// Keys of the service.
    pub(super) service: &'static str,
    /// Keys of its only route.
    pub(super) route: &'static str,
}

/// The application, up.
pub(super) struct Stand {
    app: App,
    edge: String,
    upstream: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            upstream: Upstream::Nginx,
            edge: String::new(),
            telemetry: "",
            tables: String::new(),
            service: "",
            route: "",
        }
    }
}

impl Setup {
    /// Brings it up in a new folder.
    pub(super) fn up(&self, bench: &Bench) -> anyhow::Result<Stand> {
        self.up_in(App::new("bench-proxy")?, bench)
    }

    /// Brings it up in a folder that may hold keys and certificates already.
    pub(super) fn up_in(&self, app: App, bench: &Bench) -> anyhow::Result<Stand> {
        self.write(app.dir(), bench)?;
        let told = app.up_with(
            Command::new("taskset").args(["-c", "0"]).arg(&bench.atoll),
            &bench.atoll,
        )?;
        let services = app.services()?;
        let upstream = services
            .first()
            .and_then(|service| service["instances"][0]["address"].as_str())
            .context("the upstream has no address")?
            .to_owned();
        let edge = told.rsplit("//").next().unwrap_or_default().to_owned();
        Ok(Stand {
            app,
            edge,
            upstream,
        })
    }

    fn write(&self, dir: &Path, bench: &Bench) -> anyhow::Result<()> {
        let service = dir.join("services/upstream");
        fs::create_dir_all(&service)?;
        let manifest = format!(
            "name = \"bench\"\nmembers = [\"services/*\"]\n[edge]\nlisten = \"127.0.0.1:0\"\n{}\n\
             [mesh]\nport = 0\n[telemetry]\notlp_grpc = \"off\"\notlp_http = \"off\"\n{}\n{}",
            self.edge, self.telemetry, self.tables
        );
        fs::write(dir.join("atoll.toml"), manifest)?;
        let manifest = format!(
            "name = \"upstream\"\nrun = [\"sh\", \"run.sh\"]\n{}\n[[route]]\npath = \"/**\"\n{}",
            self.service, self.route
        );
        fs::write(service.join("service.toml"), manifest)?;
        let run = match self.upstream {
            Upstream::Nginx => {
                fs::write(service.join("nginx.conf"), upstream_config())?;
                "head -c 100000 /dev/zero | tr '\\0' x > \"$DATA_DIR/100k\"\n\
                 sed -e \"s|PORT|$PORT|; s|DATA|$DATA_DIR|g\" nginx.conf > \"$DATA_DIR/nginx.conf\"\n\
                 exec taskset -c 1 nginx -c \"$DATA_DIR/nginx.conf\"\n"
                    .to_owned()
            }
            Upstream::Own(command) => {
                format!("exec taskset -c 1 '{}' {command}\n", bench.xtask.display())
            }
        };
        fs::write(service.join("run.sh"), run)?;
        Ok(())
    }
}

impl Stand {
    /// Atoll itself, at the address it told.
    pub(super) fn atoll(&self) -> anyhow::Result<Peer> {
        self.atoll_at(self.edge.clone())
    }

    /// Atoll itself, by another name.
    pub(super) fn atoll_as(&self, name: &'static str) -> anyhow::Result<Peer> {
        Ok(Peer::new(
            name,
            self.edge.clone(),
            vec![self.app.pid()?],
            None,
        ))
    }

    /// Atoll itself, at another of its addresses.
    pub(super) fn atoll_at(&self, address: String) -> anyhow::Result<Peer> {
        Ok(Peer::new("Atoll", address, vec![self.app.pid()?], None))
    }

    /// Where the upstream listens.
    pub(super) fn upstream(&self) -> &str {
        &self.upstream
    }

    /// A folder for a peer, which its workers may write to.
    pub(super) fn home(&self, name: &str) -> anyhow::Result<PathBuf> {
        home(self.app.dir(), name)
    }
}

/// Root's nginx would read the file as another user, who may not look into the folder.
fn upstream_config() -> String {
    let body = format!("{{\"data\":\"{}\"}}", "x".repeat(109));
    format!(
        "user root; worker_processes 1; daemon off; error_log stderr; pid DATA/pid;
         events {{ worker_connections 16384; }}
         http {{ access_log off; client_body_temp_path DATA/b; proxy_temp_path DATA/p;
           fastcgi_temp_path DATA/f; uwsgi_temp_path DATA/u; scgi_temp_path DATA/s;
           keepalive_requests 100000000; keepalive_timeout 1h; sendfile on; tcp_nopush on;
           open_file_cache max=10; default_type application/json;
           server {{ listen 127.0.0.1:PORT;
             location = /100k {{ root DATA; }}
             location / {{ return 200 '{body}'; }} }} }}"
    )
}
