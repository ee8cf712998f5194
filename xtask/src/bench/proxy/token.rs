//! An issuer of tokens with a key of its own, made anew for each run.

use anyhow::anyhow;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

pub(super) struct Issuer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(super) fn new() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .map_err(|_| anyhow!("no key was made"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)
            .map_err(|error| anyhow!("the key made is refused: {error}"))?;
        Ok(Self { pair, random })
    }

    /// Its public key, as a set of keys.
    pub(super) fn jwks(&self) -> String {
        // A point that is not compressed: 4, then 32 bytes each.
        let point = &self.pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    /// A token for a day, as large as usual.
    #[expect(
        clippy::disallowed_methods,
        reason = "a token is good until a real moment"
    )]
    pub(super) fn token(&self) -> anyhow::Result<String> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({ "alg": "ES256", "typ": "JWT", "kid": "bench" }));
        let claims = part(json!({
            "iss": "bench", "aud": "bench", "sub": "customer-1", "iat": now, "exp": now + 86_400,
            "scope": "orders:read orders:write",
        }));
        let signed = format!("{head}.{claims}");
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| anyhow!("nothing was signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
