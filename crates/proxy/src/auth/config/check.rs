//! Which settings go together.

use atoll_base::{HumanDuration, ServiceName};
use http::{HeaderName, Uri};

use super::{AuthConfig, AuthError, AuthKind, KeySource};
use crate::auth::certificate::check_pattern;

/// More would let tokens live on that have ended.
const LEEWAY_MAX: HumanDuration = HumanDuration::secs(5 * 60);
/// More would let people in for too long whom the service has turned away.
const CACHE_MAX: HumanDuration = HumanDuration::secs(60 * 60);

/// Fields that frame, route or trace a message, and those that only the proxy sets.
const TAKEN: [&str; 13] = [
    "client-cert",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
];
const TAKEN_STARTS: [&str; 3] = ["atoll-", "proxy-", "x-forwarded-"];

pub(super) fn all(config: &AuthConfig, name: &str) -> Result<(), AuthError> {
    // It stands in header fields, and in `realm="…"`.
    ServiceName::new(name).map_err(|_| AuthError::Name(name.to_owned()))?;
    check_foreign(config)?;
    if let Some(header) = &config.header {
        check_field("header", header)?;
    }
    match config.kind {
        AuthKind::Jwt => check_jwt(config),
        AuthKind::ApiKey => check_api_key(config),
        AuthKind::Forward => check_forward(config),
        AuthKind::Mtls => {
            let subjects = config.subjects.iter();
            let names = config.names.iter();
            subjects
                .map(|text| ("subjects", text))
                .chain(names.map(|text| ("names", text)))
                .try_for_each(|(key, text)| check_pattern(key, text))
        }
    }
}

