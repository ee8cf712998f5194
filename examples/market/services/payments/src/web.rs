//! The HTTP side: a few worker threads on `tiny_http`, JSON in and out, one log line per request.
//!
//! No async runtime: a bank is slow, but sixteen calls at a time are plenty for one instance, and
//! threads are easier to read. Errors are answered as `application/problem+json` (RFC 9457).

use std::env;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::{Header, Request, Response, Server};

/// Nobody needs a longer body to pay.
const LONGEST_BODY: u64 = 16 * 1024;
/// Requests that are worked on at once.
pub const WORKERS: usize = 16;

/// One request, read completely.
pub struct Call {
    pub method: String,
    pub path: String,
    pub body: Value,
    headers: Vec<Header>,
}

impl Call {
    pub fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.iter().find(|h| h.field.equiv(name)).map(|h| h.value.as_str())
    }

    /// The trace's id out of a W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`.
    pub fn trace(&self) -> Option<&str> {
        let id = self.header("traceparent")?.split('-').nth(1)?;
        (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }
}

/// What went well.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, body }
    }
}

/// What didn't. `detail` is for the caller, `inside` only for our log.
pub struct Problem {
    pub status: u16,
    pub detail: String,
    pub try_again: bool,
    pub inside: Option<String>,
}

impl Problem {
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), try_again: false, inside: None }
    }

    /// Nothing is wrong, it is only a bad moment.
    pub fn busy(status: u16, detail: impl Into<String>) -> Self {
        Self { try_again: true, ..Self::new(status, detail) }
    }

    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self { inside: Some(error.to_string()), ..Self::new(500, "something went wrong here") }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(error)
    }
}

/// Answers calls until SIGTERM, then finishes what runs and returns.
pub fn serve(handle: impl Fn(&Call) -> Result<Answer, Problem> + Sync) -> Result<(), String> {
    let host = env::var("HOST").unwrap_or_else(|_| "127.0.0.1".into());
    let port = env::var("PORT").unwrap_or_else(|_| "0".into());
    let server = Server::http(format!("{host}:{port}")).map_err(|e| e.to_string())?;
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| e.to_string())?;
    let stopping = AtomicBool::new(false);
    let port = server.server_addr().to_ip().map(|address| address.port());
    log("info", "listening", None, json!({ "port": port }));
    thread::scope(|threads| {
        for _ in 0..WORKERS {
            threads.spawn(|| {
                while let Ok(request) = server.recv() {
                    answer(request, &handle);
                }
                if !stopping.load(Ordering::Acquire) {
                    // The listener is broken. A fresh process is better than a deaf one.
                    log("error", "cannot accept connections any more", None, json!({}));
                    std::process::exit(1);
                }
            });
        }
        if signals.forever().next().is_some() {
            stopping.store(true, Ordering::Release);
            // Each `unblock` ends one worker, behind the requests that are already queued.
            (0..WORKERS).for_each(|_| server.unblock());
        }
    });
    log("info", "stopped", None, json!({}));
    Ok(())
}

fn answer(mut request: Request, handle: impl Fn(&Call) -> Result<Answer, Problem>) {
    let started = Instant::now();
    let mut call = Call {
        method: request.method().to_string(),
        path: request.url().split('?').next().unwrap_or_default().to_owned(),
        headers: request.headers().to_vec(),
        body: Value::Null,
    };
    let result = read(&mut request).and_then(|body| {
        call.body = body;
        handle(&call)
    });
    let (status, body, kind, extra, inside) = match result {
        Ok(Answer { status, body }) => (status, body, "application/json", None, None),
        Err(Problem { status, detail, try_again, inside }) => {
            let body = json!({ "status": status, "detail": detail, "trace_id": call.trace() });
            let extra = try_again.then_some(("Retry-After", "1"));
            (status, body, "application/problem+json", extra, inside)
        }
    };
    let mut response = Response::from_string(body.to_string()).with_status_code(status);
    for (name, value) in [("Content-Type", kind)].into_iter().chain(extra) {
        let header = Header::from_bytes(name, value).expect("constants are valid headers");
        response.add_header(header);
    }
    let sent = request.respond(response);
    if call.path != "/healthz" {
        let level = if status >= 500 { "error" } else { "info" };
        let mut fields = json!({ "status": status, "ms": started.elapsed().as_millis() as u64 });
        if let Some(error) = inside.or_else(|| sent.err().map(|e| e.to_string())) {
            fields["error"] = error.into();
        }
        log(level, &format!("{} {}", call.method, call.path), call.trace(), fields);
    }
}

fn read(request: &mut Request) -> Result<Value, Problem> {
    let mut text = String::new();
    let mut reader = request.as_reader().take(LONGEST_BODY + 1);
    reader.read_to_string(&mut text).map_err(|e| Problem::new(400, e.to_string()))?;
    match text.len() as u64 {
        0 => Ok(Value::Null),
        length if length > LONGEST_BODY => Err(Problem::new(413, "the body is too long")),
        _ => serde_json::from_str(&text).map_err(|e| Problem::new(400, e.to_string())),
    }
}

/// One line of JSON. The platform stamps time, service, instance and revision.
pub fn log(level: &str, message: &str, trace_id: Option<&str>, fields: Value) {
    let mut line = json!({ "level": level, "message": message });
    if let Some(id) = trace_id {
        line["trace_id"] = id.into();
    }
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    println!("{line}");
}
