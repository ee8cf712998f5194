//! The text of limits, and counters, on files that look like the kernel's.

use super::files::{self, Dialect};
use super::find::{enable, own_dir, parse_mount, unified};
use super::*;
use crate::spec::{Io, Throttled};
use atoll_base::ByteCount;
use atoll_testkit::{Ability, lacking};

fn texts(dialect: Dialect, controller: Controller, resources: &Resources) -> Vec<String> {
    files::limits(dialect, &[controller], resources)
        .iter()
        .map(|setting| format!("{}={}", setting.file, setting.value))
        .collect()
}

#[test]
fn limits_are_written_in_the_words_of_each_version() {
    let resources = Resources {
        memory: Some(ByteCount::mib(256)),
        cpu: Some(0.5),
        pids: None,
    };
    assert_eq!(
        texts(Dialect::V2, Controller::Memory, &resources),
        [
            "memory.max=268435456",
            "memory.swap.max=0",
            "memory.oom.group=1"
        ]
    );
    assert_eq!(
        texts(Dialect::V1, Controller::Memory, &resources),
        [
            "memory.limit_in_bytes=268435456",
            "memory.memsw.limit_in_bytes=268435456"
        ]
    );
    let cpu = texts(Dialect::V2, Controller::Cpu, &resources);
    assert_eq!(cpu, ["cpu.max=50000 100000"]);
    let cpu = texts(Dialect::V1, Controller::Cpu, &resources);
    assert_eq!(cpu, ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]);
    let pids = texts(Dialect::V1, Controller::Pids, &resources);
    assert_eq!(pids, ["pids.max=1024"]);
    let none = Resources::default();
    let cpu = texts(Dialect::V2, Controller::Cpu, &none);
    assert_eq!(cpu, ["cpu.max=max 100000"]);
}

#[test]
fn counts_are_read_in_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("memory.events", "low 0\noom 3\noom_kill 2\n");
    write("memory.current", "5000\n");
    write("memory.stat", "anon 1\ninactive_file 1000\n");
    write("cpu.stat", "usage_usec 7\nuser_usec 1\n");
    assert_eq!(files::oom_kills(Dialect::V2, dir), Some(2));
    assert_eq!(files::memory(Dialect::V2, dir), Some(4000));
    assert_eq!(files::cpu_ns(Dialect::V2, dir), Some(7000));
    write("memory.oom_control", "oom_kill_disable 0\noom_kill 4\n");
    write("memory.usage_in_bytes", "9000\n");
    write("memory.stat", "total_inactive_file 1\n");
    write("cpuacct.usage", "77\n");
    assert_eq!(files::oom_kills(Dialect::V1, dir), Some(4));
    assert_eq!(files::memory(Dialect::V1, dir), Some(8999));
    assert_eq!(files::cpu_ns(Dialect::V1, dir), Some(77));
}

#[test]
fn files_of_the_kernel_are_read_as_they_are_written() {
    // Of v1 as Linux 6.18 had it after a second of a busy loop under a tenth of a core; of v2 the names and
    // the order of the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
    let v1 =
        "nr_periods 16\nnr_throttled 15\nthrottled_time 1035277540\nnr_bursts 0\nburst_time 0\n";
    let v2 = "usage_usec 3641043\nuser_usec 3011340\nsystem_usec 629702\nnr_periods 16\n\
              nr_throttled 15\nthrottled_usec 1035277\nnr_bursts 0\nburst_usec 0\n";
    for (dialect, text, waited_ns) in [
        (Dialect::V1, v1, 1_035_277_540),
        (Dialect::V2, v2, 1_035_277_000),
    ] {
        let told = files::parse_throttled(dialect, text).unwrap();
        let expected = Throttled {
            periods: 16,
            throttled: 15,
            waited_ns,
        };
        assert_eq!(told, expected);
    }
    // The root of v2 on Linux 6.18.
    let without = "usage_usec 88951438555\nuser_usec 74009953490\nsystem_usec 14941485064\n\
                   nice_usec 2253911469\n";
    assert_eq!(files::parse_throttled(Dialect::V2, without), None);
    let io = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n\
              8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n";
    let told = files::parse_io(io);
    assert_eq!((told.read, told.written), (91_889_664, 613_781_504));
    assert_eq!(files::parse_io(""), Io::default(), "nothing yet");
}

