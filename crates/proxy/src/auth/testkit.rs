//! Keys of the RFCs' examples, and an issuer that signs with them. Everyone knows them.

use atoll_base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaKeyPair};
use ring::{hmac, rsa};
use serde_json::{Value, json};

use super::{Algorithm, KeySet, Origin};

/// RFC 7515, A.2.1.
pub(crate) const RSA_PUBLIC: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const RSA_D: &str = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
const RSA_P: &str = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
const RSA_Q: &str = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
const RSA_DP: &str = "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0";
const RSA_DQ: &str = "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU";
const RSA_QI: &str = "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U";
/// RFC 7515, A.3.1.
pub(crate) const EC_PUBLIC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const EC_D: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
/// RFC 8037, A.1.
pub(crate) const ED_PUBLIC: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ED_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
/// RFC 7515, A.1.1.
pub(crate) const SECRET: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

/// Seconds since 1970 that tests take for now.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A set of keys, each with a name or none.
pub(crate) fn set(keys: &[(&str, Option<&str>)]) -> KeySet {
    let keys = keys.iter().map(|(key, id)| {
        let mut key: Value = serde_json::from_str(key).unwrap();
        if let Some(id) = id {
            key["kid"] = json!(id);
        }
        key
    });
    let document = json!({ "keys": keys.collect::<Vec<_>>() });
    KeySet::parse(document.to_string().as_bytes(), Origin::Local).unwrap()
}

/// Claims that hold at [`NOW`], for an audience of none, with some of them changed; null takes one
/// out.
pub(crate) fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example.com", "sub": "user-7", "iat": NOW - 10, "exp": NOW + 300,
        "scope": "orders:read orders:write", "role": "admin",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let members = claims.as_object_mut().unwrap();
    members.retain(|_, value| !value.is_null());
    claims
}

/// A token, signed as `algorithm` with the example key for it.
pub(crate) fn token(algorithm: Algorithm, id: Option<&str>, claims: &Value) -> String {
    let mut header = json!({ "alg": algorithm.name(), "typ": "JWT" });
    if let Some(id) = id {
        header["kid"] = json!(id);
    }
    sign(algorithm, &header.to_string(), &claims.to_string())
}

/// Signs any header and payload.
pub(crate) fn sign(algorithm: Algorithm, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = signature_of(algorithm, signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

pub(crate) fn signature_of(algorithm: Algorithm, signed: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::Rs256 => by_rsa(&signature::RSA_PKCS1_SHA256, signed),
        Algorithm::Rs384 => by_rsa(&signature::RSA_PKCS1_SHA384, signed),
        Algorithm::Rs512 => by_rsa(&signature::RSA_PKCS1_SHA512, signed),
        Algorithm::Ps256 => by_rsa(&signature::RSA_PSS_SHA256, signed),
        Algorithm::Ps384 => by_rsa(&signature::RSA_PSS_SHA384, signed),
        Algorithm::Ps512 => by_rsa(&signature::RSA_PSS_SHA512, signed),
        Algorithm::Es256 => {
            let public: Value = serde_json::from_str(EC_PUBLIC).unwrap();
            let part = |name: &str| decode(public[name].as_str().unwrap());
            let point = [&[4], &part("x")[..], &part("y")].concat();
            let random = SystemRandom::new();
            let method = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(
                method,
                &decode(EC_D),
                &point,
                &random,
            );
            let made = pair.unwrap().sign(&random, signed).unwrap();
            made.as_ref().to_vec()
        }
        Algorithm::Es384 => panic!("the RFCs have no P-384 key: tests make one"),
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&decode(ED_D)).unwrap();
            pair.sign(signed).as_ref().to_vec()
        }
        Algorithm::Hs256 => by_secret(hmac::HMAC_SHA256, &decode(SECRET), signed),
        Algorithm::Hs384 => by_secret(hmac::HMAC_SHA384, &decode(SECRET), signed),
        Algorithm::Hs512 => by_secret(hmac::HMAC_SHA512, &decode(SECRET), signed),
    }
}

pub(crate) fn by_secret(hash: hmac::Algorithm, secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hash, secret);
    hmac::sign(&key, signed).as_ref().to_vec()
}

fn by_rsa(method: &'static dyn RsaEncoding, signed: &[u8]) -> Vec<u8> {
    let public: Value = serde_json::from_str(RSA_PUBLIC).unwrap();
    let public_key = PublicKeyComponents {
        n: decode(public["n"].as_str().unwrap()),
        e: vec![1, 0, 1],
    };
    let pair: rsa::KeyPair = RsaKeyPair::from_components(&KeyPairComponents {
        public_key,
        d: decode(RSA_D),
        p: decode(RSA_P),
        q: decode(RSA_Q),
        dP: decode(RSA_DP),
        dQ: decode(RSA_DQ),
        qInv: decode(RSA_QI),
    })
    .unwrap();
    let mut made = vec![0; pair.public().modulus_len()];
    pair.sign(method, &SystemRandom::new(), signed, &mut made)
        .unwrap();
    made
}
