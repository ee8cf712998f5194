//! The keys that tokens are checked with: read from a JSON Web Key Set (RFC 7517), shared by all
//! workers, replaced as a whole.
//!
//! **A key verifies only what fits it.** The pair of key and algorithm is matched in one place
//! ([`Key::verifies`]); an RSA key has no bytes that could be taken for a secret, so that "key
//! confusion" (RFC 8725, 2.1) has nothing to confuse. A set from the network has no secrets at all:
//! `oct` keys are taken only from files and the environment.
//!
//! **What is not understood is left out**, not refused: issuers publish keys of kinds to come beside
//! those in use. A set without any key of use is refused, so that a broken document never takes
//! working keys away.
//!
//! The cryptography is `ring`, which TLS has in the binary already. `jsonwebtoken` would bring a
//! second one (`rsa`, `p256`, …: several times slower, and `rsa` is not constant in time), and would
//! still leave to us most of what is strict here.

mod handle;
mod material;
mod read;
mod refresh;

use std::fmt;

pub use self::handle::Keys;
use self::material::Material;
pub use self::refresh::Refresh;
use super::Algorithm;

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: Option<Box<str>>,
    /// The only algorithm that its issuer uses it for.
    algorithm: Option<Algorithm>,
    material: Material,
}

/// Keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<String>,
    /// Differs between sets that were in use after each other.
    generation: u64,
}

/// Where a key set comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file of this machine: it may have secrets (`oct`).
    Local,
    /// The network: secrets are left out.
    Remote,
}

/// A key set that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No JSON Web Key Set.
    #[error("this is no JSON Web Key Set: it should read {{\"keys\": [{{\"kty\": …}}, …]}}")]
    NoSet,
    /// More than an issuer has.
    #[error("the key set has {size} {unit}; at most {most} are read")]
    TooLarge {
        /// How much it has.
        size: usize,
        /// Of what.
        unit: &'static str,
        /// How much is read.
        most: usize,
    },
    /// No key that tokens can be checked with.
    #[error("no key of the set can check signatures: {}", reasons(.0))]
    Empty(Vec<String>),
    /// A secret that can be guessed.
    #[error(
        "the secret has {0} bytes and must have 32 or more: make one with `openssl rand -base64 48`"
    )]
    ShortSecret(usize),
}

/// The largest document that is read.
pub const SET_BYTES_MAX: usize = 256 * 1024;
/// Issuers have two or three; those of many clients some dozens.
const SET_KEYS_MAX: usize = 256;

fn reasons(skipped: &[String]) -> String {
    match skipped {
        [] => "it is empty".to_owned(),
        some => some.join("; "),
    }
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of other kinds or uses are skipped.
    pub fn parse(text: &[u8], origin: Origin) -> Result<Self, KeyError> {
        read::set(text, origin)
    }

    /// A secret that issuer and proxy share, taken as its bytes: at least 32 (RFC 7518, 3.2).
    /// HS384 needs 48 of them, HS512 64.
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        let material = Material::secret(secret).ok_or(KeyError::ShortSecret(secret.len()))?;
        let (id, algorithm) = (None, None);
        Ok(Self {
            keys: vec![Key {
                id,
                algorithm,
                material,
            }],
            ..Self::default()
        })
    }

    /// Why keys were left out, a line for each.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has this name.
    pub(super) fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The keys that may have signed with this algorithm: those of the name, and those that have
    /// none.
    pub(super) fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            let named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            named && key.fits(algorithm)
        })
    }

    /// Which set in use it is; verdicts by one set mean nothing for the next.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && self.material.fits(algorithm)
    }

    /// Whether the signature is of this key, made with this algorithm. False if they do not fit.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm) && self.material.verifies(algorithm, message, signature)
    }
}

impl fmt::Debug for Key {
    /// Without what it is made of: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("kind", &self.material.kind())
            .finish_non_exhaustive()
    }
}
