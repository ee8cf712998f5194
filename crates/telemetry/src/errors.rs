//! What errors have in common: the same words, whichever order or customer they name.
//!
//! Of a line of JSON its message counts. Words with a digit in them, what stands in quotes and what
//! looks like an id or a path are left out; a status of HTTP stays, as it tells faults apart. The rest
//! is hashed: eight digits that a person can compare.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use atoll_base::Timestamp;

use crate::{LogRecord, Stream};

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
    /// The newest; the oldest is `first`.
    pub last: LogRecord,
    /// The time of the oldest.
    pub first: Timestamp,
    /// Of how many requests it was the first error.
    pub began: u64,
    /// When its last spell began: before that, there was none for five minutes.
    pub spell: Timestamp,
    /// It tells that a request failed, not why: there is always something before it.
    pub is_symptom: bool,
}

/// The longest text that is looked at.
const TEXT_MAX: usize = 1000;

/// What says nothing for so long, and then again, has a new cause.
const SPELL_PAUSE: Duration = Duration::from_secs(300);

/// Puts records together that say the same, the most frequent first. `records`: newest first.
pub fn group(records: Vec<LogRecord>) -> Vec<ErrorGroup> {
    let mut groups = groups(records);
    groups.sort_by(|one, other| {
        let newest = other.last.time.cmp(&one.last.time);
        other.count.cmp(&one.count).then(newest)
    });
    groups
}

/// The same, what others follow from first: that with which most requests went wrong. In a chain of calls
/// who fails first is who the others failed for. `records`: newest first.
pub fn causes(records: Vec<LogRecord>) -> Vec<ErrorGroup> {
    let mut groups = group(records);
    groups.sort_by_key(|own| (own.is_symptom, Reverse(own.began)));
    groups
}

/// Whether the platform tells of a request that failed.
fn is_symptom(record: &LogRecord) -> bool {
    record.stream == Stream::Platform && record.attributes.contains(r#""kind":"request""#)
}

fn groups(records: Vec<LogRecord>) -> Vec<ErrorGroup> {
    // From the oldest on: the first of each trace, if anything else was told than that it failed.
    let mut seen = HashSet::new();
    let beginnings: HashSet<u64> = records
        .iter()
        .rev()
        .filter(|own| !is_symptom(own) && own.trace.is_some_and(|trace| seen.insert(trace)))
        .map(|own| own.number)
        .collect();
    let mut groups = BTreeMap::<String, ErrorGroup>::new();
    for record in records {
        let began = u64::from(beginnings.contains(&record.number));
        let message = told(&record.message);
        let print = fingerprint(record.service.as_str(), &message);
        match groups.get_mut(&print) {
            Some(own) => {
                own.count += 1;
                own.began += began;
                own.first = own.first.min(record.time);
                if record.time.after(SPELL_PAUSE) >= own.spell {
                    own.spell = own.spell.min(record.time);
                }
            }
            None => {
                let own = ErrorGroup {
                    fingerprint: print.clone(),
                    service: record.service.to_string(),
                    message,
                    count: 1,
                    first: record.time,
                    spell: record.time,
                    began,
                    is_symptom: is_symptom(&record),
                    last: record,
                };
                groups.insert(print, own);
            }
        }
    }
    groups.into_values().collect()
}

/// What a line says: of JSON its message, with the error if there is one.
fn told(line: &str) -> String {
    let cut = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
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

    /// An error, by its number, which is also its time.
    fn error(number: u64, service: &str, trace: u128, message: &str) -> LogRecord {
        let is_symptom = message.contains("failed with");
        LogRecord {
            number,
            time: Timestamp::from_micros(i64::try_from(number).unwrap()),
            service: atoll_base::ServiceName::new(service).unwrap(),
            instance: String::new(),
            revision: atoll_base::RevisionNumber(1),
            stream: if is_symptom {
                Stream::Platform
            } else {
                Stream::Stdout
            },
            level: Some(crate::Level::Error),
            trace: atoll_base::TraceId::new(trace),
            span: None,
            attributes: if is_symptom {
                r#"{"kind":"request"}"#.to_owned()
            } else {
                String::new()
            },
            continued: false,
            message: message.to_owned(),
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
                u128::from(number),
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
        let causes = causes(records.clone());
        let wanted = [
            told("the bank failed", 3, 2),
            told("no connection to the vault", 1, 1),
            told("payment failed", 2, 0),
            told("POST failed with 503", 20, 0),
        ];
        assert_eq!(said(&causes), wanted);
        assert_eq!(said(&group(records))[0], wanted[3]);
    }

    #[test]
    fn a_spell_begins_after_a_pause() {
        let minute = |minute: u64| LogRecord {
            time: Timestamp::from_micros(i64::try_from(minute).unwrap() * 60_000_000),
            ..error(minute, "bank", 1, "no")
        };
        let groups = group([58, 57, 53, 5, 1].map(minute).to_vec());
        assert_eq!(groups[0].spell, minute(53).time);
        assert_eq!(groups[0].first, minute(1).time);
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
