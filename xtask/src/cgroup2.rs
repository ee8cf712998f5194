//! `cargo xtask cgroup2`: the supervisor's tests on a kernel that has cgroups in their second version
//! and nothing else, with all controllers.
//!
//! Machines on which people and gates run tests often have the first version, or a second one without
//! controllers. So Debian's kernel is started in QEMU. Its root is this machine's own file system, read
//! only, below a file system in memory: programs, libraries and tests are where they always are, and
//! nothing needs an image of a disk. Refused: taking KVM wherever it is. On some virtual machines it is
//! there and the kernel hangs in it; `--kvm` asks for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::install;
use crate::run::{cargo, output, root, run};

/// What the kernel needs before it has a root. The last is for the proxy's question who calls.
const MODULES: [&str; 5] = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "tcp_diag"];

/// More than it ever takes, in seconds.
const PATIENCE: &str = "900";

/// What counts on a quick start is not tried where a processor is only imitated.
const TOO_SLOW: &str = "--skip readiness:: --skip output::gigabytes";

/// Where QEMU listens for the end, and what it ends with when [`GUEST`] says 16 there.
const EXIT: &str = "isa-debug-exit,iobase=0x501,iosize=2";
const PASSED: i32 = (16 << 1) | 1;

/// The first program: makes the root and goes there.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
unxz /modules/*.xz 2>/dev/null
for module in $(cat /modules/order); do insmod "/modules/$module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /host
mount -t tmpfs -o size=2g memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devices /root/dev
mount -t tmpfs memory /root/run
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
ip link set lo up
cp /guest /root/run/guest
exec switch_root /root /bin/sh /run/guest
"#;

/// Runs the tests where Atoll finds its place in three ways: alone in a container, where it has to move
/// into a leaf before it can deal out controllers; beside another process, as in a terminal, where it
/// takes the cgroup above; in the root.
const GUEST: &str = r#"
exec </dev/null >/dev/ttyS0 2>&1
export CARGO_MANIFEST_DIR="$ROOT/crates/supervisor" ATOLL_TESTS_WITHOUT=cgroups-v1
cd "$CARGO_MANIFEST_DIR"
ln -s /proc/self/fd /dev/fd
tree=/sys/fs/cgroup
echo '+memory +cpu +pids +io' >$tree/cgroup.subtree_control
mkdir $tree/terminal
within() { # CGROUP COMMAND...
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$@"
}
failed=0
for test in $TESTS; do
    echo "== ${test##*/}, alone in a container"
    mkdir "$tree/${test##*/}"
    within "$tree/${test##*/}" unshare --cgroup --mount sh -c 'umount /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"' sh "$test" --test-threads 1 $SKIP || failed=1
done
within $tree/terminal sleep 100000 & sleep 1
for place in $tree/terminal $tree; do
    echo "== limits in $place"
    within $place "$OUTER" limits:: --test-threads 1 || failed=1
done
# 16 where QEMU listens means that all is well.
if [ $failed = 0 ]; then code='\020'; else code='\001'; fi
printf "$code" | dd of=/dev/port bs=1 seek=1281 conv=notrunc status=none
"#;

/// Builds the tests, starts the machine, shows what it says.
pub(crate) fn all(kvm: bool) -> anyhow::Result<()> {
    install::for_cgroup2()?;
    if kvm && !Path::new("/dev/kvm").exists() {
        bail!("there is no /dev/kvm; it works without --kvm too, more slowly");
    }
    let (kernel, release) = kernel().context(
        "no kernel in /boot has its modules in /lib/modules; on Debian, linux-image-amd64 brings one",
    )?;
    let guest = guest(&tests()?, if kvm { "" } else { TOO_SLOW })?;
    let work = tempfile::tempdir()?;
    let first = first_files(work.path(), &release, &guest)?;
    let mut machine = Command::new("timeout");
    machine
        .args([PATIENCE, "qemu-system-x86_64", "-smp", "2", "-m", "4096"])
        .args(match kvm {
            true => ["-accel", "kvm", "-cpu", "host"],
            false => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        })
        .args(["-display", "none", "-vga", "none", "-serial", "stdio"])
        .args(["-nodefaults", "-no-reboot", "-device", EXIT, "-virtfs"])
        .arg("local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap")
        .args([Path::new("-kernel"), &kernel, Path::new("-initrd"), &first])
        .args(["-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all"])
        .stdin(std::process::Stdio::null());
    let status = machine.status().context("cannot run timeout and QEMU")?;
    match status.code() {
        Some(PASSED) => Ok(()),
        Some(124) => bail!("the machine was not done after {PATIENCE} s"),
        _ => bail!("tests have failed in the machine, or it has ({status})"),
    }
}

