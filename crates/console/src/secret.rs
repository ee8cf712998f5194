//! Secrets that we give out: 256 random bits in a text that a double click takes whole.
//!
//! Only a SHA-256 of them is kept. A slow hash would be wrong: nobody guesses 256 bits at any speed,
//! and anyone could burn our processor with wrong ones. Looking one up by its hash tells nothing by
//! the time that it takes.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::Error;

const BYTES: usize = 32;

/// A new secret with this beginning.
pub(crate) fn make(beginning: &str) -> Result<String, Error> {
    let mut random = [0; BYTES];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| Error::NoRandomness)?;
    Ok(format!("{beginning}{}", hex(&random)))
}

/// What is kept of it.
pub(crate) fn hash(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// The short name of a secret, which is none itself.
pub(crate) fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
