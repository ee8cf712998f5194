//! Services that are absent, slow, broken or killed.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use atoll_proxy::{ErrorKind, RouteConfig};

use crate::toys::{Answer, Proxy, Toy, dead_addr, endpoint_at, ok, until};

/// What every answer of the proxy must have, and must not.
fn assert_problem(answer: &Answer, status: u16, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    let json = answer.json();
    assert_eq!(json["status"], status);
    assert_eq!(json["service"], "orders");
    assert_eq!(json["detail"], detail);
    assert_eq!(json["trace_id"].as_str(), answer.field("x-trace-id"));
    for internal in ["127.0.0.1", "os error", "refused", "reset"] {
        assert!(!answer.text().contains(internal), "{}", answer.text());
    }
}

#[tokio::test]
async fn no_instance_is_503() {
    let proxy = Proxy::start().forward_to(&[]);
    let mut client = proxy.client().await;
    let answer = client.get("/").await;
    assert_problem(&answer, 503, "orders has no ready instance");
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(client.get("/").await.status, 503, "the connection goes on");
    let span = proxy.spans.find(|span| span.status == 503).await;
    assert_eq!(span.error, Some(ErrorKind::NoInstance));
}

#[tokio::test]
async fn a_request_waits_for_an_instance_if_told_to() {
    let toy = Toy::named("late").await;
    let proxy = Proxy::with(|config| config.edge.wait_for_instance = "10s".parse().unwrap())
        .forward_to(&[]);
    let mut client = proxy.client().await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer();
    let publish = async {
        // Not before the request is known to wait: its answer would be there otherwise.
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.publish(
            &[("orders", RouteConfig::new("/**"))],
            &[("orders", &[toy.endpoint()])],
        );
    };
    let (answer, ()) = tokio::join!(answer, publish);
    assert_eq!(answer.text(), "late");

    let impatient = Proxy::with(|config| config.edge.wait_for_instance = "100ms".parse().unwrap());
    assert_eq!(impatient.forward_to(&[]).get("/").await.status, 503);
}

#[tokio::test]
async fn an_instance_that_refuses_is_passed_over() {
    let toy = Toy::named("alive").await;
    let dead = endpoint_at(dead_addr().await);
    let proxy = Proxy::start().forward_to(&[dead.clone(), toy.endpoint()]);
    let mut client = proxy.client().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text(), "alive");
        assert_eq!(
            client.post("/", b"x").await.text(),
            "alive",
            "nothing was sent yet"
        );
    }
    let span = proxy.spans.find(|span| span.retries == 1).await;
    assert_eq!((span.status, span.error), (200, None));

    let alone = Proxy::start().forward_to(&[dead]);
    assert_problem(&alone.get("/").await, 502, "orders cannot be reached");
}

#[tokio::test]
async fn a_slow_service_is_504() {
    let toy = Toy::raw(|mut client| async move { while client.read_more().await {} }).await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start();
    let mut route = RouteConfig::new("/**");
    route.timeout = Some("500ms".parse().unwrap());
    proxy.publish(&[("orders", route)], &[("orders", from_ref(&endpoint))]);
    let mut client = proxy.client().await;
    assert_problem(&client.get("/").await, 504, "orders did not answer in time");
    until("it is counted out", || endpoint.in_flight() == 0).await;
    until("the service saw it", || toy.connections() > 0).await;
    assert_eq!(
        toy.connections(),
        1,
        "a request that may be at work is not sent again"
    );
}

#[tokio::test]
async fn nonsense_is_502() {
    let nonsense: [&[u8]; 12] = [
        b"garbage\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A : a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 42 No\r\n\r\n",
    ];
    for bytes in nonsense {
        let toy = Toy::raw(move |mut client| async move {
            client.read_request().await;
            client.send(bytes).await;
            client.read_more().await;
        })
        .await;
        let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
        let answer = proxy.get("/").await;
        assert_problem(&answer, 502, "orders gave no valid answer");
    }
}

