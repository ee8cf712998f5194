//! What a proxy adds to the time of a request, at a constant 2,000 a second.
//!
//! In each round the upstream is asked directly first; what counts is the difference to it. Directly,
//! no request changes the CPU. What that alone takes is shown by two rows without a goal: the load on
//! the proxies' CPU, which asks directly, and a splice.

use std::process::Command;

use anyhow::Context;

use super::Bench;
use super::app::Setup;
use super::contest::print_goal;
use super::haproxy::{Haproxy, splice};
use super::nginx::Nginx;
use super::peer::Peer;
use crate::bench::median;
use crate::run::output;

/// The name of asking directly, but from the CPU of the proxies.
const ACROSS: &str = "direct, from the other CPU";

/// Microseconds: half of all requests were as fast, and 99 of 100.
#[derive(Clone, Copy)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

/// What the rounds gave for one peer, and what of it came on top of asking directly.
#[derive(Default)]
struct Figures {
    p50: Vec<f64>,
    p99: Vec<f64>,
    added_p50: Vec<f64>,
    added_p99: Vec<f64>,
}

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let stand = Setup::default().up(bench)?;
    let direct = |name| Peer::new(name, stand.upstream().to_owned(), Vec::new(), None);
    let peers = [
        direct("direct"),
        stand.atoll()?,
        Nginx::default().start(&stand)?,
        Haproxy::default().start(&stand)?,
        splice(&stand)?,
        direct(ACROSS),
    ];
    for peer in &peers {
        measure(bench, peer, 1)?;
    }
    let mut figures: Vec<Figures> = peers.iter().map(|_| Figures::default()).collect();
    for _ in 0..bench.rounds {
        let direct = measure(bench, &peers[0], bench.seconds)?;
        figures[0].add(direct, direct);
        for (peer, figures) in peers.iter().zip(&mut figures).skip(1) {
            figures.add(measure(bench, peer, bench.seconds)?, direct);
        }
    }
    print(bench, &peers, &figures);
    Ok(())
}

impl Figures {
    fn add(&mut self, told: Percentiles, direct: Percentiles) {
        self.p50.push(told.p50);
        self.p99.push(told.p99);
        self.added_p50.push(told.p50 - direct.p50);
        self.added_p99.push(told.p99 - direct.p99);
    }
}

/// The load is a process of its own, to have a CPU.
fn measure(bench: &Bench, peer: &Peer, seconds: u32) -> anyhow::Result<Percentiles> {
    let cpu = if peer.name == ACROSS { "0" } else { "1" };
    let mut command = Command::new("taskset");
    command
        .args(["-c", cpu])
        .arg(&bench.xtask)
        .args(["pace", &peer.address, &seconds.to_string()]);
    let text = output(&mut command).context(peer.name)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let (Some(Ok(p50)), Some(Ok(p99))) = (numbers.next(), numbers.next()) else {
        anyhow::bail!("what the load printed: {text}");
    };
    Ok(Percentiles { p50, p99 })
}

fn print(bench: &Bench, peers: &[Peer], figures: &[Figures]) {
    println!(
        "\n### Latency at 2,000 requests/s over 64 connections (medians of {})\n\n\
         | proxy | p50, µs | p99, µs | added p50, µs | added p99, µs |\n|---|---|---|---|---|",
        bench.rounds
    );
    for (peer, figures) in peers.iter().zip(figures) {
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            peer.name,
            median(&figures.p50),
            median(&figures.p99),
            median(&figures.added_p50),
            median(&figures.added_p99)
        );
    }
    let (atoll, haproxy) = (&figures[1], &figures[3]);
    let (p50, p99) = (median(&atoll.added_p50), median(&atoll.added_p99));
    println!();
    print_goal("Added p50", p50, 60.0, " µs");
    print_goal("Added p99", p99, 300.0, " µs");
    let (p50_of, p99_of) = (median(&haproxy.added_p50), median(&haproxy.added_p99));
    print_goal("Added p50, against HAProxy's", p50, p50_of, " µs");
    print_goal("Added p99, against HAProxy's", p99, p99_of, " µs");
}
