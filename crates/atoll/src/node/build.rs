//! Runs a service's build command.
//!
//! A build is the developer's own work: it has the developer's environment, caches and all, unlike
//! an instance, which has only what its manifest gives it.

use atoll_deploy::Source;
use atoll_supervisor::{Run, run_to_end};
use tokio_util::sync::CancellationToken;

/// Runs it to its end, marked as the node's own. The error completes the sentence "`cargo build` …". Dropping the future
/// ends the build.
pub async fn run(
    source: &Source,
    node_id: &str,
    mut on_line: impl FnMut(&str) + Send,
) -> Result<(), String> {
    // A variable that is not UTF-8 is left out; the supervisor takes texts.
    let inherited = std::env::vars_os();
    let inherited =
        inherited.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let mark = ("ATOLL_NODE".to_owned(), node_id.to_owned());
    let run = Run {
        command: source.build.clone(),
        dir: source.dir.clone(),
        env: inherited.chain([mark]).collect(),
        user: None,
    };
    let take = |_, line: &str, _| on_line(line);
    match run_to_end(run, take, &CancellationToken::new()).await {
        Ok(reason) if reason.is_orderly() => Ok(()),
        Ok(reason) => Err(reason.to_string()),
        Err(error) => Err(format!("cannot be run: {error}")),
    }
}
