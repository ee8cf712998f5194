//! What messages say about caching: `Cache-Control`, `Pragma`, `Expires`, `Age`, `Date`.
//!
//! A reader of these fields must not guess in favour of keeping: what cannot be read counts as the
//! stricter reading, and of several values the strictest (RFC 9111, 4.2.1).

use std::time::UNIX_EPOCH;

use crate::http::field::Fields;

/// What a request asks of caches (RFC 9111, 5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    /// How stale an answer may be; `u64::MAX` for any.
    pub(crate) max_stale: Option<u64>,
}

/// What an answer says to caches (RFC 9111, 5.2.2; RFC 5861).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    /// As that, for shared caches; but no word about who may have it (RFC 9111, 3.5).
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
}

/// As long as any number of seconds is taken for (RFC 9111, 1.2.2).
const FOREVER: u64 = 1 << 31;

impl Wishes {
    /// Reads the fields of a request.
    pub(crate) fn read(fields: &Fields<'_, '_>) -> Self {
        let mut own = Self::default();
        let mut is_there = false;
        directives(fields, |name, value| {
            is_there = true;
            match name {
                "no-store" => own.no_store = true,
                "no-cache" => own.no_cache = true,
                "only-if-cached" => own.only_if_cached = true,
                "max-age" => own.max_age = Some(least(own.max_age, value)),
                // Not readable: as fresh as can be.
                "min-fresh" => own.min_fresh = Some(seconds(value).unwrap_or(FOREVER)),
                "max-stale" if value.is_empty() => own.max_stale = Some(u64::MAX),
                "max-stale" => own.max_stale = Some(least(own.max_stale, value)),
                _ => {}
            }
        });
        if !is_there {
            let pragma = fields.get("pragma").unwrap_or_default();
            let mut parts = pragma.split(|byte| *byte == b',');
            own.no_cache = parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-cache"));
        }
        own
    }
}

impl Orders {
    /// Reads the fields of an answer.
    pub(crate) fn read(fields: &Fields<'_, '_>) -> Self {
        let mut own = Self::default();
        directives(fields, |name, value| match name {
            "no-store" => own.no_store = true,
            // With names of fields, it is about those alone; they cannot be told apart here.
            "no-cache" => own.no_cache = true,
            "private" => own.private = true,
            "public" => own.public = true,
            "must-revalidate" => own.must_revalidate = true,
            "proxy-revalidate" => own.proxy_revalidate = true,
            "must-understand" => own.must_understand = true,
            "max-age" => own.max_age = Some(least(own.max_age, value)),
            "s-maxage" => own.s_maxage = Some(least(own.s_maxage, value)),
            "stale-while-revalidate" => {
                own.stale_while_revalidate = Some(least(own.stale_while_revalidate, value));
            }
            "stale-if-error" => own.stale_if_error = Some(least(own.stale_if_error, value)),
            _ => {}
        });
        own
    }
}

/// Seconds since the epoch of a date in any of the three forms (RFC 9110, 5.6.7).
pub(crate) fn date(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let moment = httpdate::parse_http_date(text).ok()?;
    let since = moment.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// The `Age` of an answer in seconds; zero where there is none that can be read (RFC 9111, 5.1).
pub(crate) fn age(fields: &Fields<'_, '_>) -> u64 {
    let value = fields.get("age").unwrap_or_default();
    let first = value.split(|byte| *byte == b',').next().unwrap_or_default();
    let text = std::str::from_utf8(first).unwrap_or_default();
    seconds(text.trim()).unwrap_or(0)
}

/// The smaller of what is known and a value; what cannot be read is zero.
fn least(known: Option<u64>, value: &str) -> u64 {
    let value = seconds(value).unwrap_or(0);
    known.map_or(value, |known| known.min(value))
}

/// A number of seconds, digits only.
fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit: a very long time.
    Some(text.parse().unwrap_or(FOREVER).min(FOREVER))
}

