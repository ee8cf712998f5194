//! Why an instance is out or a breaker open, for `atoll explain` and the admin API.
//!
//! Kept as facts and put into words when somebody asks: the facts go out as JSON beside the words,
//! and nothing is formatted while things fail.

use std::fmt;
use std::time::Duration;

use atoll_base::Timestamp;
use serde::Serialize;

use super::{Failure, Millis};

/// What made it go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// One failure after the other.
    InARow {
        /// How many.
        failures: u32,
        /// The last of them.
        last: Failure,
    },
    /// Many failures, where others had few.
    FailureRate {
        /// Failures in ten seconds.
        failures: u64,
        /// Requests in ten seconds.
        requests: u64,
        /// Of a hundred requests to the other instances, so many failed.
        others_percent: u64,
    },
    /// Much slower than the others, for several windows in a row.
    Slow {
        /// Its typical latency in milliseconds.
        typical_ms: u64,
        /// That of the others.
        others_ms: u64,
    },
    /// Calls of a dependency that failed.
    Calls {
        /// Failures in ten seconds.
        failures: u64,
        /// Calls in ten seconds.
        calls: u64,
        /// The last failure, if it is known.
        last: Option<Failure>,
    },
}

/// Why something is out, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// What made it go out.
    pub cause: Cause,
    /// Trials that failed since then.
    pub trials_failed: u32,
    /// When it is tried again. None: with the next request that suits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Why {
    /// Puts `until` of the process clock onto the wall: `now` and `wall` are the same moment.
    pub(super) fn new(
        cause: Cause,
        trials_failed: u32,
        until: Option<Millis>,
        now: Millis,
        wall: Timestamp,
    ) -> Self {
        let until = until.map(|until| {
            let ahead = i64::try_from(until.saturating_sub(now)).unwrap_or(i64::MAX);
            Timestamp::from_micros(wall.as_micros().saturating_add(ahead.saturating_mul(1000)))
        });
        Self {
            cause,
            trials_failed,
            until,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow { failures, last } => {
                let s = if *failures == 1 { "" } else { "s" };
                write!(f, "{failures} failure{s} in a row, last: {last}")
            }
            Self::FailureRate {
                failures,
                requests,
                others_percent,
            } => write!(
                f,
                "{failures} of {requests} requests failed within 10s, \
                 while the others failed {others_percent}%"
            ),
            Self::Slow {
                typical_ms,
                others_ms,
            } => write!(
                f,
                "answers take {typical_ms}ms, while the others take {others_ms}ms"
            ),
            Self::Calls {
                failures,
                calls,
                last,
            } => {
                write!(f, "{failures} of {calls} calls failed within 10s")?;
                last.map_or(Ok(()), |last| write!(f, ", last: {last}"))
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; ", self.cause)?;
        match self.trials_failed {
            0 => {}
            1 => f.write_str("1 trial since failed; ")?,
            more => write!(f, "{more} trials since failed; ")?,
        }
        let until = self
            .until
            .map(|until| jiff::Timestamp::from_microsecond(until.as_micros()));
        match until {
            // Whole seconds are what a person can use.
            Some(Ok(until)) => write!(f, "out until {}", until.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Some(Err(_)) => f.write_str("out"),
            None => f.write_str("on trial"),
        }
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_read_by_a_person_and_by_a_program() {
        let wall = Timestamp::from_micros(1_763_690_400_123_456);
        let cause = Cause::InARow {
            failures: 5,
            last: Failure::Refused,
        };
        let why = Why::new(cause, 0, Some(15_000), 10_000, wall);
        assert_eq!(
            why.to_string(),
            "5 failures in a row, last: connection refused; out until 2025-11-21T02:00:05Z"
        );
        assert_eq!(
            serde_json::to_string(&why).unwrap(),
            r#"{"cause":{"kind":"in_a_row","failures":5,"last":"refused"},"trials_failed":0,"until":"2025-11-21T02:00:05.123456Z"}"#
        );
        let why = Why::new(
            Cause::Calls {
                failures: 12,
                calls: 20,
                last: Some(Failure::Status(503)),
            },
            2,
            None,
            0,
            wall,
        );
        assert_eq!(
            why.to_string(),
            "12 of 20 calls failed within 10s, last: status 503; 2 trials since failed; on trial"
        );
    }
}
