//! The answer to credentials that are missing or wrong: a status, words for people, and the
//! challenge for programs (RFC 9110, 11.6.1; RFC 6750, 3).

use std::borrow::Cow;
use std::fmt::Write as _;

/// Why a request is not let in, ready to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400 (credentials that are there twice), 401, 403, or 503 (it cannot be told now). With
    /// `forward` also 3xx, which leads to a login.
    pub status: u16,
    /// For people. Nothing in it is secret.
    pub detail: Cow<'static, str>,
    /// The value of `WWW-Authenticate`; none where no credentials would help.
    pub challenge: Option<String>,
    /// Lines of more fields, which a forward-auth service sent.
    pub(super) fields: Vec<u8>,
}

impl Refusal {
    pub(super) fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            challenge: None,
            fields: Vec::new(),
        }
    }

    /// With a challenge of the scheme `Bearer`. `error` is a code of RFC 6750, 3.1, none if there
    /// were no credentials at all; `scopes` are what is needed.
    pub(super) fn bearer(
        mut self,
        realm: &str,
        error: Option<&'static str>,
        scopes: &[Box<str>],
    ) -> Self {
        let mut challenge = format!("Bearer realm=\"{realm}\"");
        if let Some(error) = error {
            // The texts of a quoted string must not end it; what is in them beside our own words
            // (claims' names) was written by the operator.
            let plain =
                |letter: &char| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\');
            let described: String = self.detail.chars().filter(plain).collect();
            // Writing to memory does not fail.
            let _ = write!(
                challenge,
                ", error=\"{error}\", error_description=\"{described}\""
            );
        }
        if !scopes.is_empty() {
            let _ = write!(challenge, ", scope=\"{}\"", scopes.join(" "));
        }
        self.challenge = Some(challenge);
        self
    }

    /// Writes the lines of fields that the answer has beside those of every answer.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        if let Some(challenge) = &self.challenge {
            for part in ["WWW-Authenticate: ", challenge, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(&self.fields);
    }
}
