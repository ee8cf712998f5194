//! The hash by which Kafka's own client spreads keys over partitions.
//!
//! All who publish must agree on it: a key whose records lie in two partitions has lost its order.

use std::sync::atomic::{AtomicU32, Ordering};

/// Spreads records over partitions: those of a key to one, those without to all in turns.
#[derive(Debug, Default)]
pub struct Spread(AtomicU32);

impl Spread {
    /// The partition of a record, of `count`.
    pub fn choose(&self, key: Option<&[u8]>, count: i32) -> i32 {
        let count = u32::try_from(count).unwrap_or(1).max(1);
        let chosen = match key {
            Some(key) => murmur2(key) & 0x7fff_ffff,
            None => self.0.fetch_add(1, Ordering::Relaxed),
        };
        i32::try_from(chosen % count).unwrap_or(0)
    }
}

/// Austin Appleby's MurmurHash2 with the seed of Kafka's Java client, by which it spreads keys.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let word = word.try_into().map_or(0, u32::from_le_bytes);
        let mixed = word.wrapping_mul(M);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ mixed;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_own_client_sends_them() {
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
