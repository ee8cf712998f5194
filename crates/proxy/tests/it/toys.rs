//! A proxy to test, toy services for it to call, and a client that sees every byte.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atoll_base::{InstanceId, RevisionNumber, ServiceName};
use atoll_proxy::{
    Cluster, Config, Denials, Dependency, EdgeConfig, Endpoint, ErrorKind, Handle, MeshConfig,
    Protocol, RouteConfig, RouteTable, Service, Snapshot, SpanBatch, SpanSink, mesh_address,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Nothing in these tests takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// A proxy on ports of its own, with everything it told about requests.
pub(crate) struct Proxy {
    pub(crate) handle: Handle,
    pub(crate) spans: Arc<Spans>,
}

/// What the proxy told about requests.
#[derive(Default)]
pub(crate) struct Spans(Mutex<Vec<Span>>);

#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) parent: Option<String>,
    pub(crate) caller: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) route: Option<String>,
    pub(crate) topic: Option<String>,
    /// Of the bodies of request and answer.
    pub(crate) bytes: (u64, u64),
    pub(crate) status: u16,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) retries: u8,
    pub(crate) inferred: bool,
    pub(crate) side: atoll_proxy::Side,
    pub(crate) duration: Duration,
    pub(crate) start: atoll_base::Timestamp,
}

impl SpanSink for Spans {
    fn spans(&self, batch: SpanBatch) {
        let mut spans = self.0.lock().unwrap();
        spans.extend(batch.iter().map(|span| Span {
            trace: span.trace.to_string(),
            span: span.span.to_string(),
            parent: span.parent.map(|parent| parent.to_string()),
            caller: span.caller.map(ToString::to_string),
            service: span.service.map(ToString::to_string),
            instance: span.instance.map(ToString::to_string),
            method: span.method.to_owned(),
            path: span.path.to_owned(),
            route: span.route.map(str::to_owned),
            topic: span.topic.map(str::to_owned),
            bytes: (span.received, span.sent),
            status: span.status,
            error: span.error,
            retries: span.retries,
            inferred: span.inferred,
            side: span.side,
            duration: span.duration,
            start: span.start,
        }));
    }
}

impl Spans {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The first span that fits; waits for it.
    pub(crate) async fn find(&self, fits: impl Fn(&Span) -> bool) -> Span {
        eventually("a span that fits", || {
            let spans = self.0.lock().unwrap();
            spans.iter().find(|span| fits(span)).cloned()
        })
        .await
    }
}

impl Proxy {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            edge: EdgeConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                ..EdgeConfig::default()
            },
            mesh: MeshConfig {
                port: 0,
                ..MeshConfig::default()
            },
            threads: std::num::NonZeroUsize::new(2),
            failed_spans_only: false,
            auth: HashMap::new(),
        };
        change(&mut config);
        let spans = Arc::new(Spans::default());
        let sink: Arc<dyn SpanSink> = Arc::<Spans>::clone(&spans);
        let handle = Service::bind(config, sink).unwrap().start();
        Self { handle, spans }
    }

    /// One service for every path.
    pub(crate) fn forward_to(self, endpoints: &[Arc<Endpoint>]) -> Self {
        self.publish(
            &[("orders", RouteConfig::new("/**"))],
            &[("orders", endpoints)],
        );
        self
    }

    /// Routes and services; every pair of services is a dependency, numbered in order.
    pub(crate) fn publish(
        &self,
        routes: &[(&str, RouteConfig)],
        clusters: &[(&str, &[Arc<Endpoint>])],
    ) {
        self.publish_with(routes, clusters, Duration::from_secs(10));
    }

    pub(crate) fn publish_with(
        &self,
        routes: &[(&str, RouteConfig)],
        clusters: &[(&str, &[Arc<Endpoint>])],
        timeout: Duration,
    ) {
        self.publish_all(routes, clusters, |cluster| cluster.timeout = timeout);
    }

    /// The same with services that speak `protocol`.
    pub(crate) fn publish_as(
        &self,
        routes: &[(&str, RouteConfig)],
        clusters: &[(&str, &[Arc<Endpoint>])],
        protocol: Protocol,
    ) {
        self.publish_all(routes, clusters, |cluster| cluster.protocol = protocol);
    }

    /// No routes, and services that do not answer certain calls.
    pub(crate) fn publish_denying(&self, clusters: &[(&str, &[Arc<Endpoint>])], denials: Denials) {
        let denials = Arc::new(denials);
        self.publish_all(&[], clusters, |cluster| {
            cluster.denials = Some(Arc::clone(&denials));
        });
    }

    /// The same with changes to each cluster.
    pub(crate) fn publish_all(
        &self,
        routes: &[(&str, RouteConfig)],
        clusters: &[(&str, &[Arc<Endpoint>])],
        change: impl Fn(&mut Cluster),
    ) {
        let routes = routes
            .iter()
            .map(|(service, route)| (name(service), route.clone()));
        let mut mesh = HashMap::new();
        for (caller, _) in clusters {
            for (callee, _) in clusters {
                let dependency = Dependency {
                    caller: name(caller),
                    callee: name(callee),
                };
                mesh.insert(mesh_address(mesh.len() as u32), dependency);
            }
        }
        let clusters = clusters.iter().map(|(service, endpoints)| {
            let mut cluster = Cluster {
                protocol: Protocol::Http1,
                denials: None,
                introduce: None,
                rate: None,
                resilience: Default::default(),
                dependencies: Default::default(),
                service: name(service),
                endpoints: endpoints.to_vec(),
                timeout: Duration::from_secs(10),
                slow_after: None,
            };
            change(&mut cluster);
            (name(service), Arc::new(cluster))
        });
        self.handle.publish(Snapshot {
            routes: RouteTable::build(routes).unwrap(),
            clusters: clusters.collect(),
            mesh,
        });
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.handle.edge_addr()).await
    }

    pub(crate) async fn mesh_client(&self, index: u32) -> Client {
        Client::connect(SocketAddr::from((
            mesh_address(index),
            self.handle.mesh_port(),
        )))
        .await
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client().await.get(path).await
    }
}

