//! Asking a service of the user's whether a request may come (forward-auth).
//!
//! What the service is told is the method, host and path, and the few fields that the configuration
//! names; never the body. 2xx lets the request in, 401 and 403 are passed on with their challenge,
//! and a redirect with its target and cookies: that is how logins begin. Anything else, and silence,
//! is no permission: 503.
//!
//! A permission is remembered only if asked for, and only for exactly the same question: the service
//! may let someone read what they may not write.

use std::time::Duration;

use atoll_base::ServiceName;

use super::{AuthConfig, Credentials, Refusal};
use crate::http::field::Fields;

/// How a service is asked.
#[derive(Debug, Clone)]
pub struct Forward {
    service: ServiceName,
    path: Box<str>,
    headers: Vec<Box<str>>,
    copy: Vec<Box<str>>,
    cache: Duration,
}

/// What the service answered.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: Fields<'a, 'a>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It may come, and the service gets these lines.
    Come(Vec<u8>),
    Stay(Refusal),
}

impl Forward {
    /// None without a URL, which [`AuthConfig::check`] has refused.
    pub(super) fn compile(config: &AuthConfig) -> Option<Self> {
        let names = |given: &[String]| given.iter().map(|name| name.as_str().into()).collect();
        let headers = if config.headers.is_empty() {
            vec!["Authorization".into(), "Cookie".into()]
        } else {
            names(&config.headers)
        };
        let (service, path) = config.forward_target()?;
        Some(Self {
            service,
            path: path.into(),
            headers,
            copy: names(&config.copy),
            cache: config.cache.map_or(Duration::ZERO, |cache| cache.0),
        })
    }

    /// Who is asked.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The fields that the service gets from the answer. What a client sends of them is taken out.
    pub fn copied(&self) -> &[Box<str>] {
        &self.copy
    }

    /// How long a permission is remembered.
    pub(super) fn cache(&self) -> Duration {
        self.cache
    }

    /// Writes the head of the question, but for its end: a GET with `X-Forwarded-Method`,
    /// `X-Forwarded-Host`, `X-Forwarded-Uri`, where the request comes from, and the fields that are
    /// passed along. The trace is of whoever sends it.
    pub fn write_head(&self, asked: &Credentials<'_>, out: &mut Vec<u8>) {
        let (service, path) = (self.service.as_str(), &*self.path);
        let first = ["GET ", path, " HTTP/1.1\r\nHost: ", service, "\r\n"];
        out.extend_from_slice(first.concat().as_bytes());
        self.write_question(asked, out);
    }

    fn write_question(&self, asked: &Credentials<'_>, out: &mut Vec<u8>) {
        let query = if asked.query.is_empty() { "" } else { "?" };
        for (name, value) in [
            ("X-Forwarded-Method: ", [asked.method, "", ""]),
            ("X-Forwarded-Uri: ", [asked.path, query, asked.query]),
        ] {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.concat().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        line("X-Forwarded-Host", asked.host, out);
        out.extend_from_slice(asked.origin);
        copy(&asked.fields, &self.headers, out);
    }

    /// Writes what a permission is remembered by. Its end is a hash by `hash` of the rest.
    pub(super) fn write_key(
        &self,
        asked: &Credentials<'_>,
        hash: impl FnOnce(&[u8]) -> u64,
        out: &mut Vec<u8>,
    ) {
        // Lines that cannot end within: two questions never read the same.
        self.write_question(asked, out);
        let hash = hash(out);
        out.extend_from_slice(&hash.to_le_bytes());
    }

    pub(super) fn judge(&self, answer: &Answer<'_>) -> Judgement {
        let mut lines = Vec::new();
        let named = |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<Vec<_>>();
        match answer.status {
            200..=299 => {
                copy(&answer.fields, &self.copy, &mut lines);
                Judgement::Come(lines)
            }
            status @ (301 | 302 | 303 | 307 | 308) => {
                copy(
                    &answer.fields,
                    &named(&["Location", "Set-Cookie"]),
                    &mut lines,
                );
                Judgement::Stay(Refusal {
                    fields: lines,
                    ..Refusal::new(status, "log in first")
                })
            }
            status @ (401 | 403) => {
                let passed = named(&["WWW-Authenticate", "Set-Cookie"]);
                copy(&answer.fields, &passed, &mut lines);
                Judgement::Stay(Refusal {
                    fields: lines,
                    ..Refusal::new(status, "you may not do this, or not without logging in")
                })
            }
            _ => Judgement::Stay(Self::unreachable()),
        }
    }

    /// The service could not be asked, or gave no answer that says anything.
    pub fn unreachable() -> Refusal {
        Refusal::new(503, "it cannot be checked now who you are; try again later")
    }
}

fn copy(fields: &Fields<'_, '_>, names: &[Box<str>], out: &mut Vec<u8>) {
    for name in names {
        let values = fields.iter();
        let values = values.filter(|(own, _)| own.eq_ignore_ascii_case(name));
        values.for_each(|(_, value)| line(name, value, out));
    }
}

fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
