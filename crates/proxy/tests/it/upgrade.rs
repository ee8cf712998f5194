//! WebSocket: after 101, bytes in both directions.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use crate::toys::{PATIENCE, Proxy, Toy, ok, until};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

#[tokio::test]
async fn a_websocket_goes_through() {
    let toy = Toy::raw(|mut client| async move {
        let head = client.read_head().await.unwrap();
        assert!(
            head.contains("Upgrade: websocket\r\n") && head.contains("Connection: Upgrade\r\n")
        );
        client
            .send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\nSec-WebSocket-Accept: s\r\n\r\nfirst",
            )
            .await;
        while client.read_more().await {
            let bytes = std::mem::take(&mut client.buffer);
            client.send(&bytes).await;
        }
        client.send(b"bye").await;
    })
    .await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let mut client = proxy.client().await;
    client.send(UPGRADE.as_bytes()).await;
    let head = client.read_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("Upgrade: websocket\r\n") && head.contains("Sec-WebSocket-Accept: s\r\n")
    );
    for message in ["one", "two"] {
        client.send(message.as_bytes()).await;
        while !client.buffer.ends_with(message.as_bytes()) {
            assert!(client.read_more().await);
        }
    }
    assert_eq!(endpoint.in_flight(), 1);
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream)
        .await
        .unwrap();
    assert!(client.read_to_end().await);
    assert_eq!(client.buffer, b"firstonetwobye");
    until("it is counted out", || endpoint.in_flight() == 0).await;
    let span = proxy.spans.find(|span| span.path == "/ws").await;
    assert_eq!((span.status, span.error), (101, None));
}

#[tokio::test]
async fn a_service_may_decline() {
    let toy = Toy::http(|_| ok("plain")).await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    assert_eq!(client.request(UPGRADE).await.text(), "plain");
    assert_eq!(client.get("/").await.text(), "plain");
}

/// It has no end of its own that could be waited for.
#[tokio::test]
async fn a_silent_websocket_does_not_hold_up_the_stop() {
    let toy = Toy::raw(|mut client| async move {
        client.read_head().await.unwrap();
        client
            .send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\n\r\n",
            )
            .await;
        while client.read_more().await {
            let bytes = std::mem::take(&mut client.buffer);
            client.send(&bytes).await;
        }
    })
    .await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let mut client = proxy.client().await;
    client.send(UPGRADE.as_bytes()).await;
    client.read_head().await.unwrap();
    let handle = proxy.handle.clone();
    let stopping = tokio::spawn(async move { handle.stop_edge(PATIENCE).await });
    // While it talks, it goes on.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        client.send(b"ping").await;
        while !client.buffer.ends_with(b"ping") {
            assert!(
                client.read_more().await,
                "cut off after {:?}",
                begun.elapsed()
            );
        }
        client.buffer.clear();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!stopping.is_finished());
    let silent = Instant::now();
    stopping.await.unwrap();
    assert!(
        silent.elapsed() < Duration::from_secs(5),
        "{:?}",
        silent.elapsed()
    );
    assert!(client.read_to_end().await && client.buffer.is_empty());
    until("it is counted out", || endpoint.in_flight() == 0).await;
}
