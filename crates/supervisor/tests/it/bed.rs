//! A supervisor in a folder of its own, with a memory of everything it told.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Tasks, clock};
use atoll_supervisor::{
    Check, Config, Event, Handle, Health, InstanceSpec, Observer, OutputSink, Printed, Resources,
    Room, State, Status, Stream,
};

/// How long a test waits for something before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is ready at once; `{}` stands for what it does before it listens.
pub(crate) const SERVER: &str = "
import os, socket, threading, time, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((os.environ['HOST'], int(os.environ['PORT'])))
s.listen(64)
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
    c.close()
";

pub(crate) struct Bed {
    pub(crate) handle: Handle,
    pub(crate) seen: Arc<Seen>,
    pub(crate) node_id: String,
    folder: tempfile::TempDir,
    tasks: Tasks,
    next: AtomicU32,
}

#[derive(Default)]
pub(crate) struct Seen {
    events: Mutex<Vec<(Instant, Event)>>,
    lines: Mutex<Vec<(Stream, String, bool)>>,
    changed: Condvar,
    /// Lines are counted, not kept.
    pub(crate) only_count: std::sync::atomic::AtomicBool,
    /// There is no room for output while somebody holds this.
    pub(crate) room: tokio::sync::Mutex<()>,
    pub(crate) asked_for_room: std::sync::atomic::AtomicBool,
    pub(crate) bytes: std::sync::atomic::AtomicU64,
}

impl Bed {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let node_id = format!("test-{}-{number}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let seen = Arc::new(Seen::default());
        let tasks = Tasks::new();
        let config = Config {
            run_dir: folder.path().join("run"),
            node_id: node_id.clone(),
        };
        let handle = Handle::open(config, seen.clone(), seen.clone(), tasks.clone()).unwrap();
        Self {
            handle,
            seen,
            node_id,
            folder,
            tasks,
            next: AtomicU32::new(1),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn spec(&self, command: &[&str]) -> InstanceSpec {
        let service = ServiceName::new("demo").unwrap();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        spec(
            InstanceId::new(service, RevisionNumber(1), number),
            command,
            self.dir(),
        )
    }

    pub(crate) fn python(&self, program: &str) -> InstanceSpec {
        self.spec(&["python3", "-c", program])
    }

    pub(crate) fn sh(&self, program: &str) -> InstanceSpec {
        self.spec(&["sh", "-c", program])
    }

    pub(crate) fn start(&self, spec: InstanceSpec) -> InstanceId {
        let id = spec.id.clone();
        self.handle.start(spec);
        id
    }

    pub(crate) fn status(&self, id: &InstanceId) -> Status {
        self.handle.status(id).unwrap()
    }

    /// Stops everything and checks that nothing is left.
    pub(crate) async fn end(self) {
        self.handle.stop_all().await;
        let marked = marked(&self.node_id);
        assert!(marked.is_empty(), "left behind: {marked:?}");
        let records = std::fs::read_dir(self.file("run/instances")).unwrap();
        assert_eq!(records.count(), 0, "records are left");
        self.tasks.stop();
        assert!(self.tasks.join(PATIENCE).await);
        drop(self.handle);
        let groups = cgroups(&self.node_id);
        assert!(groups.is_empty(), "cgroups are left: {groups:?}");
    }
}

pub(crate) fn spec(id: InstanceId, command: &[&str], dir: &Path) -> InstanceSpec {
    InstanceSpec {
        id,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        dir: dir.to_owned(),
        env: Vec::new(),
        health: Health::default(),
        resources: Resources::default(),
        stop_timeout: Duration::from_secs(5),
        sandbox: None,
        user: None,
        port: None,
        restart: true,
    }
}

pub(crate) fn http(path: &str) -> Health {
    Health {
        check: Check::Http { path: path.into() },
        ..Health::default()
    }
}

impl Seen {
    /// Waits until `find` finds something in the events so far.
    pub(crate) fn event<T>(&self, find: impl FnMut(&Event) -> Option<T>) -> T {
        self.nth_event(0, find)
    }

    /// The same, passing over the first `skip` that fit.
    pub(crate) fn nth_event<T>(&self, skip: usize, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = clock::monotonic() + PATIENCE;
        let mut events = self.events.lock().unwrap();
        loop {
            let found = events.iter().filter_map(|(_, event)| find(event)).nth(skip);
            if let Some(found) = found {
                return found;
            }
            let left = deadline.saturating_duration_since(clock::monotonic());
            assert!(!left.is_zero(), "not among {events:#?}");
            events = self.changed.wait_timeout(events, left).unwrap().0;
        }
    }

    /// Waits until the instance is ready for the `n`th time, from 1.
    pub(crate) fn ready(&self, id: &InstanceId) -> Duration {
        self.event(|event| match event {
            Event::Ready { id: of, after, .. } if of == id => Some(*after),
            _ => None,
        })
    }

    pub(crate) fn exited(&self, id: &InstanceId) -> (atoll_supervisor::ExitReason, Vec<String>) {
        self.event(|event| match event {
            Event::Exited {
                id: of,
                reason,
                last_lines,
            } if of == id => Some((reason.clone(), last_lines.clone())),
            _ => None,
        })
    }

    pub(crate) fn timed(&self) -> Vec<(Instant, Event)> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let events = self.events.lock().unwrap();
        events.iter().map(|(_, event)| event.clone()).collect()
    }

    /// Waits for a line of output that `find` likes.
    pub(crate) fn line<T>(&self, mut find: impl FnMut(&str) -> Option<T>) -> T {
        until("a line", || {
            let lines = self.lines.lock().unwrap();
            lines.iter().find_map(|(_, text, _)| find(text))
        })
    }

    pub(crate) fn lines(&self) -> Vec<(Stream, String, bool)> {
        self.lines.lock().unwrap().clone()
    }
}

impl Observer for Seen {
    fn event(&self, event: Event) {
        let mut events = self.events.lock().unwrap();
        events.push((clock::monotonic(), event));
        self.changed.notify_all();
    }
}

impl OutputSink for Seen {
    fn lines(&self, printed: Printed) {
        let length: usize = printed.lines().map(|line| line.text.len()).sum();
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        if !self.only_count.load(Ordering::Relaxed) {
            let lines = printed.lines();
            let lines = lines.map(|line| (printed.stream, line.text.to_owned(), line.continued));
            self.lines.lock().unwrap().extend(lines);
        }
    }

    fn room(&self) -> Option<Room<'_>> {
        if self.room.try_lock().is_ok() {
            return None;
        }
        self.asked_for_room.store(true, Ordering::Relaxed);
        Some(Box::pin(async { drop(self.room.lock().await) }))
    }
}

/// Waits until `look` sees something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::monotonic() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::monotonic() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn until_state(bed: &Bed, id: &InstanceId, state: State) -> Status {
    until(&format!("{state:?}"), || {
        bed.handle.status(id).filter(|status| status.state == state)
    })
}

/// The live processes that were given `ATOLL_NODE=<node_id>`.
pub(crate) fn marked(node_id: &str) -> Vec<u32> {
    let mark = format!("ATOLL_NODE={node_id}");
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found = environment.split(|b| *b == 0).any(|e| e == mark.as_bytes());
        (found && is_alive(pid)).then_some(pid)
    });
    pids.collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

/// The cgroups of a node, wherever they are mounted.
pub(crate) fn cgroups(node_id: &str) -> Vec<PathBuf> {
    let name = format!("atoll-{node_id}");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name.as_str() {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

pub(crate) fn has_cgroups(bed: &Bed) -> bool {
    !cgroups(&bed.node_id).is_empty()
}
