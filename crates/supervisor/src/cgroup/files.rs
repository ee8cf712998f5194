//! The files of a cgroup, in both dialects: which are written for a limit, which are read for a
//! count. Here is all that differs between v1 and v2, so that the rest need not know.

use std::fs;
use std::path::Path;

use super::Controller;
use crate::config::Resources;
use crate::spec::{Io, Throttled};

/// The period over which processor time is dealt out, in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// Which files a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A value to be written into a file of a cgroup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether the file is missing on some kernels and may be.
    pub(super) optional: bool,
}

/// What is to be written for the limits, in order.
pub(super) fn limits(
    dialect: Dialect,
    controllers: &[Controller],
    resources: &Resources,
) -> Vec<Setting> {
    controllers
        .iter()
        .flat_map(|controller| match controller {
            Controller::Memory => memory_limits(dialect, resources),
            Controller::Cpu => cpu_limits(dialect, resources),
            Controller::CpuAcct | Controller::Io => Vec::new(),
            Controller::Pids => vec![needed("pids.max", resources.pids_max().to_string())],
        })
        .collect()
}

fn memory_limits(dialect: Dialect, resources: &Resources) -> Vec<Setting> {
    let limit = resources.memory.map(|memory| memory.0.to_string());
    match dialect {
        Dialect::V2 => vec![
            needed("memory.max", limit.clone().unwrap_or_else(|| "max".into())),
            // Without this the limit only begins to hurt when all swap is full.
            maybe(
                "memory.swap.max",
                if limit.is_some() { "0" } else { "max" }.into(),
            ),
            // Half of an instance is of no use: when one process is killed all are, and it is
            // started again.
            maybe("memory.oom.group", "1".into()),
        ],
        Dialect::V1 => {
            let limit = limit.unwrap_or_else(|| "-1".into());
            vec![
                needed("memory.limit_in_bytes", limit.clone()),
                // Memory and swap together; never below the limit of memory.
                maybe("memory.memsw.limit_in_bytes", limit),
            ]
        }
    }
}

fn cpu_limits(dialect: Dialect, resources: &Resources) -> Vec<Setting> {
    let quota = resources
        .cpu
        .map(|cores| ((cores * CPU_PERIOD_US as f64) as u64).max(CPU_QUOTA_MIN_US));
    match (dialect, quota) {
        (Dialect::V2, Some(quota)) => vec![needed("cpu.max", format!("{quota} {CPU_PERIOD_US}"))],
        (Dialect::V2, None) => vec![needed("cpu.max", format!("max {CPU_PERIOD_US}"))],
        (Dialect::V1, Some(quota)) => vec![
            needed("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            needed("cpu.cfs_quota_us", quota.to_string()),
        ],
        (Dialect::V1, None) => vec![maybe("cpu.cfs_quota_us", "-1".into())],
    }
}

impl Setting {
    /// Whether this is the limit of memory itself, and not one of those beside it.
    pub(super) fn limits_memory(&self) -> bool {
        matches!(self.file, "memory.max" | "memory.limit_in_bytes")
    }

    /// Whether this is the limit of processor time itself.
    pub(super) fn limits_cpu(&self) -> bool {
        matches!(self.file, "cpu.max" | "cpu.cfs_quota_us")
    }
}

/// The cores that the cgroups above `dir` have, the least of them; none where nothing limits them.
pub(super) fn cpu_of_above(dialect: Dialect, dir: &Path) -> Option<f64> {
    let limits = dir
        .ancestors()
        .skip(1)
        .filter_map(|dir| cores(dialect, dir));
    limits.reduce(f64::min)
}

fn cores(dialect: Dialect, dir: &Path) -> Option<f64> {
    let (quota, period) = match dialect {
        Dialect::V1 => (
            // -1 stands for no limit.
            u64::try_from(signed(&dir.join("cpu.cfs_quota_us"))?).ok()?,
            number(&dir.join("cpu.cfs_period_us"))?,
        ),
        Dialect::V2 => {
            let text = fs::read_to_string(dir.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
    };
    Some(quota as f64 / period.max(1) as f64)
}

fn needed(file: &'static str, value: String) -> Setting {
    Setting {
        file,
        value,
        optional: false,
    }
}

fn maybe(file: &'static str, value: String) -> Setting {
    Setting {
        file,
        value,
        optional: true,
    }
}

/// How often a process was killed for want of memory.
pub(super) fn oom_kills(dialect: Dialect, dir: &Path) -> Option<u64> {
    match dialect {
        Dialect::V2 => field(&dir.join("memory.events"), "oom_kill"),
        Dialect::V1 => field(&dir.join("memory.oom_control"), "oom_kill"),
    }
}

/// Processor time used, in nanoseconds.
pub(super) fn cpu_ns(dialect: Dialect, dir: &Path) -> Option<u64> {
    match dialect {
        Dialect::V2 => Some(field(&dir.join("cpu.stat"), "usage_usec")? * 1000),
        Dialect::V1 => number(&dir.join("cpuacct.usage")),
    }
}

/// How the limit of processor time has held its processes back.
pub(super) fn throttled(dialect: Dialect, dir: &Path) -> Option<Throttled> {
    parse_throttled(dialect, &fs::read_to_string(dir.join("cpu.stat")).ok()?)
}

/// `cpu.stat`. Of v2, the root and cgroups without the controller have only the first lines of it.
pub(super) fn parse_throttled(dialect: Dialect, text: &str) -> Option<Throttled> {
    Some(Throttled {
        periods: value(text, "nr_periods")?,
        throttled: value(text, "nr_throttled")?,
        waited_ns: match dialect {
            Dialect::V2 => value(text, "throttled_usec")?.saturating_mul(1000),
            Dialect::V1 => value(text, "throttled_time")?,
        },
    })
}

/// What went to disks and came from them.
pub(super) fn io(dir: &Path) -> Option<Io> {
    Some(parse_io(&fs::read_to_string(dir.join("io.stat")).ok()?))
}

/// `io.stat`: a line for each disk, none before the first byte.
pub(super) fn parse_io(text: &str) -> Io {
    let mut io = Io::default();
    for pair in text.split_ascii_whitespace() {
        match pair.split_once('=') {
            Some(("rbytes", bytes)) => io.read += bytes.parse().unwrap_or(0),
            Some(("wbytes", bytes)) => io.written += bytes.parse().unwrap_or(0),
            _ => {}
        }
    }
    io
}

/// Memory in use, in bytes, without file cache that was not used lately and can be dropped.
pub(super) fn memory(dialect: Dialect, dir: &Path) -> Option<u64> {
    let (total, inactive) = match dialect {
        Dialect::V2 => ("memory.current", "inactive_file"),
        Dialect::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
    };
    let total = number(&dir.join(total))?;
    let inactive = field(&dir.join("memory.stat"), inactive).unwrap_or(0);
    Some(total.saturating_sub(inactive))
}

/// How many processes and threads there are.
pub(super) fn pids(dir: &Path) -> Option<u32> {
    u32::try_from(number(&dir.join("pids.current"))?).ok()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn signed(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    value(&fs::read_to_string(path).ok()?, name)
}

fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}
