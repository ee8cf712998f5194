//! What ends a node from outside, and what comes after.

use rustix::process::Signal;

use crate::testkit::{App, eventually, holds, kill};

fn ends_on(signal: Signal) {
    let app = App::with_forks();
    let mut up = app.up_in_foreground(&[]);
    app.get("/a/x").has(200);
    up.signal(signal);
    assert_eq!(up.ended(), 0, "{}", up.err());
    holds(&up.err(), "down");
    app.is_gone();
}

#[test]
fn ctrl_c_ends_everything_in_order() {
    ends_on(Signal::INT);
}

#[test]
fn sigterm_ends_everything_in_order() {
    ends_on(Signal::TERM);
}

#[test]
fn a_closed_terminal_ends_everything_in_order() {
    ends_on(Signal::HUP);
}

#[test]
fn services_die_with_a_node_that_is_killed() {
    let app = App::with_a();
    let (node, _) = app.nodes()[0];
    kill(node, Signal::KILL);
    eventually("the end of all services", || match app.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn the_next_up_ends_what_a_killed_node_has_left() {
    let app = App::with_forks();
    app.up();
    app.forked();
    app.kill_node();
    // The main process dies with its node; what it forked does not.
    let left = eventually("the end of the main process", || match app.processes() {
        left if left.len() < 4 => Ok(left),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(left.len(), 3, "{left:?}");
    app.up();
    let now = app.forked();
    assert!(
        left.iter().all(|old| !now.contains(old)),
        "{left:?} are left in {now:?}"
    );
    app.get("/a/x").has(200);
    let told = app.cli(&["logs", "atoll"]).succeeded().out;
    holds(&told, "ended what an earlier run had left: sleep 3600");
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let app = App::new();
    let service = app.service("a").route("/a/**").env("IGNORE_TERM", "1");
    service.top("stop_timeout", "\"10m\"").write();
    let mut up = app.up_in_foreground(&[]);
    app.get("/a/x").has(200);
    up.signal(Signal::INT);
    eventually("the first answer to Ctrl-C", || match up.err() {
        err if err.contains("stopping") => Ok(()),
        err => Err(err),
    });
    up.signal(Signal::INT);
    assert_eq!(up.ended(), 1, "{}", up.err());
    eventually("the end of all services", || match app.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
