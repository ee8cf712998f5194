//! Who a request is from, and whether they may come.
//!
//! `[auth.NAME]` says how that is found out, a route names it and adds rules. All of it is decided
//! here, without I/O: [`Authenticator::check`] looks at the credentials of one request and gives an
//! [`Outcome`]; where a key or a service's answer is missing, it says so, and whoever drives the
//! pipeline gets it and checks again.
//!
//! **What it costs**: a token that a worker has seen before costs a comparison of its bytes
//! ([`TokenCache`]); a new one costs its signature. API keys and certificates take the same way.
//!
//! **Fail closed.** Whatever is missing, broken, ambiguous or too late is a refusal. Credentials
//! that are there twice are refused as well: the service behind might read the other one.

mod access;
mod algorithm;
mod cache;
mod certificate;
mod config;
pub mod cookie;
mod credentials;
mod forward;
mod identity;
mod json;
pub mod jwt;
mod key;
mod keys;
mod refusal;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_base::Timestamp;

pub use self::access::{Access, Denied};
pub use self::algorithm::{Algorithm, Algorithms};
use self::cache::Stamp;
pub use self::cache::TokenCache;
use self::certificate::Certificates;
pub use self::config::{AccessConfig, AuthConfig, AuthError, AuthKind, KeySource};
pub use self::credentials::Credentials;
use self::credentials::{Found, Places};
use self::forward::Judgement;
pub use self::forward::{Answer, Forward};
use self::identity::Facts;
pub use self::identity::Identity;
use self::jwt::{Flaw, Rules};
pub use self::key::{ApiKey, ApiKeys, KeyRefusal, NoRandomness};
pub use self::keys::{Key, KeyError, KeySet, Keys, Origin, Refresh, SET_BYTES_MAX};
pub use self::refusal::Refusal;
use crate::http::field::{FieldSet, Fields};

/// One `[auth.NAME]`, ready to check requests. Shared by workers. Made once for a configuration, not
/// for each snapshot: tokens are remembered for the one that verified them.
#[derive(Debug)]
pub struct Authenticator {
    name: Arc<str>,
    /// Not the name: another configuration of the same name is another authenticator.
    id: u64,
    means: Means,
}

/// What an authenticator trusts. Handles: they outlive it, and change under it.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// For `jwt`: the keys from where [`AuthConfig::key_source`] says.
    pub keys: Keys,
    /// For `api_key`.
    pub api_keys: Arc<ApiKeys>,
}

/// What follows for a request.
#[derive(Debug)]
pub enum Outcome {
    /// It is from them.
    Verified(Rc<Identity>),
    /// It has no credentials. [`Authenticator::missing`] answers it, unless the route lets such
    /// requests in.
    Missing,
    /// It is not let in.
    Refused(Refusal),
    /// The token is by a key that is not known: [`Keys::refreshed`] may bring it. If not, or if the
    /// next check says the same, this is the answer.
    NeedsKeys(Refusal),
    /// [`Authenticator::forward`] has to be asked; [`Authenticator::answered`] judges the answer.
    NeedsForward,
}

#[derive(Debug)]
enum Means {
    Jwt {
        places: Places,
        rules: Rules,
        keys: Keys,
    },
    ApiKey {
        places: Places,
        keys: Arc<ApiKeys>,
    },
    Forward(Forward),
    Mtls(Certificates),
}

/// What Envoy, Spring and Istio allow: clocks that are kept by NTP are apart by less than a second,
/// those of forgotten machines by some; a minute longer makes a stolen token hardly worth more.
const LEEWAY: Duration = Duration::from_secs(60);
/// How long a certificate that fits is remembered to fit.
const CERTIFICATE_KNOWN: Duration = Duration::from_secs(60 * 60);

static IDS: AtomicU64 = AtomicU64::new(1);

impl Authenticator {
    /// Compiles `[auth.NAME]`.
    pub fn compile(name: &str, config: &AuthConfig, trust: Trust) -> Result<Self, AuthError> {
        config.check(name)?;
        let means = match config.kind {
            AuthKind::Jwt => Means::Jwt {
                places: Places::of_token(config),
                rules: rules(config),
                keys: trust.keys,
            },
            AuthKind::ApiKey => Means::ApiKey {
                places: Places::of_key(config),
                keys: trust.api_keys,
            },
            AuthKind::Forward => {
                let (kind, what) = (config.kind, "`url`");
                let forward = Forward::compile(config);
                Means::Forward(forward.ok_or(AuthError::Needs { kind, what })?)
            }
            AuthKind::Mtls => Means::Mtls(Certificates::new(&config.subjects, &config.names)),
        };
        Ok(Self {
            name: Arc::from(name),
            id: IDS.fetch_add(1, Ordering::Relaxed),
            means,
        })
    }

