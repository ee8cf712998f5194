//! `atoll down`

use std::path::Path;
use std::time::Duration;

use atoll_base::clock;
use atoll_store::StateDir;
use serde::Serialize;

use super::output::{GOOD, Output};
use super::{Client, Failure};
use crate::node::{NodeView, STATE_FOLDER};

/// How often it is asked whether the node has gone.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// Longer than any node takes: it kills what does not leave.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// What `--json` prints.
#[derive(Serialize)]
struct Stopped<'a> {
    application: &'a str,
    dir: &'a str,
    /// The node's process, which has ended.
    pid: u32,
}

pub(super) async fn run(client: &Client, out: &Output) -> Result<(), Failure> {
    let node: NodeView = client.get("/v1/node").await?;
    client.command("/v1/node/stop").await?;
    let begun = clock::monotonic();
    // The lock, not the process: the kernel drops it the moment the process ends, even if nobody
    // takes notice of its death for a while.
    let state = Path::new(&node.dir).join(STATE_FOLDER);
    while StateDir::is_held(&state) {
        if begun.elapsed() > GONE_WITHIN {
            return Err(anyhow::anyhow!("process {} does not end", node.pid).into());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    if out.json {
        out.json(&Stopped {
            application: &node.application,
            dir: &node.dir,
            pid: node.pid,
        });
    }
    out.say(format!("{GOOD}✓{GOOD:#} {} is down", node.application));
    Ok(())
}
