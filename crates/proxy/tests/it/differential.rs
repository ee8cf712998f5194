//! Message framing, compared with nginx and HAProxy: where a request ends is what smuggling is made
//! of, and two independent readers are better than our own idea of right.
//!
//! Each input goes to all three, each in front of a service of its own that takes down what it gets.
//! What must hold: Atoll refuses an input, or its service sees what the service of a peer sees. What is
//! plainly valid, all three see alike. Peers may take what Atoll refuses: it is stricter on purpose.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::toys::*;

/// A program in front of a service, and what the service got: method, target and body.
struct Peer {
    addr: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
    _service: Toy,
    _program: Option<Program>,
}

/// Ended when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long a connection may be silent before the input counts as one whose end is awaited.
const SILENCE: Duration = Duration::from_millis(250);

impl Peer {
    async fn new(start: impl FnOnce(SocketAddr) -> (SocketAddr, Option<Program>)) -> Self {
        let got: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&got);
        let service = Toy::http(move |request| {
            let line: Vec<&str> = request.head.split(' ').take(2).collect();
            // Names of trailers have no case.
            let body = String::from_utf8_lossy(&request.body).to_ascii_lowercase();
            let seen = format!("{} {} {body:?}", line[0], line[1]);
            log.lock().unwrap().push(seen);
            ok("")
        })
        .await;
        let (addr, program) = start(service.addr);
        let peer = Self {
            addr,
            got,
            _service: service,
            _program: program,
        };
        until("it listens", || std::net::TcpStream::connect(addr).is_ok()).await;
        peer
    }

    /// What the service gets of an input, and the status of the last answer.
    async fn ask(&self, input: &[u8]) -> (Vec<String>, u16) {
        self.got.lock().unwrap().clear();
        let mut client = Client::connect(self.addr).await;
        client.send(input).await;
        while let Ok(true) = tokio::time::timeout(SILENCE, client.read_more()).await {}
        let answers = String::from_utf8_lossy(&client.buffer).into_owned();
        let lines = answers.split("\r\n");
        let statuses = lines.filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3));
        let last = statuses.last().map_or(0, |digits| digits.parse().unwrap());
        (self.got.lock().unwrap().clone(), last)
    }
}

fn free_addr() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn program(command: &mut Command) -> Option<Program> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Some(Program(command.spawn().expect("it is installed")))
}

