//! The form of a token: three parts, of which the first says how it is signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Flaw, TOKEN_MAX};
use crate::auth::{Algorithm, json};

/// A token whose signature was not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// How it says to be signed.
    pub algorithm: Algorithm,
    /// The name of the key.
    pub key: Option<String>,
    /// What is signed.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
    payload: &'a [u8],
}

/// The types of tokens that grant access (RFC 7519, 5.1; RFC 9068, 2.1).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Reads the form of a token; of its contents only how it is signed.
pub fn parse(token: &[u8]) -> Result<Token<'_>, Flaw> {
    if token.len() > TOKEN_MAX {
        return Err(Flaw::TooLong);
    }
    let mut dots = memchr::memchr_iter(b'.', token);
    let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
        return Err(Flaw::Malformed("it has not three parts"));
    };
    let header = json::object(&decode(&token[..first])?)
        .ok_or(Flaw::Malformed("its header is no JSON object"))?;
    if header.contains_key("crit") {
        return Err(Flaw::Critical);
    }
    let text = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Flaw::Malformed("a member of its header is no text")),
    };
    if text("typ")?.is_some_and(|own| !is_access(own)) {
        return Err(Flaw::Type);
    }
    let algorithm = text("alg")?.and_then(Algorithm::parse);
    Ok(Token {
        algorithm: algorithm.ok_or(Flaw::Algorithm)?,
        key: text("kid")?.map(str::to_owned),
        signed: &token[..second],
        signature: decode(&token[second + 1..])?,
        payload: &token[first + 1..second],
    })
}

impl Token<'_> {
    /// What it claims. Means nothing before the signature was checked.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Flaw> {
        decode(self.payload)
    }
}

/// Media types are told apart without case, and `application/` may be left out (RFC 7515, 4.1.9).
fn is_access(own: &str) -> bool {
    let own = own.to_ascii_lowercase();
    let short = own.strip_prefix("application/").unwrap_or(&own);
    TYPES.contains(&short)
}

/// Without padding, and with unused bits zero: each token has one form.
fn decode(part: &[u8]) -> Result<Vec<u8>, Flaw> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Flaw::Malformed("a part is not base64url"))
}
