//! What the operator can set about events: for the node in `[events]`, for a topic in `[topics.NAME]`.

use std::net::SocketAddr;

use atoll_base::{ByteCount, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// `[events]` of `atoll.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Where clients of Kafka connect. Default "127.0.0.1:9092".
    pub listen: String,
    /// Whether clients without an account may do everything: handy with tools on one's own machine.
    /// Services have accounts, which they get in their environment, and may do what they declare.
    /// Default true where `listen` is a loopback address, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// A Kafka of your own instead of the embedded broker: some of its brokers, "HOST:PORT" with commas
    /// between. `listen`, `open` and `auto_create` have no meaning then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<String>,
    /// That Kafka is spoken to in TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTlsConfig>,
    /// Who Atoll is to that Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSaslConfig>,
    /// Whether an unknown topic is made when a client without an account asks for it. Default true.
    pub auto_create: bool,
}

/// `[events.tls]` of `atoll.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTlsConfig {
    /// The certificates of those that are believed, as PEM, the path relative to `atoll.toml`.
    /// Default: those that the system believes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// `[events.sasl]` of `atoll.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSaslConfig {
    /// How the user is proved: "plain", "scram-sha-256" or "scram-sha-512".
    pub mechanism: SaslMechanism,
    /// The user.
    pub user: String,
    /// The file that holds the password, relative to `atoll.toml`. Spaces and lines at its end do not
    /// count.
    pub password_file: String,
}

/// How a user is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password as it is.
    #[serde(rename = "plain")]
    Plain,
    /// A proof of the password (RFC 7677).
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// How one topic is kept: `[topics."NAME"]` of `atoll.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicConfig {
    /// The number of partitions: records of one key are in one, in order; consumers of a group share
    /// them. It can be raised, never lowered. Default 1: all records in one order.
    #[schemars(range(min = 1, max = 1000))]
    pub partitions: i32,
    /// Records older than this are deleted. Default "7d".
    pub retention: HumanDuration,
    /// Beyond so many bytes in a partition, the oldest records are deleted. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_size: Option<ByteCount>,
    /// When a record is acknowledged: "synced", when it is on disk; "memory", when the system has
    /// it: then a power failure loses the last ones. Default "synced".
    pub durability: Durability,
    /// The largest batch of records that is taken, as it comes (compressed, if it is). Default "1MiB".
    pub max_batch: ByteCount,
    /// A JSON Schema of the values, its path relative to `atoll.toml`: for topics that are filled from
    /// outside. Services name theirs in `[publish.schemas]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Files of a partition are this large; deletion goes by whole files. Default "64MiB".
    pub segment: ByteCount,
}

/// When a record is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Synced,
    /// When the system has it: a power failure loses the last ones.
    Memory,
}

impl EventsConfig {
    /// Where to listen.
    ///
    /// # Errors
    /// When `listen` is no address.
    pub fn addr(&self) -> Result<SocketAddr, Error> {
        let addr = self.listen.parse();
        addr.map_err(|_| Error::Address(self.listen.clone()))
    }

    /// Whether clients without an account may do everything.
    pub fn is_open(&self) -> bool {
        let local = || self.addr().is_ok_and(|addr| addr.ip().is_loopback());
        self.open.unwrap_or_else(local)
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9092".to_owned(),
            open: None,
            kafka: None,
            tls: None,
            sasl: None,
            auto_create: true,
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        let week = 7 * 24 * 3600;
        Self {
            partitions: 1,
            retention: HumanDuration(std::time::Duration::from_secs(week)),
            retention_size: None,
            durability: Durability::Synced,
            max_batch: ByteCount(1 << 20),
            schema: None,
            segment: ByteCount(64 << 20),
        }
    }
}
