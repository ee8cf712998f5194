//! Topics beside NATS JetStream and Redis streams: published, read, one record, memory.
//!
//! All three run for the whole time on one disk and are loaded in turn; the ratio of medians counts.
//! Atoll is the whole node as `atoll up` runs it, and acknowledges after `fdatasync`. JetStream has file
//! storage and syncs every two minutes (its default), Redis every second. The clients are `load`
//! (compat/rust/load) and `redis-benchmark`.

mod servers;

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use self::servers::Server;
use super::median;
use crate::app::App;
use crate::run::{atoll, output, root, run as run_command};
use crate::{compat, install};

const PARTITIONS: &str = "4";
/// Records of one turn.
const ATOLL_RECORDS: &str = "2000000";
const PEER_RECORDS: &str = "500000";
/// Records that are sent one after the other in one turn.
const ALONE: &str = "500";
const IDLE_TOPICS: &str = "1000";

/// What the turns gave: rates in records a second, times in microseconds.
#[derive(Default)]
struct Figures {
    produced: Vec<f64>,
    consumed: Vec<f64>,
    one: Vec<f64>,
}

struct Bench {
    load: std::path::PathBuf,
    atoll: String,
    nats: Server,
    redis: Server,
}

pub(super) fn run() -> anyhow::Result<()> {
    install::for_event_benches()?;
    let rounds = std::env::var("BENCH_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|text| text.parse().ok()).unwrap_or(5);
    let (atoll, load) = (atoll(true)?, compat::built("load")?);
    let (app, address) = start(&atoll)?;
    let bench = Bench {
        load,
        atoll: address,
        nats: Server::nats(app.dir())?,
        redis: Server::redis(app.dir())?,
    };
    let [mut own, mut nats, mut redis] = [(); 3].map(|()| Figures::default());
    let mut bare = Vec::new();
    for round in 0..rounds {
        let name = format!("round-{round}");
        bench.of_atoll(&name, &mut own)?;
        bare.push(bench.alone(&name, app.dir(), &mut own)?);
        bench.of_nats(&name, &mut nats)?;
        bench.of_redis(&name, &mut redis)?;
    }
    drop(bench);
    drop(app);
    print(rounds, [&own, &nats, &redis]);
    print_goals(&own, &nats, &bare);
    memory(&atoll)
}

/// A node on ports of its own, and where its broker is.
fn start(atoll: &Path) -> anyhow::Result<(App, String)> {
    let app = App::new("bench-events")?;
    let application = root().join("compat/application/.");
    let mut copy = Command::new("cp");
    run_command(copy.arg("--recursive").arg(application).arg(app.dir()))?;
    let address = servers::free_address()?;
    let manifest = app.dir().join("atoll.toml");
    let text = std::fs::read_to_string(&manifest)?;
    std::fs::write(
        &manifest,
        format!("{text}\n[events]\nlisten = \"{address}\"\n"),
    )?;
    app.up(atoll)?;
    Ok((app, address))
}

impl Bench {
    fn of_atoll(&self, name: &str, figures: &mut Figures) -> anyhow::Result<()> {
        let place = [&self.atoll, name, PARTITIONS, ATOLL_RECORDS];
        let produced = self.load(&[&["produce"], &place[..]].concat())?;
        let consumed = self.load(&[&["consume"], &place[..]].concat())?;
        figures.produced.push(produced);
        figures.consumed.push(consumed);
        Ok(())
    }

    /// One record after the other; what the disk alone took between them.
    fn alone(&self, name: &str, folder: &Path, figures: &mut Figures) -> anyhow::Result<f64> {
        // What was written before is not waited for with each of them.
        output(&mut Command::new("sync"))?;
        let (topic, folder) = (format!("{name}-one"), folder.to_string_lossy());
        let mut one = Command::new(&self.load);
        let told = output(one.args(["one", &self.atoll, &topic, &folder, ALONE]))?;
        let (one, bare) = told.trim().split_once('\n').context("what load printed")?;
        figures.one.push(one.parse()?);
        Ok(bare.parse()?)
    }

    fn of_nats(&self, name: &str, figures: &mut Figures) -> anyhow::Result<()> {
        let address = &*self.nats.address;
        let produced = self.load(&["nats-produce", address, name, PEER_RECORDS])?;
        let consumed = self.load(&["nats-consume", address, name, PEER_RECORDS])?;
        figures.produced.push(produced);
        figures.consumed.push(consumed);
        figures
            .one
            .push(self.load(&["nats-one", address, &format!("{name}-one"), ALONE])?);
        Ok(())
    }

    fn of_redis(&self, name: &str, figures: &mut Figures) -> anyhow::Result<()> {
        let value = "x".repeat(100);
        let add = ["XADD", name, "*", "v", &value];
        let (rate, _) = self.redis(&["-n", PEER_RECORDS, "-c", "4", "-P", "64"], &add)?;
        figures.produced.push(rate);
        let read = ["XREAD", "COUNT", "1000", "STREAMS", name, "0"];
        let (rate, _) = self.redis(&["-n", "1000", "-c", "2"], &read)?;
        figures.consumed.push(rate * 1000.0);
        let (_, one) = self.redis(&["-n", ALONE, "-c", "1"], &add)?;
        figures.one.push(one);
        Ok(())
    }

    fn load(&self, arguments: &[&str]) -> anyhow::Result<f64> {
        let told = output(Command::new(&self.load).args(arguments))?;
        told.trim().parse().context("what load printed")
    }

    /// Requests a second, and the median microseconds of one.
    fn redis(&self, options: &[&str], command: &[&str]) -> anyhow::Result<(f64, f64)> {
        let (host, port) = self.redis.address.split_once(':').context("an address")?;
        let mut benchmark = Command::new("redis-benchmark");
        benchmark.args(["-h", host, "-p", port, "--csv"]);
        let told = output(benchmark.args(options).args(command))?;
        let line = told.lines().last().unwrap_or_default();
        // Name, requests a second, then milliseconds: mean, least, median, …, each in quotes.
        let mut fields = line.split('"').skip(1).step_by(2);
        let rate = fields.nth(1).context("redis-benchmark told no rate")?;
        let median = fields.nth(2).context("redis-benchmark told no median")?;
        Ok((rate.parse()?, median.parse::<f64>()? * 1000.0))
    }
}

fn print(rounds: usize, all: [&Figures; 3]) {
    println!(
        "\n### Topics: records of 100 bytes (medians of {rounds})\n\n\
         | | published, /s | min–max | read, /s | min–max | one, nothing in flight, p50 µs |\n\
         |---|---|---|---|---|---|"
    );
    let names = [
        "Atoll (librdkafka; fdatasync before each acknowledgement)",
        "NATS JetStream (file storage; asynchronous, pull)",
        "Redis streams (everysec; XADD pipelined, XREAD of 1,000)",
    ];
    let span = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        format!("{:.0} | {least:.0}–{most:.0}", median(values))
    };
    for (name, own) in names.iter().zip(all) {
        let (produced, consumed) = (span(&own.produced), span(&own.consumed));
        println!(
            "| {name} | {produced} | {consumed} | {:.0} |",
            median(&own.one)
        );
    }
}

