//! Pages of other origins (the Fetch standard, "CORS protocol").
//!
//! The proxy answers the questions that browsers ask before (preflights), so services need not know
//! of them, and marks answers that a page may read. What a service says on the matter itself is
//! taken out: two answers to one question make browsers refuse both.

use std::fmt::Write as _;

use super::PolicyError;
use crate::config::CorsConfig;
use crate::http::field::{FieldSet, Fields};

/// Who may use a route from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cors {
    origins: Vec<Origin>,
    credentials: bool,
    /// The answer to a preflight, but for what depends on who asks.
    permission: String,
    expose: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Any,
    Exactly(String),
    /// A scheme with `://`, and the end of a host with its dot.
    Below(String, String),
}

/// What a browser asks before it sends a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preflight<'a> {
    pub(crate) origin: &'a [u8],
    pub(crate) method: &'a [u8],
}

const SIMPLE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const DEFAULT_HEADERS: [&str; 2] = ["Content-Type", "Authorization"];
const DEFAULT_MAX_AGE_SECONDS: u64 = 600;

impl Cors {
    /// Compiles the settings of a route that takes `methods`.
    pub(super) fn compile(config: &CorsConfig, methods: &[String]) -> Result<Self, PolicyError> {
        let origins: Result<Vec<_>, _> = config.origins.iter().map(|o| Origin::parse(o)).collect();
        let origins = origins?;
        if config.credentials && origins.contains(&Origin::Any) {
            return Err(PolicyError::Credentials);
        }
        let or = |given: &[String], default: &[&str]| match given {
            [] => default.join(", "),
            given => given.join(", "),
        };
        let methods = match (&*config.methods, methods) {
            ([], []) => SIMPLE_METHODS.join(", "),
            ([], own) => own.join(", "),
            (given, _) => given.join(", "),
        };
        let age = config
            .max_age
            .map_or(DEFAULT_MAX_AGE_SECONDS, |age| age.0.as_secs());
        let headers = or(&config.headers, &DEFAULT_HEADERS);
        let expose = or(&config.expose, &["X-Trace-Id"]);
        for (name, value) in [
            ("methods", &methods),
            ("headers", &headers),
            ("expose", &expose),
        ] {
            super::edit::check_value(name, value)?;
        }
        Ok(Self {
            origins,
            credentials: config.credentials,
            permission: format!(
                "Access-Control-Allow-Methods: {methods}\r\n\
                 Access-Control-Allow-Headers: {headers}\r\n\
                 Access-Control-Max-Age: {age}\r\n"
            ),
            expose: format!("Access-Control-Expose-Headers: {expose}\r\n"),
        })
    }

    /// The fields of the answer to a preflight. Who may not come gets none, which a browser takes
    /// for a no.
    pub(crate) fn preflight(&self, asked: &Preflight<'_>) -> String {
        match self.permit(asked.origin) {
            Some(mut fields) => {
                fields.push_str(&self.permission);
                fields
            }
            None => "Vary: Origin\r\n".to_owned(),
        }
    }

    /// The fields that mark an answer for a page of `origin`.
    pub(crate) fn mark(&self, origin: Option<&[u8]>) -> String {
        match origin.and_then(|origin| self.permit(origin)) {
            Some(mut fields) => {
                fields.push_str(&self.expose);
                fields
            }
            None => "Vary: Origin\r\n".to_owned(),
        }
    }

    /// What a service says on the matter.
    pub(crate) fn without(fields: &Fields<'_, '_>) -> FieldSet {
        fields.starting_with("access-control-")
    }

    fn permit(&self, origin: &[u8]) -> Option<String> {
        let origin = std::str::from_utf8(origin).ok()?;
        if !self.origins.iter().any(|own| own.is(origin)) {
            return None;
        }
        let any = self.origins.contains(&Origin::Any);
        let mut fields = String::with_capacity(256);
        let named = if any { "*" } else { origin };
        // Writing to memory does not fail.
        let _ = write!(fields, "Access-Control-Allow-Origin: {named}\r\n");
        if self.credentials {
            fields.push_str("Access-Control-Allow-Credentials: true\r\n");
        }
        if !any {
            fields.push_str("Vary: Origin\r\n");
        }
        Some(fields)
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bad = || PolicyError::Origin(text.to_owned());
        let (scheme, host) = text.split_once("://").ok_or_else(bad)?;
        let fits = |part: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:[]_".contains(&byte);
            !part.is_empty() && part.bytes().all(fits)
        };
        let below = host.strip_prefix("*.");
        if !fits(scheme) || !fits(below.unwrap_or(host)) {
            return Err(bad());
        }
        Ok(match below {
            Some(host) => Self::Below(format!("{scheme}://"), format!(".{host}")),
            None => Self::Exactly(text.to_owned()),
        })
    }

    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(own) => own.eq_ignore_ascii_case(origin),
            Self::Below(scheme, end) => {
                let host = origin.strip_prefix(&**scheme);
                host.and_then(|host| host.strip_suffix(&**end))
                    .is_some_and(|rest| !rest.is_empty())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(toml: &str) -> Result<Cors, PolicyError> {
        Cors::compile(&toml::from_str(toml).unwrap(), &["PUT".to_owned()])
    }

    fn asked(origin: &str) -> Preflight<'_> {
        Preflight {
            origin: origin.as_bytes(),
            method: b"PUT",
        }
    }

    #[test]
    fn only_named_origins_get_a_permission() {
        let cors =
            cors("origins = ['https://a.example', 'https://*.b.example']\ncredentials = true")
                .unwrap();
        for origin in ["https://a.example", "https://x.b.example"] {
            let fields = cors.preflight(&asked(origin));
            assert!(
                fields.contains(&format!("Access-Control-Allow-Origin: {origin}\r\n")),
                "{fields}"
            );
            assert!(
                fields.contains("Access-Control-Allow-Methods: PUT\r\n"),
                "{fields}"
            );
            assert!(
                fields.contains("Access-Control-Allow-Credentials: true\r\n"),
                "{fields}"
            );
            assert!(fields.contains("Vary: Origin\r\n"), "{fields}");
            assert!(
                cors.mark(Some(origin.as_bytes()))
                    .contains("Expose-Headers: X-Trace-Id")
            );
        }
        for origin in [
            "http://a.example",
            "https://a.example.evil",
            "https://b.example",
            "null",
        ] {
            assert_eq!(
                cors.preflight(&asked(origin)),
                "Vary: Origin\r\n",
                "{origin}"
            );
        }
        assert_eq!(cors.mark(None), "Vary: Origin\r\n");
    }

    #[test]
    fn a_star_is_for_all_but_never_with_credentials() {
        let open = cors("origins = ['*']").unwrap();
        let fields = open.preflight(&asked("https://any.example"));
        assert!(
            fields.starts_with("Access-Control-Allow-Origin: *\r\n"),
            "{fields}"
        );
        assert!(!fields.contains("Vary"), "{fields}");
        assert_eq!(
            cors("origins = ['*']\ncredentials = true"),
            Err(PolicyError::Credentials)
        );
        assert!(cors("origins = ['a.example']").is_err());
    }
}
