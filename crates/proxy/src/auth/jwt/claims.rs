//! What a token claims, and whether it holds here and now.

use atoll_base::Timestamp;
use serde_json::{Map, Value};

use super::{Flaw, Rules};
use crate::auth::json;

/// What a token claims that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Whom it is about.
    pub subject: Option<String>,
    /// What it allows: `scope`, or `scp` where there is no `scope`.
    pub scopes: Vec<String>,
    /// Everything that it says.
    pub all: Map<String, Value>,
    /// From when on it is refused: its end and the leeway.
    pub until: Timestamp,
}

/// OpenID Connect allows 255 characters; certificates' subjects are longer.
const SUBJECT_MAX: usize = 1024;
/// The year 9999; beyond it times have no text.
const DATE_MAX: f64 = 253_402_300_799.0;

/// Judges a payload, which is a JSON object, as if its signature had been checked.
pub fn judge(payload: &[u8], rules: &Rules, now: Timestamp) -> Result<Claims, Flaw> {
    let all = json::object(payload).ok_or(Flaw::Malformed("its claims are no JSON object"))?;
    let until = check_times(&all, rules, now)?;
    check_parties(&all, rules)?;
    let subject = text(&all, "sub")?.map(str::to_owned);
    if subject.as_ref().is_some_and(|own| own.len() > SUBJECT_MAX) {
        return Err(Flaw::Malformed("`sub` is too long"));
    }
    let scopes = match scopes(&all, "scope")? {
        Some(scopes) => scopes,
        None => scopes_of_others(&all)?,
    };
    Ok(Claims {
        subject,
        scopes,
        until,
        all,
    })
}

/// RFC 7519, 4.1.4 to 4.1.6. Gives the moment from which on it is refused.
fn check_times(all: &Map<String, Value>, rules: &Rules, now: Timestamp) -> Result<Timestamp, Flaw> {
    let leeway = i64::try_from(rules.leeway.as_micros()).unwrap_or(i64::MAX);
    let end = date(all, "exp")?.ok_or(Flaw::Malformed("it has no end (`exp`)"))?;
    let until = end.saturating_add(leeway);
    let now = now.as_micros();
    if now >= until {
        return Err(Flaw::Expired);
    }
    for name in ["nbf", "iat"] {
        if date(all, name)?.is_some_and(|start| start.saturating_sub(leeway) > now) {
            return Err(Flaw::NotYet);
        }
    }
    Ok(Timestamp::from_micros(until))
}

/// RFC 7519, 4.1.1 and 4.1.3.
fn check_parties(all: &Map<String, Value>, rules: &Rules) -> Result<(), Flaw> {
    let issuer = text(all, "iss")?;
    if rules.issuer.is_some() && issuer != rules.issuer.as_deref() {
        return Err(Flaw::Issuer);
    }
    let ours = |given: &str| rules.audience.iter().any(|own| own == given);
    let for_us = match all.get("aud") {
        None => rules.audience.is_empty(),
        Some(Value::String(one)) => ours(one),
        Some(Value::Array(some)) if some.iter().all(Value::is_string) => {
            some.iter().filter_map(Value::as_str).any(ours)
        }
        Some(_) => return Err(Flaw::Malformed("`aud` is no text and no list of texts")),
    };
    if for_us { Ok(()) } else { Err(Flaw::Audience) }
}

/// `scp`: a list with Okta, a text with Entra ID.
fn scopes_of_others(all: &Map<String, Value>) -> Result<Vec<String>, Flaw> {
    Ok(scopes(all, "scp")?.unwrap_or_default())
}

/// Words in one text (RFC 8693, 4.2), or a list of them.
fn scopes(all: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, Flaw> {
    let words = |text: &str| {
        let words = text.split(' ').filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    match all.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(words(text))),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            let texts = list.iter().filter_map(Value::as_str);
            Ok(Some(texts.flat_map(words).collect()))
        }
        Some(_) => Err(Flaw::Malformed("its scopes are no text and no list")),
    }
}

fn text<'a>(all: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Flaw> {
    match all.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Flaw::Malformed("`iss` or `sub` is no text")),
    }
}

/// A date in microseconds: seconds, with a fraction perhaps (RFC 7519, 2).
fn date(all: &Map<String, Value>, name: &str) -> Result<Option<i64>, Flaw> {
    let Some(value) = all.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|seconds| seconds.abs() <= DATE_MAX);
    let seconds = seconds.ok_or(Flaw::Malformed("a date is no number of seconds"))?;
    Ok(Some((seconds * 1_000_000.0) as i64))
}
