//! The order of starts.

use crate::testkit::App;

#[test]
fn a_service_starts_only_after_those_that_it_waits_for_are_ready() {
    let app = App::new();
    app.service("a").env("READY_AFTER", "1").write();
    app.service("b").top("wait_for", r#"["a"]"#).write();
    app.service("c").top("wait_for", r#"["a", "b"]"#).write();
    app.up();
    let moment = |service: &str, what: &str| {
        let log = app.log(&[service]);
        let found = log
            .iter()
            .find(|r| r["msg"].as_str().unwrap().starts_with(what));
        let found = found.unwrap_or_else(|| panic!("{service} has no {what:?} in {log:#?}"));
        found["time"].as_str().unwrap().to_owned()
    };
    // RFC 3339 of one length and zone: the order of texts is that of time.
    assert!(moment("a", "ready after") <= moment("b", "started as"));
    assert!(moment("b", "ready after") <= moment("c", "started as"));
}

#[test]
fn needs_alone_does_not_delay_a_start() {
    let app = App::new();
    app.service("a").needs(&["b"]).route("/a/**").write();
    app.service("b").needs(&["a"]).write();
    app.up();
    app.get("/a/call/b/x").has(200);
}

#[test]
fn a_service_that_waits_in_vain_is_shown_as_waiting_and_up_can_be_stopped() {
    let app = App::new();
    app.service("a").env("EXIT", "3").write();
    app.service("b").top("wait_for", r#"["a"]"#).write();
    let said = app.try_up().ended(1);
    assert_eq!(app.view("b")["serving"], 0, "{said}");
    app.down();
    app.is_gone();
}
