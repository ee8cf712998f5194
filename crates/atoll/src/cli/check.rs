//! `atoll check` and `atoll schema`

use std::path::Path;

use atoll_broker::config::Durability;

use super::output::{GOOD, Output, WARN};
use super::{Client, Failure, SchemaFile};
use crate::manifest::{self, Application};

pub(super) fn run(dir: &Path, out: &Output) -> Result<(), Failure> {
    let application = manifest::load(dir).map_err(Failure::Manifest)?;
    // The ports of a node that runs here are taken by itself.
    let report = manifest::preflight(&application, !answers(dir));
    if !report.is_empty() {
        return Err(Failure::Manifest(report));
    }
    let warnings = warnings(&application);
    if out.json {
        out.json_line(&serde_json::json!({ "mistakes": [], "warnings": warnings }));
        return Ok(());
    }
    for warning in &warnings {
        out.say(format!("{WARN}warning:{WARN:#} {warning}"));
    }
    let services = application.services.len();
    let routes: usize = application
        .services
        .values()
        .map(|s| s.file.route.len())
        .sum();
    let needs: usize = application
        .services
        .values()
        .map(|s| s.file.needs.len())
        .sum();
    let name = &application.file.name;
    out.say(format!(
        "{GOOD}✓{GOOD:#} {name}: {services} services, {routes} routes, {needs} dependencies; no mistakes"
    ));
    Ok(())
}

/// What is allowed, and somebody should know of.
fn warnings(application: &Application) -> Vec<String> {
    let topics = application.file.topics.iter();
    let in_memory = topics.filter(|(_, own)| own.durability == Durability::Memory);
    in_memory
        .map(|(name, _)| {
            format!("records of the topic {name} are acknowledged before they are on disk (`durability = \"memory\"`): a power failure loses the last ones")
        })
        .collect()
}

/// Whether a node runs here.
fn answers(dir: &Path) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.is_ok_and(|runtime| runtime.block_on(Client::new(dir).is_running()))
}

pub(super) fn schema(file: SchemaFile, out: &Output) -> Result<(), Failure> {
    out.json(&match file {
        SchemaFile::Service => manifest::service_schema(),
        SchemaFile::Application => manifest::application_schema(),
    });
    Ok(())
}