    /// The NAME.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Finds out who a request is from.
    pub fn check(
        &self,
        credentials: &Credentials<'_>,
        cache: &mut TokenCache,
        now: Timestamp,
    ) -> Outcome {
        match &self.means {
            Means::Jwt {
                places,
                rules,
                keys,
            } => match places.find(credentials) {
                Found::One(token) => self.check_token(token, rules, keys, cache, now),
                Found::None => Outcome::Missing,
                Found::Several => self.ambiguous(),
            },
            Means::ApiKey { places, keys } => match places.find(credentials) {
                Found::One(text) => self.check_key(text, keys, cache, now),
                Found::None => Outcome::Missing,
                Found::Several => self.ambiguous(),
            },
            Means::Forward(forward) => self.check_forward(forward, credentials, cache, now),
            Means::Mtls(certificates) => {
                self.check_certificate(certificates, credentials, cache, now)
            }
        }
    }

    /// The answer to a request without credentials.
    pub fn missing(&self) -> Refusal {
        match &self.means {
            Means::Jwt { .. } => self.challenge(401, "a token is needed here", None),
            Means::ApiKey { .. } => self.challenge(401, "an API key is needed here", None),
            Means::Forward(_) => Forward::unreachable(),
            // There is no challenge for certificates, and 401 needs one (RFC 9110, 15.5.2).
            Means::Mtls(_) => Refusal::new(403, "a client certificate is needed here"),
        }
    }

    /// The answer to someone who is known and lacks what the route asks for.
    pub fn denied(&self, denied: &Denied) -> Refusal {
        let refusal = Refusal::new(403, denied.to_string());
        match denied {
            Denied::Scope { needed, .. } => {
                refusal.bearer(&self.name, Some("insufficient_scope"), needed)
            }
            Denied::Claim(_) => refusal.bearer(&self.name, Some("insufficient_scope"), &[]),
        }
    }

    /// The keys that tokens are checked with.
    pub fn keys(&self) -> Option<&Keys> {
        match &self.means {
            Means::Jwt { keys, .. } => Some(keys),
            _ => None,
        }
    }

    /// Who has to be asked.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.means {
            Means::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    /// Judges what the service answered that was asked about these credentials.
    pub fn answered(
        &self,
        credentials: &Credentials<'_>,
        answer: &Answer<'_>,
        cache: &mut TokenCache,
        now: Timestamp,
    ) -> Outcome {
        let Means::Forward(forward) = &self.means else {
            return Outcome::Refused(Forward::unreachable());
        };
        let fields = match forward.judge(answer) {
            Judgement::Come(fields) => fields,
            Judgement::Stay(refusal) => return Outcome::Refused(refusal),
        };
        let facts = Facts {
            fields,
            ..Facts::default()
        };
        let identity = Rc::new(Identity::new(&self.name, facts));
        if !forward.cache().is_zero() {
            let mut key = Vec::new();
            forward.write_key(credentials, |bytes| cache.hash_whole(bytes), &mut key);
            let until = now.after(forward.cache());
            cache.insert(self.stamp(0), &key, Rc::clone(&identity), until);
        }
        Outcome::Verified(identity)
    }

    /// Whether the service is told who asks by fields of the operator's choice.
    pub fn tells_who(&self) -> bool {
        self.forward()
            .is_some_and(|forward| !forward.copied().is_empty())
    }

    /// The fields of a request that must not reach the service, as it would take them for ours:
    /// those that a forward-auth service sends, in any spelling. (`Atoll-*` is taken out of every
    /// request.) Also where [`AccessConfig::auth_optional`] lets a request in.
    pub fn foreign(&self, fields: &Fields<'_, '_>) -> FieldSet {
        let copied = self.forward().map_or(&[][..], Forward::copied);
        if copied.is_empty() {
            return 0;
        }
        let mut set = 0;
        for (at, (name, _)) in fields.iter().enumerate() {
            if copied.iter().any(|own| is_alias(name, own)) {
                set |= 1 << at;
            }
        }
        set
    }

    fn check_token(
        &self,
        token: &[u8],
        rules: &Rules,
        keys: &Keys,
        cache: &mut TokenCache,
        now: Timestamp,
    ) -> Outcome {
        let set = keys.current();
        let stamp = self.stamp(set.generation());
        if let Some(identity) = cache.get(stamp, token, now) {
            return Outcome::Verified(identity);
        }
        if set.is_empty() {
            // 401 would make clients throw away a token that may be good.
            let detail = "tokens cannot be checked now; try again later";
            return self.without_key(keys, Refusal::new(503, detail));
        }
        let claims = match jwt::verify(token, &set, rules, now) {
            Ok(claims) => claims,
            Err(flaw) => {
                let error = Some("invalid_token");
                let refusal = self.challenge(401, flaw.to_string(), error);
                return match flaw {
                    Flaw::UnknownKey => self.without_key(keys, refusal),
                    _ => Outcome::Refused(refusal),
                };
            }
        };
        let until = claims.until;
        let facts = Facts {
            subject: claims.subject,
            scopes: claims.scopes,
            claims: claims.all,
            expires: Some(until),
            ..Facts::default()
        };
        self.remember(stamp, token, facts, until, cache)
    }

