//! Tokens at the edge, with keys that a service of the application publishes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::testkit::{Answer, App, holds, until};

/// Someone who issues tokens.
struct Issuer {
    id: &'static str,
    key: EcdsaKeyPair,
}

impl Issuer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pkcs8 = pkcs8.unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self {
            id,
            key: key.unwrap(),
        }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": x, "y": y})
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", encode(signature))
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    u64::try_from(atoll_base::Timestamp::now().as_micros() / 1_000_000).unwrap()
}

fn claims(changes: &Value) -> Value {
    let mut claims =
        json!({"iss": "shop", "sub": "ada", "scope": "orders:read", "exp": now() + 600});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn ask(app: &App, path: &str, token: Option<&str>) -> Answer {
    let field = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let field = field.unwrap_or_default();
    app.exchange(&format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nAtoll-Subject: root\r\n{field}\r\n"
    ))
}

/// `accounts` publishes keys; `orders` wants tokens.
fn shop(issuers: &[&Issuer]) -> App {
    let app = App::new();
    let text = app.read("atoll.toml");
    let auth =
        "[auth.customers]\nkind = \"jwt\"\njwks = \"http://accounts/jwks\"\nissuer = \"shop\"\n";
    app.write("atoll.toml", &format!("{text}\n{auth}"));
    publish(&app, issuers);
    app.service("orders")
        .table("[[route]]\npath = \"/orders/**\"\nauth = \"customers\"\nscopes = [\"orders:read\"]")
        .table("[[route]]\npath = \"/orders/admin\"\nauth = \"customers\"\nclaims = { role = \"admin\" }")
        .table("[[route]]\npath = \"/orders/open\"\nauth = \"customers\"\nauth_optional = true")
        .table("[[route]]\npath = \"/orders/limited\"\nauth = \"customers\"\nrate_limit = { requests = 2, per = \"1h\", by = \"claim:sub\" }")
        .write();
    app
}

fn publish(app: &App, issuers: &[&Issuer]) {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    let jwks = json!({ "keys": keys }).to_string();
    app.service("accounts").env("JWKS", &jwks).write();
}

#[test]
fn a_token_opens_the_door_and_the_service_learns_whose_it_is() {
    let issuer = Issuer::new("one");
    let app = shop(&[&issuer]);
    app.up();
    let token = issuer.token(&claims(&json!({})));
    let seen = ask(&app, "/orders/x", Some(&token)).has(200).json();
    assert_eq!(seen["headers"]["atoll-subject"], "ada");
    assert_eq!(seen["headers"]["atoll-scopes"], "orders:read");
    assert_eq!(seen["headers"]["atoll-auth"], "customers");
    let missing = ask(&app, "/orders/x", None).has(401);
    holds(
        missing.field("www-authenticate").unwrap(),
        "Bearer realm=\"customers\"",
    );
    assert_eq!(missing.json()["type"], "urn:atoll:problem:unauthorized");
    // Who may come without a token has no name.
    let open = ask(&app, "/orders/open", None).has(200).json();
    assert_eq!(open["headers"]["atoll-subject"], Value::Null);
    ask(&app, "/orders/open", Some("nonsense")).has(401);
}

#[test]
fn what_is_wrong_with_a_token_keeps_it_out() {
    let (issuer, stranger) = (Issuer::new("one"), Issuer::new("one"));
    let app = shop(&[&issuer]);
    app.up();
    let good = issuer.token(&claims(&json!({})));
    ask(&app, "/orders/x", Some(&good)).has(200);
    let unsigned = |alg: &str| {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "one"});
        let claims = claims(&json!({}));
        format!(
            "{}.{}.",
            encode(header.to_string()),
            encode(claims.to_string())
        )
    };
    for (what, token) in [
        (
            "expired",
            issuer.token(&claims(&json!({"exp": now() - 120}))),
        ),
        (
            "not yet valid",
            issuer.token(&claims(&json!({"nbf": now() + 600}))),
        ),
        (
            "of another issuer",
            issuer.token(&claims(&json!({"iss": "other"}))),
        ),
        ("by another key", stranger.token(&claims(&json!({})))),
        ("unsigned", unsigned("none")),
        ("unsigned, spelled otherwise", unsigned("nOnE")),
        ("cut", good[..good.len() - 4].to_owned()),
    ] {
        let answer = ask(&app, "/orders/x", Some(&token));
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
        holds(
            answer.field("www-authenticate").unwrap(),
            "error=\"invalid_token\"",
        );
    }
    let other_scope = issuer.token(&claims(&json!({"scope": "orders:write"})));
    let answer = ask(&app, "/orders/x", Some(&other_scope)).has(403);
    holds(
        answer.field("www-authenticate").unwrap(),
        "insufficient_scope",
    );
    ask(&app, "/orders/admin", Some(&good)).has(403);
    let admin = issuer.token(&claims(&json!({"role": ["staff", "admin"]})));
    ask(&app, "/orders/admin", Some(&admin)).has(200);
}

#[test]
fn new_keys_are_fetched_when_a_token_needs_them() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let app = shop(&[&old]);
    app.up();
    let claims = claims(&json!({}));
    ask(&app, "/orders/x", Some(&old.token(&claims))).has(200);
    publish(&app, &[&new]);
    app.cli(&["deploy", "accounts"]).succeeded();
    // Not more than one fetch in ten seconds: the first question may come too soon.
    until("the new key is known", || {
        ask(&app, "/orders/x", Some(&new.token(&claims))).status == 200
    });
    ask(&app, "/orders/x", Some(&old.token(&claims))).has(401);
}

#[test]
fn a_limit_can_be_for_each_subject() {
    let issuer = Issuer::new("one");
    let app = shop(&[&issuer]);
    app.up();
    let token = |name: &str| issuer.token(&claims(&json!({"sub": name})));
    for status in [200, 200, 429] {
        ask(&app, "/orders/limited", Some(&token("ada"))).has(status);
    }
    ask(&app, "/orders/limited", Some(&token("bob"))).has(200);
}

#[test]
fn mistakes_about_authentication_are_found_before_anything_runs() {
    let app = App::new();
    let text = app.read("atoll.toml");
    let auth = "[auth.a]\nkind = \"jwt\"\n[auth.b]\nkind = \"jwt\"\njwks = \"http://acounts/jwks\"\n[auth.c]\nkind = \"forward\"\nurl = \"http://accounts/check\"\n";
    app.write("atoll.toml", &format!("{text}\n{auth}"));
    app.service("accounts")
        .table("[[route]]\npath = \"/x\"\nauth = \"customers\"")
        .write();
    let said = app.cli(&["check"]).ended(3);
    for part in [
        "jwks",
        "did you mean `accounts`?",
        "not there yet",
        "customers",
    ] {
        holds(&said.err, part);
    }
}
