//! Up and down.

use std::path::PathBuf;

use crate::testkit::{Ability, App, atoll, holds, lacking, run, until};

#[test]
fn up_starts_every_service_and_prints_the_address_of_the_edge() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    app.service("b")
        .route("/b/**")
        .table("[scale]\nmin = 2")
        .write();
    let said = app.up();
    assert_eq!(said.out, format!("http://{}\n", app.edge()));
    holds(&said.err, "✓ shop is up");
    assert_eq!(app.get("/a/x").has(200).json()["service"], "a");
    assert_eq!(app.get("/b/x").has(200).json()["service"], "b");
    let b = app.view("b");
    assert_eq!(
        (&b["state"], b["serving"].as_u64()),
        (&"ready".into(), Some(2))
    );
    let table = app.cli(&["ps"]).succeeded().out;
    holds(&table, &format!("shop  http://{}", app.edge()));
    holds(&table, "ready 2/2");
}

#[test]
fn up_where_it_is_up_already_is_refused() {
    let app = App::with_a();
    let said = app.cli(&["up"]).ended(1);
    holds(&said.err, "shop is up already");
    let said = app.cli(&["up", "--detach"]).ended(1);
    holds(&said.err, "shop is up already");
    app.get("/a/x").has(200);
}

#[test]
fn a_state_folder_in_use_is_refused_with_the_process_that_has_it() {
    let app = App::with_a();
    let (pid, _) = app.nodes()[0];
    // Without its socket the node cannot be asked; the lock still tells.
    std::fs::rename(app.path(".atoll/run/admin.sock"), app.path("elsewhere")).unwrap();
    let said = app.cli(&["up"]).ended(1);
    holds(&said.err, "is in use by another node");
    holds(&said.err, &format!("process {pid}"));
    holds(&said.err, "atoll explain ATL0801");
    std::fs::rename(app.path("elsewhere"), app.path(".atoll/run/admin.sock")).unwrap();
    app.get("/a/x").has(200);
}

#[test]
fn down_leaves_no_process_of_any_service() {
    let app = App::with_forks();
    app.up();
    app.forked();
    let said = app.down();
    holds(&said.err, "shop is down");
    app.is_gone();
}

#[test]
fn down_leaves_no_cgroup() {
    let app = App::with_a();
    if app.warned("ATL0220") {
        return lacking(Ability::Cgroups);
    }
    assert!(!app.cgroups().is_empty());
    app.down();
    app.is_gone();
    assert_eq!(app.cgroups(), Vec::<PathBuf>::new());
}

#[test]
fn a_request_that_is_under_way_is_answered_before_everything_ends() {
    let app = App::with_a();
    let slow =
        app.in_background("POST /a/slow/1 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    until("the request at the service", || {
        app.messages("a").iter().any(|m| m.contains("/a/slow/1"))
    });
    app.down();
    slow.join().unwrap().has(200);
    app.is_gone();
}

#[test]
fn down_where_nothing_runs_says_so_with_a_code_of_its_own() {
    let app = App::new();
    app.service("a").write();
    for command in [
        &["down"][..],
        &["ps"],
        &["logs"],
        &["deploy", "a"],
        &["history", "a"],
    ] {
        let said = app.cli(command).ended(4);
        holds(&said.err, "no node runs in");
        holds(&said.err, "`atoll up`");
    }
}

#[test]
fn what_was_up_comes_up_again_as_the_same_revision() {
    let app = App::with_a();
    app.down();
    app.up();
    let answer = app.get("/a/x").has(200).json();
    assert_eq!(answer["revision"], "1");
    assert_eq!(app.view("a")["revision"], 1);
}

#[test]
fn the_application_is_found_from_a_folder_below_it() {
    let app = App::with_a();
    let mut below = atoll();
    below.current_dir(app.path("services/a")).arg("ps");
    holds(&run(below).succeeded().out, "ready 1/1");
}

#[test]
fn up_in_the_background_gives_up_waiting_and_the_node_runs_on() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    // Builds until a file is there.
    let build = r#"["sh", "-c", "until [ -e done ]; do sleep 0.01; done"]"#;
    app.service("b").top("build", build).write();
    let up = ["up", "--detach", "--timeout", "1s"];
    let said = app.cli(&up).ended(1);
    holds(&said.err, "✗ b: still building");
    holds(&said.err, "shop is up without b");
    holds(&said.err, "not everything has started within 1s");
    holds(&said.err, "atoll explain ATL0601");
    assert_eq!(app.view("b")["state"], "building");
    app.write("services/b/done", "");
    until("the end of the build", || app.view("b")["state"] == "ready");
    app.down();
    std::fs::remove_file(app.path("services/b/done")).unwrap();
    let said = app
        .cli(&[&up[..], &["--build", "--json"]].concat())
        .ended(1);
    assert_eq!(said.json()["error"]["code"], "ATL0601");
    app.cli(&["up", "--timeout", "1s"]).ended(2);
}
