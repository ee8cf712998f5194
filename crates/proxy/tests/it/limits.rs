//! Requests that are too large, too slow or malformed.

use std::slice::from_ref;
use std::time::Duration;

use atoll_proxy::RouteConfig;

use crate::toys::{Answer, Proxy, Toy};

/// Sends bytes on a connection of their own and expects one answer, then the end.
async fn refused(proxy: &Proxy, bytes: &[u8]) -> Answer {
    let mut client = proxy.client().await;
    client.send(bytes).await;
    let answer = client.answer().await;
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.read_to_end().await, "closed, not reset");
    assert_eq!(client.buffer, b"");
    answer
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table: each row is alike")]
async fn malformed_requests_are_refused_and_end_the_connection() {
    let toy = Toy::named("never").await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (status, head) in [
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        (400, "GET / HTTP/1.1\nHost: a\n\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n"),
        (400, "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        ),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            501,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            417,
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 1\r\n\r\n",
        ),
        (501, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\n\r\n"),
        (505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        (400, "\x16\x03\x01\x02\r\n"),
        (400, "\r\n\r\n\r\n\r\n\r\n"),
    ] {
        let answer = refused(&proxy, format!("{head}{smuggled}").as_bytes()).await;
        assert_eq!(answer.status, status, "{head:?}: {}", answer.text());
        assert_eq!(answer.json()["status"], status);
    }
    assert_eq!(toy.requests(), 0);
}

#[tokio::test]
async fn bad_chunks_end_the_request() {
    let toy = Toy::named("never").await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    for chunks in [
        "x\r\n",
        "\r\n",
        "5 \r\nhello",
        "0x5\r\nhello",
        "5\nhello",
        "5\r\nhelloo\r\n",
        "5\r\nhello\n",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "5;\x01\r\nhello",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\ncontent_length: 5\r\n\r\n",
        "0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        "0\r\nX_Forwarded_Some-Very-Long-Name: 1\r\n\r\n",
        "0\r\nX-Real-IP: 6.6.6.6\r\n\r\n",
        "0\r\nForwarded: for=6.6.6.6\r\n\r\n",
        "0\r\nTraceparent: 1\r\n\r\n",
        "0\r\nHost: a\r\n\r\n",
        "0\r\nConnection: close\r\n\r\n",
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\nProxy-Some-Very-Long-Name-Indeed: 1\r\n\r\n",
        "0\r\nbad name: 1\r\n\r\n",
        "0\r\n\n",
    ] {
        for first in ["", "3\r\nabc\r\n"] {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let answer = refused(&proxy, format!("{head}{first}{chunks}").as_bytes()).await;
            assert_eq!(answer.status, 400, "{chunks:?}");
        }
    }
    assert_eq!(toy.requests(), 0);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length));
    assert_eq!(refused(&proxy, line(9000).as_bytes()).await.status, 414);
    assert_eq!(refused(&proxy, line(100_000).as_bytes()).await.status, 414);
    assert_eq!(proxy.client().await.request(&line(8000)).await.status, 200);

    let field = |length: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(length)
        )
    };
    assert_eq!(refused(&proxy, field(40_000).as_bytes()).await.status, 431);
    assert_eq!(
        proxy.client().await.request(&field(30_000)).await.status,
        200
    );

    let many = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count)
        )
    };
    assert_eq!(refused(&proxy, many(100).as_bytes()).await.status, 431);
    assert_eq!(proxy.client().await.request(&many(99)).await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::with(|config| config.edge.max_body = "1KB".parse().unwrap());
    let mut generous = RouteConfig::new("/files/**");
    generous.max_body = Some("1MB".parse().unwrap());
    proxy.publish(
        &[("orders", RouteConfig::new("/**")), ("orders", generous)],
        &[("orders", &[toy.endpoint()])],
    );
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n";
    let answer = refused(&proxy, head.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.json()["service"].as_str()),
        (413, Some("orders"))
    );
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        refused(&proxy, format!("{chunked}3e9\r\n").as_bytes())
            .await
            .status,
        413
    );
    let body = format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3);
    assert_eq!(
        refused(&proxy, format!("{chunked}{body}").as_bytes())
            .await
            .status,
        413
    );
    assert_eq!(proxy.client().await.post("/", &[0; 1000]).await.status, 200);
    assert_eq!(
        proxy
            .client()
            .await
            .post("/files/1", &[0; 100_000])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn slow_clients_are_told() {
    let toy = Toy::named("a").await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::with(|config| {
        config.edge.head_timeout = "200ms".parse().unwrap();
        config.edge.body_timeout = "200ms".parse().unwrap();
    })
    .forward_to(from_ref(&endpoint));
    let answer = refused(&proxy, b"GET / HTTP/1.1\r\nHo").await;
    assert_eq!(answer.status, 408);
    let answer = refused(
        &proxy,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    )
    .await;
    assert_eq!(answer.status, 408);
    assert_eq!(endpoint.in_flight(), 0);
    assert_eq!(toy.requests(), 0);
}

/// One byte at a time is slow, not wrong.
#[tokio::test]
async fn a_head_may_come_in_pieces() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in b"\r\nGET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n" {
        client.send(&[*byte]).await;
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    assert_eq!(client.answer().await.text(), "a");
}

/// Empty lines count against no limit of a head's size.
#[tokio::test]
async fn a_flood_of_empty_lines_is_refused() {
    let proxy = Proxy::start();
    let answer = refused(&proxy, "\r\n".repeat(40_000).as_bytes()).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn trace_is_not_served_at_the_edge() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let answer = client
        .request("TRACE / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n")
        .await;
    assert_eq!(answer.status, 405);
    assert!(answer.field("allow").unwrap().contains("GET"));
    assert!(!answer.text().contains("secret"));
    assert_eq!(client.get("/").await.status, 200, "the connection goes on");
    assert_eq!(toy.requests(), 1);
}
