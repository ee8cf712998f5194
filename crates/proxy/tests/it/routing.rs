//! Which service a request reaches.

use atoll_proxy::RouteConfig;

use crate::toys::{Proxy, Toy};

fn route(path: &str, host: Option<&str>, methods: &[&str]) -> RouteConfig {
    RouteConfig {
        host: host.map(ToOwned::to_owned),
        methods: methods.iter().map(ToString::to_string).collect(),
        ..RouteConfig::new(path)
    }
}

#[tokio::test]
async fn host_path_and_method_decide() {
    let (orders, catalog, admin) = (
        Toy::named("orders").await,
        Toy::named("catalog").await,
        Toy::named("admin").await,
    );
    let proxy = Proxy::start();
    proxy.publish(
        &[
            ("orders", route("/orders/{id}", None, &["GET", "DELETE"])),
            ("catalog", route("/catalog/**", None, &[])),
            ("admin", route("/**", Some("admin.example.com"), &[])),
        ],
        &[
            ("orders", &[orders.endpoint()]),
            ("catalog", &[catalog.endpoint()]),
            ("admin", &[admin.endpoint()]),
        ],
    );
    let mut client = proxy.client().await;
    assert_eq!(client.get("/orders/1?x=/catalog").await.text(), "orders");
    assert_eq!(client.get("/catalog/a/b").await.text(), "catalog");
    assert_eq!(client.get("/catalog/../orders/1").await.text(), "orders");
    assert_eq!(client.get("/x/%2e%2e/catalog").await.text(), "catalog");
    let admin = client
        .request("GET /orders/1 HTTP/1.1\r\nHost: Admin.example.com:8080\r\n\r\n")
        .await;
    assert_eq!(admin.text(), "admin");
    let absolute = client
        .request("GET http://admin.example.com/x HTTP/1.1\r\nHost: other\r\n\r\n")
        .await;
    assert_eq!(absolute.text(), "admin");

    let missing = client.get("/nothing").await;
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.field("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        missing.json()["trace_id"].as_str(),
        missing.field("x-trace-id")
    );
    let wrong = client
        .request("PUT /orders/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.field("allow"), Some("DELETE, GET, HEAD"));
    assert_eq!(
        client.get("/orders/2").await.status,
        200,
        "the connection goes on"
    );
}

#[tokio::test]
async fn the_normalized_path_is_what_the_service_gets() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let echoed = proxy.get("//a/./b/../c%2fd/%7Ee?q=%2e%2e//").await;
    assert!(
        echoed
            .text()
            .starts_with("GET /a/c%2Fd/~e?q=%2e%2e// HTTP/1.1\r\n"),
        "{}",
        echoed.text()
    );
}

#[tokio::test]
async fn a_new_snapshot_counts_from_the_next_request() {
    let (old, new) = (Toy::named("old").await, Toy::named("new").await);
    let proxy = Proxy::start().forward_to(&[old.endpoint()]);
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.text(), "old");
    let proxy = proxy.forward_to(&[new.endpoint()]);
    assert_eq!(client.get("/").await.text(), "new");
    assert_eq!(proxy.get("/").await.text(), "new");
}

#[tokio::test]
async fn load_is_spread_over_instances() {
    let (one, two) = (Toy::named("one").await, Toy::named("two").await);
    let proxy = Proxy::start().forward_to(&[one.endpoint(), two.endpoint()]);
    let mut client = proxy.client().await;
    for _ in 0..200 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(one.requests() + two.requests(), 200);
    assert!(
        // By latency as well as by load, so one of them may have more.
        one.requests() > 5 && two.requests() > 5,
        "{} {}",
        one.requests(),
        two.requests()
    );
}
