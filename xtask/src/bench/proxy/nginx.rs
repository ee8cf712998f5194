//! nginx as a peer: bare, its logs off, set as kindly as its manual allows.
//!
//! Kept connections never end, answers never go to temporary files, and buffers are larger than by
//! default: with those of 4 and 16 KiB, large bodies cost it twice as much.

use std::fs;

use super::app::Stand;
use super::peer::{Peer, free_port};

/// What a scenario adds to the plain configuration.
#[derive(Default)]
pub(super) struct Nginx {
    /// Words after the address of `listen`, as ` ssl`.
    pub(super) listen: &'static str,
    /// Directives of `http`.
    pub(super) http: String,
    /// Directives of the only `server`.
    pub(super) server: String,
    /// Directives of the only `location`.
    pub(super) location: String,
    /// `grpc_pass` for `proxy_pass`.
    pub(super) grpc: bool,
}

impl Nginx {
    pub(super) fn start(&self, stand: &Stand) -> anyhow::Result<Peer> {
        let port = free_port()?;
        let home = stand.home("nginx")?;
        let shown = home.display();
        let upstream = stand.upstream();
        let pass = if self.grpc {
            "grpc_pass grpc://u; grpc_set_header X-Forwarded-For $remote_addr;"
        } else {
            "proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection \"\";
               proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;"
        };
        let Self {
            listen,
            http,
            server,
            location,
            grpc: _,
        } = self;
        let config = format!(
            "worker_processes 1; daemon off; error_log {shown}/error.log; pid {shown}/pid;
             events {{ worker_connections 16384; }}
             http {{ access_log off; client_body_temp_path {shown}/b; proxy_temp_path {shown}/p;
               fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;
               keepalive_requests 100000000; keepalive_timeout 1h; proxy_max_temp_file_size 0;
               proxy_buffer_size 32k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
               client_body_buffer_size 128k;
               {http}
               upstream u {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}
               server {{ listen 127.0.0.1:{port}{listen}; {server}
                 location / {{ {pass} {location} }} }} }}"
        );
        let file = home.join("nginx.conf");
        fs::write(&file, config)?;
        Peer::start("nginx, logs off", port, &["nginx", "-c"], &file)
    }
}
