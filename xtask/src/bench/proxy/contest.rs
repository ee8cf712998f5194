//! Peers in turn under the same load: processor time per request, ratios, goals.
//!
//! What counts is the ratio of medians: absolute figures wander with the machine.

use std::fmt;

use super::Bench;
use super::peer::Peer;
use crate::bench::median;

/// What Atoll must keep: its processor time per request, over that of a peer.
pub(super) struct Goal {
    /// The place of the peer among all; Atoll is 0.
    pub(super) peer: usize,
    pub(super) at_most: f64,
}

/// The goal of nearly all scenarios. nginx stands at 1.
pub(super) const NO_WORSE_THAN_NGINX: &[Goal] = &[Goal {
    peer: 1,
    at_most: 1.0,
}];

/// What the turns of one peer gave.
#[derive(Default)]
struct Figures {
    cpu: Vec<f64>,
    rate: Vec<f64>,
}

/// Loads the peers in turn, prints the table and whether the goals are met.
///
/// `load` gets an address and seconds, and tells how many requests were answered.
pub(super) fn run(
    bench: &Bench,
    title: &str,
    peers: &[Peer],
    goals: &[Goal],
    load: &dyn Fn(&str, u32) -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    for peer in peers {
        load(&peer.address, 1)?;
    }
    let mut figures: Vec<Figures> = peers.iter().map(|_| Figures::default()).collect();
    for _ in 0..bench.rounds {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            let before = peer.cpu_seconds()?;
            let requests = load(&peer.address, bench.seconds)?;
            let spent = peer.cpu_seconds()? - before;
            figures.cpu.push(spent * 1e6 / requests);
            figures.rate.push(requests / f64::from(bench.seconds));
        }
    }
    print(bench, title, peers, &figures);
    let cpu: Vec<f64> = figures.iter().map(|figures| median(&figures.cpu)).collect();
    println!();
    for goal in goals {
        let what = format!("CPU per request over that of {}", peers[goal.peer].name);
        print_goal(&what, cpu[0] / cpu[goal.peer], goal.at_most, "");
    }
    Ok(())
}

/// One goal and whether it is met.
pub(super) fn print_goal(what: &str, is: f64, at_most: f64, unit: &str) {
    let verdict = Verdict { is, at_most };
    println!("- {what}: {is:.2}{unit}, goal at most {at_most:.2}{unit}: {verdict}");
}

struct Verdict {
    is: f64,
    at_most: f64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is <= self.at_most {
            formatter.write_str("met")
        } else {
            write!(formatter, "**missed by {:.2}**", self.is - self.at_most)
        }
    }
}

fn print(bench: &Bench, title: &str, peers: &[Peer], figures: &[Figures]) {
    let reference = median(&figures[1].cpu);
    println!(
        "\n### {title}\n\n| proxy | CPU µs/request (median of {}) | min–max | ratio to {} | requests/s |",
        bench.rounds, peers[1].name
    );
    println!("|---|---|---|---|---|");
    for (peer, Figures { cpu, rate }) in peers.iter().zip(figures) {
        let least = cpu.iter().copied().fold(f64::INFINITY, f64::min);
        let most = cpu.iter().copied().fold(0.0, f64::max);
        let (cpu, rate) = (median(cpu), median(rate));
        println!(
            "| {} | {cpu:.2} | {least:.2}–{most:.2} | {:.2} | {rate:.0} |",
            peer.name,
            cpu / reference
        );
    }
}