#[test]
fn the_own_cgroup_is_found_in_every_kind_of_mount() {
    let v1 = "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
    let v1 = parse_mount(v1).unwrap();
    let own = "9:name=systemd:/\n4:cpu,cpuacct:/a/b\n0::/user.slice/x.scope\n";
    let dir = own_dir(&v1, own).unwrap();
    assert_eq!(dir, Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
    let v2 = parse_mount("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw").unwrap();
    let dir = own_dir(&v2, own).unwrap();
    assert_eq!(dir, Path::new("/sys/fs/cgroup/user.slice/x.scope"));
    let inside = "35 31 0:32 /a /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";
    let dir = own_dir(&parse_mount(inside).unwrap(), own).unwrap();
    assert_eq!(dir, Path::new("/sys/fs/cgroup/cpu/b"));
    let other = "35 31 0:32 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
    assert_eq!(parse_mount(other), None);
    assert_eq!(parse_mount("35 31 0:32 / /proc rw - proc proc rw"), None);
}

#[test]
fn a_kernel_that_does_not_count_io_limits_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        Controller::Memory,
        Controller::Cpu,
        Controller::Pids,
        Controller::Io,
    ];
    // What is written lands in the dots; what follows is what this kernel has dealt out.
    for (dealt, enough) in [
        ("cpu io memory pids", true),
        ("cpu memory pids", true),
        ("cpu io pids", false),
        ("", false),
    ] {
        let text = format!("......... {dealt}\n");
        fs::write(dir.path().join("cgroup.subtree_control"), text).unwrap();
        let mut controllers = all.to_vec();
        assert_eq!(enable(dir.path(), &mut controllers), enough, "{dealt}");
        let mut left = controllers
            .iter()
            .map(|own| format!("{own:?}").to_lowercase());
        assert!(left.all(|own| dealt.contains(&own)), "{controllers:?}");
        assert_eq!(controllers.len(), dealt.split_whitespace().count());
    }
}

