//! What a request carries from hop to hop: a member of its own in the W3C `tracestate`.
//!
//! ```text
//! tracestate: atoll=d:1763690400123;r:1,rojo=00f067aa0ba902b7,congo=t61rcWkgMzE
//!                   deadline         retried above
//! ```
//! Any SDK that continues a trace passes it on, so a deadline and the mark of a retry reach services
//! that know nothing of them. Nothing in it is secret and nothing in it must be believed: whoever
//! forges it can only make their own requests end earlier and be retried less.
//!
//! By the W3C text: our member is unique and goes first, the others keep their order and their
//! spelling; a list that is invalid or has more than 32 members is dropped as a whole; if ours makes
//! it 33, the last one goes. Duplicates of other keys are their sender's affair and pass. Keys are
//! held to the stricter of the two published grammars where `@` is concerned (level 1, a
//! Recommendation), and may begin with a digit (level 2).

use std::io::Write as _;

use memchr::memchr;

use super::deadline::{Deadline, digits};

/// Our key.
pub const KEY: &[u8] = b"atoll";

/// Members of a list, by the W3C text.
const MEMBERS_MAX: usize = 32;

/// What the member says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hop {
    /// Until when somebody waits.
    pub deadline: Option<Deadline>,
    /// An upper layer already tries this request again: below, it is not retried.
    pub retried: bool,
}

impl Hop {
    /// Reads our member from the fields of a request, in their order. What is not understood is as
    /// if it were not there. Of several the first counts, which is the latest; the others were to be
    /// removed by whoever wrote it.
    pub fn read<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let ours = members(fields)
            .filter_map(split)
            .find(|(key, _)| *key == KEY);
        ours.map_or_else(Self::default, |(_, value)| Self::parse(value))
    }

    /// Whether there is anything to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn parse(value: &[u8]) -> Self {
        let mut hop = Self::default();
        for part in value.split(|byte| *byte == b';') {
            if let Some(text) = part.strip_prefix(b"d:") {
                hop.deadline = digits(text, 20).map(Deadline::from_unix_millis);
            } else if let Some(text) = part.strip_prefix(b"r:") {
                hop.retried = digits(text, 3).is_some_and(|count| count > 0);
            }
        }
        hop
    }

    /// Appends our member without its key; nothing if there is nothing to say.
    fn write(&self, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        if let Some(deadline) = self.deadline {
            let _ = write!(out, "d:{}", deadline.as_unix_millis());
        }
        if self.retried {
            let separator = if self.deadline.is_some() { ";" } else { "" };
            let _ = write!(out, "{separator}r:1");
        }
    }
}

/// Appends the value of the one `tracestate` field that goes to the next hop: `hop`, if it says
/// anything, and the members of the `fields` that came, if they are valid. Returns whether anything
/// was appended; an empty field is not to be sent.
pub fn write<'a>(hop: &Hop, fields: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    if !hop.is_empty() {
        out.extend_from_slice(KEY);
        out.push(b'=');
        hop.write(out);
    }
    let ours = out.len();
    let mut room = MEMBERS_MAX - usize::from(ours > before);
    for (at, member) in members(fields).enumerate() {
        let parts = split(member).filter(|(key, value)| is_key(key) && is_value(value));
        let Some((key, _)) = parts.filter(|_| at < MEMBERS_MAX) else {
            // Invalid: nothing of it is passed on.
            out.truncate(ours);
            break;
        };
        if key != KEY && room > 0 {
            if out.len() > before {
                out.push(b',');
            }
            out.extend_from_slice(member);
            room -= 1;
        }
    }
    out.len() > before
}

/// The members, without the white space around them and without empty ones.
fn members<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    fields
        .into_iter()
        .flat_map(|field| {
            let mut rest = Some(field);
            std::iter::from_fn(move || {
                let text = rest?;
                let end = memchr(b',', text);
                rest = end.and_then(|end| text.get(end + 1..));
                text.get(..end.unwrap_or(text.len()))
            })
        })
        .map(trim)
        .filter(|member| !member.is_empty())
}