/// The newest kernel in `/boot` with modules, and its release.
pub(crate) fn kernel() -> Option<(PathBuf, String)> {
    let kernels = fs::read_dir("/boot").ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let release = name.strip_prefix("vmlinuz-")?.to_owned();
        let modules = Path::new("/lib/modules").join(&release).join("modules.dep");
        let made = entry.metadata().ok()?.modified().ok()?;
        modules.exists().then(|| (made, entry.path(), release))
    });
    kernels.max().map(|(_, path, release)| (path, release))
}

/// The programs of tests of the supervisor: the inner and the outer ones.
fn tests() -> anyhow::Result<Vec<String>> {
    let mut build = cargo();
    build.args(["test", "--package", "atoll-supervisor", "--no-run"]);
    let told = output(build.arg("--message-format=json"))?;
    let programs = told.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["executable"].as_str()?.to_owned())
    });
    Ok(programs.collect())
}

/// [`GUEST`], with what it has to know.
fn guest(tests: &[String], skip: &str) -> anyhow::Result<String> {
    // The interpreter itself: a launcher, such as pyenv's, would take seconds there.
    let ask = "import os, sys; print(os.path.dirname(sys.executable))";
    let python = output(Command::new("python3").args(["-c", ask]))?;
    let is_outer = |test: &&String| test.contains("/it-");
    let outer = tests.iter().find(is_outer).context("no outer tests")?;
    Ok(format!(
        "export PATH='{}:/usr/sbin:/usr/bin:/sbin:/bin' HOME=/root LANG=C.UTF-8
ROOT='{}' TESTS='{}' OUTER='{outer}' SKIP='{skip}'\n{GUEST}",
        python.trim(),
        root().display(),
        tests.join(" ")
    ))
}

/// The archive of files that the kernel begins with.
fn first_files(work: &Path, release: &str, guest: &str) -> anyhow::Result<PathBuf> {
    let files = work.join("files");
    for folder in ["bin", "modules", "host", "memory", "root"] {
        fs::create_dir_all(files.join(folder))?;
    }
    fs::copy("/bin/busybox", files.join("bin/busybox")).context("busybox-static is missing")?;
    fs::write(files.join("init"), INIT)?;
    fs::set_permissions(files.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(files.join("guest"), guest)?;
    let mut order = Vec::new();
    for module in modules(release)? {
        let name = module.file_name().context("a module without a name")?;
        fs::copy(&module, files.join("modules").join(name))?;
        order.push(name.to_string_lossy().trim_end_matches(".xz").to_owned());
    }
    fs::write(files.join("modules/order"), order.join("\n"))?;
    let archive = work.join("archive");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | busybox cpio -o -H newc 2>/dev/null"]);
    pack.current_dir(&files).stdout(fs::File::create(&archive)?);
    run(&mut pack)?;
    Ok(archive)
}

/// The files of [`MODULES`] and of what they need, in the order in which they can be loaded.
fn modules(release: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for module in MODULES {
        let mut ask = Command::new("/sbin/modprobe");
        ask.args(["--show-depends", "--set-version", release, module]);
        // What is built into the kernel has no file.
        let told = output(&mut ask)?;
        let files = told.lines().filter_map(|line| line.strip_prefix("insmod "));
        for file in files.map(|file| PathBuf::from(file.trim())) {
            if !all.contains(&file) {
                all.push(file);
            }
        }
    }
    Ok(all)
}
