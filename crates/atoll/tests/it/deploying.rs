//! Deployments as a person sees them: what takes over, what does not, and what is told of it.

use std::process::Stdio;

use serde_json::Value;

use crate::testkit::{App, atoll, holds, lacks, until};

/// What `/a/x` says: its revision and the text of its file.
fn serving(app: &App) -> (String, String) {
    let answer = app.get("/a/x").has(200).json();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("revision"), text("answer"))
}

fn is(revision: &str, answer: &str) -> (String, String) {
    (revision.to_owned(), answer.to_owned())
}

/// `a`, whose first revision says "one", with a short watch.
fn app() -> App {
    let app = App::new();
    quick(&app).write();
    app.write("services/a/answer.txt", "one");
    app.up();
    app
}

fn quick(app: &App) -> crate::testkit::Service<'_> {
    app.service("a")
        .route("/a/**")
        .table("[deploy]\nwatch = \"100ms\"\ntimeout = \"30s\"")
}

fn history(app: &App) -> Vec<Value> {
    app.cli(&["history", "a", "--json"])
        .succeeded()
        .json()
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn a_changed_folder_becomes_the_next_revision_and_serves() {
    let app = app();
    assert_eq!(serving(&app), is("1", "one"));
    app.write("services/a/answer.txt", "two");
    let said = app.cli(&["deploy", "a"]).succeeded();
    holds(&said.err, "✓ a: r2 serves; it was r1");
    assert_eq!(serving(&app), is("2", "two"));
}

#[test]
fn a_changed_folder_changes_nothing_that_runs_before_it_is_deployed() {
    let app = app();
    app.write("services/a/answer.txt", "two");
    app.write("services/a/server.py", "raise SystemExit('broken')");
    app.cli(&["restart", "a"]).succeeded();
    assert_eq!(serving(&app), is("1", "one"));
    app.cli(&["scale", "a", "2"]).succeeded();
    until("both instances", || app.view("a")["serving"] == 2);
    for _ in 0..4 {
        assert_eq!(serving(&app), is("1", "one"));
    }
}

#[test]
fn a_folder_elsewhere_can_be_deployed_if_it_holds_the_same_service() {
    let app = app();
    quick(&app).write_to("elsewhere");
    app.write("elsewhere/answer.txt", "from elsewhere");
    let elsewhere = app.path("elsewhere");
    app.cli(&["deploy", "a", elsewhere.to_str().unwrap()])
        .succeeded();
    assert_eq!(serving(&app), is("2", "from elsewhere"));
    app.service("b").write_to("another");
    let another = app.path("another");
    let said = app
        .cli(&["deploy", "a", another.to_str().unwrap()])
        .ended(1);
    holds(&said.err, "the folder does not hold the service 'a'");
    let said = app.cli(&["deploy", "a", "/no/such/folder"]).ended(1);
    holds(&said.err, "/no/such/folder cannot be used");
    assert_eq!(serving(&app), is("2", "from elsewhere"));
    // That was for once: without a folder, the service's own is meant again.
    app.cli(&["deploy", "a"]).succeeded();
    assert_eq!(serving(&app), is("3", "one"));
}

#[test]
fn a_revision_that_crashes_never_gets_traffic_and_its_last_line_is_told() {
    let app = app();
    quick(&app)
        .env("SAY", "reading the license\nno license found")
        .env("EXIT", "3")
        .write();
    let said = app.cli(&["deploy", "a"]).ended(1);
    holds(&said.err, "✗ r2 of a did not take over");
    holds(&said.err, "exited with code 3");
    holds(&said.err, "its last line: no license found");
    holds(&said.err, "a r1 goes on serving");
    assert_eq!(serving(&app), is("1", "one"));
    assert_eq!(app.view("a")["state"], "ready");
    // What failed is gone.
    until("the end of the failed instance", || {
        app.processes().len() == 1
    });
}

#[test]
fn a_revision_that_never_becomes_ready_never_gets_traffic() {
    let app = app();
    let service = app.service("a").route("/a/**").env("WRONG_PORT", "1");
    service
        .table("[health]\npath = \"/healthz\"\nstart_timeout = \"300ms\"")
        .table("[deploy]\ntimeout = \"30s\"")
        .write();
    let said = app.cli(&["deploy", "a"]).ended(1);
    holds(&said.err, "✗ r2 of a did not take over");
    holds(&said.err, "not ready after 300ms: listens on 127.0.0.1:");
    holds(&said.err, "instead of $PORT");
    assert_eq!(serving(&app), is("1", "one"));
}

#[test]
fn a_revision_that_is_not_ready_in_time_is_given_up() {
    let app = app();
    let service = app.service("a").route("/a/**").env("READY_AFTER", "3600");
    service.table("[deploy]\ntimeout = \"500ms\"").write();
    let said = app.cli(&["deploy", "a"]).ended(1);
    holds(&said.err, "a-r2-2 not ready within 500ms");
    assert_eq!(serving(&app), is("1", "one"));
    until("the end of the failed instance", || {
        app.processes().len() == 1
    });
}

#[test]
fn a_revision_that_dies_soon_after_it_took_over_is_taken_back() {
    let app = app();
    app.write("services/a/answer.txt", "two");
    app.service("a")
        .route("/a/**")
        .table("[deploy]\nwatch = \"1m\"")
        .write();
    let mut deploy = atoll();
    deploy.arg("-C").arg(app.dir()).args(["deploy", "a"]);
    deploy.stdout(Stdio::null()).stderr(Stdio::null());
    let mut deploy = deploy.spawn().unwrap();
    until("the second revision", || serving(&app) == is("2", "two"));
    // POST is not tried again: exactly one instance dies.
    app.exchange("POST /a/exit/9 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        .has(502);
    assert_eq!(deploy.wait().unwrap().code(), Some(1));
    assert_eq!(serving(&app), is("1", "one"));
    let detail = history(&app)[0]["detail"].as_str().unwrap().to_owned();
    holds(&detail, "exited with code 9");
    holds(&detail, "after it had become ready");
}

#[test]
fn a_failed_build_is_told_with_its_last_lines_and_changes_nothing() {
    let app = app();
    let build = r#"["sh", "-c", "echo compiling main; echo main:7: no such thing >&2; exit 4"]"#;
    quick(&app).top("build", build).write();
    let said = app.cli(&["deploy", "a"]).ended(1);
    holds(&said.err, "the build of a failed");
    holds(&said.err, "exited with code 4");
    holds(&said.err, "compiling main");
    holds(&said.err, "main:7: no such thing");
    assert_eq!(serving(&app), is("1", "one"));
    let lines = app.messages("a");
    assert!(
        lines.iter().any(|line| line == "main:7: no such thing"),
        "{lines:#?}"
    );
}

#[test]
fn what_a_build_makes_is_part_of_the_revision() {
    let app = app();
    let build = r#"["sh", "-c", "echo built > answer.txt"]"#;
    quick(&app).top("build", build).write();
    app.cli(&["deploy", "a"]).succeeded();
    assert_eq!(serving(&app), is("2", "built"));
}

#[test]
fn an_earlier_revision_is_brought_back_with_or_without_its_number() {
    let app = app();
    for text in ["two", "three"] {
        app.write("services/a/answer.txt", text);
        app.cli(&["deploy", "a"]).succeeded();
    }
    assert_eq!(serving(&app), is("3", "three"));
    let said = app.cli(&["rollback", "a"]).succeeded();
    holds(&said.err, "r2 serves; it was r3");
    assert_eq!(serving(&app), is("2", "two"));
    app.cli(&["rollback", "a", "1"]).succeeded();
    assert_eq!(serving(&app), is("1", "one"));
    app.cli(&["rollback", "a", "r3"]).succeeded();
    assert_eq!(serving(&app), is("3", "three"));
    let said = app.cli(&["rollback", "a", "9"]).ended(1);
    holds(&said.err, "a has no revision r9");
    assert_eq!(serving(&app), is("3", "three"));
}

#[test]
fn a_revision_that_never_served_is_no_place_to_go_back_to() {
    let app = app();
    quick(&app).env("EXIT", "3").write();
    app.cli(&["deploy", "a"]).ended(1);
    quick(&app).write();
    app.write("services/a/answer.txt", "three");
    app.cli(&["deploy", "a"]).succeeded();
    assert_eq!(serving(&app), is("3", "three"));
    app.cli(&["rollback", "a"]).succeeded();
    assert_eq!(serving(&app), is("1", "one"));
    let said = app.cli(&["rollback", "a"]).ended(1);
    holds(&said.err, "no earlier revision");
}

#[test]
fn a_rollback_holds_when_the_node_starts_again() {
    let app = app();
    app.write("services/a/answer.txt", "two");
    app.cli(&["deploy", "a"]).succeeded();
    app.cli(&["rollback", "a"]).succeeded();
    app.down();
    app.up();
    assert_eq!(serving(&app), is("1", "one"));
}

#[test]
fn the_history_tells_who_did_what_why_and_how_it_ended() {
    let app = app();
    app.write("services/a/answer.txt", "two");
    app.cli(&["deploy", "a", "--message", "new prices"])
        .succeeded();
    quick(&app).env("EXIT", "3").write();
    app.cli(&["deploy", "a", "-m", "newer prices"]).ended(1);
    app.cli(&["rollback", "a", "-m", "prices were wrong"])
        .succeeded();
    app.cli(&["scale", "a", "2"]).succeeded();
    app.cli(&["restart", "a"]).succeeded();
    let entries = history(&app);
    let short = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        format!(
            "{} r{} from r{} {}: {:?}",
            text("kind"),
            entry["revision"],
            entry["previous"],
            text("outcome"),
            text("why")
        )
    };
    let told: Vec<String> = entries.iter().map(short).collect();
    assert_eq!(
        told,
        [
            r#"restart r1 from r1 succeeded: """#,
            r#"scale r1 from r1 succeeded: """#,
            r#"rollback r1 from r2 succeeded: "prices were wrong""#,
            r#"deploy r3 from r2 failed: "newer prices""#,
            r#"deploy r2 from r1 succeeded: "new prices""#,
            r#"up r1 from rnull succeeded: "up""#,
        ]
    );
    assert!(
        entries.iter().all(|entry| entry["who"] == "tester"),
        "{entries:#?}"
    );
    let digest = |at: usize| entries[at]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest(2).len(), 64);
    assert_eq!(digest(2), digest(5), "the same revision, the same files");
    assert_ne!(digest(4), digest(5));
    holds(entries[3]["detail"].as_str().unwrap(), "exited with code 3");
    assert_eq!(entries[1]["detail"], "1 to 2 instances");
    let page = app.cli(&["history", "a", "-n", "2"]).succeeded();
    holds(&page.out, "restart");
    lacks(&page.out, "rollback");
    let id = entries[1]["id"].to_string();
    holds(&page.err, &format!("`--before {id}` shows older ones"));
    let older = ["history", "a", "-n", "50", "--before", &id];
    let older = app.cli(&older).succeeded();
    holds(&older.out, "rollback");
    lacks(&older.out, "restart");
    assert_eq!(older.err, "");
    let said = app.cli(&["history", "a", "-n", "0"]).ended(2);
    holds(&said.err, "0 is not in 1..=1000");
    // It is kept when the node is not.
    app.down();
    app.up();
    assert_eq!(history(&app).len(), 7);
}

