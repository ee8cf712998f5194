//! An answer that is kept: whether it may be (RFC 9111, 3), what is kept of it, and how a 304 brings
//! it up to date (4.3.4).
//!
//! It is kept as the text of a message, with its length for framing, so that giving it again is
//! reading it again: the stages behind (edits, compression, framing for old clients) are those of
//! every other answer.

use bytes::Bytes;

use super::CachePolicy;
use super::condition::Validators;
use super::control::{Orders, age, date};
use super::fresh::{Times, explicit_lifetime, initial_age};
use super::vary::{Selector, selectors};
use crate::answer::http_date;
use crate::http::field::{Fields, storage};
use crate::http::response::{self, ResponseHead};
use atoll_base::{HumanDuration, Timestamp};

/// An answer that is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Of which route.
    pub(super) route: u64,
    /// Its status.
    pub(crate) status: u16,
    /// Its head: without fields of the connection, with `Content-Length` where there is a body.
    pub(crate) head: Box<[u8]>,
    /// Its body.
    pub(crate) body: Bytes,
    /// What it is for, beside the key.
    pub(super) selectors: Vec<Selector>,
    /// Until when it can be used.
    pub(crate) times: Times,
    /// What tells it from others.
    pub(crate) validators: Validators,
    /// It may be given to those who say who they are (RFC 9111, 3.5).
    pub(super) is_shareable: bool,
    /// It is kept because the operator says so.
    overridden: bool,
    /// What it can be purged by.
    pub(super) tags: Box<[Box<str>]>,
}

/// What a small piece of memory costs beside its bytes.
const PIECE_BYTES: usize = 48;

/// What matters about the request that an answer is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Its fields, as they came.
    pub(crate) fields: Fields<'a, 'a>,
    /// It says who it is from, by whatever means.
    pub(crate) authenticated: bool,
    /// When it was sent to the service, in seconds since the epoch.
    pub(crate) at: u64,
    /// Fields that the proxy wrote or changed on the way to the service, by the configuration.
    pub(crate) rewritten: &'a [Box<str>],
}

/// The head of an answer, judged.
#[derive(Debug)]
pub(crate) struct Judged {
    times: Times,
    selectors: Vec<Selector>,
    validators: Validators,
    is_shareable: bool,
    overridden: bool,
    tags: Box<[Box<str>]>,
    status: u16,
    head: Vec<u8>,
}

/// Statuses whose answers may be kept by what they mean alone (RFC 9110, 15.1), but for 206.
const KEPT_BY_MEANING: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
/// Those of them that say that there is nothing.
const NEGATIVE: [u16; 5] = [404, 405, 410, 414, 501];

impl Judged {
    /// Whether the answer may be kept (RFC 9111, 3), and what is to be kept of its head.
    pub(crate) fn judge(
        head: &ResponseHead<'_, '_>,
        asked: &Asked<'_>,
        policy: &CachePolicy,
        now: u64,
    ) -> Option<Self> {
        let (status, fields) = (head.status, &head.fields);
        if status < 200 || matches!(status, 206 | 304) {
            return None;
        }
        let orders = Orders::read(fields);
        let is_shareable = orders.public || orders.s_maxage.is_some() || orders.must_revalidate;
        let has_cookies = fields.get("set-cookie").is_some();
        if (asked.authenticated && !is_shareable) || (has_cookies && !orders.public) {
            return None;
        }
        if is_endless(fields) {
            return None;
        }
        let selectors = selectors(fields, asked, &policy.config.vary)?;
        let validators = Validators::read(fields);
        let times = times(head, &orders, asked, policy, now)?;
        // What is never fresh is of use only if it can be validated.
        let is_usable = times.lifetime > times.age && !times.no_cache;
        if !is_usable && (validators.is_empty() || status != 200) {
            return None;
        }
        let facts = head.facts(false).ok()?;
        let mut text = [b"HTTP/1.1 ", head.line, b"\r\n"].concat();
        let without = facts.hop | facts.length | facts.trace_id | fields.named_any(&["age".into()]);
        fields.copy(without, &mut text);
        if fields.get("date").is_none() {
            let date = http_date(Timestamp::from_micros(micros(now)));
            text.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
        }
        Some(Self {
            times,
            selectors,
            validators,
            is_shareable,
            overridden: overriding_ttl(head, &orders, asked, policy).is_some(),
            tags: tags(fields),
            status,
            head: text,
        })
    }

