//! Withdrawing instances, and stopping the proxy.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use atoll_base::Coded;
use atoll_proxy::{Config, Error, RouteConfig, Service};

use crate::toys::{Client, PATIENCE, Proxy, Spans, Toy, ok, until};

/// What a rollout does: publish without the old one, withdraw it, wait, kill it. With POSTs, as
/// they are never retried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_instance_can_be_killed_without_loss() {
    let proxy = Arc::new(Proxy::start());
    let stop = Arc::new(AtomicBool::new(false));
    let publish = |toy: &Toy| {
        let endpoint = toy.endpoint();
        proxy.publish(
            &[("orders", RouteConfig::new("/**"))],
            &[("orders", from_ref(&endpoint))],
        );
        endpoint
    };
    let mut toy = Toy::named("a").await;
    let mut endpoint = publish(&toy);
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (proxy, stop) = (Arc::clone(&proxy), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut client = proxy.client().await;
                while !stop.load(SeqCst) {
                    let answer = client.post("/", b"body").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            })
        })
        .collect();
    for _ in 0..20 {
        until("it is at work", || toy.requests() > 50).await;
        let next = Toy::named("b").await;
        let next_endpoint = publish(&next);
        endpoint.withdraw();
        tokio::time::timeout(PATIENCE, endpoint.drained())
            .await
            .unwrap();
        let served = toy.requests();
        assert_eq!(endpoint.in_flight(), 0);
        until("the next one is at work", || next.requests() > 10).await;
        assert_eq!(
            toy.requests(),
            served,
            "a drained instance got another request"
        );
        (toy, endpoint) = (next, next_endpoint);
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn drained_waits_for_the_last_byte() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let toy = Toy::raw(move |mut client| {
        let mut gate = gate.clone();
        async move {
            client.read_request().await;
            client
                .send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                .await;
            gate.wait_for(|open| *open).await.unwrap();
            client.send(&[b'x'; 100_000]).await;
            client.read_to_end().await;
        }
    })
    .await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let mut client = proxy.client().await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_more().await;
    endpoint.withdraw();
    let early = tokio::time::timeout(Duration::from_millis(300), endpoint.drained()).await;
    assert!(early.is_err(), "a request is in flight");
    assert_eq!(
        proxy.get("/").await.status,
        503,
        "no new one is let through"
    );
    go.send_replace(true);
    let answer = client.answer().await;
    assert_eq!(answer.body.len(), 100_000);
    tokio::time::timeout(PATIENCE, endpoint.drained())
        .await
        .unwrap();
}

/// A service that waits for its kept connections to end can leave at once.
#[tokio::test]
async fn idle_connections_to_a_withdrawn_instance_are_closed() {
    for withdraw in [true, false] {
        let (ended, was_ended) = tokio::sync::watch::channel(false);
        let toy = Toy::raw(move |mut client| {
            let ended = ended.clone();
            async move {
                client.read_request().await;
                client.send(&ok("a")).await;
                client.read_to_end().await;
                ended.send_replace(true);
            }
        })
        .await;
        let endpoint = toy.endpoint();
        let mut proxy = Proxy::start().forward_to(from_ref(&endpoint));
        assert_eq!(proxy.get("/").await.status, 200);
        let start = std::time::Instant::now();
        if withdraw {
            endpoint.withdraw();
        } else {
            proxy = proxy.forward_to(&[]);
        }
        until("the connection is closed", || *was_ended.borrow()).await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "by the withdrawal, not by age"
        );
        drop(proxy);
    }
}

