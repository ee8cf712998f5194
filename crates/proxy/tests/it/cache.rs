//! The cache of the edge, with services that say what may be kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use atoll_proxy::RouteConfig;
use atoll_proxy::cache::Purge;
use tokio::io::AsyncWriteExt as _;

use crate::toys::*;

/// A service whose answers have these lines, and its number of the request as the body.
async fn service(lines: &'static str) -> Toy {
    let count = AtomicUsize::new(0);
    Toy::http(move |_| numbered(lines, count.fetch_add(1, SeqCst) + 1)).await
}

fn numbered(lines: &str, number: usize) -> Vec<u8> {
    let body = format!("answer {number}");
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// A proxy whose only route has this `cache`.
fn caching(toy: &Toy, cache: &str) -> Proxy {
    let proxy = Proxy::start();
    let text = format!("path = '/**'\ncompress = true\ncache = {{ {cache} }}");
    let route: RouteConfig = toml::from_str(&text).unwrap();
    proxy.publish(&[("orders", route)], &[("orders", &[toy.endpoint()])]);
    proxy
}

async fn get(client: &mut Client, fields: &str) -> Answer {
    let text = format!("GET /page?a=b HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n");
    client.request(&text).await
}

fn status(answer: &Answer) -> &str {
    answer.field("cache-status").unwrap()
}

#[tokio::test]
async fn what_is_fresh_is_given_again() {
    let toy = service("Cache-Control: max-age=60\r\nX-A: b\r\n").await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    let first = get(&mut client, "").await;
    assert_eq!(first.text(), "answer 1");
    assert_eq!(
        status(&first),
        "atoll; fwd=uri-miss; fwd-status=200; stored"
    );
    // RFC 9111, 4: also to others.
    let second = get(&mut proxy.client().await, "").await;
    assert_eq!((second.status, second.text()), (200, "answer 1"));
    assert_eq!(status(&second).split(';').nth(1), Some(" hit"));
    assert!(second.field("age").unwrap().parse::<u32>().unwrap() < 60);
    assert_eq!(second.field("x-a"), Some("b"));
    assert_ne!(second.field("x-trace-id"), first.field("x-trace-id"));
    let head = client
        .request("HEAD /page?a=b HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .await;
    assert_eq!(head.field("content-length"), Some("8"));
    assert_eq!(toy.requests(), 1);
    // Another query, another host: another answer.
    client.get("/page?a=c").await;
    get(&mut client, "X: y\r\n").await;
    assert_eq!(toy.requests(), 2);
    let stats = proxy.handle.cache();
    assert_eq!((stats.hits, stats.misses, stats.kept), (3, 2, 2));
}

#[tokio::test]
async fn what_came_in_chunks_is_kept_whole_and_what_was_cut_is_not() {
    let whole = Arc::new(AtomicBool::new(false));
    let now_whole = Arc::clone(&whole);
    let toy = Toy::raw(move |mut client| {
        let whole = Arc::clone(&whole);
        async move {
            while client.read_request().await.is_some() {
                let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n";
                client.send(head).await;
                if !whole.load(SeqCst) {
                    return;
                }
                client.send(b"2\r\nef\r\n0\r\nX-Trailer: a\r\n\r\n").await;
            }
        }
    })
    .await;
    let proxy = caching(&toy, "");
    assert!(!get(&mut proxy.client().await, "").await.complete);
    now_whole.store(true, SeqCst);
    for _ in 0..2 {
        let answer = get(&mut proxy.client().await, "").await;
        assert!(answer.text().starts_with("abcdef") && answer.complete);
    }
    assert_eq!(proxy.handle.cache().hits, 1);
    let kept = get(&mut proxy.client().await, "").await;
    assert_eq!(
        (kept.text(), kept.field("content-length")),
        ("abcdef", Some("6"))
    );
}

/// RFC 9111, 4.3.2.
#[tokio::test]
async fn a_client_that_has_it_gets_304() {
    let toy = service("Cache-Control: max-age=60\r\nETag: \"a\"\r\n").await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    get(&mut client, "").await;
    let has = get(&mut client, "If-None-Match: W/\"a\"\r\n").await;
    assert_eq!((has.status, has.field("etag")), (304, Some("\"a\"")));
    let other = get(&mut client, "If-None-Match: \"b\"\r\n").await;
    assert_eq!((other.status, other.text()), (200, "answer 1"));
    assert_eq!(toy.requests(), 1);
}

/// RFC 9111, 4.3.1, 4.3.3 and 4.3.4.
#[tokio::test]
async fn what_must_be_validated_is_and_the_body_is_sent_once() {
    let count = AtomicUsize::new(0);
    let toy = Toy::http(move |request| match count.fetch_add(1, SeqCst) {
        0 => numbered("ETag: \"a\"\r\nX-A: 1\r\nCache-Control: no-cache\r\n", 1),
        1 => {
            assert_eq!(request.field("if-none-match"), Some("\"a\""));
            assert_eq!(request.field("if-modified-since"), None);
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nX-A: 2\r\nCache-Control: no-cache\r\n\r\n"
                .to_vec()
        }
        _ => numbered("ETag: \"b\"\r\nCache-Control: max-age=60\r\n", 3),
    })
    .await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    get(&mut client, "").await;
    // What this client has is its own affair.
    let conditions =
        "If-None-Match: \"other\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let valid = get(&mut client, conditions).await;
    assert_eq!((valid.status, valid.text()), (200, "answer 1"));
    assert_eq!(
        (valid.field("x-a"), valid.field("content-length")),
        (Some("2"), Some("8"))
    );
    assert!(status(&valid).starts_with("atoll; fwd=stale; fwd-status=304; ttl="));
    let changed = get(&mut client, "").await;
    assert_eq!(changed.text(), "answer 3");
    assert_eq!(get(&mut client, "").await.text(), "answer 3");
    assert_eq!((toy.requests(), toy.connections()), (3, 1));
}

/// RFC 5861, 3.
#[tokio::test]
async fn a_stale_answer_is_given_while_a_new_one_is_fetched() {
    // Old when it arrives: so nobody has to wait.
    let toy = service(
        "Cache-Control: max-age=60, stale-while-revalidate=1000\r\nAge: 100\r\nETag: \"a\"\r\n",
    )
    .await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    get(&mut client, "").await;
    let stale = get(&mut client, "").await;
    assert_eq!(stale.text(), "answer 1");
    assert!(
        status(&stale).starts_with("atoll; hit; ttl=-4"),
        "{}",
        status(&stale)
    );
    eventually("the new one is there", || {
        (toy.requests() == 2).then_some(())
    })
    .await;
    loop {
        let answer = get(&mut client, "").await;
        if answer.text() != "answer 1" {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// RFC 5861, 4.
#[tokio::test]
async fn a_stale_answer_stands_for_a_failure() {
    let toy = service("Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"a\"\r\n").await;
    let proxy = caching(&toy, "stale_if_error = '1h'");
    let mut client = proxy.client().await;
    get(&mut client, "").await;
    let failing = Toy::http(|_| answer("503 X", b"failed")).await;
    let route: RouteConfig =
        toml::from_str("path = '/**'\ncompress = true\ncache = { stale_if_error = '1h' }").unwrap();
    let publish = |endpoints: &[Arc<atoll_proxy::Endpoint>]| {
        proxy.publish(&[("orders", route.clone())], &[("orders", endpoints)]);
    };
    publish(&[failing.endpoint()]);
    let stale = get(&mut client, "").await;
    assert_eq!((stale.status, stale.text()), (200, "answer 1"));
    assert!(
        status(&stale).contains("fwd-status=503"),
        "{}",
        status(&stale)
    );
    publish(&[endpoint_at(dead_addr().await)]);
    let stale = get(&mut client, "").await;
    assert_eq!((stale.status, stale.text()), (200, "answer 1"));
    publish(&[]);
    assert_eq!(get(&mut client, "").await.status, 200);
    // What was never kept fails as it fails.
    assert_eq!(client.get("/other").await.status, 503);
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_fetch() {
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&release);
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let toy = Toy::raw(move |mut client| {
        let (gate, counter) = (Arc::clone(&gate), Arc::clone(&counter));
        async move {
            while client.read_request().await.is_some() {
                let number = counter.fetch_add(1, SeqCst) + 1;
                gate.acquire().await.unwrap().forget();
                client
                    .send(&numbered("Cache-Control: max-age=60\r\n", number))
                    .await;
            }
        }
    })
    .await;
    let proxy = caching(&toy, "");
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let mut client = proxy.client().await;
        tasks.push(tokio::spawn(async move { get(&mut client, "").await }));
    }
    until("one has arrived", || requests.load(SeqCst) == 1).await;
    release.add_permits(1);
    for task in tasks {
        let answer = task.await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "answer 1"));
    }
    assert_eq!(requests.load(SeqCst), 1);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_waited_for() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&arrived);
    let toy = Toy::raw(move |mut client| {
        let arrived = Arc::clone(&counter);
        async move {
            while client.read_request().await.is_some() {
                // The head tells; the body comes when all others are here.
                arrived.fetch_add(1, SeqCst);
                client.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 100000\r\n\r\n").await;
                until("all are here", || arrived.load(SeqCst) == 10).await;
                client.send(&[b'x'; 100_000]).await;
            }
        }
    })
    .await;
    let proxy = caching(&toy, "");
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let mut client = proxy.client().await;
        tasks.push(tokio::spawn(async move { get(&mut client, "").await }));
    }
    for task in tasks {
        assert!(task.await.unwrap().complete);
    }
    assert_eq!(proxy.handle.cache().kept, 0);
}

