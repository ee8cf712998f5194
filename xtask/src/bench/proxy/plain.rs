//! Small answers over kept connections: the cost of a request and nothing else.

use super::Bench;
use super::app::Setup;
use super::contest::{self, Goal};
use super::haproxy::{Haproxy, splice};
use super::load::Wrk;
use super::nginx::Nginx;

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let stand = Setup::default().up(bench)?;
    let peers = [
        stand.atoll()?,
        Nginx::default().start(&stand)?,
        Haproxy::default().start(&stand)?,
        splice(&stand)?,
    ];
    let goals = [
        Goal {
            peer: 1,
            at_most: 0.90,
        },
        Goal {
            peer: 3,
            at_most: 1.20,
        },
    ];
    let title = "Plain: 64 kept connections, 120 bytes of JSON";
    let load = |address: &str, seconds| Wrk::default().run(address, seconds);
    contest::run(bench, title, &peers, &goals, &load)
}
