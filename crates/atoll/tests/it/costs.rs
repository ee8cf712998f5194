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
