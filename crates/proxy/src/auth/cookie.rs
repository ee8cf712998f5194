//! One cookie of a request (RFC 6265bis, 4.2).
//!
//! Services differ on which of two cookies with one name they take, and any subdomain can make a
//! browser send a second one. So two are an answer of their own, and not used. Names are told apart
//! by case, values are taken as they are, quotes included, as the text says.

use crate::http::field::Fields;

/// What is found of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie<'a> {
    /// There is none of the name.
    None,
    /// Its value.
    One(&'a [u8]),
    /// There are several of the name.
    Several,
}

/// Looks a cookie up in all `Cookie` fields of a request.
pub(super) fn of<'b>(fields: &Fields<'_, 'b>, name: &str) -> Cookie<'b> {
    let lines = fields.iter();
    let lines = lines.filter(|(own, _)| own.eq_ignore_ascii_case("cookie"));
    among(lines.map(|(_, value)| value), name)
}

/// Looks a cookie up in the value of one `Cookie` field.
pub fn find<'a>(value: &'a [u8], name: &str) -> Cookie<'a> {
    among(std::iter::once(value), name)
}

fn among<'a>(values: impl Iterator<Item = &'a [u8]>, name: &str) -> Cookie<'a> {
    let mut found = Cookie::None;
    let pairs = values.flat_map(|value| value.split(|byte| *byte == b';'));
    for pair in pairs {
        let Some(equals) = memchr::memchr(b'=', pair) else {
            continue;
        };
        let (own, value) = (trim(&pair[..equals]), trim(&pair[equals + 1..]));
        if own != name.as_bytes() {
            continue;
        }
        if !matches!(found, Cookie::None) {
            return Cookie::Several;
        }
        found = Cookie::One(value);
    }
    found
}

/// Without the spaces and tabs around it.
fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte));
    let end = text.iter().rposition(|byte| !blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => &text[start..=end],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        let value = b"a=1; session=abc=; b;\tc = \"x\" ;d=; Session=other";
        assert_eq!(find(value, "session"), Cookie::One(b"abc="));
        assert_eq!(find(value, "Session"), Cookie::One(b"other"));
        assert_eq!(find(value, "c"), Cookie::One(b"\"x\""));
        assert_eq!(find(value, "d"), Cookie::One(b""));
        for absent in ["b", "sess", "ession", "x", "SESSION"] {
            assert_eq!(find(value, absent), Cookie::None, "{absent}");
        }
    }

    #[test]
    fn two_of_one_name_are_not_one() {
        assert_eq!(find(b"a=1; a=2", "a"), Cookie::Several);
        assert_eq!(find(b"a=1; a=1", "a"), Cookie::Several);
        let fields = [&b"a=1"[..], b"b=1; a=2"];
        assert_eq!(among(fields.into_iter(), "a"), Cookie::Several);
        assert_eq!(among(fields.into_iter(), "b"), Cookie::One(b"1"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&value, "a");
        }

        #[test]
        fn what_is_written_is_found(
            before in "[b-z]{1,5}=[!-:<-~]{0,9}",
            value in "[!-:<-~]{0,20}",
        ) {
            let line = format!("{before}; a={value}");
            prop_assert_eq!(find(line.as_bytes(), "a"), Cookie::One(value.as_bytes()));
        }
    }
}
