//! Signed tokens: JSON Web Tokens (RFC 7519) in the compact form (RFC 7515, 3.1), by the rules of
//! RFC 8725 where they are stricter.
//!
//! **The order is the defence.** The form, then whether the algorithm is allowed here at all, then
//! the keys that fit it, then the signature; what the token claims is not even decoded before. The
//! header only ever *chooses among* keys that are there: `kid` is compared with their names and
//! means nothing else, no path and no address; `jku`, `x5u`, `jwk` and `x5c`, by which a token would
//! bring its own key, are not read.
//!
//! **Refused on purpose**: tokens without `exp` (nobody could take them back); with `crit`, as
//! nothing that it could name is understood; with `aud` where none is configured, as RFC 7519,
//! 4.1.3, demands (it is for someone else); with a `typ` that says it is no access token (RFC 8725,
//! 3.11); with a member twice; unsigned ones, in any spelling.

mod claims;
mod flaw;
mod token;

use std::time::Duration;

pub use self::claims::{Claims, judge};
pub use self::flaw::Flaw;
pub use self::token::{Token, parse};
use super::{Algorithms, KeySet};
use atoll_base::Timestamp;

/// What tokens are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The algorithms that they may be signed with.
    pub algorithms: Algorithms,
    /// Who must have issued them, exactly; any if none.
    pub issuer: Option<String>,
    /// For whom they must be: one of these.
    pub audience: Vec<String>,
    /// How far the clocks of issuer and proxy may be apart.
    pub leeway: Duration,
}

/// The longest token, in bytes: twice what common issuers make, and an eighth of what a head may have.
pub const TOKEN_MAX: usize = 8 * 1024;
/// Keys that one token is tried with. Only tokens without `kid`, or keys without one, need more than
/// one.
const TRIES: usize = 8;

/// Checks a token and reads what it claims.
pub fn verify(token: &[u8], keys: &KeySet, rules: &Rules, now: Timestamp) -> Result<Claims, Flaw> {
    let token = parse(token)?;
    check_signature(&token, keys, rules.algorithms)?;
    let payload = token.payload()?;
    judge(&payload, rules, now)
}

fn check_signature(token: &Token<'_>, keys: &KeySet, allowed: Algorithms) -> Result<(), Flaw> {
    if !allowed.contains(token.algorithm) {
        return Err(Flaw::Algorithm);
    }
    let id = token.key.as_deref();
    let verified = keys
        .fitting(id, token.algorithm)
        .take(TRIES)
        .any(|key| key.verifies(token.algorithm, token.signed, &token.signature));
    if verified {
        return Ok(());
    }
    match id {
        // The key that it names is there: fetching others would change nothing.
        Some(id) if keys.has(id) => Err(Flaw::Signature),
        _ => Err(Flaw::UnknownKey),
    }
}

#[cfg(test)]
mod tests;
