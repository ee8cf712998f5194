//! How a client proves who it is: PLAIN (RFC 4616), SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, 7677).
//!
//! Pure: the server's nonce comes from the caller. For a name that nobody has, SCRAM goes on to its
//! end with a salt that is as constant as a real one, so that names cannot be told from others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq as _;

/// A way of proving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself.
    Plain,
    /// A proof by SHA-256.
    Scram256,
    /// A proof by SHA-512.
    Scram512,
}

/// A proof under way.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

/// What the server answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// This, and wait for more.
    Challenge(Vec<u8>),
    /// This, and the client is who it says.
    Proven {
        /// The last message.
        reply: Vec<u8>,
        /// Its name.
        name: String,
    },
    /// It is not, or speaks nonsense.
    Refused,
}

#[derive(Debug)]
enum State {
    Begun,
    Challenged {
        name: String,
        /// None: nobody has this name.
        secret: Option<String>,
        salt: Vec<u8>,
        /// The client's part of the nonce.
        theirs: String,
        nonce: String,
        first: String,
    },
    Over,
}

/// The rounds of PBKDF2: the least that RFC 7677 allows. The secrets have 256 random bits, which no
/// number of rounds protects better.
const ROUNDS: u32 = 4096;

impl Mechanism {
    /// All of them, by the names of the registry.
    pub const NAMES: [&'static str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

    /// The mechanism of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Self::Plain),
            "SCRAM-SHA-256" => Some(Self::Scram256),
            "SCRAM-SHA-512" => Some(Self::Scram512),
            _ => None,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Scram512 => hmac::HMAC_SHA512,
            Self::Plain | Self::Scram256 => hmac::HMAC_SHA256,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        self.hmac().digest_algorithm()
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Scram512 => pbkdf2::PBKDF2_HMAC_SHA512,
            Self::Plain | Self::Scram256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }
}

impl Exchange {
    /// Nothing was said yet.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            state: State::Begun,
        }
    }

    /// Takes a message of the client. `secret_of` knows the passwords; `nonce` is random.
    pub fn step(
        &mut self,
        message: &[u8],
        secret_of: impl FnOnce(&str) -> Option<String>,
        nonce: &str,
    ) -> Step {
        let done = match (self.mechanism, &self.state) {
            (_, State::Over) => None,
            (Mechanism::Plain, _) => plain(message, secret_of),
            (_, State::Begun) => self.first(message, secret_of, nonce),
            (_, State::Challenged { .. }) => self.last(message),
        };
        if !matches!(done, Some(Step::Challenge(_))) {
            self.state = State::Over;
        }
        done.unwrap_or(Step::Refused)
    }

    /// `n,,n=NAME,r=NONCE`
    fn first(
        &mut self,
        message: &[u8],
        secret_of: impl FnOnce(&str) -> Option<String>,
        nonce: &str,
    ) -> Option<Step> {
        let text = std::str::from_utf8(message).ok()?;
        // Without channel binding; an identity to act as is not supported, unless it is the same.
        let bare = text
            .strip_prefix("n,")
            .or_else(|| text.strip_prefix("y,"))?;
        let (_, bare) = bare.split_once(',')?;
        let mut parts = bare.split(',');
        let name = parts.next()?.strip_prefix("n=")?;
        let theirs = parts.next()?.strip_prefix("r=")?;
        if theirs.is_empty() {
            return None;
        }
        let name = name.replace("=2C", ",").replace("=3D", "=");
        let secret = secret_of(&name);
        let salt = digest::digest(&digest::SHA256, format!("atoll salt {name}").as_bytes());
        let salt = salt.as_ref().get(..16)?.to_vec();
        let theirs = theirs.to_owned();
        let nonce = format!("{theirs}{nonce}");
        let reply = format!("r={nonce},s={},i={ROUNDS}", STANDARD.encode(&salt));
        let first = format!("{bare},{reply}");
        self.state = State::Challenged {
            name,
            secret,
            salt,
            theirs,
            nonce,
            first,
        };
        Some(Step::Challenge(reply.into_bytes()))
    }

    /// `c=biws,r=NONCE,p=PROOF`
    fn last(&self, message: &[u8]) -> Option<Step> {
        let State::Challenged {
            name,
            secret,
            salt,
            theirs,
            nonce,
            first,
        } = &self.state
        else {
            return None;
        };
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        parts.next()?.strip_prefix("c=")?;
        let sent = parts.next()?.strip_prefix("r=")?;
        // librdkafka before 2.6.1 puts its own part before the whole once more. What counts, that
        // our part is in it and the proof is over what was said, holds all the same.
        if sent != nonce && sent.strip_prefix(theirs.as_str()) != Some(nonce.as_str()) {
            return None;
        }
        let proof = STANDARD.decode(proof).ok()?;
        let salted = self.salted(secret.as_deref().unwrap_or_default(), salt);
        let said = format!("{first},{without_proof}");
        let client_key = self.sign(&salted, b"Client Key");
        let stored = digest::digest(self.mechanism.digest(), &client_key);
        let signature = self.sign(stored.as_ref(), said.as_bytes());
        let expected: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        if !bool::from(expected.ct_eq(&proof)) || secret.is_none() {
            return None;
        }
        let server_key = self.sign(&salted, b"Server Key");
        let verifier = STANDARD.encode(self.sign(&server_key, said.as_bytes()));
        Some(Step::Proven {
            reply: format!("v={verifier}").into_bytes(),
            name: name.clone(),
        })
    }

    fn salted(&self, secret: &str, salt: &[u8]) -> Vec<u8> {
        let mut out = vec![0; self.mechanism.digest().output_len()];
        let rounds = std::num::NonZeroU32::new(ROUNDS).unwrap_or(std::num::NonZeroU32::MIN);
        pbkdf2::derive(
            self.mechanism.pbkdf2(),
            rounds,
            salt,
            secret.as_bytes(),
            &mut out,
        );
        out
    }

    fn sign(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(self.mechanism.hmac(), key);
        hmac::sign(&key, message).as_ref().to_vec()
    }
}

