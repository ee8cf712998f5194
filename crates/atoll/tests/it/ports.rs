//! What the machine must have for an application to come up: free ports, installed programs.

use std::net::TcpListener;

use crate::testkit::{App, holds};

#[test]
fn a_taken_port_of_the_edge_is_told_with_its_place_and_a_remedy() {
    let app = App::new();
    app.service("a").write();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    app.write(
        "atoll.toml",
        &format!("name = \"shop\"\nmembers = [\"services/*\"]\n[edge]\nlisten = \"{address}\"\n[mesh]\nport = 0\n[telemetry]\notlp_grpc = \"off\"\notlp_http = \"off\"\n"),
    );
    for arguments in [&["up"][..], &["up", "--detach"], &["check"]] {
        let said = app.cli(arguments).ended(3);
        holds(&said.err, "ATL0112");
        holds(
            &said.err,
            &format!("the edge cannot listen on {address}: another program does"),
        );
        holds(&said.err, "atoll.toml:4:");
        holds(&said.err, "choose another port");
    }
    app.is_gone();
    assert!(!app.path(".atoll/run/admin.sock").exists());
    drop(taken);
    app.up();
}

#[test]
fn a_taken_port_of_the_mesh_is_told_with_its_place_and_a_remedy() {
    let app = App::new();
    app.service("a").write();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    app.write(
        "atoll.toml",
        &format!("name = \"shop\"\nmembers = [\"services/*\"]\n[edge]\nlisten = \"127.0.0.1:0\"\n[mesh]\nport = {port}\n[telemetry]\notlp_grpc = \"off\"\notlp_http = \"off\"\n"),
    );
    let said = app.cli(&["up", "--detach"]).ended(3);
    holds(&said.err, "ATL0112");
    holds(
        &said.err,
        &format!("the mesh cannot listen on 0.0.0.0:{port}"),
    );
    holds(&said.err, "atoll.toml:6:");
    holds(&said.err, "port = 7071");
    app.is_gone();
}

#[test]
fn a_program_that_is_not_installed_is_named_and_nothing_starts() {
    let app = App::new();
    app.service("a").write();
    app.service("b")
        .top("run", r#"["erlang-of-the-future", "main"]"#)
        .write();
    let said = app.cli(&["up", "--detach"]).ended(3);
    holds(
        &said.err,
        "program 'erlang-of-the-future' not found; looked in",
    );
    holds(&said.err, "ATL0201");
    holds(&said.err, "services/b/service.toml:2:8");
    app.is_gone();
}

#[test]
fn two_applications_run_side_by_side() {
    let (one, two) = (App::with_a(), App::with_a());
    let port = one.edge().port();
    assert_ne!(port, two.edge().port());
    one.down();
    one.is_gone();
    two.get("/a/x").has(200);
}
