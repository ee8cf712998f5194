//! What the proxy tells about requests.

use std::slice::from_ref;
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_proxy::{ErrorKind, Side};

use crate::toys::{Proxy, Toy, answer, eventually, until};

#[tokio::test]
async fn a_span_tells_what_happened() {
    let toy = Toy::http(|_| answer("418 I'm a teapot", b"short and stout")).await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let answer = proxy.get("/pots/7?secret=x").await;
    let span = proxy.spans.find(|_| true).await;
    assert_eq!(Some(span.trace.as_str()), answer.field("x-trace-id"));
    assert_eq!(
        (span.method.as_str(), span.path.as_str()),
        ("GET", "/pots/7")
    );
    assert_eq!((span.status, span.error, span.retries), (418, None, 0));
    assert_eq!(
        (span.side, span.caller, span.parent),
        (Side::Edge, None, None)
    );
    assert_eq!(span.service.as_deref(), Some("orders"));
    assert_eq!(span.instance.as_deref(), Some(endpoint.instance().as_str()));
    assert!(span.duration > Duration::ZERO && span.duration < Duration::from_secs(10));
    let age = Timestamp::now().since(span.start);
    assert!(
        age > Duration::ZERO && age < Duration::from_secs(10),
        "{age:?}"
    );
    assert_ne!(span.span, "");
}

#[tokio::test]
async fn requests_that_reach_no_service_have_spans_too() {
    let proxy = Proxy::start();
    proxy.get("/nowhere").await;
    let span = proxy
        .spans
        .find(|span| span.error == Some(ErrorKind::NoRoute))
        .await;
    assert_eq!(
        (span.status, span.path.as_str(), span.service),
        (404, "/nowhere", None)
    );
    proxy.client().await.request("GET / HTTP/1.1\r\n\r\n").await;
    let span = proxy
        .spans
        .find(|span| span.error == Some(ErrorKind::BadRequest))
        .await;
    assert_eq!((span.status, span.service), (400, None));
}

#[tokio::test]
async fn stats_count_requests_and_errors() {
    let toy = Toy::http(|request| match request.target() {
        "/bad" => answer("500 Oops", b""),
        _ => answer("200 OK", b""),
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let stats = proxy.handle.stats();
    assert_eq!(
        (stats[0].service.as_str(), stats[0].requests),
        ("orders", 0)
    );
    let mut client = proxy.client().await;
    for path in ["/", "/bad", "/", "/"] {
        client.get(path).await;
    }
    let stats = eventually("all are counted", || {
        let stats = proxy.handle.stats();
        (stats[0].requests == 4).then(|| stats[0].clone())
    })
    .await;
    assert_eq!((stats.errors, stats.in_flight), (1, 0));
    assert!(stats.p50 > Duration::ZERO && stats.p99 >= stats.p50);
    // The second in which they came must pass before it is part of the rate.
    until("the rate follows", || {
        proxy.handle.stats()[0].requests_per_second > 0.0
    })
    .await;
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["service"], "orders");
}

#[tokio::test]
async fn a_request_that_never_came_whole_has_not_the_name_of_the_one_before() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::with(|config| config.edge.head_timeout = "200ms".parse().unwrap())
        .forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    assert_eq!(client.get("/before").await.status, 200);
    client.send(b"GET /aft").await;
    assert_eq!(client.answer().await.status, 408);
    let span = proxy.spans.find(|span| span.status == 408).await;
    assert_eq!((span.method.as_str(), span.path.as_str()), ("", ""));
}
