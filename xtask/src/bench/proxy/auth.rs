//! A token (ES256, verified before, so cached) and a rate limit at Atoll; nginx does neither.

use std::fs;

use super::Bench;
use super::app::Setup;
use super::contest::{self, NO_WORSE_THAN_NGINX};
use super::load::Wrk;
use super::nginx::Nginx;
use super::token::Issuer;
use crate::app::App;

/// A million a second: the limit is kept, and never reached.
const ROUTE: &str = "auth = \"users\"\n\
    rate_limit = { requests = 1000000, per = \"1s\", by = \"claim:sub\" }\n";

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let app = App::new("bench-proxy")?;
    let issuer = Issuer::new()?;
    let keys = app.dir().join("keys.json");
    fs::write(&keys, issuer.jwks())?;
    let setup = Setup {
        tables: format!(
            "[auth.users]\nkind = \"jwt\"\njwks_file = \"{}\"\nissuer = \"bench\"\naudience = [\"bench\"]\n",
            keys.display()
        ),
        route: ROUTE,
        ..Setup::default()
    };
    let stand = setup.up_in(app, bench)?;
    let peers = [stand.atoll()?, Nginx::default().start(&stand)?];
    let wrk = Wrk {
        header: Some(format!("Authorization: Bearer {}", issuer.token()?)),
        ..Wrk::default()
    };
    let refused = Wrk::default().run(&peers[0].address, 1);
    anyhow::ensure!(refused.is_err(), "Atoll lets in who has no token");
    let title = "Auth: the same, with a JWT (ES256) and a rate limit at Atoll; nginx bare";
    let load = |address: &str, seconds| wrk.run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)
}
