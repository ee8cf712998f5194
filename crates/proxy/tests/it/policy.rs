//! What routes do besides leading to a service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use atoll_proxy::RouteConfig;

use crate::toys::*;

/// A route as it stands in a manifest.
fn route(toml: &str) -> RouteConfig {
    toml::from_str(toml).unwrap()
}

/// A proxy with these routes of `orders`.
fn proxy_with(toy: &Toy, routes: &[&str]) -> Proxy {
    let proxy = Proxy::start();
    let routes: Vec<_> = routes.iter().map(|text| ("orders", route(text))).collect();
    proxy.publish(&routes, &[("orders", &[toy.endpoint()])]);
    proxy
}

#[tokio::test]
async fn the_route_that_asks_for_more_is_tried_first() {
    let toy = Toy::echo().await;
    let proxy = proxy_with(
        &toy,
        &[
            "path = '/a'\nrewrite = '/plain'",
            "path = '/a'\nrewrite = '/query'\nquery = { v = '2' }",
            "path = '/a'\nrewrite = '/one'\nheaders = { X-V = '2' }",
            "path = '/a'\nrewrite = '/both'\nheaders = { X-V = '2', X-W = '*' }",
        ],
    );
    for (fields, query, expected) in [
        ("", "", "/plain"),
        ("", "?v=2", "/query?v=2"),
        ("", "?v=3", "/plain?v=3"),
        ("x-v: 2\r\n", "?v=2", "/one?v=2"),
        ("X-V: 2\r\nX-W: anything\r\n", "", "/both"),
        ("X-V: 3\r\nX-W: anything\r\n", "", "/plain"),
    ] {
        let request = format!("GET /a{query} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let answer = proxy.client().await.request(&request).await;
        let line = answer.text().lines().next().unwrap();
        assert_eq!(line, format!("GET {expected} HTTP/1.1"), "{fields}{query}");
    }
}

#[tokio::test]
async fn paths_are_rewritten_and_redirected() {
    let toy = Toy::echo().await;
    let proxy = proxy_with(
        &toy,
        &[
            "path = '/old/{id}'\nrewrite = '/v2/{id}'",
            "path = '/below/**'\nrewrite = '/**'",
            "path = '/gone/**'\n[redirect]\nto = 'https://new.example/**'",
            "path = '/see/{id}'\n[redirect]\nto = '/o?id={id}'\nstatus = 302",
        ],
    );
    let answer = proxy.get("/old/7?x=1").await;
    assert!(
        answer.text().starts_with("GET /v2/7?x=1 HTTP/1.1\r\n"),
        "{}",
        answer.text()
    );
    let answer = proxy.get("/below/a/b").await;
    assert!(answer.text().starts_with("GET /a/b HTTP/1.1\r\n"));
    let answer = proxy.get("/gone/a?x=1").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.field("location"), Some("https://new.example/a?x=1"));
    let answer = proxy.get("/see/7?x=1").await;
    assert_eq!(
        (answer.status, answer.field("location")),
        (302, Some("/o?id=7"))
    );
    let span = proxy.spans.find(|span| span.path == "/see/7").await;
    assert_eq!(
        (span.status, span.error, span.service.as_deref()),
        (302, None, Some("orders"))
    );
}

#[tokio::test]
async fn some_answers_need_no_service() {
    let proxy = Proxy::start();
    proxy.publish(
        &[
            ("orders", route("path = '/robots.txt'\n[answer]\nbody = 'no'\n[response_headers]\nset = { X-Own = '1' }")),
            ("orders", route("path = '/teapot'\n[answer]\nstatus = 418\ncontent_type = 'text/html'")),
            ("orders", route("path = '/closed'\nmaintenance = 'back \"soon\"'")),
        ],
        &[("orders", &[])],
    );
    let mut client = proxy.client().await;
    let answer = client.get("/robots.txt").await;
    assert_eq!((answer.status, answer.text()), (200, "no"));
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.field("x-own"), Some("1"));
    let answer = client
        .request("HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(
        (answer.status, answer.field("content-length")),
        (200, Some("2"))
    );
    let answer = client.get("/teapot").await;
    assert_eq!(
        (answer.status, answer.field("content-type")),
        (418, Some("text/html"))
    );
    let answer = client.get("/closed").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["detail"], "back \"soon\"");
    assert_eq!(answer.json()["type"], "urn:atoll:problem:maintenance");
    let answer = client
        .request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(answer.status, 204);
    assert!(answer.field("allow").unwrap().contains("GET"));
}