/// Nothing may be set that has no effect.
fn check_foreign(config: &AuthConfig) -> Result<(), AuthError> {
    use AuthKind::{ApiKey, Forward, Jwt, Mtls};
    let settings: [(&'static str, bool, &[AuthKind]); 16] = [
        ("jwks", config.jwks.is_some(), &[Jwt]),
        ("jwks_file", config.jwks_file.is_some(), &[Jwt]),
        ("secret_env", config.secret_env.is_some(), &[Jwt]),
        ("algorithms", !config.algorithms.is_empty(), &[Jwt]),
        ("issuer", config.issuer.is_some(), &[Jwt]),
        ("audience", !config.audience.is_empty(), &[Jwt]),
        ("leeway", config.leeway.is_some(), &[Jwt]),
        ("header", config.header.is_some(), &[Jwt, ApiKey]),
        ("cookie", config.cookie.is_some(), &[Jwt]),
        ("query", config.query.is_some(), &[ApiKey]),
        ("url", config.url.is_some(), &[Forward]),
        ("headers", !config.headers.is_empty(), &[Forward]),
        ("copy", !config.copy.is_empty(), &[Forward]),
        ("cache", config.cache.is_some(), &[Forward]),
        ("subjects", !config.subjects.is_empty(), &[Mtls]),
        ("names", !config.names.is_empty(), &[Mtls]),
    ];
    let kind = config.kind;
    let foreign = |(key, is_set, kinds): (&'static str, bool, &[AuthKind])| {
        (is_set && !kinds.contains(&kind)).then_some(AuthError::Foreign { kind, key })
    };
    settings.into_iter().find_map(foreign).map_or(Ok(()), Err)
}

fn check_jwt(config: &AuthConfig) -> Result<(), AuthError> {
    let kind = config.kind;
    let sources = [
        config.jwks.is_some(),
        config.jwks_file.is_some(),
        config.secret_env.is_some(),
    ];
    let count = sources.into_iter().filter(|is_set| *is_set).count();
    let what = "exactly one of `jwks` (a URL), `jwks_file` and `secret_env`";
    let source = config.key_source().filter(|_| count == 1);
    let source = source.ok_or(AuthError::Needs { kind, what })?;
    check_algorithms(config, source)?;
    if let KeySource::Url(url) = source {
        check_url("jwks", url)?;
    }
    if let KeySource::Env(variable) = source
        && (variable.is_empty() || variable.contains(['=', '\0']))
    {
        let text = variable.to_owned();
        let why = "is no name of an environment variable";
        let key = "secret_env";
        return Err(AuthError::Text { key, text, why });
    }
    let texts = config.issuer.iter().map(|text| ("issuer", text));
    let texts = texts.chain(config.audience.iter().map(|text| ("audience", text)));
    for (key, text) in texts {
        if text.trim().is_empty() {
            let (text, why) = (text.clone(), "is empty: leave it out, or name it");
            return Err(AuthError::Text { key, text, why });
        }
    }
    if let Some(cookie) = &config.cookie {
        check_token("cookie", cookie)?;
    }
    check_most("leeway", config.leeway, LEEWAY_MAX)
}

fn check_algorithms(config: &AuthConfig, source: KeySource<'_>) -> Result<(), AuthError> {
    for algorithm in &config.algorithms {
        let (source_key, why) = match source {
            KeySource::Url(_) if algorithm.is_shared() => (
                "jwks",
                "a published key is no secret; use `secret_env`, or another algorithm",
            ),
            KeySource::Env(_) if !algorithm.is_shared() => (
                "secret_env",
                "it needs a public key; use `jwks` or `jwks_file`, or HS256",
            ),
            _ => continue,
        };
        let name = algorithm.name();
        return Err(AuthError::Algorithm {
            name,
            source_key,
            why,
        });
    }
    Ok(())
}

fn check_api_key(config: &AuthConfig) -> Result<(), AuthError> {
    match &config.query {
        Some(query) => check_token("query", query),
        None => Ok(()),
    }
}

fn check_forward(config: &AuthConfig) -> Result<(), AuthError> {
    let kind = config.kind;
    let what = "`url`: what is asked, such as http://NAME/path";
    let url = config.url.as_deref();
    let url = url.ok_or(AuthError::Needs { kind, what })?;
    check_url("url", url)?;
    if config.forward_target().is_none() {
        let (key, text) = ("url", url.to_owned());
        let why = "must lead to one of your services: http://NAME/path";
        return Err(AuthError::Text { key, text, why });
    }
    for name in &config.headers {
        check_field("headers", name)?;
    }
    for name in &config.copy {
        check_field("copy", name)?;
    }
    check_most("cache", config.cache, CACHE_MAX)
}

fn check_most(
    key: &'static str,
    given: Option<HumanDuration>,
    most: HumanDuration,
) -> Result<(), AuthError> {
    match given {
        Some(given) if given.0 > most.0 => Err(AuthError::TooLong { key, given, most }),
        _ => Ok(()),
    }
}

fn check_field(key: &'static str, name: &str) -> Result<(), AuthError> {
    let bad = |why| {
        let name = name.to_owned();
        Err(AuthError::Field { key, name, why })
    };
    let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else {
        return bad("is no name of a header field");
    };
    let starts = TAKEN_STARTS.iter();
    // Services of some languages take `_` for `-`.
    let field = field.as_str().replace('_', "-");
    let taken = TAKEN.contains(&&*field) || starts.into_iter().any(|own| field.starts_with(own));
    if taken {
        return bad("frames, routes or traces the message, or only the proxy sets it");
    }
    Ok(())
}

/// What needs no quoting in cookies and queries.
fn check_token(key: &'static str, name: &str) -> Result<(), AuthError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(is_plain) {
        let name = name.to_owned();
        let why = "must have letters, digits, '-', '_' and '.' only";
        return Err(AuthError::Field { key, name, why });
    }
    Ok(())
}

