//! `--json`: one document on stdout for each command, whether it did what it was asked or not.

use std::path::PathBuf;

use serde_json::Value;

use crate::testkit::{Ability, App, Said, atoll, command, eventually, holds, lacking, run};

/// What a refused command printed: one line, with an error that has these parts.
#[track_caller]
fn refused(said: &Said, code: Option<&str>, message: &str) -> Value {
    assert_eq!(said.out.lines().count(), 1, "one line of data: {said}");
    let told = said.json();
    assert_eq!(told["error"]["code"], serde_json::json!(code), "{said}");
    holds(told["error"]["message"].as_str().unwrap(), message);
    if let Some(code) = code {
        holds(told["error"]["help"].as_str().unwrap(), code);
    }
    told
}

#[track_caller]
fn paths(value: &Value) -> Vec<PathBuf> {
    let paths = value.as_array().unwrap().iter();
    paths.map(|path| path.as_str().unwrap().into()).collect()
}

#[test]
fn init_and_new_tell_what_they_wrote() {
    let app = App::new();
    std::fs::remove_file(app.path("atoll.toml")).unwrap();
    let begun = app.cli(&["init", "--json"]).succeeded().json();
    let written = paths(&begun["written"]);
    assert_eq!(written, [app.path("atoll.toml"), app.path(".gitignore")]);
    holds(
        &app.read("atoll.toml"),
        &format!("name = {}", begun["application"]),
    );
    let again = app.cli(&["init", "--json"]).ended(1);
    refused(&again, None, "nothing is overwritten");

    let new = ["new", "service", "snake", "--lang", "python", "--json"];
    let added = app.cli(&new).succeeded().json();
    assert_eq!(added["service"], "snake");
    assert_eq!(paths(&added["written"]).len(), 3, "{added:#}");
    for path in paths(&added["written"]) {
        assert!(path.is_file(), "{added:#}");
    }
    assert_eq!(added["warnings"], serde_json::json!([]));
    refused(&app.cli(&new).ended(1), None, "exists already");
}

#[test]
fn up_and_down_tell_the_node_and_its_services() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let up = app.cli(&["up", "--detach", "--json"]).succeeded().json();
    assert!(up.get("error").is_none(), "{up:#}");
    assert_eq!(up["services"][0]["state"], "ready");
    assert_eq!(up["node"]["application"], "shop");
    let again = app.cli(&["up", "--detach", "--json"]).ended(1);
    refused(&again, None, "up already");
    let down = app.cli(&["down", "--json"]).succeeded().json();
    assert_eq!(down["application"], "shop");
    assert_eq!(down["pid"], up["node"]["pid"]);
    assert_eq!(down["dir"], up["node"]["dir"]);
}

#[test]
fn up_tells_a_service_that_fails_as_an_error() {
    let app = App::new();
    app.service("a").top("build", "[\"false\"]").write();
    let up = app.cli(&["up", "--detach", "--json"]).ended(1).json();
    assert_eq!(up["error"]["message"], "shop is up without a");
    assert_eq!(up["services"][0]["state"], "failed");
}

#[test]
fn up_tells_why_there_is_no_node() {
    let app = App::with_a();
    std::fs::rename(app.path(".atoll/run/admin.sock"), app.path("elsewhere")).unwrap();
    for arguments in [&["up", "--json"][..], &["up", "--detach", "--json"]] {
        let said = app.cli(arguments).ended(1);
        refused(&said, Some("ATL0801"), "is in use by another node");
    }
    std::fs::rename(app.path("elsewhere"), app.path(".atoll/run/admin.sock")).unwrap();
}

