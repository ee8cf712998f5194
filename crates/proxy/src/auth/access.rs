//! What a route asks of who comes: compiled once, checked for each request.

use serde_json::{Map, Value};

use super::{AccessConfig, AuthError, AuthKind, Identity};

/// What a route asks of who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    auth: Box<str>,
    is_optional: bool,
    scopes: Vec<Box<str>>,
    claims: Vec<Wanted>,
}

/// A claim that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: Box<str>,
    value: Box<str>,
}

/// What someone who is known lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A scope.
    #[error("the scope '{missing}' is needed here")]
    Scope {
        /// The first that is missing.
        missing: Box<str>,
        /// All that are needed.
        needed: Vec<Box<str>>,
    },
    /// A claim, or the right value of it.
    #[error("the claim '{0}' of the token does not allow this")]
    Claim(Box<str>),
}

impl Access {
    /// Compiles what a route says; none if everyone may come. `kind` finds the kind of an
    /// `[auth.NAME]`, `known` are the names there are, for the error.
    pub fn compile<'a>(
        config: &AccessConfig,
        known: impl IntoIterator<Item = (&'a str, AuthKind)>,
    ) -> Result<Option<Self>, AuthError> {
        let Some(name) = &config.auth else {
            return check_without(config).map(|()| None);
        };
        let known: Vec<_> = known.into_iter().collect();
        let kind = known.iter().find(|(own, _)| own == name);
        let Some((_, kind)) = kind else {
            return Err(AuthError::Unknown {
                name: name.clone(),
                known: names(&known),
            });
        };
        check_rules(config, *kind)?;
        let claims = config.claims.iter().map(|(name, value)| Wanted {
            name: name.as_str().into(),
            value: value.as_str().into(),
        });
        Ok(Some(Self {
            auth: name.as_str().into(),
            is_optional: config.auth_optional,
            scopes: config
                .scopes
                .iter()
                .map(|own| own.as_str().into())
                .collect(),
            claims: claims.collect(),
        }))
    }

    /// The NAME of the `[auth.NAME]`.
    pub fn auth(&self) -> &str {
        &self.auth
    }

    /// Whether those may come, too, who send no credentials.
    pub fn is_optional(&self) -> bool {
        self.is_optional
    }

    /// Whether someone who is known may come.
    pub fn permits(&self, identity: &Identity) -> Result<(), Denied> {
        let has = |scope: &str| identity.scopes().iter().any(|own| own == scope);
        if let Some(missing) = self.scopes.iter().find(|scope| !has(scope)) {
            return Err(Denied::Scope {
                missing: missing.clone(),
                needed: self.scopes.clone(),
            });
        }
        let lacks = |wanted: &&Wanted| !wanted.is_in(identity.claims());
        match self.claims.iter().find(lacks) {
            Some(wanted) => Err(Denied::Claim(wanted.name.clone())),
            None => Ok(()),
        }
    }
}

impl Wanted {
    fn is_in(&self, claims: &Map<String, Value>) -> bool {
        find(claims, &self.name).is_some_and(|found| match found {
            Value::Array(list) => list.iter().any(|one| is(one, &self.value)),
            one => is(one, &self.value),
        })
    }
}

