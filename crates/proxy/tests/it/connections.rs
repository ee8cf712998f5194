//! Connections that live on, and those that do not.

use std::slice::from_ref;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::toys::{PATIENCE, Proxy, Toy, ok, until};

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "a");
    }
    assert_eq!((toy.connections(), toy.requests()), (1, 20));
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order() {
    let toy = Toy::http(|request| ok(request.target())).await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let mut all = String::new();
    for at in 0..50 {
        if at % 2 == 0 {
            all += &format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n");
        } else {
            all += &format!("POST /{at} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\n");
        }
    }
    client.send(all.as_bytes()).await;
    for at in 0..50 {
        assert_eq!(client.answer().await.text(), format!("/{at}"));
    }
}

#[tokio::test]
async fn a_client_that_says_close_is_closed() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let answer = client
        .request("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.read_to_end().await);
    assert_eq!(toy.connections(), 1);
}

/// The service closes after each answer without saying so: a kept connection is always stale.
#[tokio::test]
async fn a_stale_connection_is_not_the_clients_problem() {
    let toy = Toy::raw(|mut client| async move {
        let request = client.read_request().await.unwrap();
        client.send(&ok(request.target())).await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    for at in 0..200 {
        let path = format!("/{at}");
        assert_eq!(client.get(&path).await.text(), path);
        let posted = client.post(&path, b"x").await;
        assert_eq!(
            posted.text(),
            path,
            "a POST is not sent on a connection that has ended"
        );
    }
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_a_kept_connection() {
    let toy = Toy::raw(|mut client| async move {
        while client.read_request().await.is_some() {
            let mut twice = ok("mine");
            twice.extend_from_slice(&ok("poison"));
            client.send(&twice).await;
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "mine");
    }
    assert_eq!(toy.connections(), 10, "none of them was used again");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let (cancelled, mut was_cancelled) = tokio::sync::mpsc::channel(8);
    let toy = Toy::raw(move |mut client| {
        let cancelled = cancelled.clone();
        async move {
            let head = client.read_head().await.unwrap();
            if head.contains("/stream") {
                client
                    .send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
                    .await;
            }
            while client.read_more().await {}
            cancelled.send(()).await.unwrap();
        }
    })
    .await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in requests {
        let mut client = proxy.client().await;
        client.send(request.as_bytes()).await;
        until("the service has it", || endpoint.in_flight() == 1).await;
        if request.contains("/stream") {
            client.read_more().await;
        }
        drop(client);
        let told = tokio::time::timeout(Duration::from_secs(5), was_cancelled.recv()).await;
        assert_eq!(told.unwrap(), Some(()), "{request}");
        until("it is counted out", || endpoint.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn idle_connections_end_in_time() {
    let toy = Toy::named("a").await;
    let proxy = Proxy::with(|config| config.edge.idle_timeout = "200ms".parse().unwrap())
        .forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(client.read_to_end().await && client.buffer.is_empty());
}

#[tokio::test]
async fn an_idle_connection_to_a_service_is_given_up_after_some_seconds() {
    let (ended, was_ended) = tokio::sync::watch::channel(false);
    let toy = Toy::raw(move |mut client| {
        let ended = ended.clone();
        async move {
            client.read_request().await;
            client.stream.write_all(&ok("a")).await.unwrap();
            client.read_to_end().await;
            ended.send_replace(true);
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    assert_eq!(proxy.get("/").await.status, 200);
    until("the connection is closed", || *was_ended.borrow()).await;
}

#[tokio::test]
async fn a_client_that_has_said_all_gets_its_answers() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let two = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(two.as_bytes()).await;
    client.stream.shutdown().await.unwrap();
    for path in ["/1", "/2"] {
        let answer = client.answer().await;
        assert!(answer.complete && answer.text().contains(path), "{path}");
    }
    assert!(client.read_to_end().await && client.buffer.is_empty());
}

#[tokio::test]
async fn a_small_body_takes_no_place_before_it_is_whole() {
    let toy = Toy::echo().await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(std::slice::from_ref(&endpoint));
    let mut client = proxy.client().await;
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        .await;
    // Another one is served, and nothing of the first has come to the service.
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(toy.requests(), 1);
    until("nothing is under way", || endpoint.in_flight() == 0).await;
    client.send(b"cd").await;
    assert!(client.answer().await.text().ends_with("abcd"));
}

#[tokio::test]
async fn a_large_body_must_keep_coming() {
    let toy = Toy::echo().await;
    let proxy = Proxy::with(|config| config.edge.body_timeout = "300ms".parse().unwrap())
        .forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    // Never silent for long, and never done.
    let (mut reading, mut writing) = client.stream.split();
    let mut answer = Vec::new();
    tokio::select! {
        _ = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer) => {}
        () = async {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        } => {}
        () = tokio::time::sleep(PATIENCE) => panic!("it goes on for ever"),
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"));
}
