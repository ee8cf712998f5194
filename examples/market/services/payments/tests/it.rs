//! The real program on a free port with a database of its own, from outside.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

struct Service {
    process: Child,
    port: u64,
    logs: Mutex<Receiver<String>>,
}

impl Service {
    /// Without a broker: port 9 is one where nobody answers.
    fn start(folder: &Folder) -> Self {
        Self::start_with(folder, "http://127.0.0.1:9")
    }

    fn start_with(folder: &Folder, events_url: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_payments"))
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("DATABASE_URL", format!("sqlite:///{}/db.sqlite3", folder.0.display()))
            .env("EVENTS_URL", events_url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let port = first["port"].as_u64().unwrap_or_else(|| panic!("did not start: {first}"));
        let (sender, logs) = channel();
        thread::spawn(move || lines.map_while(Result::ok).for_each(|l| drop(sender.send(l))));
        Self { process, port, logs: Mutex::new(logs) }
    }

    fn call(&self, method: &str, path: &str, headers: &str, body: Value) -> (u16, Value) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port as u16)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\
             traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn charge(&self, id: &str, card: &str, headers: &str) -> (u16, Value) {
        let body = json!({ "order": "o-1", "amount_cents": 1250, "token": card });
        self.call("POST", "/charges", &format!("Idempotency-Key: {id}\r\n{headers}"), body)
    }

    fn refund(&self, id: &str) -> (u16, Value) {
        self.call("POST", &format!("/charges/{id}/refund"), "", json!({}))
    }

    fn state(&self, id: &str) -> Value {
        self.call("GET", &format!("/charges/{id}"), "", json!({})).1["state"].take()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A broker that answers what it is told to, and remembers what was published: head and body.
struct Broker {
    url: String,
    requests: Receiver<(String, Value)>,
}

impl Broker {
    /// The first requests get `statuses`, all others 201.
    fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let start = head.len();
                    stream.read_line(&mut head).unwrap();
                    let line = head[start..].to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let status = statuses.get(number).unwrap_or(&201);
                let answer = format!(
                    "HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                );
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                let body = serde_json::from_slice(&body).unwrap();
                if sender.send((head.to_ascii_lowercase(), body)).is_err() {
                    return;
                }
            }
        });
        Self { url, requests }
    }

    fn next(&self) -> (String, Value) {
        self.requests.recv_timeout(Duration::from_secs(10)).expect("something is published")
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("payments-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_charge_is_made_once_however_often_it_is_asked_for() {
    let folder = Folder::new();
    let (one, two) = (Service::start(&folder), Service::start(&folder));
    let (status, charge) = one.charge("c-1", "tok_visa", "");
    assert_eq!((status, &charge["state"]), (201, &json!("settled")));
    assert_eq!(two.charge("c-1", "tok_visa", ""), (200, charge), "on any instance");

    let other = json!({ "order": "o-1", "amount_cents": 9, "token": "tok_visa" });
    let mixed_up = one.call("POST", "/charges", "Idempotency-Key: c-1\r\n", other.clone());
    assert_eq!(mixed_up.0, 422);
    assert_eq!(one.call("POST", "/charges", "", other).0, 400, "without a key it isn't safe");
}

#[test]
fn a_settled_charge_is_told_until_it_is_heard() {
    let folder = Folder::new();
    let broker = Broker::start(&[503]);
    let service = Service::start_with(&folder, &broker.url);
    assert_eq!(service.charge("c-0", "tok_declined", "").0, 402);
    assert_eq!(service.charge("c-1", "tok_visa", "").0, 201, "a deaf broker is nobody's problem");
    let (head, body) = broker.next();
    assert_eq!(body, json!({ "charge": "c-1", "order": "o-1", "amount_cents": 1250 }));
    assert!(head.starts_with("post /topics/payments.settled "), "{head}");
    for line in [
        "idempotency-key: c-1-settled",
        "ce-id: c-1-settled",
        "ce-source: /payments",
        "ce-partitionkey: o-1",
        &format!("traceparent: 00-{TRACE}-"),
    ] {
        assert!(head.contains(&format!("\n{line}")), "{line} is not in {head}");
    }
    assert_eq!(broker.next(), (head, body), "it is refused, and sent again as it was");

    // What is told is told: the next is another.
    assert_eq!(service.charge("c-1", "tok_visa", "").0, 200);
    assert_eq!(service.charge("c-2", "tok_visa", "").0, 201);
    assert_eq!(broker.next().1["charge"], "c-2");
}

#[test]
fn what_a_dead_instance_did_not_tell_another_tells() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    assert_eq!(service.charge("c-1", "tok_visa", "").0, 201);
    drop(service);
    let broker = Broker::start(&[]);
    let _other = Service::start_with(&folder, &broker.url);
    assert_eq!(broker.next().1["charge"], "c-1");
}

