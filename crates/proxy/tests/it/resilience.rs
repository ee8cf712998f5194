//! Deadlines, retries, ejection, breakers and bulkheads, on the wire. The decisions themselves are
//! tested where they are made, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use atoll_proxy::resilience::{DependencyConfig, ResilienceConfig};
use atoll_proxy::{ErrorKind, RouteConfig};

use crate::toys::*;

fn settings(toml: &str) -> ResilienceConfig {
    toml::from_str(toml).unwrap()
}

#[tokio::test]
async fn the_deadline_travels_and_only_gets_shorter() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start();
    proxy.publish_with(
        &[("orders", RouteConfig::new("/**"))],
        &[("orders", &[toy.endpoint()]), ("catalog", &[])],
        Duration::from_secs(20),
    );
    let deadline = |seen: &str| -> u64 {
        let head = seen.to_owned();
        let state = field(&head, "tracestate").unwrap().to_owned();
        let digits = state.strip_prefix("atoll=d:").unwrap();
        digits[..digits.find(';').unwrap()].parse().unwrap()
    };
    let answer = proxy.get("/").await;
    let first = deadline(answer.text());
    let left: u64 = field(answer.text(), "atoll-timeout-ms")
        .unwrap()
        .parse()
        .unwrap();
    assert!((19_000..=20_000).contains(&left), "{left}");
    // The next hop, with what a service passes on.
    let parent = field(answer.text(), "traceparent").unwrap().to_owned();
    let mesh = async |extra: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\n{extra}\r\n");
        proxy.mesh_client(2).await.request(&request).await
    };
    let soon = first - 15_000;
    let answer = mesh(&format!("tracestate: atoll=d:{soon};r:0,x=y\r\n")).await;
    assert_eq!(deadline(answer.text()), soon, "the caller has less time");
    let answer = mesh("Atoll-Timeout-Ms: 3000\r\n").await;
    let left: u64 = field(answer.text(), "atoll-timeout-ms")
        .unwrap()
        .parse()
        .unwrap();
    assert!(left <= 3000, "{left}");
    // Nobody waits any more.
    let past = first - 21_000;
    let answer = mesh(&format!("tracestate: atoll=d:{past};r:0\r\n")).await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["detail"], "no time is left for this request");
}

#[tokio::test]
async fn outsiders_set_neither_deadlines_nor_names() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nAtoll-Timeout-Ms: 1\r\natoll-subject: root\r\nAtoll_Subject: root\r\n\r\n";
    let answer = proxy.client().await.request(request).await;
    assert_eq!(answer.status, 200);
    let seen = answer.text().to_ascii_lowercase();
    assert!(!seen.contains("root"), "{seen}");
    assert_eq!(seen.matches("atoll-timeout-ms").count(), 1);
}

#[tokio::test]
async fn an_answer_of_unavailability_is_worth_another_instance_but_not_if_it_says_when() {
    for (fields, expected) in [("", 200), ("Retry-After: 5\r\n", 503)] {
        let bad = Toy::http(move |_| {
            format!("HTTP/1.1 503 Busy\r\n{fields}Content-Length: 4\r\n\r\nbusy").into_bytes()
        })
        .await;
        let good = Toy::named("good").await;
        let proxy = Proxy::start().forward_to(&[bad.endpoint(), good.endpoint()]);
        let mut statuses = Vec::new();
        let mut client = proxy.client().await;
        while bad.requests() == 0 {
            statuses.push(client.get("/").await.status);
        }
        assert_eq!(statuses.last(), Some(&expected), "{fields}");
        // What is not idempotent is never sent twice.
        let posts = Toy::http(|_| answer("503 Busy", b"busy")).await;
        let proxy = Proxy::start().forward_to(&[posts.endpoint(), posts.endpoint()]);
        assert_eq!(proxy.client().await.post("/", b"x").await.text(), "busy");
        assert_eq!(posts.requests(), 1);
    }
}