fn nginx(home: &std::path::Path, service: SocketAddr) -> (SocketAddr, Option<Program>) {
    let (addr, home) = (free_addr(), home.display());
    let config = format!(
        "daemon off; master_process off; worker_processes 1; error_log {home}/error.log; pid {home}/pid;
         events {{ }}
         http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p;
           fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
           server {{ listen {addr}; location / {{ proxy_pass http://{service}; proxy_http_version 1.1; }} }} }}"
    );
    let file = format!("{home}/nginx.conf");
    std::fs::write(&file, config).unwrap();
    (addr, program(Command::new("nginx").args(["-c", &file])))
}

fn haproxy(home: &std::path::Path, service: SocketAddr) -> (SocketAddr, Option<Program>) {
    let addr = free_addr();
    let config = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         frontend f\n bind {addr}\n default_backend b\nbackend b\n server s {service}\n"
    );
    let file = home.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    (
        addr,
        program(Command::new("haproxy").arg("-db").arg("-f").arg(file)),
    )
}

/// Fields that frame, the body that follows, and whether all take it.
const FRAMINGS: &[(&str, &str, bool)] = &[
    // Valid.
    ("Content-Length: 4\r\n", "abcd", true),
    ("content-length:4\r\n", "abcd", true),
    ("Content-Length: \t 4  \r\n", "abcd", false),
    ("Content-Length: 0\r\n", "", true),
    (
        "Transfer-Encoding: chunked\r\n",
        "4\r\nabcd\r\n0\r\n\r\n",
        true,
    ),
    (
        "Transfer-Encoding: Chunked\r\n",
        "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
        true,
    ),
    ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", true),
    (
        "Transfer-Encoding: chunked\r\n",
        "004\r\nabcd\r\n000\r\n\r\n",
        true,
    ),
    // Of two minds.
    ("Content-Length: 4\r\nContent-Length: 4\r\n", "abcd", false),
    ("Content-Length: 4, 4\r\n", "abcd", false),
    ("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde", false),
    (
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "0\r\n\r\n",
        false,
    ),
    ("Transfer-Encoding: identity\r\n", "", false),
    (
        "Transfer-Encoding: identity, chunked\r\n",
        "0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked, identity\r\n",
        "0\r\n\r\n",
        false,
    ),
    ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", false),
    ("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n", false),
    ("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n", false),
    ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n", false),
    ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", false),
    (" Transfer-Encoding: chunked\r\n", "0\r\n\r\n", false),
    (
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        false,
    ),
    ("X: a\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", false),
    ("X: a\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n", false),
    ("Transfer_Encoding: chunked\r\n", "", false),
    ("Content_Length: 4\r\n", "", false),
    (
        "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
        "0\r\n\r\n",
        false,
    ),
    (
        "Content-Length: 4\r\nConnection: Content-Length\r\n",
        "abcd",
        false,
    ),
    // Lengths that are none.
    ("Content-Length: +4\r\n", "abcd", false),
    ("Content-Length: -4\r\n", "abcd", false),
    ("Content-Length: 0x4\r\n", "abcd", false),
    ("Content-Length: 4 4\r\n", "abcd", false),
    ("Content-Length: 4a\r\n", "abcd", false),
    ("Content-Length: \r\n", "", false),
    ("Content-Length: 99999999999999999999\r\n", "abcd", false),
    ("Content-Length: 18446744073709551620\r\n", "abcd", false),
    // Chunks that are none.
    (
        "Transfer-Encoding: chunked\r\n",
        "4 \r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        " 4\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "0x4\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "+4\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "-4\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "4\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "4\r\nabcd\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "4\r\nabcdX\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "4;a=b\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "4;a=\"\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "4;a\nb\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "10000000000000004\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "fffffffffffffffff\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "\r\nabcd\r\n0\r\n\r\n",
        false,
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "0\r\nContent-Length: 9\r\n\r\n",
        false,
    ),
    ("Transfer-Encoding: chunked\r\n", "0\r\nX: y\r\n\r\n", false),
    ("Transfer-Encoding: chunked\r\n", "0\r\nX: y\n\n", false),
];

/// Inputs of one kind of framing each; every one is followed by another request.
fn inputs() -> Vec<(String, bool)> {
    let next = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut inputs = Vec::new();
    for (fields, body, valid) in FRAMINGS.iter().copied() {
        for method in ["POST", "GET"] {
            let head = format!("{method} /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            inputs.push((format!("{head}{body}{next}"), valid));
        }
    }
    let old = "POST /first HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for text in [
        old.to_owned(),
        old.replace("1.0", "1.2"),
        old.replace("HTTP/1.0", "HTTP/2.0"),
        old.replace("HTTP/1.0", "http/1.1"),
        old.replace("POST /first", "POST  /first"),
        old.replace("POST /first", "POST\t/first"),
        old.replace(" HTTP/1.0", ""),
        old.replace("Host: a", "Host: a\r\nHost: b"),
        old.replace("Host: a", "Host: a b"),
        "POST /first HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "\r\n\r\nPOST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "\n\nPOST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "POST /first HTTP/1.1\nHost: a\nContent-Length: 0\n\n".to_owned(),
        "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\n".to_owned(),
    ] {
        inputs.push((format!("{text}{next}"), false));
    }
    inputs
}

#[tokio::test]
async fn what_is_passed_on_ends_where_others_see_its_end() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut own = None;
    let atoll = Peer::new(|service| {
        let proxy = Proxy::start().forward_to(&[endpoint_at(service)]);
        let addr = proxy.handle.edge_addr();
        own = Some(proxy);
        (addr, None)
    })
    .await;
    let peers = [
        Peer::new(|service| nginx(homes[0].path(), service)).await,
        Peer::new(|service| haproxy(homes[1].path(), service)).await,
    ];
    let mut taken = 0;
    for (input, valid) in inputs() {
        let (seen, status) = atoll.ask(input.as_bytes()).await;
        let [one, other] = [
            peers[0].ask(input.as_bytes()).await.0,
            peers[1].ask(input.as_bytes()).await.0,
        ];
        let told = || format!("{input:?}\n{seen:?} {status}\n{one:?}\n{other:?}");
        if valid {
            assert_eq!(seen.len(), 2, "{}", told());
            assert!(seen == one && seen == other, "{}", told());
        } else if seen.is_empty() {
            assert!((400..=505).contains(&status), "{}", told());
        } else if !(seen == one || seen == other) {
            // The first part was taken as a peer takes it, and the rest refused.
            let begins = |peer: &[String]| peer.starts_with(&seen);
            let refused = (400..=505).contains(&status);
            assert!(refused && (begins(&one) || begins(&other)), "{}", told());
        }
        taken += usize::from(!seen.is_empty());
    }
    assert!(taken > 16, "the valid ones and some others: {taken}");
}
