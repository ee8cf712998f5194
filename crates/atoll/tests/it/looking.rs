//! `atoll why`, `atoll map`, `atoll metrics` and `atoll top`

use crate::testkit::{App, eventually, holds};

/// `a` has answered once and failed once.
fn app() -> (App, String) {
    let app = App::with_a();
    app.get("/a/x").has(200);
    let post = "POST /a/exit/3 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    let failed = app.exchange(post).has(502);
    let trace = failed.trace().to_owned();
    (app, trace)
}

#[test]
fn why_tells_the_errors_and_what_changed_before() {
    let (app, trace) = app();
    let why = |subject: &str| {
        eventually("the error", || {
            let out = app.cli(&["why", subject]).succeeded().out;
            let told = out.contains("failed with 502");
            if told { Ok(out) } else { Err(out) }
        })
    };
    let of_service = why("a");
    for part in [
        "2 errors of a. It begins with a: exited with code 3",
        "ERRORS",
        &trace,
        "CHANGED BEFORE",
        "deploy",
    ] {
        holds(&of_service, part);
    }
    holds(&why(&trace), &format!("of the request {trace}"));
    holds(&why(&format!("00-{trace}-00f067aa0ba902b7-01")), &trace);
    let json: serde_json::Value =
        serde_json::from_str(&app.cli(&["--json", "why", "a"]).succeeded().out).unwrap();
    assert_eq!(json["errors"][0]["trace"], trace.as_str());
    holds(
        &app.cli(&["why", "nobody"]).ended(1).err,
        "there is no service and no trace 'nobody'",
    );
}

#[test]
fn the_map_tells_who_calls_whom_and_who_fails() {
    let (app, _) = app();
    let map = eventually("the failed call", || {
        let out = app.cli(&["map", "--since", "10m"]).succeeded().out;
        let line = out
            .lines()
            .find(|line| line.contains("→ a "))
            .map(str::to_owned);
        line.filter(|line| !line.contains("  0  ")).ok_or(out)
    });
    assert!(map.starts_with("edge"), "{map}");
    holds(&map, "http");
    holds(
        &app.cli(&["map", "--since", "soon"]).ended(1).err,
        "neither a time span",
    );
}

#[test]
fn metrics_are_listed_and_shown_by_label() {
    let (app, trace) = app();
    let name = "atoll_route_requests_total";
    eventually("the node's own", || {
        let list = app.cli(&["metrics"]).succeeded();
        if list.out.contains(name) {
            Ok(())
        } else {
            Err(list.err)
        }
    });
    let all = app
        .cli(&["metrics", name, "--stat", "value"])
        .succeeded()
        .out;
    holds(&all, "class=2xx");
    holds(&all, "class=5xx");
    let one = app.cli(&["metrics", name, "class=5xx"]).succeeded().out;
    holds(&one, "class=5xx");
    assert!(!one.contains("class=2xx"), "{one}");
    let args = ["--json", "metrics", "atoll_route_duration_seconds"];
    let took: serde_json::Value = serde_json::from_str(&app.cli(&args).succeeded().out).unwrap();
    let exemplars = took["series"][0]["exemplars"].as_array().unwrap();
    assert!(
        exemplars.iter().any(|own| own["trace"] == trace.as_str()),
        "a request of the histogram can be opened: {took}"
    );
    let near = app.cli(&["metrics", "atoll_route_request_total"]).ended(1);
    holds(&near.err, &format!("did you mean `{name}`?"));
    holds(
        &app.cli(&["metrics", name, "5xx"]).ended(2).err,
        "LABEL=VALUE",
    );
}

#[test]
fn top_looks_as_often_as_it_is_told_and_each_look_is_whole() {
    let (app, _) = app();
    let out = app
        .cli(&["top", "-n", "2", "--interval", "100ms"])
        .succeeded()
        .out;
    assert_eq!(out.matches("SERVICE").count(), 2, "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no terminal, no commands to one: {out}"
    );
    let args = ["--json", "top", "-n", "1", "--interval", "100ms"];
    let look: serde_json::Value = serde_json::from_str(&app.cli(&args).succeeded().out).unwrap();
    assert_eq!(look[0]["service"], "a");
    assert!(look[0]["memory"].as_u64().unwrap() > 0, "{look}");
}
