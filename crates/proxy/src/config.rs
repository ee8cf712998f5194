//! What people may set in their manifests about the edge, the mesh and routes.
//!
//! Every limit has a default that suits one machine and a small team; each says its unit. What is
//! not here is fixed on purpose (head sizes, retries): a knob that nobody should turn is a trap.
//! Those constants stand in [`crate::limits`], with their reasons.

mod route;
mod tls;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::AccessLogConfig;
use crate::auth::Authenticator;
use crate::policy::{Networks, PolicyError};

pub use self::route::{
    AnswerConfig, BackendConfig, CorsConfig, EditConfig, MirrorConfig, RedirectConfig, RouteConfig,
};
pub use self::tls::{CertificateConfig, ClientCertificate, TlsConfig, TlsVersion};

/// All settings of the proxy.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The side that faces the outside.
    pub edge: EdgeConfig,
    /// The side that services call each other through.
    pub mesh: MeshConfig,
    /// Who may come, by the names that routes use.
    pub auth: HashMap<String, Arc<Authenticator>>,
    /// Worker threads. Default: one for each core, at most 4.
    pub threads: Option<NonZeroUsize>,
    /// Spans only of requests that failed: an answer of 500 and above, none, or not all of it. Default
    /// false: of all. Counts are not concerned.
    pub failed_spans_only: bool,
}

/// `[edge]` of `atoll.toml`: where and how requests come in from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Address and port to listen on. Default `127.0.0.1:8080`. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The largest request body that is let in; larger ones are answered 413. A route can set its
    /// own. Default `64MiB`.
    pub max_body: ByteCount,
    /// How long a client may take to send the head of a request, from its first byte. Then it is
    /// answered 408. Default `10s`.
    pub head_timeout: HumanDuration,
    /// How long a connection may stay open without a request. Default `75s`.
    pub idle_timeout: HumanDuration,
    /// How long a client may pause while it sends the body of a request or reads the answer.
    /// Default `30s`.
    pub body_timeout: HumanDuration,
    /// How long a request waits for an instance when its service has none that is ready. Default
    /// `0s`: it is answered 503 at once.
    pub wait_for_instance: HumanDuration,
    /// Networks of the proxies in front of this one, such as `10.0.0.0/8`. What they say about the
    /// client (`X-Forwarded-For`, `X-Forwarded-Proto`) is believed. Default: none; nobody is.
    pub trusted_proxies: Vec<String>,
    /// Whether answers are compressed (zstd, br, gzip) for clients that take it, where it is worth it.
    /// A route can say else. Default false.
    pub compress: bool,
    /// Whether answers tell browsers to be careful, where services do not say else:
    /// `X-Content-Type-Options: nosniff`, `X-Frame-Options: SAMEORIGIN` and `Referrer-Policy:
    /// strict-origin-when-cross-origin`. Default false.
    pub security_headers: bool,
    /// The memory for answers that are kept, of all routes with `cache`. Default `64MiB`.
    pub cache_size: ByteCount,
    /// HTTPS. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// A line for each request from outside. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogConfig>,
}

/// `[mesh]` of `atoll.toml`: how services reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// The port of every mesh address. Default `7070`; 0 takes any free one.
    pub port: u16,
    /// How long a call waits for an instance when the service has none that is ready. Default
    /// `0s`: it is answered 503 at once.
    pub wait_for_instance: HumanDuration,
}

/// How patient the proxy is with the clients of one side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) body: Duration,
    pub(crate) wait_for_instance: Duration,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            max_body: ByteCount::mib(64),
            head_timeout: HumanDuration::secs(10),
            idle_timeout: HumanDuration::secs(75),
            body_timeout: HumanDuration::secs(30),
            wait_for_instance: HumanDuration::secs(0),
            trusted_proxies: Vec::new(),
            compress: false,
            security_headers: false,
            cache_size: ByteCount::mib(64),
            tls: None,
            access_log: None,
        }
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            port: 7070,
            wait_for_instance: HumanDuration::secs(0),
        }
    }
}

impl EdgeConfig {
    /// Checks what the types cannot say; tells the key that is wrong.
    pub fn check(&self) -> Result<(), (&'static str, PolicyError)> {
        let proxies = Networks::parse(&self.trusted_proxies);
        proxies
            .map(drop)
            .map_err(|error| ("trusted_proxies", error))
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience {
            head: self.head_timeout.0,
            idle: self.idle_timeout.0,
            body: self.body_timeout.0,
            wait_for_instance: self.wait_for_instance.0,
        }
    }
}

impl MeshConfig {
    /// Services are held to the defaults of the edge: what suits the outside is no reason to treat
    /// them otherwise.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            wait_for_instance: self.wait_for_instance.0,
            ..EdgeConfig::default().patience()
        }
    }
}

impl Config {
    /// The number of worker threads that this asks for.
    pub fn thread_count(&self) -> NonZeroUsize {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads
            .unwrap_or(cores.min(crate::limits::DEFAULT_THREADS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(
            toml::from_str::<EdgeConfig>("").unwrap(),
            EdgeConfig::default()
        );
        assert_eq!(toml::from_str::<MeshConfig>("").unwrap().port, 7070);
        let route: RouteConfig = toml::from_str("path = '/a'").unwrap();
        assert_eq!(route, RouteConfig::new("/a"));
        let edge: EdgeConfig = toml::from_str("max_body = '1MiB'\nidle_timeout = '5s'").unwrap();
        assert_eq!(edge.max_body, ByteCount::mib(1));
        assert_eq!(edge.patience().idle, Duration::from_secs(5));
        assert_eq!(edge.head_timeout, EdgeConfig::default().head_timeout);
    }

    #[test]
    fn unknown_keys_and_bare_numbers_are_mistakes() {
        assert!(toml::from_str::<EdgeConfig>("listn = '127.0.0.1:1'").is_err());
        assert!(toml::from_str::<EdgeConfig>("idle_timeout = 5").is_err());
        assert!(toml::from_str::<MeshConfig>("prt = 1").is_err());
        assert!(toml::from_str::<RouteConfig>("path = '/a'\nmethod = 'GET'").is_err());
    }

    #[test]
    fn every_key_is_described_for_editors() {
        for schema in [
            schemars::schema_for!(EdgeConfig),
            schemars::schema_for!(MeshConfig),
            schemars::schema_for!(RouteConfig),
        ] {
            let schema = serde_json::to_value(schema).unwrap();
            let properties = schema["properties"].as_object().unwrap();
            assert!(!properties.is_empty());
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{name}");
            }
        }
    }
}