fn check_url(key: &'static str, url: &str) -> Result<(), AuthError> {
    let bad = || AuthError::Url {
        key,
        url: url.to_owned(),
    };
    let parsed: Uri = url.parse().map_err(|_| bad())?;
    let scheme = parsed
        .scheme_str()
        .is_some_and(|own| matches!(own, "http" | "https"));
    // Names and passwords do not belong into addresses; what is behind `#` is never sent.
    let plain = !url.contains(['@', '#']) && parsed.host().is_some_and(|host| !host.is_empty());
    if scheme && plain { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AccessConfig;

    fn check(text: &str) -> Result<(), String> {
        let config: AuthConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check("customers").map_err(|error| error.to_string())
    }

    #[test]
    fn what_goes_together_is_taken() {
        for text in [
            "kind = 'jwt'\njwks = 'https://id.example.com/jwks.json'\nissuer = 'https://id.example.com'\naudience = ['shop']",
            "kind = 'jwt'\njwks = 'http://id/keys'\nalgorithms = ['ES256', 'EdDSA']\ncookie = '__Host-session'",
            "kind = 'jwt'\njwks_file = 'keys.json'\nalgorithms = ['RS256', 'HS256']\nleeway = '5m'",
            "kind = 'jwt'\nsecret_env = 'SECRET'\nheader = 'X-Token'",
            "kind = 'api_key'",
            "kind = 'api_key'\nheader = 'X-Key'\nquery = 'key'",
            "kind = 'forward'\nurl = 'http://login/check'\ncopy = ['X-User']\nheaders = ['Cookie']\ncache = '30s'",
            "kind = 'mtls'",
            "kind = 'mtls'\nsubjects = ['CN=*, O=Example']\nnames = ['*.example.com']",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    /// Each of these, with this kind, is refused with these words.
    fn refused(kind: &str, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let error = check(&format!("kind = '{kind}'\n{text}")).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn mistakes_about_tokens_say_what_to_do() {
        let (one, must) = ("needs exactly one of `jwks`", "must read http://NAME/path");
        refused(
            "jwt",
            &[
                ("", one),
                ("jwks_file = 'a'\nsecret_env = 'A'", one),
                ("secret_env = 'A'\nurl = 'http://a/'", "`url` means nothing"),
                ("jwks = 'file:///etc/keys'", must),
                ("jwks = 'https://me:secret@id/keys'", must),
                ("jwks = '/keys'", must),
            ],
        );
        let with_secret = |text: &str, expected: &str| {
            refused("jwt", &[(&format!("secret_env = 'A'\n{text}"), expected)]);
        };
        let public = "RS256 does not go with `secret_env`";
        with_secret("algorithms = ['RS256']", public);
        with_secret("algorithms = ['none']", "unknown variant `none`");
        with_secret("leeway = '6m'", "`leeway` is 6m and may be 5m at most");
        with_secret("audience = ['']", "is empty");
        with_secret("issuer = ' '", "is empty");
        with_secret("cookie = 'a;b'", "`cookie`: 'a;b' must have letters");
        let shared = "HS256 does not go with `jwks`";
        let name = "is no name of an environment variable";
        refused("jwt", &[("secret_env = 'A=B'", name)]);
        let published = "jwks = 'http://a/'\nalgorithms = ['HS256']";
        refused("jwt", &[(published, shared)]);
    }

    #[test]
    fn mistakes_about_others_say_what_to_do() {
        refused("basic", &[("", "unknown variant `basic`")]);
        refused(
            "api_key",
            &[
                ("cache = '1s'", "`cache` means nothing"),
                ("header = 'a b'", "is no name of a header field"),
                ("query = 'a&b'", "must have letters"),
            ],
        );
        refused("forward", &[("", "needs `url`")]);
        for (text, expected) in [
            ("copy = ['Atoll-Subject']", "only the proxy sets it"),
            ("copy = ['content_length']", "frames"),
            ("headers = ['Host']", "frames"),
            ("cache = '2h'", "`cache` is 2h"),
        ] {
            let text = format!("url = 'http://a/'\n{text}");
            refused("forward", &[(&text, expected)]);
        }
        refused(
            "mtls",
            &[
                ("header = 'a'", "`header` means nothing"),
                ("names = ['']", "`names`"),
                ("subjects = ['billing']", "is no subject"),
            ],
        );
        let config = AuthConfig::new(AuthKind::ApiKey);
        for name in ["", "A", "a\"b", "a b", "a\r\n"] {
            assert!(config.check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn every_key_is_described_for_editors() {
        for schema in [
            schemars::schema_for!(AuthConfig),
            schemars::schema_for!(AccessConfig),
        ] {
            let schema = serde_json::to_value(schema).unwrap();
            for (name, property) in schema["properties"].as_object().unwrap() {
                let described = property["description"].is_string();
                assert!(described, "{name}: {property}");
            }
        }
    }
}