#[tokio::test]
async fn fields_are_changed_on_the_way_there_and_back() {
    let toy = Toy::http(|request| {
        let mut out = b"HTTP/1.1 200 OK\r\nServer: toy\r\nX-Kept: 1\r\nVia: a\r\n".to_vec();
        out.extend(
            format!(
                "Content-Length: {}\r\n\r\n{}",
                request.head.len(),
                request.head
            )
            .bytes(),
        );
        out
    })
    .await;
    let proxy = proxy_with(
        &toy,
        &["path = '/**'
[request_headers]
remove = ['X-Secret']
set = { X-A = 'new', Host = 'inner.example' }
add = { X-B = '2' }
default = { X-C = '3', X-D = '4' }
[response_headers]
remove = ['server']
set = { X-Set = 's' }
add = { Via = 'b' }
default = { X-Kept = 'no', X-New = 'yes' }"],
    );
    let request =
        "GET / HTTP/1.1\r\nHost: outer\r\nx-secret: 1\r\nX-A: old\r\nX-B: 1\r\nx-c: own\r\n\r\n";
    let answer = proxy.client().await.request(request).await;
    let seen = Request {
        head: answer.text().to_owned(),
        body: Vec::new(),
    };
    assert_eq!(seen.field("x-secret"), None);
    assert_eq!((seen.field("x-a"), seen.fields("x-a")), (Some("new"), 1));
    assert_eq!(
        (seen.field("host"), seen.fields("host")),
        (Some("inner.example"), 1)
    );
    assert_eq!(seen.fields("x-b"), 2);
    assert_eq!((seen.field("x-c"), seen.fields("x-c")), (Some("own"), 1));
    assert_eq!(seen.field("x-d"), Some("4"));
    assert_eq!(seen.field("x-forwarded-host"), Some("outer"));
    assert_eq!(answer.field("server"), None);
    assert_eq!(answer.field("x-set"), Some("s"));
    assert_eq!(answer.head.matches("Via: ").count(), 2);
    assert_eq!(
        (answer.field("x-kept"), answer.field("x-new")),
        (Some("1"), Some("yes"))
    );
}

#[tokio::test]
async fn backends_share_requests_by_weight() {
    let (old, new) = (Toy::named("old").await, Toy::named("new").await);
    let proxy = Proxy::start();
    let shared = route(
        "path = '/**'\nbackends = [{ service = 'orders', weight = 3 }, { service = 'fresh' }, { service = 'none', weight = 0 }]",
    );
    proxy.publish(
        &[("orders", shared)],
        &[
            ("orders", &[old.endpoint()]),
            ("fresh", &[new.endpoint()]),
            ("none", &[]),
        ],
    );
    let mut client = proxy.client().await;
    let mut counts = [0, 0];
    for _ in 0..400 {
        match client.get("/").await.text() {
            "old" => counts[0] += 1,
            "new" => counts[1] += 1,
            other => panic!("{other}"),
        }
    }
    // One in four of 400: 100, give or take six standard deviations.
    assert!((48..=152).contains(&counts[1]), "{counts:?}");
}

#[tokio::test]
async fn a_mirror_gets_copies_and_its_answers_are_dropped() {
    let main = Toy::named("main").await;
    let seen: Arc<std::sync::Mutex<Vec<Request>>> = Arc::default();
    let copies = Arc::clone(&seen);
    let shadow = Toy::http(move |request| {
        copies.lock().unwrap().push(request.clone());
        answer("500 Oops", b"nobody sees this")
    })
    .await;
    let proxy = Proxy::start();
    proxy.publish(
        &[(
            "orders",
            route("path = '/**'\nmirror = { service = 'shadow' }"),
        )],
        &[
            ("orders", &[main.endpoint()]),
            ("shadow", &[shadow.endpoint()]),
        ],
    );
    let mut client = proxy.client().await;
    let body = vec![b'x'; 200_000];
    assert_eq!(client.post("/p?q", &body).await.text(), "main");
    assert_eq!(client.get("/g").await.text(), "main");
    eventually("both copies", || {
        (seen.lock().unwrap().len() == 2).then_some(())
    })
    .await;
    let seen = seen.lock().unwrap();
    let post = seen
        .iter()
        .find(|request| request.target() == "/p?q")
        .unwrap();
    assert!(post.body == body);
    assert_eq!(main.requests(), 2);
}

#[tokio::test]
async fn a_dead_mirror_costs_nothing() {
    let main = Toy::named("main").await;
    let proxy = Proxy::start();
    proxy.publish(
        &[(
            "orders",
            route("path = '/**'\nmirror = { service = 'shadow', percent = 100 }"),
        )],
        &[
            ("orders", &[main.endpoint()]),
            ("shadow", &[endpoint_at(dead_addr().await)]),
        ],
    );
    let mut client = proxy.client().await;
    for _ in 0..100 {
        assert_eq!(client.get("/").await.text(), "main");
    }
}

#[tokio::test]
async fn addresses_are_let_in_or_not_and_only_trusted_proxies_speak_for_others() {
    let toy = Toy::named("toy").await;
    let proxy = Proxy::with(|config| config.edge.trusted_proxies = vec!["127.0.0.1".to_owned()]);
    proxy.publish(
        &[
            (
                "orders",
                route("path = '/inside'\nallow = ['10.0.0.0/8']\ndeny = ['10.9.9.9']"),
            ),
            ("orders", route("path = '/all'")),
        ],
        &[("orders", &[toy.endpoint()])],
    );
    for (client, path, status) in [
        ("10.1.1.1", "/inside", 200),
        ("10.9.9.9", "/inside", 403),
        ("11.1.1.1", "/inside", 403),
        ("11.1.1.1, 10.1.1.1", "/inside", 200),
        ("11.1.1.1", "/all", 200),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        let answer = proxy.client().await.request(&request).await;
        assert_eq!(answer.status, status, "{client} {path}");
    }
    let open = proxy_with(&toy, &["path = '/inside'\nallow = ['10.0.0.0/8']"]);
    let request = "GET /inside HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n";
    let answer = open.client().await.request(request).await;
    assert_eq!(
        answer.status, 403,
        "whoever is no trusted proxy speaks for itself"
    );
}

#[tokio::test]
async fn browsers_are_told_what_pages_of_other_origins_may() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let toy = Toy::http(move |_| {
        counter.fetch_add(1, SeqCst);
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let proxy = proxy_with(
        &toy,
        &["path = '/o'\nmethods = ['PUT']\ncors = { origins = ['https://shop.example'] }"],
    );
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /o HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
        )
    };
    let mut client = proxy.client().await;
    let answer = client.request(&preflight("https://shop.example")).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.field("access-control-allow-origin"),
        Some("https://shop.example")
    );
    assert_eq!(answer.field("access-control-allow-methods"), Some("PUT"));
    let answer = client.request(&preflight("https://evil.example")).await;
    assert_eq!(
        (answer.status, answer.field("access-control-allow-origin")),
        (204, None)
    );
    assert_eq!(asked.load(SeqCst), 0, "the service is not asked");
    let put =
        "PUT /o HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.example\r\nContent-Length: 0\r\n\r\n";
    let answer = client.request(put).await;
    assert_eq!(
        answer
            .head
            .to_ascii_lowercase()
            .matches("access-control-allow-origin")
            .count(),
        1
    );
    assert_eq!(
        answer.field("access-control-allow-origin"),
        Some("https://shop.example")
    );
    assert_eq!(
        answer.field("access-control-expose-headers"),
        Some("X-Trace-Id")
    );
}

