//! `atoll up --watch`: a change in a service's folder deploys that service, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
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
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if !matches!(event.kind, notify::EventKind::Access(_)) {
            for path in event.paths {
                // A full queue has changes of every service that is being worked on.
                let _ = changes.try_send(path);
            }
        }
    })?;
    for folder in folders.values() {
        add(&mut watcher, folder)?;
    }
    let tasks = node.tasks().clone();
    let watch = Watch {
        node: Arc::clone(node),
        folders,
        watcher,
        out,
    };
    tasks.clone().spawn("watch", async move {
        tokio::select! {
            () = watch.follow(changed) => {}
            () = tasks.stopping() => {}
        }
    });
    Ok(())
}

/// What the task has.
struct Watch {
    node: Arc<Node>,
    folders: BTreeMap<ServiceName, PathBuf>,
    watcher: notify::RecommendedWatcher,
    out: Output,
}

impl Watch {
    async fn follow(mut self, mut changed: mpsc::Receiver<PathBuf>) {
        while let Some(first) = changed.recv().await {
            let mut services = BTreeSet::from_iter(self.service_of(&first));
            while let Ok(Some(next)) = tokio::time::timeout(QUIET, changed.recv()).await {
                services.extend(self.service_of(&next));
            }
            for service in services {
                // What a build writes into the folder is no change: it was there when the last
                // revision was made.
                if self.node.has_changed(&service).await {
                    deploy(&self.node, &service, &self.out).await;
                }
            }
        }
    }

    /// The service that a path is part of; a new folder is watched from now on.
    fn service_of(&mut self, path: &Path) -> Option<ServiceName> {
        let (name, folder) = self
            .folders
            .iter()
            .find(|(_, folder)| path.starts_with(folder))?;
        let inside = path.strip_prefix(folder).ok()?;
        if inside.components().any(|part| is_ignored(part.as_os_str())) {
            return None;
        }
        let name = name.clone();
        // What cannot be watched is told by the next start.
        let _ = add(&mut self.watcher, path);
        Some(name)
    }
}

/// Watches a folder and those within, one by one: a recursive watch would take thousands of the
/// kernel's for what tools have installed and built.
fn add(watcher: &mut notify::RecommendedWatcher, path: &Path) -> notify::Result<()> {
    if !path.is_dir() || path.is_symlink() {
        return Ok(());
    }
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    for entry in std::fs::read_dir(path)?.flatten() {
        if !is_ignored(&entry.file_name()) {
            add(watcher, &entry.path())?;
        }
    }
    Ok(())
}

fn is_ignored(name: &OsStr) -> bool {
    IGNORED.iter().any(|ignored| name == *ignored)
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
