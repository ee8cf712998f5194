//! `[objective]` of `service.toml`, and `[alerts]` of `atoll.toml`.
//!
//! Names are those of the field: a target and a rolling window (OpenSLO, Pyrra), availability and latency as
//! the two kinds. Shares are written as percentages, as people say them: Sloth's `99.9` and OpenSLO's
//! `0.999` are easily taken for each other.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use atoll_base::{HumanDuration, Percent, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Aim, Key, Objective};
use crate::otlp::ExportUrl;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// No budget is reckoned over less: the slowest rule looks at three days.
pub const WINDOW_MIN: Duration = Duration::from_secs(3 * 24 * 3600);
/// Nor over more: what is kept grows with it.
pub const WINDOW_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// Answers are not asked to be faster than a machine's clock tells reliably, nor slower than anyone waits.
const BOUND_MIN: Duration = Duration::from_millis(1);
const BOUND_MAX: Duration = Duration::from_secs(600);

/// Below nine of ten, a service that fails altogether would burn its budget less than ten times too fast, and
/// most rules could never hold.
const SHARE_MIN: Percent = Percent::of_millionths(900_000);
/// Above it, a month of a million requests would have a budget of ten.
const SHARE_MAX: Percent = Percent::of_millionths(999_990);

/// A share of requests, written as a percentage: `"99.9%"`. From 90% to 99.999%.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(Percent);

/// `[objective]` of `service.toml`: what users of the service may expect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The share of requests that must not fail: "99.9%". A request has failed if it was answered with 500
    /// or above, not at all, or not to its end. From 90% to 99.999%. Default: no such objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Share>,
    /// Requests should be answered to the last byte within this: "300ms". From 1ms to 10m. Default: no such
    /// objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<HumanDuration>,
    /// The share of requests, of those that did not fail, that must be as fast as `latency`. From 90% to
    /// 99.999%. Default "99%".
    #[serde(default = "default_latency_target")]
    pub latency_target: Share,
    /// The time over which the budget is reckoned; it moves on with time. From 3d to 90d. Default "30d".
    #[serde(default = "default_window")]
    pub window: HumanDuration,
}

/// `[alerts]` of `atoll.toml`: who is told when an objective is in danger, and when it is not any more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// An address that gets each alert as JSON by POST: `https://hooks.example.com/atoll`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<ExportUrl>,
    /// A file with headers for it, a line for each: `authorization: Bearer …`; relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_headers: Option<PathBuf>,
    /// A file with certificates: only what these have signed is believed of the webhook, instead of what this system
    /// trusts. Relative to this file. Needs an address with `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_ca: Option<PathBuf>,
    /// A program and its arguments, run for each alert in the folder of this file. It gets the alert as JSON on
    /// its standard input, and as variables such as `ALERT_SERVICE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A topic that gets each alert as an event: "alerts". Needs `[events]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// An attempt to tell somebody takes no longer. From 1s to 5m. Default "10s".
    pub timeout: HumanDuration,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            webhook: None,
            webhook_headers: None,
            webhook_ca: None,
            command: Vec::new(),
            topic: None,
            timeout: HumanDuration::secs(10),
        }
    }
}

impl Share {
    /// The share that may be bad.
    pub fn budget(self) -> f64 {
        let bad = Percent::ALL.millionths() - self.0.millionths();
        Percent::of_millionths(bad).fraction()
    }
}

impl ObjectiveConfig {
    /// The objectives of `service`.
    pub fn objectives(&self, service: &ServiceName) -> Vec<Objective> {
        let objective = |aim, target, bound| Objective {
            key: Key {
                service: service.clone(),
                aim,
            },
            target,
            bound,
            window: self.window.0,
        };
        let available = self
            .availability
            .map(|target| objective(Aim::Availability, target, None));
        let fast = self
            .latency
            .map(|bound| objective(Aim::Latency, self.latency_target, Some(bound)));
        available.into_iter().chain(fast).collect()
    }

    /// What is wrong with it: the key, what, and what to do.
    pub fn mistakes(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut mistakes = Vec::new();
        if self.availability.is_none() && self.latency.is_none() {
            mistakes.push((
                "",
                "an objective says nothing without `availability` or `latency`".to_owned(),
                "for example `availability = \"99.9%\"`",
            ));
        }
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&self.window.0) {
            let message = format!("the window is {}, not from 3d to 90d", self.window);
            mistakes.push(("window", message, "for example \"30d\""));
        }
        let bound = self
            .latency
            .filter(|own| !(BOUND_MIN..=BOUND_MAX).contains(&own.0));
        if let Some(bound) = bound {
            let message = format!("the latency is {bound}, not from 1ms to 10m");
            mistakes.push(("latency", message, "for example \"300ms\""));
        }
        mistakes
    }
}

impl AlertsConfig {
    /// What is wrong with it: the key, what, and what to do.
    pub fn mistakes(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut mistakes = ExportUrl::mistakes(
            self.webhook.as_ref(),
            ("webhook_headers", self.webhook_headers.is_some()),
            ("webhook_ca", self.webhook_ca.is_some()),
            "add `webhook = \"https://…\"`",
        );
        if self.command.first().is_some_and(String::is_empty) {
            let message = "the name of the program is empty".to_owned();
            mistakes.push((
                "command",
                message,
                "for example [\"./page.sh\", \"team-a\"]",
            ));
        }
        let range = Duration::from_secs(1)..=Duration::from_secs(300);
        if !range.contains(&self.timeout.0) {
            let message = format!("the timeout is {}, not from 1s to 5m", self.timeout);
            mistakes.push(("timeout", message, "for example \"10s\""));
        }
        mistakes
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no percentage from 90% to 99.999%");
        let percent = text.parse().map_err(|_| wrong())?;
        let has_room = (SHARE_MIN..=SHARE_MAX).contains(&percent);
        has_room.then_some(Self(percent)).ok_or_else(wrong)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Share {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "share",
            "pattern": "^[0-9]+([.][0-9]+)?%$",
            "examples": ["99.9%"],
        })
    }
}

fn default_latency_target() -> Share {
    Share(Percent::of_millionths(990_000))
}

fn default_window() -> HumanDuration {
    HumanDuration(30 * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_with_room_for_failures() {
        for (text, shown) in [("99.9%", "99.9%"), ("90 %", "90%"), ("99.999%", "99.999%")] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for text in [
            "100%", "99.9991%", "89.9%", "99.9", "%", "1e2%", "-95%", "NaN%", "99,9%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        let budget = "99.9%".parse::<Share>().unwrap().budget();
        assert!((budget - 0.001).abs() < 1e-12);
    }

    #[test]
    fn the_defaults_are_sound_and_say_something_only_with_an_aim() {
        let config = |text: &str| toml_like(text).mistakes();
        assert!(config(r#"{"availability":"99.9%"}"#).is_empty());
        assert_eq!(config("{}")[0].0, "");
        assert_eq!(
            config(r#"{"availability":"99%","window":"2d"}"#)[0].0,
            "window"
        );
        assert_eq!(config(r#"{"latency":"11m"}"#)[0].0, "latency");
        let both = toml_like(r#"{"availability":"99.9%","latency":"300ms"}"#);
        let targets = both.objectives(&ServiceName::new("a").unwrap());
        let targets: Vec<_> = targets.iter().map(Objective::target).collect();
        assert_eq!(targets, ["99.9%", "99% within 300ms"]);
        assert!(AlertsConfig::default().mistakes().is_empty());
    }

    fn toml_like(text: &str) -> ObjectiveConfig {
        serde_json::from_str(text).unwrap()
    }
}
