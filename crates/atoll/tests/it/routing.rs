//! Requests from the edge to services, from service to service, and what a service is given.

use serde_json::Value;

use crate::testkit::{App, eventually, holds};

/// `front` calls `back`; `loner` calls nobody.
fn two_and_a_loner() -> App {
    let app = App::new();
    app.service("front")
        .needs(&["back"])
        .route("/front/**")
        .write();
    app.service("back").write();
    app.service("loner")
        .route("/loner/**")
        .env("GREETING", "hello")
        .write();
    app.up();
    app
}

#[test]
fn a_service_reaches_its_dependency_by_the_variable_of_its_name() {
    let app = two_and_a_loner();
    let answer = app.get("/front/call/back/x/y").has(200).json();
    assert_eq!(answer["answer"]["service"], "back");
    assert_eq!(answer["answer"]["path"], "/x/y");
    assert_eq!(answer["answer"]["headers"]["host"], "back");
}

#[test]
fn what_is_not_declared_has_no_address_and_no_route() {
    let app = two_and_a_loner();
    let answer = app.get("/loner/call/back/x").has(424).json();
    assert_eq!(answer["missing"], "BACK_URL");
    app.get("/back/x").has(404);
}

#[test]
fn a_dependency_can_be_called_by_many_and_each_is_known_by_name() {
    let app = App::new();
    app.service("order-history").write();
    app.service("a")
        .needs(&["order-history"])
        .route("/a/**")
        .write();
    app.service("b")
        .needs(&["order-history", "a"])
        .route("/b/**")
        .write();
    app.up();
    let one = app.get("/a/call/order-history/x").has(200);
    let two = app.get("/b/call/order-history/x").has(200);
    assert_eq!(one.json()["answer"]["service"], "order-history");
    assert_eq!(two.json()["answer"]["service"], "order-history");
    for (answer, caller) in [(one, "a"), (two, "b")] {
        let hop = format!("{caller} to order-history-r1-1");
        eventually("the way of the request", || match app.way(answer.trace()) {
            way if way.contains(&hop) => Ok(()),
            way => Err(format!("{way:?}")),
        });
    }
}

#[test]
fn the_trace_of_an_answer_finds_the_lines_of_every_service_on_the_way() {
    let app = two_and_a_loner();
    let answer = app.get("/front/call/back/x").has(200);
    app.get("/front/other").has(200);
    let trace = answer.trace();
    eventually("both hops", || {
        let out = app.cli(&["logs", "--trace", trace]).out;
        let whole = out.contains("→ edge to front-r1-1: GET /front/call/back/x 200")
            && out.contains("→ front to back-r1-1: GET /x 200");
        if whole { Ok(()) } else { Err(out) }
    });
    assert_eq!(app.way(trace), ["edge to front-r1-1", "front to back-r1-1"]);
    let log = app.log(&["--trace", trace]);
    let mut origins: Vec<&str> = log.iter().map(|r| r["service"].as_str().unwrap()).collect();
    origins.sort_unstable();
    assert_eq!(origins, ["back", "front"], "{log:#?}");
    assert!(
        log.iter().all(|record| record["trace"] == trace),
        "{log:#?}"
    );
    // A whole traceparent is as good as the id within.
    let whole = format!("00-{trace}-00f067aa0ba902b7-01");
    assert_eq!(app.log(&["--trace", &whole]).len(), 2);
}

#[test]
fn a_trace_that_a_client_began_goes_on() {
    let app = two_and_a_loner();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = app
        .exchange(&format!(
            "GET /front/call/back/x HTTP/1.1\r\nHost: test\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n"
        ))
        .has(200);
    assert_eq!(answer.trace(), trace);
    let seen = &answer.json()["answer"]["headers"]["traceparent"];
    holds(seen.as_str().unwrap(), trace);
}

#[test]
fn a_trace_that_never_was_is_told_with_exit_code_1() {
    let app = two_and_a_loner();
    let said = app
        .cli(&["logs", "--trace", "4bf92f3577b34da6a3ce929d0e0e4736"])
        .ended(1);
    holds(&said.err, "nothing of this trace is kept");
    app.cli(&["logs", "--trace", "xyz"]).ended(2);
}

/// Those that `docs/environment.md` promises, and no others.
#[test]
fn a_service_is_given_the_documented_variables_and_nothing_of_its_parents() {
    let app = two_and_a_loner();
    let names = |service: &str| -> Vec<String> {
        let environment = app.done_in(service, "tr '\\0' '\\n' < /proc/$PPID/environ | grep .");
        let mut names: Vec<String> = environment
            .lines()
            .map(|line| line.split('=').next().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    let common = [
        "ATOLL_INSTANCE",
        "ATOLL_NODE",
        "ATOLL_REVISION",
        "ATOLL_SERVICE",
        "DATA_DIR",
        "HOME",
        "HOST",
        "LANG",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_SERVICE_NAME",
        "PATH",
        "PORT",
        "USER",
    ];
    let with = |own: &str| {
        let mut all = common.map(str::to_owned).to_vec();
        all.push(own.to_owned());
        all.sort_unstable();
        all
    };
    // The parent has SECRET_OF_PARENT and COLUMNS, too.
    assert_eq!(names("loner"), with("GREETING"));
    assert_eq!(names("front"), with("BACK_URL"));
    let values = app.done_in(
        "front",
        "echo $ATOLL_SERVICE $ATOLL_REVISION $ATOLL_INSTANCE $HOST $BACK_URL",
    );
    holds(&values, "front 1 front-r1-1 127.0.0.1 http://127.64.0.");
}

#[test]
fn routes_tell_apart_methods_parameters_and_hosts() {
    let app = App::new();
    let service = app.service("a");
    service
        .route("/things/{id}")
        .table("[[route]]\npath = \"/orders\"\nmethods = [\"POST\"]")
        .table("[[route]]\npath = \"/\"\nhost = \"shop.example.com\"")
        .write();
    app.service("b")
        .table("[[route]]\npath = \"/orders\"\nmethods = [\"GET\"]")
        .write();
    app.up();
    let path = |answer: Value| answer["path"].as_str().unwrap().to_owned();
    assert_eq!(path(app.get("/things/7?x=1").has(200).json()), "/things/7");
    app.get("/things/7/8").has(404);
    app.get("/things").has(404);
    assert_eq!(app.get("/orders").has(200).json()["service"], "b");
    let post = "POST /orders HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi";
    let answer = app.exchange(post).has(200).json();
    assert_eq!(
        (&answer["service"], &answer["body"]),
        (&"a".into(), &"hi".into())
    );
    app.get("/").has(404);
    let at_shop = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    assert_eq!(app.exchange(at_shop).has(200).json()["service"], "a");
}
