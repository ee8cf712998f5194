//! Tokens at the edge, with keys that a service of the application publishes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::testkit::{Answer, App, freeze, holds, until};

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
fn a_key_file_that_is_replaced_is_used() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let app = App::new();
    let text = app.read("atoll.toml");
    let auth = "[auth.local]\nkind = \"jwt\"\njwks_file = \"keys.json\"\n";
    app.write("atoll.toml", &format!("{text}\n{auth}"));
    let write = |issuer: &Issuer| {
        app.write("keys.new", &json!({ "keys": [issuer.jwk()] }).to_string());
        std::fs::rename(app.path("keys.new"), app.path("keys.json")).unwrap();
    };
    write(&old);
    app.service("books")
        .table("[[route]]\npath = \"/books\"\nauth = \"local\"")
        .write();
    app.up();
    let claims = claims(&json!({}));
    let by = |issuer: &Issuer| ask(&app, "/books", Some(&issuer.token(&claims))).status;
    assert_eq!((by(&old), by(&new)), (200, 401));
    app.write("keys.json", "{");
    until("a broken file is told", || {
        let told = app.messages("atoll");
        told.iter()
            .any(|line| line.contains("keys from before stay"))
    });
    assert_eq!((by(&old), by(&new)), (200, 401));
    write(&new);
    until("the new key is used", || by(&new) == 200);
    assert_eq!(by(&old), 401);
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

/// `orders` takes API keys.
fn shop_with_keys() -> App {
    let app = App::new();
    let text = app.read("atoll.toml");
    app.write(
        "atoll.toml",
        &format!("{text}\n[auth.partners]\nkind = \"api_key\"\n"),
    );
    app.service("orders")
        .table("[[route]]\npath = \"/orders/**\"\nauth = \"partners\"\nscopes = [\"orders:read\"]")
        .table("[[route]]\npath = \"/orders/limited\"\nauth = \"partners\"\nrate_limit = { requests = 1, per = \"1h\", by = \"key\" }")
        .write();
    app
}

fn ask_with_key(app: &App, path: &str, key: &str) -> Answer {
    app.exchange(&format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nX-Api-Key: {key}\r\n\r\n"
    ))
}

#[test]
fn an_api_key_opens_the_door_until_it_is_revoked() {
    let app = shop_with_keys();
    app.up();
    let made = app.cli(&["key", "create", "billing", "--scope", "orders:read"]);
    let key = made.succeeded().out.trim().to_owned();
    let seen = ask_with_key(&app, "/orders/x", &key).has(200).json();
    assert_eq!(seen["headers"]["atoll-subject"], "billing");
    assert_eq!(seen["headers"]["atoll-scopes"], "orders:read");
    let (most, last) = key.split_at(key.len() - 1);
    let wrong = format!("{most}{}", if last == "0" { "1" } else { "0" });
    ask_with_key(&app, "/orders/x", &wrong).has(401);
    let other = app.cli(&["key", "create", "reports", "--json", "--expires", "90d"]);
    let other = other.succeeded().json();
    let other_key = other["key"].as_str().unwrap();
    ask_with_key(&app, "/orders/x", other_key).has(403);
    for (key, status) in [(&*key, 200), (&*key, 429), (other_key, 200)] {
        ask_with_key(&app, "/orders/limited", key).has(status);
    }
    let listed = app.cli(&["key", "list"]).succeeded();
    holds(&listed.out, "billing");
    holds(&listed.out, "valid until");
    assert!(!listed.out.contains(&key[19..]), "{}", listed.out);
    // It outlives the node.
    app.down();
    app.up();
    ask_with_key(&app, "/orders/x", &key).has(200);
    app.cli(&["key", "revoke", &key]).succeeded();
    let refused = ask_with_key(&app, "/orders/x", &key).has(401);
    holds(&refused.body, "revoked");
    holds(&app.cli(&["key", "list"]).succeeded().out, "revoked");
}

