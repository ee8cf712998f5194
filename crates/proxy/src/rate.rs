//! Rate limits: the generic cell rate algorithm (GCRA; ITU-T I.371), for any number of clients in
//! memory that is bounded.
//!
//! A client is one number: the time at which it would have nothing used up any more. A request moves
//! it on by the pause that the rate asks for; if it would lie further ahead than the burst allows, the
//! request is refused. There are no windows, hence no double burst at their edges. `governor` was the
//! plan; its keyed store grows with every new client, and a flood of addresses is when a limit must
//! hold.

mod by;
mod registry;
mod table;

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use atoll_base::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::by::By;
pub(crate) use self::registry::Registry;
pub(crate) use self::table::Table;

/// How many requests a client may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// So many requests, at least 1...
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: NonZeroU32,
    /// ... in this time, on average. Default `1s`.
    #[serde(default = "second")]
    pub per: HumanDuration,
    /// So many may come at once, after a pause. Default: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<NonZeroU32>,
    /// What tells clients apart: `client` (the address; of IPv6 its first 64 bits), `key` (the API
    /// key), `claim:NAME` (of the token, as `claim:sub`), `header:NAME`, or `all` (all requests
    /// together). Who lacks it is told apart by address. Default `client`.
    #[serde(default = "by_client")]
    pub by: String,
}

/// A limit, ready to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Limit {
    /// Nanoseconds that one request uses up.
    pause: u64,
    /// How far ahead of now a client may be, in nanoseconds.
    tolerance: u64,
    burst: u32,
    requests: u32,
    per: Duration,
}

/// What a limit says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// What the client is remembered by from now on, in nanoseconds.
    next: u64,
    /// Requests that may follow at once.
    pub(crate) remaining: u32,
    /// Until one more is allowed, or until nothing is used up any more.
    pub(crate) wait: Duration,
}

const fn second() -> HumanDuration {
    HumanDuration::secs(1)
}

fn by_client() -> String {
    "client".to_owned()
}

impl Limit {
    pub(crate) fn new(config: &RateLimitConfig) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let pause = (nanos(config.per.0) / u64::from(config.requests.get())).max(1);
        let burst = config.burst.unwrap_or(config.requests).get();
        Self {
            pause,
            tolerance: pause.saturating_mul(u64::from(burst)),
            burst,
            requests: config.requests.get(),
            per: config.per.0,
        }
    }

    /// Decides on a request at `now` of a client that is remembered by `known`, both in nanoseconds of
    /// one clock; zero is nothing known.
    pub(crate) fn decide(&self, known: u64, now: u64) -> Decision {
        let start = known.max(now);
        let next = start.saturating_add(self.pause);
        let ahead = next - now;
        if ahead > self.tolerance {
            return Decision {
                allowed: false,
                next: known,
                remaining: 0,
                wait: Duration::from_nanos(ahead - self.tolerance),
            };
        }
        let left = (self.tolerance - ahead) / self.pause;
        Decision {
            allowed: true,
            next,
            remaining: u32::try_from(left).unwrap_or(u32::MAX).min(self.burst),
            wait: Duration::from_nanos(ahead),
        }
    }

    /// The fields that tell a client where it stands (draft-ietf-httpapi-ratelimit-headers-10).
    pub(crate) fn write(&self, decision: &Decision, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(96);
        let seconds = decision.wait.as_secs_f64().ceil();
        // Writing to memory does not fail.
        let _ = write!(
            text,
            "RateLimit-Policy: \"default\";q={};w={}\r\nRateLimit: \"default\";r={};t={seconds:.0}\r\n",
            self.requests,
            self.per.as_secs().max(1),
            decision.remaining,
        );
        if !decision.allowed {
            let _ = write!(text, "Retry-After: {:.0}\r\n", seconds.max(1.0));
        }
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(requests: u32, per: &str, burst: Option<u32>) -> Limit {
        Limit::new(&RateLimitConfig {
            requests: requests.try_into().unwrap(),
            per: per.parse().unwrap(),
            burst: burst.map(|burst| burst.try_into().unwrap()),
            by: by_client(),
        })
    }

    /// How many of requests at these moments (in milliseconds) are let in.
    fn allowed(limit: &Limit, moments: impl IntoIterator<Item = u64>) -> usize {
        let mut known = 0;
        moments
            .into_iter()
            .filter(|moment| {
                let decision = limit.decide(known, 1_000_000 * (1000 + moment));
                known = decision.next;
                decision.allowed
            })
            .count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limit = limit(10, "1s", Some(5));
        assert_eq!(allowed(&limit, [0; 100]), 5);
        // 5 at once, then one each 100 ms.
        assert_eq!(allowed(&limit, 0..1000), 5 + 9);
        assert_eq!(allowed(&limit, (0..1000).step_by(100)), 10);
        let decision = limit.decide(0, 1);
        assert_eq!((decision.remaining, decision.allowed), (4, true));
    }

    #[test]
    fn a_client_is_told_where_it_stands() {
        let limit = limit(2, "10s", None);
        let mut known = 0;
        let mut texts = Vec::new();
        for _ in 0..3 {
            let decision = limit.decide(known, 1_000_000_000);
            known = decision.next;
            let mut out = Vec::new();
            limit.write(&decision, &mut out);
            texts.push(String::from_utf8(out).unwrap());
        }
        assert_eq!(
            texts[0],
            "RateLimit-Policy: \"default\";q=2;w=10\r\nRateLimit: \"default\";r=1;t=5\r\n"
        );
        assert!(
            texts[2].contains("r=0;t=5\r\nRetry-After: 5\r\n"),
            "{}",
            texts[2]
        );
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_whatever_the_moments(
            mut moments in proptest::collection::vec(0u64..5000, 0..400),
            burst in 1u32..20,
        ) {
            moments.sort_unstable();
            let limit = limit(20, "1s", Some(burst));
            let span = moments.last().unwrap_or(&0) - moments.first().unwrap_or(&0);
            let most = u64::from(burst) + span / 50 + 1;
            prop_assert!(allowed(&limit, moments) as u64 <= most);
        }
    }
}
