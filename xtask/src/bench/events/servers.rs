//! The peers, each a process of its own on a free port; killed when dropped.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

pub(super) struct Server {
    pub(super) address: String,
    process: Child,
}

impl Server {
    /// JetStream with its files in a folder of this one.
    pub(super) fn nats(folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new("nats-server");
        let (host, port) = address.split_once(':').context("an address")?;
        command.args(["-js", "-a", host, "-p", port, "-sd"]);
        command.arg(folder.join("nats"));
        Self::start(command, address)
    }

    /// Redis, which writes what it is told and has the disk keep it every second.
    pub(super) fn redis(folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let dir = folder.join("redis");
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new("redis-server");
        let (host, port) = address.split_once(':').context("an address")?;
        command.args(["--bind", host, "--port", port, "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"]);
        command.arg(dir);
        Self::start(command, address)
    }

    /// Returns when it takes connections.
    fn start(mut command: Command, address: String) -> anyhow::Result<Self> {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = quiet.spawn().with_context(|| format!("{quiet:?}"))?;
        let mut own = Self { address, process };
        while TcpStream::connect(&own.address).is_err() {
            if let Some(status) = own.process.try_wait()? {
                bail!("{command:?} ended with {status}");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(own)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It keeps nothing that anybody wants.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address of this machine that nobody listens on.
pub(super) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
