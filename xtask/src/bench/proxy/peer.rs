//! A proxy that runs, and what the kernel says about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::run::output;

/// A proxy that runs.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Address and port.
    pub(super) address: String,
    pids: Vec<u32>,
    _process: Option<Running>,
}

/// A process that ends with this value.
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's and HAProxy's own way to end at once; kill would leave workers behind.
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

impl Peer {
    pub(super) fn new(
        name: &'static str,
        address: String,
        pids: Vec<u32>,
        process: Option<Running>,
    ) -> Self {
        Self {
            name,
            address,
            pids,
            _process: process,
        }
    }

    /// Starts a proxy on CPU 0; waits until it listens and has its worker.
    pub(super) fn start(
        name: &'static str,
        port: u16,
        command: &[&str],
        file: &Path,
    ) -> anyhow::Result<Self> {
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .args(command)
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .context(name)?;
        let pid = child.id();
        let process = Running(child);
        let address = format!("127.0.0.1:{port}");
        for _ in 0..500 {
            if std::net::TcpStream::connect(&address).is_ok() {
                let mut pids = vec![pid];
                pids.extend(children(pid));
                return Ok(Self::new(name, address, pids, Some(process)));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bail!("{name} does not listen on {address}")
    }

    /// Processor time of all its processes so far, user and system.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut seconds = 0.0;
        for pid in &self.pids {
            seconds += crate::run::cpu_seconds(*pid)?;
        }
        Ok(seconds)
    }

    /// Memory of all its processes (VmRSS), in KiB.
    pub(super) fn resident_kib(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = line.and_then(|line| line.split_whitespace().next());
            sum += number.context("no VmRSS")?.parse::<f64>()?;
        }
        Ok(sum)
    }
}

/// A folder that a worker of another user may write to.
pub(super) fn home(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let home = dir.join(name);
    fs::create_dir_all(&home)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777))?;
    Ok(home)
}

/// A port that nobody has now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// As many open files as this user may have, for this process and those it starts.
pub(super) fn raise_file_limit() -> anyhow::Result<()> {
    let command = format!(
        "prlimit --pid {} --nofile=$(ulimit -Hn)",
        std::process::id()
    );
    output(Command::new("sh").args(["-c", &command])).map(drop)
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
