//! Whether a failed attempt may be made again.
//!
//! One pure function over facts. Two questions in this order: *may* it, without doing something
//! twice that must be done once; and *should* it, as retries are load on what is failing. Only then
//! the budget is asked, as asking is paying.
//!
//! **May.** RFC 9110, 9.2.2: an idempotent method; or a client that promised it with an
//! `Idempotency-Key`; or proof that no service has seen the request. A body that is gone cannot be
//! sent again.
//!
//! **Should.** Not if somebody above already does (the mark is in `tracestate`), or the layers
//! multiply; not after 429 or a `Retry-After`, which are requests to stay away; not when nobody
//! waits any more. A request that broke its connection is tried on one other instance and no more:
//! it may be what breaks them.

use std::time::Duration;

use atoll_base::Timestamp;

use super::deadline::digits;

/// How an attempt ended that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No connection was made: no service has seen anything of it.
    NeverConnected,
    /// HTTP/2 says that it was not processed: `REFUSED_STREAM`, or a GOAWAY with a lower last stream
    /// (RFC 9113, 8.7).
    NotProcessed,
    /// A kept connection was closed before the first byte of an answer: most likely before the
    /// request arrived.
    Stale,
    /// The connection broke, or what came was no HTTP, before anything was passed on.
    Broken,
    /// No answer in time.
    Timeout,
    /// An answer that the service gave.
    Status {
        /// Its status.
        status: u16,
        /// It has a `Retry-After`, whatever that says.
        retry_after: bool,
    },
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The method is idempotent by definition.
    pub idempotent: bool,
    /// The request has an `Idempotency-Key`.
    pub has_key: bool,
    /// Its body can be sent again: it has none, or it was kept.
    pub replayable: bool,
    /// Something of an answer was passed on.
    pub answer_begun: bool,
    /// An upper layer tries it again already.
    pub retried_above: bool,
    /// Retries that were made, this one not included.
    pub retries: u8,
    /// Of these, those after a connection that broke.
    pub breaks: u8,
    /// Retries that may be made.
    pub retries_max: u8,
    /// What is left of its time; none if it has no deadline.
    pub remaining: Option<Duration>,
    /// The pause before the next attempt.
    pub pause: Duration,
}

/// Why it is not made again. The answer or error of the last attempt goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The client has part of an answer.
    AnswerBegun,
    /// The answer is one that is passed on as it is.
    Answered,
    /// The service asked to be left alone for a while.
    AskedToWait,
    /// It may have been done, and must not be done twice.
    Unsafe,
    /// Its body is gone.
    BodyGone,
    /// An upper layer tries it again.
    RetriedAbove,
    /// It broke connections of two instances.
    BreaksInstances,
    /// As often as it may.
    Exhausted,
    /// Nobody would wait for it.
    OutOfTime,
    /// The dependency or the tree has no retries left.
    OutOfBudget,
}

/// After a broken connection it is tried again so often: the request may be what breaks its
/// instances, and must not go through all of them.
pub const BREAKS_MAX: u8 = 1;

/// Less time is not worth an attempt.
const TIME_MIN: Duration = Duration::from_millis(5);

impl Ending {
    /// It is certain that no service has begun to work on it.
    const fn is_unseen(self) -> bool {
        matches!(self, Self::NeverConnected | Self::NotProcessed)
    }

    const fn is_break(self) -> bool {
        matches!(self, Self::Broken | Self::Stale)
    }
}

/// Whether the attempt that ended like this may be made again, after the pause. `pay` asks the
/// budgets, and is called only if everything else allows it; a first retry over a stale connection
/// is free, as it is no sign of trouble.
pub fn decide(ending: Ending, facts: &Facts, pay: impl FnOnce() -> bool) -> Result<(), Stop> {
    may(ending, facts)?;
    should(ending, facts)?;
    let free = ending == Ending::Stale && facts.retries == 0;
    if free || pay() {
        Ok(())
    } else {
        Err(Stop::OutOfBudget)
    }
}

fn may(ending: Ending, facts: &Facts) -> Result<(), Stop> {
    if facts.answer_begun {
        return Err(Stop::AnswerBegun);
    }
    if let Ending::Status {
        status,
        retry_after,
    } = ending
    {
        if status == 429 || (retry_after && matches!(status, 502..=504)) {
            return Err(Stop::AskedToWait);
        }
        if !matches!(status, 502..=504) {
            return Err(Stop::Answered);
        }
    }
    if !ending.is_unseen() && !facts.idempotent && !facts.has_key {
        return Err(Stop::Unsafe);
    }
    if !facts.replayable {
        return Err(Stop::BodyGone);
    }
    Ok(())
}

