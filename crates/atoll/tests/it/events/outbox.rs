//! Outboxes and jobs, with services that have databases of their own.

use super::*;

const SQLITE: &str = "python3 -c \"import os, sqlite3; \
    c = sqlite3.connect(os.environ['DATABASE_URL'].removeprefix('sqlite:///')); c.executescript('''";
const SQLITE_END: &str = "''')\"";

/// `orders` has an outbox and a database of this kind, `points` takes what it publishes.
fn with_outbox(kind: &str) -> App {
    let app = shop();
    let table =
        format!("[database]\nkind = \"{kind}\"\n[publish]\ntopics = [\"placed\"]\n[outbox]");
    app.service("orders")
        .route("/orders/**")
        .table(&table)
        .write();
    app.service("points")
        .route("/points/**")
        .table("[[subscribe]]\ntopic = \"placed\"\npath = \"/take\"")
        .write();
    app
}

fn psql(statement: &str) -> String {
    format!("psql -X -q -At -v ON_ERROR_STOP=1 \"$DATABASE_URL\" -c \"{statement}\"")
}

fn sqlite(statement: &str) -> String {
    format!("{SQLITE}{statement}{SQLITE_END}")
}

/// Rows are published once, also over the end of the node.
fn rows_come_once(kind: &str, table: &str, run: fn(&str) -> String) {
    let app = with_outbox(kind);
    app.up();
    // That it is missing is told, and mended.
    until("it is told", || {
        app.messages("orders")
            .iter()
            .any(|own| own.starts_with("the outbox: "))
    });
    app.done_in("orders", &run(table));
    let row = |value: &str| {
        run(&format!(
            "INSERT INTO outbox (topic, key, value) VALUES ('placed', 'ada', '{value}')"
        ))
    };
    app.done_in("orders", &row("one"));
    app.done_in("orders", &row("two"));
    let all = wait_taken(&app, "points", 2);
    assert_eq!(bodies(&all), ["one", "two"]);
    let fields = &all[0]["fields"];
    assert_eq!(fields["ce-source"], "/services/orders/outbox");
    assert_eq!(fields["ce-partitionkey"], "ada");
    app.done_in(
        "orders",
        &run("INSERT INTO outbox (topic, value) VALUES ('other', 'x')"),
    );
    until("the refusal is told", || {
        let told = "the outbox: the row 3 is not published: orders does not publish to 'other'";
        app.messages("orders")
            .iter()
            .any(|own| own.starts_with(told))
    });
    app.down();
    app.up();
    app.done_in("orders", &row("three"));
    assert_eq!(
        bodies(&wait_taken(&app, "points", 3)),
        ["one", "two", "three"]
    );
    // Since the node was started again: one row, which is pushed before it is counted, and one that is refused.
    eventually("the counts", || {
        let told = app.cli(&["--json", "events", "outboxes"]).succeeded();
        let outboxes: Value = serde_json::from_str(&told.out).unwrap();
        let own = &outboxes[0];
        let so = own["service"] == "orders" && own["published"] == 1 && own["refused"] == 1;
        if so { Ok(()) } else { Err(told.out) }
    });
    let told = app.cli(&["events", "outboxes"]).succeeded();
    holds(&told.err, "orders does not publish to 'other'");
}

#[test]
fn rows_of_an_outbox_in_sqlite_are_pushed_once() {
    let table = "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
        key TEXT, value BLOB, headers TEXT, published_at TEXT)";
    rows_come_once("sqlite", table, sqlite);
}

#[test]
fn rows_of_an_outbox_in_postgres_are_pushed_once() {
    let table = "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic text NOT NULL, key text, value bytea, headers jsonb, published_at timestamptz)";
    rows_come_once("postgres", table, psql);
}

#[test]
fn an_outbox_without_a_database_is_a_mistake() {
    let app = shop();
    app.service("orders")
        .table("[outbox]\ntable = \"a b\"")
        .write();
    let said = app.cli(&["check"]).ended(3);
    for part in [
        "has no database with tables",
        "publishes to no topic",
        "`table` of the outbox",
    ] {
        holds(&said.err, part);
    }
}

