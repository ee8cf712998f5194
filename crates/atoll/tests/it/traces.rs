//! `atoll trace`, `atoll traces`, and conditions of `atoll logs`

use serde_json::Value;

use crate::testkit::{Ability, App, eventually, holds, lacking};

/// `front` calls `back`.
fn app() -> App {
    let app = App::new();
    app.service("back").write();
    app.service("front")
        .route("/front/**")
        .needs(&["back"])
        .write();
    app.up();
    app
}

/// Waits until both passages of a request are known, and gives the waterfall.
fn waterfall(app: &App, trace: &str) -> String {
    eventually("both spans", || {
        let out = app.cli(&["trace", trace]).out;
        // A bar for each.
        let whole = out.lines().filter(|line| line.contains('━')).count() == 2;
        if whole { Ok(out) } else { Err(out) }
    })
}

#[test]
fn a_waterfall_shows_spans_below_what_caused_them_and_their_lines() {
    let app = app();
    let answer = app.get("/front/call/back/x").has(200);
    let out = waterfall(&app, answer.trace());
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("GET /front/call/back/x "), "{out}");
    assert!(lines[1].starts_with("  GET /x "), "{out}");
    holds(lines[1], "back-r1-1");
    holds(lines[1], "━");
    assert!(lines.len() > 2, "log lines below: {out}");
    let said = app
        .cli(&["trace", "4bf92f3577b34da6a3ce929d0e0e4736"])
        .ended(1);
    holds(&said.err, "nothing of this trace is kept");
}

#[test]
fn a_service_that_loses_the_trace_does_not_tear_it_apart() {
    let app = app();
    if app.warned("ATL0220") {
        return lacking(Ability::Callers);
    }
    let answer = app.get("/front/bare/back/x").has(200);
    let out = waterfall(&app, answer.trace());
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("  GET /x "), "{out}");
    holds(lines[1], " (inferred)");
    assert!(!lines[0].contains("(inferred)"), "{out}");
    let calm = app.get("/front/call/back/y").has(200);
    assert!(!waterfall(&app, calm.trace()).contains("(inferred)"));
}

#[test]
fn spans_are_kept_when_the_node_is_gone() {
    let app = app();
    let answer = app.get("/front/call/back/x").has(200);
    let before = waterfall(&app, answer.trace());
    app.down();
    app.up();
    assert_eq!(waterfall(&app, answer.trace()), before);
}

#[test]
fn traces_are_found_by_service_error_and_condition() {
    let app = app();
    let answer = app.get("/front/call/back/x").has(200);
    app.get("/front/other").has(200);
    app.get("/nowhere").has(404);
    waterfall(&app, answer.trace());
    let found = |arguments: &[&str]| -> Vec<Value> {
        let said = app.cli(&[&["traces", "--json"], arguments].concat());
        let lines = said.succeeded().out;
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let back = found(&["--service", "back"]);
    assert_eq!(back.len(), 1, "{back:#?}");
    assert_eq!(back[0]["trace"], answer.trace());
    assert_eq!(back[0]["spans"], 2);
    assert_eq!(back[0]["root_service"], "front");
    assert_eq!(back[0]["services"], serde_json::json!(["back", "front"]));
    assert_eq!(found(&["url.path:/front*"]).len(), 2);
    assert_eq!(found(&["status:>=400", "duration:<1h"]).len(), 1);
    assert!(found(&["--error"]).is_empty());
    let slow = found(&["--slow"]);
    let spans: Vec<u64> = slow
        .iter()
        .map(|one| one["duration_us"].as_u64().unwrap())
        .collect();
    assert!(spans.is_sorted_by(|a, b| a >= b), "{spans:?}");
    let table = app.cli(&["traces"]).succeeded().out;
    holds(&table, "TRACE");
    holds(&table, answer.trace());
    let said = app.cli(&["traces", "duration:>quick"]).ended(1);
    holds(
        &said.err,
        "`quick` does not fit `duration` (at character 2)",
    );
}

#[test]
fn logs_take_conditions_beside_services() {
    let app = App::new();
    app.service("a")
        .env("SAY", "alpha\n{\"level\":\"error\",\"order\":7}")
        .write();
    app.service("b").env("SAY", "alpha").write();
    app.up();
    let lines = |arguments: &[&str]| -> Vec<String> {
        let found = app.log(arguments);
        let text = |record: &Value| record["msg"].as_str().unwrap().to_owned();
        found.iter().map(text).collect()
    };
    assert_eq!(lines(&["a", "\"ALPHA\""]), ["alpha"]);
    assert_eq!(lines(&["\"alpha\" -service:b"]), ["alpha"]);
    assert_eq!(lines(&["order:5..8", "level>=warn"]).len(), 1);
    app.cli(&["logs", "\"no such\""]).ended(1);
    let said = app.cli(&["logs", "level:loud"]).ended(1);
    holds(&said.err, "`loud` is no level");
}
