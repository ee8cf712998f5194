//! What people may say about caching.

use atoll_base::{ByteCount, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `cache` of a route: answers are kept and given again, by RFC 9111. An empty table does what the
/// service's own `Cache-Control` says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// How long answers are fresh, whatever the service says about it. Not for answers with `private`
    /// or `Set-Cookie`, nor for requests with `Authorization`, a verified name or cookies. Default: what
    /// the service says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<HumanDuration>,
    /// Whether `ttl` counts for requests with cookies as well: the service looks at none of them.
    /// Default false.
    pub ignore_cookies: bool,
    /// How long 404, 405, 410, 414 and 501 are fresh where the service says nothing. Default `0s`: not
    /// at all.
    pub negative_ttl: HumanDuration,
    /// For so long after its time, an answer is still given while a new one is fetched, where the
    /// service says nothing (RFC 5861). Default `0s`.
    pub stale_while_revalidate: HumanDuration,
    /// For so long after its time, an answer is given where the service fails, where the service says
    /// nothing (RFC 5861). Default `0s`.
    pub stale_if_error: HumanDuration,
    /// Larger answers are not kept. Default `1MiB`.
    pub max_entry: ByteCount,
    /// Request fields that answers differ by, beside those that `Vary` names. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// Query parameters that answers do not differ by; `*` at the end stands for any rest: `utm_*`.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_query: Vec<String>,
    /// Whether clients may ask for a newer answer (`Cache-Control: no-cache`). Default true.
    pub client_control: bool,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: None,
            ignore_cookies: false,
            negative_ttl: HumanDuration::secs(0),
            stale_while_revalidate: HumanDuration::secs(0),
            stale_if_error: HumanDuration::secs(0),
            max_entry: ByteCount::mib(1),
            vary: Vec::new(),
            ignore_query: Vec::new(),
            client_control: true,
        }
    }
}
