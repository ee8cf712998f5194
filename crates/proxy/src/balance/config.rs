//! `[resilience.balance]` of `service.toml`: which instance gets a request.

use atoll_base::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How requests are spread over the instances of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// Default `ewma`: of two random instances the one that answers faster and has less to do.
    pub kind: BalanceKind,
    /// For `hash`: requests that have this in common go to the same instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<HashBy>,
    /// For `by = "header"` or `"cookie"`: its name. Requests without it are spread as by `ewma`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new instance gets its full part of the requests only after this time; from a tenth it rises
    /// steadily. Not for `hash`. Default `30s`; `0s` turns it off.
    pub slow_start: HumanDuration,
}

/// A way to spread requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceKind {
    /// Of two random instances the one whose latency times load is less.
    #[default]
    Ewma,
    /// In turn.
    RoundRobin,
    /// By what requests have in common.
    Hash,
}

/// What requests have in common that go to the same instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashBy {
    /// The value of a header field.
    Header,
    /// The value of a cookie.
    Cookie,
    /// The address of the client; in the mesh, the instance that calls.
    Client,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            kind: BalanceKind::default(),
            by: None,
            name: None,
            slow_start: HumanDuration::secs(30),
        }
    }
}

impl BalanceConfig {
    /// What cannot be, if anything: the key, and what to write instead.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let named = self.name.as_deref().is_some_and(|name| !name.is_empty());
        match (self.kind, self.by) {
            (BalanceKind::Hash, None) => Err((
                "by",
                "is missing: write `by = \"header\"`, `\"cookie\"` or `\"client\"`",
            )),
            (BalanceKind::Hash, Some(HashBy::Header)) if !named => {
                Err(("name", "is missing: write the name of the header field"))
            }
            (BalanceKind::Hash, Some(HashBy::Cookie)) if !named => {
                Err(("name", "is missing: write the name of the cookie"))
            }
            (BalanceKind::Hash, Some(HashBy::Client)) if self.name.is_some() => {
                Err(("name", "means nothing with `by = \"client\"`: remove it"))
            }
            (BalanceKind::Hash, _) => Ok(()),
            (_, Some(_)) => Err((
                "by",
                "means something with `kind = \"hash\"` only: add that",
            )),
            (_, None) if self.name.is_some() => Err((
                "name",
                "means something with `kind = \"hash\"` only: add that",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_has_its_remedy() {
        for (toml, key) in [
            ("kind = 'hash'", Some("by")),
            ("kind = 'hash'\nby = 'header'", Some("name")),
            ("kind = 'hash'\nby = 'cookie'\nname = ''", Some("name")),
            ("kind = 'hash'\nby = 'client'\nname = 'x'", Some("name")),
            ("by = 'client'", Some("by")),
            ("kind = 'round_robin'\nname = 'x'", Some("name")),
            ("kind = 'hash'\nby = 'cookie'\nname = 'session'", None),
            ("kind = 'hash'\nby = 'client'", None),
            ("kind = 'round_robin'\nslow_start = '0s'", None),
            ("", None),
        ] {
            let config: BalanceConfig = toml::from_str(toml).unwrap();
            assert_eq!(config.check().err().map(|(key, _)| key), key, "{toml}");
        }
    }
}
