//! Instances that die while they serve.

use rustix::process::Signal;

use crate::testkit::{App, Load, eventually, get, kill, until};

#[test]
fn get_requests_do_not_fail_when_one_of_two_instances_is_killed() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .env("QUIET", "1")
        .table("[scale]\nmin = 2")
        .write();
    app.up();
    // So slow that each instance has some of them at any moment.
    let load = Load::start(app.edge(), &[get("/a/slow/0.05")], 500);
    until("the first requests", || load.sent() > 50);
    let victim = app.pids("a")[0];
    kill(victim, Signal::KILL);
    eventually("the instance to be back", || {
        let view = app.view("a");
        let back = view["serving"] == 2 && !app.pids("a").contains(&victim);
        if back { Ok(()) } else { Err(view.to_string()) }
    });
    let before = load.sent();
    until("requests to both", || load.sent() > before + 50);
    let outcome = load.stop();
    assert!(
        outcome.failures.is_empty(),
        "{} of {}: {:#?}",
        outcome.failures.len(),
        outcome.requests,
        outcome.failures
    );
    let instances = app.view("a")["instances"].clone();
    let mut restarts: Vec<u64> = instances
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["restarts"].as_u64().unwrap())
        .collect();
    restarts.sort_unstable();
    assert_eq!(restarts, [0, 1], "{instances:#}");
    let messages = app.messages("a");
    assert!(
        messages.iter().any(|m| m.contains("killed by SIGKILL")),
        "{messages:#?}"
    );
}

#[test]
fn the_only_instance_is_back_after_it_was_killed() {
    let app = App::with_a();
    kill(app.pids("a")[0], Signal::KILL);
    eventually("an answer", || match app.get("/a/x") {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    let view = app.view("a");
    assert_eq!(
        (&view["state"], &view["instances"][0]["restarts"]),
        (&"ready".into(), &1.into())
    );
}