#[test]
fn the_number_of_instances_follows_scale_and_is_kept() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .table("[scale]\nmin = 1\nmax = 3")
        .write();
    app.up();
    app.cli(&["scale", "a", "3"]).succeeded();
    until("three instances", || app.view("a")["serving"] == 3);
    let said = app.cli(&["scale", "a", "4"]).ended(1);
    holds(&said.err, "a may run 1 to 3 instances, not 4");
    let said = app.cli(&["scale", "a", "0"]).ended(1);
    holds(&said.err, "a may run 1 to 3 instances, not 0");
    app.down();
    app.up();
    assert_eq!(app.view("a")["serving"], 3);
    app.cli(&["scale", "a", "1"]).succeeded();
    until("one instance", || {
        app.view("a")["serving"] == 1 && app.processes().len() == 1
    });
}

#[test]
fn a_restart_gives_new_instances_of_the_same_revision() {
    let app = app();
    let before = app.pids("a");
    let said = app.cli(&["restart", "a"]).succeeded();
    holds(&said.err, "r1 has new instances");
    until("the end of the old instance", || app.processes().len() == 1);
    assert_ne!(app.pids("a"), before);
    assert_eq!(serving(&app), is("1", "one"));
}

#[test]
fn a_request_that_is_under_way_is_answered_by_the_instance_that_has_it() {
    let app = app();
    let slow =
        app.in_background("POST /a/slow/2 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    until("the request at the service", || {
        app.messages("a").iter().any(|m| m.contains("/a/slow/2"))
    });
    app.write("services/a/answer.txt", "two");
    app.cli(&["deploy", "a"]).succeeded();
    assert_eq!(serving(&app), is("2", "two"));
    assert_eq!(slow.join().unwrap().has(200).json()["revision"], "1");
    until("the end of the old instance", || app.processes().len() == 1);
}

