//! Who a request is from, once that is verified, and how services are told.
//!
//! Services get header fields: `Atoll-Auth`, `Atoll-Subject`, `Atoll-Scopes` and `Atoll-Claims`.
//! They may believe them, because every `Atoll-*` field that comes from outside is taken out, in any
//! spelling (`Atoll_Subject` too), on every route, with or without authentication.
//!
//! The lines are written once, when the credentials are verified; a request whose token is remembered
//! copies them. Values come from tokens, which anyone may have filled: whatever is not visible ASCII
//! is percent-encoded, so that no value can end its line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use atoll_base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Who a request is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    scheme: Arc<str>,
    facts: Facts,
    /// The header fields that say all this.
    lines: Box<[u8]>,
}

/// What is known of someone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) subject: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) claims: Map<String, Value>,
    pub(super) key: Option<String>,
    pub(super) expires: Option<Timestamp>,
    /// More lines for the service.
    pub(super) fields: Vec<u8>,
}

/// The most that `Atoll-Claims`, and `Atoll-Scopes`, have. Common servers take 8 KiB for a whole head.
const VALUE_MAX: usize = 4096;

impl Identity {
    pub(super) fn new(scheme: &Arc<str>, facts: Facts) -> Self {
        let lines = lines(scheme, &facts).into_boxed_slice();
        let scheme = Arc::clone(scheme);
        Self {
            scheme,
            facts,
            lines,
        }
    }

    /// The NAME of the `[auth.NAME]` that verified it.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whom it is about: `sub` of a token, the name of an API key, the subject of a certificate.
    pub fn subject(&self) -> Option<&str> {
        self.facts.subject.as_deref()
    }

    /// What it allows.
    pub fn scopes(&self) -> &[String] {
        &self.facts.scopes
    }

    /// Everything that a token says; empty for others.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.facts.claims
    }

    /// The id of an API key.
    pub fn key(&self) -> Option<&str> {
        self.facts.key.as_deref()
    }

    /// From when on it is not valid any more.
    pub fn expires(&self) -> Option<Timestamp> {
        self.facts.expires
    }

    /// The text of a claim, to tell clients apart by. None for objects and lists.
    pub fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.facts.claims.get(name)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Writes the lines for the service: `Atoll-Auth` (the NAME), `Atoll-Subject`, `Atoll-Scopes`
    /// (separated by spaces) and `Atoll-Claims` (base64url of JSON), the latter two left out if
    /// longer than 4 KiB; and what a forward-auth service sends along.
    pub fn write_headers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
    }
}

fn lines(scheme: &str, facts: &Facts) -> Vec<u8> {
    let mut text = format!("Atoll-Auth: {}\r\n", Visible(scheme));
    // Writing to memory does not fail.
    if let Some(subject) = facts.subject.as_deref().filter(|own| !own.is_empty()) {
        let _ = write!(text, "Atoll-Subject: {}\r\n", Visible(subject));
    }
    let scopes = facts.scopes.iter();
    let scopes: Vec<_> = scopes.map(|scope| Visible(scope).to_string()).collect();
    let scopes = scopes.join(" ");
    if !scopes.is_empty() && scopes.len() <= VALUE_MAX {
        let _ = write!(text, "Atoll-Scopes: {scopes}\r\n");
    }
    if let Some(claims) = encode(&facts.claims) {
        let _ = write!(text, "Atoll-Claims: {claims}\r\n");
    }
    let mut lines = text.into_bytes();
    lines.extend_from_slice(&facts.fields);
    lines
}

fn encode(claims: &Map<String, Value>) -> Option<String> {
    if claims.is_empty() {
        return None;
    }
    let json = serde_json::to_vec(claims).ok()?;
    let text = URL_SAFE_NO_PAD.encode(json);
    (text.len() <= VALUE_MAX).then_some(text)
}

/// Text for the value of a field: percent-encoded but for visible ASCII.
struct Visible<'a>(&'a str);

impl std::fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'%' | ..=b' ' | 0x7f.. => write!(f, "%{byte:02X}")?,
                _ => f.write_char(char::from(byte))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn written(facts: Facts) -> String {
        let mut out = Vec::new();
        Identity::new(&Arc::from("customers"), facts).write_headers(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn services_are_told_who_it_is() {
        let facts = Facts {
            subject: Some("user-7".to_owned()),
            scopes: vec!["a:read".to_owned(), "b".to_owned()],
            claims: json!({"sub": "user-7"}).as_object().unwrap().clone(),
            ..Facts::default()
        };
        assert_eq!(
            written(facts),
            "Atoll-Auth: customers\r\nAtoll-Subject: user-7\r\nAtoll-Scopes: a:read b\r\n\
             Atoll-Claims: eyJzdWIiOiJ1c2VyLTcifQ\r\n"
        );
        assert_eq!(written(Facts::default()), "Atoll-Auth: customers\r\n");
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let with = |length: usize| Facts {
            scopes: vec!["s".repeat(length)],
            claims: json!({"a": "x".repeat(length)})
                .as_object()
                .unwrap()
                .clone(),
            ..Facts::default()
        };
        let lines = written(with(3064));
        assert!(lines.contains("Atoll-Claims") && lines.contains("Atoll-Scopes"));
        assert!(!written(with(3065)).contains("Atoll-Claims"));
        assert!(!written(with(4097)).contains("Atoll-Scopes"));
    }

    proptest! {
        #[test]
        fn no_value_ends_its_line(subject in "\\PC{0,5}[\r\n\0 %]{0,3}\\PC{0,5}", scope in any::<String>()) {
            let subject = Some(subject);
            let claims = json!({ "a": scope }).as_object().unwrap().clone();
            let facts = Facts { subject, scopes: vec![scope], claims, ..Facts::default() };
            let lines = written(facts.clone());
            prop_assert!(lines.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')));
            let all = lines.strip_suffix("\r\n").unwrap();
            for line in all.split("\r\n") {
                prop_assert!(line.starts_with("Atoll-") && !line.contains(['\r', '\n']));
            }
            if let Some(subject) = facts.subject.filter(|own| !own.is_empty()) {
                let line = format!("Atoll-Subject: {}\r\n", Visible(&subject));
                prop_assert!(lines.contains(&line));
            }
        }
    }
}
