//! Who carries requests to services, and what their answers mean.
//!
//! The mesh does it: it knows who is ready, whom to spare and how long to wait. Some answers are its
//! own; of these, those that say that nobody has seen the request are no refusal of the service.

use std::time::Duration;

use atoll_base::ServiceName;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::config::RetryConfig;
use crate::delivery::Outcome;

/// Carries requests.
pub trait Courier: Send + Sync + 'static {
    /// Sends a request whose target is a path to an instance of the service, and reads the answer, of
    /// whose body a few megabytes at most.
    ///
    /// An error says how far it came.
    fn send(
        &self,
        service: &ServiceName,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Bytes>, Failure>>;
}

/// An extension of a request: the topic whose record it carries. For whoever tells what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(pub String);

/// Why there is no answer; for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody has seen the request.
    Unsent(String),
    /// There was an answer, and it broke off or is too long.
    Broken(String),
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Ending {
    /// The service, or the mesh for it, has answered.
    Answer(http::Response<Bytes>),
    /// There was no answer in this time.
    Timeout(Duration),
    /// It could not be sent.
    Unsent(String),
    /// The answer broke off, or is too long.
    Broken(String),
}

/// What the mesh says when nobody has seen a request (`urn:atoll:problem:…`).
const UNSEEN: [&str; 7] = [
    "no-instance",
    "breaker-open",
    "overloaded",
    "connect",
    "maintenance",
    "rate-limited",
    "forbidden",
];

impl Ending {
    /// What it means for the delivery to `service`.
    pub fn outcome(&self, service: &ServiceName, retry: &RetryConfig) -> Outcome {
        let answer = match self {
            Self::Answer(answer) => answer,
            Self::Timeout(_) | Self::Broken(_) => {
                return Outcome::Refused {
                    final_word: false,
                    after: None,
                };
            }
            Self::Unsent(_) => return Outcome::Unreached { after: None },
        };
        let status = answer.status().as_u16();
        let after = retry_after(answer);
        match status {
            200..=299 => Outcome::Taken,
            _ if unseen(service, answer) => Outcome::Unreached { after },
            429 => Outcome::Busy { after },
            _ => Outcome::Refused {
                final_word: !retry.covers(status),
                after,
            },
        }
    }

    /// What happened, in a few words.
    pub fn reason(&self) -> String {
        match self {
            Self::Answer(answer) => {
                let status = answer.status().as_u16();
                let problem = problem(answer);
                let of_mesh = problem.as_ref().is_some_and(Problem::is_of_the_mesh);
                match problem.and_then(|problem| problem.detail) {
                    Some(detail) if of_mesh => format!("was not reached: {detail}"),
                    Some(detail) => format!("answered {status}: {detail}"),
                    None => format!("answered {status}"),
                }
            }
            Self::Timeout(limit) => format!("did not answer within {limit:?}"),
            Self::Unsent(error) => format!("could not be reached: {error}"),
            Self::Broken(error) => format!("gave no whole answer: {error}"),
        }
    }
}

/// A problem (RFC 9457), as far as it matters here.
#[derive(Debug, serde::Deserialize)]
struct Problem {
    r#type: Option<String>,
    detail: Option<String>,
    service: Option<String>,
}

impl Problem {
    /// Whether the mesh says that nobody has seen a request.
    fn is_of_the_mesh(&self) -> bool {
        let kind = self.r#type.as_deref();
        let kind = kind.and_then(|kind| kind.strip_prefix("urn:atoll:problem:"));
        kind.is_some_and(|kind| UNSEEN.contains(&kind))
    }
}

fn problem(answer: &http::Response<Bytes>) -> Option<Problem> {
    let kind = answer.headers().get(http::header::CONTENT_TYPE)?;
    let is_problem = kind.as_bytes().starts_with(b"application/problem+json");
    is_problem.then(|| serde_json::from_slice(answer.body()).ok())?
}

/// Whether the mesh says that this service has not seen the request. A service may pass on what the
/// mesh has told it about another.
fn unseen(service: &ServiceName, answer: &http::Response<Bytes>) -> bool {
    let Some(problem) = problem(answer) else {
        return false;
    };
    problem.is_of_the_mesh()
        && problem
            .service
            .is_none_or(|named| named == service.as_str())
}

/// `Retry-After` (RFC 9110, section 10.2.3). A date counts from the answer's own `Date`: clocks differ.
fn retry_after(answer: &http::Response<Bytes>) -> Option<Duration> {
    let text = |name| answer.headers().get(name)?.to_str().ok().map(str::trim);
    let value = text(http::header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(text(http::header::DATE)?).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &'static str) -> Ending {
        let kind = if body.is_empty() {
            "text/plain"
        } else {
            "application/problem+json"
        };
        let answer = http::Response::builder()
            .status(status)
            .header("content-type", kind)
            .header("retry-after", "3");
        Ending::Answer(answer.body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    fn outcome(ending: &Ending) -> Outcome {
        ending.outcome(
            &ServiceName::new("points").unwrap(),
            &RetryConfig::default(),
        )
    }

    const AFTER: Option<Duration> = Some(Duration::from_secs(3));

    #[test]
    fn an_answer_of_the_service_counts() {
        assert_eq!(outcome(&answered(204, "")), Outcome::Taken);
        let again = Outcome::Refused {
            final_word: false,
            after: AFTER,
        };
        assert_eq!(outcome(&answered(500, "")), again);
        assert_eq!(outcome(&answered(503, "")), again);
        let last = Outcome::Refused {
            final_word: true,
            after: AFTER,
        };
        assert_eq!(outcome(&answered(400, "")), last);
        assert_eq!(outcome(&answered(301, "")), last);
        assert_eq!(outcome(&answered(429, "")), Outcome::Busy { after: AFTER });
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let answer = |at: &str, date: Option<&str>| {
            let mut answer = http::Response::builder().header("retry-after", at);
            if let Some(date) = date {
                answer = answer.header("date", date);
            }
            retry_after(&answer.body(Bytes::new()).unwrap())
        };
        let (at, date) = (
            "Sun, 06 Nov 1994 08:50:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
        );
        assert_eq!(answer(at, Some(date)), Some(Duration::from_secs(60)));
        assert_eq!(answer(date, Some(at)), Some(Duration::ZERO));
        assert_eq!(answer(at, None), None);
        assert_eq!(answer("soon", Some(date)), None);
    }

    #[test]
    fn what_the_mesh_says_of_the_service_is_no_refusal_and_of_others_it_is() {
        let own = r#"{"type":"urn:atoll:problem:no-instance","service":"points"}"#;
        assert_eq!(
            outcome(&answered(503, own)),
            Outcome::Unreached { after: AFTER }
        );
        let other = r#"{"type":"urn:atoll:problem:no-instance","service":"bank"}"#;
        assert!(matches!(
            outcome(&answered(503, other)),
            Outcome::Refused { .. }
        ));
        let cut = r#"{"type":"urn:atoll:problem:answer-cut","service":"points"}"#;
        assert!(matches!(
            outcome(&answered(502, cut)),
            Outcome::Refused { .. }
        ));
    }

    #[test]
    fn no_answer_counts_and_no_way_does_not() {
        let late = Ending::Timeout(Duration::from_secs(30));
        assert!(matches!(
            outcome(&late),
            Outcome::Refused {
                final_word: false,
                ..
            }
        ));
        let unsent = Ending::Unsent("refused".to_owned());
        assert_eq!(outcome(&unsent), Outcome::Unreached { after: None });
        assert_eq!(late.reason(), "did not answer within 30s");
    }
}
