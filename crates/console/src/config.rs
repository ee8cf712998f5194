//! `[console]` of `atoll.toml`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the console is, and who may reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Whether there is one. Default true.
    pub enabled: bool,
    /// Where browsers reach it. Default "127.0.0.1:8484", or another port if that one is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Names under which browsers reach it, beside the address itself and localhost: what comes under
    /// another name is refused, so that no web site can reach it by a name of its own (DNS
    /// rebinding). Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Something before it speaks TLS. It must be said where `listen` is no loopback address: tokens
    /// would go in the clear. Default false.
    pub behind_tls: bool,
}

impl ConsoleConfig {
    /// The port that is taken if nobody names one.
    pub const PORT: u16 = 8484;

    /// Where to listen, in order of preference.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let own = |port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        match self.listen {
            Some(addr) => vec![addr],
            None => vec![own(Self::PORT), own(0)],
        }
    }

    /// What does not go together: the key, and why.
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let open = self.listen.is_some_and(|addr| !addr.ip().is_loopback());
        if open && !self.behind_tls {
            return vec![(
                "listen",
                "tokens would go in the clear: listen on 127.0.0.1 behind something that speaks TLS, \
                 or say `behind_tls = true`",
            )];
        }
        Vec::new()
    }
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            hosts: Vec::new(),
            behind_tls: false,
        }
    }
}
