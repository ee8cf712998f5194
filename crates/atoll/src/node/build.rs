//! Runs a service's build command.
//!
//! A build is the developer's own work: it has the developer's environment, caches and all, unlike
//! an instance, which has only what its manifest gives it.

use atoll_deploy::Source;
use atoll_supervisor::{Run, run_to_end};
use tokio_util::sync::CancellationToken;

/// Runs it to its end. The error completes the sentence "`cargo build` …". Dropping the future
/// ends the build.
pub async fn run(source: &Source, mut on_line: impl FnMut(&str) + Send) -> Result<(), String> {
    let run = Run {
        command: source.build.clone(),
        dir: source.dir.clone(),
        env: std::env::vars().collect(),
        user: None,
    };
    let take = |_, line: &str, _| on_line(line);
    match run_to_end(run, take, &CancellationToken::new()).await {
        Ok(reason) if reason.is_orderly() => Ok(()),
        Ok(reason) => Err(reason.to_string()),
        Err(error) => Err(format!("cannot be run: {error}")),
    }
}
