//! `atoll logs`

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::testkit::{App, atoll, eventually, holds, kill, lacks, until};

/// `a` has printed "alpha", "beta 1" and "beta 2"; `b` "gamma" on stderr.
fn app() -> App {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .env("SAY", "alpha\nbeta 1\nbeta 2")
        .write();
    app.service("b").env("SAY_ERR", "gamma\n").write();
    app.up();
    app
}

#[test]
fn lines_stand_with_their_time_and_instance() {
    let app = app();
    let out = app.cli(&["logs", "a"]).succeeded().out;
    let line = out.lines().find(|line| line.ends_with("alpha")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..], ["a-r1-1", "alpha"], "{line}");
    assert_eq!((words[0].len(), words[1].len()), (10, 12), "{line}");
    lacks(&out, "gamma");
    let both = app.cli(&["logs", "a", "b"]).succeeded().out;
    holds(&both, "alpha");
    holds(&both, "gamma");
    let all = app.cli(&["logs"]).succeeded().out;
    holds(&all, "gamma");
}

#[test]
fn json_tells_everything_that_is_known_of_a_line() {
    let app = app();
    let log = app.log(&["b"]);
    let line = log.iter().find(|record| record["msg"] == "gamma").unwrap();
    assert_eq!(line["service"], "b");
    assert_eq!(line["instance"], "b-r1-1");
    assert_eq!(line["revision"], 1);
    assert_eq!(line["stream"], "stderr");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    app.get("/a/x").has(200);
    let log = app.log(&["a", "--grep", "GET /a/x"]);
    assert_eq!(
        (log.len(), &log[0]["level"]),
        (1, &"info".into()),
        "{log:#?}"
    );
}

#[test]
fn grep_takes_regular_expressions_and_finds_nothing_with_exit_code_1() {
    let app = app();
    let found = app.log(&["--grep", "^beta [0-9]$"]);
    let lines: Vec<&str> = found.iter().map(|r| r["msg"].as_str().unwrap()).collect();
    assert_eq!(lines, ["beta 1", "beta 2"]);
    let said = app.cli(&["logs", "--grep", "no such line"]).ended(1);
    holds(&said.err, "no lines");
    app.cli(&["logs", "--grep", "["]).ended(1);
}

#[test]
fn tail_takes_the_last_lines() {
    let app = app();
    let last = app.log(&["a", "--tail", "1"]);
    let all = app.log(&["a", "--tail", "1000"]);
    assert_eq!(last.len(), 1);
    assert_eq!(last.last(), all.last());
    assert!(all.len() > 3, "{all:#?}");
    assert!(app.log(&["a", "-n", "0"]).is_empty());
}

#[test]
fn since_and_until_take_spans_and_moments() {
    let app = app();
    let all = app.log(&["--since", "1h"]);
    let alpha = all.iter().find(|record| record["msg"] == "alpha").unwrap();
    let moment = alpha["time"].as_str().unwrap();
    let after = app.log(&["a", "--since", moment]);
    assert!(
        after.iter().any(|record| record["msg"] == "alpha"),
        "{after:#?}"
    );
    assert!(
        after
            .iter()
            .all(|record| record["time"].as_str().unwrap() >= moment),
        "{after:#?}"
    );
    let before = app.log(&["a", "--until", moment]);
    assert!(
        before
            .iter()
            .all(|record| record["time"].as_str().unwrap() <= moment),
        "{before:#?}"
    );
    assert!(
        before
            .iter()
            .any(|r| r["msg"].as_str().unwrap().starts_with("started")),
        "{before:#?}"
    );
    assert!(app.log(&["--since", "2999-01-01T00:00:00Z"]).is_empty());
    assert!(app.log(&["--until", "1h"]).is_empty());
    let said = app.cli(&["logs", "--since", "yesterday"]).ended(1);
    holds(
        &said.err,
        "`yesterday` is neither a time span such as 10m nor a moment",
    );
}