    /// The answer, with its body.
    pub(crate) fn with_body(mut self, body: Bytes, route: u64) -> Stored {
        if !matches!(self.status, 204 | 304) {
            let line = format!("Content-Length: {}\r\n", body.len());
            self.head.extend_from_slice(line.as_bytes());
        }
        self.head.extend_from_slice(b"\r\n");
        Stored {
            route,
            status: self.status,
            head: self.head.into(),
            body,
            selectors: self.selectors,
            times: self.times,
            validators: self.validators,
            is_shareable: self.is_shareable,
            overridden: self.overridden,
            tags: self.tags,
        }
    }
}

impl Stored {
    /// Whether it may be given to who asks: RFC 9111, 3.5; and what was made for those without a name
    /// is not for those who have one, unless the service says so.
    pub(crate) fn is_for(&self, authenticated: bool, with_cookies: bool) -> bool {
        (self.is_shareable || !authenticated) && !(self.overridden && with_cookies)
    }

    /// Whether its head can be read again: what was added may be too much.
    pub(super) fn is_readable(&self) -> bool {
        matches!(response::parse(&self.head, &mut storage()), Ok(Some(_)))
    }

    /// Bytes of memory, about.
    pub(super) fn size(&self) -> usize {
        // The fixed parts, and what the allocator adds to each.
        let selectors = self.selectors.iter().map(|(name, value)| {
            PIECE_BYTES + name.len() + value.as_ref().map_or(0, |value| value.len())
        });
        let tags = self.tags.iter().map(|tag| PIECE_BYTES + tag.len());
        let pieces: usize = selectors.chain(tags).sum();
        let validators = self.validators.size();
        size_of::<Self>() + 256 + self.head.len() + self.body.len() + pieces + validators
    }

    /// This answer, as a 304 that validates it changes it (RFC 9111, 3.2 and 4.3.4); and whether it may
    /// still be kept.
    pub(crate) fn freshened(
        &self,
        by: &[u8],
        asked: &Asked<'_>,
        policy: &CachePolicy,
        now: u64,
    ) -> Option<(Self, bool)> {
        let (mut own, mut other) = (storage(), storage());
        let own = response::parse(&self.head, &mut own).ok()??;
        let other = response::parse(by, &mut other).ok()??;
        if !self.validators.agree(&Validators::read(&other.fields)) {
            return None;
        }
        let facts = other.facts(false).ok()?;
        // These are about the 304 itself, or about the bytes that stay.
        let foreign = ["age", "content-encoding", "content-range"].map(Into::into);
        let without = facts.hop | facts.length | facts.trace_id | other.fields.named_any(&foreign);
        let names: Vec<Box<str>> = other
            .fields
            .iter()
            .enumerate()
            .filter(|(at, _)| without & (1 << at) == 0)
            .map(|(_, (name, _))| name.into())
            .collect();
        let mut text = [b"HTTP/1.1 ", own.line, b"\r\n"].concat();
        let old = own.facts(false).ok()?;
        // A date of before would make it old at once, or fresh for too long.
        let date_of_old = own.fields.named_any(&["date".into()]);
        let replaced = own.fields.named_any(&names);
        own.fields
            .copy(old.length | date_of_old | replaced, &mut text);
        other.fields.copy(without, &mut text);
        text.extend_from_slice(b"\r\n");
        let mut merged = storage();
        let merged = response::parse(&text, &mut merged).ok()??;
        let age_fields = other.fields;
        let judged = Judged::judge(&merged, asked, policy, now);
        let kept = judged.is_some();
        let judged = match judged {
            Some(mut judged) => {
                let moment = age_fields.get("date").and_then(date).unwrap_or(now);
                let old = initial_age(age(&age_fields), moment, asked.at, now);
                if judged.overridden {
                    judged.times.lifetime += old.saturating_sub(judged.times.age);
                }
                judged.times.age = old;
                judged
            }
            // It is given this once.
            None => Judged {
                times: Times {
                    received: now,
                    ..Times::default()
                },
                selectors: self.selectors.clone(),
                validators: self.validators.clone(),
                is_shareable: false,
                overridden: false,
                tags: Box::default(),
                status: self.status,
                head: text.get(..text.len() - 2)?.to_vec(),
            },
        };
        Some((judged.with_body(self.body.clone(), self.route), kept))
    }

