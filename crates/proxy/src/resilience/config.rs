//! What people may set about resilience, and what holds if they set nothing.
//!
//! `[resilience]` of a service's `service.toml` says how the service is called by whoever calls it;
//! `[dependency.NAME]` of a caller says otherwise for its own calls of NAME. Ejection and balancing
//! are of the callee alone: its instances are shared by all who call it. Nobody needs to set
//! anything.
//!
//! Every setting is optional in the file, so that a caller overrides one value and keeps the others;
//! [`super::settings`] is what comes of it.

use atoll_base::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Percent;
use crate::balance::BalanceConfig;

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct BadSetting {
    /// Where it stands, dotted: `resilience.breaker.failures`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

/// `[resilience]` of `service.toml`: how this service is called, unless a caller says otherwise for
/// itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResilienceConfig {
    /// Whether calls that this service makes end when the request that caused them runs out of
    /// time. Default `inherit`: they do. `own` is for services that work on after they answered, or
    /// that take events from a queue: nobody waits for their calls.
    pub deadlines: Deadlines,
    /// How often a failed request is tried again.
    pub retries: RetryConfig,
    /// When the service is not called for a while.
    pub breaker: BreakerConfig,
    /// How many requests it is given at once.
    pub concurrency: ConcurrencyConfig,
    /// When an instance is left out for a while.
    pub ejection: EjectionConfig,
    /// Which instance gets a request.
    pub balance: BalanceConfig,
}

/// `[dependency.NAME]` of `service.toml`: how this service calls NAME. What is not set here is as
/// NAME's own `[resilience]` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DependencyConfig {
    /// How long it may take until the head of an answer. Default: the `request_timeout` of NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// How often a failed request is tried again.
    pub retries: RetryConfig,
    /// When NAME is not called for a while.
    pub breaker: BreakerConfig,
    /// How many requests it is given at once.
    pub concurrency: ConcurrencyConfig,
}

/// Where the calls of a service have their deadlines from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deadlines {
    /// From the request that caused them, if that ends before their own timeout.
    #[default]
    Inherit,
    /// From their own timeout alone.
    Own,
}

/// `retries`: only what is safe to send twice is ever tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Attempts after the first one. Default 3; 0 turns retries off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub max: Option<u8>,
    /// Retries over ten seconds, as a share of the requests. Default `"20%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Retries per second that are always allowed, however few requests there are. Default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u32>,
}

/// `breaker`: if too many calls fail, calls are answered 503 at once, until single requests that are
/// let through succeed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The share of calls within ten seconds that must fail. Default `"50%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Percent>,
    /// With fewer calls within ten seconds it never opens. Default 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// How long it stays open the first time; it doubles each time. Default `5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<HumanDuration>,
    /// The longest that it stays open. Default `1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_max: Option<HumanDuration>,
}

/// `ejection`: an instance that fails or is slow, where others are not, gets no requests for a
/// while. Then single requests decide whether it is back. The last one is never left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EjectionConfig {
    /// Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// So many failures one after the other; a refused connection counts for two. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_a_row: Option<u32>,
    /// Or this share of its requests within ten seconds failed, and of the others' at most half of
    /// it. Default `"50%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Percent>,
    /// With fewer requests within ten seconds the share says nothing. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// Or it takes so many times as long as the others, over 15 seconds. Default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_slower: Option<u32>,
    /// But never if it typically answers within this. Default `100ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_enough: Option<HumanDuration>,
    /// How long it is left out the first time; it doubles each time. Default `5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<HumanDuration>,
    /// The longest that it is left out. Default `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_max: Option<HumanDuration>,
    /// At most this share of the instances is left out at a time, rounded down, but one if there
    /// are two. Default `"50%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
}

