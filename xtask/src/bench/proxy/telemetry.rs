//! What it costs that each passage of a request becomes a span: Atoll against itself, without spans.

use super::Bench;
use super::app::Setup;
use super::contest::{self, Goal};
use super::load::Wrk;
use super::nginx::Nginx;

/// Times the rounds of other scenarios: a few percent are looked for, less than one round differs from the next.
const ROUNDS: usize = 3;

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let bench = &Bench {
        rounds: ROUNDS * bench.rounds,
        ..bench.clone()
    };
    let on = Setup::default().up(bench)?;
    let off = Setup {
        telemetry: "hops = \"failed\"",
        ..Setup::default()
    };
    let off = off.up(bench)?;
    let peers = [
        on.atoll_as("Atoll")?,
        off.atoll_as("Atoll without spans")?,
        Nginx::default().start(&on)?,
    ];
    let goals = [Goal {
        peer: 1,
        at_most: 1.08,
    }];
    let title = "Telemetry: 64 kept connections, 120 bytes of JSON";
    let load = |address: &str, seconds| Wrk::default().run(address, seconds);
    contest::run(bench, title, &peers, &goals, &load)
}