#[test]
fn ps_tells_the_node_and_the_processor_use() {
    let app = App::with_a();
    let told = app.cli(&["ps", "--json"]).succeeded().json();
    assert_eq!(told["node"]["edge"], format!("http://{}", app.edge()));
    assert!(told["node"]["warnings"].is_array(), "{told:#}");
    assert!(told["node"].get("logs_trouble").is_some(), "{told:#}");
    if app.warned("ATL0220") {
        return lacking(Ability::Cgroups);
    }
    let spin = "while :; do :; done & echo $! > \"$DATA_DIR/spinning\"";
    app.done_in("a", &format!("({spin}) > /dev/null 2>&1"));
    // A core that others use too may not be had as a whole.
    eventually("a busy process", || {
        let told = app.cli(&["ps", "--json"]).succeeded().json();
        let service = &told["services"][0];
        let (all, one) = (
            service["cpu_percent"].as_f64().unwrap(),
            service["instances"][0]["cpu_percent"].as_f64().unwrap(),
        );
        assert!((all - one).abs() < 0.01, "{service:#}");
        if all > 10.0 {
            Ok(())
        } else {
            Err(service.to_string())
        }
    });
}

#[test]
fn mistakes_are_told_one_by_one_wherever_they_are_found() {
    let app = App::with_a();
    let good = app.read("services/a/service.toml");
    app.write("services/a/service.toml", &format!("nonsense = 1\n{good}"));
    let both = [&["check", "--json"][..], &["deploy", "a", "--json"]];
    for arguments in both {
        let said = app.cli(arguments).ended(3);
        let told = refused(&said, Some("ATL0100"), "");
        let mistake = &told["mistakes"][0];
        assert_eq!(mistake["code"], "ATL0102");
        assert_eq!(mistake["file"], "services/a/service.toml");
        assert_eq!(
            (&mistake["line"], &mistake["column"]),
            (&1.into(), &1.into())
        );
        holds(mistake["message"].as_str().unwrap(), "nonsense");
        holds(mistake["help"].as_str().unwrap(), "the keys here are");
    }
    app.down();
    for arguments in [&["up", "--json"][..], &["up", "--detach", "--json"]] {
        let told = refused(&app.cli(arguments).ended(3), Some("ATL0100"), "1 mistake");
        assert_eq!(told["mistakes"][0]["code"], "ATL0102");
    }
}

#[test]
fn what_the_node_refuses_is_told_with_its_code() {
    let app = App::with_a();
    let no_service = app.cli(&["deploy", "b", "--json"]).ended(1);
    refused(&no_service, Some("ATL0301"), "'b'");
    let no_revision = app.cli(&["rollback", "a", "7", "--json"]);
    let told = no_revision.ended(1).json();
    assert_eq!(told["error"]["code"], "ATL0306", "{told:#}");
    let nothing = app.cli(&["logs", "--grep", "not a line", "--json"]);
    refused(&nothing.ended(1), None, "no lines");
    app.down();
    for command in ["ps", "down"] {
        let told = refused(
            &app.cli(&[command, "--json"]).ended(4),
            None,
            "no node runs",
        );
        holds(told["error"]["help"].as_str().unwrap(), "atoll up");
    }
}

#[test]
fn a_deployment_that_fails_is_told_with_an_error() {
    let app = App::with_a();
    app.write("services/a/service.toml", &{
        let good = app.read("services/a/service.toml");
        format!("build = [\"false\"]\n{good}")
    });
    let told = app.cli(&["deploy", "a", "--json"]).ended(1).json();
    assert_eq!(told["outcome"], "failed");
    assert_eq!(told["error"]["code"], told["code"]);
    assert_eq!(
        told["error"]["message"],
        told["detail"].as_str().unwrap().trim_end()
    );
    let told = app.cli(&["restart", "a", "--json"]).succeeded().json();
    assert!(told.get("error").is_none(), "{told:#}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_told_as_json_too() {
    let ask = |arguments: &[&str]| {
        let mut atoll = atoll();
        atoll.args(arguments);
        run(atoll).ended(2)
    };
    refused(&ask(&["--json", "scale", "a"]), None, "required arguments");
    refused(&ask(&["nonsense", "--json"]), None, "'nonsense'");
    refused(&ask(&["--json"]), None, "requires a subcommand");
    assert_eq!(ask(&["nonsense"]).out, "");
    let mut unknown = atoll();
    unknown.args(["explain", "ATL9999", "--json"]);
    refused(&run(unknown).ended(1), None, "no code ATL9999");
    let mut help = command(env!("CARGO_BIN_EXE_atoll"));
    help.args(["--json", "--help"]);
    holds(&run(help).succeeded().out, "Usage:");
}
