//! Routes and costs, from the requests that really came.

use serde_json::Value;

use crate::testkit::{App, Connection, eventually};

fn ask(app: &App, path: &str) -> Value {
    let socket = app.path(".atoll/run/admin.sock");
    let answer = Connection::local(&socket).unwrap().get(path).unwrap();
    answer.has(200).json()
}

fn find<'a>(list: &'a Value, pairs: &[(&str, &str)]) -> Option<&'a Value> {
    let fits = |own: &&Value| pairs.iter().all(|(key, value)| own[*key] == *value);
    list.as_array().unwrap().iter().find(fits)
}

/// `front` calls `back`, which has a route of its own.
fn app() -> App {
    let app = App::new();
    app.service("back").route("/back/items/{id}").write();
    app.service("front")
        .route("/front/**")
        .needs(&["back"])
        .write();
    app.up();
    app
}

#[test]
fn routes_are_counted_by_their_pattern_at_the_edge_and_in_the_mesh() {
    let app = app();
    app.get("/back/items/7").has(200);
    app.get("/front/call/back/back/items/8").has(200);
    app.get("/front/call/back/other").has(200);
    app.get("/front/status/500").has(500);
    let routes = eventually("all requests", || {
        let routes = ask(&app, "/v1/routes");
        let rates = routes.as_array().unwrap().iter();
        let all: f64 = rates.map(|own| own["rate"].as_f64().unwrap()).sum();
        if (all * 3600.0).round() == 6.0 {
            Ok(routes)
        } else {
            Err(routes.to_string())
        }
    });
    let rate = |service: &str, route: &str, which: &str| {
        let own = find(&routes, &[("service", service), ("route", route)]);
        let own = own.unwrap_or_else(|| panic!("no {route} in {routes}"));
        (own[which].as_f64().unwrap() * 3600.0).round()
    };
    assert_eq!(rate("back", "GET /back/items/{id}", "rate"), 2.0);
    assert_eq!(rate("back", "GET", "rate"), 1.0, "no route of its own fits");
    assert_eq!(rate("front", "GET /front/**", "rate"), 3.0);
    assert_eq!(rate("front", "GET /front/**", "error_rate"), 1.0);
    let own = ask(&app, "/v1/routes?service=front");
    assert_eq!(own.as_array().unwrap().len(), 1, "{own}");
}

#[test]
fn with_sampling_a_request_that_is_kept_stands_for_those_that_are_not() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let text = app.read("atoll.toml");
    let sampled = text.replace("[telemetry]\n", "[telemetry]\nsample = \"10%\"\n");
    assert_ne!(sampled, text);
    app.write("atoll.toml", &sampled);
    app.up();
    let get = |trace: u128, path: &str| {
        app.exchange(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\ntraceparent: 00-{trace:032x}-00f067aa0ba902b7-01\r\n\r\n"
        ))
    };
    // By the last 56 bits of the id: twice one that is kept, and what is not.
    for trace in [1, 2, u128::MAX - 1, u128::MAX - 2] {
        get(trace, "/a/x").has(200);
    }
    get(u128::MAX - 3, "/a/status/500").has(500);
    let hour = |own: &Value, which: &str| (own[which].as_f64().unwrap() * 3600.0).round();
    eventually("21 requests, with one error", || {
        let (map, routes) = (ask(&app, "/v1/map"), ask(&app, "/v1/routes"));
        let ends = [("from", "edge"), ("to", "a"), ("kind", "http")];
        let told: Vec<_> = [
            find(&map["edges"], &ends),
            find(&routes, &[("service", "a")]),
        ]
        .into_iter()
        .flatten()
        .map(|own| (hour(own, "rate"), hour(own, "error_rate")))
        .collect();
        match told == [(21.0, 1.0); 2] {
            true => Ok(()),
            false => Err(format!("{told:?}")),
        }
    });
}

#[test]
fn costs_are_shared_out_over_routes_and_callers_and_who_asks_often_is_told() {
    let app = app();
    let asked = app.get("/front/often/7/back/back/items/8").has(200);
    app.get("/front/call/back/back/items/9").has(200);
    // Five are often enough to be told; the others may be written a moment later.
    let chatty = eventually("who asks often", || {
        let costs = ask(&app, "/v1/costs");
        let found = find(&costs["chatty"], &[("caller", "front"), ("callee", "back")]);
        let found = found.filter(|own| own["calls_per_request"] == 7.0);
        found.cloned().ok_or_else(|| costs.to_string())
    });
    assert_eq!(chatty["trace"], asked.trace());
    let costs = eventually("what instances used", || {
        let costs = ask(&app, "/v1/costs");
        let back = find(&costs["services"], &[("name", "back")]);
        let used = back.is_some_and(|own| own["cpu_seconds"].as_f64() > Some(0.0));
        let calls = find(
            &costs["callers"],
            &[("caller", "front"), ("callee", "back")],
        );
        if used && calls.is_some_and(|own| own["requests"] == 8.0) {
            Ok(costs)
        } else {
            Err(costs.to_string())
        }
    });
    let number = |list: &str, pairs: &[(&str, &str)], which: &str| {
        let own = find(&costs[list], pairs);
        own.unwrap_or_else(|| panic!("no {pairs:?} in {costs}"))[which]
            .as_f64()
            .unwrap()
    };
    let service = [("name", "back")];
    let route = [("service", "back"), ("route", "GET /back/items/{id}")];
    let caller = [("caller", "front"), ("callee", "back")];
    assert_eq!(number("routes", &route, "requests"), 8.0);
    assert_eq!(number("callers", &caller, "requests"), 8.0);
    // One route, one caller: all of it is theirs.
    let used = number("services", &service, "cpu_seconds");
    for (list, pairs) in [("routes", route), ("callers", caller)] {
        assert!(
            (number(list, &pairs, "cpu_seconds") - used).abs() < 1e-9,
            "{costs}"
        );
    }
    assert!(number("services", &service, "memory_byte_seconds") > 1e6);
    assert!(number("routes", &route, "bytes") > 800.0, "{costs}");
}
