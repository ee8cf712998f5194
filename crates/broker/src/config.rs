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
    /// What clients are told to connect to, "HOST:PORT": needed where they come by a name or another
    /// port, as with certificates and address translation. Default: where they have come already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Whether clients without an account may do everything: handy with tools on one's own machine.
    /// Services have accounts, which they get in their environment, and may do what they declare.
    /// Default true where `listen` is a loopback address, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// A Kafka of your own instead of the embedded broker: some of its brokers, "HOST:PORT" with commas
    /// between. `listen`, `advertise`, `open` and `auto_create` have no meaning then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<String>,
    /// Kafka's protocol is spoken in TLS: by the embedded broker, or to a Kafka of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EventsTlsConfig>,
    /// Who Atoll is to that Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSaslConfig>,
    /// Whether an unknown topic is made when a client without an account asks for it. Default true.
    pub auto_create: bool,
}

/// `[events.tls]` of `atoll.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsTlsConfig {
    /// The certificate with those above it, as PEM, the path relative to `atoll.toml`: the embedded
    /// broker must have one, which names the address that clients use; to a Kafka of your own it is
    /// shown if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// Its key, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The certificates of those that are believed, as PEM. With a Kafka of your own, by Atoll, and
    /// the default is those that the system believes; else services are told of them.
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
    /// What becomes of old records: "delete", they go by age and size; "compact", of each key the last
    /// record stays, and every record needs a key; "compact,delete", both. Default "delete".
    pub cleanup: Cleanup,
    /// Records older than this are deleted, unless `cleanup` is "compact". Default "7d".
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
    /// Files of a partition are this large, 1 MiB to 1 GiB; deletion goes by whole files. Default "64MiB".
    pub segment: ByteCount,
    /// Compacted topics: a file is finished at this age, too, if there is something in it. Only
    /// finished files are compacted. Default "7d".
    pub segment_age: HumanDuration,
    /// Compacted topics: a record without a value, which deletes its key, stays so long after what it
    /// deletes is gone, for those who read late. Default "24h".
    pub delete_retention: HumanDuration,
    /// Compacted topics: files with records younger than this are left alone. Default "0s".
    pub compaction_lag: HumanDuration,
    /// Compacted topics: files are compacted when those that are new make up so many percent of all.
    /// Default 50.
    #[schemars(range(min = 0, max = 100))]
    pub compaction_dirty: u8,
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Cleanup {
    /// They go by age and size.
    #[default]
    #[serde(rename = "delete")]
    Delete,
    /// Of each key the last record stays.
    #[serde(rename = "compact")]
    Compact,
    /// Of each key the last record stays, and goes by age and size.
    #[serde(rename = "compact,delete")]
    CompactDelete,
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

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Place {
    /// Puts the two together.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
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

    /// What clients are told to connect to, if that is set.
    ///
    /// # Errors
    /// When `advertise` is no host and port.
    pub fn advertised(&self) -> Result<Option<Place>, Error> {
        let Some(text) = &self.advertise else {
            return Ok(None);
        };
        let place = text.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse().ok().filter(|port| *port > 0)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            (!host.is_empty()).then(|| Place::new(host, port))
        });
        let none = || Error::Advertised(text.clone());
        place.map(Some).ok_or_else(none)
    }

    /// What does not go together: the key, and why.
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let mut mistakes = Vec::new();
        let tls = self.tls.as_ref();
        let pair = tls.map(|own| (own.cert.is_some(), own.key.is_some()));
        if let Some((true, false) | (false, true)) = pair {
            mistakes.push((
                "tls",
                "a certificate needs its key: set both `cert` and `key`",
            ));
        }
        if self.kafka.is_none() && pair == Some((false, false)) {
            mistakes.push((
                "tls",
                "the broker needs a certificate: set `cert` and `key`",
            ));
        }
        if self.kafka.is_some() && self.advertise.is_some() {
            mistakes.push(("advertise", "a Kafka of your own says itself where it is"));
        }
        if self.kafka.is_none() && self.sasl.is_some() {
            mistakes.push((
                "sasl",
                "it is for a Kafka of your own: set `kafka`, or leave it out",
            ));
        }
        mistakes
    }

    /// Whether clients without an account may do everything.
    pub fn is_open(&self) -> bool {
        let local = || self.addr().is_ok_and(|addr| addr.ip().is_loopback());
        self.open.unwrap_or_else(local)
    }
}

impl Cleanup {
    /// Whether older records of a key go.
    pub fn compacts(self) -> bool {
        self != Self::Delete
    }

    /// Whether records go by age and size.
    pub fn deletes(self) -> bool {
        self != Self::Compact
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9092".to_owned(),
            advertise: None,
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
            cleanup: Cleanup::Delete,
            retention: HumanDuration(std::time::Duration::from_secs(week)),
            retention_size: None,
            durability: Durability::Synced,
            max_batch: ByteCount(1 << 20),
            schema: None,
            segment: ByteCount(64 << 20),
            segment_age: HumanDuration(std::time::Duration::from_secs(week)),
            delete_retention: HumanDuration::secs(24 * 3600),
            compaction_lag: HumanDuration::secs(0),
            compaction_dirty: 50,
        }
    }
}
