//! Measures the log: `cargo run --release -p atoll-store --features test-util --example log [dir]`.
//!
//! Next to a lone append stands a bare `fdatasync` of an append of the same size, on the same disk
//! and in turns with it: disks of virtual machines change their mind from second to second.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use atoll_base::clock::monotonic;
use atoll_store::log::{Durability, Log, Partition, PartitionConfig, Pending, RealDisk, batch};
use bytes::Bytes;

/// How long each load lasts.
const LASTING: Duration = Duration::from_secs(4);
const LONE: usize = 3_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let own = std::env::args().nth(1);
    let dir = match own {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    runtime
        .block_on(runtime.spawn(all(dir.path().to_owned())))
        .context("the measuring ended")?
}

async fn all(dir: std::path::PathBuf) -> anyhow::Result<()> {
    let home = dir.join("log");
    std::fs::create_dir(&home)?;
    let (log, _) = Log::open(&home, Arc::new(RealDisk))?;
    lone(&log, &dir).await?;
    for partitions in [1, 8] {
        for (records, in_flight) in [(1_000, 64), (1, 1_000)] {
            load(&log, partitions, records, in_flight).await?;
        }
    }
    log.close();
    Ok(())
}

/// One append at a time.
async fn lone(log: &Log, dir: &Path) -> anyhow::Result<()> {
    let own = log.partition("lone", PartitionConfig::default())?;
    let batch = Bytes::from(batch::sample(1, &[7; 110], 0));
    let mut bare = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("bare"))?;
    let (mut appends, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..LONE {
        let begin = monotonic();
        own.append(batch.clone(), Durability::Synced)?
            .acknowledged()
            .await?;
        appends.push(begin.elapsed_here());
        let begin = monotonic();
        bare.write_all(&batch)?;
        bare.sync_data()?;
        syncs.push(begin.elapsed_here());
    }
    tell("a lone append", &mut appends);
    tell("a bare append with fdatasync", &mut syncs);
    Ok(())
}

/// As much as goes, with so many appends under way.
async fn load(log: &Log, partitions: usize, records: i32, in_flight: usize) -> anyhow::Result<()> {
    let own: Vec<Partition> = (0..partitions)
        .map(|number| {
            let name = format!("load-{partitions}-{records}-{number}");
            log.partition(&name, PartitionConfig::default())
        })
        .collect::<Result<_, _>>()?;
    let payload = vec![7; 100 * usize::try_from(records)?];
    let batch = Bytes::from(batch::sample(records, &payload, 0));
    let mut waiting: VecDeque<Pending> = VecDeque::new();
    let begin = monotonic();
    let mut acknowledged = 0_u64;
    for number in 0_usize.. {
        if begin.elapsed_here() >= LASTING {
            break;
        }
        if waiting.len() >= in_flight
            && let Some(pending) = waiting.pop_front()
        {
            pending.acknowledged().await?;
            acknowledged += 1;
        }
        let to = own.get(number % partitions).context("there is one")?;
        waiting.push_back(to.append(batch.clone(), Durability::Synced)?);
    }
    let seconds = begin.elapsed_here().as_secs_f64();
    for pending in waiting {
        pending.acknowledged().await?;
    }
    let rate = acknowledged as f64 * f64::from(records) / seconds;
    let mib = acknowledged as f64 * batch.len() as f64 / seconds / f64::from(1 << 20);
    println!(
        "{partitions} partitions, {records} records of 100 bytes a batch, {in_flight} in flight: \
         {rate:.0} records/s, {mib:.0} MiB/s"
    );
    for partition in &own {
        log.remove(partition.name())?;
    }
    Ok(())
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len() * share / 1_000)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{what}: p50 {:?}, p90 {:?}, p99 {:?}",
        at(500),
        at(900),
        at(990)
    );
}

/// Time since, by the clock that the rest of the project reads.
trait ElapsedHere {
    fn elapsed_here(&self) -> Duration;
}

impl ElapsedHere for Instant {
    fn elapsed_here(&self) -> Duration {
        monotonic().saturating_duration_since(*self)
    }
}
