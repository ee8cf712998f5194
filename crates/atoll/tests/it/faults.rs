//! What services do wrong, as a person sees it in `up`, `ps` and `logs`.

use std::process::Stdio;

use crate::testkit::{Ability, App, atoll, eventually, freeze, holds, lacking, until};

#[test]
fn a_service_that_ends_at_once_is_named_with_its_last_lines_and_the_others_serve() {
    let app = App::new();
    app.service("good").route("/good/**").write();
    let says = "connecting to the moon\nthe moon does not answer";
    app.service("bad").env("SAY", says).env("EXIT", "3").write();
    let said = app.try_up().ended(1);
    holds(&said.err, "✗ shop is up without bad");
    holds(&said.err, "✗ bad: ");
    holds(&said.err, "exited with code 3");
    holds(&said.err, "│ the moon does not answer");
    app.get("/good/x").has(200);
    let bad = eventually("the crash loop", || match app.view("bad") {
        view if view["instances"][0]["state"] == "crash_loop" => Ok(view),
        view => Err(view.to_string()),
    });
    assert_eq!(bad["state"], "failed");
    let lines = bad["instances"][0]["last_lines"].as_array().unwrap();
    assert_eq!(lines.last().unwrap(), "the moon does not answer");
    let said = app.cli(&["ps"]).succeeded();
    holds(&said.out, "crash loop");
    holds(&said.err, "bad: exited with code 3");
    let log = app.cli(&["logs", "bad"]).succeeded().out;
    holds(&log, "exited with code 3");
    holds(&log, "the moon does not answer");
    holds(&log, "crash loop: restart");
    app.get("/good/x").has(200);
}

#[test]
fn a_service_that_listens_elsewhere_is_told_on_which_port() {
    let app = App::new();
    app.service("a")
        .env("WRONG_PORT", "1")
        .table("[health]\npath = \"/healthz\"\nstart_timeout = \"3s\"")
        .write();
    let said = app.try_up().ended(1);
    holds(&said.err, "not ready after 3s: listens on 127.0.0.1:");
    holds(&said.err, "instead of $PORT (");
}

#[test]
fn a_service_that_is_asked_on_a_path_it_does_not_have_is_told_what_it_answered() {
    let app = App::new();
    app.service("a")
        .env("READY_AFTER", "3600")
        .table("[health]\npath = \"/healthz\"\nstart_timeout = \"3s\"")
        .write();
    let said = app.try_up().ended(1);
    holds(&said.err, "listens on $PORT");
    holds(&said.err, "503");
}

#[test]
fn a_service_that_stays_on_sigterm_is_killed_after_its_time() {
    let app = App::new();
    app.service("a")
        .env("IGNORE_TERM", "1")
        .top("stop_timeout", "\"500ms\"")
        .write();
    app.up();
    app.down();
    app.is_gone();
    app.up();
    let log = app.cli(&["logs", "a"]).succeeded().out;
    holds(&log, "killed: did not leave within 500ms of SIGTERM");
}

#[test]
fn a_flood_of_output_without_a_lines_end_harms_nobody() {
    let app = App::new();
    app.service("good").route("/good/**").write();
    app.service("a")
        .route("/a/**")
        .env("FLOOD", "104857600")
        .write();
    app.up();
    until("the end of the flood", || {
        app.get("/good/x").has(200);
        app.path(".atoll/data/a/flooded").exists()
    });
    app.get("/a/x").has(200);
    app.get("/good/x").has(200);
    let node = app.nodes()[0].0;
    let status = std::fs::read_to_string(format!("/proc/{node}/status")).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 300 << 10, "the node has used {kib} KiB");
}

/// Far more than may wait for the disk.
#[test]
fn who_prints_faster_than_the_disk_waits_and_no_line_is_lost() {
    let app = App::new();
    app.service("a").env("LINES", "400000").write();
    app.up();
    until("the last line", || {
        let last = ["logs", "a", "-n", "1", "\"line 399999 of\""];
        app.cli(&last).code == 0
    });
    let kept = app.cli(&["logs", "a", "--since", "1h", "\"at once\""]);
    assert_eq!(kept.succeeded().out.lines().count(), 400_000);
    let told = app.cli(&["logs", "atoll", "--since", "1h", "/were (dropped|lost)/"]);
    assert_eq!(told.out, "");
}

#[test]
fn bytes_that_are_no_text_become_replacement_characters() {
    let app = App::new();
    // "good", a byte of no letter, "bad", and a line's end.
    app.service("a")
        .env("SAY_HEX", "676f6f64ff6261640a")
        .write();
    app.up();
    let lines = app.messages("a");
    assert!(
        lines.iter().any(|line| line == "good\u{fffd}bad"),
        "{lines:#?}"
    );
}

/// `atoll up | head`.
#[test]
fn a_node_whose_output_nobody_takes_goes_on() {
    goes_on_with_output_to(Stdio::piped());
}

#[test]
fn a_node_whose_output_has_no_room_on_its_disk_goes_on() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    goes_on_with_output_to(full.unwrap().into());
}

fn goes_on_with_output_to(output: Stdio) {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let said = app.path("up.err");
    let mut up = atoll();
    up.arg("-C").arg(app.dir()).arg("up");
    up.stdout(output);
    up.stderr(std::fs::File::create(&said).unwrap());
    let mut node = up.spawn().unwrap();
    drop(node.stdout.take());
    eventually("what is said after the address", || {
        assert_eq!(node.try_wait().unwrap(), None, "{}", app.read("up.err"));
        match app.read("up.err") {
            said if said.contains("Ctrl-C stops") => Ok(()),
            said => Err(said),
        }
    });
    assert_eq!(app.view("a")["state"], "ready");
    app.down();
    assert!(node.wait().unwrap().success());
}

#[test]
fn a_service_that_uses_more_memory_than_it_may_is_told_so_and_comes_back() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .table("[resources]\nmemory = \"64MiB\"")
        .write();
    app.service("b").route("/b/**").write();
    app.up();
    if app.warned("ATL0220") {
        return lacking(Ability::Cgroups);
    }
    let pid = app.pids("a");
    let answer =
        app.exchange("POST /a/hog/256 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status, 502, "{answer:?}");
    // The client sees the broken connection before the node sees the end of the process.
    until("the reason", || {
        let log = app.cli(&["logs", "a"]).succeeded().out;
        log.contains("used more than its memory limit of 64MiB")
    });
    let told = app.log(&["a", "kind:oom memory_limit_bytes:67108864"]);
    assert_eq!(told.len(), 1, "{told:?}");
    until("it to be back", || app.get("/a/x").status == 200);
    assert_ne!(app.pids("a"), pid);
    app.get("/b/x").has(200);
}

#[test]
fn a_service_that_stops_answering_is_started_again() {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .table("[health]\npath = \"/healthz\"\ninterval = \"50ms\"\ntimeout = \"1s\"\nfailures = 2")
        .top("stop_timeout", "\"200ms\"")
        .write();
    app.up();
    let pid = app.pids("a")[0];
    freeze(pid);
    until("another process", || {
        let pids = app.pids("a");
        !pids.is_empty() && !pids.contains(&pid)
    });
    until("it to be back", || app.get("/a/x").status == 200);
    let log = app.cli(&["logs", "a"]).succeeded().out;
    holds(&log, "failed 2 checks in a row");
}