#[tokio::test]
async fn stop_finishes_what_is_under_way() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let toy = Toy::raw(move |mut client| {
        let mut gate = gate.clone();
        async move {
            client.read_request().await;
            gate.wait_for(|open| *open).await.unwrap();
            client.send(&ok("finished")).await;
            client.read_to_end().await;
        }
    })
    .await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let mut idle = proxy.client().await;
    let mut busy = proxy.client().await;
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it is under way", || endpoint.in_flight() == 1).await;
    let handle = proxy.handle.clone();
    let stopping = tokio::spawn(async move { handle.stop(PATIENCE).await });
    assert!(
        idle.read_to_end().await && idle.buffer.is_empty(),
        "idle ones end at once"
    );
    let addr = proxy.handle.edge_addr();
    let mut refused = false;
    while !refused {
        refused = tokio::net::TcpStream::connect(addr).await.is_err();
    }
    assert!(!stopping.is_finished());
    go.send_replace(true);
    let answer = busy.answer().await;
    assert_eq!(
        (answer.text(), answer.field("connection")),
        ("finished", Some("close"))
    );
    stopping.await.unwrap();
    let again = Service::bind(config_at(addr), Arc::new(Spans::default()));
    assert!(again.is_ok(), "the port is free again");
}

#[tokio::test]
async fn stop_gives_up_after_its_deadline() {
    let toy = Toy::raw(|mut client| async move { while client.read_more().await {} }).await;
    let endpoint = toy.endpoint();
    let proxy = Proxy::start().forward_to(from_ref(&endpoint));
    let mut client = proxy.client().await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it is under way", || endpoint.in_flight() == 1).await;
    proxy.handle.stop(Duration::from_millis(100)).await;
    client.read_to_end().await;
    assert_eq!(endpoint.in_flight(), 0);
}

#[tokio::test]
async fn closing_the_edge_leaves_the_mesh_open() {
    let orders = Toy::named("orders").await;
    let proxy = Proxy::start();
    proxy.publish(
        &[("orders", RouteConfig::new("/**"))],
        &[("orders", &[orders.endpoint()])],
    );
    let mut outside = proxy.client().await;
    assert_eq!(outside.get("/").await.text(), "orders");
    proxy.handle.stop_edge(PATIENCE).await;
    outside.read_to_end().await;
    let edge = tokio::net::TcpStream::connect(proxy.handle.edge_addr()).await;
    assert!(edge.is_err(), "the edge is closed");
    assert_eq!(proxy.mesh_client(0).await.get("/").await.text(), "orders");
    proxy.handle.stop(PATIENCE).await;
}

fn config_at(addr: std::net::SocketAddr) -> Config {
    let mut config = Config::default();
    config.edge.listen = addr;
    config.mesh.port = 0;
    config
}

#[tokio::test]
async fn ports_in_use_are_told_with_the_remedy() {
    let proxy = Proxy::start();
    let taken = Service::bind(
        config_at(proxy.handle.edge_addr()),
        Arc::new(Spans::default()),
    );
    let error = taken.unwrap_err();
    assert_eq!(error.code().0, "ATL0401");
    let addr = proxy.handle.edge_addr();
    assert_eq!(
        error.to_string(),
        format!(
            "the edge cannot listen on {addr}: another program listens there; set another with `listen` in [edge]"
        )
    );
    let mut config = config_at(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    config.mesh.port = proxy.handle.mesh_port();
    let error = Service::bind(config, Arc::new(Spans::default())).unwrap_err();
    assert!(matches!(error, Error::Mesh { .. }));
    assert_eq!(error.code().0, "ATL0402");
}

#[tokio::test]
async fn before_the_first_snapshot_nothing_is_there() {
    let proxy = Proxy::start();
    assert_eq!(proxy.get("/").await.status, 404);
    let mut client = Client::connect(std::net::SocketAddr::from((
        atoll_proxy::mesh_address(0),
        proxy.handle.mesh_port(),
    )))
    .await;
    client.read_to_end().await;
    assert!(client.buffer.is_empty());
}

/// It has no end of its own that could be waited for.
#[tokio::test]
async fn a_silent_stream_of_events_does_not_hold_up_the_stop() {
    let toy = Toy::raw(|mut client| async move {
        client.read_request().await;
        client
            .send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                  Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            )
            .await;
        client.read_to_end().await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_head().await.unwrap();
    let begun = std::time::Instant::now();
    proxy.handle.stop_edge(PATIENCE).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