#[test]
fn a_manifest_with_a_mistake_is_not_deployed() {
    let app = app();
    app.service("a")
        .route("/a/**")
        .top("stop_timeout", "\"10 parsecs\"")
        .write();
    let said = app.cli(&["deploy", "a"]).ended(3);
    holds(&said.err, "services/a/service.toml:3:16");
    holds(&said.err, "needs a unit, one of: us, ms, s, m, h, d");
    holds(&said.err, "╰── here");
    holds(&said.err, "nothing was changed");
    assert_eq!(serving(&app), is("1", "one"));
    assert_eq!(history(&app).len(), 1);
}

#[test]
fn a_service_that_is_being_deployed_is_not_deployed_again() {
    let app = app();
    quick(&app).env("READY_AFTER", "2").write();
    let mut deploy = atoll();
    deploy.arg("-C").arg(app.dir()).args(["deploy", "a"]);
    let mut deploy = deploy
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the deployment to begin", || {
        app.view("a")["deployment"].is_i64()
    });
    for order in [
        &["deploy", "a"][..],
        &["restart", "a"],
        &["rollback", "a"],
        &["scale", "a", "2"],
    ] {
        let said = app.cli(order).ended(1);
        holds(&said.err, "a is being deployed already");
        holds(&said.err, "atoll explain ATL0302");
    }
    assert_eq!(deploy.wait().unwrap().code(), Some(0));
    assert_eq!(serving(&app).0, "2");
}

#[test]
fn a_service_that_does_not_exist_is_told_so() {
    let app = app();
    for order in [
        &["deploy", "b"][..],
        &["restart", "b"],
        &["history", "b"],
        &["scale", "b", "2"],
    ] {
        let said = app.cli(order).ended(1);
        holds(&said.err, "there is no service 'b'");
    }
    app.cli(&["deploy", "Not A Name"]).ended(2);
}

#[test]
fn a_service_that_is_new_joins_by_its_first_deployment() {
    let app = app();
    app.service("b").route("/b/**").write();
    app.cli(&["deploy", "b"]).succeeded();
    assert_eq!(app.get("/b/x").has(200).json()["revision"], "1");
}