#[test]
fn keys_that_make_no_sense_are_refused_with_a_reason() {
    let app = shop_with_keys();
    holds(&app.cli(&["key", "list"]).ended(4).err, "no node runs");
    app.up();
    for (arguments, said) in [
        (&["key", "create", "a", "--scope", "a b"][..], "is no scope"),
        (&["key", "create", " "], "is no name"),
        (
            &["key", "create", "a", "--expires", "2020-01-01T00:00:00Z"],
            "over before",
        ),
        (
            &["key", "create", "a", "--expires", "soon"],
            "neither a time span",
        ),
        (&["key", "revoke", "0123456789ab"], "atoll key list"),
        (&["key", "revoke", "../x"], "12 letters and digits"),
    ] {
        holds(&app.cli(arguments).ended(1).err, said);
    }
    let refused = app
        .cli(&["key", "revoke", "0123456789ab", "--json"])
        .ended(1);
    holds(
        refused.json()["error"]["message"].as_str().unwrap(),
        "no key",
    );
    assert_eq!(
        app.cli(&["key", "list", "--json"]).succeeded().json(),
        json!([])
    );
}

#[test]
fn a_service_can_be_asked_who_may_come() {
    let app = App::new();
    let text = app.read("atoll.toml");
    let auth = "[auth.site]\nkind = \"forward\"\nurl = \"http://login/judge?a=b\"\ncopy = [\"X-User\"]\n\
                [auth.calm]\nkind = \"forward\"\nurl = \"http://login/judge\"\ncopy = [\"X-User\"]\ncache = \"1h\"\n";
    app.write("atoll.toml", &format!("{text}\n{auth}"));
    app.service("login").write();
    app.service("orders")
        .table("[[route]]\npath = \"/orders/**\"\nauth = \"site\"\nrate_limit = { requests = 9, per = \"1h\" }")
        .table("[[route]]\npath = \"/orders/calm/**\"\nauth = \"calm\"")
        .write();
    app.up();
    let ask = |path: &str, fields: &str| {
        app.exchange(&format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nX_User: root\r\nX-User: root\r\nContent-Length: 4\r\n{fields}\r\nbody"
        ))
    };
    let seen = ask("/orders/x?y=z", "Cookie: user=ada\r\n");
    assert_eq!(
        seen.field("ratelimit-remaining")
            .or(seen.field("ratelimit"))
            .map(|own| own.contains('8')),
        Some(true)
    );
    let seen = seen.has(200).json();
    assert_eq!(seen["headers"]["x-user"], "ada POST 127.0.0.1");
    assert_eq!(seen["headers"]["x_user"], Value::Null);
    assert_eq!(seen["headers"]["x-secret"], Value::Null);
    assert_eq!(seen["body"], "body");
    // A service may merge trailers into the fields that tell it who asks.
    let chunked = |trailer: &str| {
        app.exchange(&format!(
            "POST /orders/x HTTP/1.1\r\nHost: test\r\nCookie: user=ada\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n{trailer}\r\n"
        ))
    };
    chunked("").has(200);
    chunked("X-User: root\r\n").has(400);
    let login = ask("/orders/x?y=z", "").has(302);
    assert_eq!(login.field("location"), Some("/login"));
    assert_eq!(login.field("set-cookie"), Some("from=/orders/x?y=z"));
    ask("/orders/x", "Cookie: user=nobody\r\n").has(403);
    ask("/orders/lost", "Cookie: user=ada\r\n").has(503);
    // A permission that is remembered needs nobody; one that is not, does.
    // Each worker remembers for itself: enough connections reach all of them.
    for _ in 0..64 {
        ask("/orders/calm/x", "Cookie: user=ada\r\n").has(200);
    }
    for pid in app.pids("login") {
        freeze(pid);
    }
    ask("/orders/calm/x", "Cookie: user=ada\r\n").has(200);
    ask("/orders/x", "Cookie: user=ada\r\n").has(503);
}

#[test]
fn mistakes_about_authentication_are_found_before_anything_runs() {
    let app = App::new();
    let text = app.read("atoll.toml");
    let auth = "[auth.a]\nkind = \"jwt\"\n[auth.b]\nkind = \"jwt\"\njwks = \"http://acounts/jwks\"\n[auth.c]\nkind = \"forward\"\nurl = \"http://acount/check\"\n[auth.d]\nkind = \"forward\"\nurl = \"https://example.com/\"\n";
    app.write("atoll.toml", &format!("{text}\n{auth}"));
    app.service("accounts")
        .table("[[route]]\npath = \"/x\"\nauth = \"customers\"")
        .write();
    let said = app.cli(&["check"]).ended(3);
    for part in [
        "jwks",
        "did you mean `accounts`?",
        "there is no service called `acount`",
        "must lead to one of your services",
        "customers",
    ] {
        holds(&said.err, part);
    }
}