/// `concurrency`: how many requests of one caller the service has at once. Others wait in a short
/// queue; beyond that they are answered 503.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConcurrencyConfig {
    /// Requests at once. Default: 64 for each instance, and never less than 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Requests that wait. Default: an eighth of `max`, which is 128 for up to 16 instances. 0: none
    /// waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// How long one waits at most. Default `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<HumanDuration>,
    /// Find the limit by measuring: as many as the service takes before its answers get slower.
    /// `max` stays the upper bound. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<bool>,
}

impl ResilienceConfig {
    /// Everything that cannot be. `at` is where the table stands: `resilience`.
    pub fn check(&self, at: &str) -> Vec<BadSetting> {
        let mut bad = Check::new(at);
        bad.retries(&self.retries);
        bad.breaker(&self.breaker);
        bad.concurrency(&self.concurrency);
        bad.ejection(&self.ejection);
        if let Err((key, problem)) = self.balance.check() {
            bad.add(&format!("balance.{key}"), problem);
        }
        bad.found
    }
}

impl DependencyConfig {
    /// Everything that cannot be. `at` is where the table stands: `dependency.payments`.
    pub fn check(&self, at: &str) -> Vec<BadSetting> {
        let mut bad = Check::new(at);
        bad.positive("timeout", self.timeout, "a time, or leave it out");
        bad.retries(&self.retries);
        bad.breaker(&self.breaker);
        bad.concurrency(&self.concurrency);
        bad.found
    }
}

/// Collects what is wrong.
struct Check<'a> {
    at: &'a str,
    found: Vec<BadSetting>,
}

impl<'a> Check<'a> {
    fn new(at: &'a str) -> Self {
        let found = Vec::new();
        Self { at, found }
    }

    fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.found.push(BadSetting {
            key: format!("{}.{key}", self.at),
            problem: problem.into(),
        });
    }

    fn retries(&mut self, config: &RetryConfig) {
        if config.max.is_some_and(|max| max > 10) {
            let problem = "cannot be more than 10: every retry is load on what just failed";
            self.add("retries.max", problem);
        }
    }

    fn breaker(&mut self, config: &BreakerConfig) {
        let off = "more than that, or `enabled = false` to turn it off";
        self.share("breaker.failures", config.failures, off);
        self.count("breaker.calls", config.calls, "1 or more");
        self.pauses("breaker", config.pause, config.pause_max);
    }

    fn ejection(&mut self, config: &EjectionConfig) {
        let off = "more than that, or `enabled = false` to turn it off";
        self.share("ejection.failures", config.failures, off);
        self.share("ejection.share", config.share, off);
        self.count("ejection.in_a_row", config.in_a_row, "1 or more");
        self.count("ejection.requests", config.requests, "1 or more");
        if config.times_slower.is_some_and(|times| times < 2) {
            let problem =
                "must be 2 or more: half of all instances are slower than the typical one";
            self.add("ejection.times_slower", problem);
        }
        self.pauses("ejection", config.pause, config.pause_max);
    }

    fn concurrency(&mut self, config: &ConcurrencyConfig) {
        self.count("concurrency.max", config.max, "1 or more");
        let remedy = "a time, or `queue = 0` if none is to wait";
        self.positive("concurrency.wait", config.wait, remedy);
    }

    fn pauses(&mut self, table: &str, first: Option<HumanDuration>, most: Option<HumanDuration>) {
        let remedy = "a time such as \"5s\"";
        self.positive(&format!("{table}.pause"), first, remedy);
        self.positive(&format!("{table}.pause_max"), most, remedy);
        if let (Some(first), Some(most)) = (first, most)
            && most < first
        {
            let problem = format!("is {most}, less than `pause`, which is {first}: write more");
            self.add(&format!("{table}.pause_max"), problem);
        }
    }

    fn positive(&mut self, key: &str, time: Option<HumanDuration>, remedy: &str) {
        if time.is_some_and(|time| time.0.is_zero()) {
            self.add(key, format!("cannot be 0s: write {remedy}"));
        }
    }

    fn share(&mut self, key: &str, share: Option<Percent>, remedy: &str) {
        if share.is_some_and(|share| share.get() == 0) {
            self.add(key, format!("cannot be 0%: write {remedy}"));
        }
    }

    fn count(&mut self, key: &str, count: Option<u32>, remedy: &str) {
        if count == Some(0) {
            self.add(key, format!("cannot be 0: write {remedy}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::{DependencySettings, RetrySettings};
    use super::*;

    fn callee(toml: &str) -> ResilienceConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn nobody_needs_to_set_anything() {
        let settings = DependencySettings::resolve(&callee(""), &DependencyConfig::default());
        assert_eq!(settings.retries, RetrySettings::default());
        assert_eq!(settings.breaker.pause_max, Duration::from_secs(60));
        let limits = |instances| {
            let limits = settings.concurrency.limits(instances);
            (limits.in_flight, limits.queue)
        };
        assert_eq!(limits(0), (1024, 128));
        assert_eq!(limits(3), (1024, 128));
        assert_eq!(limits(300), (19_200, 2_400));
        assert!(callee("").check("resilience").is_empty());
    }

    #[test]
    fn a_caller_overrides_single_values() {
        let callee = callee("retries = { max = 1, share = \"10%\" }\nbreaker.pause = \"10s\"");
        let caller: DependencyConfig =
            toml::from_str("retries = { max = 0 }\nconcurrency = { max = 8 }\ntimeout = \"2s\"")
                .unwrap();
        let settings = DependencySettings::resolve(&callee, &caller);
        assert_eq!(
            (settings.retries.max, settings.retries.share),
            (0, Percent::new(10).unwrap())
        );
        assert_eq!(settings.breaker.pause, Duration::from_secs(10));
        assert_eq!(settings.timeout, Some(Duration::from_secs(2)));
        let limits = settings.concurrency.limits(300);
        assert_eq!((limits.in_flight, limits.queue), (8, 1));
    }

    #[test]
    fn everything_that_cannot_be_is_told_at_once_with_a_remedy() {
        let bad = callee(
            "retries.max = 11
             breaker = { failures = \"0%\", calls = 0 }
             ejection = { times_slower = 1, pause = \"1m\", pause_max = \"1s\", share = \"0%\" }
             concurrency = { max = 0, wait = \"0s\" }
             balance.kind = \"hash\"",
        );
        let found = bad.check("resilience");
        let told: Vec<_> = found.iter().map(ToString::to_string).collect();
        for expected in [
            "`resilience.retries.max` cannot be more than 10: every retry is load on what just failed",
            "`resilience.breaker.failures` cannot be 0%: write more than that, or `enabled = false` to turn it off",
            "`resilience.breaker.calls` cannot be 0: write 1 or more",
            "`resilience.ejection.times_slower` must be 2 or more: half of all instances are slower than the typical one",
            "`resilience.ejection.pause_max` is 1s, less than `pause`, which is 1m: write more",
            "`resilience.ejection.share` cannot be 0%: write more than that, or `enabled = false` to turn it off",
            "`resilience.concurrency.max` cannot be 0: write 1 or more",
            "`resilience.concurrency.wait` cannot be 0s: write a time, or `queue = 0` if none is to wait",
            "`resilience.balance.by` is missing: write `by = \"header\"`, `\"cookie\"` or `\"client\"`",
        ] {
            assert!(
                told.iter().any(|one| one == expected),
                "{expected}\n{told:#?}"
            );
        }
        assert_eq!(told.len(), 9);
    }

    #[test]
    fn unknown_keys_and_bare_shares_are_refused() {
        assert!(toml::from_str::<ResilienceConfig>("retry.max = 1").is_err());
        assert!(toml::from_str::<ResilienceConfig>("retries.most = 1").is_err());
        let bare = toml::from_str::<ResilienceConfig>("retries.share = \"0.2\"");
        assert!(
            bare.unwrap_err()
                .to_string()
                .contains("write a whole number")
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = callee("ejection = { in_a_row = 3, failures = \"80%\" }\ndeadlines = \"own\"");
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<ResilienceConfig>(&text), Ok(config));
    }
}
