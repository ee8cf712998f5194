//! What a worker remembers of credentials that it verified: an ES256 signature costs as much as many
//! whole requests, and clients send the same token again and again.
//!
//! Each worker has its own, without a lock. An entry is found by the exact bytes of the credentials
//! together with a [`Stamp`]: who verified them, with which keys. So another `[auth.NAME]` never takes
//! them, and a change of keys ends all verdicts by the old ones without touching a single entry. An
//! entry ends with the token.
//!
//! **Bounded** by 4096 entries and 4 MiB of credentials, in sets of eight; in a full set the one that
//! was not used for longest goes. Only what was verified comes in: nobody fills it with made-up
//! tokens. For the same reason the hash is of the last 32 bytes alone, which are of the signature:
//! who could make them collide could sign.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use atoll_base::Timestamp;

use super::Identity;

/// The credentials that one worker verified.
#[derive(Debug, Default)]
pub struct TokenCache {
    secret: RandomState,
    /// Empty until the first entry: most nodes verify nothing.
    slots: Vec<Option<Entry>>,
    /// Of credentials, in sum.
    bytes: usize,
    /// Where room was made last.
    hand: usize,
    /// Counts uses.
    clock: u64,
}

/// Who verified credentials, and with which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) authenticator: u64,
    pub(super) generation: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    stamp: Stamp,
    used: u64,
    until: Timestamp,
    credentials: Box<[u8]>,
    identity: Rc<Identity>,
}

const WAYS: usize = 8;
const SLOTS: usize = 4096;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// 43 characters of base64url are 256 bits; this is more than can be found by trying.
const HASHED: usize = 32;

impl TokenCache {
    /// Nothing is remembered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whom these credentials were verified to be of, if they still are.
    pub(super) fn get(
        &mut self,
        stamp: Stamp,
        credentials: &[u8],
        now: Timestamp,
    ) -> Option<Rc<Identity>> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = self.hash(credentials);
        let set = set_of(hash);
        let found = self.slots[set..set + WAYS].iter_mut().find_map(|slot| {
            slot.as_mut().filter(|entry| {
                entry.hash == hash && entry.stamp == stamp && *entry.credentials == *credentials
            })
        })?;
        if now >= found.until {
            return None;
        }
        self.clock += 1;
        found.used = self.clock;
        Some(Rc::clone(&found.identity))
    }

    /// Remembers credentials until that moment.
    pub(super) fn insert(
        &mut self,
        stamp: Stamp,
        credentials: &[u8],
        identity: Rc<Identity>,
        until: Timestamp,
    ) {
        if credentials.len() > BYTES_MAX / SLOTS * WAYS {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let hash = self.hash(credentials);
        let set = set_of(hash);
        let place = self.place(set, hash, stamp, credentials);
        self.free(place);
        while self.bytes + credentials.len() > BYTES_MAX {
            self.hand = (self.hand + 1) % SLOTS;
            self.free(self.hand);
        }
        self.bytes += credentials.len();
        self.clock += 1;
        self.slots[place] = Some(Entry {
            hash,
            stamp,
            used: self.clock,
            until,
            credentials: credentials.into(),
            identity,
        });
    }

    /// The place of the same credentials with older keys, else a free one, else the one that was
    /// not used for longest.
    fn place(&self, set: usize, hash: u64, stamp: Stamp, credentials: &[u8]) -> usize {
        let ways = &self.slots[set..set + WAYS];
        let same = ways.iter().position(|slot| {
            slot.as_ref().is_some_and(|entry| {
                entry.hash == hash
                    && entry.stamp.authenticator == stamp.authenticator
                    && *entry.credentials == *credentials
            })
        });
        let oldest = || {
            let used = |slot: &Option<Entry>| slot.as_ref().map_or(0, |entry| entry.used);
            let ways = ways.iter().enumerate();
            ways.min_by_key(|(_, slot)| used(slot))
                .map_or(0, |(at, _)| at)
        };
        set + same.unwrap_or_else(oldest)
    }

    fn free(&mut self, place: usize) {
        if let Some(entry) = self.slots[place].take() {
            self.bytes -= entry.credentials.len();
        }
    }

    fn hash(&self, credentials: &[u8]) -> u64 {
        let from = credentials.len().saturating_sub(HASHED);
        self.secret.hash_one(&credentials[from..])
    }

    /// Of any bytes, for keys whose end says little.
    pub(super) fn hash_whole(&self, bytes: &[u8]) -> u64 {
        self.secret.hash_one(bytes)
    }
}

/// Where the set of a hash begins.
fn set_of(hash: u64) -> usize {
    (hash as usize % (SLOTS / WAYS)) * WAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::identity::Facts;
    use crate::auth::testkit::at;
    use std::sync::Arc;

    const STAMP: Stamp = Stamp {
        authenticator: 1,
        generation: 1,
    };

    fn someone() -> Rc<Identity> {
        Rc::new(Identity::new(&Arc::from("a"), Facts::default()))
    }

    #[test]
    fn only_the_same_bytes_by_the_same_keys_in_time_are_found() {
        let mut cache = TokenCache::new();
        let token = [b'x'; 100];
        assert!(cache.get(STAMP, &token, at(0)).is_none());
        cache.insert(STAMP, &token, someone(), at(10));
        assert!(cache.get(STAMP, &token, at(9)).is_some());
        assert!(cache.get(STAMP, &token, at(10)).is_none(), "it has ended");
        let mut other = token;
        other[0] = b'y';
        assert!(
            cache.get(STAMP, &other, at(0)).is_none(),
            "the same hash, another token"
        );
        for (authenticator, generation) in [(2, 1), (1, 2)] {
            let stamp = Stamp {
                authenticator,
                generation,
            };
            assert!(cache.get(stamp, &token, at(0)).is_none());
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut cache = TokenCache::new();
        cache.insert(STAMP, b"used", someone(), at(10));
        for number in 0..100_000u32 {
            cache.insert(STAMP, &number.to_be_bytes(), someone(), at(10));
            assert!(cache.get(STAMP, b"used", at(0)).is_some());
        }
        assert_eq!(cache.slots.len(), SLOTS);
        for number in 0..10_000u32 {
            let mut token = vec![0; 8000];
            token[7996..].copy_from_slice(&number.to_be_bytes());
            cache.insert(STAMP, &token, someone(), at(10));
            assert!(cache.bytes <= BYTES_MAX);
        }
        let entries = cache.slots.iter().flatten();
        let bytes: usize = entries.map(|entry| entry.credentials.len()).sum();
        assert_eq!(bytes, cache.bytes);
        assert!(bytes > BYTES_MAX - 8000, "room is used");
        cache.insert(STAMP, &vec![0; 100_000], someone(), at(10));
        assert!(cache.get(STAMP, &vec![0; 100_000], at(0)).is_none());
    }

    #[test]
    fn the_same_token_takes_one_place() {
        let mut cache = TokenCache::new();
        for generation in 0..1000 {
            let stamp = Stamp {
                authenticator: 1,
                generation,
            };
            cache.insert(stamp, b"token", someone(), at(10));
        }
        assert_eq!(cache.slots.iter().flatten().count(), 1);
    }
}
