//! The target of a request: split, checked and normalized once, before anything looks at it.
//!
//! Routing and the service must see the same path, or a route that protects `/admin` is walked
//! around with `/x/../admin`. So the normalized path is what is matched *and* what is forwarded:
//! - `.` and `..` segments are resolved (RFC 3986, 5.2.4), also when written as `%2e`;
//! - several slashes in a row count as one;
//! - escapes of characters that need none are undone (`%41` is `A`), the others are written with
//!   capitals. `%2F` therefore stays an escaped slash and never separates segments; `%25` stays,
//!   so nothing is ever decoded twice;
//! - a broken escape, an escaped NUL, a backslash, `#` or anything outside visible ASCII is refused.
//!
//! The query is passed on byte for byte.

use std::borrow::Cow;

/// A request target that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It is neither a path nor an absolute URI.
    #[error("the request target is neither a path nor a URI")]
    Form,
    /// A character that a path or query may not have.
    #[error("the request target has a character that must be escaped")]
    Character,
    /// A `%` without two hexadecimal digits, or `%00`.
    #[error("the request target has a broken escape")]
    Escape,
}

/// A checked request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The authority, if the target was an absolute URI (`GET http://host/path`).
    pub authority: Option<&'a str>,
    /// The normalized path; starts with a slash, or is `*` alone.
    pub path: Cow<'a, str>,
    /// The query with its question mark, or nothing.
    pub query: &'a str,
}

const BAD: u8 = 0;
const PLAIN: u8 = 1;
const SLASH: u8 = 2;
const PERCENT: u8 = 3;
const QUERY: u8 = 4;

/// What each byte means within a path. Besides what RFC 3986 allows, the characters that browsers
/// and tools send unescaped are let through.
const CLASS: [u8; 256] = {
    let mut class = [BAD; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        class[byte] = match byte as u8 {
            b'/' => SLASH,
            b'%' => PERCENT,
            b'?' => QUERY,
            b'\\' | b'#' => BAD,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
};

/// Checks and normalizes a request target. Borrows when there is nothing to change.
pub fn parse(target: &str) -> Result<Target<'_>, BadTarget> {
    let (authority, rest) = match target.as_bytes().first() {
        Some(b'/') => (None, target),
        Some(b'*') if target.len() == 1 => {
            return Ok(Target {
                authority: None,
                path: Cow::Borrowed("*"),
                query: "",
            });
        }
        _ => split_absolute(target)?,
    };
    let (end, clean) = scan(rest.as_bytes())?;
    let (path, query) = rest.split_at(end);
    if !query
        .bytes()
        .all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#')
    {
        return Err(BadTarget::Character);
    }
    let path = if clean {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(resolve(&unescape(path)?))
    };
    Ok(Target {
        authority,
        path,
        query,
    })
}

/// The normal form of a path alone, as [`parse`] makes it.
pub(crate) fn normalize(path: &str) -> Result<String, BadTarget> {
    Ok(resolve(&unescape(path)?))
}

fn split_absolute(target: &str) -> Result<(Option<&str>, &str), BadTarget> {
    let scheme_end = target.find("://").ok_or(BadTarget::Form)?;
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(BadTarget::Form);
    }
    let rest = &target[scheme_end + 3..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Ok((Some(authority), path))
}

/// Finds the end of the path, and whether it already is in its normal form.
fn scan(bytes: &[u8]) -> Result<(usize, bool), BadTarget> {
    // An absolute URI may have no path at all; the normal form is then a slash.
    let mut clean = bytes.first() == Some(&b'/');
    let mut after_slash = false;
    for (at, byte) in bytes.iter().enumerate() {
        match CLASS[usize::from(*byte)] {
            PLAIN => {
                // A segment that starts with a dot may be a dot segment.
                clean &= !(after_slash && *byte == b'.');
                after_slash = false;
            }
            SLASH => {
                clean &= !after_slash;
                after_slash = true;
            }
            PERCENT => {
                clean = false;
                after_slash = false;
            }
            QUERY => return Ok((at, clean)),
            _ => return Err(BadTarget::Character),
        }
    }
    Ok((bytes.len(), clean))
}

/// Undoes needless escapes and writes the others with capitals.
fn unescape(path: &str) -> Result<String, BadTarget> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digits = rest
            .as_bytes()
            .get(at + 1..at + 3)
            .ok_or(BadTarget::Escape)?;
        let byte = match digits {
            [high, low] => hex(*high)? << 4 | hex(*low)?,
            _ => return Err(BadTarget::Escape),
        };
        match byte {
            0 => return Err(BadTarget::Escape),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Resolves dot segments and empty segments.
fn resolve(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    let mut ends_open = true;
    for segment in path.split('/') {
        ends_open = matches!(segment, "" | "." | "..");
        if segment == ".." {
            out.truncate(out.rfind('/').unwrap_or(0));
        } else if !ends_open {
            out.push('/');
            out.push_str(segment);
        }
    }
    if ends_open {
        out.push('/');
    }
    out
}

fn hex(digit: u8) -> Result<u8, BadTarget> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadTarget::Escape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(target: &str) -> String {
        parse(target).unwrap().path.into_owned()
    }

    #[test]
    fn paths_are_normalized() {
        for (given, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("//a///b//", "/a/b/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/..%2fb", "/a/..%2Fb"),
            ("/%41%7e", "/A~"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a;b=c", "/a;b=c"),
        ] {
            assert_eq!(path(given), normal, "{given}");
        }
    }

    #[test]
    fn a_clean_path_is_not_copied() {
        let target = parse("/orders/17?x=[1]&y=%2e%2e//").unwrap();
        assert!(matches!(target.path, Cow::Borrowed("/orders/17")));
        assert_eq!(target.query, "?x=[1]&y=%2e%2e//");
    }

    #[test]
    fn absolute_uris_are_taken_apart() {
        let target = parse("http://shop.example:81/a//b?c").unwrap();
        assert_eq!(target.authority, Some("shop.example:81"));
        assert_eq!((&*target.path, target.query), ("/a/b", "?c"));
        let target = parse("HTTPS://shop.example?c").unwrap();
        assert_eq!((&*target.path, target.query), ("/", "?c"));
        assert_eq!(path("*"), "*");
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (target, error) in [
            ("", BadTarget::Form),
            ("a", BadTarget::Form),
            ("ftp://a/b", BadTarget::Form),
            ("**", BadTarget::Form),
            ("/a\\b", BadTarget::Character),
            ("/a#b", BadTarget::Character),
            ("/a?b#c", BadTarget::Character),
            ("/ä", BadTarget::Character),
            ("/a?ä", BadTarget::Character),
            ("/%", BadTarget::Escape),
            ("/%4", BadTarget::Escape),
            ("/%zz", BadTarget::Escape),
            ("/%00", BadTarget::Escape),
        ] {
            assert_eq!(parse(target), Err(error), "{target}");
        }
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(target in "/([a-c./%2eEfF]|%2e|%2F|//|\\.\\.){0,12}") {
            if let Ok(once) = parse(&target) {
                let twice = parse(&once.path).unwrap();
                prop_assert_eq!(&twice.path, &once.path);
                prop_assert!(!once.path.split('/').any(|segment| segment == ".." || segment == "."));
                prop_assert!(!once.path.contains("//"));
                prop_assert!(once.path.starts_with('/'));
            }
        }

        #[test]
        fn no_target_makes_it_panic(target in "\\PC{0,40}") {
            let _ = parse(&target);
        }
    }
}
