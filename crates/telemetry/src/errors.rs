//! What errors have in common: the same words, whichever order or customer they name.
//!
//! Of a line of JSON its message counts. Words with a digit in them, what stands in quotes and what
//! looks like an id or a path are left out; a status of HTTP stays, as it tells faults apart. The rest
//! is hashed: eight digits that a person can compare.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use atoll_base::{Timestamp, TraceId};

use crate::{LogRecord, Span, Stream};

/// One error: a record of the log, or a span that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub time: Timestamp,
    /// Whose it is.
    pub service: String,
    /// What it says.
    pub message: String,
    /// The request within which it was.
    pub trace: Option<TraceId>,
    /// It tells that a request failed, not why: there is always something before it.
    pub is_symptom: bool,
}

impl From<&LogRecord> for Fault {
    fn from(record: &LogRecord) -> Self {
        Self {
            time: record.time,
            service: record.service.to_string(),
            message: told(&record.message),
            trace: record.trace,
            is_symptom: record.stream == Stream::Platform
                && record.attributes.contains(r#""kind":"request""#),
        }
    }
}

/// A span that failed, when it ended. What it says of an exception counts before its own message
/// (<https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/>).
impl From<&Span> for Fault {
    fn from(span: &Span) -> Self {
        let events: Vec<serde_json::Value> = serde_json::from_str(&span.events).unwrap_or_default();
        let exceptions = events.iter().rev().filter(|own| own["name"] == "exception");
        let exception = exceptions.filter_map(|own| {
            let told = own.get("attributes")?;
            let text = |name| told.get(name).and_then(serde_json::Value::as_str);
            match (text("exception.type"), text("exception.message")) {
                (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
                (one, other) => one.or(other).map(str::to_owned),
            }
        });
        let own = || Some(span.message.clone()).filter(|own| !own.is_empty());
        let what = exception.into_iter().next().or_else(own);
        Self {
            time: span.start.after(span.duration),
            service: span.service.to_string(),
            message: match what {
                Some(what) => cut(&format!("{}: {what}", span.name)),
                None => cut(&format!("{} failed", span.name)),
            },
            trace: Some(span.trace),
            // Only hops of the proxy have a caller.
            is_symptom: span.caller.is_some(),
        }
    }
}

/// Errors of one service that say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorGroup {
    /// The same for all of them.
    pub fingerprint: String,
    /// Whose they are.
    pub service: String,
    /// What the newest says.
    pub message: String,
    /// How many there are.
    pub count: u64,
    /// The time of the oldest.
    pub first: Timestamp,
    /// The time of the newest.
    pub last: Timestamp,
    /// The newest one's request.
    pub trace: Option<TraceId>,
    /// Of how many requests it was the first error.
    pub began: u64,
    /// It tells that a request failed, not why: there is always something before it.
    pub is_symptom: bool,
}

/// The longest text that is looked at.
const TEXT_MAX: usize = 1000;

/// Puts errors together that say the same, the most frequent first. `faults`: newest first.
pub fn group(faults: &[Fault]) -> Vec<ErrorGroup> {
    let mut groups = groups(faults);
    groups.sort_by(|one, other| {
        let newest = other.last.cmp(&one.last);
        other.count.cmp(&one.count).then(newest)
    });
    groups
}

/// The same, what others follow from first: that with which most requests went wrong. In a chain of calls
/// who fails first is who the others failed for. `faults`: newest first.
pub fn causes(faults: &[Fault]) -> Vec<ErrorGroup> {
    let mut groups = group(faults);
    groups.sort_by_key(|own| (own.is_symptom, Reverse(own.began)));
    groups
}

fn groups(faults: &[Fault]) -> Vec<ErrorGroup> {
    let mut groups = BTreeMap::<String, ErrorGroup>::new();
    // From the oldest on: the first of each trace, if anything else was told than that it failed.
    let mut seen = HashSet::new();
    for fault in faults.iter().rev() {
        let is_first = !fault.is_symptom && fault.trace.is_some_and(|trace| seen.insert(trace));
        let print = fault.fingerprint();
        let own = groups.entry(print).or_insert_with_key(|print| ErrorGroup {
            fingerprint: print.clone(),
            service: fault.service.clone(),
            message: String::new(),
            count: 0,
            first: fault.time,
            last: fault.time,
            trace: None,
            began: 0,
            is_symptom: fault.is_symptom,
        });
        own.count += 1;
        own.began += u64::from(is_first);
        (own.last, own.trace) = (fault.time, fault.trace);
        own.message.clone_from(&fault.message);
    }
    groups.into_values().collect()
}

impl Fault {
    /// The same for all that say the same.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.service, &self.message)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// What a line says: of JSON its message, with the error if there is one.
fn told(line: &str) -> String {
    if !line.starts_with('{') {
        return cut(line);
    }
    let Ok(object) = serde_json::from_str::<serde_json::Value>(line) else {
        return cut(line);
    };
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| object.get(name)?.as_str());
        found.map(cut)
    };
    let message = text(&["message", "msg", "body"]);
    match (message, text(&["error", "err", "exception", "reason"])) {
        (Some(message), Some(error)) => format!("{message}: {error}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => cut(line),
    }
}

fn fingerprint(service: &str, message: &str) -> String {
    let mut shape = String::with_capacity(message.len());
    let mut quoted = false;
    for word in message.split_whitespace() {
        let (was, odd) = (quoted, quotes(word) % 2 == 1);
        quoted ^= odd;
        let status = word.trim_matches(|letter: char| !letter.is_ascii_digit());
        let is_status = status.len() == 3 && status.starts_with(['4', '5']);
        let is_name = word.chars().any(|letter| letter.is_ascii_digit()) || word.contains('/');
        let is_quoted = was || odd || word.starts_with(['"', '\'', '`']);
        if is_quoted || (is_name && !is_status) {
            // A name may have several words.
            if !shape.ends_with("# ") {
                shape.push_str("# ");
            }
        } else {
            shape.push_str(word);
            shape.push(' ');
        }
    }
    // FNV-1a: equal texts give equal numbers, also of another node and another day.
    let bytes = service.bytes().chain([0]).chain(shape.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

/// Quotes in a word; an apostrophe (`can't`) is none.
fn quotes(word: &str) -> usize {
    let bytes = word.as_bytes();
    let letter = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphabetic());
    let is_quote = |(at, byte): (usize, &u8)| match byte {
        b'"' | b'`' => true,
        b'\'' => !(at > 0 && letter(at - 1) && letter(at + 1)),
        _ => false,
    };
    bytes
        .iter()
        .enumerate()
        .filter(|own| is_quote(*own))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_names_alone_is_the_same() {
        let same = |one, other| assert_eq!(fingerprint("s", one), fingerprint("s", other));
        same("order 17 failed", "order 18 failed");
        same("no file /tmp/a", "no file /var/b/c");
        same("unknown user 'ada lovelace'", "unknown user 'bob'");
        same("id 7f3a-99 is gone", "id 0b1c-22 is gone");
        let differ = |one, other| assert_ne!(fingerprint("s", one), fingerprint("s", other));
        differ("order 17 failed", "order 17 was late");
        differ("answered 502", "answered 404");
        differ("can't reach the bank", "can't read the file");
        same("can't find user 'ada'", "can't find user 'bob'");
        assert_ne!(fingerprint("a", "x"), fingerprint("b", "x"));
    }

    /// An error, by its time.
    fn error(time: i64, service: &str, trace: u128, message: &str) -> Fault {
        Fault {
            time: Timestamp::from_micros(time),
            service: service.to_owned(),
            message: message.to_owned(),
            trace: TraceId::new(trace),
            is_symptom: message.contains("failed with"),
        }
    }

    #[test]
    fn what_came_first_in_most_requests_is_the_cause() {
        let mut records = vec![
            error(1, "bank", 7, "no connection to the vault"),
            error(2, "payments", 7, "the bank failed"),
            error(3, "orders", 7, "payment failed"),
            error(4, "payments", 8, "the bank failed"),
            error(5, "orders", 8, "payment failed"),
            error(6, "payments", 9, "the bank failed"),
        ];
        records.extend((10..30).map(|number| {
            error(
                number,
                "payments",
                u128::try_from(number).unwrap(),
                "POST failed with 503",
            )
        }));
        records.reverse();
        let said = |groups: &[ErrorGroup]| -> Vec<(String, u64, u64)> {
            let told = groups.iter();
            told.map(|own| (own.message.clone(), own.count, own.began))
                .collect()
        };
        let told = |message: &str, count, began| (message.to_owned(), count, began);
        let causes = causes(&records);
        let wanted = [
            told("the bank failed", 3, 2),
            told("no connection to the vault", 1, 1),
            told("payment failed", 2, 0),
            told("POST failed with 503", 20, 0),
        ];
        assert_eq!(said(&causes), wanted);
        assert_eq!(said(&group(&records))[0], wanted[3]);
        let newest = &group(&records)[0];
        assert_eq!(
            (newest.first.as_micros(), newest.last.as_micros()),
            (10, 29)
        );
    }

    fn span() -> Span {
        Span {
            trace: TraceId::new(1).unwrap(),
            span: atoll_base::SpanId::new(1).unwrap(),
            parent: None,
            start: Timestamp::from_micros(5),
            duration: std::time::Duration::from_secs(1),
            service: atoll_base::ServiceName::new("payments").unwrap(),
            instance: String::new(),
            revision: atoll_base::RevisionNumber(0),
            name: String::new(),
            kind: crate::SpanKind::Internal,
            status: crate::SpanStatus::Error,
            message: String::new(),
            caller: None,
            http_status: None,
            inferred: false,
            attributes: String::new(),
            events: String::new(),
            links: String::new(),
        }
    }

    #[test]
    fn a_span_says_what_its_exception_says() {
        let mut span = Span {
            name: "charge".to_owned(),
            message: "declined".to_owned(),
            events: r#"[{"time":"x","name":"retry"},
                {"time":"x","name":"exception","attributes":{"exception.type":"IOError","exception.message":"no route"}}]"#.to_owned(),
            ..span()
        };
        let said = |span: &Span| Fault::from(span).message;
        assert_eq!(said(&span), "charge: IOError: no route");
        span.events =
            r#"[{"name":"exception","attributes":{"exception.message":"no route"}}]"#.to_owned();
        assert_eq!(said(&span), "charge: no route");
        span.events = r#"[{"name":"exception"}]"#.to_owned();
        assert_eq!(said(&span), "charge: declined");
        (span.events, span.message) = (String::new(), String::new());
        assert_eq!(said(&span), "charge failed");
        let ended = span.start.after(span.duration);
        assert_eq!(Fault::from(&span).time, ended);
    }

    #[test]
    fn of_a_line_of_json_its_message_counts() {
        assert_eq!(
            told(r#"{"level":"error","msg":"no","err":"late","n":1}"#),
            "no: late"
        );
        assert_eq!(told(r#"{"error":"late"}"#), "late");
        assert_eq!(told(r#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(told("{broken"), "{broken");
    }
}
