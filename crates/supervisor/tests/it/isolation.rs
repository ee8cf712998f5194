//! What an instance gets from its node, and what it does not.

use std::fs;
use std::os::fd::AsRawFd;

use atoll_supervisor::{Event, Sandbox};
use atoll_testkit::{Ability, lacking};

use crate::bed::{Bed, SERVER};

fn stopped(bed: &Bed) {
    bed.seen
        .event(|event| matches!(event, Event::Stopped { .. }).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_was_given_and_a_short_list() {
    let bed = Bed::new();
    let mut spec = bed.spec(&["env"]);
    spec.env = vec![("GREETING".into(), "hello world".into())];
    spec.restart = false;
    let id = bed.start(spec);
    stopped(&bed);
    let names: Vec<String> = bed
        .seen
        .lines()
        .iter()
        .map(|(_, line, _)| line.split('=').next().unwrap().to_owned())
        .collect();
    let inherited = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
    let given = ["GREETING", "HOST", "PORT", "ATOLL_NODE", "ATOLL_INSTANCE"];
    for name in &names {
        let known = inherited.contains(&name.as_str()) || given.contains(&name.as_str());
        assert!(known || name.starts_with("LC_"), "{name}");
    }
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "else this proves nothing"
    );
    let has = |line: &str| bed.seen.lines().iter().any(|(_, seen, _)| seen == line);
    assert!(has("GREETING=hello world"));
    assert!(has("HOST=127.0.0.1"));
    assert!(has(&format!("ATOLL_NODE={}", bed.node_id)));
    assert!(has(&format!("ATOLL_INSTANCE={id}")));
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_signal_or_mask_of_the_node_passes() {
    let bed = Bed::new();
    let file = fs::File::open("/dev/null").unwrap();
    // Open across exec, as a careless library would leave it.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let program = "
import os, signal
print('fds', sorted(int(f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)))
print('stdin', os.readlink('/proc/self/fd/0'))
print('umask', oct(os.umask(0)))
print('leads', os.getpid() == os.getsid(0) == os.getpgid(0))
for l in open('/proc/self/status'):
    if l.startswith(('SigBlk', 'SigIgn')): print(l.split()[0], int(l.split()[1], 16))
";
    let mut spec = bed.spec(&["python3", "-S", "-c", program]);
    spec.restart = false;
    bed.start(spec);
    stopped(&bed);
    let lines: Vec<String> = bed.seen.lines().into_iter().map(|line| line.1).collect();
    // Python itself ignores SIGPIPE (13) and SIGXFSZ (25).
    let ignored = format!("SigIgn: {}", (1u64 << 12) | (1 << 24));
    let expected = [
        "fds [0, 1, 2]",
        "stdin /dev/null",
        "umask 0o22",
        "leads True",
        "SigBlk: 0",
        &ignored,
    ];
    assert_eq!(lines, expected, "fd {} of the test", file.as_raw_fd());
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_hides_the_node_and_shows_what_is_its_own() {
    let bed = Bed::new();
    let home = bed.file("home");
    for folder in ["data/demo", "data/other", "artifacts/demo/1"] {
        fs::create_dir_all(home.join(folder)).unwrap();
    }
    fs::write(home.join("secret"), "s3cret").unwrap();
    fs::write(home.join("token"), "mine").unwrap();
    fs::write(home.join("data/other/x"), "").unwrap();
    fs::write(home.join("artifacts/demo/1/main"), "code").unwrap();
    let mut spec = bed.sh(
        "pwd; ls ../../..; ls ../../../data; cat ../../../token main; echo; echo new > ../../../data/demo/y; \
         (echo x > main) 2>/dev/null || echo readonly; \
         (echo x > ../../../z) 2>/dev/null || echo sealed; cat ../../../secret || echo hidden",
    );
    spec.dir = home.join("artifacts/demo/1");
    spec.sandbox = Some(Sandbox {
        hide: home.clone(),
        keep_writable: vec![home.join("data/demo")],
        keep_readonly: vec![spec.dir.clone(), home.join("token"), home.join("not there")],
    });
    spec.restart = false;
    bed.start(spec.clone());
    stopped(&bed);
    let lines: Vec<String> = bed
        .seen
        .lines()
        .into_iter()
        .filter(|(stream, ..)| *stream == atoll_supervisor::Stream::Stdout)
        .map(|line| line.1)
        .collect();
    let warned = bed
        .seen
        .events()
        .iter()
        .any(|event| matches!(event, Event::Warning { code, .. } if code.0 == "ATL0221"));
    assert!(!warned, "{:?}", bed.seen.events());
    let dir = fs::canonicalize(&spec.dir).unwrap();
    let expected = [
        dir.to_str().unwrap(),
        "artifacts",
        "data",
        "token",
        "demo",
        "minecode",
        "readonly",
        "sealed",
        "hidden",
    ];
    assert_eq!(lines, expected);
    assert_eq!(
        fs::read_to_string(home.join("data/demo/y")).unwrap(),
        "new\n"
    );
    assert_eq!(
        fs::read_to_string(home.join("artifacts/demo/1/main")).unwrap(),
        "code"
    );
    assert!(home.join("secret").exists(), "only its own view changed");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_has_a_cgroup_by_which_it_can_be_known() {
    let bed = Bed::new();
    if !crate::bed::has_cgroups(&bed) {
        lacking(Ability::Cgroups);
        return bed.end().await;
    }
    let one = bed.start(bed.python(SERVER));
    let other = bed.start(bed.python(SERVER));
    bed.seen.ready(&one);
    bed.seen.ready(&other);
    let number = bed.handle.cgroup_id(&one);
    assert_ne!(number, bed.handle.cgroup_id(&other));
    let pid = bed.status(&one).pid.unwrap();
    let inside = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = format!("/atoll-{}/{one}", bed.node_id);
    for controller in [":memory:", ":pids:", ":cpu:", "0::"] {
        for line in inside.lines().filter(|line| line.contains(controller)) {
            assert!(line.ends_with(&own), "{line}");
        }
    }
    let usage = bed.handle.usage(&one).unwrap();
    assert!(
        usage.cpu_ns > 0 && usage.memory > 100_000 && usage.pids >= 1,
        "{usage:?}"
    );
    bed.handle.stop(&one).await;
    assert_eq!(bed.handle.usage(&one), None);
    bed.end().await;
}
