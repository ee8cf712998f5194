//! What a service says about events: `[publish]`, `[[subscribe]]` and `[outbox]` of `service.toml`.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_base::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::{Pause, Policy, Settings};

/// `[publish]` of `service.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// The topics that it publishes to. Others are refused.
    pub topics: Vec<String>,
    /// What it writes there: a topic, and the path of a JSON Schema of the values, relative to this
    /// file. What does not match is refused, whoever publishes it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, String>,
}

/// `[[subscribe]]` of `service.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeConfig {
    /// A topic that it reads. Others are refused.
    pub topic: String,
    /// Where its records are posted to, as CloudEvents. Without it, the service reads them itself,
    /// with a client of Kafka or at `EVENTS_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What it relies on: the path of a JSON Schema, relative to this file. A deployment of the
    /// publisher that would break it is refused. Default: the schema that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Where a subscription begins that is new: "latest", with records that come from then on, or
    /// "earliest", with the oldest that is kept. Default "latest".
    #[serde(default)]
    pub from: From,
    /// So many requests may be under way at once; records of one key never are. Default 16.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: u32,
    /// Up to so many records go in one request, as a JSON array. Default 1: each by itself.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch: u32,
    /// How long an answer may take. Default "30s".
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// The answer to a record is published to this topic, together with the acknowledgement: both or
    /// neither. An answer without a body publishes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What happens after a failure.
    #[serde(default)]
    pub retry: RetryConfig,
}

/// Where a new subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// With records that come from then on.
    #[default]
    Latest,
    /// With the oldest that is kept.
    Earliest,
}

/// `[subscribe.retry]`: what happens after an answer that is a failure, or none in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// So many attempts in all; then the record goes to the topic `dead.SERVICE.TOPIC`. While no
    /// instance can be reached, none is counted. Default 10.
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// The wait after the first failure. It doubles with each, and up to half of it is left to
    /// chance. Default "500ms".
    pub delay: HumanDuration,
    /// The longest wait. Default "60s".
    pub delay_max: HumanDuration,
    /// Which answers are tried again: single statuses, and "4xx" or "5xx". After others there is no
    /// second attempt. Default ["5xx", "404", "408", "409", "425"]; 429 never counts as an attempt.
    pub statuses: Vec<String>,
}

/// `[outbox]` of `service.toml`: rows of a table in the service's own database (SQLite or PostgreSQL)
/// are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// The name of the table. Default "outbox".
    pub table: String,
    /// New rows are looked for this often. Default "100ms".
    pub poll: HumanDuration,
    /// Up to so many rows are published together. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    pub batch: u32,
}

impl OutboxConfig {
    /// What in it makes no sense: the key, and why.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut wrong = |key, reason: &str| found.push((key, reason.to_owned()));
        let mut letters = self.table.bytes();
        let first = letters.next();
        let begins = first.is_some_and(|own| own == b'_' || own.is_ascii_alphabetic());
        let goes_on = letters.all(|own| own == b'_' || own.is_ascii_alphanumeric());
        if !begins || !goes_on || self.table.len() > 63 {
            wrong(
                "table",
                "it has letters, digits and '_', begins with no digit, and is 63 long at most",
            );
        }
        let (shortest, longest) = (Duration::from_millis(10), Duration::from_secs(3600));
        if !(shortest..=longest).contains(&self.poll.0) {
            wrong("poll", "it is between 10ms and 1h");
        }
        if !(1..=1000).contains(&self.batch) {
            wrong("batch", "it is between 1 and 1000");
        }
        found
    }
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            table: "outbox".to_owned(),
            poll: HumanDuration(Duration::from_millis(100)),
            batch: 100,
        }
    }
}

impl SubscribeConfig {
    /// A subscription to a topic, with all defaults.
    pub fn new(topic: impl Into<String>, path: Option<String>) -> Self {
        Self {
            topic: topic.into(),
            path,
            schema: None,
            from: From::default(),
            concurrency: concurrency(),
            batch: one(),
            timeout: timeout(),
            output: None,
            retry: RetryConfig::default(),
        }
    }

