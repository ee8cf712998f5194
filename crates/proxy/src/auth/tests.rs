//! Requests with credentials, from their bytes to the outcome.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::json;

use super::testkit::{EC_PUBLIC, ED_PUBLIC, NOW, SECRET, at, claims, decode, set, token};
use super::*;
use crate::http::field::storage;
use crate::http::{request, response};
use crate::tls::ClientIdentity;

/// An authenticator and one worker's memory.
struct Bench {
    authenticator: Authenticator,
    cache: TokenCache,
    client: Option<ClientIdentity>,
}

impl Bench {
    fn new(config: &str, trust: Trust) -> Self {
        let config = toml::from_str(config).unwrap();
        Self {
            authenticator: Authenticator::compile("customers", &config, trust).unwrap(),
            cache: TokenCache::new(),
            client: None,
        }
    }

    /// For tokens by this key set, which is fetched.
    fn with_keys(more: &str, keys: &Keys) -> Self {
        let config = format!("kind = 'jwt'\njwks = 'http://id/keys'\n{more}");
        let keys = keys.clone();
        let trust = Trust {
            keys,
            ..Trust::default()
        };
        Self::new(&config, trust)
    }

    fn with_api_keys(more: &str, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let api_keys = Arc::new(ApiKeys::new(keys));
        let trust = Trust {
            api_keys,
            ..Trust::default()
        };
        Self::new(&format!("kind = 'api_key'\n{more}"), trust)
    }

    /// A request for `/a?query` with these lines.
    fn ask_at(&mut self, query: &str, lines: &str, now: i64) -> Outcome {
        let head = format!("GET /a?{query} HTTP/1.1\r\nHost: shop\r\n{lines}\r\n");
        let mut storage = storage();
        let head = request::parse(head.as_bytes(), &mut storage).unwrap();
        let credentials = Credentials {
            origin: b"",
            fields: head.unwrap().fields,
            client: self.client.as_ref(),
            method: "GET",
            host: b"shop",
            path: "/a",
            query,
        };
        self.authenticator
            .check(&credentials, &mut self.cache, at(now))
    }

    fn ask(&mut self, lines: &str) -> Outcome {
        self.ask_at("", lines, NOW)
    }

    /// Judges the answer of a forward-auth service to a request for a path.
    fn answered(&mut self, path: &str, lines: &str, answer: &str) -> (Outcome, Outcome) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{lines}\r\n");
        let (mut storage, mut of_answer) = (storage(), storage_of_answer());
        let head = request::parse(head.as_bytes(), &mut storage).unwrap();
        let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
        let answer = response::parse(answer.as_bytes(), &mut of_answer);
        let answer = answer.unwrap().unwrap();
        let answer = Answer {
            status: answer.status,
            fields: answer.fields,
        };
        let credentials = Credentials {
            origin: b"",
            fields: head.unwrap().fields,
            client: None,
            method: "GET",
            host: b"shop",
            path,
            query: "",
        };
        let now = at(NOW);
        let before = self.authenticator.check(&credentials, &mut self.cache, now);
        let after = self
            .authenticator
            .answered(&credentials, &answer, &mut self.cache, now);
        (before, after)
    }
}

fn storage_of_answer<'b>() -> crate::http::field::Storage<'b> {
    storage()
}

