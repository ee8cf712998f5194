//! What the proxy tells about requests.

use std::slice::from_ref;
use std::time::Duration;

use atoll_base::Timestamp;
use atoll_proxy::{ErrorKind, RouteConfig, Side};

use crate::toys::{Proxy, Span, Toy, answer, eventually, until};

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
async fn a_span_has_the_pattern_of_its_route_and_the_sizes_of_bodies() {
    let toy = Toy::http(|_| answer("200 OK", b"short and stout")).await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start();
    let rewritten = RouteConfig {
        rewrite: Some("/orders/{id}".to_owned()),
        ..RouteConfig::new("/old/{id}")
    };
    proxy.publish(
        &[
            ("orders", RouteConfig::new("/orders/{id}")),
            ("orders", rewritten),
            ("cart", RouteConfig::new("/**")),
        ],
        &[("cart", &[]), ("orders", from_ref(&endpoint))],
    );
    let seen = async |path: &'static str, side: Side| {
        let fits = move |span: &Span| span.path == path && span.side == side;
        let span = proxy.spans.find(fits).await;
        (span.route, span.bytes)
    };
    let mut client = proxy.client().await;
    let post = "POST /orders/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    client.request(post).await;
    client.get("/old/7").await;
    let told = |route: &str, bytes| (Some(route.to_owned()), bytes);
    assert_eq!(
        seen("/orders/7", Side::Edge).await,
        told("/orders/{id}", (5, 15))
    );
    assert_eq!(
        seen("/old/7", Side::Edge).await.0.as_deref(),
        Some("/old/{id}")
    );
    // In the mesh it is the callee that has routes, by the paths that it sees.
    let mut cart = proxy.mesh_client(1).await;
    for path in ["/orders/8", "/old/8", "/other"] {
        assert_eq!(cart.get(path).await.status, 200);
    }
    assert_eq!(
        seen("/orders/8", Side::Mesh).await,
        told("/orders/{id}", (0, 15))
    );
    assert_eq!(seen("/old/8", Side::Mesh).await.0, None);
    assert_eq!(seen("/other", Side::Mesh).await.0, None);
}

#[tokio::test]
async fn who_carries_a_record_may_say_of_which_topic_but_not_from_outside() {
    let toy = Toy::echo().await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let request =
        "POST /take HTTP/1.1\r\nHost: a\r\nAtoll-Topic: placed\r\nContent-Length: 0\r\n\r\n";
    let mut mesh = proxy.mesh_client(0).await;
    let answer = mesh.request(request).await;
    let seen = answer.text();
    assert!(!seen.contains("placed"), "it is for the proxy: {seen}");
    let span = proxy.spans.find(|span| span.side == Side::Mesh).await;
    assert_eq!(span.topic.as_deref(), Some("placed"));
    mesh.get("/next").await;
    let span = proxy.spans.find(|span| span.path == "/next").await;
    assert_eq!(span.topic, None, "not of the request before");
    proxy.client().await.request(request).await;
    let span = proxy.spans.find(|span| span.side == Side::Edge).await;
    assert_eq!((span.path.as_str(), span.topic), ("/take", None));
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