/// RFC 9111, 4.4.
#[tokio::test]
async fn a_change_makes_what_was_kept_of_it_wrong() {
    for (lines, changed) in [
        ("Cache-Control: max-age=60\r\n", "/page?a=b"),
        (
            "Cache-Control: max-age=60\r\nContent-Location: /page?a=b\r\n",
            "/elsewhere",
        ),
        (
            "Cache-Control: max-age=60\r\nLocation: http://Example.com/page?a=b\r\n",
            "/elsewhere",
        ),
    ] {
        let toy = service(lines).await;
        let proxy = caching(&toy, "");
        let mut client = proxy.client().await;
        let before = get(&mut client, "").await;
        client.post(changed, b"change").await;
        let after = get(&mut client, "").await;
        assert_ne!(before.text(), after.text(), "{lines}");
    }
}

#[tokio::test]
async fn what_was_asked_for_before_a_change_is_not_kept_after_it() {
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&release);
    let toy = Toy::raw(move |mut client| {
        let gate = Arc::clone(&gate);
        async move {
            while let Some(request) = client.read_request().await {
                if request.head.starts_with("POST") {
                    client.send(&ok("changed")).await;
                    continue;
                }
                gate.acquire().await.unwrap().forget();
                client
                    .send(&numbered("Cache-Control: max-age=60\r\n", 1))
                    .await;
            }
        }
    })
    .await;
    let proxy = caching(&toy, "");
    let mut early = proxy.client().await;
    early
        .send(b"GET /page?a=b HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .await;
    until("it is under way", || toy.connections() == 1).await;
    proxy.client().await.post("/page?a=b", b"change").await;
    release.add_permits(2);
    early.answer().await;
    let late = get(&mut proxy.client().await, "").await;
    assert_eq!(late.field("age"), None, "{}", late.head);
}