/// A claim of this very name, or else what its dots lead to. (Names with dots are common: claims of
/// one's own are named by URLs.)
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// Texts are compared as they are; numbers and truth values as JSON writes them.
fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(value) => wanted == if *value { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn names(known: &[(&str, AuthKind)]) -> String {
    if known.is_empty() {
        return "atoll.toml has no [auth.NAME]; add one".to_owned();
    }
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    format!("atoll.toml has {}", names.join(", "))
}

/// Rules without anyone to hold to them would look like a lock and be none.
fn check_without(config: &AccessConfig) -> Result<(), AuthError> {
    let rules = [
        ("auth_optional", config.auth_optional),
        ("scopes", !config.scopes.is_empty()),
        ("claims", !config.claims.is_empty()),
    ];
    let why = "means nothing without `auth`: name an [auth.NAME]";
    match rules.into_iter().find(|(_, is_set)| *is_set) {
        Some((rule, _)) => Err(AuthError::Rule { rule, why }),
        None => Ok(()),
    }
}

fn check_rules(config: &AccessConfig, kind: AuthKind) -> Result<(), AuthError> {
    let has_rules = !config.scopes.is_empty() || !config.claims.is_empty();
    if config.auth_optional && has_rules {
        let why = "would keep out who lacks a scope or claim, but not who sends nothing at all: \
                   take it out, or `scopes` and `claims`";
        let rule = "auth_optional";
        return Err(AuthError::Rule { rule, why });
    }
    if config.auth_optional && kind == AuthKind::Forward {
        let why = "is decided by the service that is asked (kind = \"forward\"): let it answer 2xx";
        let rule = "auth_optional";
        return Err(AuthError::Rule { rule, why });
    }
    if !config.claims.is_empty() && kind != AuthKind::Jwt {
        let why = "need a token: use an [auth.NAME] of kind = \"jwt\"";
        return Err(AuthError::Rule {
            rule: "claims",
            why,
        });
    }
    if !config.scopes.is_empty() && matches!(kind, AuthKind::Forward | AuthKind::Mtls) {
        let why = "need a token or an API key: use an [auth.NAME] of kind = \"jwt\" or \"api_key\"";
        return Err(AuthError::Rule {
            rule: "scopes",
            why,
        });
    }
    // RFC 6749, 3.3; they are shown in `WWW-Authenticate`.
    let is_scope = |text: &String| {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        !text.is_empty() && text.bytes().all(plain)
    };
    if !config.scopes.iter().all(is_scope) {
        let why = "are words of visible ASCII without quotes and backslashes, one for each";
        return Err(AuthError::Rule {
            rule: "scopes",
            why,
        });
    }
    if config.claims.keys().any(String::is_empty) {
        let why = "need names";
        return Err(AuthError::Rule {
            rule: "claims",
            why,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::identity::Facts;
    use serde_json::json;
    use std::sync::Arc;

    const KNOWN: [(&str, AuthKind); 4] = [
        ("customers", AuthKind::Jwt),
        ("partners", AuthKind::ApiKey),
        ("login", AuthKind::Forward),
        ("machines", AuthKind::Mtls),
    ];

    fn compile(text: &str) -> Result<Option<Access>, AuthError> {
        Access::compile(&toml::from_str(text).unwrap(), KNOWN)
    }

    fn someone(scopes: &[&str], claims: &Value) -> Identity {
        let facts = Facts {
            scopes: scopes.iter().map(|own| (*own).to_owned()).collect(),
            claims: claims.as_object().unwrap().clone(),
            ..Facts::default()
        };
        Identity::new(&Arc::from("customers"), facts)
    }

    #[test]
    fn all_scopes_are_needed() {
        let access = compile("auth = 'customers'\nscopes = ['a', 'b']");
        let access = access.unwrap().unwrap();
        let permits = |scopes: &[&str]| access.permits(&someone(scopes, &json!({})));
        assert_eq!(permits(&["c", "b", "a"]), Ok(()));
        for lacking in [&["a"][..], &[], &["ab"], &["a b"], &["A", "B"]] {
            assert!(permits(lacking).is_err(), "{lacking:?}");
        }
        let error = permits(&["a"]).unwrap_err();
        assert_eq!(error.to_string(), "the scope 'b' is needed here");
    }

    #[test]
    fn claims_are_exact_or_in_a_list() {
        let permits = |name: &str, value: &str, claims: Value| {
            let text = format!("auth = 'customers'\nclaims = {{ \"{name}\" = '{value}' }}");
            let access = compile(&text).unwrap().unwrap();
            access.permits(&someone(&[], &claims)).is_ok()
        };
        assert!(permits("role", "admin", json!({"role": "admin"})));
        assert!(permits("role", "admin", json!({"role": ["user", "admin"]})));
        assert!(permits("level", "3", json!({"level": 3})));
        assert!(permits("ok", "true", json!({"ok": true})));
        assert!(permits("a.roles", "x", json!({"a": {"roles": ["x"]}})));
        assert!(permits("http://a.b/c", "x", json!({"http://a.b/c": "x"})));
        assert!(permits("a.b.c", "x", json!({"a": {"b.c": "x"}})));
        for other in [
            json!({}),
            json!({"role": "administrator"}),
            json!({"role": "Admin"}),
            json!({"role": "user admin"}),
            json!({"role": [["admin"]]}),
            json!({"role": {"admin": true}}),
            json!({"role": null}),
            json!({"roles": "admin"}),
        ] {
            assert!(!permits("role", "admin", other.clone()), "{other}");
        }
        assert!(!permits("a.b", "x", json!({"a": {"b": "y"}, "b": "x"})));
    }

    #[test]
    fn rules_that_do_nothing_are_mistakes() {
        assert_eq!(compile(""), Ok(None));
        for (text, expected) in [
            ("scopes = ['a']", "`scopes` means nothing without `auth`"),
            ("auth_optional = true", "means nothing without `auth`"),
            ("auth = 'x'", "atoll.toml has customers, partners"),
            (
                "auth = 'customers'\nauth_optional = true\nscopes = ['a']",
                "who sends nothing at all",
            ),
            ("auth = 'login'\nauth_optional = true", "let it answer 2xx"),
            (
                "auth = 'login'\nscopes = ['a']",
                "need a token or an API key",
            ),
            (
                "auth = 'machines'\nscopes = ['a']",
                "need a token or an API key",
            ),
            ("auth = 'partners'\nclaims = { a = 'b' }", "need a token"),
            ("auth = 'customers'\nscopes = ['a b']", "are words"),
            ("auth = 'customers'\nscopes = ['a\"']", "are words"),
        ] {
            let error = compile(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let optional = compile("auth = 'customers'\nauth_optional = true");
        let optional = optional.unwrap().unwrap();
        assert!(optional.is_optional() && optional.auth() == "customers");
    }
}