/// A cgroup of the second version that this process may deal out from, in an ordinary folder.
fn cgroup2(dir: &Path, procs: &str) {
    fs::create_dir_all(dir).unwrap();
    let all = "cpu io memory pids\n";
    for (name, text) in [
        ("cgroup.controllers", all),
        // What is written lands in the dots.
        ("cgroup.subtree_control", "........ cpu io memory pids\n"),
        ("cgroup.procs", procs),
        ("cgroup.type", "domain\n"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn was_asked(dir: &Path) -> bool {
    let told = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap();
    !told.starts_with('.')
}

/// The kernel would take some, and let no process into what is below from then on.
#[test]
fn nothing_is_asked_of_a_cgroup_that_holds_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (above, own) = (dir.path().to_owned(), dir.path().join("own"));
    cgroup2(&above, "");
    cgroup2(&own, &format!("1\n{}\n", std::process::id()));
    let base = unified(dir.path(), &own).unwrap();
    assert_eq!(base.dir, above);
    assert!(was_asked(&above) && !was_asked(&own));
    // The root has no type and knows no such rule.
    fs::remove_file(own.join("cgroup.type")).unwrap();
    assert_eq!(unified(dir.path(), &own).unwrap().dir, own);
    assert!(was_asked(&own));
}

#[test]
fn one_that_is_alone_moves_into_a_leaf_and_deals_out() {
    let dir = tempfile::tempdir().unwrap();
    let (above, own) = (dir.path().to_owned(), dir.path().join("own"));
    let me = std::process::id().to_string();
    cgroup2(&above, "");
    cgroup2(&own, &format!("{me}\n"));
    let base = unified(dir.path(), &own).unwrap();
    let moved = fs::read_to_string(own.join("atoll-node/cgroup.procs"));
    assert_eq!((base.dir, moved.unwrap()), (own.clone(), me));
    assert_eq!(base.controllers.len(), 4);
    assert!(was_asked(&own) && !was_asked(&above));
    // A second look, from the leaf.
    cgroup2(&own, "");
    let again = unified(dir.path(), &own.join("atoll-node")).unwrap();
    assert_eq!(again.dir, own);
}

/// A group in an ordinary folder, where a folder in place of a file is what refuses to be written.
fn group_refusing(dir: &Path, refused: &str) -> Group {
    fs::create_dir(dir.join(refused)).unwrap();
    Group {
        parts: vec![Base {
            dir: dir.to_owned(),
            dialect: Dialect::V1,
            controllers: vec![Controller::Memory, Controller::Cpu, Controller::Pids],
        }],
        memory_limited: false,
    }
}

#[test]
fn a_refused_limit_does_not_drop_the_others() {
    let resources = Resources {
        memory: Some(ByteCount::mib(200)),
        cpu: Some(2.0),
        pids: Some(50),
    };
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let mut group = group_refusing(dir.path(), "cpu.cfs_quota_us");
    let problem = group.limit(&resources).unwrap_err();
    assert!(problem.contains("cpu.cfs_quota_us to 200000"), "{problem}");
    assert_eq!(read("memory.limit_in_bytes"), "209715200");
    assert_eq!(read("pids.max"), "50");
    assert!(group.limits_memory());

    let dir = tempfile::tempdir().unwrap();
    let mut group = group_refusing(dir.path(), "memory.limit_in_bytes");
    let problem = group.limit(&resources).unwrap_err();
    assert!(problem.contains("memory.limit_in_bytes"), "{problem}");
    assert!(
        !group.limits_memory(),
        "so that RLIMIT_DATA takes its place"
    );
}

#[test]
fn the_cores_of_the_cgroups_above_are_the_least_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    assert_eq!(files::cpu_of_above(Dialect::V1, &below), None);
    write("cpu.cfs_period_us", "100000\n");
    write("a/cpu.cfs_period_us", "100000\n");
    write("cpu.cfs_quota_us", "150000\n");
    write("a/cpu.cfs_quota_us", "-1\n");
    assert_eq!(files::cpu_of_above(Dialect::V1, &below), Some(1.5));
    write("a/cpu.cfs_quota_us", "50000\n");
    assert_eq!(files::cpu_of_above(Dialect::V1, &below), Some(0.5));
    write("cpu.max", "max 100000\n");
    assert_eq!(files::cpu_of_above(Dialect::V2, &below), None);
    write("a/cpu.max", "20000 100000\n");
    assert_eq!(files::cpu_of_above(Dialect::V2, &below), Some(0.2));
}

/// On the kernel itself, where it has v1 and lets this process in.
#[test]
fn more_processor_time_than_there_is_is_set_to_what_there_is() {
    let tree = Tree::find(&format!("cpu-test-{}", std::process::id()));
    let is_v1 = |base: &&Base| base.dialect == Dialect::V1 && base.has(Controller::Cpu);
    let Some(base) = tree.bases.iter().find(is_v1) else {
        tree.remove();
        return lacking(Ability::CgroupsV1);
    };
    fs::write(base.dir.join("cpu.cfs_quota_us"), "50000").unwrap();
    let mut group = tree.create("demo-r1-1").unwrap();
    let resources = Resources {
        cpu: Some(2.0),
        ..Resources::default()
    };
    let limited = group.limit(&resources);
    let set = fs::read_to_string(base.dir.join("demo-r1-1/cpu.cfs_quota_us"));
    group.remove().unwrap();
    tree.remove();
    let problem = limited.unwrap_err();
    let said =
        "cpu = 2 is more than the 0.5 cores that Atoll itself was given; 0.5 was set instead";
    assert!(problem.contains(said), "{problem}");
    assert_eq!(set.unwrap().trim(), "50000");
}