#[tokio::test]
async fn an_answer_whose_end_nobody_knows_is_not_kept() {
    let toy = Toy::raw(|mut client| async move {
        client.read_request().await;
        client
            .send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nabc")
            .await;
    })
    .await;
    let proxy = caching(&toy, "");
    for _ in 0..2 {
        let answer = get(&mut proxy.client().await, "").await;
        assert_eq!((answer.text(), answer.field("age")), ("abc", None));
    }
    assert_eq!(toy.connections(), 2);
}

#[tokio::test]
async fn the_rest_of_a_failure_does_not_become_the_next_answer() {
    let count = Arc::new(AtomicUsize::new(0));
    let toy = Toy::raw(move |mut client| {
        let count = Arc::clone(&count);
        async move {
            while let Some(request) = client.read_request().await {
                if request.target() == "/other" {
                    client.send(&ok("other")).await;
                } else if count.fetch_add(1, SeqCst) == 0 {
                    client
                        .send(&numbered(
                            "Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"a\"\r\n",
                            1,
                        ))
                        .await;
                } else {
                    // The body comes when nobody wants it any more.
                    client
                        .send(b"HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n")
                        .await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if client
                        .stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        }
    })
    .await;
    let proxy = caching(&toy, "stale_if_error = '1h'");
    let mut client = proxy.client().await;
    for _ in 0..3 {
        assert_eq!(get(&mut client, "").await.text(), "answer 1");
        assert_eq!(client.get("/other").await.text(), "other");
    }
}

#[tokio::test]
async fn what_the_operator_keeps_is_not_for_those_with_cookies() {
    let toy = service("").await;
    let proxy = caching(&toy, "ttl = '10m'");
    let mut client = proxy.client().await;
    assert_eq!(get(&mut client, "").await.text(), "answer 1");
    assert_eq!(get(&mut client, "Cookie: a=b\r\n").await.text(), "answer 2");
    assert_eq!(get(&mut client, "").await.text(), "answer 1");
    let proxy = caching(&toy, "ttl = '10m', ignore_cookies = true");
    let mut client = proxy.client().await;
    assert_eq!(get(&mut client, "").await.text(), "answer 3");
    assert_eq!(get(&mut client, "Cookie: a=b\r\n").await.text(), "answer 3");
}

/// RFC 9111, 3.5.
#[tokio::test]
async fn those_who_say_who_they_are_get_only_what_is_for_all() {
    let toy = service("Cache-Control: max-age=60\r\n").await;
    let proxy = caching(&toy, "ttl = '10m'");
    let mut client = proxy.client().await;
    let secret = "Authorization: Basic YTpi\r\n";
    assert_eq!(get(&mut client, secret).await.text(), "answer 1");
    assert_eq!(get(&mut client, "").await.text(), "answer 2");
    assert_eq!(get(&mut client, secret).await.text(), "answer 3");
    assert_eq!(get(&mut client, "").await.text(), "answer 2");
    let public = service("Cache-Control: public, max-age=60\r\n").await;
    let proxy = caching(&public, "");
    let mut client = proxy.client().await;
    for fields in [secret, secret, ""] {
        assert_eq!(get(&mut client, fields).await.text(), "answer 1");
    }
}

#[tokio::test]
async fn the_operator_can_say_how_long_and_forget() {
    let toy = service("Cache-Control: no-store\r\nCache-Tag: weather\r\n").await;
    let proxy = caching(&toy, "ttl = '10m', ignore_query = ['a']");
    let mut client = proxy.client().await;
    for (what, expected) in [
        (None, "answer 1"),
        (Some(Purge::Tag("other".to_owned())), "answer 1"),
        (Some(Purge::Tag("weather".to_owned())), "answer 2"),
        (Some(Purge::Path("/page".to_owned())), "answer 3"),
        (Some(Purge::All), "answer 4"),
    ] {
        if let Some(what) = what {
            proxy.handle.purge(&what);
        }
        for path in ["/page?a=b", "/page?a=c", "/page"] {
            assert_eq!(client.get(path).await.text(), expected);
        }
    }
}

#[tokio::test]
async fn what_a_cache_has_no_part_in_passes_as_it_is() {
    let toy = service("Cache-Control: max-age=60\r\n").await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    let only = get(&mut client, "Cache-Control: only-if-cached\r\n").await;
    assert_eq!((only.status, toy.requests()), (504, 0));
    for (fields, detail) in [
        ("Range: bytes=0-1\r\n", "range"),
        ("If-Match: \"a\"\r\n", "precondition"),
    ] {
        let answer = get(&mut client, fields).await;
        assert_eq!(
            status(&answer),
            format!("atoll; fwd=bypass; detail={detail}")
        );
    }
    get(&mut client, "Cache-Control: no-store\r\n").await;
    assert_eq!(proxy.handle.cache().kept, 0);
    get(&mut client, "").await;
    let anew = get(&mut client, "Cache-Control: no-cache\r\n").await;
    assert!(status(&anew).starts_with("atoll; fwd=request; fwd-status=200; stored"));
    assert_eq!(get(&mut client, "").await.text(), anew.text());
    let only = get(&mut client, "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(only.text(), anew.text());
}

#[tokio::test]
async fn what_is_kept_is_compressed_for_who_takes_it() {
    let toy = Toy::http(|_| {
        let body = "text ".repeat(1000);
        let lines = "Cache-Control: max-age=60\r\nContent-Type: text/plain\r\n";
        format!(
            "HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    })
    .await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    for fields in [
        "",
        "Accept-Encoding: gzip\r\n",
        "Accept-Encoding: br\r\n",
        "",
    ] {
        let answer = get(&mut client, fields).await;
        let coding = fields.split(' ').nth(1).map(str::trim);
        assert_eq!(answer.field("content-encoding"), coding);
        assert!(answer.complete && (answer.body.len() == 5000) == coding.is_none());
    }
    assert_eq!(toy.requests(), 1);
}

/// RFC 9111, 4.1.
#[tokio::test]
async fn answers_are_for_the_requests_that_they_were_made_for() {
    let toy = Toy::http(|request| {
        let body = request
            .field("accept-language")
            .unwrap_or("none")
            .to_owned();
        let lines = "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n";
        format!(
            "HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    })
    .await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    for _ in 0..2 {
        for language in ["de", "en", "fr"] {
            let fields = format!("Accept-Language: {language}\r\n");
            assert_eq!(get(&mut client, &fields).await.text(), language);
        }
        assert_eq!(get(&mut client, "").await.text(), "none");
    }
    assert_eq!(toy.requests(), 4);
}

#[tokio::test]
async fn a_request_that_leaves_lets_the_others_go_on() {
    let toy = Toy::raw(|mut client| async move {
        let mut first = true;
        while client.read_request().await.is_some() {
            if std::mem::take(&mut first) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            client
                .send(&numbered("Cache-Control: max-age=60\r\n", 1))
                .await;
        }
    })
    .await;
    let proxy = caching(&toy, "");
    let mut leader = proxy.client().await;
    leader
        .send(b"GET /page?a=b HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .await;
    until("it is under way", || toy.connections() == 1).await;
    let mut follower = proxy.client().await;
    follower
        .send(b"GET /page?a=b HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .await;
    drop(leader);
    assert_eq!(follower.answer().await.text(), "answer 1");
}

/// What a service is told about the client is not what the client sent: it selects no answer.
#[tokio::test]
async fn what_varies_by_what_the_proxy_wrote_is_not_kept() {
    let toy = service("Cache-Control: max-age=60\r\nVary: X-Told\r\n").await;
    let proxy = Proxy::start();
    let text = "path = '/**'\ncache = {}\nrequest_headers = { set = { X-Told = 'b' } }";
    let route: RouteConfig = toml::from_str(text).unwrap();
    proxy.publish(&[("orders", route)], &[("orders", &[toy.endpoint()])]);
    let mut client = proxy.client().await;
    for number in 1..4 {
        let answer = get(&mut client, "X-Told: a\r\n").await;
        assert_eq!(answer.text(), format!("answer {number}"));
    }
    assert_eq!(proxy.handle.cache().kept, 0);
}

/// RFC 9110, 4.2: `http` and `https` are two places.
#[tokio::test]
async fn what_is_kept_for_one_scheme_is_not_given_to_the_other() {
    let toy = service("Cache-Control: max-age=60\r\n").await;
    let proxy = Proxy::with(|config| config.edge.trusted_proxies = vec!["127.0.0.1".to_owned()]);
    let route: RouteConfig = toml::from_str("path = '/**'\ncache = {}").unwrap();
    proxy.publish(&[("orders", route)], &[("orders", &[toy.endpoint()])]);
    let mut client = proxy.client().await;
    for (scheme, expected) in [("http", 1), ("https", 2), ("http", 1), ("https", 2)] {
        let answer = get(&mut client, &format!("X-Forwarded-Proto: {scheme}\r\n")).await;
        assert_eq!(answer.text(), format!("answer {expected}"), "{scheme}");
    }
}

/// RFC 5861, 3: what is fetched behind a stale answer is the answer to a GET.
#[tokio::test]
async fn a_head_of_a_stale_page_fetches_nothing_behind_it() {
    let methods = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&methods);
    let toy = Toy::http(move |request| {
        let method = request.head.split(' ').next().unwrap().to_owned();
        let length = if method == "HEAD" { 0 } else { 4 };
        seen.lock().unwrap().push(method);
        let lines = "Cache-Control: max-age=0, stale-while-revalidate=60\r\nETag: \"a\"";
        let body = "page".get(..length).unwrap();
        format!("HTTP/1.1 200 OK\r\n{lines}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    })
    .await;
    let proxy = caching(&toy, "");
    let mut client = proxy.client().await;
    assert_eq!(get(&mut client, "").await.text(), "page");
    let head = client
        .request("HEAD /page?a=b HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .await;
    assert_eq!(head.field("content-length"), Some("4"));
    // The next request that must be fetched comes behind whatever was begun.
    client.get("/other").await;
    assert_eq!(get(&mut client, "").await.text(), "page");
    assert!(!methods.lock().unwrap().iter().any(|own| own == "HEAD"));
}

/// An instance that fails once is not the end of one fetch for many.
#[tokio::test]
async fn an_answer_that_came_at_the_second_try_is_kept() {
    let bad = Toy::http(|_| b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let good = service("Cache-Control: max-age=60\r\n").await;
    let proxy = Proxy::start();
    let route: RouteConfig = toml::from_str("path = '/**'\ncache = {}").unwrap();
    let endpoints = [bad.endpoint(), good.endpoint()];
    proxy.publish(&[("orders", route)], &[("orders", &endpoints)]);
    let mut client = proxy.client().await;
    let mut kept = 0;
    for number in 0..8 {
        let answer = client.get(&format!("/{number}")).await;
        assert_eq!(answer.status, 200);
        kept += 1;
        assert_eq!(proxy.handle.cache().kept, kept);
    }
    assert!(bad.requests() > 0, "none was tried twice");
}