    /// The head of the 304 that tells a client that it has this (RFC 9110, 15.4.5).
    pub(crate) fn not_modified(&self) -> Vec<u8> {
        let mut text = b"HTTP/1.1 304 Not Modified\r\n".to_vec();
        let mut storage = storage();
        if let Ok(Some(head)) = response::parse(&self.head, &mut storage) {
            let about_the_body = [
                "content-encoding",
                "content-language",
                "content-length",
                "content-range",
                "content-type",
                "last-modified",
            ];
            let mut names: Vec<Box<str>> = about_the_body.map(Into::into).to_vec();
            if self.validators.etag.is_none() {
                // Then this is what tells it apart.
                names.retain(|name| &**name != "last-modified");
            }
            let without = head.fields.named_any(&names);
            head.fields.copy(without, &mut text);
        }
        text.extend_from_slice(b"\r\n");
        text
    }
}

/// Whether it is an answer that goes on as long as anybody reads it.
fn is_endless(fields: &Fields<'_, '_>) -> bool {
    let kind = fields.get("content-type").unwrap_or_default();
    let events = b"text/event-stream";
    kind.get(..events.len())
        .is_some_and(|kind| kind.eq_ignore_ascii_case(events))
}

/// Until when an answer can be used; none if it may not be kept.
fn times(
    head: &ResponseHead<'_, '_>,
    orders: &Orders,
    asked: &Asked<'_>,
    policy: &CachePolicy,
    now: u64,
) -> Option<Times> {
    let (status, fields) = (head.status, &head.fields);
    let config = &policy.config;
    let moment = fields.get("date").and_then(date).unwrap_or(now);
    let age = initial_age(age(fields), moment, asked.at, now);
    let mut own = Times {
        received: now,
        age,
        ..Times::default()
    };
    if let Some(ttl) = overriding_ttl(head, orders, asked, policy) {
        // Counted from now, whatever happened to it on the way.
        own.lifetime = age + ttl.0.as_secs();
        own.while_revalidate = config.stale_while_revalidate.0.as_secs();
        own.if_error = config.stale_if_error.0.as_secs();
        return Some(own);
    }
    let understood = orders.must_understand && KEPT_BY_MEANING.contains(&status);
    if orders.private || (orders.no_store && !understood) {
        return None;
    }
    if orders.must_understand && !understood {
        return None;
    }
    let expires = fields.get("expires").map(date);
    let explicit = explicit_lifetime(orders, expires, moment);
    let negative = NEGATIVE.contains(&status) && !config.negative_ttl.0.is_zero();
    own.lifetime = match explicit {
        Some(lifetime) => lifetime,
        None if negative => age + config.negative_ttl.0.as_secs(),
        None if KEPT_BY_MEANING.contains(&status) => 0,
        None => return None,
    };
    own.no_cache = orders.no_cache;
    let revalidate = orders.must_revalidate || orders.proxy_revalidate;
    own.strict = revalidate || orders.s_maxage.is_some();
    if revalidate {
        return Some(own);
    }
    // With `s-maxage`, only what the service itself allows (RFC 9111, 5.2.2.10).
    let seconds = |said: Option<u64>, default: HumanDuration| {
        let default = if own.strict { 0 } else { default.0.as_secs() };
        said.unwrap_or(default)
    };
    own.while_revalidate = seconds(orders.stale_while_revalidate, config.stale_while_revalidate);
    own.if_error = seconds(orders.stale_if_error, config.stale_if_error);
    Some(own)
}

/// How long the operator says that an answer is fresh, if that counts for it: not for what is, or may
/// be, somebody's own.
fn overriding_ttl(
    head: &ResponseHead<'_, '_>,
    orders: &Orders,
    asked: &Asked<'_>,
    policy: &CachePolicy,
) -> Option<HumanDuration> {
    let status = head.status;
    let positive = KEPT_BY_MEANING.contains(&status) && !NEGATIVE.contains(&status);
    let own = orders.private
        || asked.authenticated
        || head.fields.get("set-cookie").is_some()
        || policy.is_about_cookies(&asked.fields);
    policy.config.ttl.filter(|_| positive && !own)
}