#[test]
fn jobs_are_seen_called_off_and_tried_anew() {
    let app = orders_and_points("");
    app.up();
    let later = app.exchange(
        "POST /orders/events/jobs/placed?delay=1h HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx",
    );
    let later = later.has(202).json()["id"].as_str().unwrap().to_owned();
    let jobs = |more: &[&str]| {
        let told = app.cli(&[&["--json", "events", "jobs"], more].concat());
        let told: Value = serde_json::from_str(&told.succeeded().out).unwrap();
        told
    };
    assert_eq!(jobs(&["show", &later])["state"], "queued");
    assert_eq!(jobs(&["cancel", &later])["state"], "cancelled");
    assert_eq!(jobs(&["list", "--state", "queued"]), serde_json::json!([]));
    let all = jobs(&["list", "--queue", "placed", "--state", "cancelled"]);
    assert_eq!(
        (&all[0]["id"], &all[0]["caller"], &all[0]["service"]),
        (&later.as_str().into(), &"orders".into(), &"points".into())
    );
    assert_eq!(jobs(&["list", "--queue", "other"]), serde_json::json!([]));
    assert_eq!(jobs(&["retry", &later])["state"], "queued");
    let again = app.cli(&["events", "jobs", "retry", &later]).ended(1);
    holds(&again.err, "is queued");
    let none = app.cli(&["events", "jobs", "show", "x"]).ended(1);
    holds(&none.err, "`atoll events jobs list` shows them");
    let told = app.cli(&["events", "jobs", "list"]).succeeded();
    holds(&told.out, &later);
    assert_eq!(told.err, "", "all of them");
    let newer = app.exchange(
        "POST /orders/events/jobs/placed?delay=1h HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\ny",
    );
    let newer = newer.has(202).json()["id"].as_str().unwrap().to_owned();
    let page = app.cli(&["events", "jobs", "list", "-n", "1"]).succeeded();
    holds(&page.out, &newer);
    holds(&page.err, &format!("`--before {newer}` shows older ones"));
    let older = jobs(&["list", "--before", &newer]);
    assert_eq!(
        (older.as_array().unwrap().len(), &older[0]["id"]),
        (1, &later.as_str().into())
    );
}

#[test]
fn a_job_runs_once_and_tells_how_it_ended() {
    let app = orders_and_points("");
    app.up();
    let ask = || {
        app.exchange(
            "POST /orders/events/jobs/placed HTTP/1.1\r\nHost: t\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx",
        )
        .has(202)
        .json()
    };
    let job = ask();
    let path = format!("/orders/events/jobs/{}", job["id"].as_str().unwrap());
    let done = || app.get(&path).has(200).json();
    until("it is done", || done()["state"] == "done");
    assert_eq!(done()["attempts"], 1);
    assert_eq!(ask()["id"], job["id"]);
    app.down();
    app.up();
    assert_eq!(
        (&ask()["id"], &done()["state"]),
        (&job["id"], &"done".into())
    );
    let all = wait_taken(&app, "points", 1);
    assert_eq!(bodies(&all), ["x"]);
    assert_eq!(all[0]["fields"]["ce-id"], job["id"]);
}

/// The values of a topic.
fn values(app: &App, topic: &str) -> Vec<String> {
    let told = app.cli(&["--json", "events", "tail", topic, "-n", "100000"]);
    let lines = told.succeeded().out;
    let value = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["value"].as_str().unwrap().to_owned()
    };
    lines.lines().map(value).collect()
}

#[test]
fn rows_are_published_once_and_in_order_although_the_node_is_killed() {
    const ROWS: usize = 4000;
    let app = with_outbox("sqlite");
    let mut up = app.up_in_foreground(&[]);
    until("orders", || app.view("orders")["state"] == "ready");
    let rows = format!(
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key TEXT,
             value BLOB, headers TEXT, published_at TEXT);
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {ROWS})
             INSERT INTO outbox (topic, key, value) SELECT 'placed', 'k', i FROM n;"
    );
    app.done_in("orders", &sqlite(&rows));
    for round in 1..4 {
        eventually("some rows", || {
            let count = values(&app, "placed").len();
            if count >= ROWS / 5 * round {
                Ok(())
            } else {
                Err(count.to_string())
            }
        });
        kill(up.pid(), Signal::KILL);
        up.ended();
        drop(up);
        up = app.up_in_foreground(&[]);
    }
    let all = eventually("all rows", || {
        let all = values(&app, "placed");
        if all.len() >= ROWS {
            Ok(all)
        } else {
            Err(all.len().to_string())
        }
    });
    let expected: Vec<String> = (0..ROWS).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
    up.signal(Signal::TERM);
    up.ended();
}

#[test]
fn jobs_are_done_although_the_node_is_killed() {
    let app = orders_and_points("");
    let mut up = app.up_in_foreground(&[]);
    until("points", || app.view("points")["state"] == "ready");
    let ask = |number: usize| {
        app.exchange(&format!(
            "POST /orders/events/jobs/placed HTTP/1.1\r\nHost: t\r\nIdempotency-Key: {number}\r\nContent-Length: 1\r\n\r\nx"
        ))
        .has(202)
        .json()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut jobs: Vec<String> = (0..20).map(ask).collect();
    kill(up.pid(), Signal::KILL);
    up.ended();
    drop(up);
    up = app.up_in_foreground(&[]);
    until("orders", || app.view("orders")["state"] == "ready");
    // Asked again with the same keys, they are the same jobs.
    let again: Vec<String> = (0..20).map(ask).collect();
    assert_eq!(again, jobs);
    jobs.push(ask(20));
    for job in &jobs {
        until("a job is done", || {
            app.get(&format!("/orders/events/jobs/{job}"))
                .has(200)
                .json()["state"]
                == "done"
        });
    }
    // One that was under way when the node died may have run once more.
    let runs = taken(&app, "points").len();
    assert!((21..=21 + 16).contains(&runs), "{runs}");
    up.signal(Signal::TERM);
    up.ended();
}
