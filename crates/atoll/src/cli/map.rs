//! `atoll map`: who calls whom.

use super::output::{BAD, Output, inert, micros, table};
use super::{Client, Failure, moment};
use crate::admin::client::escape;
use crate::admin::derived::MapView;

pub(super) async fn run(client: &Client, since: &str, out: &Output) -> Result<(), Failure> {
    let since = moment(since)?.to_string();
    let mut map: MapView = client
        .get(&format!("/v1/map?since={}", escape(&since)))
        .await?;
    if out.json {
        out.json(&map);
        return Ok(());
    }
    if map.edges.is_empty() {
        out.say("nobody has called anybody in this time");
        return Ok(());
    }
    // From outside to inside: the edge first, then each caller with those that it calls most.
    map.edges.sort_by(|a, b| {
        let outer = |name: &str| name != "edge";
        (outer(&a.from), &a.from)
            .cmp(&(outer(&b.from), &b.from))
            .then(b.calls.rate.total_cmp(&a.calls.rate))
    });
    let head = [
        "FROM", "TO", "KIND", "CALLS/S", "ERR/S", "P50", "P95", "P99",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut before = "";
    for edge in &map.edges {
        let from = if edge.from == before { "" } else { &edge.from };
        before = &edge.from;
        let errors = match edge.calls.error_rate {
            0.0 => "0".to_owned(),
            rate => format!("{BAD}{rate:.2}{BAD:#}"),
        };
        rows.push(vec![
            inert(from).into_owned(),
            format!("→ {}", inert(&edge.to)),
            edge.kind.clone(),
            format!("{:.2}", edge.calls.rate),
            errors,
            micros(edge.calls.p50_us),
            micros(edge.calls.p95_us),
            micros(edge.calls.p99_us),
        ]);
    }
    out.data(table(&rows));
    Ok(())
}