/// Calls `each` with every directive of `Cache-Control`: its name in lower case, and its value
/// without quotes, or an empty one.
fn directives(fields: &Fields<'_, '_>, mut each: impl FnMut(&str, &str)) {
    let lines = fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"));
    for (_, line) in lines {
        // Bytes beyond ASCII make no directive that anyone knows.
        let line = String::from_utf8_lossy(line);
        for part in split_list(&line) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = name.trim().to_ascii_lowercase();
            let value = value.trim();
            let quoted = value
                .strip_prefix('"')
                .and_then(|own| own.strip_suffix('"'));
            each(&name, quoted.unwrap_or(value));
        }
    }
}

/// The members of a list; commas within quotes do not part them (RFC 9110, 5.6.1).
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut in_quotes = false;
    let mut escaped = false;
    text.split(move |letter| {
        if escaped {
            escaped = false;
            return false;
        }
        match letter {
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            ',' => return !in_quotes,
            _ => {}
        }
        false
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::testkit::with_fields;
    use super::*;

    fn orders(text: &str) -> Orders {
        with_fields(text, |fields| Orders::read(&fields))
    }

    fn wishes(text: &str) -> Wishes {
        with_fields(text, |fields| Wishes::read(&fields))
    }

    /// RFC 9111, 5.2.
    #[test]
    fn directives_are_read_whatever_their_spelling() {
        let own = orders(
            "Cache-Control: Max-Age=\"60\" , PUBLIC\r\ncache-control: s-maxage=5,no-cache=\"set-cookie, x\"\r\n",
        );
        assert_eq!(own.max_age, Some(60));
        assert_eq!(own.s_maxage, Some(5));
        assert!(own.public && own.no_cache && !own.no_store && !own.private);
    }

    /// RFC 9111, 4.2.1: of conflicting values, the strictest.
    #[test]
    fn what_is_there_twice_or_cannot_be_read_counts_as_the_stricter() {
        assert_eq!(
            orders("Cache-Control: max-age=60, max-age=5\r\n").max_age,
            Some(5)
        );
        for bad in [
            "max-age=",
            "max-age=-1",
            "max-age=x",
            "max-age=1.5",
            "max-age=+1",
            "max-age",
        ] {
            let own = orders(&format!("Cache-Control: {bad}\r\n"));
            assert_eq!(own.max_age, Some(0), "{bad}");
        }
        let long = "9".repeat(40);
        let own = orders(&format!("Cache-Control: max-age={long}\r\n"));
        assert_eq!(own.max_age, Some(FOREVER));
    }

    /// RFC 9111, 5.2.1 and 5.4.
    #[test]
    fn wishes_of_requests_are_read() {
        let own =
            wishes("Cache-Control: max-stale, min-fresh=3, only-if-cached\r\nPragma: no-cache\r\n");
        assert_eq!((own.max_stale, own.min_fresh), (Some(u64::MAX), Some(3)));
        assert!(
            own.only_if_cached && !own.no_cache,
            "Pragma is for who knows nothing else"
        );
        assert!(wishes("Pragma: x, No-Cache\r\n").no_cache);
    }

    /// RFC 9110, 5.6.7.
    #[test]
    fn dates_of_all_three_forms_are_one_moment() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for bad in ["0", "", "-1", "Sun, 06 Nov 1994 08:49:37 UTC", "tomorrow"] {
            assert_eq!(date(bad.as_bytes()), None, "{bad}");
        }
    }

    /// RFC 9111, 5.1.
    #[test]
    fn an_age_that_is_none_is_zero() {
        for (text, expected) in [
            ("Age: 7\r\n", 7),
            ("Age: 7, 9\r\n", 7),
            ("Age: -7\r\n", 0),
            ("Age: x\r\n", 0),
            ("", 0),
        ] {
            assert_eq!(with_fields(text, |fields| age(&fields)), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_list_is_too_strange(text in "[ -~]{0,60}") {
            let _ = orders(&format!("Cache-Control: {text}\r\n"));
            proptest::prop_assert!(split_list(&text).all(|part| !part.is_empty()));
        }
    }
}
