//! What passes from one side to the other, and what does not.

use crate::toys::{Proxy, Request, Toy, answer};

/// Sends a request through the edge and tells what the service got.
async fn seen_by_service(request: &str) -> Request {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let answer = proxy.client().await.request(request).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    Request {
        head: answer.text().to_owned(),
        body: Vec::new(),
    }
}

#[tokio::test]
async fn hop_by_hop_fields_stay_behind() {
    let seen = seen_by_service(
        "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nProxy-Connection: y\r\n\
         TE: trailers, gzip\r\nUpgrade: h2c\r\nX-Keep: 2\r\nAccept: */*\r\n\r\n",
    )
    .await;
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(seen.field(gone), None, "{gone}");
    }
    assert_eq!(seen.field("te"), Some("trailers"));
    assert_eq!(seen.field("connection"), Some("TE"));
    assert_eq!(seen.field("x-keep"), Some("2"));
    assert_eq!(seen.field("accept"), Some("*/*"));
    assert_eq!(seen.field("host"), Some("shop.example"));
    assert_eq!(seen.fields("host"), 1);
}

/// Without its length, the body would be the service's next request.
#[tokio::test]
async fn connection_cannot_take_the_framing_away() {
    let seen = seen_by_service(
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\
         Connection: Content-Length, host, X-Hop\r\nX-Hop: 1\r\n\r\nGET ",
    )
    .await;
    assert_eq!(seen.field("content-length"), Some("4"));
    assert_eq!(seen.fields("host"), 1);
    assert_eq!(seen.field("x-hop"), None);
    let seen = seen_by_service(
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\
         Connection: transfer-encoding\r\n\r\n4\r\nGET \r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(seen.field("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn what_outsiders_say_about_themselves_is_replaced() {
    let seen = seen_by_service(
        "GET / HTTP/1.1\r\nHost: shop.example:81\r\nX-Forwarded-For: 6.6.6.6\r\n\
         x-forwarded-host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /x\r\n\
         X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n",
    )
    .await;
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-host"), Some("shop.example:81"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(
        seen.field("forwarded"),
        Some("for=127.0.0.1;proto=http;host=\"shop.example:81\"")
    );
    for name in [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
    ] {
        assert_eq!(seen.fields(name), 1, "{name}");
    }
    assert!(!seen.head.contains("6.6.6.6") && !seen.head.to_lowercase().contains("prefix"));
}

#[tokio::test]
async fn a_trace_is_continued_or_begun() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let seen = seen_by_service(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\ntracestate: a=1\r\n\r\n"
    ))
    .await;
    let sent = seen.field("traceparent").unwrap();
    assert_eq!(&sent[..36], &parent[..36]);
    assert_ne!(
        &sent[36..52],
        &parent[36..52],
        "the hop has a span of its own"
    );
    assert_eq!(&sent[52..], "-01");
    let state = seen.field("tracestate").unwrap();
    assert!(
        state.starts_with("atoll=d:") && state.ends_with(";r:0,a=1"),
        "{state}"
    );

    for invalid in [
        "traceparent: 00-0-0-0\r\ntracestate: a=1\r\n".to_owned(),
        "tracestate: a=1\r\n".to_owned(),
        format!("traceparent: {parent}\r\ntraceparent: {parent}\r\ntracestate: a=1\r\n"),
    ] {
        let seen = seen_by_service(&format!("GET / HTTP/1.1\r\nHost: a\r\n{invalid}\r\n")).await;
        let sent = seen.field("traceparent").unwrap();
        assert!(sent.len() == 55 && sent.ends_with("-01"), "{sent}");
        assert_ne!(&sent[3..35], &parent[3..35]);
        assert_eq!(seen.fields("traceparent"), 1);
        let state = seen.field("tracestate").unwrap();
        assert!(
            !state.contains("a=1"),
            "it belongs to another trace: {state}"
        );
    }
}