    /// How it is delivered.
    pub fn settings(&self) -> Settings {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).max(1);
        Settings {
            concurrency: size(self.concurrency),
            batch: size(self.batch),
            policy: Policy {
                attempts: self.retry.attempts.max(1),
                delay: self.retry.delay.0,
                delay_max: self.retry.delay_max.0,
                pause: Pause::default(),
            },
        }
    }

    /// What in it makes no sense: the key, and why.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut wrong = |key, reason: &str| found.push((key, reason.to_owned()));
        match &self.path {
            Some(path) if !is_path(path) => {
                wrong(
                    "path",
                    "a path begins with '/'; what is not plain ASCII in it is percent-encoded",
                );
            }
            None if self.output.is_some() => {
                wrong("output", "without `path` there is no answer to publish");
            }
            _ => {}
        }
        if self.output.is_some() && self.batch > 1 {
            wrong(
                "output",
                "the answer to a batch belongs to no record: take `batch = 1`",
            );
        }
        if !(1..=10_000).contains(&self.concurrency) {
            wrong("concurrency", "it is between 1 and 10000");
        }
        if !(1..=1000).contains(&self.batch) {
            wrong("batch", "it is between 1 and 1000");
        }
        if !(1..=1000).contains(&self.retry.attempts) {
            wrong("retry", "`attempts` is between 1 and 1000");
        }
        let unknown = self
            .retry
            .statuses
            .iter()
            .find(|text| class(text).is_none());
        if let Some(text) = unknown {
            let reason = format!("'{text}' is neither a status nor \"4xx\" nor \"5xx\"");
            wrong("retry", &reason);
        }
        found
    }
}

impl RetryConfig {
    /// Whether an answer with this status is tried again.
    pub fn covers(&self, status: u16) -> bool {
        let mut ranges = self.statuses.iter().filter_map(|text| class(text));
        ranges.any(|range| range.contains(&status))
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        let policy = Policy::default();
        let statuses = ["5xx", "404", "408", "409", "425"];
        Self {
            attempts: policy.attempts,
            delay: HumanDuration(policy.delay),
            delay_max: HumanDuration(policy.delay_max),
            statuses: statuses.map(str::to_owned).to_vec(),
        }
    }
}

fn is_path(text: &str) -> bool {
    let parsed = text.parse::<http::uri::PathAndQuery>();
    text.starts_with('/') && parsed.is_ok_and(|parsed| parsed.as_str() == text)
}

fn class(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    match text {
        "4xx" => Some(400..=499),
        "5xx" => Some(500..=599),
        single => {
            let status = single.parse().ok();
            let status: u16 = status.filter(|status| (300..=599).contains(status))?;
            Some(status..=status)
        }
    }
}

fn concurrency() -> u32 {
    16
}

fn one() -> u32 {
    1
}

fn timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_or_classes() {
        let retry = RetryConfig::default();
        let covered = [500, 599, 404, 408, 409, 425];
        assert!(covered.iter().all(|status| retry.covers(*status)));
        assert!(
            ![400, 401, 403, 410, 422, 429, 302]
                .iter()
                .any(|status| retry.covers(*status))
        );
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_key() {
        let mut config = SubscribeConfig::new("a", Some("/x".to_owned()));
        assert_eq!(config.mistakes(), []);
        config.path = Some("x".to_owned());
        config.batch = 2;
        config.output = Some("b".to_owned());
        config.concurrency = 0;
        config.retry.attempts = 0;
        config.retry.statuses.push("6xx".to_owned());
        let keys: Vec<_> = config.mistakes().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["path", "output", "concurrency", "retry", "retry"]);
    }

    #[test]
    fn an_outbox_has_a_name_that_needs_no_quotes() {
        let mut config = OutboxConfig::default();
        assert_eq!(config.mistakes(), []);
        config.poll = HumanDuration(Duration::ZERO);
        config.batch = 0;
        for bad in ["", "1a", "a b", "a;--", "a\"", "über", &"a".repeat(64)] {
            config.table = bad.to_owned();
            let keys: Vec<_> = config.mistakes().iter().map(|(key, _)| *key).collect();
            assert_eq!(keys, ["table", "poll", "batch"], "{bad}");
        }
    }
}