fn identity(outcome: Outcome) -> Rc<Identity> {
    match outcome {
        Outcome::Verified(identity) => identity,
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn good() -> String {
    token(Algorithm::Es256, Some("ec"), &claims(&json!({})))
}

fn ec() -> Keys {
    Keys::fixed(set(&[(EC_PUBLIC, Some("ec"))]))
}

#[test]
fn a_good_token_is_someone() {
    let mut bench = Bench::with_keys("", &ec());
    let identity = identity(bench.ask(&bearer(&good())));
    assert_eq!(identity.subject(), Some("user-7"));
    assert_eq!(identity.scheme(), "customers");
    assert_eq!(identity.claim("role").as_deref(), Some("admin"));
    assert_eq!(identity.expires(), Some(at(NOW + 360)));
    let mut lines = Vec::new();
    identity.write_headers(&mut lines);
    let lines = String::from_utf8(lines).unwrap();
    assert!(
        lines.starts_with("Atoll-Auth: customers\r\nAtoll-Subject: user-7\r\n"),
        "{lines}"
    );
}

#[test]
fn a_token_is_found_where_it_may_be() {
    let (token, keys) = (good(), ec());
    let found = |more: &str, lines: &str| {
        let outcome = Bench::with_keys(more, &keys).ask(lines);
        matches!(outcome, Outcome::Verified(_))
    };
    assert!(found("", &format!("authorization: bEaReR   {token}\r\n")));
    assert!(found(
        "cookie = 'session'",
        &format!("Cookie: a=1; session={token}\r\n")
    ));
    assert!(found(
        "header = 'X-Token'",
        &format!("X-Token: {token}\r\n")
    ));
    assert!(found(
        "header = 'X-Token'",
        &format!("X-Token: Bearer {token}\r\n")
    ));
    let cookie = format!("Authorization: Basic dTpw\r\nCookie: session={token}\r\n");
    assert!(found("cookie = 'session'", &cookie));
    for (more, lines) in [
        ("", format!("Authorization: {token}\r\n")),
        ("", format!("Authorization: Bearer{token}\r\n")),
        ("", format!("Authorization: Basic {token}\r\n")),
        ("", format!("Cookie: session={token}\r\n")),
        ("", format!("X-Token: {token}\r\n")),
        ("header = 'X-Token'", bearer(&token)),
        ("cookie = 'session'", format!("Cookie: Session={token}\r\n")),
    ] {
        let outcome = Bench::with_keys(more, &keys).ask(&lines);
        assert!(matches!(outcome, Outcome::Missing), "{lines}: {outcome:?}");
    }
}

#[test]
fn credentials_that_are_there_twice_are_refused() {
    let (token, keys) = (good(), ec());
    for (more, lines) in [
        ("", bearer(&token).repeat(2)),
        ("", format!("{}Authorization: Bearer x\r\n", bearer(&token))),
        ("cookie = 's'", format!("Cookie: s={token}; s=x\r\n")),
        (
            "header = 'X-Token'",
            format!("X-Token: {token}\r\nx-token: y\r\n"),
        ),
    ] {
        let refusal = refusal(Bench::with_keys(more, &keys).ask(&lines));
        assert_eq!(refusal.status, 400);
        let challenge = refusal.challenge.unwrap();
        assert!(
            challenge.contains("error=\"invalid_request\""),
            "{challenge}"
        );
    }
}

#[test]
fn refusals_challenge_as_the_rfc_says() {
    let mut bench = Bench::with_keys("", &ec());
    let missing = bench.authenticator.missing();
    assert_eq!(
        (missing.status, missing.challenge.as_deref()),
        (401, Some("Bearer realm=\"customers\"")),
        "no error where there were no credentials (RFC 6750, 3.1)"
    );
    let old = token(Algorithm::Es256, None, &claims(&json!({"exp": NOW - 100})));
    let expired = refusal(bench.ask(&bearer(&old)));
    assert_eq!(expired.status, 401);
    let mut lines = Vec::new();
    expired.write_fields(&mut lines);
    assert_eq!(
        String::from_utf8(lines).unwrap(),
        "WWW-Authenticate: Bearer realm=\"customers\", error=\"invalid_token\", \
         error_description=\"the token has expired\"\r\n"
    );
    let config = toml::from_str("auth = 'customers'\nscopes = ['a', 'b']").unwrap();
    let access = Access::compile(&config, [("customers", AuthKind::Jwt)]);
    let someone = identity(bench.ask(&bearer(&good())));
    let denied = access.unwrap().unwrap().permits(&someone).unwrap_err();
    let denied = bench.authenticator.denied(&denied);
    let challenge = denied.challenge.unwrap();
    assert_eq!(denied.status, 403);
    assert!(challenge.contains("error=\"insufficient_scope\""));
    assert!(challenge.ends_with(", scope=\"a b\""), "{challenge}");
}

#[test]
fn a_secret_of_a_published_key_set_is_never_used() {
    // Even if one got into the set, the algorithms of a URL have no HMAC.
    let keys = Keys::fixed(KeySet::secret(&decode(SECRET)).unwrap());
    let token = bearer(&token(Algorithm::Hs256, None, &claims(&json!({}))));
    assert_eq!(refusal(Bench::with_keys("", &keys).ask(&token)).status, 401);
    let trust = || Trust {
        keys: keys.clone(),
        ..Trust::default()
    };
    let mut bench = Bench::new("kind = 'jwt'\nsecret_env = 'A'", trust());
    identity(bench.ask(&token));
    let mut bench = Bench::new(
        "kind = 'jwt'\nsecret_env = 'A'\nalgorithms = ['HS512']",
        trust(),
    );
    refusal(bench.ask(&token));
}

#[test]
fn a_remembered_token_ends_with_itself() {
    let mut bench = Bench::with_keys("", &ec());
    let lines = bearer(&good());
    let first = identity(bench.ask(&lines));
    let second = identity(bench.ask(&lines));
    assert!(Rc::ptr_eq(&first, &second), "it was remembered");
    identity(bench.ask_at("", &lines, NOW + 359));
    refusal(bench.ask_at("", &lines, NOW + 360));
}

#[test]
fn a_remembered_token_ends_with_its_key() {
    let keys = ec();
    let mut bench = Bench::with_keys("", &keys);
    let lines = bearer(&good());
    let first = identity(bench.ask(&lines));
    keys.replace(set(&[(EC_PUBLIC, Some("ec"))]));
    let same = identity(bench.ask(&lines));
    assert!(Rc::ptr_eq(&first, &same), "the same keys are no change");
    keys.replace(set(&[(ED_PUBLIC, Some("ed"))]));
    refusal(bench.ask(&lines));
    keys.replace(set(&[(EC_PUBLIC, Some("ec"))]));
    let again = identity(bench.ask(&lines));
    assert!(!Rc::ptr_eq(&first, &again), "it was verified anew");
}

#[test]
fn a_token_is_remembered_for_one_authenticator() {
    let keys = ec();
    let mut bench = Bench::with_keys("", &keys);
    let lines = bearer(&good());
    identity(bench.ask(&lines));
    let strict = Bench::with_keys("issuer = 'someone else'", &keys);
    bench.authenticator = strict.authenticator;
    let refused = refusal(bench.ask(&lines));
    assert_eq!(refused.detail, "the token is from another issuer");
}

#[test]
fn a_refused_token_is_not_remembered() {
    let keys = ec();
    let mut bench = Bench::with_keys("", &keys);
    let early = token(Algorithm::Es256, None, &claims(&json!({"nbf": NOW + 100})));
    refusal(bench.ask(&bearer(&early)));
    identity(bench.ask_at("", &bearer(&early), NOW + 50));
}

#[test]
fn a_rotated_key_is_asked_for_and_then_works() {
    let now = atoll_base::clock::monotonic();
    let keys = Keys::remote(now);
    let mut bench = Bench::with_keys("", &keys);
    let lines = bearer(&good());
    let Outcome::NeedsKeys(refusal) = bench.ask(&lines) else {
        panic!("there are no keys yet");
    };
    assert_eq!((refusal.status, refusal.challenge), (503, None));
    keys.begin(now);
    keys.succeeded(set(&[(ED_PUBLIC, Some("old"))]), None, now);
    let Outcome::NeedsKeys(refusal) = bench.ask(&lines) else {
        panic!("the key is not in the set");
    };
    assert_eq!(refusal.status, 401);
    keys.begin(now);
    keys.succeeded(
        set(&[(ED_PUBLIC, Some("old")), (EC_PUBLIC, Some("ec"))]),
        None,
        now,
    );
    identity(bench.ask(&lines));
    // A bad signature by a key that is there needs no other keys.
    let bad = lines.replace("\r\n", "A\r\n");
    assert!(matches!(bench.ask(&bad), Outcome::Refused(_)));
    let forged = token(Algorithm::Es256, Some("old"), &claims(&json!({})));
    assert!(matches!(bench.ask(&bearer(&forged)), Outcome::Refused(_)));
    // Keys of this machine: nothing to wait for.
    let mut local = Bench::with_keys("", &Keys::fixed(set(&[(ED_PUBLIC, Some("ed"))])));
    assert!(matches!(local.ask(&lines), Outcome::Refused(_)));
}

#[test]
fn api_keys_are_found_known_and_taken_back() {
    let scopes = vec!["orders:read".to_owned()];
    let (text, key) = ApiKey::create("billing", scopes, Some(at(NOW + 10)), at(NOW)).unwrap();
    let mut bench = Bench::with_api_keys("query = 'key'", [key.clone()]);
    let known = identity(bench.ask(&format!("X-API-Key: {text}\r\n")));
    assert_eq!(known.subject(), Some("billing"));
    assert_eq!(known.key(), Some(key.id.as_str()));
    assert_eq!(known.scopes(), ["orders:read"]);
    identity(bench.ask(&bearer(&text)));
    identity(bench.ask_at(&format!("a=b&key={text}"), "", NOW));
    assert_eq!(
        refusal(bench.ask_at(&format!("key={text}&key=x"), "", NOW)).status,
        400
    );
    assert!(matches!(bench.ask_at("", "", NOW), Outcome::Missing));
    let wrong = format!("X-Api-Key: {}\r\n", text.replace('_', "-"));
    assert_eq!(refusal(bench.ask(&wrong)).status, 401);
    let expired = refusal(bench.ask_at("", &bearer(&text), NOW + 10));
    assert_eq!(expired.detail, "the API key has expired");
    // Without `query`, it is not looked for there.
    let mut plain = Bench::with_api_keys("", [key.clone()]);
    let outcome = plain.ask_at(&format!("key={text}"), "", NOW);
    assert!(matches!(outcome, Outcome::Missing));
    // A key that is remembered ends at once when it is taken back.
    let api_keys = Arc::new(ApiKeys::new([key.clone()]));
    let trust = Trust {
        api_keys: Arc::clone(&api_keys),
        ..Trust::default()
    };
    let mut bench = Bench::new("kind = 'api_key'", trust);
    identity(bench.ask(&bearer(&text)));
    let revoked = Some(at(NOW));
    api_keys.replace([ApiKey { revoked, ..key }]);
    assert_eq!(
        refusal(bench.ask(&bearer(&text))).detail,
        "the API key was revoked"
    );
}

#[test]
fn a_service_is_asked_and_its_word_holds_for_the_same_question() {
    let config = "kind = 'forward'\nurl = 'http://login/check'\ncopy = ['X-User']\ncache = '10s'";
    let mut bench = Bench::new(config, Trust::default());
    let cookie = "Cookie: s=1\r\n";
    let (before, after) = bench.answered("/a", cookie, "200 OK\r\nX-User: me\r\nX-Other: x");
    assert!(matches!(before, Outcome::NeedsForward));
    let mut lines = Vec::new();
    identity(after).write_headers(&mut lines);
    assert_eq!(lines, b"Atoll-Auth: customers\r\nX-User: me\r\n");
    let (known, _) = bench.answered("/a", cookie, "200 OK");
    identity(known);
    for (path, lines) in [
        ("/b", cookie),
        ("/a", "Cookie: s=2\r\n"),
        ("/a", "Cookie: s=1\r\nAuthorization: x\r\n"),
        ("/a", ""),
    ] {
        let (other, _) = bench.answered(path, lines, "401 No");
        assert!(matches!(other, Outcome::NeedsForward), "{path} {lines}");
    }
    let (_, to_login) =
        bench.answered("/c", "", "302 Found\r\nLocation: /login\r\nSet-Cookie: a=b");
    let to_login = refusal(to_login);
    let mut fields = Vec::new();
    to_login.write_fields(&mut fields);
    assert_eq!(to_login.status, 302);
    assert_eq!(fields, b"Location: /login\r\nSet-Cookie: a=b\r\n");
    for (answer, status) in [
        ("401 No", 401),
        ("403 No", 403),
        ("404 No", 503),
        ("500 No", 503),
        ("304 No", 503),
        ("429 No", 503),
    ] {
        assert_eq!(refusal(bench.answered("/d", "", answer).1).status, status);
    }
    let mut unremembered = Bench::new("kind = 'forward'\nurl = 'http://login/'", Trust::default());
    identity(unremembered.answered("/a", cookie, "204 Yes").1);
    let (again, _) = unremembered.answered("/a", cookie, "204 Yes");
    assert!(matches!(again, Outcome::NeedsForward));
}

#[test]
fn what_a_service_says_cannot_be_said_by_the_client() {
    let config = "kind = 'forward'\nurl = 'http://login/check'\ncopy = ['X-User']";
    let bench = Bench::new(config, Trust::default());
    let head = "GET / HTTP/1.1\r\nHost: a\r\nx-user: root\r\nX_User: root\r\nX-User2: me\r\n\r\n";
    let mut storage = storage();
    let head = request::parse(head.as_bytes(), &mut storage).unwrap();
    assert_eq!(bench.authenticator.foreign(&head.unwrap().fields), 0b110);
}

#[test]
fn the_question_has_what_the_service_needs_and_no_more() {
    let head =
        "POST /a HTTP/1.1\r\nHost: shop\r\nCookie: s=1\r\nAuthorization: x\r\nX-Secret: y\r\n\r\n";
    let mut storage = storage();
    let head = request::parse(head.as_bytes(), &mut storage).unwrap();
    let credentials = Credentials {
        origin: b"X-Forwarded-For: 192.0.2.1\r\n",
        fields: head.unwrap().fields,
        client: None,
        method: "POST",
        host: b"shop",
        path: "/a",
        query: "b=c",
    };
    let config = "kind = 'forward'\nurl = 'http://login/check'";
    let bench = Bench::new(config, Trust::default());
    let forward = bench.authenticator.forward().unwrap();
    assert_eq!(forward.service().as_str(), "login");
    let mut question = Vec::new();
    forward.write_head(&credentials, &mut question);
    assert_eq!(
        String::from_utf8(question).unwrap(),
        "GET /check HTTP/1.1\r\nHost: login\r\nX-Forwarded-Method: POST\r\nX-Forwarded-Uri: /a?b=c\r\nX-Forwarded-Host: shop\r\nX-Forwarded-For: 192.0.2.1\r\n\
         Authorization: x\r\nCookie: s=1\r\n"
    );
}

#[test]
fn certificates_are_let_in_by_name() {
    let client = ClientIdentity {
        subject: "CN=billing, O=Example".to_owned(),
        common_name: Some("billing".to_owned()),
        names: vec!["spiffe://example.com/billing".to_owned()],
        field: ":MIIB:".to_owned(),
    };
    let ask = |config: &str| {
        let mut bench = Bench::new(&format!("kind = 'mtls'\n{config}"), Trust::default());
        assert!(matches!(bench.ask(""), Outcome::Missing));
        assert_eq!(bench.authenticator.missing().status, 403);
        bench.client = Some(client.clone());
        let first = bench.ask("");
        let second = bench.ask("");
        assert_eq!(
            matches!(first, Outcome::Verified(_)),
            matches!(second, Outcome::Verified(_))
        );
        second
    };
    for config in [
        "",
        "subjects = ['CN=*, O=Example']",
        "names = ['spiffe://example.com/*']",
        "subjects = ['CN=x']\nnames = ['spiffe://example.com/billing']",
    ] {
        let known = identity(ask(config));
        assert_eq!(known.subject(), Some("CN=billing, O=Example"), "{config}");
    }
    for config in ["subjects = ['CN=billing']", "names = ['billing']"] {
        let refused = refusal(ask(config));
        assert_eq!((refused.status, refused.challenge), (403, None), "{config}");
    }
}

/// What it costs. In a release build:
/// `cargo test --release -p atoll-proxy --lib auth::tests::what_it_costs -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn what_it_costs() {
    let mut bench = Bench::with_keys("", &ec());
    let token = good();
    let head = format!("GET /a HTTP/1.1\r\nHost: shop\r\n{}\r\n", bearer(&token));
    let mut storage = storage();
    let head = request::parse(head.as_bytes(), &mut storage).unwrap();
    let credentials = Credentials {
        origin: b"",
        fields: head.unwrap().fields,
        client: None,
        method: "GET",
        host: b"shop",
        path: "/a",
        query: "",
    };
    let Bench {
        authenticator,
        cache,
        ..
    } = &mut bench;
    let mut out = Vec::with_capacity(4096);
    let mut measure = |what: &str, rounds: u32, fresh: bool| {
        let start = atoll_base::clock::monotonic();
        for _ in 0..rounds {
            if fresh {
                *cache = TokenCache::new();
            }
            out.clear();
            let outcome = authenticator.check(&credentials, cache, at(NOW));
            identity(outcome).write_headers(&mut out);
            std::hint::black_box(&out);
        }
        let each = start.elapsed().as_nanos() / u128::from(rounds);
        println!("{what}, token of {} bytes: {each} ns", token.len());
    };
    measure("ES256, new", 3_000, true);
    measure("ES256, remembered", 3_000_000, false);
    let start = atoll_base::clock::monotonic();
    let config: AuthConfig = toml::from_str("kind = 'jwt'\njwks = 'http://id/keys'").unwrap();
    let (rules, keys) = (rules(&config), ec());
    for _ in 0..3_000 {
        let verified = jwt::verify(token.as_bytes(), &keys.current(), &rules, at(NOW));
        std::hint::black_box(verified.unwrap());
    }
    println!(
        "ES256, verified alone: {} ns",
        start.elapsed().as_nanos() / 3_000
    );
}

#[test]
fn a_permission_is_for_who_got_it() {
    let config = "kind = 'forward'\nurl = 'http://login/check'\ncache = '10s'";
    let bench = Bench::new(config, Trust::default());
    let head = "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
    let (mut head_storage, mut answer_storage) = (storage(), storage());
    let head = request::parse(head.as_bytes(), &mut head_storage).unwrap();
    let fields = head.unwrap().fields;
    let from = |origin: &'static [u8]| Credentials {
        origin,
        fields,
        client: None,
        method: "GET",
        host: b"shop",
        path: "/a",
        query: "",
    };
    let (mut cache, now) = (TokenCache::new(), Timestamp::from_micros(1_000_000));
    let mut ask = |origin| bench.authenticator.check(&from(origin), &mut cache, now);
    assert!(matches!(
        ask(b"Client-Cert: :a:\r\n"),
        Outcome::NeedsForward
    ));
    let text = b"HTTP/1.1 200 OK\r\n\r\n";
    let answer = response::parse(text, &mut answer_storage).unwrap().unwrap();
    let (status, fields) = (answer.status, answer.fields);
    let answer = Answer { status, fields };
    let asker = from(b"Client-Cert: :a:\r\n");
    let judged = bench
        .authenticator
        .answered(&asker, &answer, &mut cache, now);
    assert!(matches!(judged, Outcome::Verified(_)));
    let mut ask = |origin| bench.authenticator.check(&from(origin), &mut cache, now);
    assert!(matches!(ask(b"Client-Cert: :a:\r\n"), Outcome::Verified(_)));
    assert!(matches!(
        ask(b"Client-Cert: :b:\r\n"),
        Outcome::NeedsForward
    ));
    assert!(matches!(ask(b""), Outcome::NeedsForward));
}
