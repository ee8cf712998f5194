//! The supervisor's part of `service.toml`: `[health]` and `[resources]`.
//!
//! A health section names exactly one check; the type [`Check`] makes two at once unsayable, and
//! the flat form that people write (`path`, `grpc`, `tcp` beside each other) exists only on the way
//! in and out. No section at all means: ready when the port accepts a connection.

use std::borrow::Cow;

use atoll_base::{ByteCount, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How it is known that an instance can serve, and still can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HealthTable", into = "HealthTable")]
pub struct Health {
    /// What is asked. Default: whether the port accepts a connection.
    pub check: Check,
    /// The pause between two checks of a ready instance. Default 5s. Until it is ready it is asked
    /// more often: after 5 ms at first, every 250 ms at the longest.
    pub interval: HumanDuration,
    /// How long one check may take. Default 2s.
    pub timeout: HumanDuration,
    /// How long an instance may take from its start until it is ready. Default 60s.
    pub start_timeout: HumanDuration,
    /// How many checks in a row must fail before a ready instance is restarted. Default 3.
    pub failures: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Check {
    /// Whether the port accepts a connection.
    #[default]
    Tcp,
    /// Whether `GET path` is answered with a status from 200 to 299.
    Http {
        /// The path with its leading slash, and a query if wanted.
        path: String,
    },
    /// Whether `grpc.health.v1.Health/Check` answers `SERVING`.
    Grpc {
        /// The gRPC service asked about; empty for the server as a whole.
        service: String,
    },
}

/// What one instance may use. Enforced with cgroups for all its processes together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Memory of all processes of an instance together, such as "256MiB". One that needs more is
    /// killed by the kernel and restarted. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteCount>,
    /// Processor time, in cores: 0.5 is half of one core. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01))]
    pub cpu: Option<f64>,
    /// How many processes and threads an instance may have at once. Default 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pids: Option<u32>,
}

/// Health checks: how Atoll knows that an instance can serve. Give one of `path`, `grpc` and `tcp`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Health")]
struct HealthTable {
    /// Ready when `GET` of this path is answered with a status from 200 to 299, such as
    /// "/healthz".
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Ready when the gRPC health service (grpc.health.v1) says SERVING for this service; "" asks
    /// for the server as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    /// Ready when the port accepts a connection. This is the default.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tcp: bool,
    /// The pause between two checks of a ready instance. Default "5s".
    interval: HumanDuration,
    /// How long one check may take. Default "2s".
    timeout: HumanDuration,
    /// How long an instance may take from its start until it is ready. Default "60s".
    start_timeout: HumanDuration,
    /// How many checks in a row must fail before a ready instance is restarted. Default 3.
    #[schemars(range(min = 1))]
    failures: u32,
}

impl Resources {
    /// The limit of processes and threads where none is given.
    pub const PIDS_DEFAULT: u32 = 1024;

    /// The limit of processes and threads that holds.
    pub fn pids_max(&self) -> u32 {
        self.pids.unwrap_or(Self::PIDS_DEFAULT)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory: None,
            cpu: None,
            pids: Some(Self::PIDS_DEFAULT),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::default(),
            interval: HumanDuration::secs(5),
            timeout: HumanDuration::secs(2),
            start_timeout: HumanDuration::secs(60),
            failures: 3,
        }
    }
}

impl Default for HealthTable {
    fn default() -> Self {
        let mut table = Self::from(Health::default());
        table.tcp = false;
        table
    }
}

impl TryFrom<HealthTable> for Health {
    type Error = &'static str;

    fn try_from(table: HealthTable) -> Result<Self, Self::Error> {
        let check = match (table.path, table.grpc, table.tcp) {
            (Some(path), None, false) if path.starts_with('/') && is_plain(&path) => {
                Check::Http { path }
            }
            (Some(_), None, false) => {
                return Err("health: path starts with '/' and has no spaces");
            }
            (None, Some(service), false) => Check::Grpc { service },
            (None, None, _) => Check::Tcp,
            _ => return Err("health: give only one of path, grpc and tcp"),
        };
        if table.failures == 0 {
            return Err("health: failures is at least 1");
        }
        if table.interval.0.is_zero() || table.timeout.0.is_zero() {
            return Err("health: interval and timeout are longer than 0s");
        }
        Ok(Self {
            check,
            interval: table.interval,
            timeout: table.timeout,
            start_timeout: table.start_timeout,
            failures: table.failures,
        })
    }
}

impl From<Health> for HealthTable {
    fn from(health: Health) -> Self {
        let (path, grpc, tcp) = match health.check {
            Check::Tcp => (None, None, true),
            Check::Http { path } => (Some(path), None, false),
            Check::Grpc { service } => (None, Some(service), false),
        };
        Self {
            path,
            grpc,
            tcp,
            interval: health.interval,
            timeout: health.timeout,
            start_timeout: health.start_timeout,
            failures: health.failures,
        }
    }
}

impl JsonSchema for Health {
    fn schema_name() -> Cow<'static, str> {
        HealthTable::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        HealthTable::json_schema(generator)
    }
}

fn is_plain(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(text: &str) -> Result<Health, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_health_table_names_at_most_one_check() {
        assert_eq!(health("").unwrap(), Health::default());
        assert_eq!(health("tcp = true").unwrap(), Health::default());
        let http = Check::Http {
            path: "/healthz".into(),
        };
        assert_eq!(health("path = '/healthz'").unwrap().check, http);
        let grpc = Check::Grpc {
            service: String::new(),
        };
        assert_eq!(health("grpc = ''").unwrap().check, grpc);
        for bad in [
            "path = '/a'\ngrpc = ''",
            "path = '/a'\ntcp = true",
            "path = 'healthz'",
            "path = '/a b'",
            "paht = '/a'",
            "failures = 0",
            "interval = '0s'",
        ] {
            assert!(health(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_health_table_survives_being_written() {
        for text in ["", "path = '/x'\nfailures = 7", "grpc = 'a.B'"] {
            let read = health(text).unwrap();
            assert_eq!(health(&toml::to_string(&read).unwrap()).unwrap(), read);
        }
    }

    #[test]
    fn resources_default_to_a_limit_of_processes_only() {
        let read: Resources = toml::from_str("memory = '256MiB'").unwrap();
        assert_eq!(read.memory, Some(ByteCount::mib(256)));
        assert_eq!((read.cpu, read.pids_max()), (None, 1024));
        assert!(toml::from_str::<Resources>("memroy = '1GiB'").is_err());
    }
}