    fn without_key(&self, keys: &Keys, refusal: Refusal) -> Outcome {
        if keys.is_remote() {
            Outcome::NeedsKeys(refusal)
        } else {
            Outcome::Refused(refusal)
        }
    }

    fn check_key(
        &self,
        text: &[u8],
        keys: &ApiKeys,
        cache: &mut TokenCache,
        now: Timestamp,
    ) -> Outcome {
        let table = keys.current();
        let stamp = self.stamp(table.generation());
        if let Some(identity) = cache.get(stamp, text, now) {
            return Outcome::Verified(identity);
        }
        let key = match table.verify(text, now) {
            Ok(key) => key,
            Err(refusal) => {
                let error = Some("invalid_token");
                return Outcome::Refused(self.challenge(401, refusal.to_string(), error));
            }
        };
        let facts = Facts {
            subject: Some(key.name.clone()),
            scopes: key.scopes.clone(),
            key: Some(key.id.clone()),
            expires: key.expires,
            ..Facts::default()
        };
        let until = key.expires.unwrap_or(Timestamp::from_micros(i64::MAX));
        self.remember(stamp, text, facts, until, cache)
    }

    fn check_forward(
        &self,
        forward: &Forward,
        credentials: &Credentials<'_>,
        cache: &mut TokenCache,
        now: Timestamp,
    ) -> Outcome {
        if forward.cache().is_zero() {
            return Outcome::NeedsForward;
        }
        let mut key = Vec::with_capacity(256);
        forward.write_key(credentials, |bytes| cache.hash_whole(bytes), &mut key);
        let known = cache.get(self.stamp(0), &key, now);
        known.map_or(Outcome::NeedsForward, Outcome::Verified)
    }

    fn check_certificate(
        &self,
        certificates: &Certificates,
        credentials: &Credentials<'_>,
        cache: &mut TokenCache,
        now: Timestamp,
    ) -> Outcome {
        let Some(client) = credentials.client else {
            return Outcome::Missing;
        };
        let (stamp, own) = (self.stamp(0), client.field.as_bytes());
        if let Some(identity) = cache.get(stamp, own, now) {
            return Outcome::Verified(identity);
        }
        if !certificates.take(client) {
            let detail = "your certificate is not let in here";
            return Outcome::Refused(Refusal::new(403, detail));
        }
        let facts = Facts {
            subject: Some(client.subject.clone()),
            ..Facts::default()
        };
        self.remember(stamp, own, facts, now.after(CERTIFICATE_KNOWN), cache)
    }

    fn remember(
        &self,
        stamp: Stamp,
        credentials: &[u8],
        facts: Facts,
        until: Timestamp,
        cache: &mut TokenCache,
    ) -> Outcome {
        let identity = Rc::new(Identity::new(&self.name, facts));
        cache.insert(stamp, credentials, Rc::clone(&identity), until);
        Outcome::Verified(identity)
    }

    fn ambiguous(&self) -> Outcome {
        let detail = "the request has its credentials twice";
        Outcome::Refused(self.challenge(400, detail, Some("invalid_request")))
    }

    fn challenge(
        &self,
        status: u16,
        detail: impl Into<std::borrow::Cow<'static, str>>,
        error: Option<&'static str>,
    ) -> Refusal {
        Refusal::new(status, detail).bearer(&self.name, error, &[])
    }

    fn stamp(&self, generation: u64) -> Stamp {
        Stamp {
            authenticator: self.id,
            generation,
        }
    }
}

fn rules(config: &AuthConfig) -> Rules {
    let fitting = match config.key_source() {
        Some(KeySource::Url(_)) | None => Algorithms::public(),
        Some(KeySource::Env(_)) => Algorithms::shared(),
        Some(KeySource::File(_)) => Algorithms::all(),
    };
    let chosen = config.algorithms.iter().copied();
    let algorithms = if config.algorithms.is_empty() {
        fitting
    } else {
        chosen.filter(|own| fitting.contains(*own)).collect()
    };
    Rules {
        algorithms,
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        leeway: config.leeway.map_or(LEEWAY, |leeway| leeway.0),
    }
}

/// The same name, or one that services of some languages take for it.
fn is_alias(name: &str, own: &str) -> bool {
    let plain = |byte: u8| {
        if byte == b'_' {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    name.len() == own.len() && name.bytes().map(plain).eq(own.bytes().map(plain))
}
