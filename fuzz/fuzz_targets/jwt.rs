//! A token: never a panic, and nothing is verified that was not signed.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_proxy::auth::jwt::{self, Rules};
use atoll_proxy::auth::{Algorithms, KeySet, Origin};
use libfuzzer_sys::fuzz_target;

/// Public keys of the RFCs' examples. There is no secret among them, which a fuzzer could find out
/// to sign with; it cannot sign.
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = br#"{"keys":[
        {"kty":"EC","kid":"ec","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty":"OKP","kid":"ed","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    ]}"#;
    KeySet::parse(keys, Origin::Remote).expect("the keys are well-formed")
});
/// The audience is of no token of the corpus, so that even those are refused.
static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    algorithms: Algorithms::all(),
    issuer: None,
    audience: vec!["nobody".to_owned()],
    leeway: Duration::from_secs(60),
});
const NOW: Timestamp = Timestamp::from_micros(1_300_819_000_000_000);

fuzz_target!(|input: &[u8]| {
    assert!(jwt::verify(input, &KEYS, &RULES, NOW).is_err());
    if let Ok(token) = jwt::parse(input) {
        assert!(input.len() <= jwt::TOKEN_MAX);
        assert!(input.starts_with(token.signed));
        assert_eq!(token.signed.iter().filter(|byte| **byte == b'.').count(), 1);
    }
    // As if it were the claims of a token, and signed.
    if let Ok(claims) = jwt::judge(input, &RULES, NOW) {
        assert!(claims.until > NOW);
        assert!(claims.scopes.iter().all(|scope| !scope.contains(' ')));
        assert!(claims.all.contains_key("exp") && claims.all.contains_key("aud"));
    }
    // As if it were what an issuer publishes.
    if let Ok(keys) = KeySet::parse(input, Origin::Remote) {
        assert!(!keys.is_empty());
    }
});