/// A service that does what a test tells it. Dropped, it is gone as if killed.
pub(crate) struct Toy {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a toy service got.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn fields(&self, name: &str) -> usize {
        fields(&self.head, name).count()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

impl Toy {
    /// Hands every connection to `serve`.
    pub(crate) async fn raw<F, S>(serve: F) -> Self
    where
        F: Fn(Client) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            // Aborted together with the task: what it serves dies with it.
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, SeqCst);
                served.spawn(serve(Client::new(stream)));
            }
        });
        Self {
            addr,
            connections,
            requests: Arc::default(),
            task: task.abort_handle(),
        }
    }

    /// Answers each request with the bytes that `answer` makes.
    pub(crate) async fn http(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let requests: Arc<AtomicUsize> = Arc::default();
        let (counter, answer) = (Arc::clone(&requests), Arc::new(answer));
        let mut toy = Self::raw(move |mut client| {
            let (counter, answer) = (Arc::clone(&counter), Arc::clone(&answer));
            async move {
                while let Some(request) = client.read_request().await {
                    counter.fetch_add(1, SeqCst);
                    if client.stream.write_all(&answer(&request)).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        toy.requests = requests;
        toy
    }

    /// Answers 200 with its name, which is also in the head.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::http(move |_| ok(name)).await
    }

    /// Answers with the request that it got, head and body.
    pub(crate) async fn echo() -> Self {
        Self::http(|request| {
            let mut body = request.head.clone().into_bytes();
            body.extend_from_slice(&request.body);
            answer("200 OK", &body)
        })
        .await
    }

    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        endpoint_at(self.addr)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// An endpoint of `orders` at an address; each has an instance of its own.
pub(crate) fn endpoint_at(addr: SocketAddr) -> Arc<Endpoint> {
    static ORDINAL: AtomicU32 = AtomicU32::new(1);
    let ordinal = ORDINAL.fetch_add(1, SeqCst);
    Endpoint::new(
        InstanceId::new(name("orders"), RevisionNumber(1), ordinal),
        addr,
    )
}

/// An address where nobody listens.
pub(crate) async fn dead_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A whole answer.
pub(crate) fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

pub(crate) fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", body.as_bytes())
}

/// One end of a connection, with what was read and not used.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

/// An answer, as the client saw it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// It ended as it said that it would.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n"))
            .await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(head.as_bytes()).await;
        self.send(body).await;
        self.answer().await
    }

    pub(crate) async fn request(&mut self, text: &str) -> Answer {
        self.send(text.as_bytes()).await;
        self.answer_to(text.starts_with("HEAD ")).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to(false).await
    }

    pub(crate) async fn answer_to(&mut self, to_head: bool) -> Answer {
        let read = async {
            let head = self.read_head().await.expect("an answer begins");
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let bodiless = to_head || status < 200 || status == 204 || status == 304;
            let (body, complete) = if bodiless {
                (Vec::new(), true)
            } else {
                self.read_body(&head, true).await
            };
            Answer {
                status,
                head,
                body,
                complete,
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("an answer in time")
    }

    /// The next request of a connection, at a service.
    pub(crate) async fn read_request(&mut self) -> Option<Request> {
        let head = self.read_head().await?;
        let (body, complete) = self.read_body(&head, false).await;
        complete.then_some(Request { head, body })
    }

    /// A head with its empty line; none at the end of the connection.
    pub(crate) async fn read_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    async fn read_body(&mut self, head: &str, is_answer: bool) -> (Vec<u8>, bool) {
        if let Some(length) = field(head, "content-length") {
            return self.read_exactly(length.parse().unwrap()).await;
        }
        if field(head, "transfer-encoding").is_some() {
            return self.read_chunks().await;
        }
        if is_answer {
            let clean = self.read_to_end().await;
            return (std::mem::take(&mut self.buffer), clean);
        }
        (Vec::new(), true)
    }

    async fn read_exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.buffer.len() < length {
            if !self.read_more().await {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
        (self.buffer.drain(..length).collect(), true)
    }

    async fn read_chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.read_line().await else {
                return (body, false);
            };
            let size = line.split(';').next().unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                while let Some(trailer) = self.read_line().await {
                    if trailer.is_empty() {
                        return (body, true);
                    }
                    body.extend_from_slice(format!("[{trailer}]").as_bytes());
                }
                return (body, false);
            }
            let (chunk, complete) = self.read_exactly(size + 2).await;
            if !complete {
                return (body, false);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    /// Everything up to and including `end`.
    pub(crate) async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            if !self.read_more().await {
                return std::mem::take(&mut self.buffer);
            }
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// Reads until the connection is closed. False if it was reset.
    pub(crate) async fn read_to_end(&mut self) -> bool {
        let read = self.stream.read_to_end(&mut self.buffer);
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the connection ends")
            .is_ok()
    }

    /// Whether there is more; false at the end.
    pub(crate) async fn read_more(&mut self) -> bool {
        let mut part = vec![0; 64 << 10];
        let read = self.stream.read(&mut part);
        let read = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("more bytes, or the end");
        let length = read.unwrap_or(0);
        self.buffer.extend_from_slice(&part[..length]);
        length > 0
    }
}

pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    fields(head, name).next()
}

fn fields<'a>(head: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    head.lines().skip(1).filter_map(move |line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Looks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(())).await;
}
