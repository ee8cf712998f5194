//! Calls between services.

use atoll_proxy::Side;

use crate::toys::{Proxy, Toy};

#[tokio::test]
async fn the_local_address_tells_caller_and_callee() {
    let orders = Toy::named("orders").await;
    let catalog = Toy::echo().await;
    let proxy = Proxy::start();
    // Addresses: 0 orders→orders, 1 orders→catalog, 2 catalog→orders, 3 catalog→catalog.
    proxy.publish(
        &[],
        &[
            ("orders", &[orders.endpoint()]),
            ("catalog", &[catalog.endpoint()]),
        ],
    );
    let mut client = proxy.mesh_client(1).await;
    let answer = client
        .request(
            "GET /a//b?c HTTP/1.1\r\nHost: whatever\r\nX-Forwarded-For: 9.9.9.9\r\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n\r\n",
        )
        .await;
    let seen = answer.text();
    assert!(seen.starts_with("GET /a/b?c HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nHost: catalog\r\n"), "{seen}");
    assert!(
        seen.contains("\r\nX-Forwarded-For: 9.9.9.9\r\n"),
        "passed on: {seen}"
    );
    assert!(
        !seen.to_lowercase().contains("forwarded-proto"),
        "nothing is added: {seen}"
    );
    assert!(
        seen.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{seen}"
    );
    assert_eq!(answer.field("x-trace-id"), None);
    let span = proxy.spans.find(|span| span.side == Side::Mesh).await;
    assert_eq!(span.caller.as_deref(), Some("orders"));
    assert_eq!(span.service.as_deref(), Some("catalog"));
    assert_eq!(span.parent.as_deref(), Some("00f067aa0ba902b7"));

    assert_eq!(proxy.mesh_client(2).await.get("/").await.text(), "orders");
}

#[tokio::test]
async fn unknown_addresses_are_closed_at_once() {
    let toy = Toy::named("orders").await;
    let proxy = Proxy::start();
    proxy.publish(&[], &[("orders", &[toy.endpoint()])]);
    let mut known = proxy.mesh_client(0).await;
    assert_eq!(known.get("/").await.status, 200);
    let mut unknown = proxy.mesh_client(77).await;
    unknown.read_to_end().await;
    assert!(unknown.buffer.is_empty());
    // A dependency that goes away while a connection to it is open.
    proxy.publish(&[], &[]);
    assert_eq!(known.get("/").await.status, 404);
    known.read_to_end().await;
    assert!(known.buffer.is_empty());
}

#[tokio::test]
async fn problems_in_the_mesh_name_service_and_trace() {
    let proxy = Proxy::start();
    proxy.publish(&[], &[("orders", &[])]);
    let answer = proxy.mesh_client(0).await.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["detail"], "orders has no ready instance");
    assert_eq!(answer.json()["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(answer.field("x-trace-id"), None);
}