#[tokio::test]
async fn a_retry_is_marked_and_not_retried_again_below() {
    let marks: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&marks);
    let toy = Toy::http(move |request| {
        seen.lock()
            .unwrap()
            .push(request.field("tracestate").unwrap().to_owned());
        answer("503 Busy", b"busy")
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint(), toy.endpoint()]);
    assert_eq!(proxy.get("/").await.status, 503);
    let first = marks.lock().unwrap().clone();
    assert!(first.len() > 1 && first.len() <= 4, "{first:?}");
    assert!(first[0].ends_with("r:0"), "{first:?}");
    assert!(
        first[1..].iter().all(|mark| mark.ends_with("r:1")),
        "{first:?}"
    );
    // The same as a call in the mesh that carries the mark.
    let request = "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: atoll=r:1\r\n\r\n";
    let answer = proxy.mesh_client(0).await.request(request).await;
    assert_eq!(answer.status, 503);
    assert_eq!(marks.lock().unwrap().len(), first.len() + 1, "once");
}

#[tokio::test]
async fn retries_of_one_tree_are_counted_together() {
    let toy = Toy::http(|_| answer("503 Busy", b"busy")).await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint(), toy.endpoint()]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
    let mut client = proxy.client().await;
    for _ in 0..5 {
        assert_eq!(client.request(request).await.status, 503);
    }
    assert_eq!(toy.requests(), 5 + 3, "three retries for all of them");
}

#[tokio::test]
async fn an_instance_that_keeps_failing_is_left_out_and_says_why() {
    let good = Toy::named("good").await;
    let dead = endpoint_at(dead_addr().await);
    let proxy = Proxy::start().forward_to(&[good.endpoint(), Arc::clone(&dead)]);
    let mut client = proxy.client().await;
    let why = loop {
        assert_eq!(client.get("/").await.status, 200);
        let explained = proxy.handle.explain();
        if let Some(verdict) = explained
            .instances
            .into_iter()
            .find(|verdict| verdict.why.is_some())
        {
            break verdict;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(&why.instance, dead.instance());
    let text = why.why.unwrap().to_string();
    assert!(text.contains("connection refused"), "{text}");
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let span = proxy.spans.find(|span| span.retries > 0).await;
    assert_eq!(span.status, 200);
}

#[tokio::test]
async fn a_breaker_opens_spares_the_service_and_closes_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&broken);
    let toy = Toy::http(move |_| {
        if switch.load(SeqCst) {
            answer("503 Down", b"down")
        } else {
            ok("well")
        }
    })
    .await;
    let proxy = Proxy::start();
    let resilience = settings("breaker = { calls = 5, pause = '300ms' }\nretries = { max = 0 }");
    let routes = [("orders", RouteConfig::new("/**"))];
    proxy.publish_all(&routes, &[("orders", &[toy.endpoint()])], |cluster| {
        cluster.resilience = resilience.clone();
    });
    let mut client = proxy.client().await;
    let refused = loop {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 503);
        if answer.text() != "down" {
            break answer;
        }
    };
    assert_eq!(refused.json()["type"], "urn:atoll:problem:breaker-open");
    assert!(refused.field("retry-after").is_some());
    let explained = proxy.handle.explain();
    assert_eq!(explained.breakers.len(), 1);
    assert_eq!(explained.breakers[0].callee, name("orders"));
    let before = toy.requests();
    client.get("/").await;
    assert_eq!(toy.requests(), before, "the service is left alone");
    broken.store(false, SeqCst);
    // Single requests that are let through close it.
    let healed = async {
        while client.get("/").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, healed).await.unwrap();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let span = proxy
        .spans
        .find(|span| span.error == Some(ErrorKind::BreakerOpen))
        .await;
    assert_eq!(span.status, 503);
}

