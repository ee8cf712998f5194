//! What the edge of the real binary says to requests that cannot be, and to those nobody can take.

use rustix::process::Signal;

use crate::testkit::{Answer, App, eventually, holds, kill, until};

fn problem(answer: Answer, status: u16, kind: &str) -> serde_json::Value {
    let answer = answer.has(status);
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:atoll:problem:{kind}"));
    assert_eq!(problem["trace_id"].as_str(), Some(answer.trace()));
    problem
}

#[test]
fn malformed_requests_are_answered_400() {
    let app = App::with_a();
    for request in [
        "GET /a/x HTTP/1.1\r\n\r\n",
        "GET /a/x HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n",
        "GET /a/%zz HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /a/x HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /a/x HTTP/1.1\r\nHost: test\r\nBad Name: 1\r\n\r\n",
        "POST /a/x HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        problem(app.exchange(request), 400, "bad-request");
    }
    // None of them has reached the service, and it still serves.
    app.get("/a/good").has(200);
    let messages = app.messages("a");
    let seen = messages
        .iter()
        .filter(|message| message.contains(" /a/"))
        .count();
    assert_eq!(seen, 1, "{messages:#?}");
}

#[test]
fn unknown_paths_are_answered_404_and_wrong_methods_405() {
    let app = App::new();
    app.service("a")
        .table("[[route]]\npath = \"/a\"\nmethods = [\"GET\", \"PUT\"]")
        .write();
    app.up();
    problem(app.get("/nothing/here"), 404, "no-route");
    let answer = app.exchange("DELETE /a HTTP/1.1\r\nHost: test\r\n\r\n");
    let allow = answer.field("allow").unwrap().to_owned();
    problem(answer, 405, "wrong-method");
    let mut methods: Vec<&str> = allow.split(", ").collect();
    methods.sort_unstable();
    assert_eq!(methods, ["GET", "HEAD", "PUT"]);
}

#[test]
fn what_is_too_large_is_answered_413_414_or_431() {
    let app = App::new();
    app.service("a")
        .table("[[route]]\npath = \"/a\"\nmax_body = \"1KiB\"")
        .write();
    app.up();
    let body = "x".repeat(1025);
    let post = format!("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 1025\r\n\r\n{body}");
    let told = problem(app.exchange(&post), 413, "too-large");
    assert_eq!(told["service"], "a");
    let chunked = format!(
        "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n"
    );
    problem(app.exchange(&chunked), 413, "too-large");
    let long = "x".repeat(9 << 10);
    problem(app.get(&format!("/{long}")), 414, "too-large");
    let long = "x".repeat(40 << 10);
    let wide = format!("GET /a HTTP/1.1\r\nHost: test\r\nX-Long: {long}\r\n\r\n");
    problem(app.exchange(&wide), 431, "too-large");
    let many = "X-Field: 1\r\n".repeat(120);
    problem(
        app.exchange(&format!("GET /a HTTP/1.1\r\nHost: test\r\n{many}\r\n")),
        431,
        "too-large",
    );
    app.get("/a").has(200);
}

#[test]
fn without_a_ready_instance_the_answer_names_service_and_trace() {
    let app = App::new();
    app.service("a").needs(&["b"]).route("/a/**").write();
    app.service("b").route("/b/**").env("EXIT", "3").write();
    app.try_up().ended(1);
    let answer = app.get("/a/call/b/x").has(503).json();
    assert_eq!(answer["answer"]["service"], "b");
    assert_eq!(answer["answer"]["detail"], "b has no ready instance");
    let answer = app.get("/b/x");
    assert_eq!(answer.field("retry-after"), Some("1"));
    let told = problem(answer, 503, "no-instance");
    assert_eq!(told["service"], "b");
    assert_eq!(told["detail"], "b has no ready instance");
}

#[test]
fn a_service_that_has_died_is_answered_for_with_503_until_it_is_back() {
    let app = App::with_a();
    let answer = eventually("a moment without an instance", || {
        app.pids("a")
            .into_iter()
            .for_each(|pid| kill(pid, Signal::KILL));
        match app.get("/a/x") {
            answer if answer.status == 503 => Ok(answer),
            answer => Err(format!("{answer:?}")),
        }
    });
    assert_eq!(problem(answer, 503, "no-instance")["service"], "a");
    until("it to be back", || app.get("/a/x").status == 200);
}

#[test]
fn a_failure_is_kept_in_the_log_under_its_trace() {
    let app = App::with_a();
    // GET would be tried again.
    let post = "POST /a/exit/3 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    let answer = app.exchange(post).has(502);
    let line = "POST /a/exit/3 from edge failed with 502";
    let found = eventually("the record of the failure", || {
        let log = app.log(&["--trace", answer.trace()]);
        let found = log
            .iter()
            .find(|r| r["msg"].as_str().unwrap().starts_with(line));
        found.cloned().ok_or_else(|| format!("{log:#?}"))
    });
    assert_eq!(
        (&found["level"], &found["service"]),
        (&"error".into(), &"a".into())
    );
    // Not only the memory has it.
    app.down();
    app.up();
    holds(
        &app.cli(&["logs", "--trace", answer.trace()])
            .succeeded()
            .out,
        "POST /a/exit/3 502",
    );
}
