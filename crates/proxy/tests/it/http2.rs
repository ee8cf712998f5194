//! HTTP/2 from clients and to services: the same rules, another coat.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use atoll_proxy::{ErrorKind, Protocol, RouteConfig};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::toys::*;

/// A client of the edge; its connection goes on by itself.
async fn client(proxy: &Proxy) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(proxy.handle.edge_addr()).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://example.com{path}"))
        .body(())
        .unwrap()
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://example.com{path}"))
        .body(())
        .unwrap()
}

async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

/// Sends as the window allows.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.expect("the stream is open")?;
        let piece = data.split_to(room.min(data.len()));
        stream.send_data(piece, end && data.is_empty())?;
    }
    Ok(())
}

async fn fetch(send: &mut SendRequest<Bytes>, request: Request<()>) -> Response<Vec<u8>> {
    let (response, _) = send.send_request(request, true).unwrap();
    let exchange = async {
        let (parts, mut body) = response.await.unwrap().into_parts();
        let (bytes, _) = read(&mut body).await.unwrap();
        Response::from_parts(parts, bytes)
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

/// A service that speaks HTTP/2 and treats each request as a test says.
struct Http2Toy {
    endpoint: Arc<atoll_proxy::Endpoint>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Http2Toy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2Toy {
    async fn serve<F, S>(serve: F) -> Self
    where
        F: Fn(Request<RecvStream>, h2::server::SendResponse<Bytes>) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = endpoint_at(listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (Arc::clone(&connections), Arc::new(serve));
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, SeqCst);
                let serve = Arc::clone(&serve);
                served.spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(serve(request, respond));
                    }
                });
            }
        });
        Self {
            endpoint,
            connections,
            task: task.abort_handle(),
        }
    }

    /// Answers with the fields and the body it got, and with the trailers it got.
    async fn echo() -> Self {
        Self::serve(|request, mut respond| async move {
            let (parts, mut body) = request.into_parts();
            let mut response = Response::builder().status(200);
            for (name, value) in &parts.headers {
                response = response.header(format!("got-{name}"), value);
            }
            let response = response
                .header("got-path", parts.uri.path())
                .body(())
                .unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            let (bytes, trailers) = read(&mut body).await.unwrap();
            if !bytes.is_empty() {
                send(&mut stream, bytes.into(), false).await.unwrap();
            }
            stream.send_trailers(trailers.unwrap_or_default()).unwrap();
        })
        .await
    }

    fn behind(self, proxy: Proxy) -> (Self, Proxy) {
        proxy.publish_as(
            &[("orders", RouteConfig::new("/**"))],
            &[("orders", &[Arc::clone(&self.endpoint)])],
            Protocol::H2c,
        );
        (self, proxy)
    }
}

#[tokio::test]
async fn a_client_of_http2_reaches_a_service_of_http1() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    let mut request = get("/a/../b?x=1");
    let fields = request.headers_mut();
    fields.insert("x-own", HeaderValue::from_static("1"));
    fields.append("cookie", HeaderValue::from_static("a=1"));
    fields.append("cookie", HeaderValue::from_static("b=2"));
    fields.insert("x-forwarded-for", HeaderValue::from_static("9.9.9.9"));
    let response = fetch(&mut client, request).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("x-trace-id"));
    let text = String::from_utf8(response.into_body()).unwrap();
    assert!(text.starts_with("GET /b?x=1 HTTP/1.1\r\n"), "{text}");
    let text = text.to_ascii_lowercase();
    for line in [
        "\r\nhost: example.com\r\n",
        "\r\nx-own: 1\r\n",
        "\r\ncookie: a=1; b=2\r\n",
        "\r\ntraceparent: 00-",
        "\r\nvia: 2 atoll\r\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(!text.contains("9.9.9.9"), "{text}");
}

