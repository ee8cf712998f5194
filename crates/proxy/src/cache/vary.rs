//! Which request an answer that is kept is for: the key, and what `Vary` names beside it.

use std::fmt::Write as _;

use super::control::split_list;
use crate::http::field::Fields;

/// What an answer is found by: host in lower case, path in normal form, query (RFC 9111, 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(super) Box<str>);

/// A field of the request, and its value in normal form; none if it was not there.
pub(crate) type Selector = (Box<str>, Option<Box<str>>);

/// Query parameters that do not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ignored(pub(crate) Vec<String>);

impl Key {
    /// Of a request. `query` is without its question mark.
    pub(crate) fn new(host: &[u8], path: &str, query: &str, ignored: &Ignored) -> Self {
        let mut text = String::with_capacity(host.len() + path.len() + query.len() + 2);
        text.extend(
            host.iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        text.push_str(path);
        text.push('?');
        ignored.copy(query, &mut text);
        Self(text.into())
    }

    /// Host and path, and the query with its question mark.
    pub(super) fn parts(&self) -> (&str, &str) {
        let at = self.0.find('?').unwrap_or(self.0.len());
        self.0.split_at(at)
    }

    /// The key of what a `Location` or `Content-Location` names, if it is of the same host (RFC 9111,
    /// 4.4).
    pub(crate) fn sibling(&self, target: &[u8]) -> Option<Self> {
        let target = std::str::from_utf8(target).ok()?;
        let (place, _) = self.parts();
        let host = place.get(..place.find('/')?)?;
        let rest = match target.split_once("://") {
            Some((_, rest)) => {
                let at = rest.find('/')?;
                rest.get(..at)
                    .filter(|own| own.eq_ignore_ascii_case(host))?;
                rest.get(at..)?
            }
            None => target,
        };
        let target = crate::path::parse(rest)
            .ok()
            .filter(|_| rest.starts_with('/'))?;
        let query = target.query.strip_prefix('?').unwrap_or_default();
        Some(Self::new(
            host.as_bytes(),
            &target.path,
            query,
            &Ignored::default(),
        ))
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Ignored {
    /// Appends what is left of a query.
    fn copy(&self, query: &str, out: &mut String) {
        if self.0.is_empty() {
            out.push_str(query);
            return;
        }
        let mut first = true;
        for part in query.split('&') {
            let name = part.split('=').next().unwrap_or_default();
            if self.0.iter().any(|own| fits(own, name)) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push('&');
            }
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

/// What an answer differs by, of this request; none if by everything (`*`). `more` are names beside
/// those of `Vary` (RFC 9111, 4.1).
pub(crate) fn selectors(
    answer: &Fields<'_, '_>,
    request: &Fields<'_, '_>,
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
    if names.iter().any(|name| name == "*") {
        return None;
    }
    names.sort_unstable();
    names.dedup();
    let selector = |name: String| {
        let value = value(request, &name);
        (name.into_boxed_str(), value)
    };
    Some(names.into_iter().map(selector).collect())
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
            with_fields(request, |request| {
                selectors(&answer, &request, &["X-Extra".to_owned()])
            })
        })
    }

    /// RFC 9111, 2.
    #[test]
    fn hosts_have_no_case_and_queries_matter() {
        let key = |host: &str, query| Key::new(host.as_bytes(), "/a", query, &Ignored::default());
        assert_eq!(key("Shop", "x=1"), key("shop", "x=1"));
        assert_ne!(key("shop", "x=1"), key("shop", "x=2"));
        assert_ne!(key("shop", ""), key("shop2", ""));
        let ignored = Ignored(vec!["utm_*".to_owned(), "ref".to_owned()]);
        let key = |query| Key::new(b"a", "/", query, &ignored);
        assert_eq!(key("utm_a=1&x=1&ref"), key("x=1"));
        assert_ne!(key("x=1&reference=1"), key("x=1"));
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