#[tokio::test]
async fn only_so_many_at_once_a_few_wait_and_others_are_sent_away() {
    let inside = Arc::new(AtomicUsize::new(0));
    let (gate, opened) = tokio::sync::watch::channel(false);
    let counter = Arc::clone(&inside);
    let toy = Toy::raw(move |mut client| {
        let (counter, mut opened) = (Arc::clone(&counter), opened.clone());
        async move {
            while client.read_request().await.is_some() {
                counter.fetch_add(1, SeqCst);
                opened.wait_for(|open| *open).await.unwrap();
                client.send(&ok("done")).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start();
    let routes = [("orders", RouteConfig::new("/**"))];
    proxy.publish_all(&routes, &[("orders", &[toy.endpoint()])], |cluster| {
        cluster.resilience = settings("concurrency = { max = 2, queue = 1, wait = '10s' }");
    });
    let mut all = tokio::task::JoinSet::new();
    let ask = |client: Client| async move {
        let mut client = client;
        let answer = client.get("/").await;
        (answer.status, answer.head)
    };
    for _ in 0..2 {
        all.spawn(ask(proxy.client().await));
    }
    eventually("two are in", || (inside.load(SeqCst) == 2).then_some(())).await;
    // Of three more, one waits and two are sent away.
    for _ in 0..3 {
        all.spawn(ask(proxy.client().await));
    }
    for _ in 0..2 {
        let (status, head) = all.join_next().await.unwrap().unwrap();
        assert_eq!(status, 503);
        assert!(field(&head, "retry-after").is_some(), "{head}");
    }
    assert_eq!(inside.load(SeqCst), 2);
    gate.send(true).unwrap();
    for _ in 0..3 {
        assert_eq!(all.join_next().await.unwrap().unwrap().0, 200);
    }
    assert_eq!(inside.load(SeqCst), 3);
}

#[tokio::test]
async fn a_caller_has_settings_of_its_own() {
    let slow = Toy::raw(|mut client| async move {
        client.read_request().await;
        client.read_head().await;
    })
    .await;
    let proxy = Proxy::start();
    let own: DependencyConfig = toml::from_str("timeout = '200ms'\nretries = { max = 0 }").unwrap();
    let clusters: [(&str, &[_]); 2] = [("orders", &[slow.endpoint()]), ("catalog", &[])];
    proxy.publish_all(&[], &clusters, |cluster| {
        cluster.dependencies.insert(name("orders"), own.clone());
    });
    let answer = proxy.mesh_client(2).await.get("/").await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["type"], "urn:atoll:problem:timeout");
}

#[tokio::test]
async fn requests_that_go_by_a_key_stay_with_their_instance() {
    let toys = [
        Toy::named("a").await,
        Toy::named("b").await,
        Toy::named("c").await,
    ];
    let endpoints: Vec<_> = toys.iter().map(Toy::endpoint).collect();
    let proxy = Proxy::start();
    let routes = [("orders", RouteConfig::new("/**"))];
    proxy.publish_all(&routes, &[("orders", &endpoints)], |cluster| {
        cluster.resilience = settings("balance = { kind = 'hash', by = 'cookie', name = 'user' }");
    });
    let mut client = proxy.client().await;
    let mut homes = std::collections::HashSet::new();
    for user in 0..30 {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; user={user}\r\n\r\n");
        let home = client.request(&request).await.text().to_owned();
        for _ in 0..3 {
            assert_eq!(client.request(&request).await.text(), home, "user {user}");
        }
        homes.insert(home);
    }
    assert_eq!(homes.len(), 3);
}

/// What a client takes for its body is not the service's fault.
#[tokio::test]
async fn a_slow_body_is_not_charged_to_the_service() {
    let toy = Toy::raw(|mut client| async move {
        client.read_request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let resilience = settings("breaker = { calls = 4 }\nretries = { max = 0 }");
    for (pause, opens) in [(Duration::from_millis(300), false), (Duration::ZERO, true)] {
        let proxy = Proxy::start();
        let routes = [("orders", RouteConfig::new("/**"))];
        proxy.publish_all(&routes, &[("orders", &[toy.endpoint()])], |cluster| {
            cluster.resilience = resilience.clone();
            cluster.timeout = Duration::from_millis(500);
        });
        let slow = async || {
            let mut client = proxy.client().await;
            client
                .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
                .await;
            // The client's own pace is what this is about.
            tokio::time::sleep(pause).await;
            client.send(b"cd").await;
            assert_eq!(client.answer().await.status, 504);
        };
        tokio::join!(slow(), slow(), slow(), slow(), slow(), slow());
        // Each worker tells what it has counted together with its spans.
        eventually("all have been counted", || {
            (proxy.spans.count() == 6).then_some(())
        })
        .await;
        assert_eq!(proxy.handle.explain().breakers.is_empty(), !opens);
    }
}