#[tokio::test]
async fn many_requests_share_a_connection_and_each_leaves_a_span() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    // From then on, the client knows how many it may have at once.
    fetch(&mut client, get("/first")).await;
    let mut all = tokio::task::JoinSet::new();
    for at in 0..300 {
        let client = client.clone();
        all.spawn(async move {
            let mut client = client.ready().await.unwrap();
            let response = fetch(&mut client, get(&format!("/n/{at}"))).await;
            assert_eq!(response.status(), 200);
            let text = String::from_utf8(response.into_body()).unwrap();
            assert!(text.starts_with(&format!("GET /n/{at} ")), "{text}");
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    for at in [0, 299] {
        let path = format!("/n/{at}");
        let span = proxy.spans.find(|span| span.path == path).await;
        assert_eq!((span.status, span.error), (200, None));
    }
}

#[tokio::test]
async fn bodies_of_any_size_pass_in_both_directions() {
    for announced in [false, true] {
        let toy = Toy::echo().await;
        let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
        let mut client = client(&proxy).await;
        let payload: Bytes = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
        let mut request = post("/echo");
        if announced {
            let length = HeaderValue::from(payload.len());
            request.headers_mut().insert("content-length", length);
        }
        let (response, mut stream) = client.send_request(request, false).unwrap();
        let exchange = async {
            send(&mut stream, payload.clone(), true).await.unwrap();
            let (parts, mut body) = response.await.unwrap().into_parts();
            assert_eq!(parts.status, 200);
            read(&mut body).await.unwrap().0
        };
        let body = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
        let at = body
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
            .unwrap();
        assert!(body[at + 4..] == payload[..], "announced: {announced}");
    }
}

#[tokio::test]
async fn trailers_cross_between_the_versions() {
    // What the client of HTTP/2 sends last reaches the service behind the last chunk, and back.
    let toy = Toy::raw(|mut client| async move {
        let head = client.read_head().await.unwrap();
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let seen = client.read_until(b"x-sum: 7\r\n\r\n").await;
        assert!(seen.ends_with(b"0\r\nx-sum: 7\r\n\r\n"), "{:?}", String::from_utf8_lossy(&seen));
        client.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-back: 8\r\n\r\n").await;
        client.read_head().await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    let (response, mut stream) = client.send_request(post("/"), false).unwrap();
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    stream.send_trailers(trailers).unwrap();
    let exchange = async {
        let mut body = response.await.unwrap().into_body();
        read(&mut body).await.unwrap()
    };
    let (body, trailers) = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    assert_eq!(body, b"hi");
    assert_eq!(trailers.unwrap()["x-back"], "8");
}

#[tokio::test]
async fn a_service_of_http2_is_reached_from_both_versions() {
    let (toy, proxy) = Http2Toy::echo().await.behind(Proxy::start());
    let answer = proxy.client().await.post("/one", b"hello").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.field("got-path"), Some("/one"));
    assert!(answer.field("got-traceparent").is_some());
    let mut client = client(&proxy).await;
    for _ in 0..20 {
        let mut request = post("/two");
        request
            .headers_mut()
            .insert("te", HeaderValue::from_static("trailers"));
        let (response, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        stream.send_trailers(trailers).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["got-te"], "trailers");
        let (body, trailers) = read(&mut response.into_body()).await.unwrap();
        assert_eq!(body, b"abc");
        assert_eq!(trailers.unwrap()["x-sum"], "7");
    }
    assert!(toy.connections.load(SeqCst) <= 2, "one for each worker");
}

#[tokio::test]
async fn both_directions_of_a_stream_are_alive_at_once() {
    let (_toy, proxy) = Http2Toy::serve(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        stream.send_trailers(HeaderMap::new()).unwrap();
    })
    .await
    .behind(Proxy::start());
    let mut client = client(&proxy).await;
    let (response, mut stream) = client.send_request(post("/talk"), false).unwrap();
    let talk = async {
        let mut body = response.await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            stream.send_data(Bytes::from(word), false).unwrap();
            let back = body.data().await.unwrap().unwrap();
            assert_eq!(back, word);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert!(read(&mut body).await.unwrap().0.is_empty());
    };
    tokio::time::timeout(PATIENCE, talk).await.unwrap();
}

#[tokio::test]
async fn a_request_that_was_refused_untouched_is_sent_again() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let (_toy, proxy) = Http2Toy::serve(move |_, mut respond| {
        let first = counter.fetch_add(1, SeqCst) == 0;
        async move {
            if first {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                respond.send_response(Response::new(()), true).unwrap();
            }
        }
    })
    .await
    .behind(Proxy::start());
    // Not idempotent: only the refusal makes it safe.
    let other = Http2Toy::echo().await;
    proxy.publish_as(
        &[("orders", RouteConfig::new("/**"))],
        &[(
            "orders",
            &[Arc::clone(&_toy.endpoint), Arc::clone(&other.endpoint)],
        )],
        Protocol::H2c,
    );
    for _ in 0..20 {
        let answer = proxy.client().await.post("/", b"x").await;
        assert_eq!(answer.status, 200);
    }
    assert!(refused.load(SeqCst) >= 1);
    let span = proxy.spans.find(|span| span.retries > 0).await;
    assert_eq!(span.status, 200);
}

#[tokio::test]
async fn a_service_that_resets_is_answered_for() {
    let (_toy, proxy) = Http2Toy::serve(|_, mut respond| async move {
        respond.send_reset(Reason::INTERNAL_ERROR);
    })
    .await
    .behind(Proxy::start());
    let answer = proxy.client().await.post("/", b"x").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["type"], "urn:atoll:problem:bad-answer");
}

