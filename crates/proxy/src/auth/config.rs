//! `[auth.NAME]` of `atoll.toml`, and what a route asks of who comes.
//!
//! One flat table for all kinds: which keys belong to which kind is checked here, so that a mistake
//! is told in words ("`jwks` means nothing for an API key") and not as "no variant matched".

mod check;

use std::collections::BTreeMap;
use std::path::PathBuf;

use atoll_base::{HumanDuration, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Algorithm;

/// `[auth.NAME]` of `atoll.toml`: a way to find out who a request is from. Routes name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// `jwt`: signed tokens. `api_key`: keys made with `atoll key create`. `forward`: a service of
    /// yours says who it is. `mtls`: the client's certificate.
    pub kind: AuthKind,
    /// For `jwt`: where the issuer publishes its keys, `https://id.example.com/jwks.json`.
    /// `http://NAME/…` is your service NAME. They are fetched every 5 minutes, or as the source
    /// says, and when a token names a new one. Of `jwks`, `jwks_file` and `secret_env`, one is
    /// needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// For `jwt`: a file with such keys (RFC 7517).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// For `jwt`: the environment variable that has the secret of HS256, HS384 or HS512; 32 bytes
    /// or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// For `jwt`: the algorithms that are accepted. Default: those that fit the keys; with `jwks`
    /// never HS256, HS384 and HS512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    /// For `jwt`: who must have issued the token (`iss`), exactly. Default: anyone with the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// For `jwt`: the names of this API at the issuer; the token must be for one of them (`aud`).
    /// Default: only tokens without `aud` are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    /// For `jwt`: how far the clocks of issuer and proxy may be apart, at most 5m. Default `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway: Option<HumanDuration>,
    /// For `jwt` and `api_key`: the request field that has it. Default for `jwt`: `Authorization`,
    /// as `Bearer …`; for `api_key`: `X-Api-Key`, and `Authorization` as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// For `jwt`: the cookie that has it where the field is missing. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// For `api_key`: the query parameter that has it where the field is missing. Queries end up in
    /// logs and histories. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// For `forward`: what is asked, `http://NAME/path` for your service NAME. 2xx lets the request
    /// in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// For `forward`: the request fields that are passed along. Default `Authorization` and
    /// `Cookie`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// For `forward`: the fields of its answer that the service gets; what the client sends of them
    /// is taken out. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy: Vec<String>,
    /// For `forward`: how long a 2xx is remembered for the same fields, method, host and path, at
    /// most 1h. Default `0s`: it is asked each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<HumanDuration>,
    /// For `mtls`: subjects that are let in, as `CN=billing, O=Example`; `*` stands for part of a
    /// value. Default: with `names` empty too, every certificate that `client_ca` takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// For `mtls`: alternative names that are let in: `billing.example.com`, `*.example.com` (one
    /// label), `spiffe://example.com/*` (one segment). Default as for `subjects`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// How it is found out who a request is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// By a signed token.
    Jwt,
    /// By a key made with `atoll key create`.
    ApiKey,
    /// By asking a service.
    Forward,
    /// By the client's certificate.
    Mtls,
}

/// Where the keys for tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource<'a> {
    /// A URL; `http://NAME/…` is a service.
    Url(&'a str),
    /// A file with a key set.
    File(&'a PathBuf),
    /// An environment variable with a secret.
    Env(&'a str),
}

/// What a route asks of who comes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The NAME of an `[auth.NAME]`: who it does not know gets 401. Default: everyone may come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Whether those may come, too, who send no credentials. Wrong credentials are refused all the
    /// same. Default false.
    pub auth_optional: bool,
    /// Scopes that are needed, all of them. Others get 403. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Claims that a token must have, all of them: the exact value, or a list with it. A dot leads
    /// into objects: `realm_access.roles`. Others get 403. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// A setting about authentication that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A name that is none.
    #[error(
        "[auth.{0}]: a name has lower-case letters, digits and dashes, and starts with a letter"
    )]
    Name(String),
    /// Something that the kind needs.
    #[error("kind = \"{kind}\" needs {what}")]
    Needs {
        /// The kind.
        kind: AuthKind,
        /// What is missing, or there too often.
        what: &'static str,
    },
    /// Something that the kind has no use for.
    #[error("`{key}` means nothing for kind = \"{kind}\": leave it out")]
    Foreign {
        /// The kind.
        kind: AuthKind,
        /// The key.
        key: &'static str,
    },
    /// An algorithm that can never verify.
    #[error("{name} does not go with `{source_key}`: {why}")]
    Algorithm {
        /// The algorithm.
        name: &'static str,
        /// Where the keys come from.
        source_key: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A name of a field, cookie or parameter that is none, or that is not free.
    #[error("`{key}`: '{name}' {why}")]
    Field {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An address that is none.
    #[error("`{key}`: '{url}' must read http://NAME/path (your service NAME) or https://host/path")]
    Url {
        /// The key.
        key: &'static str,
        /// The address.
        url: String,
    },
    /// A text that cannot be what it should.
    #[error("`{key}`: '{text}' {why}")]
    Text {
        /// The key.
        key: &'static str,
        /// The text.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A duration that is too long.
    #[error("`{key}` is {given} and may be {most} at most")]
    TooLong {
        /// The key.
        key: &'static str,
        /// What it is.
        given: HumanDuration,
        /// What it may be.
        most: HumanDuration,
    },
    /// A route that asks for something unknown.
    #[error("auth = \"{name}\" is not known: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are, or what to write.
        known: String,
    },
    /// A rule that nobody can keep, or that is kept by everyone.
    #[error("`{rule}` {why}")]
    Rule {
        /// The key.
        rule: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
}

impl AuthKind {
    /// As in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::Forward => "forward",
            Self::Mtls => "mtls",
        }
    }
}

impl std::fmt::Display for AuthKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl AuthConfig {
    /// Of a kind, with nothing set.
    pub fn new(kind: AuthKind) -> Self {
        Self {
            kind,
            jwks: None,
            jwks_file: None,
            secret_env: None,
            algorithms: Vec::new(),
            issuer: None,
            audience: Vec::new(),
            leeway: None,
            header: None,
            cookie: None,
            query: None,
            url: None,
            headers: Vec::new(),
            copy: Vec::new(),
            cache: None,
            subjects: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Checks that everything goes together.
    pub fn check(&self, name: &str) -> Result<(), AuthError> {
        check::all(self, name)
    }

    /// For `forward`: the service that is asked, and the path (with the query). None without a URL,
    /// or with one that is no service's.
    pub fn forward_target(&self) -> Option<(ServiceName, &str)> {
        let rest = self.url.as_deref()?.strip_prefix("http://")?;
        let (name, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        Some((ServiceName::new(name).ok()?, path))
    }

    /// Where the keys for tokens come from; none for other kinds.
    pub fn key_source(&self) -> Option<KeySource<'_>> {
        let url = self.jwks.as_deref().map(KeySource::Url);
        let file = || self.jwks_file.as_ref().map(KeySource::File);
        let env = || self.secret_env.as_deref().map(KeySource::Env);
        url.or_else(file).or_else(env)
    }
}
