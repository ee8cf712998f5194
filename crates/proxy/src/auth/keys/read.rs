//! Reading a JSON Web Key Set.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::material::Material;
use super::{Key, KeyError, KeySet, Origin, SET_BYTES_MAX, SET_KEYS_MAX};
use crate::auth::{Algorithm, json};

type Members = Map<String, Value>;

/// The RSA keys that `ring` verifies with, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

pub(super) fn set(text: &[u8], origin: Origin) -> Result<KeySet, KeyError> {
    check_size(text.len(), "bytes", SET_BYTES_MAX)?;
    let document = json::object(text).ok_or(KeyError::NoSet)?;
    let Some(Value::Array(list)) = document.get("keys") else {
        return Err(KeyError::NoSet);
    };
    check_size(list.len(), "keys", SET_KEYS_MAX)?;
    let mut set = KeySet::default();
    for (at, entry) in list.iter().enumerate() {
        match read(entry, origin) {
            Ok(key) => set.keys.push(key),
            Err(reason) => set.skipped.push(match entry.get("kid") {
                Some(Value::String(id)) => format!("key '{}' {reason}", id.escape_default()),
                _ => format!("key {} {reason}", at + 1),
            }),
        }
    }
    if set.keys.is_empty() {
        return Err(KeyError::Empty(set.skipped));
    }
    Ok(set)
}

fn check_size(size: usize, unit: &'static str, most: usize) -> Result<(), KeyError> {
    if size > most {
        return Err(KeyError::TooLarge { size, unit, most });
    }
    Ok(())
}

/// Reads one key, or says why it is left out.
fn read(entry: &Value, origin: Origin) -> Result<Key, &'static str> {
    let members = entry.as_object().ok_or("is no object")?;
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err("has a member of the wrong type"),
    };
    if text("use")?.is_some_and(|usage| usage != "sig") {
        return Err("is not for signatures (`use`)");
    }
    let operations = members.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|list| !list.iter().any(|one| one == "verify")) {
        return Err("is not for verifying (`key_ops`)");
    }
    let algorithm = match text("alg")? {
        None => None,
        Some(name) => Some(Algorithm::parse(name).ok_or("has an unknown algorithm (`alg`)")?),
    };
    let material = match (text("kty")?, text("crv")?) {
        (Some("RSA"), _) => rsa(members)?,
        (Some("EC"), Some("P-256")) => Material::P256(point(members, 32)?),
        (Some("EC"), Some("P-384")) => Material::P384(point(members, 48)?),
        (Some("OKP"), Some("Ed25519")) => Material::Ed25519(exactly(members, "x", 32)?),
        (Some("oct"), _) if origin == Origin::Local => {
            Material::secret(&bytes(members, "k")?).ok_or("is a secret of less than 32 bytes")?
        }
        (Some("oct"), _) => return Err("is a secret, and secrets are not taken from the network"),
        _ => return Err("is of a kind that is not known (`kty`, `crv`)"),
    };
    let key = Key {
        id: text("kid")?.map(Into::into),
        algorithm,
        material,
    };
    match algorithm {
        Some(algorithm) if !key.fits(algorithm) => Err("does not fit its algorithm (`alg`)"),
        _ => Ok(key),
    }
}

fn rsa(members: &Members) -> Result<Material, &'static str> {
    let number = |name| {
        let bytes = bytes(members, name)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok::<_, &'static str>(bytes[zeros..].to_vec())
    };
    let (n, e) = (number("n")?, number("e")?);
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("has less than 2048 or more than 8192 bits");
    }
    // 3 is the least that `ring` takes, and 33 bits the most.
    let odd = e.last().is_some_and(|last| last % 2 == 1);
    if !odd || e == [1] || e.len() > 5 {
        return Err("has an exponent that is not usable");
    }
    Ok(Material::Rsa { n, e })
}

/// An uncompressed point (SEC 1, 2.3.3). That it lies on the curve is checked when it is used.
fn point(members: &Members, length: usize) -> Result<Vec<u8>, &'static str> {
    let (x, y) = (
        exactly(members, "x", length)?,
        exactly(members, "y", length)?,
    );
    Ok([&[4], &x[..], &y].concat())
}

fn exactly(members: &Members, name: &str, length: usize) -> Result<Vec<u8>, &'static str> {
    let bytes = bytes(members, name)?;
    if bytes.len() != length {
        return Err("has a number of the wrong length");
    }
    Ok(bytes)
}

