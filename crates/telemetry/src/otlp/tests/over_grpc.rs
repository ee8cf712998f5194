//! The server, asked over a socket by a plain client of HTTP/2.

use std::sync::Arc;

use atoll_base::Tasks;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};

use super::{Shelf, traces_protobuf};
use crate::otlp::{Door, Taken, grpc};

const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

struct Answer {
    status: String,
    details: Option<String>,
    message: Bytes,
}

/// Sends one message to a server of its own.
async fn ask(shelf: Arc<Shelf>, message: &[u8], is_gzip: bool) -> Answer {
    let mut frame = BytesMut::new();
    frame.put_u8(is_gzip.into());
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    send(Door::new(shelf), frame.freeze(), true).await
}

/// Sends what may be the beginning of a message to a server of its own.
async fn send(door: Door, frame: Bytes, is_whole: bool) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    let stopping = tasks.clone();
    tasks.spawn("server", async move {
        let stopped = async move { stopping.stopping().await };
        grpc::serve(listener, door, stopped).await.unwrap();
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tasks.spawn("connection", async { connection.await.unwrap() });
    let mut request = http::Request::post(format!("http://{address}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if frame[0] == 1 {
        request = request.header("grpc-encoding", "gzip");
    }
    let (answer, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data(frame, is_whole).unwrap();
    let answer = answer.await.unwrap();
    let mut headers = answer.headers().clone();
    let mut body = answer.into_body();
    let mut all = BytesMut::new();
    while let Some(part) = body.data().await {
        all.extend_from_slice(&part.unwrap());
    }
    headers.extend(body.trailers().await.unwrap().unwrap_or_default());
    drop((client, body));
    tasks.stop();
    assert!(tasks.join(std::time::Duration::from_secs(10)).await);
    let text = |name: &str| Some(headers.get(name)?.to_str().unwrap().to_owned());
    Answer {
        status: text("grpc-status").unwrap(),
        details: text("grpc-status-details-bin"),
        // Before the message stand five bytes; an answer that is only a status has neither.
        message: all
            .freeze()
            .slice(if headers["grpc-status"] == "0" { 5 } else { 0 }..),
    }
}

#[tokio::test]
async fn spans_are_taken_plain_and_compressed() {
    let shelf = Shelf::saying(Taken::All);
    let answer = ask(Arc::clone(&shelf), &traces_protobuf(), false).await;
    assert_eq!(answer.status, "0");
    let told = ExportTraceServiceResponse::decode(answer.message).unwrap();
    assert_eq!(told.partial_success.unwrap().rejected_spans, 1);
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut zipped, &traces_protobuf()).unwrap();
    let answer = ask(Arc::clone(&shelf), &zipped.finish().unwrap(), true).await;
    assert_eq!(answer.status, "0");
    assert_eq!(shelf.spans.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_store_says_when_to_come_again_and_nonsense_is_not_asked_for_again() {
    let answer = ask(Shelf::saying(Taken::Busy), &traces_protobuf(), false).await;
    assert_eq!(answer.status, "8");
    let details = answer.details.expect("with RetryInfo");
    use base64::Engine as _;
    let details = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(details.trim_end_matches('='))
        .unwrap();
    let kind = b"type.googleapis.com/google.rpc.RetryInfo";
    assert!(details.windows(kind.len()).any(|window| window == kind));
    let answer = ask(Shelf::saying(Taken::All), b"no protobuf", false).await;
    assert_eq!((answer.status.as_str(), answer.details), ("3", None));
}

/// Many that send large messages slowly must not fill the memory before the first is whole.
#[tokio::test]
async fn a_message_takes_room_as_it_comes() {
    let shelf = Shelf::saying(Taken::All);
    let door = Door::new(shelf);
    let all = door.room(usize::MAX).unwrap();
    let mut begun = BytesMut::new();
    begun.put_u8(0);
    begun.put_u32(1 << 20);
    begun.put_bytes(0, 1000);
    let begun = begun.freeze();
    let answer = send(door.clone(), begun.clone(), false).await;
    assert_eq!(answer.status, "8");
    assert!(answer.details.is_some(), "when to come again");
    drop(all);
    // What is given back with a message that never became whole can be taken again, all of it.
    let answer = send(door.clone(), begun, true).await;
    assert_ne!(answer.status, "0");
    door.room(usize::MAX).unwrap();
}
