//! Objectives: what users of a service may expect, and who is told when too little of it is left.
//!
//! An objective leaves an error budget: of 99.9% in 30 days, one request in a thousand may fail. What is
//! alerted on is how fast the budget burns, over a long and a short window at once (Google's SRE workbook,
//! chapter 5): the long one says that it matters, the short one that it still goes on. Refused: thresholds on
//! error rates, which wake people for what does not matter and sleep through what slowly does.
//!
//! All of it is pure: [`Machine::apply`] takes counts and the time, and answers what is to be kept and told.

mod alert;
mod burn;
mod config;
mod counts;
mod machine;

pub use alert::{Alert, AlertId, AlertState, Change, Notice, Severity};
pub use burn::{FAILED_MIN, Standing};
pub use config::{AlertsConfig, ObjectiveConfig, Share, WINDOW_MAX, WINDOW_MIN};
pub use counts::{Row, Scale, Tally};
pub use machine::{Action, Command, Kept, Machine, Restored};

use std::fmt;
use std::time::Duration;

use atoll_base::{HumanDuration, ServiceName};
use serde::{Deserialize, Serialize};

/// What an objective is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// That requests do not fail.
    Availability,
    /// That they are answered in time.
    Latency,
}

/// Which objective: a service has one of each kind at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose.
    pub service: ServiceName,
    /// About what.
    pub aim: Aim,
}

/// An objective that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// Whose, and about what.
    pub key: Key,
    /// The share of requests that must be good.
    pub target: Share,
    /// An answer within this is in time; for latency.
    pub bound: Option<HumanDuration>,
    /// Over which the budget is reckoned.
    pub window: Duration,
}

impl Aim {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Latency => "latency",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Availability, Self::Latency];
        all.into_iter().find(|aim| aim.as_str() == name)
    }
}

impl Objective {
    /// What is promised, for people: `99.9%`, or `99% within 300ms`.
    pub fn target(&self) -> String {
        match self.bound {
            Some(bound) => format!("{} within {bound}", self.target),
            None => self.target.to_string(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service, self.aim.as_str())
    }
}
