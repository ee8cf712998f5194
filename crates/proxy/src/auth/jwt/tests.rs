//! Every attack that RFC 8725 names and some more, and the examples of the RFCs.

use proptest::prelude::*;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;
use crate::auth::testkit::{
    EC_PUBLIC, ED_PUBLIC, NOW, RSA_PUBLIC, SECRET, at, by_secret, claims, decode, encode, set,
    sign, signature_of, token,
};
use crate::auth::{Algorithm, Origin};

/// Of RFC 7515, A.1 to A.3: over on 2011-03-22.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const JOE_ENDS: i64 = 1_300_819_380;

fn rules() -> Rules {
    Rules {
        algorithms: Algorithms::all(),
        issuer: Some("https://id.example.com".to_owned()),
        audience: Vec::new(),
        leeway: Duration::from_secs(60),
    }
}

/// All example keys, each with a name.
fn keys() -> KeySet {
    let secret = format!(r#"{{"kty":"oct","k":"{SECRET}"}}"#);
    set(&[
        (RSA_PUBLIC, Some("rsa")),
        (EC_PUBLIC, Some("ec")),
        (ED_PUBLIC, Some("ed")),
        (&secret, Some("hs")),
    ])
}

fn check(token: &str) -> Result<Claims, Flaw> {
    verify(token.as_bytes(), &keys(), &rules(), at(NOW))
}

/// A token of ES256 with these changes to its claims.
fn with(changes: &Value) -> Result<Claims, Flaw> {
    check(&token(Algorithm::Es256, Some("ec"), &claims(changes)))
}

/// A token with this header, rightly signed.
fn headed(header: &Value) -> Result<Claims, Flaw> {
    let payload = claims(&json!({})).to_string();
    check(&sign(Algorithm::Es256, &header.to_string(), &payload))
}

#[test]
fn tokens_of_every_algorithm_are_verified() {
    let all = [
        (Algorithm::Rs256, "rsa"),
        (Algorithm::Rs384, "rsa"),
        (Algorithm::Rs512, "rsa"),
        (Algorithm::Ps256, "rsa"),
        (Algorithm::Ps384, "rsa"),
        (Algorithm::Ps512, "rsa"),
        (Algorithm::Es256, "ec"),
        (Algorithm::EdDsa, "ed"),
        (Algorithm::Hs256, "hs"),
        (Algorithm::Hs384, "hs"),
        (Algorithm::Hs512, "hs"),
    ];
    for (algorithm, id) in all {
        for id in [Some(id), None] {
            let claims = check(&token(algorithm, id, &claims(&json!({})))).unwrap();
            assert_eq!(claims.subject.as_deref(), Some("user-7"), "{algorithm:?}");
            assert_eq!(claims.scopes, ["orders:read", "orders:write"]);
            assert_eq!(claims.all["role"], "admin");
            assert_eq!(claims.until, at(NOW + 300 + 60));
        }
        let other = all.iter().find(|(other, _)| *other != algorithm).unwrap();
        let only = Rules {
            algorithms: [other.0].into_iter().collect(),
            ..rules()
        };
        let token = token(algorithm, Some(id), &claims(&json!({})));
        let refused = verify(token.as_bytes(), &keys(), &only, at(NOW));
        assert_eq!(
            refused,
            Err(Flaw::Algorithm),
            "{algorithm:?} is not allowed"
        );
    }
}

#[test]
fn es384_is_verified() {
    let (random, method) = (SystemRandom::new(), &ECDSA_P384_SHA384_FIXED_SIGNING);
    let document = EcdsaKeyPair::generate_pkcs8(method, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(method, document.as_ref(), &random).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(48);
    let key = json!({"kty": "EC", "crv": "P-384", "x": encode(x), "y": encode(y)});
    let payload = claims(&json!({})).to_string();
    let signed = format!("{}.{}", encode(r#"{"alg":"ES384"}"#), encode(payload));
    let signature = pair.sign(&random, signed.as_bytes()).unwrap();
    let keys = set(&[(&key.to_string(), None)]);
    let good = format!("{signed}.{}", encode(signature.as_ref()));
    assert!(verify(good.as_bytes(), &keys, &rules(), at(NOW)).is_ok());
    let as_256 = good.replace(&encode(r#"{"alg":"ES384"}"#), &encode(r#"{"alg":"ES256"}"#));
    assert!(verify(as_256.as_bytes(), &keys, &rules(), at(NOW)).is_err());
}

#[test]
fn the_examples_of_the_rfcs_are_verified() {
    let joe = Rules {
        issuer: Some("joe".to_owned()),
        leeway: Duration::ZERO,
        ..rules()
    };
    let signatures = [
        (
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (header, signature) in signatures {
        let token = format!("{header}.{JOE}.{signature}");
        let verify = |now| verify(token.as_bytes(), &keys(), &joe, at(now));
        let claims = verify(JOE_ENDS - 1).unwrap();
        assert_eq!(claims.all["http://example.com/is_root"], true);
        assert_eq!(verify(JOE_ENDS), Err(Flaw::Expired));
    }
    // RFC 8037, A.4: what is signed there claims nothing, but the signature is right.
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let parsed = parse(token.as_bytes()).unwrap();
    assert_eq!(
        check_signature(&parsed, &keys(), Algorithms::public()),
        Ok(())
    );
    assert!(matches!(check(token), Err(Flaw::Malformed(_))));
}

#[test]
fn unsigned_tokens_are_refused_in_every_spelling() {
    let payload = encode(claims(&json!({})).to_string());
    for bits in 0..16u8 {
        let spelled = b"none".iter().enumerate().map(|(at, letter)| {
            let upper = bits & (1 << at) != 0;
            char::from(if upper {
                letter.to_ascii_uppercase()
            } else {
                *letter
            })
        });
        let spelled: String = spelled.collect();
        for alg in [
            spelled.clone(),
            format!("{spelled} "),
            format!(" {spelled}"),
            format!("{spelled}\0"),
        ] {
            for kid in [None, Some("ec"), Some("hs")] {
                let header = match kid {
                    None => json!({"alg": alg, "typ": "JWT"}),
                    Some(kid) => json!({"alg": alg, "kid": kid}),
                };
                let header = encode(header.to_string());
                for signature in ["", "AA", &encode([0; 64])] {
                    let token = format!("{header}.{payload}.{signature}");
                    assert_eq!(check(&token), Err(Flaw::Algorithm), "{alg:?}");
                }
                let two = format!("{header}.{payload}");
                assert!(matches!(check(&two), Err(Flaw::Malformed(_))));
            }
        }
    }
    for alg in [
        json!(null),
        json!(""),
        json!(7),
        json!(["ES256"]),
        json!({"a": "ES256"}),
    ] {
        assert!(headed(&json!({"alg": alg, "kid": "ec"})).is_err(), "{alg}");
    }
    assert_eq!(headed(&json!({"kid": "ec"})), Err(Flaw::Algorithm));
    // A right algorithm with no signature at all.
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA", "HS256"] {
        let header = encode(json!({"alg": algorithm}).to_string());
        assert!(
            check(&format!("{header}.{payload}.")).is_err(),
            "{algorithm}"
        );
    }
}

/// The public key as a secret, in every form that someone might have it.
fn as_secrets(key: &str) -> Vec<Vec<u8>> {
    let key: Value = serde_json::from_str(key).unwrap();
    let part = |name: &str| key[name].as_str().map(decode);
    let mut forms = vec![key.to_string().into_bytes()];
    let raw = match key["kty"].as_str().unwrap() {
        "EC" => [vec![4], part("x").unwrap(), part("y").unwrap()].concat(),
        "RSA" => {
            let n = [vec![0], part("n").unwrap()].concat();
            let n = [vec![0x02, 0x82, 0x01, 0x01], n].concat();
            let inner = [n, vec![0x02, 3, 1, 0, 1]].concat();
            let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
            [vec![0x30, 0x82], length.to_vec(), inner].concat()
        }
        _ => part("x").unwrap(),
    };
    let base64 = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&raw)
    };
    for kind in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
        let lines: Vec<_> = base64.as_bytes().chunks(64).collect();
        let body = lines.join(&b"\n"[..]);
        for end in ["\n", ""] {
            let pem = [
                format!("-----BEGIN {kind}-----\n").into_bytes(),
                body.clone(),
                format!("\n-----END {kind}-----{end}").into_bytes(),
            ];
            forms.push(pem.concat());
        }
    }
    for name in ["n", "x", "y"] {
        forms.extend(part(name));
        forms.extend(key[name].as_str().map(|text| text.as_bytes().to_vec()));
    }
    forms.extend([raw, base64.into_bytes()]);
    forms
}

#[test]
fn a_public_key_is_never_a_secret() {
    let payload = encode(claims(&json!({})).to_string());
    for (key, id) in [(RSA_PUBLIC, "rsa"), (EC_PUBLIC, "ec"), (ED_PUBLIC, "ed")] {
        for secret in as_secrets(key) {
            for (name, hash) in [
                ("HS256", hmac::HMAC_SHA256),
                ("HS384", hmac::HMAC_SHA384),
                ("HS512", hmac::HMAC_SHA512),
            ] {
                for header in [json!({"alg": name}), json!({"alg": name, "kid": id})] {
                    let signed = format!("{}.{payload}", encode(header.to_string()));
                    let tag = by_secret(hash, &secret, signed.as_bytes());
                    let token = format!("{signed}.{}", encode(tag));
                    assert!(check(&token).is_err(), "{name} with {id}");
                    let alone = set(&[(key, Some(id))]);
                    let refused = verify(token.as_bytes(), &alone, &rules(), at(NOW));
                    assert!(refused.is_err(), "{name} with {id} alone");
                }
            }
        }
    }
}

#[test]
fn an_algorithm_of_another_key_is_refused() {
    let payload = claims(&json!({})).to_string();
    for (signed_with, said, id) in [
        (Algorithm::Es256, "RS256", "ec"),
        (Algorithm::Es256, "EdDSA", "ec"),
        (Algorithm::Es256, "ES384", "ec"),
        (Algorithm::EdDsa, "ES256", "ed"),
        (Algorithm::Rs256, "PS256", "rsa"),
        (Algorithm::Rs256, "RS512", "rsa"),
        (Algorithm::Hs256, "HS512", "hs"),
        (Algorithm::Hs256, "ES256", "hs"),
    ] {
        let header = json!({"alg": said, "kid": id}).to_string();
        let refused = check(&sign(signed_with, &header, &payload));
        assert_eq!(refused, Err(Flaw::Signature), "{said} for {id}");
    }
    // A key that its issuer uses for one algorithm only.
    let only = RSA_PUBLIC.replacen('{', r#"{"alg":"PS256","#, 1);
    let only = set(&[(&only, Some("rsa"))]);
    let claims = claims(&json!({}));
    let verify = |algorithm| {
        let token = token(algorithm, Some("rsa"), &claims);
        verify(token.as_bytes(), &only, &rules(), at(NOW))
    };
    assert!(verify(Algorithm::Ps256).is_ok());
    assert_eq!(verify(Algorithm::Rs256), Err(Flaw::Signature));
}

#[test]
fn the_name_of_a_key_is_only_a_name() {
    let payload = claims(&json!({}));
    for id in [
        "../../../../dev/null",
        "/dev/null",
        "file:///proc/self/environ",
        "https://evil.example/jwks.json",
        "' OR 1=1 --",
        "ec\0",
        "EC",
        "",
        "`id`",
        "${jndi:ldap://evil.example/a}",
    ] {
        let refused = check(&token(Algorithm::Es256, Some(id), &payload));
        assert_eq!(refused, Err(Flaw::UnknownKey), "{id}");
        // The empty secret, which is what some read from /dev/null.
        let header = encode(json!({"alg": "HS256", "kid": id}).to_string());
        let signed = format!("{header}.{}", encode(payload.to_string()));
        for secret in [&b""[..], b"\0", id.as_bytes()] {
            let tag = by_secret(hmac::HMAC_SHA256, secret, signed.as_bytes());
            assert!(check(&format!("{signed}.{}", encode(tag))).is_err(), "{id}");
        }
    }
    for id in [json!(null), json!(7), json!(["ec"]), json!({"ec": 1})] {
        let refused = headed(&json!({"alg": "ES256", "kid": id}));
        assert!(matches!(refused, Err(Flaw::Malformed(_))), "{id}");
    }
    assert!(headed(&json!({"alg": "ES256", "kid": "ec"})).is_ok());
    // The right key under the name of another one is the wrong key.
    let swapped = token(Algorithm::Es256, Some("ed"), &payload);
    assert_eq!(check(&swapped), Err(Flaw::Signature));
}

#[test]
fn a_token_does_not_bring_its_own_key() {
    let (random, payload) = (SystemRandom::new(), claims(&json!({})).to_string());
    let method = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(method, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(method, document.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let own = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
    for (member, value) in [
        ("jwk", own),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = json!({"alg": "ES256", "kid": "ec", member: value}).to_string();
        let signed = format!("{}.{}", encode(header), encode(&payload));
        let made = pair.sign(&random, signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", encode(made.as_ref()));
        assert_eq!(check(&token), Err(Flaw::Signature), "{member}");
    }
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    for (algorithm, id) in [
        (Algorithm::Es256, "ec"),
        (Algorithm::Rs256, "rsa"),
        (Algorithm::EdDsa, "ed"),
        (Algorithm::Hs256, "hs"),
    ] {
        let good = token(algorithm, Some(id), &claims(&json!({})));
        assert!(check(&good).is_ok());
        for place in 0..good.len() {
            for letter in [b'A', b'B', b'.'] {
                let mut bad = good.clone().into_bytes();
                if bad[place] == letter {
                    continue;
                }
                bad[place] = letter;
                let refused = verify(&bad, &keys(), &rules(), at(NOW));
                assert!(refused.is_err(), "{algorithm:?} at {place}");
            }
        }
        let parts: Vec<_> = good.split('.').collect();
        let more = encode(claims(&json!({"role": "root"})).to_string());
        let changed = format!("{}.{more}.{}", parts[0], parts[2]);
        assert_eq!(check(&changed), Err(Flaw::Signature));
        for bad in [
            format!("{good}A"),
            format!("{good}="),
            format!("{good}.{}", parts[2]),
            format!(" {good}"),
            format!("{good}\n"),
            good.replace('.', ".."),
            format!("{}.{}.", parts[0], parts[1]),
            format!(".{}.{}", parts[1], parts[2]),
        ] {
            assert!(check(&bad).is_err(), "{bad}");
        }
    }
}

#[test]
fn an_ecdsa_signature_of_zeros_or_in_der_is_refused() {
    let good = token(Algorithm::Es256, Some("ec"), &claims(&json!({})));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let right = signature_of(Algorithm::Es256, signed.as_bytes());
    let mut der = vec![0x30, 70, 2, 33, 0];
    der.extend_from_slice(&right[..32]);
    der.extend_from_slice(&[2, 33, 0]);
    der.extend_from_slice(&right[32..]);
    for bad in [
        vec![0; 64],
        vec![0xff; 64],
        der,
        right[..63].to_vec(),
        Vec::new(),
    ] {
        let token = format!("{signed}.{}", encode(bad));
        assert_eq!(check(&token), Err(Flaw::Signature));
    }
}

#[test]
fn times_hold_to_the_second_with_the_leeway() {
    for (changes, expected) in [
        (json!({"exp": NOW - 59}), Ok(())),
        (json!({"exp": NOW - 60}), Err(Flaw::Expired)),
        (json!({"exp": NOW as f64 - 59.5}), Ok(())),
        (json!({"exp": -1}), Err(Flaw::Expired)),
        (json!({"exp": 0}), Err(Flaw::Expired)),
        (json!({"nbf": NOW + 60}), Ok(())),
        (json!({"nbf": NOW + 61}), Err(Flaw::NotYet)),
        (json!({"iat": NOW + 60}), Ok(())),
        (json!({"iat": NOW + 61}), Err(Flaw::NotYet)),
        (json!({"iat": null}), Ok(())),
    ] {
        let found = with(&changes).map(|_| ());
        assert_eq!(found, expected, "{changes}");
    }
    for changes in [
        json!({"exp": null}),
        json!({"exp": (NOW + 10).to_string()}),
        json!({"exp": 1e300}),
        json!({"exp": (NOW + 300) * 1000}),
        json!({"exp": [NOW + 300]}),
        json!({"exp": true}),
        json!({"nbf": "0"}),
        json!({"iat": {}}),
    ] {
        let refused = with(&changes);
        assert!(matches!(refused, Err(Flaw::Malformed(_))), "{changes}");
    }
}

#[test]
fn tokens_of_others_and_for_others_are_refused() {
    for issuer in ["https://id.example.com/", "https://ID.example.com", "", "x"] {
        assert_eq!(with(&json!({"iss": issuer})), Err(Flaw::Issuer), "{issuer}");
    }
    assert_eq!(with(&json!({"iss": null})), Err(Flaw::Issuer));
    assert!(with(&json!({"iss": ["https://id.example.com"]})).is_err());
    assert_eq!(
        with(&json!({"aud": "shop"})),
        Err(Flaw::Audience),
        "nobody said that we are the shop"
    );
    let shop = Rules {
        audience: vec!["shop".to_owned(), "https://shop.example.com".to_owned()],
        ..rules()
    };
    for (audience, expected) in [
        (json!("shop"), Ok(())),
        (json!(["other", "https://shop.example.com"]), Ok(())),
        (json!("Shop"), Err(Flaw::Audience)),
        (json!("shop "), Err(Flaw::Audience)),
        (json!(["other"]), Err(Flaw::Audience)),
        (json!([]), Err(Flaw::Audience)),
        (json!(null), Err(Flaw::Audience)),
    ] {
        let token = token(Algorithm::Es256, None, &claims(&json!({"aud": audience})));
        let found = verify(token.as_bytes(), &keys(), &shop, at(NOW));
        assert_eq!(found.map(|_| ()), expected, "{audience}");
    }
    for audience in [json!(7), json!({"shop": 1}), json!(["shop", 7])] {
        let token = token(Algorithm::Es256, None, &claims(&json!({"aud": audience})));
        let found = verify(token.as_bytes(), &keys(), &shop, at(NOW));
        assert!(matches!(found, Err(Flaw::Malformed(_))), "{audience}");
    }
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    for crit in [
        json!(["exp"]),
        json!(["b64"]),
        json!([]),
        json!(null),
        json!("exp"),
    ] {
        let refused = headed(&json!({"alg": "ES256", "crit": crit, "b64": false}));
        assert_eq!(refused, Err(Flaw::Critical), "{crit}");
    }
    for good in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert!(
            headed(&json!({"alg": "ES256", "typ": good})).is_ok(),
            "{good}"
        );
    }
    for other in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", ""] {
        let refused = headed(&json!({"alg": "ES256", "typ": other}));
        assert_eq!(refused, Err(Flaw::Type), "{other}");
    }
}

#[test]
fn members_that_are_there_twice_are_refused() {
    let payload = claims(&json!({})).to_string();
    let header = r#"{"alg":"ES256"}"#;
    assert!(check(&sign(Algorithm::Es256, header, &payload)).is_ok());
    for header in [
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"ec","\u006bid":"ec"}"#,
        r#"["ES256"]"#,
        "",
    ] {
        let refused = check(&sign(Algorithm::Es256, header, &payload));
        assert!(matches!(refused, Err(Flaw::Malformed(_))), "{header}");
    }
    let twice = payload.replacen('{', r#"{"role":"user","#, 1);
    let refused = check(&sign(Algorithm::Es256, header, &twice));
    assert!(matches!(refused, Err(Flaw::Malformed(_))));
}

#[test]
fn long_and_strange_tokens_are_refused() {
    let filler = "x".repeat(7000);
    let long = |filler: &str| token(Algorithm::Es256, None, &claims(&json!({"a": filler})));
    let too_long = long(&filler);
    assert!(too_long.len() > TOKEN_MAX);
    assert_eq!(check(&too_long), Err(Flaw::TooLong));
    assert!(check(&long(&filler[..5000])).is_ok());
    for strange in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\u{0}.\u{0}.\u{0}",
        "Bearer x",
        "eyJ",
    ] {
        assert!(check(strange).is_err(), "{strange:?}");
    }
    let nested = format!("{{\"a\":{}1{}}}", "[".repeat(2000), "]".repeat(2000));
    let refused = check(&sign(Algorithm::Es256, r#"{"alg":"ES256"}"#, &nested));
    assert!(matches!(refused, Err(Flaw::Malformed(_))));
    assert!(with(&json!({"sub": "x".repeat(1025)})).is_err());
    assert!(with(&json!({"sub": 7})).is_err());
}

#[test]
fn scopes_are_read_in_every_common_form() {
    for (changes, expected) in [
        (json!({"scope": "a  b "}), vec!["a", "b"]),
        (json!({"scope": ["a", "b"]}), vec!["a", "b"]),
        (json!({"scope": null, "scp": ["a", "b"]}), vec!["a", "b"]),
        (json!({"scope": null, "scp": "a b"}), vec!["a", "b"]),
        (json!({"scope": "a", "scp": ["admin"]}), vec!["a"]),
        (json!({"scope": "", "scp": ["admin"]}), vec![]),
        (json!({"scope": null}), vec![]),
    ] {
        assert_eq!(with(&changes).unwrap().scopes, expected, "{changes}");
    }
    for changes in [
        json!({"scope": 7}),
        json!({"scope": [7]}),
        json!({"scope": null, "scp": {}}),
    ] {
        assert!(
            matches!(with(&changes), Err(Flaw::Malformed(_))),
            "{changes}"
        );
    }
}

#[test]
fn a_token_without_a_name_is_tried_with_few_keys() {
    // Keys that do not verify it, then the one that does.
    let other = EC_PUBLIC.replace("x_FEzRu9m36HLN", "x_FEzRu9m36HLM");
    let with_others = |count: usize| {
        let mut list = vec![(other.as_str(), None); count];
        list.push((EC_PUBLIC, None));
        set(&list)
    };
    let token = token(Algorithm::Es256, None, &claims(&json!({})));
    let verify = |keys: &KeySet| verify(token.as_bytes(), keys, &rules(), at(NOW));
    assert!(verify(&with_others(TRIES - 1)).is_ok());
    assert_eq!(verify(&with_others(TRIES)), Err(Flaw::UnknownKey));
    assert_eq!(verify(&KeySet::default()), Err(Flaw::UnknownKey));
}

#[test]
fn a_short_secret_does_not_do_for_a_long_hash() {
    let secret = &decode(SECRET)[..32];
    let keys = KeySet::secret(secret).unwrap();
    for (name, hash, good) in [
        ("HS256", hmac::HMAC_SHA256, true),
        ("HS384", hmac::HMAC_SHA384, false),
        ("HS512", hmac::HMAC_SHA512, false),
    ] {
        let header = encode(json!({ "alg": name }).to_string());
        let signed = format!("{header}.{}", encode(claims(&json!({})).to_string()));
        let tag = by_secret(hash, secret, signed.as_bytes());
        let token = format!("{signed}.{}", encode(tag));
        let found = verify(token.as_bytes(), &keys, &rules(), at(NOW));
        assert_eq!(found.is_ok(), good, "{name}");
    }
    assert!(KeySet::parse(br#"{"keys":[{"kty":"oct","k":""}]}"#, Origin::Local).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        prop_assert!(verify(&bytes, &keys(), &rules(), at(NOW)).is_err());
        let _ = judge(&bytes, &rules(), at(NOW));
    }

    #[test]
    fn any_header_and_claims_are_read_without_panic(
        header in r#"\{("(alg|kid|typ|crit)":("ES256"|"HS256"|"none"|"ec"|"JWT"|null|1|\[\]),?){0,4}\}"#,
        payload in r#"\{("(exp|nbf|iat|iss|aud|sub|scope|scp)":("a b"|1e9|-1e30|9e18|null|\["a"\]|\{\}|1800000100)(,|)){0,6}\}"#,
    ) {
        let _ = judge(payload.as_bytes(), &rules(), at(NOW));
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let _ = parse(format!("{signed}.AA").as_bytes());
        let refused = verify(format!("{signed}.AA").as_bytes(), &keys(), &rules(), at(NOW));
        prop_assert!(refused.is_err());
    }

    #[test]
    fn what_is_signed_is_read_as_it_was(subject in "\\PC{1,50}", role in any::<String>()) {
        let given = claims(&json!({"sub": subject, "role": role}));
        let claims = check(&token(Algorithm::Hs256, Some("hs"), &given)).unwrap();
        prop_assert_eq!(claims.subject, Some(subject));
        prop_assert_eq!(Value::Object(claims.all), given);
    }
}
