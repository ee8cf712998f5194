//! OTLP over HTTP: `/v1/traces`, `/v1/logs`, `/v1/metrics`.
//!
//! Answers are in the encoding of the request, also those that tell of a mistake: a
//! `google.rpc.Status`. A sender that should come again is told when, by `Retry-After`.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::io::Read as _;

use atoll_base::ServiceName;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost::Message as _;

use super::door::{BODY_BYTES_MAX, COME_AGAIN, Door, Encoding, Refusal, Room, Signal};

/// Who calls, where the proxy has told it; as an extension of the request.
#[derive(Debug, Clone)]
pub struct Caller(pub ServiceName);

/// `google.rpc.Status`, which has no place in OTLP's own messages.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Detail>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Detail {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// What is answered instead of a success.
struct Failure {
    status: StatusCode,
    message: String,
}

/// The three paths. A request with a [`Caller`] is that service's, whatever it claims.
pub fn router(door: Door) -> Router {
    let path = |signal: Signal| {
        any(move |State(door): State<Door>, request: Request| export(door, signal, request))
    };
    Router::new()
        .route("/v1/traces", path(Signal::Traces))
        .route("/v1/logs", path(Signal::Logs))
        .route("/v1/metrics", path(Signal::Metrics))
        .with_state(door)
}

async fn export(door: Door, signal: Signal, request: Request) -> Response {
    let Some(encoding) = encoding(request.headers()) else {
        let detail = "the content type must be application/x-protobuf or application/json";
        let failure = Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        return failure.answer(Encoding::Json);
    };
    if request.method() != axum::http::Method::POST {
        let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "telemetry is sent by POST");
        let mut answer = failure.answer(encoding);
        let post = axum::http::HeaderValue::from_static("POST");
        answer.headers_mut().insert(ALLOW, post);
        return answer;
    }
    let caller = request.extensions().get::<Caller>().cloned();
    let taken = async {
        let whole = body(&door, request).await?;
        let caller = caller.map(|Caller(service)| service);
        Ok::<_, Failure>(door.take(signal, encoding, whole, caller).await?)
    };
    match taken.await {
        Ok(answer) => ([(CONTENT_TYPE, content_type(encoding))], answer).into_response(),
        Err(failure) => failure.answer(encoding),
    }
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let told = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = told.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-protobuf") {
        return Some(Encoding::Protobuf);
    }
    let is_json = kind.eq_ignore_ascii_case("application/json");
    is_json.then_some(Encoding::Json)
}

const fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    }
}

/// The body as it was before it was compressed, and the room that it takes.
async fn body(door: &Door, request: Request) -> Result<(Bytes, Room), Failure> {
    let coding = request.headers().get(CONTENT_ENCODING);
    let coding = coding.map(|value| value.as_bytes().to_ascii_lowercase());
    let is_gzip = match coding.as_deref() {
        None | Some(b"identity" | b"") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => {
            let detail = "the content encoding must be gzip or none";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    // A sender that does not say how much it sends takes the room of the largest request.
    let length = http_body::Body::size_hint(request.body()).upper();
    let length = length.map_or(BODY_BYTES_MAX, |length| {
        usize::try_from(length).unwrap_or(usize::MAX)
    });
    if length > BODY_BYTES_MAX {
        return Err(Failure::too_large());
    }
    let room = door.room(length)?;
    let bytes = collect(request.into_body()).await?;
    if !is_gzip {
        return Ok((bytes, room));
    }
    let inflated = inflate(&bytes)?;
    let room = door.room(inflated.len())?;
    Ok((inflated.into(), room))
}

async fn collect(body: Body) -> Result<Bytes, Failure> {
    let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
    collected.map(|all| all.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::too_large()
        } else {
            Failure::new(StatusCode::BAD_REQUEST, "the body ended before its time")
        }
    })
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(4).min(BODY_BYTES_MAX));
    let limit = BODY_BYTES_MAX as u64 + 1;
    let read = MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut out);
    if read.is_err() {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "the body is not gzip",
        ));
    }
    if out.len() > BODY_BYTES_MAX {
        return Err(Failure::too_large());
    }
    Ok(out)
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    fn too_large() -> Self {
        let mib = BODY_BYTES_MAX >> 20;
        let message = format!("a request has at most {mib} MiB; send smaller batches");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// The codes of gRPC that stand for the status.
    const fn code(&self) -> i32 {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
            StatusCode::METHOD_NOT_ALLOWED => 12,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 3,
        }
    }

    fn answer(self, encoding: Encoding) -> Response {
        let body = match encoding {
            Encoding::Protobuf => Status {
                code: self.code(),
                message: self.message.clone(),
                details: Vec::new(),
            }
            .encode_to_vec(),
            Encoding::Json => {
                let (code, message) = (self.code(), &self.message);
                serde_json::json!({"code": code, "message": message})
                    .to_string()
                    .into_bytes()
            }
        };
        let mut answer =
            (self.status, [(CONTENT_TYPE, content_type(encoding))], body).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = COME_AGAIN.as_secs().into();
            answer.headers_mut().insert(RETRY_AFTER, seconds);
        }
        answer
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Busy => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, refusal.to_string())
    }
}