/// An answer that breaks off never looks complete.
#[tokio::test]
async fn a_cut_answer_is_seen_as_cut() {
    let long = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nstart";
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstart\r\n";
    let bad_chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstart\r\n5 \r\nxxxxx\r\n0\r\n\r\n";
    let cases: [(&'static [u8], &str); 5] = [
        (long, "GET / HTTP/1.1"),
        (chunks, "GET / HTTP/1.1"),
        (chunks, "GET / HTTP/1.0"),
        (bad_chunk, "GET / HTTP/1.1"),
        (bad_chunk, "POST / HTTP/1.1"),
    ];
    for (bytes, request) in cases {
        let toy = Toy::raw(move |mut client| async move {
            client.read_request().await;
            client.send(bytes).await;
        })
        .await;
        let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
        let mut client = proxy.client().await;
        let answer = client
            .request(&format!("{request}\r\nHost: a\r\n\r\n"))
            .await;
        if answer.status == 502 {
            // It was found out before anything was passed on.
            continue;
        }
        assert!(
            !answer.complete,
            "{request}: {}",
            String::from_utf8_lossy(bytes)
        );
        let span = proxy.spans.find(|span| span.error.is_some()).await;
        assert_eq!((span.status, span.error), (200, Some(ErrorKind::AnswerCut)));
    }
}

/// Head and part of a small body, then death: the client gets another instance's answer.
#[tokio::test]
async fn a_small_answer_that_breaks_off_costs_nothing() {
    let broken = Toy::raw(|mut client| async move {
        client.read_request().await;
        client
            .send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
    })
    .await;
    let whole = Toy::named("whole").await;
    let proxy = Proxy::start().forward_to(&[broken.endpoint(), whole.endpoint()]);
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "whole");
    }
    let alone = Proxy::start().forward_to(&[broken.endpoint()]);
    let answer = alone.get("/").await;
    assert_problem(&answer, 502, "orders broke off its answer");
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let toy = Toy::raw(move |mut client| {
        let counter = Arc::clone(&counter);
        async move {
            client.read_request().await;
            counter.fetch_add(1, SeqCst);
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint(), toy.endpoint()]);
    let mut client = proxy.client().await;
    assert_problem(
        &client.post("/", b"x").await,
        502,
        "orders gave no valid answer",
    );
    assert_eq!(seen.load(SeqCst), 1);
    // The same with PUT, which may be repeated: once, as the request may be what breaks them.
    let put = client
        .request("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        .await;
    assert_eq!(put.status, 502);
    assert_eq!(seen.load(SeqCst), 1 + 2);
}

/// One of two instances is killed under load, again and again: no GET fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_an_instance_loses_no_get() {
    let stays = Toy::named("stays").await;
    let proxy = Arc::new(Proxy::start());
    let stop = Arc::new(AtomicBool::new(false));
    let publish = |victim: &Toy| {
        let endpoints = [stays.endpoint(), victim.endpoint()];
        proxy.publish(
            &[("orders", RouteConfig::new("/**"))],
            &[("orders", &endpoints)],
        );
    };
    let mut victim = Toy::named("dies").await;
    publish(&victim);
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (proxy, stop) = (Arc::clone(&proxy), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut client = proxy.client().await;
                let mut count = 0;
                while !stop.load(SeqCst) {
                    let answer = client.get("/").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..10 {
        until("the victim is at work", || victim.requests() > 100).await;
        victim = Toy::named("dies").await;
        // The dead one stays listed for a while, as it would until a health check notices.
        let before = stays.requests();
        until("the other one takes over", || {
            stays.requests() > before + 200
        })
        .await;
        publish(&victim);
    }
    stop.store(true, SeqCst);
    let mut total = 0;
    for client in clients {
        total += client.await.unwrap();
    }
    assert!(total > 1000, "{total}");
}

#[tokio::test]
async fn a_request_with_a_body_under_way_is_not_repeated() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let toy = Toy::raw(move |mut client| {
        let counter = Arc::clone(&counter);
        async move {
            client.read_head().await;
            while client.buffer.len() < 100_000 {
                client.read_more().await;
            }
            counter.fetch_add(1, SeqCst);
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint(), toy.endpoint()]);
    let mut client = proxy.client().await;
    client
        .send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    client.send(&vec![b'x'; 100_000]).await;
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(seen.load(SeqCst), 1);
}

#[tokio::test]
async fn a_pool_outlives_a_failure() {
    let fail = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fail);
    let toy = Toy::raw(move |mut client| {
        let failing = Arc::clone(&failing);
        async move {
            while client.read_request().await.is_some() && !failing.load(SeqCst) {
                client.send(&ok("a")).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.status, 200);
    fail.store(true, SeqCst);
    assert_eq!(client.get("/").await.status, 502);
    fail.store(false, SeqCst);
    assert_eq!(client.get("/").await.status, 200);
}
