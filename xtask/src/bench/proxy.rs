//! CPU per proxied request: Atoll, nginx and HAProxy before the same upstream.
//!
//! The proxy has CPU 0 for itself; the load generator and the upstream share CPU 1. What is
//! counted is `utime + stime` of the proxy's processes, over the number of requests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use super::median;
use crate::app::App;
use crate::run::{atoll, output};

/// Rounds; in each, every proxy has its turn.
const ROUNDS: usize = 7;

/// Seconds of one turn.
const SECONDS: u32 = 5;

/// Ticks of `/proc/PID/stat` in a second; fixed on Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// A proxy that runs.
struct Peer {
    name: &'static str,
    address: String,
    pids: Vec<u32>,
    _process: Option<Running>,
    cpu: Vec<f64>,
    rate: Vec<f64>,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's and HAProxy's own way to end at once; kill would leave workers behind.
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

pub(super) fn run() -> anyhow::Result<()> {
    let atoll = atoll(true)?;
    let app = application()?;
    let edge = app.up_with(
        Command::new("taskset").args(["-c", "0"]).arg(&atoll),
        &atoll,
    )?;
    let upstream = upstream(&app)?;
    let edge = edge.trim_start_matches("http://").to_owned();
    let mut peers = vec![
        Peer::new("Atoll", edge, vec![app.pid()?], None),
        nginx(app.dir(), &upstream)?,
        haproxy(app.dir(), &upstream)?,
    ];
    for peer in &mut peers {
        load(&peer.address, 1)?;
    }
    for _ in 0..ROUNDS {
        for peer in &mut peers {
            peer.measure()?;
        }
    }
    print(&peers);
    Ok(())
}

/// One service: an nginx that answers 120 bytes of JSON, on the other CPU.
fn application() -> anyhow::Result<App> {
    let app = App::new("bench-proxy")?;
    let service = app.dir().join("services/upstream");
    fs::create_dir_all(&service)?;
    fs::write(
        app.dir().join("atoll.toml"),
        "name = \"bench\"\nmembers = [\"services/*\"]\n[edge]\nlisten = \"127.0.0.1:0\"\n[mesh]\nport = 0\n",
    )?;
    fs::write(
        service.join("service.toml"),
        "name = \"upstream\"\nrun = [\"sh\", \"run.sh\"]\n[[route]]\npath = \"/**\"\n",
    )?;
    let body = format!("{{\"data\":\"{}\"}}", "x".repeat(109));
    let config = format!(
        "worker_processes 1; daemon off; error_log stderr; pid DATA/pid;
         events {{ worker_connections 4096; }}
         http {{ access_log off; client_body_temp_path DATA/b; proxy_temp_path DATA/p;
           fastcgi_temp_path DATA/f; uwsgi_temp_path DATA/u; scgi_temp_path DATA/s;
           keepalive_requests 100000000; keepalive_timeout 75s;
           server {{ listen 127.0.0.1:PORT; default_type application/json;
             location / {{ return 200 '{body}'; }} }} }}"
    );
    fs::write(service.join("nginx.conf"), config)?;
    fs::write(
        service.join("run.sh"),
        "sed -e \"s|PORT|$PORT|; s|DATA|$DATA_DIR|g\" nginx.conf > \"$DATA_DIR/nginx.conf\"\n\
         exec taskset -c 1 nginx -c \"$DATA_DIR/nginx.conf\"\n",
    )?;
    Ok(app)
}

/// Where the only instance listens.
fn upstream(app: &App) -> anyhow::Result<String> {
    let services = app.services()?;
    let address = services
        .first()
        .and_then(|s| s["instances"][0]["address"].as_str());
    Ok(address.context("the upstream has no address")?.to_owned())
}

fn nginx(dir: &Path, upstream: &str) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let home = home(dir, "nginx")?;
    let shown = home.display();
    let config = format!(
        "worker_processes 1; daemon off; error_log {shown}/error.log; pid {shown}/pid;
         events {{ worker_connections 4096; }}
         http {{ access_log off; client_body_temp_path {shown}/b; proxy_temp_path {shown}/p;
           fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;
           keepalive_requests 100000000;
           upstream u {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}
           server {{ listen 127.0.0.1:{port};
             location / {{ proxy_pass http://u; proxy_http_version 1.1;
               proxy_set_header Connection \"\"; proxy_set_header Host $host;
               proxy_set_header X-Forwarded-For $remote_addr; }} }} }}"
    );
    let file = home.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "nginx", "-c"]).arg(file);
    started("nginx, logs off", port, &mut command)
}

fn haproxy(dir: &Path, upstream: &str) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let file = home(dir, "haproxy")?.join("haproxy.cfg");
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\n\
         frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n\
         backend b\n  server s {upstream}\n"
    );
    fs::write(&file, config)?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "haproxy", "-db", "-f"]).arg(file);
    started("HAProxy", port, &mut command)
}

/// A folder that a worker of another user may write to.
fn home(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let home = dir.join(name);
    fs::create_dir_all(&home)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777))?;
    Ok(home)
}

/// Starts a proxy and waits until it listens and has its worker.
fn started(name: &'static str, port: u16, command: &mut Command) -> anyhow::Result<Peer> {
    let child = command.stdin(Stdio::null()).spawn().context(name)?;
    let address = format!("127.0.0.1:{port}");
    for _ in 0..500 {
        if std::net::TcpStream::connect(&address).is_ok() {
            let mut pids = vec![child.id()];
            pids.extend(children(child.id()));
            return Ok(Peer::new(name, address, pids, Some(Running(child))));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bail!("{name} does not listen on {address}")
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

impl Peer {
    fn new(name: &'static str, address: String, pids: Vec<u32>, process: Option<Running>) -> Self {
        Self {
            name,
            address,
            pids,
            _process: process,
            cpu: Vec::new(),
            rate: Vec::new(),
        }
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let before = self.cpu_seconds()?;
        let requests = load(&self.address, SECONDS)?;
        let spent = self.cpu_seconds()? - before;
        self.cpu.push(spent * 1e6 / requests);
        self.rate.push(requests / f64::from(SECONDS));
        Ok(())
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut ticks = 0.0;
        for pid in &self.pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
            let rest = stat.rsplit_once(')').context("odd stat")?.1;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            ticks += fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        }
        Ok(ticks / TICKS_PER_SECOND)
    }
}

/// Loads an address with 64 kept connections; tells how many requests were answered.
fn load(address: &str, seconds: u32) -> anyhow::Result<f64> {
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", "1", "wrk", "-t1", "-c64"])
        .arg(format!("-d{seconds}s"));
    let text = output(wrk.arg(format!("http://{address}/")))?;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("requests to {address} failed:\n{text}");
    }
    let requests = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    requests
        .and_then(|(count, _)| count.parse().ok())
        .context("what wrk printed")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

fn print(peers: &[Peer]) {
    let reference = median(&peers[1].cpu);
    println!(
        "\n| proxy | CPU µs/request (median of {ROUNDS}) | min–max | ratio to nginx | requests/s |"
    );
    println!("|---|---|---|---|---|");
    for peer in peers {
        let least = peer.cpu.iter().copied().fold(f64::INFINITY, f64::min);
        let most = peer.cpu.iter().copied().fold(0.0, f64::max);
        let cpu = median(&peer.cpu);
        let rate = median(&peer.rate);
        println!(
            "| {} | {cpu:.2} | {least:.2}–{most:.2} | {:.2} | {rate:.0} |",
            peer.name,
            cpu / reference
        );
    }
}
