//! What an instance is given: its environment, its folders, its limits.
//!
//! The names are those of the 12-factor app and of OpenTelemetry; no SDK reads them. Everything a
//! service may know of the platform is in this one list.

use std::path::{Path, PathBuf};

use atoll_base::{InstanceId, ServiceName};
use atoll_deploy::Revision;
use atoll_supervisor::{InstanceSpec, Sandbox};

use crate::manifest::ServiceFile;

/// The folders of a node, and where things of a service are in them.
#[derive(Debug, Clone)]
pub struct Folders {
    /// `.atoll`, absolute.
    pub state: PathBuf,
}

impl Folders {
    /// Where the artifacts are.
    pub fn artifacts(&self) -> PathBuf {
        self.state.join("artifacts")
    }

    /// The service's own writable folder; all its instances share it.
    pub fn data(&self, service: &ServiceName) -> PathBuf {
        self.state.join("data").join(service.as_str())
    }

    /// The files of a revision.
    pub fn artifact(&self, revision: &Revision) -> PathBuf {
        self.artifacts().join(revision.digest.as_str())
    }
}

/// The address of one dependency, as seen by the caller.
pub struct DependencyUrl {
    pub callee: ServiceName,
    pub url: String,
}

/// How to run an instance of `revision`. `resources`: the variables of its database and its topics.
pub fn instance_spec(
    folders: &Folders,
    id: &InstanceId,
    revision: &Revision,
    file: &ServiceFile,
    dependencies: &[DependencyUrl],
    application: &str,
    resources: Vec<(String, String)>,
) -> InstanceSpec {
    let dir = folders.artifact(revision);
    let data = folders.data(id.service());
    let mut env = own_variables(id, revision, application, &data);
    for DependencyUrl { callee, url } in dependencies {
        env.push((format!("{}_URL", callee.env_prefix()), url.clone()));
    }
    env.extend(resources);
    env.extend(file.env.clone());
    InstanceSpec {
        id: id.clone(),
        command: file.run.clone(),
        dir: dir.clone(),
        env,
        health: file.health.clone(),
        resources: file.resources,
        stop_timeout: file.stop_timeout.0,
        sandbox: Some(Sandbox {
            hide: folders.state.clone(),
            keep_writable: vec![data],
            keep_readonly: vec![dir],
        }),
        user: None,
        port: None,
        restart: true,
    }
}

/// Where the database of a service is, if it is a file.
pub fn sqlite_file(data: &Path) -> PathBuf {
    data.join("db.sqlite3")
}

/// A SQLite address: four slashes, which SQLAlchemy needs for an absolute path and others accept.
pub fn sqlite_url(data: &Path) -> String {
    format!("sqlite:///{}", sqlite_file(data).display())
}

fn own_variables(
    id: &InstanceId,
    revision: &Revision,
    application: &str,
    data: &Path,
) -> Vec<(String, String)> {
    let service = id.service();
    let attributes = format!(
        "service.instance.id={id},service.version={},service.namespace={application}",
        revision.number
    );
    [
        ("ATOLL_SERVICE", service.to_string()),
        ("ATOLL_REVISION", revision.number.0.to_string()),
        ("DATA_DIR", data.display().to_string()),
        ("OTEL_SERVICE_NAME", service.to_string()),
        ("OTEL_RESOURCE_ATTRIBUTES", attributes),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_url_has_four_slashes_before_an_absolute_path() {
        assert_eq!(sqlite_url(Path::new("/a/b")), "sqlite:////a/b/db.sqlite3");
    }
}
