//! API keys: `atoll_ID_SECRET`, where the id finds the key and the secret proves it.
//!
//! What is kept is the SHA-256 of both. A slow hash (Argon2, bcrypt) would be wrong here: it makes
//! guessing dear, which passwords need because people choose them. A secret is 256 bits of the
//! system's randomness, which nobody guesses at any speed; and a slow hash on every request would let
//! anyone burn our CPU with wrong keys. The id is hashed along, so that two keys never have the same
//! digest and a digest cannot be moved to another key.
//!
//! Hex has no characters that break a word: a double click takes the whole key, and scanners for
//! leaked secrets find it by its beginning.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use atoll_base::Timestamp;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// What is kept of an API key. Nobody can make the key from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The part of the key that finds it: 12 hex digits. No secret.
    pub id: String,
    /// SHA-256 of id and secret, 64 hex digits.
    pub digest: String,
    /// Who has it, for people; and the subject that services see. Several keys may have one name, as
    /// when one takes over from another.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is refused. None: never.
    pub expires: Option<Timestamp>,
    /// When it was taken back. It is refused whatever the moment.
    pub revoked: Option<Timestamp>,
}

/// The keys in use: shared by workers, replaced as a whole.
#[derive(Debug, Default)]
pub struct ApiKeys(ArcSwap<Table>);

/// The keys at one time.
#[derive(Debug, Default)]
pub struct Table {
    by_id: HashMap<String, ApiKey>,
    generation: u64,
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Not of the form, not there, or with another secret: nobody learns which.
    #[error("the API key is not known")]
    Unknown,
    /// Over.
    #[error("the API key has expired")]
    Expired,
    /// Taken back.
    #[error("the API key was revoked")]
    Revoked,
}

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes for a key")]
pub struct NoRandomness;

const START: &str = "atoll_";
/// In hex digits. A clash of ids is found when the key is stored.
const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 64;

static GENERATION: AtomicU64 = AtomicU64::new(1);

impl ApiKey {
    /// Makes a key. The text is shown once, to whoever uses it; the rest is stored.
    pub fn create(
        name: &str,
        scopes: Vec<String>,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(String, Self), NoRandomness> {
        let mut random = [0; (ID_LENGTH + SECRET_LENGTH) / 2];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| NoRandomness)?;
        let text = hex(&random);
        let (id, secret) = text.split_at(ID_LENGTH);
        let key = Self {
            id: id.to_owned(),
            digest: hex(&digest(id, secret)),
            name: name.to_owned(),
            scopes,
            created: now,
            expires,
            revoked: None,
        };
        Ok((format!("{START}{id}_{secret}"), key))
    }

    fn judge(&self, secret: &str, now: Timestamp) -> Result<(), KeyRefusal> {
        let given = hex(&digest(&self.id, secret));
        let same = given.as_bytes().ct_eq(self.digest.as_bytes());
        if !bool::from(same) {
            return Err(KeyRefusal::Unknown);
        }
        // Only who has the secret learns what became of the key.
        if self.revoked.is_some() {
            return Err(KeyRefusal::Revoked);
        }
        match self.expires {
            Some(end) if now >= end => Err(KeyRefusal::Expired),
            _ => Ok(()),
        }
    }
}

impl ApiKeys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let own = Self::default();
        own.replace(keys);
        own
    }

    /// Puts other keys into use, at once: a key that is revoked or missing is refused from now on.
    pub fn replace(&self, keys: impl IntoIterator<Item = ApiKey>) {
        let by_id = keys.into_iter().map(|key| (key.id.clone(), key));
        self.0.store(Arc::new(Table {
            by_id: by_id.collect(),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        }));
    }

    /// The keys in use.
    pub fn current(&self) -> Guard<Arc<Table>> {
        self.0.load()
    }

    /// Finds the key that this is the text of.
    pub fn verify(&self, text: &[u8], now: Timestamp) -> Result<ApiKey, KeyRefusal> {
        self.current().verify(text, now).cloned()
    }
}

impl Table {
    /// Finds the key that this is the text of.
    pub fn verify(&self, text: &[u8], now: Timestamp) -> Result<&ApiKey, KeyRefusal> {
        let (id, secret) = split(text).ok_or(KeyRefusal::Unknown)?;
        let key = self.by_id.get(id).ok_or(KeyRefusal::Unknown)?;
        key.judge(secret, now)?;
        Ok(key)
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }
}

/// Id and secret.
fn split(text: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(START)?;
    let (id, secret) = text.split_once('_')?;
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH).then_some((id, secret))
}

fn digest(id: &str, secret: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in ["atoll api key:", id, ":", secret] {
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn made() -> (String, ApiKey) {
        ApiKey::create(
            "billing",
            vec!["orders:read".to_owned()],
            Some(at(100)),
            at(0),
        )
        .unwrap()
    }

    #[test]
    fn a_key_is_known_by_its_whole_text() {
        let (text, key) = made();
        assert_eq!(text.len(), "atoll_".len() + 12 + 1 + 64);
        let keys = ApiKeys::new([key.clone(), made().1]);
        assert_eq!(keys.verify(text.as_bytes(), at(1)), Ok(key));
        for place in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[place] = if other[place] == b'0' { b'1' } else { b'0' };
            let refused = keys.verify(&other, at(1));
            assert_eq!(refused, Err(KeyRefusal::Unknown), "{place}");
        }
        for other in [&text[..text.len() - 1], &format!("{text}0"), "", "atoll_"] {
            let refused = keys.verify(other.as_bytes(), at(1));
            assert_eq!(refused, Err(KeyRefusal::Unknown), "{other}");
        }
    }

    #[test]
    fn the_secret_of_one_key_is_of_no_use_with_another() {
        let ((first, a), (second, b)) = (made(), made());
        assert_ne!(first, second);
        let keys = ApiKeys::new([a, b]);
        let mixed = format!("{}{}", &first[..18], &second[18..]);
        assert_eq!(
            keys.verify(mixed.as_bytes(), at(1)),
            Err(KeyRefusal::Unknown)
        );
    }

    #[test]
    fn a_key_ends_when_it_expires_or_is_taken_back() {
        let (text, mut key) = made();
        let keys = ApiKeys::new([key.clone()]);
        let verify = |keys: &ApiKeys, now| keys.verify(text.as_bytes(), now).map(|key| key.name);
        assert!(verify(&keys, Timestamp::from_micros(99_999_999)).is_ok());
        assert_eq!(verify(&keys, at(100)), Err(KeyRefusal::Expired));
        key.revoked = Some(at(50));
        keys.replace([key]);
        assert_eq!(verify(&keys, at(1)), Err(KeyRefusal::Revoked));
        let wrong = format!("{}0", &text[..text.len() - 1]);
        let wrong = if wrong == text {
            format!("{}1", &text[..text.len() - 1])
        } else {
            wrong
        };
        assert_eq!(
            keys.verify(wrong.as_bytes(), at(1)),
            Err(KeyRefusal::Unknown),
            "only who has the secret learns more"
        );
        keys.replace([]);
        assert_eq!(verify(&keys, at(1)), Err(KeyRefusal::Unknown));
    }

    #[test]
    fn what_is_stored_does_not_have_the_secret() {
        let (text, key) = made();
        let stored = serde_json::to_string(&key).unwrap();
        assert!(!stored.contains(&text[19..]), "{stored}");
        assert_eq!(serde_json::from_str::<ApiKey>(&stored).unwrap(), key);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..120)) {
            let keys = ApiKeys::default();
            prop_assert_eq!(keys.verify(&text, at(1)), Err(KeyRefusal::Unknown));
        }
    }
}