/// What an answer can be purged by: `Cache-Tag`, parted by commas, and `Surrogate-Key`, by spaces.
fn tags(fields: &Fields<'_, '_>) -> Box<[Box<str>]> {
    let mut tags = Vec::new();
    for (name, value) in fields.iter() {
        let parts_at: &[char] = match name.len() {
            9 if name.eq_ignore_ascii_case("cache-tag") => &[','],
            13 if name.eq_ignore_ascii_case("surrogate-key") => &[' ', '\t'],
            _ => continue,
        };
        let value = String::from_utf8_lossy(value);
        let parts = value.split(parts_at).map(str::trim);
        tags.extend(parts.filter(|tag| !tag.is_empty()).map(Box::from));
    }
    tags.into()
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::CacheConfig;
    use super::super::testkit::with_fields;
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    fn policy(toml: &str) -> CachePolicy {
        let config: CacheConfig = toml::from_str(toml).unwrap();
        CachePolicy::new(&config, 7)
    }

    fn judge_for(
        toml: &str,
        request: &str,
        status: u16,
        answer: &str,
        authenticated: bool,
    ) -> Option<Judged> {
        let text = format!("HTTP/1.1 {status} X\r\n{answer}\r\n");
        let mut storage = storage();
        let head = response::parse(text.as_bytes(), &mut storage)
            .unwrap()
            .unwrap();
        with_fields(request, |fields| {
            let asked = Asked {
                fields,
                authenticated,
                at: NOW,
                rewritten: &[],
            };
            Judged::judge(&head, &asked, &policy(toml), NOW)
        })
    }

    fn lifetime(toml: &str, status: u16, answer: &str) -> Option<u64> {
        judge_for(toml, "", status, answer, false).map(|own| own.times.lifetime)
    }

    /// RFC 9111, 3.
    #[test]
    fn what_may_be_kept_is_what_says_so() {
        for (status, answer, expected) in [
            (200, "Cache-Control: max-age=60\r\n", Some(60)),
            (200, "Expires: Sun, 06 Nov 1994 08:50:37 GMT\r\n", Some(60)),
            (599, "Cache-Control: max-age=60\r\n", Some(60)),
            (302, "Cache-Control: max-age=60\r\n", Some(60)),
            (200, "Cache-Control: max-age=60, no-store\r\n", None),
            (200, "Cache-Control: max-age=60, private\r\n", None),
            (206, "Cache-Control: max-age=60\r\n", None),
            (304, "Cache-Control: max-age=60\r\n", None),
            (200, "Cache-Control: max-age=60\r\nVary: *\r\n", None),
            (
                200,
                "Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n",
                None,
            ),
            (
                200,
                "Cache-Control: max-age=60, public\r\nSet-Cookie: a=b\r\n",
                Some(60),
            ),
            (200, "", None),
            (200, "Cache-Control: max-age=0\r\n", None),
            (200, "ETag: \"a\"\r\n", Some(0)),
            (200, "ETag: \"a\"\r\nCache-Control: no-cache\r\n", Some(0)),
            (404, "ETag: \"a\"\r\n", None),
            (200, "Cache-Control: no-cache, max-age=60\r\n", None),
            // RFC 9111, 5.2.2.3.
            (
                200,
                "Cache-Control: must-understand, no-store, max-age=60\r\n",
                Some(60),
            ),
            (
                599,
                "Cache-Control: must-understand, no-store, max-age=60\r\n",
                None,
            ),
        ] {
            assert_eq!(lifetime("", status, answer), expected, "{status} {answer}");
        }
    }

    /// RFC 9111, 3.5.
    #[test]
    fn answers_to_those_who_say_who_they_are_are_kept_only_if_that_is_allowed() {
        for (orders, expected) in [
            ("max-age=60", false),
            ("max-age=60, public", true),
            ("s-maxage=60", true),
            ("max-age=60, must-revalidate", true),
        ] {
            let answer = format!("Cache-Control: {orders}\r\n");
            let judged = judge_for("", "", 200, &answer, true);
            assert_eq!(judged.is_some(), expected, "{orders}");
        }
        assert!(judge_for("ttl = '10m'", "", 200, "", true).is_none());
    }

    #[test]
    fn the_operator_decides_for_what_is_nobodys_own() {
        let ttl = "ttl = '10m'";
        for (status, answer, expected) in [
            (200, "", Some(600)),
            (200, "Cache-Control: no-store\r\n", Some(600)),
            (200, "Cache-Control: max-age=5, private\r\n", None),
            (200, "Age: 50\r\n", Some(650)),
            (200, "Set-Cookie: a=b\r\n", None),
            (500, "", None),
            (302, "", None),
        ] {
            assert_eq!(lifetime(ttl, status, answer), expected, "{status} {answer}");
        }
        for (toml, kept) in [(ttl, false), ("ttl = '10m'\nignore_cookies = true", true)] {
            let judged = judge_for(toml, "Cookie: a=b\r\n", 200, "", false);
            assert_eq!(judged.is_some(), kept, "{toml}");
        }
        let negative = "negative_ttl = '5s'";
        assert_eq!(lifetime(negative, 404, ""), Some(5));
        assert_eq!(
            lifetime(negative, 404, "Cache-Control: max-age=60\r\n"),
            Some(60)
        );
        assert_eq!(lifetime(negative, 404, "Cache-Control: no-store\r\n"), None);
        assert_eq!(lifetime(negative, 503, ""), None);
    }

    /// RFC 9111, 5.2.2.2 and 5.2.2.10.
    #[test]
    fn what_must_be_validated_is_never_given_stale() {
        let windows = |orders: &str| {
            let toml = "stale_while_revalidate = '7s'\nstale_if_error = '8s'";
            let answer = format!("Cache-Control: {orders}\r\n");
            let own = judge_for(toml, "", 200, &answer, false).unwrap().times;
            (own.while_revalidate, own.if_error)
        };
        assert_eq!(windows("max-age=1"), (7, 8));
        assert_eq!(windows("max-age=1, stale-if-error=9"), (7, 9));
        assert_eq!(
            windows("max-age=1, stale-if-error=9, must-revalidate"),
            (0, 0)
        );
        assert_eq!(windows("s-maxage=1, stale-while-revalidate=9"), (9, 0));
    }

    /// RFC 9111, 3.1.
    #[test]
    fn fields_of_the_connection_are_not_kept() {
        let answer = "Connection: close, X-Hop\r\nX-Hop: a\r\nContent-Length: 9\r\nAge: 3\r\nX-Trace-Id: a\r\nKeep: b\r\nCache-Control: max-age=60\r\nCache-Tag: a, b c\r\nSurrogate-Key: d e\r\n";
        let stored = judge_for("", "", 200, answer, false).unwrap();
        let stored = stored.with_body(Bytes::from_static(b"xyz"), 7);
        assert_eq!(
            String::from_utf8_lossy(&stored.head),
            "HTTP/1.1 200 X\r\nKeep: b\r\nCache-Control: max-age=60\r\nCache-Tag: a, b c\r\nSurrogate-Key: d e\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 3\r\n\r\n"
        );
        let tags: Vec<&str> = stored.tags.iter().map(|tag| &**tag).collect();
        assert_eq!(tags, ["a", "b c", "d", "e"]);
        assert_eq!(stored.times.age, 3);
    }

    /// RFC 9111, 3.5: `proxy-revalidate` is strict, and no word about who may have it.
    #[test]
    fn what_may_be_shared_is_what_says_so() {
        for (orders, expected) in [
            ("must-revalidate", true),
            ("public", true),
            ("s-maxage=9", true),
            ("proxy-revalidate", false),
            ("max-age=9", false),
        ] {
            let answer = format!("Cache-Control: max-age=9, {orders}\r\n");
            let judged = judge_for("", "", 200, &answer, true);
            assert_eq!(judged.is_some(), expected, "{orders}");
        }
        let strict = judge_for(
            "",
            "",
            200,
            "Cache-Control: max-age=9, proxy-revalidate\r\n",
            false,
        );
        assert!(strict.unwrap().times.strict);
    }

    /// It is never whole, and nobody should wait for it.
    #[test]
    fn what_goes_on_for_ever_is_not_kept() {
        let events =
            "Content-Type: Text/Event-Stream; charset=utf-8\r\nCache-Control: max-age=9\r\n";
        assert!(judge_for("", "", 200, events, false).is_none());
    }

    /// RFC 9111, 4.2.3: without a date, it is of now; each validation gives the same time.
    #[test]
    fn a_304_without_a_date_does_not_prolong_freshness() {
        let answer = "ETag: \"a\"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let stored = judge_for("ttl = '10m'", "", 200, answer, false).unwrap();
        let mut stored = stored.with_body(Bytes::from_static(b"xyz"), 7);
        let by = b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n";
        for hours in 1..4 {
            let now = NOW + hours * 3600;
            let (fresh, kept) = with_fields("", |fields| {
                let asked = Asked {
                    fields,
                    authenticated: false,
                    at: now,
                    rewritten: &[],
                };
                stored
                    .freshened(by, &asked, &policy("ttl = '10m'"), now)
                    .unwrap()
            });
            assert!(kept);
            assert_eq!(fresh.times.left_at(now), 600, "after {hours} h");
            stored = fresh;
        }
    }

    /// RFC 9111, 3.2 and 4.3.4.
    #[test]
    fn a_304_brings_fields_up_to_date() {
        let answer = "ETag: \"a\"\r\nX-A: 1\r\nX-B: 1\r\nContent-Encoding: gzip\r\nCache-Control: max-age=1\r\n";
        let stored = judge_for("", "", 200, answer, false).unwrap();
        let stored = stored.with_body(Bytes::from_static(b"xyz"), 7);
        let by = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nX-A: 2\r\nContent-Encoding: br\r\nContent-Length: 0\r\nCache-Control: max-age=9\r\nAge: 2\r\n\r\n";
        let freshen = |by: &str| {
            with_fields("", |fields| {
                let asked = Asked {
                    fields,
                    authenticated: false,
                    at: NOW + 100,
                    rewritten: &[],
                };
                stored
                    .freshened(by.as_bytes(), &asked, &policy(""), NOW + 100)
                    .unwrap()
            })
        };
        let (fresh, kept) = freshen(by);
        let head = String::from_utf8_lossy(&fresh.head).into_owned();
        for line in [
            "X-A: 2",
            "X-B: 1",
            "Content-Encoding: gzip",
            "Content-Length: 3",
            "Cache-Control: max-age=9",
        ] {
            assert_eq!(head.matches(line).count(), 1, "{line}\n{head}");
        }
        assert!(kept && !head.contains("X-A: 1") && !head.contains("max-age=1"));
        assert_eq!(
            (fresh.times.received, fresh.times.age, fresh.times.lifetime),
            (NOW + 100, 2, 9)
        );
        assert_eq!(fresh.body, "xyz");
        let other = by.replace("ETag: \"a\"", "ETag: \"b\"");
        assert!(with_fields("", |fields| {
            let asked = Asked {
                fields,
                authenticated: false,
                at: NOW,
                rewritten: &[],
            };
            stored
                .freshened(other.as_bytes(), &asked, &policy(""), NOW)
                .is_none()
        }));
        let (once, kept) = freshen(&by.replace("max-age=9", "no-store"));
        assert!(!kept);
        assert!(String::from_utf8_lossy(&once.head).ends_with("Content-Length: 3\r\n\r\n"));
    }

    /// RFC 9110, 15.4.5.
    #[test]
    fn a_304_for_a_client_has_what_a_cache_needs() {
        let answer = "ETag: \"a\"\r\nContent-Type: x\r\nVary: b\r\nCache-Control: max-age=1\r\n";
        let stored = judge_for("", "", 200, answer, false).unwrap();
        let head = stored.with_body(Bytes::new(), 7).not_modified();
        let head = String::from_utf8_lossy(&head).into_owned();
        for line in [
            "ETag: \"a\"",
            "Vary: b",
            "Cache-Control: max-age=1",
            "Date: ",
        ] {
            assert!(head.contains(line), "{line}\n{head}");
        }
        assert!(!head.contains("Content-"), "{head}");
    }
}
