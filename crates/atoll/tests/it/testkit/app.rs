//! An application in a folder of its own. When it goes out of scope it is taken down, and nothing
//! of it may be left.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use atoll_base::clock;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{self, Said, called, code_of, command, given, kill, run};
use super::{Answer, Connection, PATIENCE, Service, eventually, until};

/// Ports by the system's choice; all else by default.
const APPLICATION: &str = r#"
name = "shop"
members = ["services/*"]
[edge]
listen = "127.0.0.1:0"
[telemetry]
otlp_grpc = "off"
otlp_http = "off"
[mesh]
port = 0
"#;

pub(crate) struct App {
    folder: TempDir,
    edge: Mutex<Option<SocketAddr>>,
}

/// An `atoll up` that stays in the foreground. Killed when dropped.
pub(crate) struct Foreground {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// The binary under test.
pub(crate) fn atoll() -> Command {
    command(env!("CARGO_BIN_EXE_atoll"))
}

impl App {
    /// An application without services.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("atoll-e2e-")
            .tempdir()
            .unwrap();
        // A database server of another user must pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let app = Self {
            folder,
            edge: Mutex::new(None),
        };
        app.write("atoll.toml", APPLICATION);
        app
    }

    /// Begins to write a service.
    pub(crate) fn service(&self, name: &str) -> Service<'_> {
        Service::new(self, name)
    }

    /// An application of one service `a`, with the route `/a/**`, that is up.
    pub(crate) fn with_a() -> Self {
        let app = Self::new();
        app.service("a").route("/a/**").write();
        app.up();
        app
    }

    /// An application of one service `a`, which leaves three children of its own; not up yet.
    pub(crate) fn with_forks() -> Self {
        let app = Self::new();
        app.service("a")
            .route("/a/**")
            .env("FORK", "child,setsid,daemon")
            .write();
        app
    }

    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    /// Writes a file, and the folders to it.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        let path = self.path(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs `atoll` for this application.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> Said {
        let mut atoll = atoll();
        atoll.arg("-C").arg(self.dir()).args(arguments);
        run(atoll)
    }

    /// `atoll up --detach`, which must succeed.
    #[track_caller]
    pub(crate) fn up(&self) -> Said {
        self.try_up().succeeded()
    }

    /// `atoll up --detach`; the edge's address is noted if it says one.
    #[track_caller]
    pub(crate) fn try_up(&self) -> Said {
        let said = self.cli(&["up", "--detach"]);
        self.note_edge(&said.out);
        said
    }

    #[track_caller]
    pub(crate) fn down(&self) -> Said {
        self.cli(&["down"]).succeeded()
    }

    /// `atoll up` with these arguments, in the foreground; returns when it has said its address.
    #[track_caller]
    pub(crate) fn up_in_foreground(&self, arguments: &[&str]) -> Foreground {
        let (out, err) = (self.path("up.out"), self.path("up.err"));
        let mut atoll = atoll();
        atoll.arg("-C").arg(self.dir()).arg("up").args(arguments);
        atoll
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        let mut foreground = Foreground {
            child: atoll.spawn().unwrap(),
            out,
            err,
        };
        eventually("the address of the edge", || {
            let out = foreground.out();
            let ended = foreground.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {out}{}", foreground.err());
            if out.ends_with('\n') {
                Ok(())
            } else {
                Err(foreground.err())
            }
        });
        self.note_edge(&foreground.out());
        foreground
    }

    fn note_edge(&self, out: &str) {
        let address = out
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("http://"));
        if let Some(address) = address {
            *self.edge.lock().unwrap() = Some(address.parse().unwrap());
        }
    }

    /// Where the edge listens.
    #[track_caller]
    pub(crate) fn edge(&self) -> SocketAddr {
        self.edge
            .lock()
            .unwrap()
            .expect("the application is not up")
    }

    /// `GET` through the edge, on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// These bytes through the edge.
    #[track_caller]
    pub(crate) fn exchange(&self, request: &str) -> Answer {
        let answered = Connection::open(self.edge()).and_then(|mut open| open.exchange(request));
        answered.unwrap_or_else(|error| panic!("{error} instead of an answer to {request:.200}"))
    }

    /// As [`App::exchange`], on a thread of its own.
    pub(crate) fn in_background(&self, request: &str) -> JoinHandle<Answer> {
        let (edge, request) = (self.edge(), request.to_owned());
        std::thread::spawn(move || Connection::open(edge).unwrap().exchange(&request).unwrap())
    }

    /// `sh -c` within an instance of `service`, which has the route `/SERVICE/**`: its exit code,
    /// and what it printed on both streams.
    #[track_caller]
    pub(crate) fn run_in(&self, service: &str, script: &str) -> (i64, String) {
        let length = script.len();
        let request = format!(
            "POST /{service}/run HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{script}"
        );
        let answer = self.exchange(&request).has(200).json();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (answer["code"].as_i64().unwrap(), text("out") + &text("err"))
    }

    /// As [`App::run_in`]; the script must succeed.
    #[track_caller]
    pub(crate) fn done_in(&self, service: &str, script: &str) -> String {
        let (code, said) = self.run_in(service, script);
        assert_eq!(code, 0, "{script:?} in {service}: {said}");
        said
    }

    /// A service as `atoll ps --json` tells it.
    #[track_caller]
    pub(crate) fn view(&self, service: &str) -> Value {
        let all = self.cli(&["ps", "--json"]).succeeded().json();
        let found = all["services"]
            .as_array()
            .unwrap()
            .iter()
            .find(|view| view["name"] == service);
        found
            .unwrap_or_else(|| panic!("no {service} in {all:#}"))
            .clone()
    }

    /// The main processes of a service that serve.
    #[track_caller]
    pub(crate) fn pids(&self, service: &str) -> Vec<u32> {
        let view = self.view(service);
        let instances = view["instances"].as_array().unwrap().iter();
        let pids = instances.filter_map(|instance| instance["pid"].as_u64());
        pids.map(|pid| u32::try_from(pid).unwrap()).collect()
    }

    /// Whether the node warned of something on this machine, such as "ATL0221".
    #[track_caller]
    pub(crate) fn warned(&self, code: &str) -> bool {
        self.cli(&["ps"]).succeeded().err.contains(code)
    }

    /// The records that `atoll logs` with these arguments tells.
    #[track_caller]
    pub(crate) fn log(&self, arguments: &[&str]) -> Vec<Value> {
        let mut told = self.log_and_hops(arguments);
        told.retain(|line| line["hop"].is_null());
        told
    }

    /// The way of a request: `CALLER to INSTANCE`, in the order of time.
    #[track_caller]
    pub(crate) fn way(&self, trace: &str) -> Vec<String> {
        let told = self.log_and_hops(&["--trace", trace]);
        let hops = told
            .iter()
            .map(|line| &line["hop"])
            .filter(|hop| !hop.is_null());
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        hops.map(|hop| format!("{} to {}", text(&hop["caller"]), text(&hop["instance"])))
            .collect()
    }

    fn log_and_hops(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.cli(&[&["logs", "--json"], arguments].concat());
        let lines = said.out.lines();
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        // That nothing was found is told as an error.
        lines
            .filter(|line: &Value| line.get("error").is_none())
            .collect()
    }

    /// The messages of a service's log, all that are kept.
    #[track_caller]
    pub(crate) fn messages(&self, service: &str) -> Vec<String> {
        let records = self.log(&[service, "--tail", "100000"]);
        records
            .iter()
            .map(|r| r["msg"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The node's id; none before it was first up.
    fn node_id(&self) -> Option<String> {
        let text = fs::read_to_string(self.path(".atoll/node-id")).ok()?;
        text.split_whitespace().next().map(str::to_owned)
    }

    /// The live processes of the instances.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        self.node_id()
            .map(|id| given(&format!("ATOLL_NODE={id}")))
            .unwrap_or_default()
    }

    /// The processes of [`App::with_forks`] once all have come: a service is ready before what it forked has
    /// become another program, and until then a child looks like its parent, or like nobody.
    pub(crate) fn forked(&self) -> Vec<(u32, String)> {
        eventually("a service and its three children", || {
            let all = self.processes();
            let asleep = all.iter().filter(|(_, command)| command == "sleep 3600");
            if (asleep.count(), all.len()) == (3, 4) {
                Ok(all)
            } else {
                Err(format!("{all:?}"))
            }
        })
    }

    /// The live processes of the node itself.
    pub(crate) fn nodes(&self) -> Vec<(u32, String)> {
        called(&[self.dir().to_str().unwrap(), "up"])
    }

    /// Kills the node, and waits until another can start: its process is gone a moment before its lock and its
    /// socket are.
    pub(crate) fn kill_node(&self) {
        kill(self.nodes()[0].0, Signal::KILL);
        until("the end of the node", || {
            self.nodes().is_empty() && self.cli(&["ps"]).code == 4
        });
    }

    /// The folders of the node in all trees of cgroups.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let Some(id) = self.node_id() else {
            return Vec::new();
        };
        // The processes are in them or were; the own cgroups of a node lie below those of this one.
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let mut places: Vec<&str> = own.chain(["/"]).collect();
        places.sort_unstable();
        places.dedup();
        let roots = Path::new("/sys/fs/cgroup");
        let trees = fs::read_dir(roots)
            .into_iter()
            .flatten()
            .flatten()
            .map(|tree| tree.path());
        let candidates = trees.chain([roots.to_owned()]).flat_map(|tree| {
            let below = |place: &&str| tree.join(place.trim_start_matches('/'));
            places.iter().map(below).collect::<Vec<_>>()
        });
        let mut found: Vec<PathBuf> = candidates
            .map(|folder| folder.join(format!("atoll-{id}")))
            .filter(|f| f.is_dir())
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// No instance runs, and no node any more.
    #[track_caller]
    pub(crate) fn is_gone(&self) {
        assert_eq!(self.processes(), []);
        until("the end of the node", || self.nodes().is_empty());
    }

    /// Takes it down by all means; tells what should not have been necessary.
    fn end(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let down = self.cli(&["down"]);
        if ![0, 4].contains(&down.code) {
            complaints.push(down.to_string());
        }
        let mut left = self.processes();
        // A node lets go of its lock, which is what `down` waits for, a moment before it has ended.
        let deadline = clock::monotonic() + PATIENCE;
        while down.code == 0 && !self.nodes().is_empty() && clock::monotonic() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        left.extend(self.nodes());
        for (pid, line) in left {
            complaints.push(format!("left behind: {line} ({pid})"));
            kill(pid, Signal::KILL);
        }
        self.remove_cgroups();
        complaints
    }

    /// A node that was killed leaves these to the next one in its folder, which will never be.
    fn remove_cgroups(&self) {
        for folder in self.cgroups() {
            for inner in fs::read_dir(&folder).into_iter().flatten().flatten() {
                // The kernel's own files cannot be removed, and need not be.
                let _ = fs::remove_dir(inner.path());
            }
            let _ = fs::remove_dir(&folder);
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.cli(&["logs", "--tail", "150"]);
            let output = fs::read_to_string(self.path(".atoll/node.out")).unwrap_or_default();
            eprintln!(
                "the log of the application:\n{}\nits node said:\n{output}",
                lines.out
            );
        }
        let complaints = self.end();
        if std::thread::panicking() {
            eprintln!("{}", complaints.join("\n"));
        } else {
            assert!(complaints.is_empty(), "{}", complaints.join("\n"));
        }
    }
}

impl Foreground {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on stdout so far.
    pub(crate) fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// What it has said on stderr so far.
    pub(crate) fn err(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::kill(self.pid(), signal);
    }

    /// Waits for its end; tells its exit code as a shell would.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        eventually("the end of `atoll up`", || {
            match self.child.try_wait().unwrap() {
                Some(status) => Ok(code_of(status)),
                None => Err(self.err()),
            }
        })
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // It has ended already in a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
