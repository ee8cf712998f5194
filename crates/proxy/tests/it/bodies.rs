//! Bodies of every framing, in both directions, of every size.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::toys::{Proxy, Toy, answer, find, ok, until};

/// Answers with the body that it got, framed as the path asks.
async fn mirror() -> Toy {
    Toy::http(|request| {
        let body = &request.body;
        match request.target() {
            "/chunked" => {
                let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for chunk in body.chunks(1000) {
                    out.extend_from_slice(format!("{:X};x=\"y\"\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\nX-Sum: 7\r\n\r\n");
                out
            }
            _ => answer("200 OK", body),
        }
    })
    .await
}

fn some_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

#[tokio::test]
async fn bodies_of_any_size_arrive_whole() {
    let toy = mirror().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    for length in [0, 1, 100, 16_000, 16_384, 16_385, 65_536, 1_000_000] {
        let body = some_bytes(length);
        let echoed = client.post("/", &body).await;
        assert!(echoed.complete && echoed.body == body, "{length}");
        let echoed = client.post("/chunked", &body).await;
        let mut expected = body;
        expected.extend_from_slice(b"[X-Sum: 7]");
        assert!(
            echoed.complete && echoed.body == expected,
            "{length} in chunks"
        );
    }
}

#[tokio::test]
async fn a_chunked_request_may_be_cut_anywhere() {
    let toy = mirror().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;ext=1\r\nhello\r\n06\r\n world\r\n0\r\nX-Trailer: t\r\n\r\n";
    for cut in (1..request.len()).step_by(5) {
        client.send(&request.as_bytes()[..cut]).await;
        tokio::task::yield_now().await;
        client.send(&request.as_bytes()[cut..]).await;
        let echoed = client.answer().await;
        assert_eq!(echoed.text(), "hello world[X-Trailer: t]", "cut at {cut}");
    }
}

#[tokio::test]
async fn an_answer_until_the_close_becomes_chunks() {
    let toy = Toy::raw(|mut client| async move {
        client.read_request().await;
        client
            .send(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nuntil ")
            .await;
        client.send(b"the end").await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert!(answer.complete && answer.text() == "until the end");
    }
}

/// 50 MB go through while the proxy holds no more than the sockets and a buffer do.
#[tokio::test]
async fn large_bodies_stream_in_both_directions() {
    const TOTAL: usize = 50 << 20;
    let toy = Toy::raw(|mut client| async move {
        let head = client.read_head().await.unwrap();
        let mut got = client.buffer.len();
        let mut part = vec![0; 256 << 10];
        while got < TOTAL && head.starts_with("POST") {
            got += client.stream.read(&mut part).await.unwrap();
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\nX-Got: {got}\r\n\r\n");
        client.send(head.as_bytes()).await;
        for _ in 0..TOTAL / part.len() {
            client.send(&part).await;
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let before = resident_bytes();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n");
    client.send(head.as_bytes()).await;
    let part = vec![1; 256 << 10];
    for _ in 0..TOTAL / part.len() {
        client.send(&part).await;
    }
    let head = client.read_head().await.unwrap();
    assert!(head.contains(&format!("X-Got: {TOTAL}")), "{head}");
    let mut got = client.buffer.len();
    let mut into = vec![0; 256 << 10];
    let mut most = 0;
    while got < TOTAL {
        got += client.stream.read(&mut into).await.unwrap();
        most = most.max(resident_bytes());
    }
    assert_eq!(got, TOTAL);
    assert!(most < before + (20 << 20), "{before} grew to {most}");
}

/// This process, which the proxy is part of.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A reader that stops reading stops the writer, through the proxy.
#[tokio::test]
async fn a_slow_reader_holds_the_service_back() {
    let (sent, was_sent) = tokio::sync::watch::channel(0usize);
    let toy = Toy::raw(move |mut client| {
        let sent = sent.clone();
        async move {
            client.read_request().await;
            client
                .send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            let chunk = [b"10000\r\n".as_slice(), &[0; 65536], b"\r\n"].concat();
            while client.stream.write_all(&chunk).await.is_ok() {
                sent.send_modify(|sent| *sent += 65536);
            }
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut last = 0;
    let mut was_sent = was_sent;
    // It stops by itself: no more for a whole second.
    while tokio::time::timeout(Duration::from_secs(1), was_sent.changed())
        .await
        .is_ok()
    {
        last = *was_sent.borrow_and_update();
        assert!(last < 64 << 20, "nothing holds the service back");
    }
    assert!(last > 0);
    client.read_more().await;
}

#[tokio::test]
async fn continue_is_passed_on_and_given_if_the_service_is_silent() {
    let polite = Toy::raw(|mut client| async move {
        let head = client.read_head().await.unwrap();
        assert!(head.contains("Expect: 100-continue"));
        client
            .send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            .await;
        while client.buffer.len() < 4 {
            client.read_more().await;
        }
        client.send(&ok("done")).await;
    })
    .await;
    let silent = Toy::http(|_| ok("done")).await;
    for (toy, hints) in [(&polite, true), (&silent, false)] {
        let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
        let mut client = proxy.client().await;
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let first = client.request(head).await;
        assert_eq!(first.status, 100);
        if hints {
            assert_eq!(client.answer().await.status, 103);
        }
        client.send(b"body").await;
        let last = client.answer().await;
        assert_eq!((last.status, last.text()), (200, "done"));
    }
}

#[tokio::test]
async fn an_early_answer_is_passed_on_and_ends_the_connection() {
    let toy = Toy::raw(|mut client| async move {
        client.read_head().await;
        client.send(&answer("403 Forbidden", b"no")).await;
        client.read_to_end().await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst")
        .await;
    let early = client.answer().await;
    assert_eq!((early.status, early.text()), (403, "no"));
    assert_eq!(early.field("connection"), Some("close"));
    assert!(client.read_to_end().await && client.buffer.is_empty());
}

#[tokio::test]
async fn a_service_may_answer_while_it_reads() {
    let toy = Toy::raw(|mut client| async move {
        client.read_head().await;
        client
            .send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        loop {
            if let Some(end) = find(&client.buffer, b"end") {
                client.buffer.truncate(end);
                break;
            }
            let part = std::mem::take(&mut client.buffer);
            if !part.is_empty() {
                let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat();
                client.send(&chunk).await;
            }
            client.read_more().await;
        }
        client.send(b"0\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100013\r\n\r\n")
        .await;
    client.read_head().await.unwrap();
    client.send(&[b'.'; 100_000]).await;
    for part in ["first", "other"] {
        client.send(part.as_bytes()).await;
        while find(&client.buffer, part.as_bytes()).is_none() {
            assert!(client.read_more().await);
        }
    }
    client.send(b"end").await;
    while find(&client.buffer, b"0\r\n\r\n").is_none() {
        assert!(client.read_more().await);
    }
}

#[tokio::test]
async fn http_1_0_clients_get_what_they_understand() {
    let toy = mirror().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = proxy.client().await;
    let kept = client
        .request("POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(
        (kept.text(), kept.field("connection")),
        ("hi", Some("keep-alive"))
    );
    let last = client
        .request("POST /chunked HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(last.field("transfer-encoding"), None);
    assert_eq!(
        (last.text(), last.field("connection")),
        ("hello", Some("close"))
    );
    until("the connection is counted out", || {
        proxy.handle.stats()[0].in_flight == 0
    })
    .await;
}