fn should(ending: Ending, facts: &Facts) -> Result<(), Stop> {
    // Another door for a request that nobody has seen is no repetition: nothing multiplies.
    if facts.retried_above && !ending.is_unseen() {
        return Err(Stop::RetriedAbove);
    }
    if ending.is_break() && facts.breaks >= BREAKS_MAX {
        return Err(Stop::BreaksInstances);
    }
    if facts.retries >= facts.retries_max {
        return Err(Stop::Exhausted);
    }
    let needed = facts.pause.saturating_add(TIME_MIN);
    if facts.remaining.is_some_and(|left| left < needed) {
        return Err(Stop::OutOfTime);
    }
    Ok(())
}

/// Whether a method is idempotent by definition (RFC 9110, 9.2.2). Methods that are not known are
/// not.
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

/// Reads `Retry-After` (RFC 9110, 10.2.3), in seconds or as a date in one of the three forms of
/// 5.6.7: how long to stay away from `now`. None if it is neither.
pub fn parse_retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
    if let Some(seconds) = digits(value, 20) {
        return Some(Duration::from_secs(seconds));
    }
    const FORMS: [&str; 3] = [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    ];
    // No form is longer, and no parser need see more.
    let value = value.get(..).filter(|value| value.len() <= 40)?;
    let parsed = FORMS.iter().find_map(|form| {
        let date = jiff::civil::DateTime::strptime(form, value).ok()?;
        date.to_zoned(jiff::tz::TimeZone::UTC).ok()
    })?;
    let ahead = parsed
        .timestamp()
        .as_microsecond()
        .saturating_sub(now.as_micros());
    Some(Duration::from_micros(u64::try_from(ahead).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: Facts = Facts {
        idempotent: true,
        has_key: false,
        replayable: true,
        answer_begun: false,
        retried_above: false,
        retries: 0,
        breaks: 0,
        retries_max: 3,
        remaining: Some(Duration::from_secs(10)),
        pause: Duration::from_millis(5),
    };

    const POST: Facts = Facts {
        idempotent: false,
        ..GET
    };

    const fn status(status: u16) -> Ending {
        Ending::Status {
            status,
            retry_after: false,
        }
    }

    const fn busy(status: u16) -> Ending {
        Ending::Status {
            status,
            retry_after: true,
        }
    }

    fn check(table: &[(Facts, Ending, Result<(), Stop>)]) {
        for (facts, ending, expected) in table {
            let decided = decide(*ending, facts, || true);
            assert_eq!(decided, *expected, "{ending:?} {facts:?}");
        }
    }

    #[test]
    fn what_may_be_sent_twice() {
        use Ending::{Broken, NeverConnected, NotProcessed, Stale, Timeout};
        let keyed = Facts {
            has_key: true,
            ..POST
        };
        let gone = Facts {
            replayable: false,
            ..GET
        };
        let begun = Facts {
            answer_begun: true,
            ..GET
        };
        check(&[
            // What is safe by its method.
            (GET, NeverConnected, Ok(())),
            (GET, NotProcessed, Ok(())),
            (GET, Stale, Ok(())),
            (GET, Broken, Ok(())),
            (GET, Timeout, Ok(())),
            (GET, status(502), Ok(())),
            (GET, status(503), Ok(())),
            (GET, status(504), Ok(())),
            // What is not: only if nobody has seen it, or with a key.
            (POST, NeverConnected, Ok(())),
            (POST, NotProcessed, Ok(())),
            (POST, Stale, Err(Stop::Unsafe)),
            (POST, Broken, Err(Stop::Unsafe)),
            (POST, Timeout, Err(Stop::Unsafe)),
            (POST, status(503), Err(Stop::Unsafe)),
            (keyed, Broken, Ok(())),
            (keyed, status(503), Ok(())),
            // What cannot be.
            (gone, Broken, Err(Stop::BodyGone)),
            (gone, NeverConnected, Err(Stop::BodyGone)),
            (begun, Broken, Err(Stop::AnswerBegun)),
            (begun, status(503), Err(Stop::AnswerBegun)),
        ]);
    }

    #[test]
    fn answers_that_are_passed_on() {
        let keyed = Facts {
            has_key: true,
            ..POST
        };
        check(&[
            (GET, status(200), Err(Stop::Answered)),
            (GET, status(404), Err(Stop::Answered)),
            (GET, status(500), Err(Stop::Answered)),
            (GET, busy(200), Err(Stop::Answered)),
            (GET, status(429), Err(Stop::AskedToWait)),
            (GET, busy(429), Err(Stop::AskedToWait)),
            (keyed, status(429), Err(Stop::AskedToWait)),
            (GET, busy(503), Err(Stop::AskedToWait)),
            (GET, busy(502), Err(Stop::AskedToWait)),
        ]);
    }

    #[test]
    fn what_should_not_be_sent_again() {
        use Ending::{Broken, NeverConnected, Stale};
        let above = Facts {
            retried_above: true,
            ..GET
        };
        let broke = Facts {
            breaks: 1,
            retries: 1,
            ..GET
        };
        let often = Facts { retries: 3, ..GET };
        let off = Facts {
            retries_max: 0,
            ..GET
        };
        let late = Facts {
            remaining: Some(Duration::from_millis(9)),
            ..GET
        };
        let timeless = Facts {
            remaining: None,
            ..GET
        };
        check(&[
            (above, status(503), Err(Stop::RetriedAbove)),
            (above, Broken, Err(Stop::RetriedAbove)),
            (above, NeverConnected, Ok(())),
            (broke, Broken, Err(Stop::BreaksInstances)),
            (broke, Stale, Err(Stop::BreaksInstances)),
            (broke, status(503), Ok(())),
            (often, NeverConnected, Err(Stop::Exhausted)),
            (off, NeverConnected, Err(Stop::Exhausted)),
            (late, status(503), Err(Stop::OutOfTime)),
            (timeless, status(503), Ok(())),
        ]);
    }

    #[test]
    fn only_what_is_allowed_is_paid_for() {
        let refused = decide(status(503), &GET, || false);
        assert_eq!(refused, Err(Stop::OutOfBudget));
        assert_eq!(decide(Ending::Stale, &GET, || false), Ok(()), "free");
        let again = Facts { retries: 1, ..GET };
        assert_eq!(
            decide(Ending::Stale, &again, || false),
            Err(Stop::OutOfBudget)
        );
        let never = || -> bool { panic!("asking is paying") };
        assert_eq!(decide(Ending::Broken, &POST, never), Err(Stop::Unsafe));
    }

    #[test]
    fn methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "LOCK", ""] {
            assert!(!is_idempotent(method), "{method}");
        }
    }

    #[test]
    fn retry_after_in_seconds_and_in_the_three_forms_of_a_date() {
        // Sun, 06 Nov 1994 08:49:07 GMT.
        let now = Timestamp::from_micros(784_111_747_000_000);
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 36 Nov 1994 08:49:37 GMT", None),
            (
                "Sun, 06 Nov 1994 08:49:37 GMT, and then some more text",
                None,
            ),
        ] {
            let parsed = parse_retry_after(value.as_bytes(), now);
            assert_eq!(parsed, seconds.map(Duration::from_secs), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(value: Vec<u8>, now: i64) {
            let _ = parse_retry_after(&value, Timestamp::from_micros(now));
        }

        #[test]
        fn nothing_that_looks_like_a_date_makes_it_panic(
            value in "(Sun|Monday),? [0-9]{1,3}[ -](Nov|Feb)[ -][0-9]{1,5} [0-9:]{1,9} ?(GMT|UTC)?",
        ) {
            let _ = parse_retry_after(value.as_bytes(), Timestamp::from_micros(0));
        }

        /// The two promises that matter most, over everything.
        #[test]
        fn nothing_is_done_twice_and_nothing_goes_on_for_ever(
            flags in proptest::array::uniform5(any::<bool>()),
            retries in 0u8..9,
            breaks in 0u8..9,
            remaining in 0u64..100,
            which in 0usize..8,
        ) {
            let [idempotent, has_key, replayable, answer_begun, retried_above] = flags;
            let facts = Facts {
                idempotent, has_key, replayable, answer_begun, retried_above, retries, breaks,
                retries_max: 3,
                remaining: Some(Duration::from_millis(remaining)),
                pause: Duration::from_millis(5),
            };
            let ending = [
                Ending::NeverConnected, Ending::NotProcessed, Ending::Stale, Ending::Broken,
                Ending::Timeout, status(503), busy(503), status(429),
            ][which];
            if decide(ending, &facts, || true).is_ok() {
                prop_assert!(replayable && !answer_begun);
                prop_assert!(idempotent || has_key || ending.is_unseen());
                prop_assert!(retries < 3 && remaining >= 10);
                prop_assert!(!matches!(which, 6 | 7));
            }
        }
    }
}
