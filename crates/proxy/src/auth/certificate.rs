//! Which clients' certificates are let in.
//!
//! That a certificate is genuine is settled in the handshake; here it is only compared with patterns.
//! A `*` never crosses what separates parts: in a subject `,`, `+` and `=`; in a name `.`, `/`, `:`
//! and `@`. So `*.example.com` is one label (RFC 9525, 6.3), and no common name can pretend to be
//! more than one attribute of a pattern.

use super::AuthError;
use crate::tls::ClientIdentity;

/// Patterns of subjects and names.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates {
    subjects: Vec<Box<str>>,
    names: Vec<Box<str>>,
}

const SUBJECT_PARTS: &[u8] = b",+=";
const NAME_PARTS: &[u8] = b"./:@";

impl Certificates {
    pub(super) fn new(subjects: &[String], names: &[String]) -> Self {
        let compile = |texts: &[String]| texts.iter().map(|own| own.as_str().into()).collect();
        Self {
            subjects: compile(subjects),
            names: compile(names),
        }
    }

    /// Whether its subject or one of its names is let in; every one is where there are no patterns.
    pub(super) fn take(&self, client: &ClientIdentity) -> bool {
        if self.subjects.is_empty() && self.names.is_empty() {
            return true;
        }
        let subject = |pattern: &str| fits(pattern, &client.subject, SUBJECT_PARTS);
        let name = |pattern: &str| {
            let mut names = client.names.iter();
            names.any(|name| fits(pattern, name, NAME_PARTS))
        };
        self.subjects.iter().any(|pattern| subject(pattern))
            || self.names.iter().any(|pattern| name(pattern))
    }
}

/// Checks a pattern of `subjects` or `names`.
pub(super) fn check_pattern(key: &'static str, text: &str) -> Result<(), AuthError> {
    let bad = |why| {
        let text = text.to_owned();
        Err(AuthError::Text { key, text, why })
    };
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return bad("is no pattern: write a text, with '*' for a part of it");
    }
    if key == "subjects" && !text.contains('=') {
        return bad("is no subject: write 'CN=billing, O=Example', all of it in this order");
    }
    Ok(())
}

/// Whether the text is as the pattern, with any run of bytes but `parts` for each `*`.
fn fits(pattern: &str, text: &str, parts: &[u8]) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&text[from]) => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((place, reach)) if !parts.contains(&text[reach]) => {
                    star = Some((place, reach + 1));
                    at = place + 1;
                    from = reach + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_one_part() {
        let name = |pattern, text| fits(pattern, text, NAME_PARTS);
        assert!(name("billing.example.com", "Billing.example.com"));
        assert!(name("*.example.com", "billing.example.com"));
        assert!(name("b*g.example.com", "billing.example.com"));
        assert!(name("spiffe://a/*", "spiffe://a/billing"));
        assert!(name("*@example.com", "me@example.com"));
        for (pattern, text) in [
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", "example.com"),
            ("*.example.com", "a.example.com.evil.org"),
            ("*", "a.b"),
            ("spiffe://a/*", "spiffe://a/b/c"),
            ("billing", "billing2"),
            ("b*", "c"),
        ] {
            assert!(!name(pattern, text), "{pattern} {text}");
        }
        let subject = |pattern, text| fits(pattern, text, SUBJECT_PARTS);
        assert!(subject("CN=*, O=Example", "CN=billing.eu, O=Example"));
        assert!(!subject("CN=*, O=Example", "CN=x, O=Example, O=Other"));
        assert!(!subject("CN=*, O=Example", "O=Other, CN=x, O=Example"));
        assert!(!subject("CN=*", "CN=x, O=Example"));
    }

    proptest! {
        #[test]
        fn any_pattern_ends(pattern in "[ab*.]{0,12}", text in "[ab.]{0,24}") {
            let without = pattern.replace('*', "");
            let fit = fits(&pattern, &text, NAME_PARTS);
            prop_assert!(!fit || text.len() >= without.len());
            prop_assert_eq!(fits(&text, &text, NAME_PARTS), true);
        }
    }
}
