//! The console of a node that runs: who comes in, what they see and what is written down.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::testkit::{App, holds, lacks};

/// One request to the console; the head and the body of the answer.
fn ask(addr: &str, method: &str, path: &str, fields: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn status(answer: &(String, String)) -> u16 {
    answer.0.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The deployments of `orders`, page by page, are those of one page.
#[track_caller]
fn by_pages(addr: &str, fields: &str) {
    let page = |query: &str| {
        let path = format!("/v1/services/orders/history{query}");
        let answer = ask(addr, "GET", &path, fields, "");
        assert_eq!(status(&answer), 200, "{}", answer.1);
        let page: Value = serde_json::from_str(&answer.1).unwrap();
        let ids = page.as_array().unwrap().iter();
        ids.map(|own| own["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let whole = page("");
    assert!(whole.len() >= 2, "{whole:?}");
    let mut pages = page("?limit=1");
    while let Some(last) = pages.last() {
        let next = page(&format!("?limit=1&before={last}"));
        if next.is_empty() {
            break;
        }
        pages.extend(next);
    }
    assert_eq!(pages, whole);
}

/// Whatever is wrong is told as a problem.
fn wrong_in_one_form(addr: &str, fields: &str) {
    for (method, path, body, expected) in [
        ("GET", "/v1/services/none/history?before=9", "", 404),
        ("POST", "/v1/services/orders/deployments", "{", 400),
        ("POST", "/v1/services/orders/deployments", "{}", 422),
        ("GET", "/v1/services/orders/history?limit=x", "", 400),
        ("GET", "/v1/services/orders/history?before=x", "", 400),
        ("GET", "/v1/logs/search?limit=x", "", 400),
        ("GET", "/v1/logs?tail=x", "", 400),
        ("GET", "/v1/traces?limit=x", "", 400),
        ("GET", "/v1/metrics/series?step_us=x", "", 400),
        ("POST", "/v1/services/orders/history", "", 405),
        ("GET", "/v1/deployments/x", "", 404),
        ("GET", "/v1/none", "", 404),
    ] {
        let refused = ask(addr, method, path, fields, body);
        assert_eq!(status(&refused), expected, "{path}: {}", refused.1);
        holds(&refused.0, "content-type: application/problem+json");
    }
}

#[test]
fn a_browser_logs_in_by_a_link_and_a_program_by_a_token() {
    let app = App::new();
    app.service("orders").write();
    app.up();
    let link = app.cli(&["console"]).succeeded().out;
    let (url, code) = link.trim().split_once("/login#token=").unwrap();
    let addr = url.strip_prefix("http://").unwrap();
    let page = ask(addr, "GET", "/", "", "");
    // The pages were built in, not the page that says that they are missing.
    holds(&page.1, "<script type=\"module\"");
    assert_eq!(status(&ask(addr, "GET", "/v1/services", "", "")), 401);

    let json = "Content-Type: application/json\r\n";
    let login = ask(
        addr,
        "POST",
        "/session",
        json,
        &format!("{{\"token\":\"{code}\"}}"),
    );
    assert_eq!(status(&login), 204, "{}", login.0);
    let cookie = login
        .0
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.unwrap().split(';').next().unwrap();
    let cookie = format!("Cookie: {cookie}\r\n");
    let services = ask(addr, "GET", "/v1/services", &cookie, "");
    holds(&services.1, "\"orders\"");
    let again = ask(
        addr,
        "POST",
        "/session",
        json,
        &format!("{{\"token\":\"{code}\"}}"),
    );
    assert_eq!(status(&again), 401);

    let made = app
        .cli(&["token", "create", "ci", "--role", "operator"])
        .succeeded();
    let bearer = format!("Authorization: Bearer {}\r\n", made.out.trim());
    let restart = ask(
        addr,
        "POST",
        "/v1/services/orders/deployments",
        &format!("{bearer}{json}"),
        r#"{"kind":"restart","who":"somebody else","why":"a test"}"#,
    );
    assert_eq!(status(&restart), 202, "{}", restart.1);
    let history = ask(addr, "GET", "/v1/services/orders/history", &bearer, "").1;
    holds(&history, r#""who":"ci""#);
    lacks(&history, "somebody else");
    by_pages(addr, &bearer);
    let settings = ask(addr, "GET", "/v1/services/orders/settings", &bearer, "").1;
    holds(&settings, r#"{"key":"name","value":"orders","given":true}"#);
    let settings = ask(addr, "GET", "/v1/services/none/settings", &bearer, "");
    assert_eq!(status(&settings), 404);
    assert_eq!(status(&ask(addr, "GET", "/v1/audit", &bearer, "")), 403);
    wrong_in_one_form(addr, &format!("{bearer}{json}"));
    let id = app.cli(&["--json", "token", "list"]).succeeded().out;
    let id: Value = serde_json::from_str(&id).unwrap();
    let id = id[0]["id"].as_str().unwrap();
    app.cli(&["token", "revoke", id]).succeeded();
    assert_eq!(status(&ask(addr, "GET", "/v1/services", &bearer, "")), 401);
    let audit = ask(addr, "GET", "/v1/audit", &cookie, "");
    for part in [
        "\"ci\"",
        "/v1/services/orders/deployments",
        &format!("/v1/tokens/{id}/revoke"),
    ] {
        holds(&audit.1, part);
    }
}

#[test]
fn an_open_address_without_tls_is_a_mistake_and_no_console_is_none() {
    let app = App::new();
    app.service("orders").write();
    let text = app.read("atoll.toml");
    app.write(
        "atoll.toml",
        &format!("{text}[console]\nlisten = \"0.0.0.0:0\"\n"),
    );
    holds(
        &app.cli(&["check"]).ended(3).err,
        "tokens would go in the clear",
    );
    app.write("atoll.toml", &format!("{text}[console]\nenabled = false\n"));
    app.up();
    holds(&app.cli(&["console"]).ended(1).err, "there is no console");
}
