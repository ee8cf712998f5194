//! The promise of the whole: no request is lost at any point of a deployment.
//!
//! Some of the requests are POST: the proxy never sends one twice, so nothing can hide an instance
//! that left too early.

use crate::testkit::{App, Load, get, get_and_close, post, until};

/// Requests per second; what a machine cannot do, it does not, but each request counts.
const RATE: u32 = 2000;

const DEPLOYMENTS: u32 = 20;
const ROLLBACKS: u32 = 5;

fn mix(path: &str) -> [String; 4] {
    [get(path), post(path), get(path), get_and_close(path)]
}

/// Requests that take longer than a rollout watches, so that each instance that goes has some of them.
fn slow(app: &App) -> Load {
    Load::start(app.edge(), &[post("/a/slow/0.3")], 50)
}

/// All requests were answered with 200; tells how many.
fn none_lost(load: Load) -> std::collections::BTreeMap<String, u64> {
    let outcome = load.stop();
    let (requests, failures) = (outcome.requests, &outcome.failures);
    println!(
        "{requests} requests, {} failed; by revision: {:?}",
        failures.len(),
        outcome.by_revision
    );
    let first = &failures[..failures.len().min(10)];
    assert!(
        failures.is_empty(),
        "{} of {requests} failed: {first:#?}",
        failures.len()
    );
    outcome.by_revision
}

#[test]
fn no_request_is_lost_in_twenty_deployments_and_five_rollbacks_under_load() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .env("QUIET", "1")
        .table("[scale]\nmin = 2")
        .table("[deploy]\nwatch = \"100ms\"")
        .write();
    app.up();
    let (load, slow) = (Load::start(app.edge(), &mix("/a/fast"), RATE), slow(&app));
    until("the first requests", || {
        load.sent() > 500 && slow.sent() > 10
    });
    for number in 1..=DEPLOYMENTS {
        app.write("services/a/answer.txt", &number.to_string());
        app.cli(&["deploy", "a"]).succeeded();
        if number % (DEPLOYMENTS / ROLLBACKS) == 0 {
            app.cli(&["rollback", "a"]).succeeded();
        }
    }
    let before = load.sent();
    until("requests to the last revision", || {
        load.sent() > before + 500
    });
    none_lost(slow);
    let by_revision = none_lost(load);
    assert_eq!(
        by_revision.len(),
        DEPLOYMENTS as usize + 1,
        "each revision has served"
    );
}

#[test]
fn no_request_is_lost_while_instances_come_and_go() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .env("QUIET", "1")
        .table("[deploy]\nwatch = \"100ms\"")
        .write();
    app.up();
    let (load, slow) = (
        Load::start(app.edge(), &mix("/a/fast"), RATE / 2),
        slow(&app),
    );
    until("the first requests", || {
        load.sent() > 200 && slow.sent() > 10
    });
    for count in [3, 1, 2, 4, 1] {
        app.cli(&["scale", "a", &count.to_string()]).succeeded();
        until("the wanted number", || app.view("a")["serving"] == count);
    }
    app.cli(&["restart", "a"]).succeeded();
    none_lost(slow);
    none_lost(load);
}

#[test]
fn no_request_is_lost_when_deployments_fail() {
    let app = App::new();
    let a = || {
        app.service("a")
            .route("/a/**")
            .env("QUIET", "1")
            .table("[deploy]\nwatch = \"100ms\"")
    };
    a().write();
    app.up();
    let load = Load::start(app.edge(), &mix("/a/fast"), RATE / 2);
    until("the first requests", || load.sent() > 200);
    a().env("EXIT", "3").write();
    app.cli(&["deploy", "a"]).ended(1);
    a().top("build", r#"["false"]"#).write();
    app.cli(&["deploy", "a"]).ended(1);
    a().top("nonsense", "1").write();
    app.cli(&["deploy", "a"]).ended(3);
    let before = load.sent();
    until("requests after all that", || load.sent() > before + 200);
    let by_revision = none_lost(load);
    assert_eq!(
        by_revision.keys().collect::<Vec<_>>(),
        ["1"],
        "only the first revision has served"
    );
}

#[test]
fn no_call_between_services_is_lost_when_the_called_one_is_deployed() {
    let app = App::new();
    app.service("front")
        .needs(&["back"])
        .route("/front/**")
        .env("QUIET", "1")
        .write();
    app.service("back")
        .env("QUIET", "1")
        .table("[deploy]\nwatch = \"100ms\"")
        .write();
    app.up();
    let load = Load::start(app.edge(), &mix("/front/call/back/x"), 200);
    until("the first requests", || load.sent() > 50);
    for number in 1..=5 {
        app.write("services/back/answer.txt", &number.to_string());
        app.cli(&["deploy", "back"]).succeeded();
    }
    let before = load.sent();
    until("requests to the last revision", || {
        load.sent() > before + 50
    });
    none_lost(load);
}