#[tokio::test]
async fn the_answer_loses_hop_by_hop_fields_and_gains_the_trace() {
    let toy = Toy::http(|_| {
        b"HTTP/1.1 200 Fine\r\nServer: toy\r\nDate: today\r\nConnection: keep-alive, X-Hop\r\n\
          X-Hop: 1\r\nKeep-Alive: x\r\nProxy-Authenticate: y\r\nX-Trace-Id: forged\r\n\
          Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let answer = proxy.get("/").await;
    assert!(answer.head.starts_with("HTTP/1.1 200 Fine\r\n"));
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "connection"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(answer.field("server"), Some("toy"));
    assert_eq!(answer.field("date"), Some("today"));
    assert_eq!(answer.head.matches("Set-Cookie").count(), 2);
    let trace = answer.field("x-trace-id").unwrap();
    assert!(trace.len() == 32 && trace != "forged");
    let span = proxy.spans.find(|span| span.trace == trace).await;
    assert_eq!(span.status, 200);
}

#[tokio::test]
async fn head_and_bodiless_answers_have_no_body() {
    let toy = Toy::http(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n".to_vec(),
        _ if request.head.starts_with("HEAD") => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec()
        }
        _ => answer("200 OK", b"body"),
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let head = client.request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(head.field("content-length"), Some("12345"));
    let empty = client.get("/204").await;
    assert_eq!((empty.status, empty.field("content-length")), (204, None));
    let unchanged = client.get("/304").await;
    assert_eq!(
        (unchanged.status, unchanged.field("etag")),
        (304, Some("x"))
    );
    assert_eq!(client.get("/").await.text(), "body");
    assert_eq!(toy.connections(), 1, "one connection served them all");
}

/// CGI, WSGI and PHP read `_` and `-` as the same.
#[tokio::test]
async fn outsiders_cannot_forge_fields_with_underscores() {
    let seen = seen_by_service(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nX_Forwarded_For: 6.6.6.6\r\n\
         X_FORWARDED-Host: evil\r\nX-Forwarded_Proto: https\r\nX_Real_IP: 6.6.6.6\r\n\
         Transfer_Encoding: chunked\r\nContent_Length: 666\r\nProxy_Authorization: x\r\n\
         X_Custom_Field: kept\r\nX_Trace_Id: kept\r\n\r\nbody",
    )
    .await;
    let head = seen.head.to_lowercase();
    assert!(
        !head.contains("6.6.6.6") && !head.contains("evil"),
        "{head}"
    );
    // Alone, the number may stand in an id of the trace.
    assert!(!head.contains("https") && !head.contains(": 666"), "{head}");
    assert!(
        !head.contains("transfer") && !head.contains("proxy_"),
        "{head}"
    );
    assert_eq!(seen.field("content-length"), Some("4"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x_custom_field"), Some("kept"));
    assert_eq!(seen.field("x_trace_id"), Some("kept"));
}

#[tokio::test]
async fn what_a_proxy_owes_to_both_sides_is_there() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let answer = client
        .request("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 before\r\n\r\n")
        .await;
    // RFC 9110, 7.6.3 and 6.6.1.
    assert!(answer.text().contains("Via: 1.0 before\r\n"));
    assert!(answer.text().contains("Via: 1.1 atoll\r\n"));
    assert!(answer.field("date").is_some());
    // RFC 9110, 7.6.2.
    let question = |hops| format!("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n");
    assert!(
        client
            .request(&question(7))
            .await
            .text()
            .contains("Max-Forwards: 6\r\n")
    );
    assert_eq!(client.request(&question(0)).await.status, 204);
    assert_eq!(toy.requests(), 2);
    // Bits of the flags that mean nothing do not travel.
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fd\r\n";
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{trace}\r\n");
    let seen = client.request(&text).await;
    let line = seen
        .text()
        .lines()
        .find(|line| line.starts_with("traceparent"))
        .unwrap();
    assert!(line.trim_end().ends_with("-01"), "{line}");
}

#[tokio::test]
async fn no_trailer_says_who_somebody_is() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    for name in [
        "Atoll-Subject",
        "atoll_subject",
        "Client-Cert",
        "X-Forwarded-For",
    ] {
        let mut client = proxy.client().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = client
            .request(&format!("{head}0\r\n{name}: admin\r\n\r\n"))
            .await;
        assert_eq!(answer.status, 400, "{name}");
    }
    let mut many = proxy.client().await;
    let options = "a,".repeat(40);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
    assert_eq!(many.request(&head).await.status, 400);
}
