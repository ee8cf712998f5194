//! `atoll check` and `atoll schema`

use std::path::Path;

use super::output::{GOOD, Output};
use super::{Client, Failure, SchemaFile};
use crate::manifest;

pub(super) fn run(dir: &Path, out: &Output) -> Result<(), Failure> {
    let application = manifest::load(dir).map_err(Failure::Manifest)?;
    // The ports of a node that runs here are taken by itself.
    let report = manifest::preflight(&application, !answers(dir));
    if !report.is_empty() {
        return Err(Failure::Manifest(report));
    }
    if out.json {
        out.json_line(&serde_json::json!({ "mistakes": [] }));
        return Ok(());
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
