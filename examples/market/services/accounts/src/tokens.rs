//! Tokens that anybody can check and only this service can issue: JWTs signed with Ed25519
//! ("EdDSA" in RFC 8037). The public half of the key is published as a JWK set, so whoever checks
//! a token needs neither a shared secret nor a call per request.
//!
//! A JWT is three parts in base64url, joined by dots: header, claims, signature over the first
//! two. That is little enough to write down here instead of taking a library.

use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded as Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey};
use serde_json::{Value, json};

/// Seconds. Short: a token can't be taken back, except by deleting the account.
const LIFETIME: u64 = 3600;
const ISSUER: &str = "accounts";

pub struct Tokens(SigningKey);

impl Tokens {
    pub fn new(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    fn public(&self) -> String {
        Base64::encode_string(self.0.verifying_key().as_bytes())
    }

    /// Names the key, so that a verifier that knows several finds the right one.
    fn key_id(&self) -> String {
        self.public().chars().take(12).collect()
    }

    pub fn jwks(&self) -> Value {
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.key_id(), "x": self.public(),
        }] })
    }

    /// A token that says "the bearer is this user", and when that stops being true.
    pub fn issue(&self, user: &str) -> (String, u64) {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.key_id() });
        let now = now();
        let claims = json!({ "iss": ISSUER, "sub": user, "iat": now, "exp": now + LIFETIME });
        let encode = |part: Value| Base64::encode_string(part.to_string().as_bytes());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.0.sign(signed.as_bytes()).to_bytes();
        (format!("{signed}.{}", Base64::encode_string(&signature)), LIFETIME)
    }

    /// The user of a token that we issued and that hasn't run out. The header's `alg` is not even
    /// read: letting the sender choose how to be checked is how "alg: none" got famous.
    pub fn check(&self, token: &str) -> Option<String> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = Signature::from_slice(&Base64::decode_vec(signature).ok()?).ok()?;
        self.0.verifying_key().verify_strict(signed.as_bytes(), &signature).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims: Value = serde_json::from_slice(&Base64::decode_vec(claims).ok()?).ok()?;
        let user = claims["sub"].as_str()?.to_owned();
        (claims["iss"] == ISSUER && claims["exp"].as_u64()? > now()).then_some(user)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}
