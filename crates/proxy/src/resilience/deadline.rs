//! Until when a request is worth anything, and how that is told from hop to hop.
//!
//! A deadline is a moment of wall-clock time, not a span: a span would have to be made smaller at
//! each hop by somebody who knows how long the hop took, and services in the middle do not. It
//! travels in `tracestate` ([`super::tracestate`]), which every OpenTelemetry SDK passes on, so a
//! service in the middle needs no code for it. Beside it, `Atoll-Timeout-Ms` says the same in
//! milliseconds that are left, for whoever wants to read or to shorten it, and `grpc-timeout` for
//! gRPC. The earliest wins: nobody can make a request live longer than whoever waits for it.
//!
//! One thing is known to go wrong with this: a service that answers and works on, or takes an event
//! from a queue hours later, continues the trace and with it a deadline that concerns nobody any
//! more. Hence [`STALE_AFTER`], and `deadlines = "own"` for such services.

use std::fmt;
use std::time::Duration;

use atoll_base::Timestamp;

/// The field that tells how many milliseconds are left.
pub const TIMEOUT_FIELD: &str = "Atoll-Timeout-Ms";

/// A call that is made this long after its inherited deadline was not made for whoever set it: the
/// deadline is ignored. Shortly after, it was: the service did not notice that its client has left,
/// and is spared the work.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// Longer than any request lives, and short enough for every sum: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The moment after which nobody waits for an answer any more: milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

/// What is known of a request's time when it arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// From `tracestate`; none for services with `deadlines = "own"`.
    pub inherited: Option<Deadline>,
    /// From `Atoll-Timeout-Ms`.
    pub timeout: Option<Duration>,
    /// From `grpc-timeout`.
    pub grpc: Option<Duration>,
}

impl Deadline {
    /// From milliseconds since 1970.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// In milliseconds since 1970.
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// So long after `now`.
    pub fn after(now: Timestamp, timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST).as_millis() as u64;
        Self(unix_millis(now).saturating_add(timeout))
    }

    /// What is left at `now`; zero if it has passed.
    pub fn remaining(self, now: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(unix_millis(now)))
    }

    /// Whether nobody waits any more.
    pub fn has_passed(self, now: Timestamp) -> bool {
        self.0 <= unix_millis(now)
    }

    /// The deadline of a request that arrives `now` and may take `own` by the configuration: the
    /// earliest of everything. It may have passed already: then the request is answered 504 at once.
    pub fn combine(now: Timestamp, own: Duration, wishes: &Wishes) -> Self {
        let spans = [Some(own), wishes.timeout, wishes.grpc];
        let spans = spans.into_iter().flatten();
        let fresh = wishes.inherited.filter(|deadline| {
            let stale = deadline.0.saturating_add(STALE_AFTER.as_millis() as u64);
            stale > unix_millis(now)
        });
        let earliest = spans.map(|span| Self::after(now, span)).chain(fresh).min();
        earliest.unwrap_or_else(|| Self::after(now, own))
    }
}

/// Milliseconds since 1970; zero before.
fn unix_millis(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros() / 1000).unwrap_or(0)
}

/// Reads `Atoll-Timeout-Ms`: digits alone. None if it is something else, which is ignored.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    digits(value, 20).map(Duration::from_millis)
}

/// Reads `grpc-timeout`: one to eight digits and a unit, as gRPC over HTTP/2 has it. None if it is
/// something else, which is ignored.
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, number) = value.split_last()?;
    let number = digits(number, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A `grpc-timeout` to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcTimeout(Duration);

impl GrpcTimeout {
    /// What is left of a request's time.
    pub const fn new(remaining: Duration) -> Self {
        Self(remaining)
    }
}

impl fmt::Display for GrpcTimeout {
    /// In the smallest unit that fits in eight digits, of milliseconds or longer, rounded down: a
    /// hop only ever shortens. Zero is no timeout in gRPC; the shortest is a nanosecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: u128 = 99_999_999;
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("1n");
        }
        let units = [("m", 1), ("S", 1_000), ("M", 60_000), ("H", 3_600_000)];
        let fitting = units.into_iter().find(|(_, size)| millis / size <= MOST);
        match fitting {
            Some((unit, size)) => write!(f, "{}{unit}", millis / size),
            None => write!(f, "{MOST}H"),
        }
    }
}

