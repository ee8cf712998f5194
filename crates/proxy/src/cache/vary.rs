//! Which request an answer that is kept is for: the key, and what `Vary` names beside it.

use std::fmt::Write as _;

use super::control::split_list;
use super::stored::Asked;
use crate::http::field::Fields;

/// What an answer is found by: scheme, host in lower case, path in normal form, query (RFC 9111, 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    secure: bool,
    /// All but the scheme.
    text: Box<str>,
}

/// A field of the request, and its value in normal form; none if it was not there.
pub(crate) type Selector = (Box<str>, Option<Box<str>>);

/// Query parameters that do not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ignored(pub(crate) Vec<String>);

impl Key {
    /// Of a request. `query` is with its question mark, if there is one.
    pub(crate) fn new(
        secure: bool,
        host: &[u8],
        path: &str,
        query: &str,
        ignored: &Ignored,
    ) -> Self {
        let mut text = String::with_capacity(host.len() + path.len() + query.len() + 2);
        text.extend(
            host.iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        text.push_str(path);
        if let Some(query) = query.strip_prefix('?') {
            ignored.copy(query, &mut text);
        }
        Self {
            secure,
            text: text.into(),
        }
    }

    /// Host and path.
    pub(super) fn place(&self) -> &str {
        self.text.split('?').next().unwrap_or_default()
    }

    /// The key of what a `Location` or `Content-Location` names, if it is of the same host (RFC 9111,
    /// 4.4).
    pub(crate) fn sibling(&self, target: &[u8]) -> Option<Self> {
        let target = std::str::from_utf8(target).ok()?;
        let place = self.place();
        let (host, own) = place.split_at(place.find('/')?);
        let joined;
        let rest = match target.split_once("://") {
            Some((_, rest)) => {
                let at = rest.find('/')?;
                rest.get(..at)
                    .filter(|own| own.eq_ignore_ascii_case(host))?;
                rest.get(at..)?
            }
            None if target.starts_with('/') => target,
            // Relative to the folder of what was asked for (RFC 3986, 5.2).
            None => {
                let folder = own.rfind('/').and_then(|at| own.get(..=at))?;
                joined = [folder, target].concat();
                &joined
            }
        };
        let target = crate::path::parse(rest)
            .ok()
            .filter(|_| rest.starts_with('/'))?;
        let ignored = Ignored::default();
        let host = host.as_bytes();
        Some(Self::new(
            self.secure,
            host,
            &target.path,
            target.query,
            &ignored,
        ))
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

impl Ignored {
    /// Appends what is left of a query, with its question mark.
    fn copy(&self, query: &str, out: &mut String) {
        if self.0.is_empty() {
            out.push('?');
            out.push_str(query);
            return;
        }
        let mut first = true;
        for part in query.split('&') {
            let name = part.split('=').next().unwrap_or_default();
            if self.0.iter().any(|own| fits(own, name)) {
                continue;
            }
            out.push(if std::mem::take(&mut first) { '?' } else { '&' });
            out.push_str(part);
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// What an answer differs by, of this request; none if by everything (`*`), or by what the service was
/// told and the client did not say: who the client is, above all. `more` are names beside those of
/// `Vary` (RFC 9111, 4.1).
pub(crate) fn selectors(
    answer: &Fields<'_, '_>,
    asked: &Asked<'_>,
    more: &[String],
) -> Option<Vec<Selector>> {
    let mut names: Vec<String> = more.iter().map(|name| name.to_ascii_lowercase()).collect();
    for (_, value) in answer
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("vary"))
    {
        let value = String::from_utf8_lossy(value);
        names.extend(split_list(&value).map(str::to_ascii_lowercase));
    }
    // The key has these.
    names.retain(|name| !["host", "x-forwarded-host", "x-forwarded-proto"].contains(&&**name));
    let is_foreign = |name: &String| name == "*" || is_told(name, asked.rewritten);
    if names.iter().any(is_foreign) {
        return None;
    }
    names.sort_unstable();
    names.dedup();
    let selector = |name: String| {
        let value = value(&asked.fields, &name);
        (name.into_boxed_str(), value)
    };
    let selectors: Vec<Selector> = names.into_iter().map(selector).collect();
    let bytes = selectors
        .iter()
        .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()));
    (bytes.sum::<usize>() <= SELECTORS_BYTES_MAX).then_some(selectors)
}

/// Selectors are kept beside the answer; a client decides how long they are.
const SELECTORS_BYTES_MAX: usize = 2048;

/// Whether a field of the request to a service is the proxy's. Names are in lower case.
fn is_told(name: &str, rewritten: &[Box<str>]) -> bool {
    let plain = name.replace('_', "-");
    let always = [
        "connection",
        "forwarded",
        "max-forwards",
        "te",
        "traceparent",
        "tracestate",
        "via",
        "x-real-ip",
        "x-trace-id",
    ];
    always.contains(&&*plain)
        || ["atoll-", "client-cert", "proxy-", "x-forwarded-"]
            .iter()
            .any(|start| plain.starts_with(start))
        || rewritten
            .iter()
            .any(|own| own.replace('_', "-").eq_ignore_ascii_case(&plain))
}

/// Whether a request is one that an answer with these selectors is for.
pub(crate) fn selects(selectors: &[Selector], request: &Fields<'_, '_>) -> bool {
    selectors
        .iter()
        .all(|(name, expected)| value(request, name) == *expected)
}

/// The value of a field in normal form: lines joined, and no white space around commas, since
/// neither can mean anything.
fn value(fields: &Fields<'_, '_>, name: &str) -> Option<Box<str>> {
    let mut out: Option<String> = None;
    for (_, line) in fields
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name))
    {
        let out = out.get_or_insert_default();
        for part in line.split(|byte| *byte == b',') {
            if !out.is_empty() {
                out.push(',');
            }
            // Bytes as they are: two values that differ anywhere stay apart.
            for byte in part.trim_ascii() {
                match byte {
                    0x20..=0x7e => out.push(char::from(*byte)),
                    // Writing to memory does not fail.
                    _ => drop(write!(out, "\\x{byte:02x}")),
                }
            }
        }
    }
    out.map(String::into_boxed_str)
}

#[cfg(test)]
mod tests {
    use super::super::testkit::with_fields;
    use super::*;