#[test]
fn follow_shows_lines_as_they_come() {
    let app = app();
    let out = app.path("follow.out");
    let mut follow = atoll();
    follow
        .arg("-C")
        .arg(app.dir())
        .args(["logs", "a", "--follow", "--tail", "0"]);
    follow
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::null());
    let mut follow = follow.spawn().unwrap();
    // Nothing tells that it follows but a line that comes; so lines come until one is seen.
    eventually("a line that came", || {
        app.get("/a/news").has(200);
        match app.read("follow.out") {
            text if text.contains("GET /a/news") => Ok(()),
            text => Err(text),
        }
    });
    lacks(&app.read("follow.out"), "alpha");
    // Whoever follows does not keep a node from stopping, and ends with it.
    app.down();
    eventually("the end of following", || {
        match follow.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => {
                // What does not end by itself must not outlive the test.
                Err("it runs".to_owned())
            }
        }
    });
    kill(follow.id(), Signal::KILL);
}

#[test]
fn lines_are_kept_when_the_instance_and_the_node_are_gone() {
    let app = app();
    app.get("/a/before").has(200);
    app.cli(&["restart", "a"]).succeeded();
    holds(
        &app.cli(&["logs", "a", "--grep", "before"]).succeeded().out,
        "a-r1-1",
    );
    app.down();
    app.up();
    let out = app
        .cli(&["logs", "a", "--grep", "GET /a/before"])
        .succeeded()
        .out;
    holds(&out, "a-r1-1");
    assert_eq!(
        app.log(&["--grep", "^gamma$"]).len(),
        2,
        "once for each start"
    );
}

#[test]
fn lines_and_spans_are_kept_when_the_node_was_killed() {
    let app = app();
    let request = app.get("/a/before").has(200);
    let span_is_there = || {
        let told = app.cli(&["trace", request.trace()]).succeeded().out;
        holds(&told, "GET /a/");
    };
    until("the span", || {
        app.cli(&["trace", request.trace()]).code == 0
    });
    span_is_there();
    // What was searched for is on disk.
    holds(
        &app.cli(&["logs", "a", "--grep", "before"]).succeeded().out,
        "a-r1-1",
    );
    app.kill_node();
    app.up();
    holds(
        &app.cli(&["logs", "a", "--grep", "before"]).succeeded().out,
        "a-r1-1",
    );
    span_is_there();
}

#[test]
fn a_file_that_is_damaged_or_torn_is_left_out_and_told_once() {
    let app = App::new();
    let many = |word: &str| format!("{word} and a good deal more\n").repeat(4000);
    app.service("a")
        .env("SAY", &many("early"))
        .env("SAY_ERR", &many("too"))
        .write();
    let text = app.read("atoll.toml");
    // So little makes a file early.
    let text = text.replace("[telemetry]\n", "[telemetry]\nmax_size = \"1MiB\"\n");
    app.write("atoll.toml", &text);
    app.up();
    let file = eventually("a file of lines", || {
        let mut command = Command::new("find");
        command.arg(app.path(".atoll/telemetry/logs"));
        let found = command.args(["-name", "*.parquet"]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        let first = found.lines().next().map(PathBuf::from);
        first.ok_or_else(|| "none".to_owned())
    });
    app.down();
    app.service("a").env("SAY", "later").write();
    let sound = std::fs::read(&file).unwrap();
    // Its first page is found damaged when it is read; a torn file when it is opened.
    let mut damaged = sound.clone();
    damaged[8..60].fill(0xff);
    for bytes in [&damaged[..], &sound[..sound.len() / 2]] {
        std::fs::write(&file, bytes).unwrap();
        let mut up = app.up_in_foreground(&[]);
        for text in ["later", "early", "good", "later"] {
            let found = app.cli(&["logs", "--grep", text]);
            assert_eq!(found.out.contains("later"), text == "later", "{found}");
        }
        up.signal(Signal::INT);
        assert_eq!(up.ended(), 0, "{}", up.err());
        let told = up.err();
        assert_eq!(
            told.matches("a file of telemetry is skipped").count(),
            1,
            "{told}"
        );
        let name = file.file_name().unwrap().to_str().unwrap();
        holds(&told, name);
    }
}
