//! How an attempt failed, in the few kinds that a decision depends on.
//!
//! The machines here must not know HTTP or sockets; whoever makes the attempt says which of these
//! it was. What is no failure of the service is not among them: a client that left, a body that was
//! too large, a 4xx.

use std::fmt;

use serde::Serialize;

/// How one attempt at a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nobody listens at the address.
    Refused,
    /// No connection could be made for another reason, or not in time.
    Unreachable,
    /// No answer within the time that the *service* is allowed. A deadline that a client set
    /// shorter than that is no failure of the service and must not be reported as one: with
    /// deadlines of a millisecond anybody could open the breaker for everybody.
    Timeout,
    /// The connection broke before there was an answer, or what came was no HTTP.
    Broken,
    /// The answer broke off.
    Cut,
    /// An answer with this status, 5xx.
    Status(u16),
}

impl Failure {
    /// Whether an answer of this status speaks against the instance that gave it. 501, 505 and 511
    /// speak of the request, 429 of the caller.
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            501 | 505 | 511 => None,
            500..=599 => Some(Self::Status(status)),
            _ => None,
        }
    }

    /// There was no connection: the instance saw nothing of the request.
    pub const fn is_connect(self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable)
    }

    /// The service could not be used, as against: it answered, and the answer was an error of its
    /// program.
    pub const fn is_unavailability(self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 502..=504),
            _ => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("no connection could be made"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Broken => f.write_str("connection broken before an answer"),
            Self::Cut => f.write_str("answer broken off"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_speak_against_an_instance() {
        for (status, failure, unavailable) in [
            (200, false, false),
            (404, false, false),
            (429, false, false),
            (500, true, false),
            (501, false, false),
            (502, true, true),
            (503, true, true),
            (504, true, true),
            (505, false, false),
            (507, true, false),
        ] {
            let found = Failure::of_status(status);
            assert_eq!(found.is_some(), failure, "{status}");
            let counts = found.is_some_and(Failure::is_unavailability);
            assert_eq!(counts, unavailable, "{status}");
        }
    }
}