fn print_goals(own: &Figures, nats: &Figures, bare: &[f64]) {
    let verdict = |met: bool| if met { "met" } else { "**missed**" };
    let published = median(&own.produced) / median(&nats.produced);
    let read = median(&own.consumed) / median(&nats.consumed);
    // Each turn against the disk of its own moment.
    let added: Vec<f64> = own
        .one
        .iter()
        .zip(bare)
        .map(|(one, bare)| one - bare)
        .collect();
    let (bare, added) = (median(bare), median(&added));
    println!(
        "\n- Published, over JetStream: {published:.2}, goal at least 3: {}\n\
         - Read, over JetStream: {read:.2}, goal at least 2: {}\n\
         - One record: {added:.0} µs above an append and fdatasync of the same disk ({bare:.0} µs), \
         goal at most 150: {}",
        verdict(published >= 3.0),
        verdict(read >= 2.0),
        verdict(added <= 150.0),
    );
}

/// The node with many topics that nobody uses, as they were made and after a restart.
fn memory(atoll: &Path) -> anyhow::Result<()> {
    let (app, address) = start(atoll)?;
    let load = compat::built("load")?;
    let nothing = resident(&app)?;
    run_command(Command::new(load).args(["topics", &address, IDLE_TOPICS, PARTITIONS]))?;
    let made = resident(&app)?;
    app.down()?;
    app.up(atoll)?;
    let again = resident(&app)?;
    println!(
        "\n| the node, idle, with {IDLE_TOPICS} topics of {PARTITIONS} partitions | VmRSS, MiB |"
    );
    println!("|---|---|\n| without topics | {nothing:.1} |\n| when they were made | {made:.1} |");
    println!("| after a restart | {again:.1} |");
    let verdict = if again <= 60.0 && made <= 60.0 {
        "met"
    } else {
        "**missed**"
    };
    println!("\n- Goal at most 60 MiB: {verdict}");
    Ok(())
}

/// In MiB.
fn resident(app: &App) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}
