//! WebSocket: after 101, bytes in both directions.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

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

/// Messages with sizes at each border of the length's three forms.
async fn echo_sizes(socket: &mut WebSocketStream<TcpStream>) {
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 5 << 20] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| at as u8).collect();
        let text = "ä".repeat(size as usize / 2);
        for message in [Message::binary(bytes), Message::text(text)] {
            socket.send(message.clone()).await.unwrap();
            let back = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
            assert!(back.unwrap().unwrap() == message, "{size}");
        }
    }
}

/// RFC 6455, 5: every kind of frame, sizes at each border of the length's three forms, fragments with a
/// ping between them, and the closing handshake with its code, by a client and a service of a library.
#[tokio::test]
async fn every_kind_and_size_of_frame_comes_back() {
    let large = || {
        let config = WebSocketConfig::default();
        Some(config.max_message_size(None).max_frame_size(None))
    };
    let toy = Toy::raw(move |client| async move {
        let accepted = accept_async_with_config(client.stream, large()).await;
        let mut socket = accepted.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            // Pongs, and the answer to a close, the library sends itself.
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let stream = proxy.client().await.stream;
    let address = format!("ws://{}/ws?a=b", proxy.handle.edge_addr());
    let opened = client_async_with_config(address, stream, large()).await;
    let (mut socket, response) = opened.unwrap();
    assert_eq!(response.status(), 101);
    echo_sizes(&mut socket).await;
    for size in [0, 125] {
        let ping = vec![7u8; size];
        socket
            .send(Message::Ping(ping.clone().into()))
            .await
            .unwrap();
        let back = socket.next().await.unwrap().unwrap();
        assert_eq!(back, Message::Pong(ping.into()));
    }
    let piece = |kind, text: &'static str, last| {
        let frame = Frame::message(text.as_bytes(), OpCode::Data(kind), last);
        Message::Frame(frame)
    };
    socket.send(piece(Data::Text, "one ", false)).await.unwrap();
    socket
        .send(Message::Ping(b"between"[..].into()))
        .await
        .unwrap();
    socket
        .send(piece(Data::Continue, "two ", false))
        .await
        .unwrap();
    socket
        .send(piece(Data::Continue, "three", true))
        .await
        .unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Pong(b"between"[..].into())
    );
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("one two three")
    );
    let close = CloseFrame {
        code: CloseCode::Library(4711),
        reason: "enough".into(),
    };
    socket
        .send(Message::Close(Some(close.clone())))
        .await
        .unwrap();
    let back = socket.next().await.unwrap().unwrap();
    assert_eq!(back, Message::Close(Some(close)));
    assert!(matches!(
        socket.next().await,
        None | Some(Err(Error::ConnectionClosed))
    ));
}
