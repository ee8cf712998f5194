//! What becomes of a batch after an attempt: pure, by the letter of OTLP.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>,
//! <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response>

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tonic::Code;

/// The first pause after a failure, which doubles; none is shorter.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// No pause of our own choice is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// No pause that is asked for is longer: a mistake there should not silence us for a day.
const ASKED_MAX: Duration = Duration::from_secs(600);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A call over gRPC was answered.
    Called {
        /// With this code.
        code: Code,
        /// Which asks to come again after this time.
        retry_after: Option<Duration>,
        /// So many of the items were refused.
        rejected: u64,
    },
    /// It was answered by HTTP.
    Answered {
        /// With this status.
        status: u16,
        /// Which asks to come again after this time.
        retry_after: Option<Duration>,
        /// So many of the items were refused.
        rejected: u64,
    },
    /// Nobody answered; why.
    Unreached(String),
}

/// What becomes of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken, but for so many items.
    Sent(u64),
    /// It will never be taken; why.
    Refused(String),
    /// It is tried again after this time; why.
    Again(Duration, String),
}

/// What `outcome` means for a batch that has failed `failures` times in a row before.
pub fn verdict(outcome: Outcome, failures: u32) -> Verdict {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.min(6));
    let own = doubled.min(PAUSE_MAX);
    // Zero may be asked for, too: without a least pause that would be a loop that never rests.
    let pause =
        |asked: Option<Duration>| asked.map_or(own, |asked| asked.clamp(PAUSE_MIN, ASKED_MAX));
    match outcome {
        Outcome::Unreached(why) => Verdict::Again(own, why),
        Outcome::Called {
            code: Code::Ok,
            rejected,
            ..
        } => Verdict::Sent(rejected),
        Outcome::Called {
            code, retry_after, ..
        } => {
            let why = format!("it answers {code:?}: {code}");
            if comes_again(code, retry_after.is_some()) {
                Verdict::Again(pause(retry_after), why)
            } else {
                Verdict::Refused(why)
            }
        }
        Outcome::Answered {
            status: 200..=299,
            rejected,
            ..
        } => Verdict::Sent(rejected),
        Outcome::Answered {
            status: status @ (429 | 502 | 503 | 504),
            retry_after,
            ..
        } => Verdict::Again(pause(retry_after), format!("it answers {status}")),
        Outcome::Answered { status, .. } => Verdict::Refused(format!("it answers {status}")),
    }
}

/// Whether a call that ended so may be made again. Who is exhausted says when, if it is to be.
fn comes_again(code: Code, is_asked: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => is_asked,
        _ => false,
    }
}

/// How many items an answer says were refused. All three kinds of answers have it in the same place.
pub fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    u64::try_from(partial.rejected_spans).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Answered {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            rejected: 0,
        }
    }

    #[test]
    fn answers_mean_what_the_specification_says() {
        let again = |verdict| match verdict {
            Verdict::Again(pause, _) => pause.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(verdict(answered(200, None), 9), Verdict::Sent(0));
        for status in [400, 401, 404, 413, 500, 501] {
            assert!(
                matches!(verdict(answered(status, None), 0), Verdict::Refused(_)),
                "{status}"
            );
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(again(verdict(answered(status, None), 0)), 1, "{status}");
        }
        assert_eq!(again(verdict(answered(503, Some(7)), 5)), 7);
        assert_eq!(again(verdict(answered(503, Some(0)), 5)), 1);
        assert_eq!(again(verdict(answered(429, Some(1 << 40)), 5)), 600);
        let called = |code: Code, retry_after: Option<u64>| Outcome::Called {
            code,
            retry_after: retry_after.map(Duration::from_secs),
            rejected: 2,
        };
        assert_eq!(verdict(called(Code::Ok, None), 9), Verdict::Sent(2));
        let comes_again =
            |code: &Code| matches!(verdict(called(*code, None), 0), Verdict::Again(..));
        let codes = (1..=16).map(Code::from_i32).filter(comes_again);
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        let codes: Vec<i32> = codes.map(i32::from).collect();
        assert_eq!(codes, [1, 4, 10, 11, 14, 15]);
        let exhausted = |asked| again(verdict(called(Code::ResourceExhausted, Some(asked)), 0));
        assert_eq!([0, 7, 1 << 40].map(exhausted), [1, 7, 600]);
        let unreached = |failures| again(verdict(Outcome::Unreached(String::new()), failures));
        assert_eq!([0, 1, 2, 6, 40].map(unreached), [1, 2, 4, 60, 60]);
    }
}