#[tokio::test]
async fn clients_that_ask_too_often_are_told_so() {
    let toy = Toy::named("toy").await;
    let limited = "path = '/l'\nrate_limit = { requests = 3, per = '1h', by = 'header:X-Who' }";
    let proxy = proxy_with(&toy, &[limited, "path = '/free'"]);
    let ask = async |who: &str| {
        let request = format!("GET /l HTTP/1.1\r\nHost: a\r\n{who}\r\n");
        proxy.client().await.request(&request).await
    };
    for (who, left) in [
        ("X-Who: a\r\n", 2),
        ("X-Who: a\r\n", 1),
        ("X-Who: a\r\n", 0),
        ("X-Who: b\r\n", 2),
        ("", 2),
    ] {
        let answer = ask(who).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .field("ratelimit")
                .unwrap()
                .contains(&format!("r={left};")),
            "{}",
            answer.head
        );
        assert_eq!(
            answer.field("ratelimit-policy"),
            Some("\"default\";q=3;w=3600")
        );
    }
    // A publication gives nobody a fresh allowance.
    let routes = [
        ("orders", route(limited)),
        ("orders", route("path = '/new'")),
    ];
    proxy.publish(&routes, &[("orders", &[toy.endpoint()])]);
    let answer = ask("X-Who: a\r\n").await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["type"], "urn:atoll:problem:rate-limited");
    let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1100..=1200).contains(&wait), "{wait}");
    assert_eq!(ask("X-Who: b\r\n").await.status, 200);
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_take_it() {
    use std::io::Read;
    let text = "all work and no play ".repeat(5000);
    let body = text.clone();
    let toy = Toy::http(move |request| {
        let (kind, more) = match request.target() {
            "/png" => ("image/png", ""),
            "/done" => ("text/plain", "Content-Encoding: br\r\n"),
            "/never" => ("text/plain", "Cache-Control: public, no-transform\r\n"),
            _ => ("text/plain", "ETag: \"1\"\r\nAccept-Ranges: bytes\r\n"),
        };
        let mut out = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{more}").into_bytes();
        if request.target() == "/chunked" {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.as_bytes().chunks(10_000) {
                out.extend(format!("{:x}\r\n", part.len()).bytes());
                out.extend_from_slice(part);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        } else {
            let body = if request.target() == "/small" {
                &body[..1000]
            } else {
                &body
            };
            out.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len()).bytes());
        }
        out
    })
    .await;
    let proxy = proxy_with(&toy, &["path = '/**'\ncompress = true", "path = '/off'"]);
    let mut client = proxy.client().await;
    for path in ["/plain", "/chunked"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        let answer = client.request(&request).await;
        assert!(answer.complete);
        assert_eq!(answer.field("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_eq!(
            (
                answer.field("content-length"),
                answer.field("accept-ranges")
            ),
            (None, None)
        );
        assert_eq!(answer.field("etag"), Some("W/\"1\""));
        assert!(answer.body.len() < text.len() / 20, "{}", answer.body.len());
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&answer.body[..])
            .read_to_string(&mut plain)
            .unwrap();
        assert!(plain == text, "{path}");
    }
    for path in ["/small", "/png", "/done", "/never", "/off"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        let answer = client.request(&request).await;
        assert_ne!(answer.field("content-encoding"), Some("gzip"), "{path}");
        assert!(answer.field("content-length").is_some(), "{path}");
    }
    let answer = client.get("/plain").await;
    assert_eq!(
        (answer.field("content-encoding"), answer.field("vary")),
        (None, Some("Accept-Encoding"))
    );
    assert!(answer.text() == text);
}

#[tokio::test]
async fn browsers_are_told_to_be_careful_where_services_do_not_say_else() {
    let toy = Toy::http(|_| {
        b"HTTP/1.1 200 OK\r\nreferrer-policy: no-referrer\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let proxy = Proxy::with(|config| config.edge.security_headers = true);
    let routes = [
        (
            "orders",
            route("path = '/**'\nresponse_headers = { set = { X-Frame-Options = 'DENY' } }"),
        ),
        (
            "orders",
            route("path = '/fixed'\nanswer = { status = 200, body = 'x' }"),
        ),
    ];
    proxy.publish(&routes, &[("orders", &[toy.endpoint()])]);
    let mut client = proxy.client().await;
    let answer = client.get("/").await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        let head = answer.head.to_ascii_lowercase();
        assert_eq!(head.matches(&format!("{name}:")).count(), 1, "{name}");
        assert_eq!(answer.field(name), Some(value));
    }
    let fixed = client.get("/fixed").await;
    assert_eq!(fixed.field("x-frame-options"), Some("SAMEORIGIN"));
}
