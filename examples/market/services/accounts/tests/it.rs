//! The real program on a free port with a database of its own, from outside.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use base64ct::{Base64UrlUnpadded as Base64, Encoding};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};

struct Service {
    process: Child,
    port: u64,
}

impl Service {
    fn start(folder: &Folder) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_accounts"))
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("DATABASE_URL", format!("sqlite:///{}/db.sqlite3", folder.0.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let port = first["port"].as_u64().unwrap_or_else(|| panic!("did not start: {first}"));
        thread::spawn(move || lines.for_each(drop)); // so that the pipe never fills up
        Self { process, port }
    }

    fn call(&self, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port as u16)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: accounts\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn login(&self, email: &str, password: &str) -> (u16, String) {
        let body = json!({ "email": email, "password": password });
        let (status, answer) = self.call("POST", "/login", "", body);
        (status, answer["token"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("accounts-{}-{number}", std::process::id()));
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
fn an_account_lives_from_registration_to_deletion() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    let new = json!({ "email": "Grace@Example.com", "password": "nanoseconds", "name": "Grace" });
    let (status, user) = service.call("POST", "/user", "", new.clone());
    assert_eq!((status, &user["email"]), (201, &json!("grace@example.com")));
    assert_eq!(service.call("POST", "/user", "", new).0, 409, "an address has one account");

    assert_eq!(service.login("grace@example.com", "wrong-password").0, 401);
    assert_eq!(service.login("nobody@example.com", "nanoseconds").0, 401);
    let (status, token) = service.login("grace@example.com", "nanoseconds");
    assert_eq!(status, 200);
    assert_eq!(service.call("GET", "/user", &token, Value::Null), (200, user.clone()));

    let change = json!({ "name": "Admiral", "password": "microseconds" });
    assert_eq!(service.call("PATCH", "/user", &token, change).1["name"], "Admiral");
    assert_eq!(service.login("grace@example.com", "nanoseconds").0, 401);
    assert_eq!(service.login("grace@example.com", "microseconds").0, 200);

    assert_eq!(service.call("DELETE", "/user", &token, Value::Null).0, 204);
    let gone = service.call("GET", "/user", &token, Value::Null).0;
    assert_eq!(gone, 401, "a deleted account ends its tokens");
}

#[test]
fn refuses_what_makes_no_sense() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    let register = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        service.call("POST", "/user", "", body).0
    };
    assert_eq!(register("no-at-sign", "long-enough"), 422);
    assert_eq!(register("a@b", "short"), 422);
    assert_eq!(service.call("POST", "/login", "", json!("x".repeat(20_000))).0, 413);
    assert_eq!(service.call("GET", "/nothing", "", Value::Null).0, 404);
}

#[test]
fn a_token_can_be_checked_with_the_published_key_alone() {
    let folder = Folder::new();
    let service = Service::start(&folder);
    let (_, token) = service.login("ada@example.com", "correct-horse");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&Base64::decode_vec(header).unwrap()).unwrap();

    let (_, jwks) = service.call("GET", "/.well-known/jwks.json", "", Value::Null);
    let jwk = &jwks["keys"][0];
    assert_eq!((&header["kid"], &header["alg"]), (&jwk["kid"], &jwk["alg"]));
    let key: [u8; 32] = Base64::decode_vec(jwk["x"].as_str().unwrap()).unwrap().try_into().unwrap();
    let signature = Signature::from_slice(&Base64::decode_vec(signature).unwrap()).unwrap();
    VerifyingKey::from_bytes(&key).unwrap().verify_strict(signed.as_bytes(), &signature).unwrap();

    // Other claims under the same signature are worth nothing.
    let (header, claims) = signed.split_once('.').unwrap();
    let mut claims: Value = serde_json::from_slice(&Base64::decode_vec(claims).unwrap()).unwrap();
    claims["exp"] = u32::MAX.into();
    let claims = Base64::encode_string(claims.to_string().as_bytes());
    let forged = format!("{header}.{claims}.{}", token.rsplit_once('.').unwrap().1);
    assert_eq!(service.call("GET", "/user", &forged, Value::Null).0, 401);
    assert_eq!(service.call("GET", "/user", "", Value::Null).0, 401);
}

#[test]
fn instances_share_accounts_and_key_even_if_they_start_at_once() {
    let folder = Folder::new();
    let instances: Vec<Service> = thread::scope(|threads| {
        let starts: Vec<_> = (0..3).map(|_| threads.spawn(|| Service::start(&folder))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let (_, token) = instances[0].login("ada@example.com", "correct-horse");
    for instance in &instances {
        assert_eq!(instance.call("GET", "/user", &token, Value::Null).1["name"], "Ada");
    }
    drop(instances);
    let restarted = Service::start(&folder);
    let status = restarted.call("GET", "/user", &token, Value::Null).0;
    assert_eq!(status, 200, "tokens outlive the process");
}

#[test]
fn leaves_when_asked_to() {
    let folder = Folder::new();
    let mut service = Service::start(&folder);
    let pid = service.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(service.process.wait().unwrap().code(), Some(0));
}
