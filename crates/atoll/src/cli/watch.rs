//! `atoll up --watch`: a change in a service's folder deploys that service, and no other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atoll_base::ServiceName;
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::output::{BAD, GOOD, Output};
use crate::node::{Node, Order};

/// Editors write a file in several steps; a change counts when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(200);

/// Changes that may wait.
const QUEUE_LENGTH: usize = 1024;

/// Folders whose changes mean nothing: what builds and tools write.
const IGNORED: &[&str] = &["target", "node_modules", ".git", ".atoll", "__pycache__"];

/// Watches the folders of all services for as long as the node runs.
pub(super) fn spawn(node: &Arc<Node>, out: Output) -> anyhow::Result<()> {
    let folders = node.service_folders();
    let (changes, changed) = mpsc::channel(QUEUE_LENGTH);
    let by_folder = folders.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if matches!(event.kind, notify::EventKind::Access(_)) {
            return;
        }
        for service in event
            .paths
            .iter()
            .filter_map(|path| service_of(&by_folder, path))
        {
            // A full queue holds this service already, or the next event will bring it.
            let _ = changes.try_send(service);
        }
    })?;
    for folder in folders.values() {
        watcher.watch(folder, RecursiveMode::Recursive)?;
    }
    let node = Arc::clone(node);
    let tasks = node.tasks().clone();
    tasks.clone().spawn("watch", async move {
        let _watcher = watcher;
        tokio::select! {
            () = follow(&node, changed, &out) => {}
            () = tasks.stopping() => {}
        }
    });
    Ok(())
}

fn service_of(folders: &BTreeMap<ServiceName, PathBuf>, path: &Path) -> Option<ServiceName> {
    let (name, folder) = folders
        .iter()
        .find(|(_, folder)| path.starts_with(folder))?;
    let inside = path.strip_prefix(folder).ok()?;
    let ignored = inside
        .components()
        .any(|part| IGNORED.iter().any(|name| part.as_os_str() == *name));
    (!ignored).then(|| name.clone())
}

async fn follow(node: &Arc<Node>, mut changed: mpsc::Receiver<ServiceName>, out: &Output) {
    while let Some(first) = changed.recv().await {
        let mut services = std::collections::BTreeSet::from([first]);
        while let Ok(Some(next)) = tokio::time::timeout(QUIET, changed.recv()).await {
            services.insert(next);
        }
        for service in services {
            deploy(node, &service, out).await;
        }
    }
}

async fn deploy(node: &Arc<Node>, service: &ServiceName, out: &Output) {
    out.say(format!("{service} has changed; deploying"));
    let begun = node
        .order(service, Order::Deploy(None), &crate::who(), "watch")
        .await;
    let outcome = match begun {
        Ok((_, done)) => match done.await {
            Ok(Ok(deployment)) => Ok(deployment),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the node is stopping".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(deployment) => {
            let revision = deployment
                .revision
                .map(|r| r.to_string())
                .unwrap_or_default();
            out.say(format!("{GOOD}✓{GOOD:#} {service}: {revision} serves"));
        }
        Err(reason) => out.say(format!("{BAD}✗{BAD:#} {service}: {reason}")),
    }
}