#[test]
fn of_two_at_once_one_is_told_to_wait() {
    let folder = Folder::new();
    let (one, two) = (Service::start(&folder), Service::start(&folder));
    one.call("PUT", "/faults", "", json!({ "latency_ms": 800 }));
    thread::scope(|threads| {
        let first = threads.spawn(|| one.charge("c-1", "tok_visa", "").0);
        let deadline = Instant::now() + Duration::from_secs(5);
        while two.state("c-1") != "pending" {
            assert!(Instant::now() < deadline, "the charge never began");
        }
        assert_eq!(two.charge("c-1", "tok_visa", "").0, 409);
        assert_eq!(two.refund("c-1").0, 409);
        assert_eq!(first.join().unwrap(), 201);
    });
}

#[test]
fn declined_is_an_answer_not_a_failure() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    assert_eq!(service.charge("c-1", "tok_declined", "").0, 402);
    assert_eq!(service.charge("c-1", "tok_declined", "").0, 402);
    assert_eq!(service.state("c-1"), "declined");
}

#[test]
fn a_failing_bank_leaves_the_charge_unknown_until_it_is_asked_again() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    assert_eq!(service.charge("c-1", "tok_visa", "X-Fault: fail\r\n").0, 502);
    assert_eq!(service.state("c-1"), "unknown");
    let deadline = Duration::from_secs(5);
    let logs = service.logs.lock().unwrap();
    let said = std::iter::from_fn(|| logs.recv_timeout(deadline).ok())
        .find(|line| line.contains("the bank failed"))
        .expect("a line in the log");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["level"], &said["trace_id"]), (&json!("error"), &json!(TRACE)));

    assert_eq!(service.charge("c-1", "tok_visa", "").0, 201);
    assert_eq!(service.charge("c-2", "tok_visa", "X-Fault: slow\r\n").0, 504);
}

#[test]
fn faults_hold_for_all_instances_and_can_be_repaired() {
    let folder = Folder::new();
    let (one, two) = (Service::start(&folder), Service::start(&folder));
    assert_eq!(one.call("PUT", "/faults", "", json!({ "fail_rate": 1 })).0, 200);
    assert_eq!(two.charge("c-1", "tok_visa", "").0, 502);
    assert_eq!(two.call("PUT", "/faults", "", json!({})).0, 200);
    assert_eq!(one.charge("c-1", "tok_visa", "").0, 201);
    assert_eq!(one.call("PUT", "/faults", "", json!({ "fail_rate": 7 })).0, 422);
}

#[test]
fn after_a_refund_no_money_has_moved() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    service.charge("c-1", "tok_visa", "");
    assert_eq!(service.refund("c-1").0, 200);
    assert_eq!(service.refund("c-1").1["state"], "refunded");
    assert_eq!(service.charge("c-1", "tok_visa", "").0, 409);

    // A refund that overtakes its charge wins as well.
    assert_eq!(service.refund("c-2").0, 200);
    assert_eq!(service.charge("c-2", "tok_visa", "").0, 409);
}

#[test]
fn a_slow_bank_does_not_make_us_look_ill() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    service.call("PUT", "/faults", "", json!({ "latency_ms": 1500 }));
    thread::scope(|threads| {
        let charges: Vec<_> = (0..14)
            .map(|n| {
                let service = &service;
                threads.spawn(move || service.charge(&format!("c-{n}"), "tok_visa", "").0)
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(5);
        let waiting = || (0..14).filter(|n| service.state(&format!("c-{n}")) == "pending").count();
        while waiting() < 12 {
            assert!(Instant::now() < deadline, "they never all waited for the bank");
        }
        let started = Instant::now();
        assert_eq!(service.call("GET", "/healthz", "", json!({})).0, 200);
        assert!(started.elapsed() < Duration::from_millis(500), "health waits for nobody");
        let statuses: Vec<u16> = charges.into_iter().map(|c| c.join().unwrap()).collect();
        assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 12, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|s| **s == 503).count(), 2, "{statuses:?}");
    });
}

#[test]
fn finishes_what_runs_before_it_leaves() {
    let folder = Folder::new();
    let mut service = Service::start(&folder);
    service.call("PUT", "/faults", "", json!({ "latency_ms": 700 }));
    thread::scope(|threads| {
        let charge = threads.spawn(|| service.charge("c-1", "tok_visa", "").0);
        let deadline = Instant::now() + Duration::from_secs(5);
        while service.state("c-1") != "pending" {
            assert!(Instant::now() < deadline, "the charge never began");
        }
        let pid = service.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(charge.join().unwrap(), 201);
    });
    assert_eq!(service.process.wait().unwrap().code(), Some(0));
}
