//! A small HTTP service.

use std::env;

use tiny_http::{Header, Request, Response, Server};

fn main() {
    let host = env::var("HOST").unwrap_or_else(|_| "127.0.0.1".into());
    let port = env::var("PORT").unwrap_or_else(|_| "8000".into());
    let server = Server::http(format!("{host}:{port}")).expect("the port can be listened on");
    for request in server.incoming_requests() {
        answer(request);
    }
}

fn answer(request: Request) {
    let (status, body) = respond(request.url());
    if request.url() != "/healthz" {
        // A line of JSON with the trace that the request belongs to: `atoll logs --trace ID` finds it.
        let traceparent = request.headers().iter().find(|h| h.field.equiv("traceparent"));
        let traceparent = traceparent.map_or("", |header| header.value.as_str());
        let path = request.url();
        println!(r#"{{"message":"GET {path}","traceparent":"{traceparent}"}}"#);
    }
    let json = Header::from_bytes("Content-Type", "application/json").expect("a valid header");
    let response = Response::from_string(body).with_status_code(status).with_header(json);
    // A client that has gone needs no answer.
    let _ = request.respond(response);
}

/// The answer to a path: status and body.
fn respond(path: &str) -> (u16, String) {
    match path {
        "/healthz" => (200, r#"{"status":"ok"}"#.into()),
        "/SERVICE_NAME" => (200, r#"{"hello":"from SERVICE_NAME"}"#.into()),
        _ => (404, r#"{"error":"not found"}"#.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_hello_and_is_healthy() {
        assert_eq!(respond("/SERVICE_NAME").0, 200);
        assert_eq!(respond("/healthz").0, 200);
        assert_eq!(respond("/other").0, 404);
    }
}
