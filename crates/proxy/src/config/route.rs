//! `[[route]]` of `service.toml`: what the edge exposes of a service, and what it does on the way.
//!
//! Everything but `path` may be left out. The tables are flat and say one thing each, so that a
//! mistake can be pointed at.

use std::collections::BTreeMap;

use atoll_base::{ByteCount, HumanDuration, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::AccessConfig;
use crate::cache::CacheConfig;
use crate::rate::RateLimitConfig;

/// `[[route]]` of `service.toml`: what the edge exposes of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The path: `/orders` (this path alone), `/orders/{id}` (any one segment in place of
    /// `{id}`), or `/catalog/**` (`/catalog` and everything below). Segments are compared from the
    /// left; text wins over a parameter, a parameter over `**`.
    pub path: String,
    /// The host name it answers to: `shop.example.com`, or `*.example.com` for every host below.
    /// Default: any host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The methods it answers to, in capitals; `GET` includes `HEAD`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header fields that a request must have, by name: the exact value, or `*` for any. Of several
    /// routes for one path, the one that asks for most fields is tried first. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Query parameters that a request must have, by name: the exact value, or `*` for any.
    /// Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// How long the service may take until the head of its answer. Default: the service's own
    /// timeout (30s unless it sets one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// The largest request body. Default: `max_body` of the edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<ByteCount>,
    /// The path that the service gets: text with the parameters of `path` in braces, and `**` at
    /// the end for what `/**` stands for: `/v2/orders/{id}`. Default: the path as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// Sends the client elsewhere; no service is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectConfig>,
    /// An answer that is always the same; no service is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerConfig>,
    /// Closed for maintenance: every request is answered 503 with this text. Default: open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
    /// Changes to the header fields of the request before the service gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<EditConfig>,
    /// Changes to the header fields of the answer before the client gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<EditConfig>,
    /// Services that share the requests, by weight, in place of the service of this file. Default:
    /// the service of this file alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendConfig>,
    /// Sends a copy of requests to another service and drops its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorConfig>,
    /// Networks whose clients are let in, such as `10.0.0.0/8` or `2001:db8::1`; others get 403.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Networks whose clients get 403, also where `allow` names them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Lets pages of other origins use this route from a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsConfig>,
    /// Whether answers are compressed for clients that take it. Default: `compress` of the edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
    /// The NAME of an `[auth.NAME]` of atoll.toml: who it does not know gets 401. Default: everyone
    /// may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Whether those may come, too, who send no credentials. Wrong ones are refused all the same.
    /// Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auth_optional: bool,
    /// Scopes that are needed, all of them. Others get 403. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Claims that a token must have, all of them: the exact value, or a list with it. A dot leads
    /// into objects: `realm_access.roles`. Others get 403. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// How many requests each client may make. Beyond it, 429. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitConfig>,
    /// Keeps answers and gives them again (RFC 9111). Default: none are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheConfig>,
}

/// `redirect` of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectConfig {
    /// Where to: a path or a URI, with the parameters of the route in braces, and `**` at the end
    /// for what `/**` stands for. The query goes along unless this has one.
    pub to: String,
    /// 301, 302, 303, 307 or 308. Default 308: for good, and with the same method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 301, max = 308))]
    pub status: Option<u16>,
}

/// `answer` of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerConfig {
    /// The status, 200 to 599. Default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// The body. Default: empty.
    #[serde(default)]
    pub body: String,
    /// Its media type. Default `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Changes to header fields: first `remove`, then `set`, `add` and `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EditConfig {
    /// Fields that are taken out, by name.
    pub remove: Vec<String>,
    /// Fields that have exactly this value afterwards.
    pub set: BTreeMap<String, String>,
    /// Fields that are there besides those of the same name.
    pub add: BTreeMap<String, String>,
    /// Fields that are added where there are none of the name.
    pub default: BTreeMap<String, String>,
}

/// One of the `backends` of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// The service.
    pub service: ServiceName,
    /// Its share of the requests, relative to the others', 0 to 1000000. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
}

/// `mirror` of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// The service that gets the copies.
    pub service: ServiceName,
    /// How many of 100 requests are copied. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u8>,
}

/// `cors` of a route, in the words of the Fetch standard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins whose pages may use the route: `https://shop.example.com`,
    /// `https://*.example.com`, or `*` for all.
    pub origins: Vec<String>,
    /// Methods that they may use. Default: those of the route, or GET, HEAD and POST if it takes all.
    pub methods: Vec<String>,
    /// Request fields that they may set besides the simple ones; `*` for any. Default:
    /// `Content-Type` and `Authorization`.
    pub headers: Vec<String>,
    /// Answer fields that they may read besides the simple ones. Default: `X-Trace-Id`.
    pub expose: Vec<String>,
    /// Whether cookies and credentials may be sent along. Cannot be had with the origin `*`. Default
    /// false.
    pub credentials: bool,
    /// How long a browser may remember the permission. Default `10m`.
    pub max_age: Option<HumanDuration>,
}

const fn one() -> u32 {
    1
}

impl RouteConfig {
    /// What it asks of who comes.
    pub fn access(&self) -> AccessConfig {
        AccessConfig {
            auth: self.auth.clone(),
            auth_optional: self.auth_optional,
            scopes: self.scopes.clone(),
            claims: self.claims.clone(),
        }
    }

    /// A route for `path`, for any host and method, with the service's own limits.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}
