//! OTLP over gRPC.
//!
//! The generated services of `opentelemetry-proto` would make a tree of messages of each request, and
//! bring a client along. So requests pass through here as bytes, and the same [`Door`] as for HTTP takes
//! them.
//! <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use super::door::{BODY_BYTES_MAX, COME_AGAIN, Door, Encoding, Refusal, Room, Signal};
use super::http::{Caller, Detail, Status as RpcStatus};

/// Requests of one connection at a time; senders have one.
const STREAMS_MAX: u32 = 16;

/// The path of the method that takes `signal`.
pub(crate) fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    }
}

/// Serves on `listener` until `stopped` completes; then what is under way is finished.
///
/// # Errors
/// When it cannot be served any more.
pub async fn serve<F>(
    listener: TcpListener,
    door: Door,
    stopped: F,
) -> Result<(), tonic::transport::Error>
where
    F: Future<Output = ()> + Send,
{
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .add_routes(Routes::from(router(&door)))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped)
        .await
}

fn router(door: &Door) -> axum::Router {
    let signals = [Signal::Traces, Signal::Logs, Signal::Metrics];
    signals
        .into_iter()
        .fold(axum::Router::new(), |router, signal| {
            let door = door.clone();
            router.route_service(method(signal), Method { door, signal })
        })
}

/// One method of one service.
#[derive(Debug, Clone)]
struct Method {
    door: Door,
    signal: Signal,
}

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl tower_service::Service<axum::extract::Request> for Method {
    type Response = axum::http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::extract::Request) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Whole)
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(BODY_BYTES_MAX);
            let door = own.door.clone();
            let counted = request.map(|body| Counted {
                body,
                door,
                held: Vec::new(),
            });
            Ok(grpc.unary(own, counted).await)
        })
    }
}

/// A body that finds room at the door for each of its pieces before it is given on: tonic gathers a whole message
/// before anybody sees it.
struct Counted {
    body: axum::body::Body,
    door: Door,
    held: Vec<Room>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let own = &mut *self;
        let Some(frame) = std::task::ready!(Pin::new(&mut own.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|error| Status::from_error(error.into()));
        let taken = frame.and_then(|frame| {
            if let Some(piece) = frame.data_ref().filter(|piece| !piece.is_empty()) {
                let room = own.door.room(piece.len());
                own.held.push(room.map_err(|refusal| status(&refusal))?);
            }
            Ok(frame)
        });
        Poll::Ready(Some(taken))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = Answer<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let caller = request.extensions().get::<Caller>();
            let caller = caller.map(|Caller(service)| service.clone());
            let body = request.into_inner();
            let taken = async {
                let room = own.door.room(body.len())?;
                let whole = (body, room);
                own.door
                    .take(own.signal, Encoding::Protobuf, whole, caller)
                    .await
            };
            let answer = taken.await.map_err(|refusal| status(&refusal))?;
            Ok(Response::new(answer.into()))
        })
    }
}

/// The status that stands for it. Only with a time to wait is "exhausted" a reason to come again.
fn status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Malformed(text) | Refusal::TooLarge(text) => Status::invalid_argument(text),
        Refusal::Busy => {
            let message = refusal.to_string();
            let details = come_again(&message);
            Status::with_details(Code::ResourceExhausted, message, details)
        }
    }
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// When the details of a status ask to come again, if they do.
pub(crate) fn retry_after(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let mut infos = status.details.iter();
    let info = infos.find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    // There are 10^9 to a second; more is a mistake of theirs.
    let nanos = u32::try_from(delay.nanos).ok()?.min(999_999_999);
    Some(Duration::new(seconds, nanos))
}

fn come_again(message: &str) -> Bytes {
    let info = RetryInfo {
        retry_delay: Some(Delay {
            seconds: i64::try_from(COME_AGAIN.as_secs()).unwrap_or(1),
            nanos: 0,
        }),
    };
    let detail = Detail {
        type_url: RETRY_INFO.to_owned(),
        value: info.encode_to_vec(),
    };
    let status = RpcStatus {
        code: Code::ResourceExhausted as i32,
        message: message.to_owned(),
        details: vec![detail],
    };
    status.encode_to_vec().into()
}

/// Messages as bytes.
#[derive(Debug, Clone, Copy)]
struct Whole;

impl Codec for Whole {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
