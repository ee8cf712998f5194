//! A page that is kept: what giving it again costs.

use super::Bench;
use super::app::Setup;
use super::contest::{self, Goal};
use super::load::Wrk;
use super::nginx::Nginx;

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup {
        route: "cache = { ttl = \"1h\" }\n",
        ..Setup::default()
    };
    let stand = setup.up(bench)?;
    let kept = stand.home("nginx-cache")?;
    let nginx = Nginx {
        http: format!(
            "proxy_cache_path {} levels=1:2 keys_zone=kept:10m use_temp_path=off;",
            kept.display()
        ),
        location: "proxy_cache kept; proxy_cache_valid 200 1h; proxy_cache_lock on;".to_owned(),
        ..Nginx::default()
    };
    let peers = [stand.atoll()?, nginx.start(&stand)?];
    let goals = [Goal {
        peer: 1,
        at_most: 0.80,
    }];
    let title = "Cache: a hit of 120 bytes; nginx with proxy_cache";
    let load = |address: &str, seconds| Wrk::default().run(address, seconds);
    contest::run(bench, title, &peers, &goals, &load)
}