/// Without spaces and tabs at either end.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn split(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b'=', member)?;
    Some((member.get(..at)?, member.get(at + 1..)?))
}

fn is_key(key: &[u8]) -> bool {
    let tenant_begins = |first: u8| first.is_ascii_lowercase() || first.is_ascii_digit();
    match memchr(b'@', key) {
        None => is_identifier(key, 256, tenant_begins),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            is_identifier(tenant, 241, tenant_begins)
                && is_identifier(system, 14, |first| first.is_ascii_lowercase())
        }
    }
}

fn is_identifier(text: &[u8], length_max: usize, begins: impl Fn(u8) -> bool) -> bool {
    let begins = text.first().is_some_and(|first| begins(*first));
    begins && text.len() <= length_max && text.iter().all(|byte| class(*byte) & IN_KEY != 0)
}

/// Its end is trimmed already, so it does not end in a space.
fn is_value(value: &[u8]) -> bool {
    let length = 1..=256;
    length.contains(&value.len()) && value.iter().all(|byte| class(*byte) & IN_VALUE != 0)
}

const IN_KEY: u8 = 1;
const IN_VALUE: u8 = 2;

/// Where a byte may stand. A table, as every byte of every request with a trace is looked up.
const fn class(byte: u8) -> u8 {
    const CLASSES: [u8; 256] = {
        let mut classes = [0; 256];
        let mut byte = 0x20u8;
        while byte <= 0x7e {
            if byte != b',' && byte != b'=' {
                classes[byte as usize] |= IN_VALUE;
            }
            if matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/') {
                classes[byte as usize] |= IN_KEY;
            }
            byte += 1;
        }
        classes
    };
    CLASSES[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deadline(millis: u64) -> Hop {
        Hop {
            deadline: Some(Deadline::from_unix_millis(millis)),
            retried: false,
        }
    }

    fn sent(hop: &Hop, fields: &[&str]) -> String {
        let mut out = b"x".to_vec();
        let fields = fields.iter().map(|field| field.as_bytes());
        let any = write(hop, fields, &mut out);
        assert_eq!(any, out.len() > 1);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    /// What passes if we have nothing to say.
    fn passed(fields: &[&str]) -> String {
        sent(&Hop::default(), fields)
    }

    #[test]
    fn ours_goes_first_and_the_others_keep_their_order() {
        let hop = deadline(1_763_690_400_123);
        assert_eq!(sent(&hop, &[]), "atoll=d:1763690400123");
        assert_eq!(
            sent(&hop, &["rojo=1,atoll=d:5;r:1,congo=2", "baz=3"]),
            "atoll=d:1763690400123,rojo=1,congo=2,baz=3"
        );
        let retried = Hop {
            retried: true,
            ..hop
        };
        assert_eq!(sent(&retried, &["a=1"]), "atoll=d:1763690400123;r:1,a=1");
        let only_retried = Hop {
            deadline: None,
            retried: true,
        };
        assert_eq!(sent(&only_retried, &[]), "atoll=r:1");
        assert_eq!(
            passed(&["a=1,atoll=d:5"]),
            "a=1",
            "nothing to say removes it"
        );
        assert_eq!(passed(&["", " "]), "");
    }

    #[test]
    fn it_is_read_wherever_it_stands() {
        let read = |text: &str| Hop::read([text.as_bytes()]);
        assert_eq!(read("rojo=1 ,\tatoll=d:77"), deadline(77));
        assert_eq!(read("atoll=d:90,x=1,atoll=d:80"), deadline(90));
        assert_eq!(Hop::read([&b"a=1"[..], b"atoll=d:9"]), deadline(9));
        assert_eq!(read("atoll=r:1;d:5;z:9;;d").deadline, deadline(5).deadline);
        assert!(read("atoll=r:1").retried && !read("atoll=r:0").retried);
        for nothing in [
            "",
            "atoll",
            "atoll=",
            "atoll=d:",
            "atoll=d:-5",
            "batoll=d:5",
            "atoll=D:5",
        ] {
            assert!(read(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn thirty_two_members_are_all_there_can_be() {
        let list = |count| {
            (0..count)
                .map(|at| format!("k{at}={at}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let with_ours = sent(&deadline(5), &[&list(32)]);
        assert!(with_ours.starts_with("atoll=d:5,k0=0") && with_ours.ends_with("k30=30"));
        assert_eq!(passed(&[&list(32)]), list(32));
        assert_eq!(passed(&[&list(33)]), "", "too many: dropped");
        assert_eq!(sent(&deadline(5), &[&list(33)]), "atoll=d:5");
        let (first, second) = (list(20), list(13));
        assert_eq!(passed(&[&first, &second]), "", "fields count together");
    }

    #[test]
    fn white_space_around_members_and_empty_ones_are_nothing() {
        assert_eq!(
            passed(&["foo=1 \t , \t bar=2, \t baz=3"]),
            "foo=1,bar=2,baz=3"
        );
        assert_eq!(passed(&["\t foo=1 \t"]), "foo=1");
        assert_eq!(passed(&["foo=1", "", ",,bar= 2"]), "foo=1,bar= 2");
    }

    #[test]
    fn one_invalid_member_drops_the_list() {
        for bad in [
            "foo",
            "foo=",
            "=1",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "foo@=1",
            "@foo=1",
            "foo@@bar=1",
            "foo@bar@baz=1",
            "foo=bar=baz",
            "foo=\u{e4}",
            "foo=a\tb",
            "t@9v=1",
        ] {
            assert_eq!(passed(&[&format!("x=1,{bad}")]), "", "{bad}");
        }
        for good in [
            "foo@bar=1",
            "0f@dt=1",
            "1a=2",
            "a_-*/=1",
            "foo=1,foo=2",
            "foo= !~;:1",
        ] {
            assert_eq!(passed(&[good]), good);
        }
        let lengths = [
            ("z".repeat(256) + "=1", true),
            ("z".repeat(257) + "=1", false),
            ("t".repeat(241) + "@" + &"v".repeat(14) + "=1", true),
            ("t".repeat(242) + "@v=1", false),
            ("t@".to_owned() + &"v".repeat(15) + "=1", false),
            ("a=".to_owned() + &"v".repeat(256), true),
            ("a=".to_owned() + &"v".repeat(257), false),
        ];
        for (member, valid) in lengths {
            assert_eq!(!passed(&[&member]).is_empty(), valid, "{member}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_is_sent_is_valid(
            fields in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
            millis: u64,
            retried: bool,
        ) {
            let hop = Hop { deadline: Some(Deadline::from_unix_millis(millis)), retried };
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            Hop::read(fields.iter().copied());
            let mut out = Vec::new();
            prop_assert!(write(&hop, fields.iter().copied(), &mut out));
            prop_assert_eq!(Hop::read([out.as_slice()]), hop);
            let mut again = Vec::new();
            write(&hop, [out.as_slice()], &mut again);
            prop_assert_eq!(again, out, "what is sent is valid");
        }

        #[test]
        fn valid_lists_pass_unchanged(
            keys in proptest::collection::vec("[b-z0-9][a-z0-9_*/-]{0,9}(@[a-z][a-z0-9]{0,5})?", 1..32),
            values in proptest::collection::vec("[ -+.-<>-~]{0,9}[!-+.-<>-~]", 32),
        ) {
            let members: Vec<_> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let (one, other) = members.split_at(members.len() / 2);
            let fields = [one.join(" , "), other.join(",")];
            let mut out = Vec::new();
            write(&Hop::default(), fields.iter().map(String::as_bytes), &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), members.join(","));
        }
    }
}
