//! `atoll down`

use std::time::Duration;

use atoll_base::clock;

use super::output::{GOOD, Output};
use super::{Client, Failure};
use crate::node::NodeView;

/// How often it is asked whether the node has gone.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// Longer than any node takes: it kills what does not leave.
const GONE_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn run(client: &Client, out: &Output) -> Result<(), Failure> {
    let node: NodeView = client.get("/v1/node").await?;
    client.command("/v1/node/stop").await?;
    let begun = clock::monotonic();
    // The process, not the socket: it goes last.
    let process = std::path::PathBuf::from(format!("/proc/{}", node.pid));
    while process.exists() && client.is_running().await {
        if begun.elapsed() > GONE_WITHIN {
            return Err(anyhow::anyhow!("process {} does not end", node.pid).into());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    while process.exists() && begun.elapsed() < GONE_WITHIN {
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    out.say(format!("{GOOD}✓{GOOD:#} {} is down", node.application));
    Ok(())
}
