//! What a node that was killed leaves behind, and how the next start finds it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use atoll_base::{InstanceId, RevisionNumber, ServiceName, Tasks};
use atoll_supervisor::{Config, Event, Handle, Observer, OutputSink, Printed, recover};

use crate::bed::{cgroups, is_alive, marked, spec, until};

const RUN_DIR: &str = "TEST_NODE_RUN_DIR";
const NODE_ID: &str = "TEST_NODE_ID";

/// Not a test: the node that is killed. The test below runs this binary with only this one.
#[test]
fn as_node() {
    let Ok(run_dir) = std::env::var(RUN_DIR) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config {
            run_dir: run_dir.clone().into(),
            node_id: std::env::var(NODE_ID).unwrap(),
        };
        let printer = Arc::new(Printer);
        let handle = Handle::open(config, printer.clone(), printer, Tasks::new()).unwrap();
        let id = InstanceId::new(ServiceName::new("demo").unwrap(), RevisionNumber(1), 1);
        let bare = bare_seconds(std::process::id());
        let program = format!(
            "sleep 1000 & setsid sleep 1001 & setsid env -i /bin/sleep {bare} & sleep 0.1; \
             echo up; wait"
        );
        handle.start(spec(id, &["sh", "-c", &program], Path::new(&run_dir)));
        std::future::pending::<()>().await;
    });
}

struct Printer;

impl Observer for Printer {
    fn event(&self, event: Event) {
        if let Event::Started { pid, .. } = event {
            println!("pid {pid}");
        }
    }
}

impl OutputSink for Printer {
    fn lines(&self, printed: Printed) {
        for line in printed.lines() {
            println!("line {}", line.text);
        }
    }
}

#[test]
fn nothing_survives_the_next_start_of_a_node_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let node_id = format!("killed-{}", std::process::id());
    let mut node = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recovery::as_node", "--nocapture"])
        .env(RUN_DIR, folder.path())
        .env(NODE_ID, &node_id)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let mut main = None;
    loop {
        let line = lines
            .next()
            .expect("the node says what it started")
            .unwrap();
        // The test harness may have begun the line.
        if let Some((_, pid)) = line.split_once("pid ") {
            main = pid.parse::<u32>().ok();
        }
        if line.ends_with("line up") {
            break;
        }
    }
    let main = main.unwrap();
    let bare = until("the one without environment", || {
        bare_sleep(&bare_seconds(node.id()))
    });
    let had_cgroups = !cgroups(&node_id).is_empty();
    node.kill().unwrap();
    node.wait().unwrap();
    until("the main process to die with its node", || {
        (!is_alive(main)).then_some(())
    });
    assert!(
        marked(&node_id).len() >= 2,
        "else there is nothing to recover"
    );
    fs::write(folder.path().join("instances/torn.json"), "{\"version\":1,").unwrap();

    let recovered = recover(folder.path(), &node_id).unwrap();
    assert_eq!(marked(&node_id), [0; 0]);
    assert!(
        recovered
            .ended
            .iter()
            .any(|text| text.starts_with("sleep 1001 (pid "))
    );
    if had_cgroups {
        assert!(!is_alive(bare), "found through its cgroup");
    }
    assert!(cgroups(&node_id).is_empty());
    assert_eq!(
        fs::read_dir(folder.path().join("instances"))
            .unwrap()
            .count(),
        0
    );
    let again = recover(folder.path(), &node_id).unwrap();
    assert_eq!(again.ended, [""; 0]);
    if is_alive(bare) {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(bare.cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
}

#[test]
fn a_record_is_never_a_reason_to_kill_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    // It leads a session whose number a record names, but it is not the process that was recorded.
    let mut command = Command::new("setsid");
    let mut bystander = command.args(["sleep", "1003"]).spawn().unwrap();
    let pid = bystander.id();
    until("its session", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.contains(&format!(" {pid} {pid} ")).then_some(())
    });
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::create_dir(folder.path().join("instances")).unwrap();
    for (name, start_time, cgroup) in [("a", 1u64, "/sys/fs/cgroup"), ("b", 0, "/")] {
        let record = format!(
            "{{\"version\":1,\"id\":\"{name}\",\"node_id\":\"bystander\",\"boot_id\":\"{}\",\
             \"cgroups\":[\"{cgroup}\"],\"process\":{{\"pid\":{pid},\"start_time\":{start_time}}}}}",
            boot_id.trim()
        );
        fs::write(folder.path().join(format!("instances/{name}.json")), record).unwrap();
    }
    let recovered = recover(folder.path(), "bystander").unwrap();
    assert_eq!(recovered.ended, [""; 0]);
    assert!(is_alive(pid));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// An argument of `sleep` by which one is known that has no environment.
fn bare_seconds(node: u32) -> String {
    format!("1000.{node}")
}

fn bare_sleep(argument: &str) -> Option<u32> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        (line == format!("/bin/sleep\0{argument}\0").as_bytes()).then_some(pid)
    })
}