#[tokio::test]
async fn an_answer_that_is_cut_ends_in_a_reset() {
    let toy = Toy::raw(|mut client| async move {
        client.read_head().await;
        client
            .send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf")
            .await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    let (response, _) = client.send_request(get("/"), true).unwrap();
    // The reset may overtake what it cuts off.
    let cut = async {
        let mut body = response.await?.into_body();
        read(&mut body).await
    };
    let error = tokio::time::timeout(PATIENCE, cut)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let span = proxy.spans.find(|span| span.error.is_some()).await;
    assert_eq!(span.error, Some(ErrorKind::AnswerCut));
}

#[tokio::test]
async fn a_client_that_resets_its_stream_frees_the_service() {
    let toy = Toy::raw(|mut client| async move {
        client.read_head().await;
        // The proxy closes its connection: there is nobody to answer.
        client.read_head().await;
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    let (response, mut stream) = client.send_request(get("/slow"), true).unwrap();
    eventually("the service has it", || {
        (toy.connections() == 1).then_some(())
    })
    .await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    let span = proxy.spans.find(|span| span.path == "/slow").await;
    assert_eq!(span.error, Some(ErrorKind::ClientGone));
}

#[tokio::test]
async fn what_the_proxy_refuses_is_a_problem_and_for_grpc_a_status() {
    let proxy = Proxy::start();
    proxy.publish(
        &[("orders", RouteConfig::new("/orders"))],
        &[("orders", &[])],
    );
    let mut client = client(&proxy).await;
    let response = fetch(&mut client, get("/nowhere")).await;
    assert_eq!(response.status(), 404);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    for (path, status, words) in [
        ("/nowhere", "12", "no route leads to this path"),
        ("/orders", "14", "orders has no ready instance"),
    ] {
        let mut request = post(path);
        request.headers_mut().insert(
            "content-type",
            HeaderValue::from_static("application/grpc+proto"),
        );
        let response = fetch(&mut client, request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], status);
        let message = response.headers()["grpc-message"].to_str().unwrap();
        assert!(message.starts_with(words), "{message}");
        assert!(response.body().is_empty());
    }
}

#[tokio::test]
async fn two_different_hosts_are_refused() {
    let toy = Toy::echo().await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    let mut request = get("/");
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("other.example"));
    let (response, _) = client.send_request(request, true).unwrap();
    let error = response.await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    assert_eq!(toy.requests(), 0);
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection_and_is_counted() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let proxy = Proxy::start();
    let mut stream = TcpStream::connect(proxy.handle.edge_addr()).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let ping = *b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    let flood = async {
        // Until the proxy has had enough.
        while stream.write_all(&ping).await.is_ok() {
            let mut some = [0; 4096];
            if matches!(stream.try_read(&mut some), Ok(0)) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    tokio::time::timeout(PATIENCE, flood).await.unwrap();
    eventually("it is counted", || {
        (proxy.handle.floods() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stopping_lets_streams_finish_and_says_goodbye() {
    let (gate, opened) = tokio::sync::watch::channel(false);
    let toy = Toy::raw(move |mut client| {
        let mut opened = opened.clone();
        async move {
            client.read_head().await;
            opened.wait_for(|open| *open).await.unwrap();
            client.send(&ok("late")).await;
            client.read_head().await;
        }
    })
    .await;
    let proxy = Proxy::start().forward_to(&[toy.endpoint()]);
    let mut client = client(&proxy).await;
    let (response, _) = client.send_request(get("/"), true).unwrap();
    eventually("the service has it", || {
        (toy.connections() == 1).then_some(())
    })
    .await;
    let handle = proxy.handle.clone();
    let stopping = tokio::spawn(async move { handle.stop(PATIENCE).await });
    // A new connection is refused once it stops.
    let addr = proxy.handle.edge_addr();
    eventually("it stops", || {
        std::net::TcpStream::connect(addr).is_err().then_some(())
    })
    .await;
    gate.send(true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(read(&mut body).await.unwrap().0, b"late");
    tokio::time::timeout(PATIENCE, stopping)
        .await
        .unwrap()
        .unwrap();
    assert!(client.ready().await.is_err());
}

#[tokio::test]
async fn slices_of_a_preface_are_recognised() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let proxy = Proxy::start();
    let mut stream = TcpStream::connect(proxy.handle.edge_addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in [
        &b"P"[..],
        b"RI * HTT",
        b"P/2.0\r",
        b"\n\r\nSM\r\n\r\n",
        b"\0\0\0\x04\0\0\0\0\0",
    ] {
        stream.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "SETTINGS come first");
}

#[tokio::test]
async fn what_http2_has_no_words_for_is_escaped_or_refused_and_costs_the_service_nothing() {
    let toy = Http2Toy::serve(|request, mut respond| async move {
        let target = request.uri().path_and_query().unwrap().to_string();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        send(&mut stream, target.into(), true).await.unwrap();
    })
    .await;
    let (_toy, proxy) = toy.behind(Proxy::start());
    let mut client = proxy.client().await;
    let answer = client.get("/a`<>b?c=\"<>`").await;
    assert_eq!(
        (answer.status, answer.text()),
        (200, "/a%60%3C%3Eb?c=%22%3C%3E%60")
    );
    let host = "GET / HTTP/1.1\r\nHost: [::::::::::1]\r\n\r\n";
    assert_eq!(client.request(host).await.status, 400);
}