/// `[authorization identity] NUL name NUL password`
fn plain(message: &[u8], secret_of: impl FnOnce(&str) -> Option<String>) -> Option<Step> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split('\0');
    let (acts_as, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    let known = secret_of(name);
    let same = known
        .as_deref()
        .unwrap_or_default()
        .as_bytes()
        .ct_eq(password.as_bytes());
    let may_act = acts_as.is_empty() || acts_as == name;
    (known.is_some() && bool::from(same) && may_act && parts.next().is_none()).then(|| {
        Step::Proven {
            reply: Vec::new(),
            name: name.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_of(name: &str) -> Option<String> {
        (name == "user").then(|| "pencil".to_owned())
    }

    #[test]
    fn plain_takes_the_password_and_nothing_else() {
        let ask = |text: &str| {
            Exchange::new(Mechanism::Plain).step(text.as_bytes(), secret_of, "") != Step::Refused
        };
        assert!(ask("\0user\0pencil"));
        assert!(ask("user\0user\0pencil"));
        for wrong in [
            "\0user\0pen",
            "\0user\0",
            "\0nobody\0",
            "\0nobody\0pencil",
            "root\0user\0pencil",
            "\0user\0pencil\0",
            "user",
            "",
        ] {
            assert!(!ask(wrong), "{wrong:?}");
        }
    }

    /// The client's side, from the same RFC but by other hands: keys first, proof from them.
    fn prove(mechanism: Mechanism, name: &str, password: &str, nonce: &str) -> Step {
        let mut exchange = Exchange::new(mechanism);
        let bare = format!("n={name},r=abc");
        let first = exchange.step(format!("n,,{bare}").as_bytes(), secret_of, "xyz");
        let Step::Challenge(challenge) = first else {
            return first;
        };
        let challenge = String::from_utf8(challenge).unwrap();
        let salt = challenge
            .split(",s=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        let salted = exchange.salted(password, &STANDARD.decode(salt).unwrap());
        let without = format!("c=biws,r={nonce}");
        let said = format!("{bare},{challenge},{without}");
        let key = exchange.sign(&salted, b"Client Key");
        let stored = digest::digest(mechanism.digest(), &key);
        let signature = exchange.sign(stored.as_ref(), said.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let last = format!("{without},p={}", STANDARD.encode(proof));
        let end = exchange.step(last.as_bytes(), secret_of, "unused");
        assert_eq!(exchange.step(last.as_bytes(), secret_of, ""), Step::Refused);
        end
    }

    #[test]
    fn scram_proves_who_knows_the_password() {
        for mechanism in [Mechanism::Scram256, Mechanism::Scram512] {
            // The second is how librdkafka before 2.6.1 says it.
            for nonce in ["abcxyz", "abcabcxyz"] {
                let proven = prove(mechanism, "user", "pencil", nonce);
                assert!(matches!(proven, Step::Proven { ref name, .. } if name == "user"));
                for (name, password) in [("user", "pen"), ("nobody", "")] {
                    assert_eq!(prove(mechanism, name, password, nonce), Step::Refused);
                }
            }
            for nonce in [
                "abcxyz0",
                "xabcxyz",
                "abcabcabcxyz",
                "abc",
                "xyz",
                "abcabc",
                "",
            ] {
                assert_eq!(prove(mechanism, "user", "pencil", nonce), Step::Refused);
            }
        }
    }

    #[test]
    fn a_name_that_nobody_has_looks_like_any_other() {
        let ask = |name: &str| {
            let first = format!("n,,n={name},r=abc");
            Exchange::new(Mechanism::Scram256).step(first.as_bytes(), secret_of, "xyz")
        };
        assert!(matches!(ask("nobody"), Step::Challenge(_)));
        assert_eq!(ask("nobody"), ask("nobody"));
        for broken in [
            "",
            "n",
            "n,,",
            "n,,n=a",
            "n,,n=a,r=",
            "p=x,,n=a,r=b",
            "\u{0}",
        ] {
            let step = Exchange::new(Mechanism::Scram256).step(broken.as_bytes(), secret_of, "x");
            assert_eq!(step, Step::Refused, "{broken:?}");
        }
    }
}
