//! `atoll up --watch`

use rustix::process::Signal;

use crate::testkit::{App, eventually, holds};

#[test]
fn a_change_in_a_folder_deploys_that_service_by_itself() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .table("[deploy]\nwatch = \"100ms\"")
        .write();
    app.service("b").route("/b/**").write();
    app.write("services/a/answer.txt", "one");
    let mut up = app.up_in_foreground(&["--watch"]);
    assert_eq!(app.get("/a/x").has(200).json()["answer"], "one");
    app.write("services/a/answer.txt", "two");
    eventually("the answer of the second revision", || {
        let answer = app.get("/a/x").has(200).json();
        if answer["answer"] == "two" {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
    eventually("the news of it", || match up.err() {
        err if err.contains("✓ a: r2 serves") => Ok(()),
        err => Err(err),
    });
    assert_eq!(app.get("/b/x").has(200).json()["revision"], "1");
    let history = app.cli(&["history", "a", "--json"]).succeeded().json();
    assert_eq!(
        (&history[0]["kind"], &history[0]["why"]),
        (&"deploy".into(), &"watch".into())
    );
    up.signal(Signal::INT);
    assert_eq!(up.ended(), 0);
}

#[test]
fn a_change_that_cannot_serve_is_told_and_the_old_revision_goes_on() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let up = app.up_in_foreground(&["--watch"]);
    app.service("a")
        .route("/a/**")
        .env("EXIT", "3")
        .env("SAY", "no license")
        .write();
    eventually("the news of the failure", || match up.err() {
        err if err.contains("✗ a:") => Ok(()),
        err => Err(err),
    });
    holds(&up.err(), "no license");
    assert_eq!(app.get("/a/x").has(200).json()["revision"], "1");
    app.service("a")
        .route("/a/**")
        .top("stop_timeout", "5")
        .write();
    eventually("the news of the mistake", || match up.err() {
        err if err.contains("stop_timeout") => Ok(()),
        err => Err(err),
    });
    app.get("/a/x").has(200);
}
