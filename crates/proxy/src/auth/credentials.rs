//! Where the credentials of a request are.

use super::AuthConfig;
use super::cookie::{self, Cookie};
use crate::http::field::Fields;
use crate::tls::ClientIdentity;

/// What a request has to show. Everything is as routing saw it.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The fields of its head.
    pub fields: Fields<'a, 'a>,
    /// Who the client is by its certificate.
    pub client: Option<&'a ClientIdentity>,
    /// Its method.
    pub method: &'a str,
    /// Its host.
    pub host: &'a [u8],
    /// The path, in normal form.
    pub path: &'a str,
    /// What is behind the question mark.
    pub query: &'a str,
    /// Lines of fields that say where it comes from: address, scheme, certificate.
    pub origin: &'a [u8],
}

/// Where to look, in this order: field, cookie, parameter.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Beside it, or without it, `Authorization: Bearer …`.
    header: Option<Box<str>>,
    bearer: bool,
    cookie: Option<Box<str>>,
    query: Option<Box<str>>,
}

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    None,
    One(&'a [u8]),
    /// There are several in one place.
    Several,
}

impl Places {
    /// Of tokens: the field of the configuration, or else `Authorization`; then the cookie.
    pub(super) fn of_token(config: &AuthConfig) -> Self {
        let header = own_header(config.header.as_deref());
        Self {
            bearer: header.is_none(),
            header,
            cookie: config.cookie.as_deref().map(Into::into),
            query: None,
        }
    }

    /// Of API keys: the field, then `Authorization`, then the parameter.
    pub(super) fn of_key(config: &AuthConfig) -> Self {
        Self {
            header: own_header(Some(config.header.as_deref().unwrap_or("X-Api-Key"))),
            bearer: true,
            cookie: None,
            query: config.query.as_deref().map(Into::into),
        }
    }

    pub(super) fn find<'a>(&self, credentials: &Credentials<'a>) -> Found<'a> {
        let fields = &credentials.fields;
        if let Some(header) = &self.header {
            match single(fields, header) {
                Found::None => {}
                Found::One(value) => return Found::One(after_scheme(value).unwrap_or(value)),
                Found::Several => return Found::Several,
            }
        }
        if self.bearer {
            match single(fields, "authorization") {
                Found::None => {}
                Found::One(value) => {
                    // Another scheme is someone else's business.
                    if let Some(token) = after_scheme(value) {
                        return Found::One(token);
                    }
                }
                Found::Several => return Found::Several,
            }
        }
        if let Some(name) = &self.cookie {
            match cookie::of(fields, name) {
                Cookie::None => {}
                Cookie::One(value) => return Found::One(value),
                Cookie::Several => return Found::Several,
            }
        }
        match &self.query {
            Some(name) => parameter(credentials.query, name),
            None => Found::None,
        }
    }
}

/// `Authorization` is looked at as it is, in its own form.
fn own_header(name: Option<&str>) -> Option<Box<str>> {
    let name = name.filter(|name| !name.eq_ignore_ascii_case("authorization"));
    name.map(Into::into)
}

fn single<'a>(fields: &Fields<'a, 'a>, name: &str) -> Found<'a> {
    let mut values = fields
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Found::None,
        (Some((_, value)), None) => Found::One(value.trim_ascii()),
        (Some(_), Some(_)) => Found::Several,
    }
}

/// What follows `Bearer` (RFC 6750, 2.1); schemes are told apart without case.
fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let space = rest.first() == Some(&b' ');
    (scheme.eq_ignore_ascii_case(b"bearer") && space).then(|| rest.trim_ascii())
}

/// Nothing is decoded: keys have no characters that need it.
fn parameter<'a>(query: &'a str, name: &str) -> Found<'a> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(own, _)| *own == name);
    match (values.next(), values.next()) {
        (None, _) => Found::None,
        (Some((_, value)), None) => Found::One(value.as_bytes()),
        (Some(_), Some(_)) => Found::Several,
    }
}