fn bytes(members: &Members, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = members.get(name).and_then(Value::as_str);
    let text = text.ok_or("lacks a part")?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "has a part that is no base64url")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testkit::{EC_PUBLIC, ED_PUBLIC, RSA_PUBLIC};
    use proptest::prelude::*;

    fn parse(keys: &str, origin: Origin) -> Result<KeySet, KeyError> {
        set(format!("{{\"keys\":[{keys}]}}").as_bytes(), origin)
    }

    /// The same key with one more member.
    fn with(key: &str, member: &str) -> String {
        format!("{{{member},{}", &key[1..])
    }

    #[test]
    fn what_is_not_understood_is_left_out_with_its_reason() {
        let secret = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
        for (key, reason) in [
            (with(EC_PUBLIC, r#""use":"enc""#), "(`use`)"),
            (with(EC_PUBLIC, r#""key_ops":["encrypt"]"#), "(`key_ops`)"),
            (with(EC_PUBLIC, r#""alg":"RS256""#), "does not fit"),
            (with(RSA_PUBLIC, r#""alg":"HS256""#), "does not fit"),
            (with(EC_PUBLIC, r#""alg":"none""#), "unknown algorithm"),
            (with(EC_PUBLIC, r#""kid":7"#), "wrong type"),
            (EC_PUBLIC.replace("P-256", "P-521"), "not known"),
            (EC_PUBLIC.replace("P-256", "P-384"), "wrong length"),
            (EC_PUBLIC.replace("\"x\"", "\"z\""), "lacks a part"),
            (ED_PUBLIC.replace("11qY", "11q"), "base64url"),
            (RSA_PUBLIC.replace("AQAB", "AQ"), "exponent"),
            (RSA_PUBLIC.replace("AQAB", "AQAC"), "exponent"),
            (r#"{"kty":"RSA","e":"AQAB","n":"AQAB"}"#.to_owned(), "2048"),
            (r#"{"kty":"RSA","e":"AQAB","n":""}"#.to_owned(), "2048"),
            (secret.to_owned(), "not taken from the network"),
            ("7".to_owned(), "no object"),
        ] {
            let both = format!("{key},{ED_PUBLIC}");
            let set = parse(&both, Origin::Remote).unwrap();
            assert_eq!(set.len(), 1, "{key}");
            assert!(set.skipped()[0].contains(reason), "{:?}", set.skipped());
            assert!(matches!(
                parse(&key, Origin::Remote),
                Err(KeyError::Empty(_))
            ));
        }
        assert_eq!(parse(secret, Origin::Local).unwrap().len(), 1);
        let short = r#"{"kty":"oct","k":"c2hvcnQ"}"#;
        assert!(parse(short, Origin::Local).is_err());
    }

    #[test]
    fn a_document_that_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(
                set(text.as_bytes(), Origin::Local).unwrap_err(),
                KeyError::NoSet,
                "{text}"
            );
        }
        let none = KeyError::Empty(Vec::new());
        assert_eq!(parse("", Origin::Local).unwrap_err(), none);
        assert!(none.to_string().ends_with("it is empty"));
        let many = vec![ED_PUBLIC; SET_KEYS_MAX + 1].join(",");
        assert!(matches!(
            parse(&many, Origin::Local),
            Err(KeyError::TooLarge { unit: "keys", .. })
        ));
        let long = vec![b' '; SET_BYTES_MAX + 1];
        assert!(matches!(
            set(&long, Origin::Local),
            Err(KeyError::TooLarge { unit: "bytes", .. })
        ));
    }

    #[test]
    fn a_set_shows_no_secret() {
        let set = KeySet::secret(b"0123456789abcdef0123456789abcdef").unwrap();
        let shown = format!("{set:?}");
        assert!(
            !shown.contains("012345") && !shown.contains("48, 49"),
            "{shown}"
        );
        assert!(matches!(
            KeySet::secret(b"secret"),
            Err(KeyError::ShortSecret(6))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(
            text in r#"\{"keys":\[\{("(kty|kid|n|e|x|y|k|crv|use|alg)":("RSA"|"EC"|"OKP"|"oct"|"P-256"|"AQAB"|""|1|null),?){0,8}\}\]\}"#,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = set(text.as_bytes(), Origin::Local);
            let _ = set(&bytes, Origin::Remote);
        }
    }
}
