//! Manifests: reading `atoll.toml` and every `service.toml`, and telling all that is wrong at once.
//!
//! Three passes, each over all files, so that a person mends everything in one round:
//! 1. [`structure`] holds each file against its JSON Schema (the same that editors get from
//!    `atoll schema`): unknown keys, wrong types, quantities without a unit;
//! 2. serde turns what is sound into types;
//! 3. [`check`] looks at what only the whole shows: names that do not exist, cycles, ambiguous
//!    routes.
//!
//! Every finding points at its place in the file and says what to do.

mod check;
mod finding;
mod load;
mod preflight;
mod schema;
mod structure;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use atoll_base::{HumanDuration, ServiceName};
use atoll_broker::config::{EventsConfig, TopicConfig};
use atoll_console::ConsoleConfig;
use atoll_deploy::{DeployConfig, ScaleConfig};
use atoll_events::{OutboxConfig, PublishConfig, SubscribeConfig};
use atoll_proxy::auth::AuthConfig;
use atoll_proxy::config::{EdgeConfig, MeshConfig, RouteConfig};
use atoll_proxy::rate::RateLimitConfig;
use atoll_proxy::resilience::{DependencyConfig, ResilienceConfig};
use atoll_proxy::{DenyConfig, Protocol};
use atoll_supervisor::{Health, Resources};
use atoll_telemetry::TelemetryConfig;
use atoll_telemetry::objective::{AlertsConfig, ObjectiveConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::auth::service_of;
pub use check::schemas;
pub use finding::{Mistake, Report};
pub use load::{load, load_with, parse_stored, reload};
pub use preflight::preflight;
pub use schema::{application_schema, service_schema};
pub use structure::nearest;

/// The file that makes a folder an application.
pub const APPLICATION_FILE: &str = "atoll.toml";

/// The file that makes a folder a service.
pub const SERVICE_FILE: &str = "service.toml";

/// `atoll.toml`: what the services of an application have in common.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "atoll.toml")]
pub struct ApplicationFile {
    /// The application's name.
    pub name: ServiceName,
    /// Folders of services, relative to this file; `*` stands for any name, as in "services/*".
    #[schemars(length(min = 1))]
    pub members: Vec<String>,
    /// The public gateway.
    #[serde(default)]
    pub edge: EdgeConfig,
    /// How it is found out who asks, by the NAME that routes use: `[auth.customers]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auth: BTreeMap<String, AuthConfig>,
    /// Calls between services.
    #[serde(default)]
    pub mesh: MeshConfig,
    /// How much of what happened, logs and spans, is kept.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Who is told when a service fails its users: see `[objective]` of service.toml.
    #[serde(default)]
    pub alerts: AlertsConfig,
    /// Where browsers see what happens.
    #[serde(default)]
    pub console: ConsoleConfig,
    /// Topics, and where clients of Kafka connect. Without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsConfig>,
    /// How topics are kept, by name: `[topics."orders.placed"]`. Those that services declare and that
    /// are not listed have the defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, TopicConfig>,
    /// A PostgreSQL server to use for `[database] kind = "postgres"`. Default: Atoll runs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<ServerConfig>,
    /// A Redis server to use for `[database] kind = "redis"`. Default: Atoll runs one for each
    /// service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<ServerConfig>,
}

/// A database server that somebody else runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its address, with a user that may create users and databases:
    /// "postgres://admin:secret@db.example.com/postgres" or "redis://:secret@cache.example.com".
    pub url: String,
}

/// `service.toml`: all that a service's team writes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "service.toml")]
pub struct ServiceFile {
    /// The service's name: lowercase letters, digits and hyphens.
    pub name: ServiceName,
    /// The team that answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What it is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The program and its arguments. It must listen on `$HOST:$PORT`.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// A command that is run in the service's folder before a revision is made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Which files of the folder a revision is made of, as patterns such as "dist/**". Default:
    /// all, but `target`, `.git` and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifact: Vec<String>,
    /// Services that it calls. Each becomes an address in its environment: "catalog" becomes
    /// `CATALOG_URL`. What is not listed has no address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<ServiceName>,
    /// Services that must be ready before it is started. Default: none; all start at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wait_for: Vec<ServiceName>,
    /// How long it may take to leave after SIGTERM before it is killed. Default 10s.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout: HumanDuration,
    /// How long it may take until the head of an answer. Default 30s.
    #[serde(default = "default_request_timeout")]
    pub request_timeout: HumanDuration,
    /// What its instances speak: "http1", "h2c" (HTTP/2) or "grpc". Default "http1".
    #[serde(default)]
    pub protocol: Protocol,
    /// Environment variables of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How it is known that an instance can serve.
    #[serde(default)]
    pub health: Health,
    /// What one instance may use.
    #[serde(default)]
    pub resources: Resources,
    /// How many instances run.
    #[serde(default)]
    pub scale: ScaleConfig,
    /// How a new revision takes over.
    #[serde(default)]
    pub deploy: DeployConfig,
    /// What its users may expect. When too little of that is left, somebody is told: `[alerts]` of atoll.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveConfig>,
    /// A database of its own; its address is `DATABASE_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseConfig>,
    /// What it publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishConfig>,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<SubscribeConfig>,
    /// Rows of its own database that are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<OutboxConfig>,
    /// What the gateway exposes of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteConfig>,
    /// How it is called: deadlines, retries, breaker, ejection, limits. Nobody needs to set anything.
    #[serde(default)]
    pub resilience: ResilienceConfig,
    /// How it calls a service of `needs`, where that differs from what the other says of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, DependencyConfig>")]
    pub dependency: BTreeMap<ServiceName, DependencyConfig>,
    /// Calls of other services that it does not answer: 403.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<DenyConfig>,
    /// How many calls each other service may make. Beyond it, 429. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_rate_limit: Option<RateLimitConfig>,
}

/// `[database]` of `service.toml`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// What kind.
    pub kind: DatabaseKind,
}

/// The databases that Atoll gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A file in the service's data folder.
    Sqlite,
    /// A database and a role of its own on a PostgreSQL server.
    Postgres,
    /// A Redis server of its own, or a user of its own on a shared one.
    Redis,
}

/// A service as it was read.
#[derive(Debug, Clone)]
pub struct ServiceManifest {
    /// Its folder, absolute.
    pub dir: PathBuf,
    /// The text of its file.
    pub text: String,
    /// What the file says.
    pub file: ServiceFile,
    /// The files that it names.
    pub named: Named,
}

/// Files that a manifest names (schemas), by the path that it gives: the text, or why there is none.
/// They are read with the manifest and stay as they were then.
pub type Named = BTreeMap<String, Result<String, String>>;

/// An application as it was read; all names in it exist and fit together.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its folder, absolute.
    pub dir: PathBuf,
    /// The files that `atoll.toml` names.
    pub named: Named,
    /// What `atoll.toml` says.
    pub file: ApplicationFile,
    /// Its services, by name.
    pub services: BTreeMap<ServiceName, ServiceManifest>,
}

fn default_stop_timeout() -> HumanDuration {
    HumanDuration::secs(10)
}

fn default_request_timeout() -> HumanDuration {
    HumanDuration::secs(30)
}