/// A number of at most so many decimal digits; what does not fit is the largest.
pub(super) fn digits(text: &[u8], length_max: usize) -> Option<u64> {
    let valid = !text.is_empty() && text.len() <= length_max;
    if !valid || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number: u64, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    const NOW: i64 = 1_763_690_400_000;
    const OWN: Duration = Duration::from_secs(30);

    fn combined(wishes: &Wishes) -> i64 {
        Deadline::combine(at(NOW), OWN, wishes).as_unix_millis() as i64 - NOW
    }

    fn inherited(from_now: i64) -> Wishes {
        let deadline = Deadline::from_unix_millis((NOW + from_now) as u64);
        Wishes {
            inherited: Some(deadline),
            ..Wishes::default()
        }
    }

    #[test]
    fn the_earliest_wins_and_a_later_hop_only_shortens() {
        assert_eq!(combined(&Wishes::default()), 30_000);
        assert_eq!(combined(&inherited(5_000)), 5_000);
        assert_eq!(combined(&inherited(90_000)), 30_000);
        let both = Wishes {
            timeout: Some(Duration::from_millis(700)),
            grpc: Some(Duration::from_secs(2)),
            ..inherited(5_000)
        };
        assert_eq!(combined(&both), 700);
        let longer = Wishes {
            timeout: Some(Duration::MAX),
            grpc: Some(Duration::from_secs(99_999_999 * 3600)),
            ..inherited(5_000)
        };
        assert_eq!(combined(&longer), 5_000);
    }

    #[test]
    fn one_that_has_just_passed_holds_and_an_old_one_does_not() {
        assert_eq!(combined(&inherited(-9_999)), -9_999);
        assert_eq!(combined(&inherited(-10_000)), 30_000);
        let passed = Deadline::from_unix_millis(NOW as u64);
        assert!(passed.has_passed(at(NOW)) && !passed.has_passed(at(NOW - 1)));
        assert_eq!(passed.remaining(at(NOW - 250)), Duration::from_millis(250));
        assert_eq!(passed.remaining(at(NOW + 250)), Duration::ZERO);
    }

    #[test]
    fn grpc_timeouts_are_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("10S", Some(Duration::from_secs(10))),
            ("100m", Some(Duration::from_millis(100))),
            ("50u", Some(Duration::from_micros(50))),
            ("7n", Some(Duration::from_nanos(7))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0m", Some(Duration::ZERO)),
            ("100000000n", None),
            ("", None),
            ("m", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("+5S", None),
            ("5 S", None),
            (" 5S", None),
            ("1.5S", None),
        ] {
            assert_eq!(parse_grpc_timeout(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn grpc_timeouts_are_written_short_and_never_longer() {
        for (millis, expected) in [
            (0, "1n"),
            (1, "1m"),
            (30_000, "30000m"),
            (99_999_999, "99999999m"),
            (100_000_999, "100000S"),
            (99_999_999_999, "99999999S"),
            (100_000_000_000, "1666666M"),
        ] {
            let written = GrpcTimeout::new(Duration::from_millis(millis)).to_string();
            assert_eq!(written, expected);
        }
        assert_eq!(GrpcTimeout::new(Duration::MAX).to_string(), "99999999H");
    }

    #[test]
    fn the_plain_timeout_is_digits() {
        assert_eq!(parse_timeout(b"0"), Some(Duration::ZERO));
        assert_eq!(parse_timeout(b"1500"), Some(Duration::from_millis(1500)));
        assert_eq!(
            parse_timeout(b"99999999999999999999"),
            Some(Duration::from_millis(u64::MAX))
        );
        for bad in [
            "",
            "-1",
            "+1",
            "1.5",
            "1s",
            " 1",
            "0x1",
            "999999999999999999999",
        ] {
            assert_eq!(parse_timeout(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(value: Vec<u8>) {
            let _ = parse_timeout(&value);
            let _ = parse_grpc_timeout(&value);
        }

        #[test]
        fn no_moment_makes_the_sums_panic(now: i64, deadline: u64, own: u64, timeout: u64) {
            let wishes = Wishes {
                inherited: Some(Deadline::from_unix_millis(deadline)),
                timeout: Some(Duration::from_millis(timeout)),
                grpc: Some(Duration::from_secs(timeout)),
            };
            let now = Timestamp::from_micros(now);
            let own = Duration::from_secs(own);
            let combined = Deadline::combine(now, own, &wishes);
            prop_assert!(combined <= Deadline::after(now, own), "never longer than its own");
            prop_assert_eq!(combined.has_passed(now), combined.remaining(now).is_zero());
        }

        #[test]
        fn a_grpc_timeout_is_never_longer_after_a_hop(millis in 1u64..1 << 48) {
            let remaining = Duration::from_millis(millis);
            let written = GrpcTimeout::new(remaining).to_string();
            let read = parse_grpc_timeout(written.as_bytes()).unwrap();
            prop_assert!(read <= remaining);
            prop_assert!(read.as_millis() * 1001 / 1000 + 60_000 >= remaining.as_millis());
        }
    }
}