    fn of(answer: &str, request: &str) -> Option<Vec<Selector>> {
        with_fields(answer, |answer| {
            with_fields(request, |fields| {
                let asked = Asked {
                    fields,
                    authenticated: false,
                    at: 0,
                    rewritten: &["X-User".into()],
                };
                selectors(&answer, &asked, &["X-Extra".to_owned()])
            })
        })
    }

    /// RFC 9111, 2.
    #[test]
    fn hosts_have_no_case_and_queries_matter() {
        let none = Ignored::default();
        let key = |host: &str, query| Key::new(true, host.as_bytes(), "/a", query, &none);
        assert_eq!(key("Shop", "?x=1"), key("shop", "?x=1"));
        assert_ne!(key("shop", "?x=1"), key("shop", "?x=2"));
        assert_ne!(key("shop", ""), key("shop2", ""));
        assert_ne!(key("shop", ""), key("shop", "?"));
        assert_ne!(key("shop", ""), Key::new(false, b"shop", "/a", "", &none));
        let ignored = Ignored(vec!["utm_*".to_owned(), "ref".to_owned()]);
        let key = |query| Key::new(false, b"a", "/", query, &ignored);
        assert_eq!(key("?utm_a=1&x=1&ref"), key("?x=1"));
        assert_eq!(key("?utm_a=1"), key(""));
        assert_ne!(key("?x=1&reference=1"), key("?x=1"));
    }

    /// RFC 9111, 4.4; RFC 3986, 5.2.
    #[test]
    fn a_sibling_is_found_by_any_kind_of_reference() {
        let none = Ignored::default();
        let key = |path| Key::new(true, b"shop", path, "", &none);
        let own = key("/a/b");
        for (target, expected) in [
            ("/c", Some(key("/c"))),
            ("c", Some(key("/a/c"))),
            ("../c", Some(key("/c"))),
            ("https://shop/c", Some(key("/c"))),
            ("https://other/c", None),
        ] {
            assert_eq!(own.sibling(target.as_bytes()), expected, "{target}");
        }
    }

    /// What a service is told about the client, and the client did not say, selects nothing: an answer
    /// that differs by it is nobody else's.
    #[test]
    fn what_varies_by_who_asks_is_not_kept() {
        for name in [
            "Atoll-Subject",
            "Client-Cert",
            "Forwarded",
            "X-Forwarded-For",
            "X-Real-IP",
            "X-User",
            "x_user",
        ] {
            assert_eq!(of(&format!("Vary: {name}\r\n"), ""), None, "{name}");
        }
        let by_key = of(
            "Vary: Host, X-Forwarded-Proto\r\n",
            "X-Forwarded-Proto: x\r\n",
        );
        assert_eq!(by_key.map(|own| own.len()), Some(1), "X-Extra only");
        let long = format!("A: {}\r\n", "x".repeat(4000));
        assert_eq!(of("Vary: a\r\n", &long), None);
    }

    /// RFC 9111, 4.1.
    #[test]
    fn a_request_fits_if_all_fields_that_vary_are_the_same() {
        let own = of(
            "Vary: A, b\r\nvary: C\r\n",
            "a: 1,  2\r\nA: 3\r\nX-Extra: y\r\n",
        )
        .unwrap();
        let fits = |request: &str| with_fields(request, |request| selects(&own, &request));
        assert!(fits("A: 1, 2 ,3\r\nx-extra: y\r\nother: z\r\n"));
        assert!(!fits("A: 1, 2\r\nx-extra: y\r\n"));
        assert!(
            !fits("A: 1,2,3\r\nx-extra: y\r\nB: \r\n"),
            "empty is not absent"
        );
        assert!(
            !fits("A: 1,2,3\r\n"),
            "what the operator has named counts as well"
        );
        assert_eq!(of("Vary: a, *\r\n", ""), None);
    }
}
