//! Gets what tests and benches need beside Rust: Debian's packages, by name.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::cgroup2;
use crate::run::{has, run};

/// A program and the package that brings it.
struct Need {
    /// Whether it is there.
    present: fn() -> bool,
    package: &'static str,
}

const TEST_NEEDS: &[Need] = &[
    Need {
        present: || has("python3"),
        package: "python3",
    },
    Need {
        present: || has("node"),
        package: "nodejs",
    },
    Need {
        present: || has("curl"),
        package: "curl",
    },
    Need {
        present: || has("nginx"),
        package: "nginx-light",
    },
    Need {
        present: || has("haproxy"),
        package: "haproxy",
    },
    Need {
        present: has_grpc,
        package: "python3-grpcio",
    },
    Need {
        present: has_postgres_server,
        package: "postgresql",
    },
    Need {
        present: || has("redis-server"),
        package: "redis-server",
    },
    Need {
        present: || has("npm"),
        package: "npm",
    },
    Need {
        present: || has("chromium"),
        package: "chromium",
    },
    // The pages are looked at with the fonts that they ask for first.
    Need {
        present: || Path::new("/usr/share/fonts/opentype/inter").exists(),
        package: "fonts-inter",
    },
    Need {
        present: || Path::new("/usr/share/fonts/truetype/jetbrains-mono").exists(),
        package: "fonts-jetbrains-mono",
    },
    Need {
        present: || has("kcat"),
        package: "kcat",
    },
    Need {
        present: || has("prometheus") && has("promtool"),
        package: "prometheus",
    },
    Need {
        present: has_venv,
        package: "python3-venv",
    },
];

const BENCH_NEEDS: &[Need] = &[
    Need {
        present: || has("nginx"),
        package: "nginx-light",
    },
    Need {
        present: || has("haproxy"),
        package: "haproxy",
    },
    Need {
        present: || has("wrk"),
        package: "wrk",
    },
    Need {
        present: || has("h2load") && has("nghttp"),
        package: "nghttp2-client",
    },
    Need {
        present: || has("openssl"),
        package: "openssl",
    },
    Need {
        present: || has("taskset") && has("prlimit"),
        package: "util-linux",
    },
    Need {
        present: || has("zstd"),
        package: "zstd",
    },
];

/// The peers of the broker.
const EVENT_BENCH_NEEDS: &[Need] = &[
    Need {
        present: || has("nats-server"),
        package: "nats-server",
    },
    Need {
        present: || has("redis-server"),
        package: "redis-server",
    },
    Need {
        present: || has("redis-benchmark"),
        package: "redis-tools",
    },
];

const CGROUP2_NEEDS: &[Need] = &[
    Need {
        present: || has("qemu-system-x86_64"),
        package: "qemu-system-x86",
    },
    Need {
        present: || has("busybox"),
        package: "busybox-static",
    },
    // Not the one for clouds: it lacks 9p.
    Need {
        present: || cgroup2::kernel().is_some(),
        package: "linux-image-amd64",
    },
];

/// Some Python with the gRPC library.
fn has_grpc() -> bool {
    ["python3", "/usr/bin/python3"].iter().any(|python| {
        let imported = Command::new(python).args(["-c", "import grpc"]).output();
        imported.is_ok_and(|output| output.status.success())
    })
}

/// Debian has the part of Python that makes environments in a package of its own.
fn has_venv() -> bool {
    let made = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    made.is_ok_and(|output| output.status.success())
}

/// The client alone, which many machines have, makes the folder too.
fn has_postgres_server() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    versions
        .into_iter()
        .any(|version| version.path().join("bin/initdb").is_file())
}

/// What `cargo xtask test` needs.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    install(TEST_NEEDS)
}

/// What `cargo xtask bench` needs.
pub(crate) fn for_benches() -> anyhow::Result<()> {
    install(BENCH_NEEDS)
}

/// What `cargo xtask bench events` needs beside.
pub(crate) fn for_event_benches() -> anyhow::Result<()> {
    install(EVENT_BENCH_NEEDS)
}

/// What `cargo xtask cgroup2` needs.
pub(crate) fn for_cgroup2() -> anyhow::Result<()> {
    install(CGROUP2_NEEDS)
}

fn install(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| !(need.present)())
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !has("apt-get") {
        bail!(
            "these are missing; install them with your system's packages: {}",
            missing.join(", ")
        );
    }
    run(apt().arg("update"))?;
    // Servers that a package would start now would only be in the way: Atoll runs its own.
    run(apt()
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing))
}

/// apt-get, as root. Nothing asks, nothing is started.
fn apt() -> Command {
    let is_root = Path::new("/proc/self").metadata().is_ok_and(|metadata| {
        use std::os::unix::fs::MetadataExt;
        metadata.uid() == 0
    });
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        Command::new("sudo")
    };
    if !is_root {
        command.args(["--preserve-env=DEBIAN_FRONTEND,RUNLEVEL", "apt-get"]);
    }
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    command
}
