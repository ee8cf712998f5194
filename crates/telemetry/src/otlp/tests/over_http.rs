//! The router, asked as a sender asks it.

use std::io::Write as _;
use std::sync::Arc;

use atoll_base::ServiceName;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tower::ServiceExt as _;

use super::{Shelf, TRACES_JSON, traces_protobuf};
use crate::otlp::http::{Caller, Status, router};
use crate::otlp::{Door, Taken};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json; charset=utf-8";

fn post(kind: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post("/v1/traces").header(header::CONTENT_TYPE, kind);
    request.body(body.into()).unwrap()
}

async fn ask(
    shelf: &Arc<Shelf>,
    request: Request<Body>,
) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
    let router = router(Door::new(shelf.clone()));
    let answer = router.oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    (head.status, head.headers, body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn answers_are_in_the_encoding_of_the_request_and_tell_what_was_refused() {
    let shelf = Shelf::saying(Taken::All);
    let (status, headers, body) = ask(&shelf, post(JSON, TRACES_JSON)).await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let wanted = serde_json::json!({"partialSuccess": {"rejectedSpans": 1,
        "errorMessage": "1 items with an id that is not valid"}});
    assert_eq!(told, wanted);

    let (status, headers, body) = ask(&shelf, post(PROTOBUF, traces_protobuf())).await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &PROTOBUF.parse().unwrap())
    );
    let told = ExportTraceServiceResponse::decode(body.as_slice()).unwrap();
    assert_eq!(told.partial_success.unwrap().rejected_spans, 1);
    assert_eq!(shelf.spans.lock().unwrap().len(), 2);

    let (status, _, body) = ask(&shelf, post(JSON, "{}")).await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, &b"{}"[..]));
    let (_, _, body) = ask(&shelf, post(PROTOBUF, Vec::new())).await;
    assert!(body.is_empty(), "of a full success nothing is said");
}

#[tokio::test]
async fn gzip_is_inflated_within_its_bound() {
    let shelf = Shelf::saying(Taken::All);
    let zipped = |bytes: Vec<u8>| {
        let mut request = post(PROTOBUF, bytes);
        request
            .headers_mut()
            .insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        request
    };
    let (status, ..) = ask(&shelf, zipped(gzip(&traces_protobuf()))).await;
    assert_eq!(
        (status, shelf.spans.lock().unwrap().len()),
        (StatusCode::OK, 1)
    );
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(
        ask(&shelf, zipped(bomb)).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        ask(&shelf, zipped(b"no gzip".to_vec())).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn mistakes_are_told_as_the_specification_says() {
    let shelf = Shelf::saying(Taken::All);
    let (status, _, body) = ask(&shelf, post(PROTOBUF, "no protobuf")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(Status::decode(body.as_slice()).unwrap().code, 3);
    let (status, _, body) = ask(&shelf, post(JSON, "{\"resourceSpans\":7}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["code"], 3);
    assert!(
        told["message"].as_str().unwrap().contains("sequence"),
        "{told}"
    );
    let (status, ..) = ask(&shelf, post("text/plain", "x")).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut zstd = post(PROTOBUF, traces_protobuf());
    zstd.headers_mut()
        .insert(header::CONTENT_ENCODING, "zstd".parse().unwrap());
    assert_eq!(
        ask(&shelf, zstd).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    let large = post(PROTOBUF, vec![0; (16 << 20) + 1]);
    assert_eq!(ask(&shelf, large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let get = Request::get("/v1/traces").header(header::CONTENT_TYPE, PROTOBUF);
    let (status, headers, _) = ask(&shelf, get.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (status, &headers[header::ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );
    assert!(shelf.spans.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_full_store_asks_to_come_again_and_one_that_refuses_says_why() {
    let busy = Shelf::saying(Taken::Busy);
    let (status, headers, body) = ask(&busy, post(PROTOBUF, traces_protobuf())).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(headers[header::RETRY_AFTER], "1");
    assert_eq!(Status::decode(body.as_slice()).unwrap().code, 8);
    let refusing = Shelf::saying(Taken::Except(1, "too many series"));
    let (_, _, body) = ask(&refusing, post(PROTOBUF, traces_protobuf())).await;
    let told = ExportTraceServiceResponse::decode(body.as_slice())
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(told.rejected_spans, 2);
    assert!(
        told.error_message
            .ends_with("for which there was no room: too many series"),
        "{told:?}"
    );
}

#[tokio::test]
async fn bodies_under_way_are_bounded_all_together() {
    let door = Door::new(Shelf::saying(Taken::All));
    let held: Vec<_> = (0..4).map(|_| door.room(16 << 20).unwrap()).collect();
    assert!(door.room(1).is_err());
    drop(held);
    assert!(door.room(1).is_ok());
    assert_eq!(door.counts().busy, 1);
}

#[tokio::test]
async fn the_caller_that_the_proxy_tells_is_who_sends() {
    let shelf = Shelf::saying(Taken::All);
    let mut request = post(JSON, TRACES_JSON);
    request
        .extensions_mut()
        .insert(Caller(ServiceName::new("orders").unwrap()));
    ask(&shelf, request).await;
    assert_eq!(shelf.spans.lock().unwrap()[0].service.as_str(), "orders");
}
