//! Whether a client has what is kept already, and how to ask a service whether it still holds.

use super::control::{date, split_list};
use crate::http::field::{FieldSet, Fields};

/// The conditions of a request that a cache answers (RFC 9110, 13.1.2 and 13.1.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    none_match: Option<String>,
    modified_since: Option<u64>,
}

/// By what an answer can be told from others of the same request (RFC 9110, 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    /// The entity tag, as it came.
    pub(crate) etag: Option<Box<[u8]>>,
    /// `Last-Modified`, as it came.
    pub(crate) modified: Option<Box<[u8]>>,
}

/// Fields of conditions and ranges: they are about what the client has.
pub(crate) const CONDITIONAL: [&str; 6] = [
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

impl Conditions {
    /// Reads those of a request.
    pub(crate) fn read(fields: &Fields<'_, '_>) -> Self {
        let mut none_match: Option<String> = None;
        let lines = fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("if-none-match"));
        for (_, line) in lines {
            let all = none_match.get_or_insert_default();
            all.push(',');
            all.push_str(&String::from_utf8_lossy(line));
        }
        Self {
            // A date counts only where there are no tags.
            modified_since: match none_match {
                None => fields.get("if-modified-since").and_then(date),
                Some(_) => None,
            },
            none_match,
        }
    }

    /// Whether the client has this answer: it gets 304 (RFC 9110, 13.2.2; RFC 9111, 4.3.2).
    pub(crate) fn have(&self, own: &Validators) -> bool {
        if let Some(tags) = &self.none_match {
            return split_list(tags).any(|tag| {
                tag == "*"
                    || own
                        .etag
                        .as_deref()
                        .is_some_and(|etag| opaque(etag) == opaque(tag.as_bytes()))
            });
        }
        let modified = own.modified.as_deref().and_then(date);
        match (self.modified_since, modified) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    }
}

impl Validators {
    /// Bytes of memory beside itself.
    pub(super) fn size(&self) -> usize {
        let both = [&self.etag, &self.modified].into_iter().flatten();
        both.map(|own| own.len()).sum()
    }

    /// Reads those of an answer.
    pub(crate) fn read(fields: &Fields<'_, '_>) -> Self {
        Self {
            etag: fields.get("etag").map(Into::into),
            modified: fields
                .get("last-modified")
                .filter(|value| date(value).is_some())
                .map(Into::into),
        }
    }

    /// Whether a 304 with the others can be about the answer with these (RFC 9111, 4.3.4).
    pub(crate) fn agree(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(own), Some(other)) => opaque(own) == opaque(other),
            _ => true,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }

    /// The lines that ask whether it still holds (RFC 9111, 4.3.1).
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in [
            ("If-None-Match: ", &self.etag),
            ("If-Modified-Since: ", &self.modified),
        ] {
            if let Some(value) = value {
                for part in [name.as_bytes(), value, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
    }
}

/// The conditional fields of a request.
pub(crate) fn conditional(fields: &Fields<'_, '_>) -> FieldSet {
    fields.named_any(&CONDITIONAL.map(Into::into))
}

/// A tag without its mark of weakness: these are compared weakly (RFC 9110, 8.8.3.2).
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::super::testkit::with_fields;
    use super::*;

    fn has(request: &str, answer: &str) -> bool {
        let conditions = with_fields(request, |fields| Conditions::read(&fields));
        conditions.have(&with_fields(answer, |fields| Validators::read(&fields)))
    }

    /// RFC 9110, 13.1.2.
    #[test]
    fn tags_are_compared_weakly_and_within_lists() {
        let answer = "ETag: \"a,b\"\r\n";
        for (request, expected) in [
            ("If-None-Match: \"a,b\"\r\n", true),
            ("If-None-Match: W/\"a,b\"\r\n", true),
            (
                "If-None-Match: \"x\"\r\nIf-None-Match: \"y\", \"a,b\"\r\n",
                true,
            ),
            ("If-None-Match: *\r\n", true),
            ("If-None-Match: \"a\"\r\n", false),
            ("If-None-Match: a,b\r\n", false),
            ("", false),
        ] {
            assert_eq!(has(request, answer), expected, "{request}");
        }
        assert!(has("If-None-Match: \"x\"\r\n", "ETag: W/\"x\"\r\n"));
    }

    /// RFC 9110, 13.1.3 and 13.2.2.
    #[test]
    fn dates_count_only_without_tags() {
        let old = "Sun, 06 Nov 1994 08:49:37 GMT";
        let new = "Mon, 07 Nov 1994 08:49:37 GMT";
        let answer = format!("Last-Modified: {old}\r\n");
        assert!(has(&format!("If-Modified-Since: {old}\r\n"), &answer));
        assert!(has(&format!("If-Modified-Since: {new}\r\n"), &answer));
        let newer = format!("Last-Modified: {new}\r\n");
        assert!(!has(&format!("If-Modified-Since: {old}\r\n"), &newer));
        let both = format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {new}\r\n");
        assert!(!has(&both, &answer));
        assert!(!has("If-Modified-Since: never\r\n", &answer));
    }
}
