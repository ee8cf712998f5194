//! Alerts, as those who are told see them.
//!
//! An objective has two: one that wakes somebody, one that is a task for tomorrow. Their names stay the
//! same, so that silence lasts when an alert comes and goes.

use std::fmt;
use std::str::FromStr;

use atoll_base::{ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Aim, Key};

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody must look now.
    Page,
    /// Somebody must look within days.
    Ticket,
}

/// The name of an alert: `orders-availability-page`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId {
    /// Of which objective.
    pub key: Key,
    /// How urgent.
    pub severity: Severity,
}

/// How an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// It would fire, were there not too few requests to be sure. Nobody is told.
    Pending,
    /// The budget burns too fast.
    Firing,
    /// It does not any more.
    Resolved,
}

/// An alert that is not calm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub id: AlertId,
    /// How it stands.
    pub state: AlertState,
    /// Since when.
    pub since: Timestamp,
    /// Nobody is told of it before.
    pub silenced_until: Option<Timestamp>,
    /// What is the matter, as it was then.
    pub message: String,
}

/// An alert that has fired or was resolved, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub id: AlertId,
    /// Firing or resolved.
    pub state: AlertState,
    /// When.
    pub at: Timestamp,
    /// What is the matter.
    pub message: String,
    /// It was silenced: nobody was told.
    pub silenced: bool,
}

/// What somebody is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Of which alert.
    pub id: AlertId,
    /// Firing or resolved.
    pub state: AlertState,
    /// Since when.
    pub since: Timestamp,
    /// What is the matter.
    pub message: String,
    /// What is promised.
    pub target: String,
    /// Over which time.
    pub window: String,
    /// As in [`super::Standing`].
    pub budget_left: f64,
    /// As in [`super::Standing`].
    pub burn_1h: f64,
    /// As in [`super::Standing`].
    pub burn_6h: f64,
}

impl Severity {
    /// Both, the most urgent first.
    pub const ALL: [Self; 2] = [Self::Page, Self::Ticket];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
        }
    }
}

impl AlertState {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Firing, Self::Resolved];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key, self.severity.as_str())
    }
}

impl FromStr for AlertId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            // Names of services have hyphens, too: from the end.
            let (rest, severity) = text.rsplit_once('-')?;
            let (service, aim) = rest.rsplit_once('-')?;
            let mut severities = Severity::ALL.into_iter();
            Some(Self {
                key: Key {
                    service: ServiceName::new(service).ok()?,
                    aim: Aim::named(aim)?,
                },
                severity: severities.find(|own| own.as_str() == severity)?,
            })
        };
        read().ok_or_else(|| {
            format!("'{text}' is no alert's id; they are like `orders-availability-page`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_from_its_end() {
        for text in ["a-availability-page", "my-own-latency-latency-ticket"] {
            assert_eq!(text.parse::<AlertId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "a-page",
            "a-availability",
            "A-latency-page",
            "a-latency-pages",
            "-latency-page",
        ] {
            assert!(text.parse::<AlertId>().is_err(), "{text}");
        }
    }
}
