//! The signature algorithms of tokens (RFC 7518, 3.1, and RFC 8037), and sets of them.
//!
//! There is no value for `none`, in any spelling: what cannot be said cannot be allowed. ES512 is
//! missing because `ring` has no P-521; hardly anyone signs with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519. RFC 9864 calls it `Ed25519`; tokens may say either.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// HMAC with SHA-256 and a secret that issuer and proxy share.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithms(u16);

const ALL: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
    ("HS256", Algorithm::Hs256),
    ("HS384", Algorithm::Hs384),
    ("HS512", Algorithm::Hs512),
];

impl Algorithm {
    /// Reads `alg` of a token or a key: exactly as written in the RFCs.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "Ed25519" {
            return Some(Self::EdDsa);
        }
        let found = ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, algorithm)| *algorithm)
    }

    /// Whether issuer and proxy share a secret.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// As in the RFCs.
    pub fn name(self) -> &'static str {
        let found = ALL.iter().find(|(_, algorithm)| *algorithm == self);
        found.map_or("", |(name, _)| *name)
    }
}

impl Algorithms {
    /// Those with a public key.
    pub fn public() -> Self {
        let all = ALL.iter().map(|(_, algorithm)| *algorithm);
        all.filter(|algorithm| !algorithm.is_shared()).collect()
    }

    /// Those with a shared secret.
    pub fn shared() -> Self {
        let all = ALL.iter().map(|(_, algorithm)| *algorithm);
        all.filter(|algorithm| algorithm.is_shared()).collect()
    }

    /// All there are.
    pub fn all() -> Self {
        ALL.iter().map(|(_, algorithm)| *algorithm).collect()
    }

    /// Whether it is in the set.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u16) != 0
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        let bits = algorithms.into_iter().map(|one| 1 << one as u16);
        Self(bits.fold(0, |set, bit| set | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_rfcs_in_files_too() {
        for (name, algorithm) in ALL {
            assert_eq!(Algorithm::parse(name), Some(algorithm));
            assert_eq!(algorithm.name(), name);
            let written = serde_json::to_value(algorithm).unwrap();
            assert_eq!(written, name);
        }
    }

    #[test]
    fn none_is_no_algorithm_in_any_spelling() {
        for bits in 0..16u8 {
            let spelled = b"none".iter().enumerate().map(|(at, letter)| {
                let upper = bits & (1 << at) != 0;
                char::from(if upper {
                    letter.to_ascii_uppercase()
                } else {
                    *letter
                })
            });
            let spelled: String = spelled.collect();
            assert_eq!(Algorithm::parse(&spelled), None, "{spelled}");
            assert!(serde_json::from_value::<Algorithm>(spelled.into()).is_err());
        }
        for other in ["", "rs256", "RS256 ", "HS1", "ES512", "RS256\0"] {
            assert_eq!(Algorithm::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let public = Algorithms::public();
        assert!(public.contains(Algorithm::Rs256) && public.contains(Algorithm::EdDsa));
        assert!(!public.contains(Algorithm::Hs256) && !public.contains(Algorithm::Hs512));
        assert!(Algorithms::shared().contains(Algorithm::Hs384));
        assert!(!Algorithms::shared().contains(Algorithm::Es256));
    }
}
